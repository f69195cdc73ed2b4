"""What a statement touches is logged once, not once a row."""

from pipelines.warehouse.migrations import run

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    run("""
set local role transform;
create or replace function kpi.log_touched() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
    rows_of text;
    column_name text;
    part text := '';
begin
    if tg_op = 'TRUNCATE' then
        foreach column_name in array tg_argv loop
            insert into kpi.touched values (tg_table_schema || '.' || tg_table_name || ':' || column_name, '-infinity');
        end loop;
        return null;
    end if;
    foreach column_name in array tg_argv loop
        foreach rows_of in array case tg_op
            when 'INSERT' then array['new_rows'] when 'DELETE' then array['old_rows'] else array['new_rows', 'old_rows'] end
        loop
            part := part || case when part = '' then '' else ' union all ' end || format(
                'select %L, date_bin(''15 minutes'', %I::timestamp at time zone ''UTC'', timestamptz ''2000-01-01T00:00Z'')'
                ' from %I where isfinite(%I)',
                tg_table_schema || '.' || tg_table_name || ':' || column_name, column_name, rows_of, column_name);
        end loop;
    end loop;
    execute 'insert into kpi.touched select distinct * from (' || part || ') as touched';
    return null;
end $$;
-- Values that change stay on their page, and in their place in the indexes.
alter table kpi.period_value set (fillfactor = 80);
reset role;
""")
