"""Locks that analysts cannot take, and by which tick the control row was set."""

from pipelines.warehouse.migrations import run

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    run("""
grant select on public.alembic_version to ingest, transform, operate;

set local role transform;
create table control.lock_load ();
create table control.lock_tick ();
create table control.lock_incidents ();
create table control.lock_follow ();
create table control.lock_report ();
create table control.lock_copy (name text collate "C" primary key);
comment on table control.lock_load is 'Empty: it is locked while a load_id is handed out.';
comment on table control.lock_tick is 'Empty: it is locked while a tick or a deploy is under way.';
comment on table control.lock_incidents is 'Empty: it is locked while incidents change.';
comment on table control.lock_follow is 'Empty: it is locked while logs are read on.';
comment on table control.lock_report is 'Empty: it is locked while Dagster is told what changed.';
comment on table control.lock_copy is 'One row per table of another database, locked while it is copied.';
grant update on control.lock_load, control.lock_tick, control.lock_incidents, control.lock_follow, control.lock_report
    to ingest, operate;
grant insert, update on control.lock_copy to ingest;

alter table control.tick add column begun_by text;
comment on column control.tick.begun_by is
    'Which tick set low, high and as_of: it publishes only while no other has begun since.';
reset role;
""")
