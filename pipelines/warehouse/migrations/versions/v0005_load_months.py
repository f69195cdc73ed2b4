"""What a load touched, so that a tick looks there and nowhere else."""

from pipelines.warehouse.migrations import run

revision = "0005"
down_revision = "0004"

LOAD_MONTHS = """
set local role ingest;

alter table raw.load
    add column months date[],
    add column latest_at timestamptz not null default 'infinity';
comment on column raw.load.months is
    'First days of the months of the records, by the date that partitions their table; null: not known.';
comment on column raw.load.latest_at is
    'Latest instant among the records, before which some are not looked at; infinity: not known.';
-- Which loads still hold records from the future: few, however many there are.
create index load_latest on raw.load (feed, latest_at);

reset role;
"""


def upgrade() -> None:
    run(LOAD_MONTHS)
