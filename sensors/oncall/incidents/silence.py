"""Senders that are silent, told apart from jobs that are late: by what fell due since, and by their own past.

A sender is silent when enough of its jobs fell due since its last status, at different moments, and it has sent
nothing for longer than is usual at that time of day. `marts.sender_silence` shows the same of every application; the
replay of past days has no marts as of then, and asks `usual_pause`. `docs/operations.md` says it in words.
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pipelines.durations import spelled
from sensors.oncall.incidents.model import Detail, Key, Occurrence, OccurrenceKey, Rules, Wanted
from sensors.oncall.incidents.rules import Missed, Waits, count_of, instant_text, listed

if TYPE_CHECKING:
    import psycopg

    Cursor = psycopg.Cursor[Any]

KIND = "sender_silence"

LastStatuses = Callable[[Iterable[str]], Mapping[str, datetime]]
"""When applications last sent a status; those that sent none lately are left out."""
UsualPauses = Callable[[Collection[str]], Mapping[str, timedelta]]
"""For how long applications usually send nothing at that time; those without past enough are left out."""

# As in dbt_project/models/marts/slo/sender_silence.sql, which does the same in SQL.
GRACE = timedelta(minutes=15)
"""So much longer than usual is no silence yet."""
AROUND = timedelta(minutes=30)
"""A pause of a past day counts when it was there so long before or after the time of day."""
DAYS = 28
HISTORY = timedelta(days=DAYS + 2)
"""What was sent before is not looked at."""
LEAST_DAYS = 5
"""With fewer days to look at, a sender has no past."""
NEAR = timedelta(hours=12)
"""A past day counts when something came so long before or after the time of day."""
SHARE_LEFT_OUT = 0.1
"""Of the days, those with the longest pauses: an outage is not usual."""
NOBODY: Mapping[str, Detail] = MappingProxyType({})


def nothing_known(_: Collection[str]) -> Mapping[str, timedelta]:
    """`UsualPauses` without a past."""
    return {}


def usual_pause(moments: Sequence[datetime], as_of: datetime) -> timedelta | None:
    """How long a sender is usually silent at the time of day of `as_of`; None without past enough.

    `moments`: when it sent something, in order; those after `as_of` are not looked at. Of each of the last days the
    longest pause about that time; of these the longest but for a tenth of the days. The pause that lasts is none of
    them.
    """
    place = bisect_right(moments, as_of)
    if not place:
        return None
    last = moments[place - 1]
    first = bisect_left(moments, as_of - HISTORY)
    longest = []
    for day in range(1, DAYS + 1):
        then = as_of - timedelta(days=day)
        if last <= then + AROUND:
            continue
        near = bisect_left(moments, then - NEAR)
        if near == place or moments[near] > then + NEAR:
            continue
        # From the last before the time about which it is, to the first after.
        begin = max(bisect_right(moments, then - AROUND) - 1, first)
        end = bisect_left(moments, then + AROUND)
        pauses = [
            after - before
            for before, after in zip(moments[begin:end], moments[begin + 1 : end + 1], strict=True)
        ]
        longest.append(max(pauses, default=timedelta()))
    if len(longest) < LEAST_DAYS:
        return None
    return sorted(longest)[len(longest) - math.ceil(SHARE_LEFT_OUT * len(longest)) - 1]


def read_usual_pauses(cursor: Cursor, applications: Collection[str]) -> dict[str, timedelta]:
    """`UsualPauses` as of the last tick."""
    if not applications:
        return {}
    rows = cursor.execute(
        "select application_id, usual_pause from marts.sender_silence"
        " where application_id = any(%s) and usual_pause is not null",
        [sorted(applications)],
    )
    return {str(row[0]): row[1] for row in rows}


def missed_jobs(
    occurrences: Iterable[Occurrence], waiting: Mapping[OccurrenceKey, Waits], as_of: datetime
) -> dict[str, list[Missed]]:
    """By application, the jobs that fell due and have no status, but for those that are kept waiting."""
    found: dict[str, list[Missed]] = defaultdict(list)
    for one in occurrences:
        for missed in waiting[one.key].missed:
            if missed.job.expected_end_at < as_of:
                found[missed.job.key[0]].append(missed)
    return found


def sender_silences(
    missed: Mapping[str, Sequence[Missed]],
    last_status: Mapping[str, datetime],
    usual_pauses: UsualPauses,
    rules: Rules,
    as_of: datetime,
    told: Mapping[str, Detail] = NOBODY,
) -> tuple[list[Wanted], dict[OccurrenceKey, Key]]:
    """Applications that usually send and are silent, and the occurrences that this explains.

    `Rules.silence_missing` due times, to the minute, must have passed since an application's last status: jobs that are
    due together are one. `last_status` holds the applications that sent anything in the days before; one that never
    sends is not among them. One of which there is an incident (`told`, with its detail) stays silent until it sends
    again, whatever is usual at a later hour.
    """
    since: dict[str, list[Missed]] = {}
    for application, missing in sorted(missed.items()):
        last = last_status.get(application)
        if last is None:
            continue
        later = [one for one in missing if one.job.expected_end_at > last]
        moments = {one.job.expected_end_at.replace(second=0, microsecond=0) for one in later}
        if len(moments) >= rules.silence_missing:
            since[application] = later
    usual = usual_pauses(since.keys() - told.keys())
    wanted, explained = [], {}
    for application, later in since.items():
        last, pause = last_status[application], usual.get(application)
        if application in told:
            seconds = told[application].get("usual_pause_seconds")
            pause = timedelta(seconds=seconds) if seconds is not None else None
        elif as_of - last <= (pause or timedelta()) + GRACE:
            continue
        jobs = sorted({"/".join(one.job.key) for one in later})
        key = Key(KIND, application)
        message = f"Nothing was heard from {application} since {instant_text(last)}"
        if pause is not None:
            message += (
                f", and at that time of day it is usually silent for {spelled(_whole_minutes(pause))} at most"
            )
        wanted.append(
            Wanted(
                key=key,
                severity="critical",
                title=f"Sender silent: {application}",
                message=f"{message}; {count_of(len(jobs), 'job')} fell due since: {listed(jobs)}.",
                began_at=min(one.job.expected_end_at for one in later),
                seen_at=as_of,
                application_id=application,
                detail={
                    "last_status_at": last.isoformat(),
                    "jobs": jobs,
                    "usual_pause_seconds": pause.total_seconds() if pause is not None else None,
                },
            )
        )
        explained.update({one.occurrence: key for one in later})
    return wanted, explained


def wholly_explained(
    explained: Mapping[OccurrenceKey, Key], occurrences: Iterable[Occurrence]
) -> dict[OccurrenceKey, Key]:
    """Of the occurrences that a silence explains, those where nobody else is to blame."""
    silent = {key.subject for key in explained.values()}
    return {
        one.key: explained[one.key]
        for one in occurrences
        if one.key in explained
        and all(job.progress == "pending" and job.key[0] in silent for job in one.troubled_jobs)
    }


def _whole_minutes(pause: timedelta) -> timedelta:
    return timedelta(minutes=math.ceil(pause / timedelta(minutes=1)))
