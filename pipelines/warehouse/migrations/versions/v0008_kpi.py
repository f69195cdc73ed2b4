"""KPIs: what was touched, the models that are deployed, values, versions of definitions, restatements."""

from pipelines.warehouse.migrations import run

revision = "0008"
down_revision = "0007"

SCHEMA = """
create schema kpi authorization transform;
comment on schema kpi is 'The KPI engine: states and values behind the marts kpi_…; private.';
grant usage on schema kpi to operate;
alter default privileges for role transform in schema kpi grant select on tables to operate;
-- Triggers on what a KPI reads, to know which of its hours changed.
grant trigger on all tables in schema raw to transform;
alter default privileges for role ingest in schema raw grant trigger on tables to transform;
"""

TABLES = """
set local role transform;

create table kpi.touched (
    clock text collate "C" not null,
    bucket_at timestamptz not null
);
comment on table kpi.touched is
    'Quarter hours of a clock (schema.table:time_column) in which a row came, went or changed since the last tick, logged in the '
    'writer''s own transaction; -infinity: all of them.';

create table kpi.engine (
    is_only boolean primary key default true check (is_only),
    as_of timestamptz not null default '-infinity'
);
comment on table kpi.engine is 'The moment up to which time alone has opened periods.';
insert into kpi.engine default values;

create table kpi.model (
    name text collate "C" primary key,
    kind text not null check (kind in ('state', 'values')),
    fingerprint text not null,
    query text not null,
    spec jsonb not null,
    needs_full boolean not null default true,
    problem text
);
comment on table kpi.model is
    'The generated dbt models as they are deployed: compiled SQL, and what the engine has to know of each. needs_full: the next tick '
    'computes all of it. problem: why it could not be made or computed.';

create table kpi.kpi (
    kpi_id text collate "C" primary key,
    model text collate "C" not null,
    version text not null,
    value_version text not null,
    spec jsonb not null,
    needs_full boolean not null default true,
    is_gone boolean not null default false
);
comment on table kpi.kpi is 'The KPIs as they are deployed.';

create table kpi.clock (
    clock text collate "C" primary key,
    relation text not null,
    time_column text not null,
    is_date boolean not null,
    feeds text[] not null,
    read_at timestamptz not null default '-infinity',
    open_from timestamptz not null default 'infinity',
    sealed_before timestamptz not null default '-infinity'
);
comment on table kpi.clock is
    'Tables that KPIs read, by time column. read_at: the newest successful read of their feeds began then; open_from: the earliest '
    'occurrence that is not due; periods that begin before sealed_before have lost rows to a purge and stay as they are.';

create table kpi.period_value (
    kpi_id text collate "C" not null,
    grain text collate "C" not null,
    period_start timestamptz not null,
    dimension_key text collate "C" not null,
    period_end timestamptz not null,
    start_date date not null,
    period text collate "C" not null,
    dimensions jsonb not null,
    components jsonb not null,
    value numeric,
    value_json jsonb,
    reason text,
    definition_version text not null,
    computed_load_id bigint not null,
    primary key (kpi_id, grain, period_start, dimension_key)
);
comment on table kpi.period_value is 'The values of all KPIs. Key: KPI, grain, start of the period, members.';
create index period_value_period on kpi.period_value (kpi_id, grain, period);

create table kpi.definition (
    kpi_id text collate "C" not null,
    version text not null,
    valid_from timestamptz not null,
    valid_to timestamptz,
    load_id bigint not null,
    spec jsonb not null,
    primary key (kpi_id, valid_from, version)
);
create unique index definition_standing on kpi.definition (kpi_id) where valid_to is null;
comment on table kpi.definition is 'Journal of the versions of definitions; valid from and to, by the as_of of ticks.';

create table kpi.restatement (
    restatement_id bigint generated always as identity primary key,
    kpi_id text collate "C" not null,
    grain text collate "C" not null,
    period_start timestamptz not null,
    period text collate "C" not null,
    dimension_key text collate "C" not null,
    reported_value numeric,
    reported_json jsonb,
    restated_value numeric,
    restated_json jsonb,
    reported_at timestamptz,
    restated_at timestamptz not null,
    load_id bigint not null,
    definition_version text not null
);
create index restatement_period on kpi.restatement (kpi_id, grain, period_start, dimension_key);
comment on table kpi.restatement is 'Journal: what stood for a closed period, what stands for it since, and because of which load.';

create table kpi.proof (
    proof_id bigint generated always as identity primary key,
    proved_at timestamptz not null,
    as_of timestamptz not null,
    cells bigint not null,
    wrong bigint not null,
    detail jsonb not null
);
comment on table kpi.proof is 'Journal of self-proofs: cells recomputed from the source, and those that differed.';

-- The instant at which a local date begins, also where midnight does not exist or comes twice.
create function kpi.day_start(day date, zone text) returns timestamptz
language sql stable parallel safe as $$
    select case
        when ((day::timestamp at time zone zone) - interval '1 hour') at time zone zone >= day::timestamp
        then (day::timestamp at time zone zone) - interval '1 hour'
        else day::timestamp at time zone zone
    end
$$;
comment on function kpi.day_start is 'The instant at which a local date begins in a zone.';

create function kpi.log_touched() returns trigger
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
            part := part || case when part = '' then '' else ' union ' end || format(
                'select %L, date_bin(''15 minutes'', %I::timestamp at time zone ''UTC'', timestamptz ''2000-01-01T00:00Z'')'
                ' from %I where isfinite(%I)',
                tg_table_schema || '.' || tg_table_name || ':' || column_name, column_name, rows_of, column_name);
        end loop;
    end loop;
    execute 'insert into kpi.touched ' || part;
    return null;
end $$;
comment on function kpi.log_touched is 'Statement trigger: log the quarter hours of the rows that came, went or changed, by each time column given.';

reset role;
"""


def upgrade() -> None:
    run(SCHEMA)
    run(TABLES)
