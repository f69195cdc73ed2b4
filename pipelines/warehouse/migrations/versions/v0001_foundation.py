"""Roles, schemas, landing, job status, catalog versions and promises, tick control."""

from pipelines.warehouse.migrations import run

revision = "0001"
down_revision: str | None = None

ROLES = """
do $$
declare wanted text;
begin
    foreach wanted in array array['ingest', 'transform', 'operate', 'analyst'] loop
        if not exists (select from pg_roles where rolname = wanted) then
            begin
                execute format('create role %I nologin', wanted);
            exception when duplicate_object or unique_violation then null; -- another database's migration was first
            end;
        end if;
        if not pg_has_role(current_user, wanted, 'usage') then
            execute format('grant %I to current_user', wanted);
        end if;
    end loop;
end $$;

create schema raw authorization ingest;
create schema catalog authorization ingest;
create schema control authorization transform;
create schema staging authorization transform;
create schema intermediate authorization transform;
create schema work authorization transform;
create schema marts authorization transform;
create schema ops authorization operate;

comment on schema raw is 'Records as they came; rows are added, never changed.';
comment on schema catalog is 'Versions of the catalog and the promises made of them: journals.';
comment on schema control is 'Where the tick stands.';
comment on schema staging is 'dbt: raw rows as the tick may see them.';
comment on schema intermediate is 'dbt: steps between raw and marts; private.';
comment on schema work is 'dbt: what the tick under way works on; emptied by every tick.';
comment on schema marts is 'dbt: what analysts query; contracts in docs/marts.md.';
comment on schema ops is 'Incidents and what has to be told to whom.';

grant usage on schema raw, catalog to transform, operate;
grant usage on schema control to ingest, operate;
grant usage on schema marts to analyst, operate, ingest;
grant usage on schema ops to transform;
grant analyst to operate;
alter default privileges for role ingest in schema raw, catalog grant select on tables to transform, operate;
alter default privileges for role transform in schema control grant select on tables to ingest, operate;
alter default privileges for role transform in schema marts grant select on tables to analyst;
alter default privileges for role operate in schema ops grant select on tables to transform;
"""

RAW = """
set local role ingest;

create table raw.load (
    load_id bigint primary key,
    feed text not null,
    source text not null,
    received_at timestamptz not null,
    record_count bigint not null default 0,
    rejected_count bigint not null default 0
);
create index load_feed on raw.load (feed, load_id);
comment on table raw.load is
    'One row per transaction that brought something. load_id is handed out under a lock: a higher one never becomes '
    'visible before a lower one. received_at is written last, just before the commit.';

create table raw.landed_file (
    landed_file_id bigint generated always as identity primary key,
    feed text not null,
    path text not null,
    fingerprint text,
    size_bytes bigint not null,
    modified_at timestamptz,
    status text not null check (status in ('loaded', 'duplicate', 'quarantined')),
    load_id bigint,
    record_count bigint not null default 0,
    rejected_count bigint not null default 0,
    message text,
    hint text,
    warnings jsonb not null default '[]',
    seen_at timestamptz not null default clock_timestamp()
);
comment on table raw.landed_file is 'Ledger: what became of every file, by its content (sha256).';
create index landed_file_path on raw.landed_file (feed, path);
create unique index landed_file_content on raw.landed_file (feed, fingerprint) where status = 'loaded';

create table raw.rejected_record (
    load_id bigint not null,
    feed text not null,
    path text not null,
    line_no bigint not null,
    record text not null,
    reasons jsonb not null,
    rejected_at timestamptz not null
) partition by range (rejected_at);
comment on table raw.rejected_record is
    'A record that breaks its contract: whole, with where it stood and every reason. Bytes that are no text stand as \\xNN.';
create index rejected_record_load on raw.rejected_record (load_id);

create table raw.job_status (
    load_id bigint not null,
    seq integer not null,
    line_no bigint not null,
    application_id text collate "C" not null,
    job_id text collate "C" not null,
    status_code text collate "C" not null check (status_code in ('START', 'SUCCEED', 'FAIL')),
    status_at timestamptz not null,
    business_date date not null,
    run_id text collate "C",
    host_id text collate "C",
    is_ambiguous boolean not null default false
) partition by range (business_date);
comment on table raw.job_status is 'Every copy of every job status; (load_id, seq) is a total order.';
create index job_status_key on raw.job_status (application_id, job_id, business_date);
create index job_status_load on raw.job_status (load_id);
create index job_status_at on raw.job_status (status_at);
create table raw.job_status_before_1990 partition of raw.job_status for values from (minvalue) to ('1990-01-01');
create table raw.job_status_from_2100 partition of raw.job_status for values from ('2100-01-01') to (maxvalue);

-- No default partition: attaching a month would lock it against readers for as long as a load lasts.
create function raw.ensure_partition(table_name text, month date) returns void
language plpgsql set search_path = raw, pg_temp as $$
declare
    first_day date := date_trunc('month', month);
    partition_name text := format('%s_p%s', table_name, to_char(first_day, 'YYYY_MM'));
begin
    if first_day < date '1990-01-01' or first_day >= date '2100-01-01' or to_regclass(format('raw.%I', partition_name)) is not null then
        return;
    end if;
    -- CREATE … PARTITION OF would lock out readers; CREATE and ATTACH do not.
    execute format('create table raw.%I (like raw.%I including defaults including constraints)', partition_name, table_name);
    execute format('alter table raw.%I attach partition raw.%I for values from (%L) to (%L)',
                   table_name, partition_name, first_day, (first_day + interval '1 month')::date);
end $$;
comment on function raw.ensure_partition is 'Make the partition of a month, where there is none. Call it under the load lock.';
"""

