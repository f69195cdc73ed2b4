"""What the watchers remember from look to look."""

from pipelines.warehouse.migrations import run

revision = "0003"
down_revision = "0002"

WATCH = """
set local role operate;

create table ops.watch (
    is_only boolean primary key default true check (is_only),
    looked_at timestamptz,
    watching_since timestamptz,
    memory jsonb not null default '{}'
);
comment on table ops.watch is
    'What the watchers, which may be several, know together: when one last looked, since when without a gap, since '
    'when each code location and the daemon are up or down, and how far the event log was read.';
insert into ops.watch default values;

create table ops.watcher (
    watcher text collate "C" primary key,
    looked_at timestamptz not null
);
comment on table ops.watcher is 'Each watcher (inside, outside), and when it last looked.';

reset role;
"""


def upgrade() -> None:
    run(WATCH)
