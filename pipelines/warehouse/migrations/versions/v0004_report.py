"""What Dagster was told of tracked jobs and SLOs."""

from pipelines.warehouse.migrations import run

revision = "0004"
down_revision = "0003"

REPORT = """
set local role operate;

create table ops.report (
    is_only boolean primary key default true check (is_only),
    load_id bigint not null default 0,
    as_of timestamptz not null default '-infinity',
    published_at timestamptz,
    project text,
    looked_at timestamptz
);
comment on table ops.report is
    'How far it was looked for what Dagster has to be told: the tick (its last load, as_of and published_at) and the '
    'project that had been deployed then.';
insert into ops.report default values;

create table ops.reported_completion (
    asset text[] collate "C" not null,
    business_date date not null,
    occurrence text collate "C" not null,
    ended_at timestamptz not null,
    reported_at timestamptz,
    primary key (asset, business_date, occurrence)
);
create index reported_completion_newest on ops.reported_completion (asset, business_date, ended_at);
create index reported_completion_waiting on ops.reported_completion (ended_at) where reported_at is null;
comment on table ops.reported_completion is
    'Completions that Dagster was told, or is yet to be: of the last two days, and the newest of each job and SLO.';
comment on column ops.reported_completion.asset is 'Key of the asset: {jobs, application, job} or {slos, slo}.';
comment on column ops.reported_completion.occurrence is 'run_key of a job, slot of an SLO.';
comment on column ops.reported_completion.reported_at is
    'When it was told; null: it waits; -infinity: it never is, for too many came at once and a newer one was told.';

create table ops.reported_verdict (
    slo_id text collate "C" primary key,
    business_date date not null,
    slot text collate "C" not null,
    outcome text not null check (outcome in ('on_time', 'late', 'overdue')),
    reported_at timestamptz
);
create index reported_verdict_waiting on ops.reported_verdict (slo_id) where reported_at is null;
comment on table ops.reported_verdict is
    'The occurrence that the check `met` of each SLO speaks of, and what it says. reported_at: null while it waits.';

reset role;
"""


def upgrade() -> None:
    run(REPORT)
