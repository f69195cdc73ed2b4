"""What each tick learns of the series that it touched, and the journal of forecasts as they were made."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.forecasts.backtest import LEADS, Replayed, replay
from pipelines.forecasts.ends import Series, State, advance
from pipelines.forecasts.series import Slot, read_series
from pipelines.forecasts.tables import instant, interval, whole
from pipelines.subject import Publication

if TYPE_CHECKING:
    from pipelines.subject import Connection

SCORED = 28
"""Dates of a series that is new here for which the journal is filled by replay, so that there is a score at once."""
SCORED_AT_ONCE = 4_000
"""Where many are new, so many occurrences in all."""
# So many SLOs are read at once: their histories are in memory together.
BATCH = 200


def learn(connection: Connection, is_rebuild: bool) -> list[Publication]:
    """Bring `forecast.series` up to date with the marts: the SLOs in scope, or all, from where each state stands.

    A state is a function of the series and of `as_of`, so that nothing is lost by going on from what is kept.
    """
    started = time.monotonic()
    as_of = moment(connection)
    if is_rebuild:
        # What no occurrence is left of.
        gone = connection.execute(
            "delete from forecast.series as kept where not exists (select from marts.slo_performance as mart"
            " where mart.slo_id = kept.slo_id and mart.slot = kept.slot and not mart.is_waived)"
        ).rowcount
        touched = "select distinct slo_id from marts.slo_performance order by slo_id"
    else:
        gone = 0
        touched = "select distinct slo_id from work.scope_occurrence order by slo_id"
    slos = [str(row[0]) for row in connection.execute(touched)]
    since = before(connection)
    dates = _dates_to_score(connection) if is_rebuild else SCORED
    written = 0
    noted: list[Publication] = []
    for first in range(0, len(slos), BATCH):
        some = slos[first : first + BATCH]
        kept, found = read_states(connection, some), {}
        made: list[Replayed] = []
        series = read_series(connection, some)
        missing = not_made(connection, series, as_of, since, new=series.keys() - kept.keys(), dates=dates)
        for key, one in series.items():
            state = kept.get(key, State())
            if key in missing:
                made.append(_replayed(one, missing[key], state, as_of))
                state = made[-1].state if state.learned == 0 else state
            found[key] = advance(state, one, as_of)
        written += _write_states(connection, kept, found)
        gone += _delete_states(connection, kept.keys() - found.keys())
        noted.append(_note(connection, made))
    in_journal, for_it = sum(one.inserted for one in noted), sum(one.seconds for one in noted)
    return [
        Publication("forecast.series", gone, written, time.monotonic() - started - for_it),
        Publication("forecast.made", 0, in_journal, for_it),
    ]


def moment(connection: Connection) -> float:
    """The tick's `as_of`, seconds since 1970."""
    row: Any = connection.execute("select extract(epoch from as_of)::float8 from control.tick").fetchone()
    return float(row[0])


def before(connection: Connection) -> float:
    """The `as_of` of the last tick that was published, seconds since 1970; 0 where there was none."""
    row: Any = connection.execute(
        "select extract(epoch from greatest(published_as_of, '1970-01-01'))::float8 from control.tick"
    ).fetchone()
    return float(row[0])


