"""What opens an SLO without `effective_from`; loads that are taken out again."""

from pipelines.warehouse.migrations import run

revision = "0015"
down_revision = "0014"

UNLOAD = """
set local role ingest;

create table raw.unload (
    unloaded_load_id bigint not null,
    path text not null,
    first_seq bigint not null,
    end_seq bigint not null,
    load_id bigint not null,
    feed text not null,
    reason text not null,
    unloaded_by text not null,
    primary key (unloaded_load_id, path)
);
create index unload_load on raw.unload (load_id);
comment on table raw.unload is
    'Journal: what was taken out again, by the load load_id: of the load unloaded_load_id the rows with seq in '
    '[first_seq, end_seq), which a file brought. They stay where they are; what looks at loads up to a number leaves out '
    'what a load up to this number took out.';
create function raw.is_unloaded(load_id bigint, seq integer, high bigint) returns boolean
language sql stable as $$
    select exists (
        select from raw.unload as taken
        where taken.unloaded_load_id = is_unloaded.load_id and is_unloaded.seq >= taken.first_seq
            and is_unloaded.seq < taken.end_seq and taken.load_id <= is_unloaded.high
    )
$$;
comment on function raw.is_unloaded is
    'Whether a load up to high took out a row. Ask it only of rows whose load stands in raw.unload: these are few.';

-- The same content may be loaded again once it was taken out.
alter table raw.landed_file add column times_unloaded integer not null default 0;
comment on column raw.landed_file.times_unloaded is
    'How often the same content had been loaded, and taken out again, before.';
drop index raw.landed_file_content;
create unique index landed_file_content on raw.landed_file (feed, fingerprint, times_unloaded) where status = 'loaded';

reset role;
"""

OPENING = """
set local role transform;

create function control.opens_slo(
    slo_id text, version_load_id bigint, entry_no integer, business_date date, following date,
    high bigint, unloads bigint, as_of timestamptz
) returns boolean
language plpgsql stable set search_path = pg_catalog, pg_temp as $$
declare
    -- A date so far from all others is more likely a mistyped one.
    near constant integer := 45;
    job record;
    received_at timestamptz;
    first_received_at timestamptz;
begin
    if following - business_date <= near then
        return true;
    end if;
    for job in
        select slo_job.application_id, slo_job.job_id from catalog.slo_job
        where slo_job.slo_id = opens_slo.slo_id and slo_job.load_id = version_load_id and slo_job.entry_no = opens_slo.entry_no
    loop
        -- The date as a literal: the planner opens its partition and no other.
        execute format(
            'select min(load.received_at) from raw.job_status as status inner join raw.load using (load_id)'
            ' where status.application_id = $1 and status.job_id = $2 and status.business_date = %L'
            ' and status.load_id <= $3 and status.status_at <= $5'
            ' and (status.load_id not in (select unloaded_load_id from raw.unload)'
            '      or not raw.is_unloaded(status.load_id, status.seq, $4))',
            business_date
        ) into received_at using job.application_id, job.job_id, high, unloads, as_of;
        first_received_at := least(first_received_at, received_at);
    end loop;
    return coalesce(abs((first_received_at at time zone 'UTC')::date - business_date) <= near, false);
end $$;
comment on function control.opens_slo is
    'Whether a business date opens an SLO without effective_from: the next one that has a status of its jobs, following, '
    'lies within 45 days after it, or its first status was received within 45 days of it. By statuses up to as_of, of '
    'loads up to high that none up to unloads took out.';
reset role;
"""


def upgrade() -> None:
    for statements in (UNLOAD, OPENING):
        run(statements)
