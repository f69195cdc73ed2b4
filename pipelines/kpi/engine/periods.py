"""Which periods are to be computed: those over what was touched, and those that time has opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from pipelines.kpi.engine.grains import current, period_rows, series
from pipelines.kpi.engine.work import Model, TickWindow, Work, is_bounded
from pipelines.kpi.grains import step_of
from pipelines.kpi.text import literal

if TYPE_CHECKING:
    from pipelines.kpi.engine.work import Connection


PERIODS = """
create temp table if not exists kpi_period (
    grain text, period_start timestamptz, period_end timestamptz, start_date date, last_date date, period text,
    is_gone boolean not null default false
) on commit delete rows
"""


def begun_grains(connection: Connection, models: Sequence[Model], tick: TickWindow) -> set[tuple[str, str]]:
    """Time zones and grains of which a period has begun since the tick before."""
    if tick.before == tick.as_of:
        return set()
    kinds = sorted(
        {
            (str(model.spec["timezone"]), str(grain))
            for model in models
            if model.kind == "values" and (is_bounded(model.spec) or model.spec["retention"])
            for grain in model.spec["grains"]
        }
    )
    if tick.before == "-infinity":
        return set(kinds)
    rows = connection.execute(
        """
        select zone, grain from unnest(%(zones)s::text[], %(grains)s::text[]) as kind (zone, grain)
        where case grain
            when 'hour' then kpi.hour_start(%(before)s, zone) <> kpi.hour_start(%(as_of)s, zone)
            else date_trunc(grain, kpi.local_time(%(before)s, zone))
                <> date_trunc(grain, kpi.local_time(%(as_of)s, zone))
        end
        """,
        {
            "zones": [zone for zone, _ in kinds], "grains": [grain for _, grain in kinds],
            "before": datetime.fromisoformat(tick.before), "as_of": datetime.fromisoformat(tick.as_of),
        },
    )  # fmt: skip
    return {(str(zone), str(grain)) for zone, grain in rows}


def fill_periods(
    connection: Connection, model: Model, work: Work, tick: TickWindow, *, is_full: bool
) -> None:
    """Fill `kpi_period` with the periods to compute: those over what was touched, and those that time has opened."""
    spec = model.spec
    connection.execute("truncate kpi_period")
    has_end = is_bounded(spec)
    zone = literal(spec["timezone"])
    as_of = f"{literal(tick.as_of)}::timestamptz"
    before = f"{literal(tick.before)}::timestamptz"
    for grain in spec["grains"]:
        has_begun = grain in work.begun
        if not (is_full or work.is_touched or (has_begun and has_end)):
            continue
        selects = []
        if is_full or work.is_touched:
            selects += [_touched_periods(piece, grain, zone, as_of, is_full) for piece in spec["pieces"]]
        now, step = current(grain, zone, as_of), step_of(grain)
        least = least_kept(spec, grain, zone, as_of)
        where = ["s is not null"]
        if has_end:
            where.append(f"s <= {now}")
            if has_begun and not is_full and tick.before != "-infinity":
                after = (
                    f"kpi.hour_end({before}, {zone})"
                    if grain == "hour"
                    else f"{current(grain, zone, before)} + {step}"
                )
                selects.append(f"select {series(grain, zone, after, now)}")
        first = ""
        if spec["fills_gaps"]:
            first = least or f"least({_first(spec, grain, zone)}, {now})"
            if is_full:
                selects.append(f"select {series(grain, zone, first, now)}")
            else:
                selects.append(_moved_begin(grain, zone, first, work.others))
        if least:
            where.append(f"s >= {least}")
        text = (
            f"select distinct s from ({' union all '.join(selects)} offset 0) as starts(s)"
            f" where {' and '.join(where)}"
        )
        if selects:
            rows = period_rows(grain, zone, text)
            columns = "grain, period_start, period_end, start_date, last_date, period"
            connection.execute(f"insert into kpi_period ({columns}) {rows}".encode())
        if first and not least:
            begin = first if grain == "hour" else f"kpi.day_start(({first})::date, {zone})"
            connection.execute(
                f"update kpi_period set is_gone = true where grain = '{grain}' and period_start < {begin}".encode()
            )
    connection.execute("analyze kpi_period")


def _moved_begin(grain: str, zone: str, first: str, kpis: list[str]) -> str:
    """Select of the starts between the first period that there is and the one that has to be, where these differ."""
    ids = ", ".join(map(literal, kpis))
    stands = (
        f"(select min(first) from unnest(array[{ids}]) as kpi_id cross join lateral (select min(period_start) as first"
        f" from kpi.period_value where period_value.kpi_id = kpi_id.kpi_id and grain = '{grain}') as stands)"
    )
    if grain != "hour":
        stands = f"({stands} at time zone {zone})::date::timestamp"
    return (
        "select between_them.s from"
        f" (select {first} as begin, {stands} as stands) as moved,"
        f" {series(grain, zone, 'least(begin, stands)', 'greatest(begin, stands)')} as between_them(s)"
        " where begin <> stands"
    )


def least_kept(spec: Mapping[str, Any], grain: str, zone: str, as_of: str) -> str | None:
    """SQL of the start of the oldest period that is kept; None: all are."""
    keep = spec["retention"].get(grain)
    if not keep:
        return None
    least = f"{current(grain, zone, as_of)} - {int(keep) - 1} * {step_of(grain)}"
    return f"kpi.hour_start({least}, {zone})" if grain == "hour" else least


def _start(piece: Mapping[str, Any], grain: str, zone: str, at: str) -> str:
    """SQL of the start of the period around a bucket."""
    return current(grain, "'UTC'" if piece["is_date"] and grain != "hour" else zone, at)


def _first(spec: Mapping[str, Any], grain: str, zone: str) -> str:
    """SQL of the start of the first period that a source has, or before a purge had, a row in; null without any."""
    firsts = [
        _start(
            piece, grain, zone,
            f"(select least((select min(bucket_at) from kpi.{piece['state']}), (select min(hour_at)"
            f" from control.purged_hour where relation = {literal(piece['clocks'][0].rpartition(':')[0])})))",
        )
        for piece in spec["pieces"]
    ]  # fmt: skip
    return f"least({', '.join(firsts)})"


def _touched_periods(piece: Mapping[str, Any], grain: str, zone: str, as_of: str, is_full: bool) -> str:
    """Select of the starts of the periods that a piece's touched buckets change."""
    clocks = ", ".join(map(literal, piece["clocks"]))
    source = (
        f"(select distinct bucket_at from kpi.{piece['state']} offset 0)"
        if is_full
        else f"(select bucket_at from kpi_bucket where clock in ({clocks}) and bucket_at > '-infinity')"
    )
    start, now, step = _start(piece, grain, zone, "b.bucket_at"), current(grain, zone, as_of), step_of(grain)
    if piece["is_snapshot"]:
        first = f"(select min({start}) as first from {source} as b) as b"
        return f"select {series(grain, zone, 'first', now)} from {first}"
    if piece["days"] is None and piece["to_date"] is None:
        return f"select {start} from {source} as b"
    day = f"(b.bucket_at at time zone {literal('UTC') if piece['is_date'] else zone})::date"
    if piece["days"] is not None:
        # The last day of the period is the touched one, or one of the days that follow it.
        until = f"b.day + {int(piece['days']) - 1}"
        return (
            f"select s from (select distinct {day} as day from {source} as b) as b"
            f" cross join generate_series(date_trunc('{grain}', b.day::timestamp), ({until})::timestamp, {step}) as s"
            f" where (s + {step})::date - 1 between b.day and {until}"
        )
    around = f"date_trunc('{piece['to_date']}', {day}::timestamp)"
    after = f"(span.around + {step_of(piece['to_date'])})"
    end = f"kpi.day_start({after}::date, {zone})" if grain == "hour" else after
    starts = series(grain, zone, "span.first", f"least({end}, {now})")
    return (
        f"select s from (select min({start}) as first, {around} as around from {source} as b group by 2) as span"
        f" cross join {starts} as s where s < {end}"
    )
