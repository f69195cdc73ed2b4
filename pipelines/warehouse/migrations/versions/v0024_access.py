"""Who may send and ask: senders of the catalog, their tokens, and who changed what."""

from pipelines.warehouse.migrations import run

revision = "0024"
down_revision = "0023"

CATALOG = """
set local role ingest;
create table catalog.sender_version (
    sender_id text collate "C" not null,
    load_id bigint not null,
    is_retired boolean not null,
    spec jsonb not null,
    primary key (sender_id, load_id)
);
comment on table catalog.sender_version is
    'Journal: who may report and ask, by the catalog; also those that only an application names. Of a sender the version '
    'of the highest load stands, until one that is retired.';
reset role;
"""

ACCESS = """
create schema access authorization operate;
comment on schema access is 'Tokens of clients, and who changed what; private.';

set local role operate;
create table access.token (
    token_id text collate "C" primary key,
    sender_id text collate "C" not null,
    hash bytea not null check (length(hash) = 32),
    issued_at timestamptz not null default clock_timestamp(),
    issued_by text not null,
    expires_at timestamptz,
    revoked_at timestamptz,
    revoked_by text,
    last_used_at timestamptz
);
create index token_sender on access.token (sender_id);
comment on table access.token is
    'Every token that was issued: hash is the sha256 of the whole token, of which 256 bits are random. last_used_at is '
    'written at most once a minute.';

create table access.audit (
    audit_id bigint generated always as identity primary key,
    at timestamptz not null default clock_timestamp(),
    actor text not null,
    action text not null,
    subject text not null,
    detail jsonb not null default '{}'
);
comment on table access.audit is 'Journal: who changed what about access.';
reset role;
"""


def upgrade() -> None:
    for statements in (CATALOG, ACCESS):
        run(statements)
