"""Incidents, what has to be told to whom, silences, and how far the rules have looked."""

from pipelines.warehouse.migrations import run

revision = "0002"
down_revision = "0001"

OPERATIONS = """
set local role operate;

create table ops.incident (
    incident_id bigint generated always as identity primary key,
    kind text collate "C" not null,
    subject text collate "C" not null,
    occurrence text collate "C" not null default '',
    slo_id text collate "C",
    business_date date,
    slot text collate "C",
    application_id text collate "C",
    severity text not null check (severity in ('info', 'warning', 'critical')),
    title text not null,
    message text not null,
    detail jsonb not null default '{}',
    began_at timestamptz not null,
    opened_at timestamptz not null,
    last_seen_at timestamptz not null,
    tell_from timestamptz not null,
    cause_incident_id bigint,
    acknowledged_at timestamptz,
    acknowledged_by text,
    escalated_at timestamptz,
    resolved_at timestamptz,
    resolution text,
    resolved_into_id bigint,
    check ((acknowledged_at is null) = (acknowledged_by is null)),
    check ((resolved_at is null) = (resolution is null)),
    check (cause_incident_id <> incident_id)
);
create unique index incident_open on ops.incident (kind, subject, occurrence) where resolved_at is null;
-- An occurrence is late once, however often the rules look at it.
create unique index incident_late on ops.incident (subject, occurrence) where kind = 'late';
create index incident_key on ops.incident (kind, subject, occurrence);
create index incident_opened on ops.incident (opened_at);
create index incident_cause on ops.incident (cause_incident_id) where cause_incident_id is not null;
comment on table ops.incident is
    'What on-call has, or had, to know of: one open row a key (kind, subject, occurrence). A journal: rows are closed, '
    'never deleted.';
comment on column ops.incident.kind is 'overdue, late, failed, sender_silence, unregistered_job, calendar_ending, rejected_records, future_status; the watcher has its own.';
comment on column ops.incident.subject is 'What it is about: an SLO, an application, application/job, a calendar, feed/path.';
comment on column ops.incident.occurrence is 'Which one of the subject: business date and slot, or a landed file; empty where there is only one.';
comment on column ops.incident.began_at is 'Instant at which the condition began, by the data: the due time, the failure.';
comment on column ops.incident.opened_at is 'Instant at which the rules noticed.';
comment on column ops.incident.last_seen_at is 'The latest moment of judging (as_of) at which it held; for a file, when it last came.';
comment on column ops.incident.tell_from is 'Not told before.';
comment on column ops.incident.cause_incident_id is 'The open incident that it is grouped under: told with that one, not by itself.';
comment on column ops.incident.resolution is 'How it ended: late, on_time, restarted, not_due, withdrawn, unwatched, heard, registered, extended, expired, acknowledged, over.';
comment on column ops.incident.resolved_into_id is 'The incident that it ended as: an overdue ends as a late.';

create table ops.alert_outbox (
    outbox_id bigint generated always as identity primary key,
    route text collate "C" not null,
    event text not null,
    severity text not null check (severity in ('info', 'warning', 'critical')),
    title text not null,
    body text not null,
    payload jsonb not null default '{}',
    created_at timestamptz not null,
    attempts integer not null default 0,
    next_attempt_at timestamptz not null,
    delivered_at timestamptz,
    last_error text
);
create index alert_outbox_pending on ops.alert_outbox (route, next_attempt_at) where delivered_at is null;
create index alert_outbox_created on ops.alert_outbox (created_at);
comment on table ops.alert_outbox is
    'Messages to deliver, written in the transaction that changes the incident. A row stays until its route took it.';

create table ops.notice (
    outbox_id bigint not null,
    incident_id bigint not null,
    route text collate "C" not null,
    event text not null check (event in ('opened', 'repeated', 'escalated', 'resolved', 'back_on_track')),
    told_at timestamptz not null,
    primary key (incident_id, outbox_id)
);
create index notice_outbox on ops.notice (outbox_id);
comment on table ops.notice is 'Which incident was told through which message; a digest tells several.';

create table ops.silence (
    silence_id bigint generated always as identity primary key,
    application_id text collate "C",
    slo_id text collate "C",
    kind text collate "C",
    starts_at timestamptz not null,
    ends_at timestamptz not null check (ends_at > starts_at),
    reason text not null check (reason <> ''),
    created_by text not null,
    created_at timestamptz not null
);
create index silence_ends on ops.silence (ends_at);
comment on table ops.silence is 'Incidents that match are kept but not told from starts_at to ends_at; null matches all.';

create table ops.evaluation (
    is_only boolean primary key default true check (is_only),
    as_of timestamptz not null default '-infinity',
    published_at timestamptz,
    evaluated_at timestamptz,
    scanned_load_id bigint not null default 0,
    scanned_file_id bigint not null default 0
);
comment on table ops.evaluation is
    'How far the rules have looked: the tick whose marts they judged (its as_of and published_at), the loads and the '
    'landed files whose records they have seen.';
insert into ops.evaluation default values;

create table ops.route_set (
    is_only boolean primary key default true check (is_only),
    content jsonb not null,
    stored_at timestamptz not null
);
comment on table ops.route_set is
    'The routes and rules of the catalog as they last stood without a fault; what goes on to be used while the files '
    'have one.';

create table ops.calendar_end (
    calendar_id text collate "C" not null,
    load_id bigint not null,
    holidays_version text not null,
    last_date date,
    primary key (calendar_id, load_id, holidays_version)
);
comment on table ops.calendar_end is 'The last business date of a version of a calendar, null without an end; worked out once.';

create view ops.open_incident as
select
    incident.*,
    (
        select count(*)::integer from ops.incident as child
        where child.cause_incident_id = incident.incident_id and child.resolved_at is null
    ) as grouped_count
from ops.incident as incident
where resolved_at is null;
comment on view ops.open_incident is 'Incidents that are open, with how many are grouped under each.';

grant usage on schema ops to analyst;
grant select on ops.incident, ops.open_incident, ops.silence, ops.notice to analyst;
reset role;
"""


def upgrade() -> None:
    run(OPERATIONS)
