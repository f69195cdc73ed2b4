"""What an acknowledgement took along, what a message named, routes that came and went, messages that nobody can take."""

from pipelines.warehouse.migrations import run

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    run("""
set local role operate;

alter table ops.incident add column acknowledged_with_id bigint;
comment on column ops.incident.acknowledged_with_id is
    'The incident whose acknowledgement took this one along: it ends with the group. Null where it was acknowledged itself.';
comment on column ops.incident.last_seen_at is
    'When it last changed, or for what happens and passes (a file, a status from the future) when it last came.';
update ops.incident as child set acknowledged_with_id = root.incident_id
from ops.incident as root
where child.cause_incident_id = root.incident_id and child.resolved_at is null
    and child.acknowledged_at = root.acknowledged_at and child.acknowledged_by = root.acknowledged_by;

drop view ops.open_incident;
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
grant select on ops.open_incident to analyst;

alter table ops.notice drop constraint notice_event_check;
alter table ops.notice add constraint notice_event_check
    check (event in ('opened', 'repeated', 'escalated', 'resolved', 'back_on_track', 'grouped'));
comment on column ops.notice.event is
    'grouped: the message is of the incident that this one is grouped under, and is the first that names it.';

alter table ops.alert_outbox add column undeliverable_at timestamptz;
comment on column ops.alert_outbox.undeliverable_at is
    'Given up then: the catalog had no such route any more. What was told by it alone was told to nobody.';
drop index ops.alert_outbox_pending;
create index alert_outbox_pending on ops.alert_outbox (route, next_attempt_at)
    where delivered_at is null and undeliverable_at is null;

create table ops.route (
    route text collate "C" primary key,
    target text not null,
    since timestamptz not null,
    gone_at timestamptz,
    formerly text[] not null default '{}'
);
comment on table ops.route is
    'Every route that the catalog has or had: since when, until when. formerly: ids under which it was declared before, '
    'with the same `to`; what they were told, it was told.';
insert into ops.route (route, target, since)
select route ->> 'id', route ->> 'to', '-infinity'
from ops.route_set cross join lateral jsonb_array_elements(content -> 'routes') as route;
reset role;
""")
