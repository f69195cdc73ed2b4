"""Copies of tables of other databases, and how they stand."""

from pipelines.warehouse.migrations import run

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    run("""
create schema copies authorization ingest;
comment on schema copies is 'Tables of other databases (databases.yml), as they were last read.';
grant usage on schema copies to transform, operate;
alter default privileges for role ingest in schema copies grant select, trigger on tables to transform;

set local role ingest;
create table copies.state (
    database_id text collate "C" not null,
    table_name text collate "C" not null,
    relation text collate "C" not null unique,
    key text[] not null,
    columns jsonb not null,
    row_count bigint not null default 0,
    cursor_value text,
    read_at timestamptz,
    compared_at timestamptz,
    error text,
    failed_at timestamptz,
    failures integer not null default 0,
    next_at timestamptz not null default '-infinity',
    primary key (database_id, table_name)
);
comment on table copies.state is
    'One row per copied table. read_at: when the last successful read began, so the copy lacks nothing older; compared_at: when the '
    'last comparison of all rows began, so no deleted row is older; error, failed_at, failures: since the last success; next_at: '
    'when it is read again.';
grant select on copies.state to operate;
reset role;
""")
