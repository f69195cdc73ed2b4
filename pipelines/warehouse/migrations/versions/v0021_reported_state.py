"""What Dagster was told of how jobs and SLOs stand: of jobs too, and of SLOs the newest occurrence that is open."""

from pipelines.warehouse.migrations import run

revision = "0021"
down_revision = "0020"

REPORT = """
set local role operate;

create table ops.reported_state (
    asset text[] collate "C" not null,
    aspect text not null check (aspect in ('verdict', 'newest')),
    business_date date,
    slot text collate "C",
    state text not null,
    reported_at timestamptz,
    primary key (asset, aspect)
);
create index reported_state_waiting on ops.reported_state (asset, aspect) where reported_at is null;
comment on table ops.reported_state is
    'How each tracked job and SLO stands, and whether Dagster was told.';
comment on column ops.reported_state.asset is 'Key of the asset: {jobs, application, job} or {slos, slo}.';
comment on column ops.reported_state.aspect is
    'verdict: what the check of the asset says, of the occurrence that it speaks of. newest: of an SLO the newest '
    'occurrence that has begun.';
comment on column ops.reported_state.business_date is 'Of the occurrence, as the slot; null: nothing has been due yet.';
comment on column ops.reported_state.reported_at is 'When it was told; null: it waits.';

insert into ops.reported_state (asset, aspect, business_date, slot, state, reported_at)
select array['slos', slo_id], 'verdict', business_date, slot, outcome, reported_at from ops.reported_verdict;
drop table ops.reported_verdict;
-- The next look is at all jobs and SLOs.
update ops.report set project = null, published_at = null;

reset role;
"""


def upgrade() -> None:
    run(REPORT)