CATALOG = """
create table catalog.application_version (
    application_id text collate "C" not null,
    load_id bigint not null,
    is_retired boolean not null,
    spec jsonb not null,
    primary key (application_id, load_id)
);
create table catalog.calendar_version (
    calendar_id text collate "C" not null,
    load_id bigint not null,
    is_retired boolean not null,
    spec jsonb not null,
    primary key (calendar_id, load_id)
);
create table catalog.job_version (
    application_id text collate "C" not null,
    job_id text collate "C" not null,
    load_id bigint not null,
    is_retired boolean not null,
    upstream_rank integer not null,
    spec jsonb not null,
    primary key (application_id, job_id, load_id)
);
comment on table catalog.job_version is 'spec.depends_on names upstream jobs as [application, job].';
create table catalog.slo_entry_version (
    slo_id text collate "C" not null,
    load_id bigint not null,
    is_retired boolean not null,
    spec jsonb not null,
    primary key (slo_id, load_id)
);
comment on table catalog.slo_entry_version is 'The entries of an SLO as they stood in the files: names, descriptions, owners.';
create table catalog.slo_version (
    slo_id text collate "C" not null,
    load_id bigint not null,
    entry_no integer not null,
    applies_from date not null,
    effective_to date,
    is_open_start boolean not null,
    is_retired boolean not null,
    timezone text not null,
    objective numeric(6, 5),
    warn_before interval,
    spec jsonb not null,
    primary key (slo_id, load_id, entry_no)
);
comment on table catalog.slo_version is
    'What was promised, and from which business date on. Of the versions that apply to a date the highest (load_id, '
    'applies_from) stands. is_open_start: from the first business date that has a status of its jobs.';
create table catalog.slo_job (
    slo_id text collate "C" not null,
    load_id bigint not null,
    entry_no integer not null,
    application_id text collate "C" not null,
    job_id text collate "C" not null,
    primary key (slo_id, load_id, entry_no, application_id, job_id)
);
create index slo_job_job on catalog.slo_job (application_id, job_id);
create table catalog.promise (
    slo_id text collate "C" not null,
    load_id bigint not null,
    entry_no integer not null,
    business_date date not null,
    slot text collate "C" not null,
    opens_at timestamptz not null,
    claims_from timestamptz not null,
    claims_before timestamptz not null,
    expected_start_at timestamptz,
    expected_end_at timestamptz not null,
    planned_load_id bigint not null,
    primary key (slo_id, business_date, slot, load_id, entry_no)
);
comment on table catalog.promise is
    'Due instances of every version of every SLO, as its calendar and zone say. opens_at: its business date begins; '
    '[claims_from, claims_before): runs whose first status lies there are of this slot.';
create index promise_opens on catalog.promise (opens_at);
create index promise_due on catalog.promise (expected_end_at);
create index promise_planned on catalog.promise (planned_load_id);
create table catalog.promise_job (
    slo_id text collate "C" not null,
    load_id bigint not null,
    entry_no integer not null,
    business_date date not null,
    slot text collate "C" not null,
    application_id text collate "C" not null,
    job_id text collate "C" not null,
    expected_start_at timestamptz,
    expected_end_at timestamptz not null,
    upstream_rank integer not null,
    primary key (slo_id, business_date, slot, load_id, entry_no, application_id, job_id)
);
create index promise_job_job on catalog.promise_job (application_id, job_id, business_date);
create table catalog.plan_coverage (
    slo_id text collate "C" not null,
    load_id bigint not null,
    entry_no integer not null,
    planned_from date not null,
    planned_to date not null,
    primary key (slo_id, load_id, entry_no)
);
comment on table catalog.plan_coverage is 'The business dates for which promises of a version stand in catalog.promise.';
reset role;
"""

CONTROL = """
set local role transform;
create table control.tick (
    is_only boolean primary key default true check (is_only),
    low bigint not null default 0,
    high bigint not null default 0,
    previous_as_of timestamptz not null default '-infinity',
    as_of timestamptz not null default '-infinity',
    published_high bigint not null default 0,
    published_as_of timestamptz not null default '-infinity',
    published_at timestamptz,
    needs_rebuild boolean not null default true,
    deployed_project text
);
comment on table control.tick is
    'The tick under way computes what (low, high] and (previous_as_of, as_of] touch; published_* is what the marts show. '
    'low is published_high, or 0 for a rebuild.';
insert into control.tick default values;
reset role;
"""


def upgrade() -> None:
    for statements in (ROLES, RAW, CATALOG, CONTROL):
        run(statements)
