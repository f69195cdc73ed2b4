"""What each tick says of the occurrences that are open, of the next one of every SLO, and of the jobs on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.forecasts import graph
from pipelines.forecasts.backtest import LEADS
from pipelines.forecasts.ends import RULES, Floats, State, predict
from pipelines.forecasts.jobs import (
    NOT_STARTED,
    Bank,
    Day,
    JobKey,
    JobNow,
    day_graph,
    read_bank,
    read_upstream,
    with_upstream,
)
from pipelines.forecasts.learn import before, moment, note_made, read_states
from pipelines.forecasts.series import Slot
from pipelines.forecasts.tables import exchange, instant, interval, many_rows, whole
from pipelines.subject import Publication

if TYPE_CHECKING:
    from pipelines.subject import Connection

ENOUGH = 10
"""Past dates of its jobs from which on an occurrence is forecast through them."""
PAST_ENDS, THROUGH_JOBS = "past ends", "jobs"

OCCURRENCE = (
    "slo_id", "business_date", "slot", "application_id", "is_open", "expected_end_at", "p10", "p50", "p80", "p90",
    "p95", "miss_probability", "slack", "slack_slo", "method", "rule", "past_dates", "later_dates", "path",
)  # fmt: skip
JOB = (
    "application_id", "job_id", "business_date", "progress", "started_at", "typical_duration", "p80_duration", "p50",
    "p80", "latest_start_at", "latest_end_at", "slo_id", "past_dates",
)  # fmt: skip


@dataclass(frozen=True)
class Coming:
    """An occurrence to forecast; instants in seconds. `opens`: when its date begins, nan for one that is open."""

    slo_id: str
    business_date: date
    slot: str
    application_id: str
    due: float
    opens: float
    zone: str
    is_windowed: bool

    @property
    def is_open(self) -> bool:
        """Open, and not the next one of its SLO."""
        return self.opens != self.opens


@dataclass
class Row:
    """What is said of an occurrence."""

    coming: Coming
    quantiles: Sequence[float]
    """p10, p50, p80, p90, p95."""
    miss: float
    rule: str
    dates: int
    later: int
    method: str = PAST_ENDS
    slack: float = np.nan
    slack_slo: str | None = None
    path: Sequence[str] = ()


def forecast(connection: Connection, is_rebuild: bool) -> list[Publication]:
    """Fill `forecast.occurrence` and `forecast.waiting_job`, as of the tick under way.

    All of it, each time: what has not ended by now will end later than now, and there are as many rows as is open.
    """
    as_of = moment(connection)
    coming = read_coming(connection)
    # A rebuild has noted them all when it learned.
    passing = set() if is_rebuild else _falling_due(connection, coming, as_of)
    noted = note_made(connection, sorted(passing), as_of)
    states = read_states(connection, sorted({one.slo_id for one in coming}))
    rows = from_past_ends(coming, states, as_of)
    jobs = _through_jobs(connection, rows, states, as_of)
    return [
        exchange(connection, "forecast.occurrence", OCCURRENCE, map(_occurrence, rows), keys=3),
        exchange(connection, "forecast.waiting_job", JOB, jobs, keys=3),
        *([noted] if noted.inserted else []),
    ]


def read_coming(connection: Connection) -> list[Coming]:
    """What is to be forecast, in the order of its key."""
    rows: Iterable[tuple[Any, ...]] = connection.execute(
        "select slo_id, business_date, slot, application_id, extract(epoch from expected_end_at)::float8,"
        " coalesce(extract(epoch from opens_at)::float8, 'nan'), timezone, is_windowed"
        " from intermediate.int_forecast_occurrence order by slo_id, business_date, slot"
    ).fetchall()
    return [Coming(*row) for row in rows]


def _falling_due(connection: Connection, coming: Sequence[Coming], as_of: float) -> set[str]:
    """SLOs of open occurrences for which a moment of the journal has come since the last tick."""
    since = before(connection)
    return {
        one.slo_id
        for one in coming
        if one.is_open and any(since < one.due - lead * 60 <= as_of for lead in LEADS)
    }


def from_past_ends(coming: Sequence[Coming], states: Mapping[Slot, State], as_of: float) -> list[Row]:
    """By the past ends of each series alone; of one that is not open yet, as of when it will be."""
    found = predict(
        [states.get((one.slo_id, one.slot), State()) for one in coming],
        np.array([one.business_date.toordinal() for one in coming], np.int64),
        np.array([one.due for one in coming], float),
        np.array([as_of if one.is_open else one.opens for one in coming], float),
    )
    quantiles = np.stack([found.p10, found.p50, found.p80, found.p90, found.p95], axis=1).tolist()
    numbers = zip(
        coming, quantiles, found.miss_probability.tolist(), found.rule.tolist(), found.dates.tolist(),
        found.later.tolist(), strict=True,
    )  # fmt: skip
    return [
        Row(one, ends, miss, RULES[rule], dates, later) for one, ends, miss, rule, dates, later in numbers
    ]


def _through_jobs(
    connection: Connection, rows: Sequence[Row], states: Mapping[Slot, State], as_of: float
) -> list[tuple[Any, ...]]:
    """Look at the jobs of open dates: better forecasts where something was heard, slack, ways; rows of JOB."""
    by_day: dict[date, list[Row]] = {}
    for row in rows:
        if row.coming.is_open and not row.coming.is_windowed:
            by_day.setdefault(row.coming.business_date, []).append(row)
    if not by_day:
        return []
    made_of = _made_of(connection, sorted(by_day))
    upstream = read_upstream(connection)
    jobs: dict[date, set[JobKey]] = {}
    for day, members in by_day.items():
        own = {key for row in members for key in made_of.get((row.coming.slo_id, day), ())}
        jobs[day] = with_upstream(own, upstream)
    bank = read_bank(connection, jobs, upstream)
    told: list[tuple[Any, ...]] = []
    for day in sorted(by_day):
        promised = {key for (_, of), keys in made_of.items() if of == day for key in keys}
        members = [row for row in by_day[day] if made_of.get((row.coming.slo_id, day))]
        if members:
            told += _day(bank, day, members, made_of, promised, jobs[day], states, as_of)
    return told


def _made_of(connection: Connection, days: Sequence[date]) -> dict[tuple[str, date], list[JobKey]]:
    """The jobs of the daily occurrences of these dates."""
    found: dict[tuple[str, date], list[JobKey]] = {}
    for slo_id, day, application_id, job_id in many_rows(
        connection,
        "select coalesce(json_agg(json_build_array(slo_id, business_date, application_id, job_id)"
        " order by slo_id, business_date, application_id, job_id), '[]')::text from marts.slo_job_performance"
        " where business_date = any(%s) and slot = '00:00'",
        [list(days)],
    ):
        found.setdefault((slo_id, date.fromisoformat(day)), []).append((application_id, job_id))
    return found


def _day(
    bank: Bank,
    day: date,
    members: Sequence[Row],
    made_of: Mapping[tuple[str, date], Sequence[JobKey]],
    promised: set[JobKey],
    jobs: set[JobKey],
    states: Mapping[Slot, State],
    as_of: float,
) -> list[tuple[Any, ...]]:
    zone = Counter(row.coming.zone for row in members).most_common(1)[0][0]
    of = day_graph(bank, day, promised, jobs, zone, as_of)
    keys = [made_of[row.coming.slo_id, day] for row in members]
    slos = graph.Slos.of(
        [[of.place[key] for key in own] for own in keys], np.array([row.coming.due for row in members])
    )
    ends = graph.project(of.habits, of.today)
    back = graph.latest(of.habits, slos)
    slack, hit = graph.may_be_late(slos, back)
    own_states = [states.get((row.coming.slo_id, row.coming.slot), State()) for row in members]
    weights = graph.column_weights(own_states, of.columns, day.toordinal())
    middle = graph.quantile(ends, 0.5)
    found = graph.forecast(slos, ends, of.today, own_states, weights) if len(of.columns) else None
    for place, row in enumerate(members):
        if hit[place] >= 0:
            row.slack, row.slack_slo = float(slack[place]), members[int(hit[place])].coming.slo_id
        row.path = ["/".join(of.jobs[job]) for job in graph.path(of.habits, slos, middle, place)]
        is_heard = any(of.is_heard[of.place[key]] for key in keys[place])
        if found is None or not is_heard or found.dates[place] < ENOUGH:
            continue
        row.method, row.dates = THROUGH_JOBS, int(found.dates[place])
        row.quantiles = [
            float(part[place]) for part in (found.p10, found.p50, found.p80, found.p90, found.p95)
        ]
        row.miss = float(found.miss_probability[place])
    return _job_rows(bank, day, of, (middle, graph.quantile(ends, 0.8)), back, members)


def _job_rows(
    bank: Bank, day: date, of: Day, ends: Sequence[Floats], back: graph.Latest, members: Sequence[Row]
) -> list[tuple[Any, ...]]:
    """A row of JOB for each job that is not complete. `ends`: the medians of all jobs, and their p80."""
    duration = [graph.quantile(of.habits.duration, level) for level in (0.5, 0.8)]
    dates = (~np.isnan(of.habits.duration)).sum(axis=1)
    rows = []
    for place, key in enumerate(of.jobs):
        now: JobNow = bank.now.get((key, day), NOT_STARTED)
        if now.progress == "complete":
            continue
        slo = int(back.slo[place])
        rows.append(
            (
                *key,
                day,
                now.progress,
                instant(now.started),
                *(interval(float(part[place])) for part in duration),
                *(whole(float(part[place]) + of.today.anchor) for part in ends),
                whole(float(back.start[place])),
                whole(float(back.end[place])),
                members[slo].coming.slo_id if slo >= 0 else None,
                int(dates[place]),
            )
        )
    return rows


def _occurrence(row: Row) -> tuple[Any, ...]:
    one = row.coming
    return (
        one.slo_id,
        one.business_date,
        one.slot,
        one.application_id,
        one.is_open,
        instant(one.due),
        *(whole(end) for end in row.quantiles),
        round(row.miss, 6),
        interval(row.slack),
        row.slack_slo,
        row.method,
        row.rule,
        row.dates,
        row.later,
        list(row.path),
    )
