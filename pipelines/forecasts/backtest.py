"""The forecast replayed over the past: as of moments before each due time, by what had happened by then."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Literal, TextIO

import numpy as np

from pipelines.console import as_table
from pipelines.errors import DuemarkError
from pipelines.forecasts import naive as rules
from pipelines.forecasts.ends import Floats, Forecast, Ints, Series, State, advance, predict
from pipelines.forecasts.score import Score, pinball, score
from pipelines.forecasts.series import read_series

if TYPE_CHECKING:
    from pipelines.warehouse.settings import Settings

LEADS = (120, 60, 30, 10)
"""Minutes before the due time at which forecasts are replayed, if nothing else is said."""
HEADER = (
    "slo_id", "business_date", "slot", "as_of", "lead", "expected_end_at", "p10", "p50", "p80", "p90",
    "miss_probability", "actual_end_at",
)  # fmt: skip
METHOD = "duemark"
ALL = "all"
WILL_MISS = 0.5
"""From this probability on a forecast counts as saying that it will be a miss."""
# Forecasts made at once: enough that numpy pays, little memory.
BATCH = 256


@dataclass(frozen=True)
class Replayed:
    """Forecasts of one series in rows, by date and lead; `place` is the date's in the series, `lead` in minutes.

    `point` and `deviation`: those of the naive rules, rows x rules. `state`: what the last of them was made by.
    """

    series: Series
    place: Ints
    lead: Ints
    as_of: Floats
    forecast: Forecast
    point: Floats
    deviation: Floats
    state: State

    @property
    def due(self) -> Floats:
        return self.series.due[self.place]

    @property
    def end(self) -> Floats:
        return self.series.end[self.place]


def replay(
    series: Series,
    leads: Sequence[int] = LEADS,
    first: date | None = None,
    last: date | None = None,
    until: float = np.inf,
    state: State | None = None,
) -> Replayed:
    """Forecasts that were open at their moment, of the dates from `first` to `last`; none as of after `until`.

    Each is what `predict` says of the state that `advance` had come to by that moment, as a tick would have done.
    `state`: where to begin, one that knows no end later than the first of these moments.
    """
    series = series.in_order()
    low = -np.inf if first is None else first.toordinal()
    high = np.inf if last is None else last.toordinal()
    wanted = [
        (float(series.due[place]) - lead * 60, place, lead)
        for place in np.flatnonzero((series.date >= low) & (series.date <= high)).tolist()
        for lead in leads
    ]
    wanted = sorted(one for one in wanted if one[0] <= until and not series.end[one[1]] <= one[0])
    state = state or State()
    states: list[State] = []
    made: list[Forecast] = []
    told = []
    for number, (as_of, place, _) in enumerate(wanted):
        state = advance(state, series, as_of)
        states.append(state)
        told.append(rules.naive(series.date, series.due, series.end, place, as_of))
        if len(states) == BATCH or number == len(wanted) - 1:
            rows = wanted[number + 1 - len(states) : number + 1]
            places = np.array([row[1] for row in rows])
            moments = np.array([row[0] for row in rows])
            made.append(predict(states, series.date[places], series.due[places], moments))
            states = []
    order = sorted(range(len(wanted)), key=lambda row: (wanted[row][1], -wanted[row][2]))
    return Replayed(
        series,
        np.array([wanted[row][1] for row in order], np.int64),
        np.array([wanted[row][2] for row in order], np.int64),
        np.array([wanted[row][0] for row in order], float),
        _in_order(made, order),
        np.array([told[row].point for row in order], float).reshape(-1, len(rules.RULES)),
        np.array([told[row].deviation for row in order], float).reshape(-1, len(rules.RULES)),
        state,
    )


def _in_order(made: Sequence[Forecast], order: Sequence[int]) -> Forecast:
    if not made:
        return predict([], np.empty(0, np.int64), np.empty(0), np.empty(0))
    fields = [np.concatenate(parts)[order] for parts in zip(*(_fields(one) for one in made), strict=True)]
    return Forecast(*fields)


def _fields(forecast: Forecast) -> tuple[Floats, ...]:
    return tuple(vars(forecast).values())


def scores(replays: Sequence[Replayed]) -> dict[tuple[str, str], Score]:
    """By SLO (`all`: together) and method: ours, and the naive rules.

    A rule that knows its deviation has two readings of p80, its point and that of a normal distribution: the one that
    loses less is told.
    """
    found: dict[tuple[str, str], Score] = {}
    slos = list(dict.fromkeys(one.series.slo_id for one in replays))
    groups = [(slo, [one for one in replays if one.series.slo_id == slo]) for slo in slos]
    if len(groups) != 1:
        groups.append((ALL, list(replays)))
    for name, members in groups:
        group = [one for one in members if len(one.place)]
        if not group:
            continue
        sizes = np.cumsum([0, *(len(one.series.date) for one in group)])
        occurrence = np.concatenate([one.place + size for one, size in zip(group, sizes, strict=False)])
        lead = np.concatenate([one.lead for one in group]) * 60.0
        due, end = np.concatenate([one.due for one in group]), np.concatenate([one.end for one in group])
        p10, p50, p80, p90, miss = (
            np.concatenate([getattr(one.forecast, part) for one in group])
            for part in ("p10", "p50", "p80", "p90", "miss_probability")
        )
        found[name, METHOD] = score(occurrence, lead, due, end, p10, p50, p80, p90, miss >= WILL_MISS)
        ended = ~np.isnan(end)
        for number, rule in enumerate(rules.RULES):
            point = np.concatenate([one.point[:, number] for one in group])
            deviation = np.concatenate([one.deviation[:, number] for one in group])
            p80 = min(
                (point, point + rules.DEVIATIONS_P80 * deviation),
                key=lambda value: float(pinball(0.8, value, end)[ended].sum()),
            )
            width = rules.DEVIATIONS_P90 * deviation
            found[name, rule] = score(
                occurrence, lead, due, end, point - width, point, p80, point + width, point > due
            )
    return found


def records(replays: Iterable[Replayed]) -> Iterator[tuple[str, ...]]:
    """A row of HEADER for each forecast, in the order of SLO, date, slot and lead (the longest first)."""
    rows: list[tuple[tuple[str, str, str, int], tuple[str, ...]]] = []
    for one in replays:
        f = one.forecast
        for row, place in enumerate(one.place.tolist()):
            slo, slot, lead = one.series.slo_id, one.series.slot, int(one.lead[row])
            day = date.fromordinal(int(one.series.date[place])).isoformat()
            rows.append(
                (
                    (slo, day, slot, -lead),
                    (
                        slo,
                        day,
                        slot,
                        instant(one.as_of[row]),
                        str(lead),
                        instant(one.series.due[place]),
                        *(instant(part[row]) for part in (f.p10, f.p50, f.p80, f.p90)),
                        f"{f.miss_probability[row]:.4f}",
                        "" if np.isnan(one.series.end[place]) else instant(one.series.end[place]),
                    ),
                )
            )
    yield from (row for _, row in sorted(rows))


def instant(seconds: float) -> str:
    """ISO 8601 in UTC, to the microsecond where it has one."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=round(float(seconds) * 1e6))
    return moment.isoformat().replace("+00:00", "Z")


