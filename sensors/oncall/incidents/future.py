"""Statuses from the future of their receipt: an incident of the sender, whose clock or zone is wrong.

Such a status is held until its time comes, so a job that was done in time is overdue meanwhile, and late in the end.
The sender is right again when every host that sent such statuses has sent a load without any. An application with two
hosts, one of them wrong, is not right in between.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sensors.oncall.incidents.model import Ending, Incident, Key, Rules, Wanted
from sensors.oncall.incidents.rules import as_it_stands, instant_text

if TYPE_CHECKING:
    import psycopg

    Cursor = psycopg.Cursor[Any]

KIND = "future_status"
RIGHT = Ending("right", "Its hosts have sent statuses since, and none of them from the future.")
EXPIRED = Ending("expired", "Nothing more of the kind came.")
MOST_NAMED = 10


@dataclass(frozen=True)
class Sent:
    """What one application sent in some loads: its statuses from the future, if any.

    `count`, `latest`, `received_at` (when the last of them came) and `jobs` are of those; `wrong` are the hosts whose
    newest load has any, `right` the other ones. A host without a name is "".
    """

    application_id: str
    count: int
    latest: datetime | None
    received_at: datetime | None
    jobs: tuple[str, ...]
    wrong: frozenset[str]
    right: frozenset[str]


def read_sent(cursor: Cursor, low: int, high: int, ahead: timedelta, open_: Collection[str]) -> list[Sent]:
    """Of the loads after `low` up to `high`: applications with statuses from more than `ahead`, and those `open_`."""
    rows = cursor.execute(
        """
        with loads as (
            select
                application_id, coalesce(host_id, '') as host_id, load_id, received_at,
                count(*) filter (where status_at > received_at + %(ahead)s) as ahead_count,
                max(status_at) filter (where status_at > received_at + %(ahead)s) as latest,
                array_agg(distinct job_id) filter (where status_at > received_at + %(ahead)s) as jobs
            from raw.job_status inner join raw.load using (load_id)
            where load_id > %(low)s and load_id <= %(high)s
            group by application_id, coalesce(host_id, ''), load_id, received_at
        ),
        newest as (
            select distinct on (application_id, host_id) application_id, host_id, ahead_count > 0 as is_wrong
            from loads
            order by application_id, host_id, load_id desc
        )
        select
            application_id, sum(ahead_count)::bigint, max(latest), max(received_at) filter (where ahead_count > 0),
            (
                select array_agg(distinct job_id order by job_id)
                from loads as other cross join unnest(other.jobs) as job_id
                where other.application_id = loads.application_id
            ),
            (
                select coalesce(array_agg(host_id) filter (where is_wrong), '{}')
                from newest where newest.application_id = loads.application_id
            ),
            (
                select coalesce(array_agg(host_id) filter (where not is_wrong), '{}')
                from newest where newest.application_id = loads.application_id
            )
        from loads
        group by application_id
        having sum(ahead_count) > 0 or application_id = any(%(open)s)
        order by application_id
        """,
        {"low": low, "high": high, "ahead": ahead, "open": list(open_)},
    )
    return [
        Sent(row[0], row[1], row[2], row[3], tuple(row[4] or ()), frozenset(row[5]), frozenset(row[6]))
        for row in rows
    ]


def future_wanted(
    sent: Iterable[Sent], standing: Sequence[Incident], rules: Rules, now: datetime
) -> list[Wanted]:
    """An incident for each application whose clock is wrong, until it is right again.

    What was right again before anybody looked is opened too, and ended by the next look: it has had its effect.
    """
    open_ = {one.key.subject: one for one in standing}
    wanted: dict[str, Wanted] = {}
    for one in sent:
        incident = open_.get(one.application_id)
        if one.latest is not None and one.received_at is not None:
            if incident is None and one.received_at <= now - rules.event_open:
                continue
            wanted[one.application_id] = _wanted(one, one.latest, one.received_at, incident)
        elif incident is not None and "hosts" in incident.detail:
            wanted[one.application_id] = _with_hosts(incident, _hosts(incident) - one.right)
    for subject, incident in open_.items():
        wanted.setdefault(subject, as_it_stands(incident))
    return [
        one
        for subject, one in wanted.items()
        if subject not in open_ or not (_is_right(one) or _is_old(one, rules, now))
    ]


def ending(incident: Incident, now: datetime, rules: Rules) -> Ending:
    """How an incident ended that is not wanted any more."""
    return EXPIRED if _is_old(as_it_stands(incident), rules, now) else RIGHT


def _is_right(one: Wanted) -> bool:
    # Of an incident that an older version opened no hosts are known.
    return one.detail.get("hosts") == []


def _is_old(one: Wanted, rules: Rules, now: datetime) -> bool:
    return now - one.seen_at >= rules.event_open


def _hosts(incident: Incident) -> frozenset[str]:
    return frozenset(str(host) for host in incident.detail.get("hosts", []))


def _wanted(one: Sent, latest: datetime, received_at: datetime, incident: Incident | None) -> Wanted:
    hosts = one.wrong | ((_hosts(incident) - one.right) if incident is not None else frozenset())
    count = one.count + (int(incident.detail.get("count", 0)) if incident is not None else 0)
    return Wanted(
        key=Key(KIND, one.application_id),
        severity="warning",
        title=f"Statuses from the future: {one.application_id}",
        message=f"{one.application_id} sent {count} status{'es' if count > 1 else ''} from the future of their receipt:"
        f" up to {instant_text(latest)}, received {instant_text(received_at)}, of {_jobs(one)}."
        f" {_of_hosts(hosts)} A status is held until its time comes, so what was done in time may seem overdue.",
        began_at=incident.began_at if incident is not None else received_at,
        seen_at=received_at,
        application_id=one.application_id,
        detail={"count": count, "latest": latest.isoformat(), "hosts": sorted(hosts)},
        comes_again=True,
    )


def _with_hosts(incident: Incident, hosts: frozenset[str]) -> Wanted:
    return replace(as_it_stands(incident), detail={**incident.detail, "hosts": sorted(hosts)})


def _jobs(one: Sent) -> str:
    more = len(one.jobs) - MOST_NAMED
    return ", ".join(one.jobs[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _of_hosts(hosts: frozenset[str]) -> str:
    named = sorted(host for host in hosts if host)
    if not named:
        return "The sender's clock or zone is wrong."
    return f"The clock or the zone of {', '.join(named[:MOST_NAMED])} is wrong."
