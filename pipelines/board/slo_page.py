"""The page of an SLO: how it stands, its past, what it waits for and who waits for it, and what was promised when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from pipelines.board import heat, past
from pipelines.board.frame import Links, job_page, link, status
from pipelines.board.graph import Graph, node_href
from pipelines.board.job_page import spark
from pipelines.board.model import Board, Late
from pipelines.board.tracked import Day, Expected, JobKey, JobOfSlo, Promise, TrackedJob, TrackedSlo, Waiver
from pipelines.kpi import formats

# So many open occurrences are told one by one, the newest trouble first.
MOST_OPEN = 4
BAD = {"overdue": "bad", "failed": "bad", "missed": "bad", "at_risk": "warn", "late": "warn"}
VERDICTS = {
    "routinely_late": "routinely late",
    "routinely_early": "routinely early",
    "fine": "as promised",
    "too_few": "too few occurrences to say",
}


def slo_body(
    board: Board,
    slo: TrackedSlo,
    late: Sequence[Late],
    jobs: Mapping[JobKey, TrackedJob],
    graph: Graph,
    links: Links,
    uid: str,
) -> dict[str, Any]:
    """What its template needs. `late`: what of it needs attention; `uid`: what ids of its pictures begin with."""
    open_ = [one for one in slo.expected if one.is_open and all(_key(one) != _key(each) for each in late)]
    coming = [*open_, *(one for one in slo.expected if not one.is_open)]
    worst = next((one for outcome in BAD for one in late if one.outcome == outcome), None)
    ended = slo.ended
    state = worst.outcome if worst else ended.outcome if ended else "not_due"
    today = board.as_of.date() if board.as_of else date.min
    columns = columns_of(slo)
    due = sum(day.due for day in slo.days)
    on_time = sum(day.on_time for day in slo.days)
    return {
        "slo": slo,
        "zone": slo.timezone,
        "links": links,
        "state": state,
        "tone": BAD.get(worst.outcome, "") if worst else "",
        "late": late[:MOST_OPEN],
        "more_late": max(len(late) - MOST_OPEN, 0),
        "coming": coming[:2],
        "more_coming": max(len(coming) - 2, 0),
        "slot": past.slot_said,
        "past": past.picture(
            columns,
            uid=f"{uid}p",
            title=f"{slo.name}: lateness by business date",
            text=f"{on_time} of {due} on time on the last {len(slo.days)} dates. {_worst_said(slo.days)}",
            is_lateness=True,
        )
        if columns
        else None,
        # With few dates behind it the windows are one.
        "budgets": list({one.date_count: one for one in slo.budgets}.values()),
        "on_time": on_time,
        "due": due,
        "cells": past.key_of(columns),
        "year": heat.year(slo.year, today, uid=f"{uid}y", title=f"{slo.name}: a year") if slo.year else None,
        "verdicts": VERDICTS,
        "share": _share,
        "lateness": _lateness,
        "graph": graph.draw(
            [job.key for job in slo.jobs], slo.id, lambda node: node_href(node, links), uid=f"{uid}g",
            title=f"What {slo.name} waits for, and what waits for it",
        ),
        "names": graph.names,
        "jobs": "\n".join(_job(one, jobs.get(one.key), slo.timezone, links) for one in slo.jobs),
        "promises": [(one, promise_said(one)) for one in slo.promises],
        "waivers": [(one, _waived(one)) for one in slo.waivers],
    }  # fmt: skip


def _job(one: JobOfSlo, job: TrackedJob | None, zone: str, links: Links) -> str:
    """A row of the table of its jobs. Made by hand: SLOs have them by the thousand."""
    reference, trend = "/".join(one.key), spark(job)
    of = past.slot_said(one.business_date, one.slot) if one.business_date else ""
    moments = "".join(
        f'<td class="t">{formats.instant(moment, zone)}</td>'
        for moment in (one.expected_start_at, one.started_at, one.expected_end_at, one.ended_at)
    )
    slowing = status("warning", "slowing") if trend["is_slowing"] else ""
    name = link(links, job_page(reference), job.name if job else reference)
    return (
        f'<tr><th scope="row">{name}</th><td class="t">{of}</td><td>{one.progress}</td>{moments}'
        f"<td>{trend['svg']}{slowing}{trend['usual']}</td></tr>"
    )


def _key(one: Late | Expected) -> tuple[date, str]:
    return one.business_date, one.slot


def columns_of(slo: TrackedSlo) -> list[past.Column]:
    """Its dates, those that are expected at the end; of windows the one that is expected to be latest."""
    open_: dict[date, Expected] = {}
    for one in slo.expected:
        known = open_.get(one.business_date)
        if known is None or one.p50 - one.due_at > known.p50 - known.due_at:
            open_[one.business_date] = one
    days = {day.business_date: day for day in slo.days}
    return [
        _column(days.get(one, Day(one)), open_.get(one)) for one in sorted({*days, *open_})
    ]  # fmt: skip


def _column(day: Day, expected: Expected | None) -> past.Column:
    said = f"{day.business_date}: {'on time' if day.outcome == 'on_time' else _day_said(day)}"
    if expected is None:
        return past.Column(
            day.business_date, day.outcome, said, None if day.worst is None else day.worst / 60
        )
    low, middle, high = (
        (moment - expected.due_at) / timedelta(minutes=1)
        for moment in (expected.p10, expected.p50, expected.p90)
    )
    said += f", expected {past.lateness_said(60 * middle)}"
    return past.Column(day.business_date, day.outcome, said, middle, is_open=True, low=low, high=high)


def _day_said(day: Day) -> str:
    """`12 min early`, `late, 1 h 5 min late`, of windows `24 of 25 on time, 1 late, the last 12 min late`."""
    lateness = "" if day.worst is None else past.lateness_said(day.worst)
    if day.due + day.not_due <= 1:
        words = {"on_time": "", "late": ""}.get(day.outcome, day.outcome.replace("_", " "))
        return ", ".join(text for text in (words, lateness) if text)
    counts = ((day.late, "late"), (day.overdue, "overdue"), (day.missed, "missed"), (day.not_due, "not due"))
    told = [f"{day.on_time} of {day.due} on time", *(f"{count} {word}" for count, word in counts if count)]
    return ", ".join([*told, *([f"the worst {lateness}"] if lateness else [])])


def _worst_said(days: Sequence[Day]) -> str:
    worst = max((day for day in days if day.worst is not None), key=lambda day: day.worst or 0, default=None)
    return f"The latest: {worst.business_date}, {past.lateness_said(worst.worst or 0)}." if worst else ""


def _share(share: float | None) -> str:
    return formats.quantity(None if share is None else Decimal(str(round(share, 4))), "share")


def _lateness(by: timedelta | None) -> str:
    return formats.NONE if by is None else past.lateness_said(by.total_seconds())


def promise_said(promise: Promise) -> str:
    """`by 03:00 on the next day`, or its windows, in words."""
    spec: Mapping[str, Any] = promise.spec
    if promise.is_retired or not spec:
        return "nothing: taken out of the catalog"
    if every := spec.get("every"):
        return (
            f"every {every['minutes']} minutes from {every['from']} to {every['to']}, each due {every['due_after']}"
            f" after it begins{_days_after(every.get('day_offset', 0))}"
        )
    by_time: dict[str, list[str]] = {}
    for job in spec.get("jobs", ()):
        when = f"by {job.get('end')}"
        when += (
            f" on the next {job['due_weekday']}"
            if "due_weekday" in job
            else _days_after(job.get("day_offset", 0))
        )
        by_time.setdefault(when, []).append(f"{job['application']}/{job['job']}")
    if len(by_time) == 1:
        return next(iter(by_time))
    return "; ".join(f"{', '.join(jobs)} {when}" for when, jobs in sorted(by_time.items()))


def _days_after(offset: int) -> str:
    return "" if not offset else " on the next day" if offset == 1 else f" {offset} days later"


def _waived(one: Waiver) -> str:
    dates = f"{one.from_date}" if one.from_date == one.to_date else f"{one.from_date} to {one.to_date}"
    dates += f" {one.slot}" if one.slot else ""
    if one.due_minutes is None:
        return f"{dates}: nothing is due"
    return f"{dates}: due at {one.due_minutes // 60:02}:{one.due_minutes % 60:02}"