def read_past(settings: Settings, slos: Sequence[str] = ()) -> tuple[list[Series], float]:
    """All series of the marts, or those of some SLOs, and the moment as of which the marts are. As an analyst reads."""
    from pipelines.warehouse.connect import connect

    with connect(settings, "analyst") as connection:
        as_of: Any = connection.execute(
            "select extract(epoch from as_of)::float8 from marts.tick where as_of > '-infinity'"
        ).fetchone()
        found = read_series(connection, slos or None)
    unknown = sorted(set(slos) - {slo_id for slo_id, _ in found})
    if unknown:
        raise DuemarkError(
            f"There is no occurrence of {', '.join(unknown)}.",
            'duemark sql "select distinct slo_id from slo_performance" lists those that have any.',
        )
    return list(found.values()), np.inf if as_of is None else float(as_of[0])


def backtest(
    settings: Settings,
    out: TextIO,
    form: Literal["table", "csv", "json"],
    leads: Sequence[int] = LEADS,
    first: date | None = None,
    last: date | None = None,
    slos: Sequence[str] = (),
) -> None:
    """Replay what the marts hold, and write rows (csv, json) or scores (table)."""
    if first is not None and last is not None and first > last:
        raise DuemarkError(f"--from {first} is after --to {last}.", "Turn them about.")
    series, until = read_past(settings, slos)
    replays = [replay(one, leads, first, last, until) for one in series]
    if form == "csv":
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(HEADER)
        writer.writerows(records(replays))
    elif form == "json":
        rows = (json.dumps(_typed(row), ensure_ascii=False) for row in records(replays))
        out.write("[" + ",".join(f"\n  {row}" for row in rows) + "\n]\n")
    else:
        out.write(score_table(scores(replays)))


def _typed(row: tuple[str, ...]) -> dict[str, str | int | float | None]:
    found: dict[str, str | int | float | None] = dict(zip(HEADER, row, strict=True))
    found["lead"], found["miss_probability"] = int(row[4]), float(row[10])
    found["actual_end_at"] = row[11] or None
    return found


def score_table(found: dict[tuple[str, str], Score]) -> str:
    """Scores as a table: losses and lead in minutes, shares in percent; a dash where there was nothing to judge."""
    heads = [
        "slo_id", "method", "forecasts", "p50 loss", "p80 loss", "in 80 %", "precision", "recall", "lead",
        "false alarms",
    ]  # fmt: skip
    rows = []
    for (slo, method), one in found.items():
        forecasts, _, p50, p80, covered, precision, recall, lead, alarms = astuple(one)
        rows.append(
            [
                slo,
                method,
                str(forecasts),
                *(_shown(value, "{:.2f}") for value in (p50, p80)),
                *(_shown(100 * value, "{:.0f} %") for value in (covered, precision, recall)),
                _shown(lead, "{:.0f}"),
                str(alarms),
            ]
        )
    return as_table(heads, rows, right=range(2, len(heads)))


def _shown(value: float, form: str) -> str:
    return "-" if np.isnan(value) else form.format(value)
