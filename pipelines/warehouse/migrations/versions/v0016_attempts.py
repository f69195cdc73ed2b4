"""How the last ticks went, so that one that fails again and again is known, however it fails."""

from pipelines.warehouse.migrations import run

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    run("""
set local role transform;
create table control.attempt (
    is_only boolean primary key default true check (is_only),
    begun_at timestamptz,
    backend_pid integer,
    failures integer not null default 0,
    since timestamptz,
    failed_at timestamptz,
    failure text
);
comment on table control.attempt is
    'The tick under way, and how many failed in a row since the last that was published. One that was begun, whose '
    'backend is gone and after which nothing was published, failed too.';
insert into control.attempt default values;
reset role;
""")
