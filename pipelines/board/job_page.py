"""The page of a job: how it stands, by when it has to be complete, its runs and durations, what waits for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from statistics import median
from typing import Any

from pipelines.board import past, svg
from pipelines.board.frame import Links, status
from pipelines.board.graph import Graph, node_href
from pipelines.board.tracked import JobDay, TrackedJob, Trend, Try
from pipelines.kpi import formats

# What is told of a run that succeeded, and of others.
FINAL = {"SUCCEED": "succeeded", "FAIL": "failed", "START": "running"}
# A picture within a table goes back so many dates.
SPARK_DATES = 30
RANK = {"failed": 2, "overdue": 2, "late": 1}


def job_body(job: TrackedJob, graph: Graph, links: Links, uid: str) -> dict[str, Any]:
    """What its template needs; `uid`: what ids of its pictures begin with."""
    newest = job.days[-1] if job.days else None
    has_durations = sum(day.duration is not None for day in job.days) >= sum(
        day.late_by is not None for day in job.days
    )
    columns = [_column(day, has_durations=has_durations) for day in job.days]
    state = newest.outcome if newest else "not_due"
    worst = standing(job)
    return {
        "job": job,
        "id": "/".join(job.key),
        "zone": job.timezone,
        "links": links,
        "newest": newest,
        "late_said": past.lateness_said(newest.late_by) if newest and newest.late_by is not None else "",
        "state": state,
        "tone": ("", "warn", "bad")[RANK.get(worst.outcome, 0) if worst else 0],
        "last": job.tries[0] if job.tries else None,
        "final": FINAL,
        "runs": "\n".join(_run(one, job.timezone) for one in job.tries),
        "slot": past.slot_said,
        "usual": usual_said(job),
        "has_durations": has_durations,
        "past": past.picture(
            columns,
            uid=f"{uid}p",
            title=f"{job.name}: {'duration' if has_durations else 'lateness'} by business date",
            text=_in_words(job.days),
            is_lateness=not has_durations,
            trend=_trend_line(job) if has_durations else None,
        )
        if columns
        else None,
        "cells": past.key_of(columns),
        "graph": graph.draw(
            [job.key], None, lambda node: node_href(node, links), uid=f"{uid}g",
            title=f"What {job.name} waits for, and what waits for it",
        ),
        "names": graph.names,
    }  # fmt: skip


def standing(job: TrackedJob) -> JobDay | None:
    """Its newest date, or a worse one before that is still waited for."""
    waited = {one.business_date for one in job.deadlines}
    shown = [day for day in reversed(job.days) if day is job.days[-1] or day.business_date in waited]
    return max(shown, key=lambda day: RANK.get(day.outcome, 0), default=None)


def spark(job: TrackedJob | None) -> dict[str, Any]:
    """Of a job among others: its durations as a line, how long it usually takes, whether it gets slower."""
    if job is None:
        return {"svg": "", "usual": "", "is_slowing": False}
    values = [day.duration / 60 for day in job.days if day.duration is not None][-SPARK_DATES:]
    return {
        "svg": svg.small_line(values) if len(values) > 1 else "",
        "usual": usual_said(job),
        "is_slowing": job.trend is not None and job.trend.is_slowing,
    }


def usual_seconds(job: TrackedJob) -> int | None:
    """Half of its dates took no longer."""
    durations = [day.duration for day in job.days if day.duration is not None]
    return round(median(durations)) if durations else None


def usual_said(job: TrackedJob) -> str:
    """The same in words."""
    seconds = usual_seconds(job)
    return "" if seconds is None else past.minutes_said(round(seconds / 60))


def _run(one: Try, zone: str) -> str:
    """A row of the table of runs. Made by hand: jobs have them by the ten thousand."""
    was = status("failed") if one.final_status == "FAIL" else FINAL[one.final_status]
    took = formats.lateness(one.duration) if one.duration else formats.NONE
    return (
        f'<tr><th scope="row" class="t">{one.business_date}</th><td class="n">{one.attempt}</td>'
        f"<td>{escape(one.run_id or formats.NONE)}</td>"
        f'<td class="t">{formats.instant(one.started_at, zone)}</td>'
        f'<td class="t">{formats.instant(one.ended_at, zone)}</td><td class="n">{took}</td><td>{was}</td>'
        f"<td>{escape(one.host_id or formats.NONE)}</td></tr>"
    )


def _column(day: JobDay, *, has_durations: bool) -> past.Column:
    value = day.duration if has_durations else day.late_by
    if day.outcome == "on_time":
        said = f"{day.business_date}: on time"
        return past.Column(day.business_date, day.outcome, said, None if value is None else value / 60)
    parts = [day.outcome.replace("_", " ")]
    if day.duration is not None:
        parts.append(past.minutes_said(round(day.duration / 60)))
    if day.late_by is not None and (day.outcome == "late" or not has_durations):
        parts.append(past.lateness_said(day.late_by))
    if day.run_count != 1:
        parts.append(f"{day.run_count} runs" if day.run_count else "never reported")
    if day.fail_count:
        parts.append(f"{day.fail_count} failed")
    said = f"{day.business_date}: {', '.join(parts)}"
    return past.Column(day.business_date, day.outcome, said, None if value is None else value / 60)


def _trend_line(job: TrackedJob) -> tuple[float, float] | None:
    """Where the line of its trend begins and ends in the picture, in minutes; None without a trend of durations."""
    trend: Trend | None = job.trend
    if trend is None or trend.basis != "duration" or not job.days:
        return None
    last = trend.level + trend.slope * (trend.date_count - 1)
    return (last - trend.slope * (len(job.days) - 1)) / 60, last / 60


def _in_words(days: Sequence[JobDay]) -> str:
    counts: Mapping[str, int] = {
        "in time": sum(day.outcome == "on_time" for day in days),
        "late": sum(day.outcome == "late" for day in days),
        "failed or not complete": sum(day.outcome in {"failed", "overdue"} for day in days),
        "with a run that failed": sum(day.fail_count > 0 for day in days),
    }
    told = ", ".join(f"{count} {words}" for words, count in counts.items() if count)
    return f"{len(days)} dates: {told or 'none of them complete'}."