def _dates_to_score(connection: Connection) -> int:
    row: Any = connection.execute(
        "select count(*) from (select distinct slo_id, slot from marts.slo_performance) as series"
    ).fetchone()
    return max(1, min(SCORED, SCORED_AT_ONCE // max(int(row[0]), 1)))


def read_states(connection: Connection, slos: Sequence[str]) -> dict[Slot, State]:
    """What is kept of these SLOs; what was written in another form is left out, and made anew."""
    found = {}
    for slo_id, slot, kept in connection.execute(
        "select slo_id, slot, state from forecast.series where slo_id = any(%s)", [list(slos)]
    ):
        try:
            found[str(slo_id), str(slot)] = State.from_bytes(kept)
        except ValueError:
            continue
    return found


def _write_states(connection: Connection, kept: Mapping[Slot, State], found: Mapping[Slot, State]) -> int:
    rows = [
        (*key, state)
        for key, one in found.items()
        if (state := one.as_bytes()) != (kept[key].as_bytes() if key in kept else b"")
    ]
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into forecast.series (slo_id, slot, state) values (%s, %s, %s)"
            " on conflict (slo_id, slot) do update set state = excluded.state",
            rows,
        )
    return len(rows)


def _delete_states(connection: Connection, keys: Iterable[Slot]) -> int:
    gone = sorted(keys)
    if not gone:
        return 0
    return connection.execute(
        "delete from forecast.series as kept using unnest(%s::text[], %s::text[]) as gone (slo_id, slot)"
        " where kept.slo_id = gone.slo_id and kept.slot = gone.slot",
        [[slo_id for slo_id, _ in gone], [slot for _, slot in gone]],
    ).rowcount


# Forecasts as they were made


def note_made(connection: Connection, slos: Sequence[str], as_of: float) -> Publication:
    """Journal the forecasts of these SLOs whose moment (the due time less a lead) has come by `as_of`."""
    if not slos:
        return Publication("forecast.made", 0, 0, 0.0)
    kept, series = read_states(connection, slos), read_series(connection, slos)
    missing = not_made(connection, series, as_of, before(connection))
    made = [_replayed(series[key], dates, kept.get(key, State()), as_of) for key, dates in missing.items()]
    return _note(connection, made)


def not_made(
    connection: Connection,
    series: Mapping[Slot, Series],
    as_of: float,
    since: float,
    new: Collection[Slot] = (),
    dates: int = SCORED,
) -> dict[Slot, set[int]]:
    """Dates (ordinals) of which a forecast is to be noted that was open at its moment and is not in the journal.

    Their moments lie after `since`; of those that are `new`, anywhere in their newest `dates`.
    """
    wanted: dict[Slot, set[tuple[int, int]]] = {}
    for key, one in series.items():
        is_new = key in new
        newest = np.argsort(one.date)[-(dates if is_new else SCORED) :]
        for lead in LEADS:
            at = one.due[newest] - lead * 60
            is_open = (at <= as_of) & ~(one.end[newest] <= at) & ((at > since) | is_new)
            wanted.setdefault(key, set()).update((day, lead) for day in one.date[newest][is_open].tolist())
    wanted = {key: pairs for key, pairs in wanted.items() if pairs}
    if not wanted:
        return {}
    oldest = min((day for pairs in wanted.values() for day, _ in pairs), default=1)
    for slo_id, slot, day, lead in connection.execute(
        "select slo_id, slot, business_date, lead_minutes from forecast.made"
        " where slo_id = any(%s) and business_date >= %s",
        [sorted({slo_id for slo_id, _ in wanted}), date.fromordinal(oldest)],
    ):
        wanted.get((str(slo_id), str(slot)), set()).discard((day.toordinal(), int(lead)))
    return {key: {day for day, _ in pairs} for key, pairs in wanted.items() if pairs}


def _replayed(series: Series, dates: set[int], kept: State, as_of: float) -> Replayed:
    """Forecasts of `dates` at all leads, by what had happened by then."""
    first, last = date.fromordinal(min(dates)), date.fromordinal(max(dates))
    due = series.due[np.isin(series.date, list(dates))]
    # A state that knows of an end after the first moment is of no use: those before it are made anew.
    start = kept if kept.last <= due.min() - max(LEADS) * 60 else State()
    return replay(series, LEADS, first, last, as_of, start)


def _note(connection: Connection, made: Iterable[Replayed]) -> Publication:
    started = time.monotonic()
    rows = [
        (
            one.series.slo_id,
            date.fromordinal(int(one.series.date[place])),
            one.series.slot,
            int(one.lead[row]),
            instant(one.as_of[row]),
            instant(one.due[row]),
            *(
                whole(part[row])
                for part in (one.forecast.p10, one.forecast.p50, one.forecast.p80, one.forecast.p90)
            ),
            round(float(one.forecast.miss_probability[row]), 6),
            int(one.forecast.dates[row]),
            [instant(point) for point in one.point[row].tolist()],
            [interval(deviation) for deviation in one.deviation[row].tolist()],
        )
        for one in made
        for row, place in enumerate(one.place.tolist())
    ]
    with connection.cursor() as cursor:
        cursor.executemany(
            "insert into forecast.made (slo_id, business_date, slot, lead_minutes, as_of, expected_end_at,"
            " p10, p50, p80, p90, miss_probability, past_dates, rule_points, rule_deviations)"
            " values (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) on conflict do nothing",
            rows,
        )
    return Publication("forecast.made", 0, len(rows), time.monotonic() - started)
