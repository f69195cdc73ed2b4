"""The engine: states of what was touched, values of the periods over it, restatements; within the tick's publication.

What changed is in `kpi.touched`, logged by triggers in the transactions of those who changed it; marts change in this
very transaction. Time alone opens and closes periods, and ends what is kept. All of it follows the change, not history.
"""
# ruff: noqa: S608 # SQL is put together of what the compiler wrote, and of literals that are quoted here

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg import sql

from pipelines.kpi.project import FENCE
from pipelines.logs import get_logger
from pipelines.transform.publish import Publication

if TYPE_CHECKING:
    Connection = psycopg.Connection[Any]

log = get_logger(__name__)

# From so many touched buckets on, a state is computed as a whole: one scan, instead of as many ranges.
MANY_BUCKETS = 5000
# Ranges as a condition, one by one; beyond, all from the first to the last, and of these the touched.
MANY_RANGES = 200
# Ranges of the periods of a grain; beyond, one from the first to the last.
FEW_SPANS = 20
PLACE = re.compile(r'\((r\."(?:[^"]|"")+") /\* start of (instant|date) (\w+) \*/\)')
WITHIN = re.compile(r"\(true /\* within (instant|date|midnight) (\w+) (.+?) \*/\)")
MARK = re.compile(r"\(true /\* touched (date|instant) (.+?) \*/\)")

PERIODS = """
create temp table if not exists kpi_period (
    grain text, period_start timestamptz, period_end timestamptz, start_date date, last_date date, period text,
    is_gone boolean not null default false
) on commit delete rows
"""
# Of the KPIs at work, the periods that stay as they are.
SEALED = """
create temp table if not exists kpi_sealed (kpi_id text, grain text, period_start timestamptz) on commit delete rows
"""
BUCKETS = (
    "create temp table if not exists kpi_bucket (clock text, bucket_at timestamptz) on commit delete rows"
)
FORMATS = {
    "day": "to_char({0}, 'YYYY-MM-DD')",
    "week": "to_char({0}, 'IYYY-\"W\"IW')",
    "month": "to_char({0}, 'YYYY-MM')",
    "quarter": "to_char({0}, 'YYYY-\"Q\"Q')",
    "year": "to_char({0}, 'YYYY')",
}
_NOT_THE_MODELS = (
    psycopg.errors.QueryCanceled,
    psycopg.errors.SerializationFailure,
    psycopg.errors.DeadlockDetected,
    psycopg.errors.InsufficientResources,
    psycopg.errors.AdminShutdown,
)
STEPS = {"day": "1 day", "week": "7 days", "month": "1 month", "quarter": "3 months", "year": "1 year"}


@dataclass
class _Clock:
    """Where the tick stands: judged as of `as_of`; time has been looked at up to `before`; loads up to `load_id`."""

    as_of: str
    before: str
    load_id: int
    is_rebuild: bool


@dataclass
class _Model:
    """A deployed model; `needs_full`: all of it is to be computed."""

    name: str
    kind: str
    spec: Mapping[str, Any]
    needs_full: bool
    query_is_made: bool


@dataclass(frozen=True)
class _Work:
    """What is to be done of a values model: KPIs to compute as a whole, and others over what was touched or begun."""

    changed: list[str]
    others: list[str]
    is_touched: bool
    begun: list[str]


def refresh(connection: Connection, is_rebuild: bool) -> list[Publication]:
    """Bring states and values up to date, within the caller's transaction; what fails stops nothing but itself."""
    models = [
        _Model(str(name), str(kind), spec, bool(needs_full), query_is_made=bool(is_made))
        for name, kind, spec, needs_full, is_made in connection.execute(
            "select name, kind, spec, needs_full, query <> '' from kpi.model order by kind, name"
        )
    ]
    kpis = connection.execute("select kpi_id, model, needs_full, is_gone from kpi.kpi").fetchall()
    if not models and not kpis:
        return []
    row = connection.execute(
        # Instants as text: Python has none for -infinity.
        "select tick.as_of::text, engine.as_of::text, tick.high from control.tick cross join kpi.engine"
    ).fetchone()
    if row is None:
        return []
    clock = _Clock(str(row[0]), str(row[1]), int(row[2]), is_rebuild)
    # Compiling such queries takes longer than most of them.
    connection.execute("set local jit = off")
    _journal_definitions(connection, clock)
    touched, emptied = _take_log(connection)
    publications: list[Publication] = []
    failed: dict[str, str] = {}
    for model in models:
        if model.kind == "state" and not model.query_is_made:
            failed[model.name] = "it could not be made"
        elif model.kind == "state":
            model.needs_full |= is_rebuild or bool(emptied & set(model.spec["clocks"]))
            if model.needs_full or touched & set(model.spec["clocks"]):
                problem = _guarded(connection, model.name, _refresh_state, model, publications=publications)
                failed |= {model.name: problem} if problem else {}
    begun = _begun(connection, models, clock)
    for model in models:
        if model.kind != "values" or not model.query_is_made:
            continue
        mine = [
            (str(kpi_id), bool(is_new))
            for kpi_id, name, is_new, is_gone in kpis
            if name == model.name and not is_gone
        ]
        clocks = {each for piece in model.spec["pieces"] for each in piece["clocks"]}
        broken = [piece["state"] for piece in model.spec["pieces"] if piece["state"] in failed]
        if broken:
            _failed(connection, model.name, f"{broken[0]}: {failed[broken[0]]}")
            continue
        is_full = model.needs_full or is_rebuild or bool(emptied & clocks)
        work = _Work(
            changed=[kpi_id for kpi_id, is_new in mine if is_new or is_full],
            others=[kpi_id for kpi_id, is_new in mine if not (is_new or is_full)],
            is_touched=bool(touched & clocks),
            begun=[grain for grain in model.spec["grains"] if (model.spec["timezone"], grain) in begun],
        )
        if mine and (work.changed or work.is_touched or work.begun):
            _guarded(connection, model.name, _refresh_values, model, work, clock, publications=publications)
    if any(is_gone for *_, is_gone in kpis):
        connection.execute(
            "delete from kpi.period_value where kpi_id in (select kpi_id from kpi.kpi where is_gone)"
        )
        connection.execute("delete from kpi.kpi where is_gone")
    is_new = is_rebuild or any(is_full for _, _, is_full, _ in kpis)
    _clocks(connection, has_slos_changed=is_new or any(name.startswith("marts.slo") for name in touched))
    connection.execute("update kpi.engine set as_of = tick.as_of from control.tick")
    return publications


def _guarded(
    connection: Connection, name: str, work: Any, *arguments: Any, publications: list[Publication]
) -> str | None:
    """Do it in a savepoint; where it fails, nothing of it remains but the problem, and the next tick does all of it."""
    started = time.monotonic()
    try:
        with connection.transaction():
            counts = work(connection, *arguments)
    except psycopg.Error as error:
        # What is wrong with the server, or with this tick as a whole, is nothing of the model's.
        if connection.broken or isinstance(error, _NOT_THE_MODELS):
            raise
        problem = str(error).strip()
        _failed(connection, name, problem)
        return problem
    connection.execute("update kpi.model set problem = null where name = %s and problem is not null", [name])
    if counts is not None:
        publications.append(Publication(name, counts[0], counts[1], time.monotonic() - started))
    return None


def _failed(connection: Connection, name: str, problem: str) -> None:
    """Note that a model could not be computed; it is tried again by every tick, as a whole."""
    told = connection.execute(
        "update kpi.model set needs_full = true, problem = %(problem)s where name = %(name)s"
        " and (not needs_full or problem is distinct from %(problem)s)",
        {"problem": problem, "name": name},
    ).rowcount
    if told:
        log.warning("a KPI model could not be computed", model=name, problem=problem)
    connection.execute("update kpi.kpi set needs_full = true where model = %s", [name])


def _begun(connection: Connection, models: Sequence[_Model], clock: _Clock) -> set[tuple[str, str]]:
    """Time zones and grains of which a period has begun since the tick before."""
    if clock.before == clock.as_of:
        return set()
    kinds = sorted(
        {
            (str(model.spec["timezone"]), str(grain))
            for model in models
            if model.kind == "values" and (_is_bounded(model.spec) or model.spec["retention"])
            for grain in model.spec["grains"]
        }
    )
    if clock.before == "-infinity":
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
            "before": datetime.fromisoformat(clock.before), "as_of": datetime.fromisoformat(clock.as_of),
        },
    )  # fmt: skip
    return {(str(zone), str(grain)) for zone, grain in rows}


def _take_log(connection: Connection) -> tuple[set[str], set[str]]:
    """Take the log of touched buckets into `kpi_bucket`; return the clocks in it, and those of emptied tables."""
    connection.execute(BUCKETS)
    if connection.execute("select from kpi.touched limit 1").fetchone() is None:
        return set(), set()
    connection.execute(
        "with taken as (delete from kpi.touched returning clock, bucket_at)"
        " insert into kpi_bucket select distinct clock, bucket_at from taken"
    )
    connection.execute("analyze kpi_bucket")
    rows = connection.execute(
        "select clock, bool_or(bucket_at = '-infinity') from kpi_bucket group by clock"
    ).fetchall()
    return {str(name) for name, _ in rows}, {str(name) for name, is_emptied in rows if is_emptied}


def _journal_definitions(connection: Connection, clock: _Clock) -> None:
    """Close the versions that stand no more, open those that do."""
    connection.execute(
        """
        update kpi.definition set valid_to = %(as_of)s::timestamptz
        where valid_to is null and not exists (
            select from kpi.kpi where kpi.kpi_id = definition.kpi_id and kpi.version = definition.version
                and not is_gone
        )
        """,
        {"as_of": clock.as_of},
    )
    connection.execute(
        """
        insert into kpi.definition (kpi_id, version, valid_from, load_id, spec)
        select kpi_id, version, %(as_of)s::timestamptz, %(load_id)s, spec from kpi.kpi
        where not is_gone
            and not exists (select from kpi.definition where definition.kpi_id = kpi.kpi_id and valid_to is null)
        on conflict (kpi_id, valid_from, version) do update set valid_to = null, spec = excluded.spec
        """,
        {"as_of": clock.as_of, "load_id": clock.load_id},
    )


def _refresh_state(connection: Connection, model: _Model) -> tuple[int, int]:
    name, spec, needs_full = model.name, model.spec, model.needs_full
    table = sql.Identifier("kpi", name)
    width = timedelta(minutes=spec["minutes"])
    buckets = []
    if not needs_full:
        rows = connection.execute(
            "select distinct date_bin(%s, bucket_at, timestamptz '2000-01-01T00:00Z')::text from kpi_bucket"
            " where clock = any(%s) order by 1 limit %s",
            [width, spec["clocks"], MANY_BUCKETS + 1],
        ).fetchall()
        buckets = [str(row[0]) for row in rows]
        needs_full = len(buckets) > MANY_BUCKETS
    columns = sql.SQL(", ").join(map(sql.Identifier, spec["columns"]))
    query = _query(connection, name)
    if needs_full:
        deleted = connection.execute(sql.SQL("delete from {}").format(table)).rowcount
        # A table of its own, because what is inserted at once is not computed in parallel.
        connection.execute("drop table if exists kpi_state_rows")
        text = MARK.sub("true", query)
        in_parallel = text.replace(FENCE, "")
        if any("Gather" in row[0] for row in connection.execute(f"explain {in_parallel}".encode())):
            text = in_parallel
        connection.execute(
            sql.SQL("create temp table kpi_state_rows on commit drop as {}").format(sql.SQL(text))
        )
        text = "table kpi_state_rows"
    else:
        deleted = connection.execute(
            sql.SQL("delete from {} where bucket_at = any(%s::timestamptz[])").format(table), [buckets]
        ).rowcount
        text = touched_rows(query, [datetime.fromisoformat(each) for each in buckets], width)
    inserted = connection.execute(
        sql.SQL("insert into {} ({}) select {} from ({}) as states").format(
            table,
            columns,
            columns,
            sql.SQL(text),
        )
    ).rowcount
    if inserted > 1000:
        connection.execute(sql.SQL("analyze {}").format(table))
    connection.execute("update kpi.model set needs_full = false where name = %s and needs_full", [name])
    return deleted, inserted


def _query(connection: Connection, name: str) -> str:
    row = connection.execute("select query from kpi.model where name = %s", [name]).fetchone()
    return str(row[0]) if row else ""


def touched_rows(query: str, buckets: Sequence[datetime], width: timedelta) -> str:
    """A state's query for the rows of these buckets (each `width` wide) only."""
    ranges: list[list[datetime]] = []
    for bucket in sorted(each.astimezone(UTC) for each in buckets):
        if ranges and ranges[-1][1] == bucket:
            ranges[-1][1] = bucket + width
        else:
            ranges.append([bucket, bucket + width])

    def condition(match: re.Match[str]) -> str:
        column = '"' + match[2].replace('"', '""') + '"'

        def within(start: datetime, end: datetime) -> str:
            if match[1] == "date":
                return f"({column} >= '{start:%Y-%m-%d}' and {column} < '{end:%Y-%m-%d}')"
            return f"({column} >= '{start:%Y-%m-%dT%H:%MZ}' and {column} < '{end:%Y-%m-%dT%H:%MZ}')"

        if len(ranges) <= MANY_RANGES:
            return "(" + (" or ".join(within(*each) for each in ranges) or "false") + ")"
        listed = ", ".join(f"'{bucket.astimezone(UTC):%Y-%m-%dT%H:%MZ}'" for bucket in buckets)
        at = f"{column}::timestamp at time zone 'UTC'" if match[1] == "date" else column
        return (
            f"({within(ranges[0][0], ranges[-1][1])} and date_bin('{int(width.total_seconds())} seconds', {at},"
            f" timestamptz '2000-01-01T00:00Z') = any(array[{listed}]::timestamptz[]))"
        )

    return MARK.sub(condition, query)


def _refresh_values(
    connection: Connection, model: _Model, work: _Work, clock: _Clock
) -> tuple[int, int] | None:
    connection.execute(PERIODS)
    deleted = inserted = 0
    is_done = False
    if work.others:
        deleted = _expire(connection, model, work.others, work.begun)
        _periods(connection, model, work, clock, is_full=False)
        note_sealed(connection, work.others)
        is_done = deleted > 0
        if connection.execute("select from kpi_period limit 1").fetchone() is not None:
            counts = _exchange(connection, model.name, work.others, clock, is_full=False)
            deleted, inserted, is_done = deleted + counts[0], counts[1], True
    if work.changed:
        deleted += _expire(connection, model, work.changed, model.spec["grains"])
        _periods(connection, model, work, clock, is_full=True)
        note_sealed(connection, work.changed, has_standing=True)
        counts = _exchange(connection, model.name, work.changed, clock, is_full=True)
        deleted, inserted, is_done = deleted + counts[0], inserted + counts[1], True
        connection.execute("update kpi.kpi set needs_full = false where kpi_id = any(%s)", [work.changed])
        connection.execute(
            "update kpi.model set needs_full = false where name = %s and needs_full", [model.name]
        )
    return (deleted, inserted) if is_done else None


def _is_bounded(spec: Mapping[str, Any]) -> bool:
    """Whether its periods go up to as_of's and no further, and open by time alone."""
    return bool(spec["fills_gaps"]) or any(
        piece["is_snapshot"] or piece["days"] is not None or piece["to_date"] is not None
        for piece in spec["pieces"]
    )


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _periods(connection: Connection, model: _Model, work: _Work, clock: _Clock, *, is_full: bool) -> None:
    """Fill `kpi_period` with the periods to compute: those over what was touched, and those that time has opened."""
    spec = model.spec
    connection.execute("truncate kpi_period")
    is_bounded = _is_bounded(spec)
    zone = _literal(spec["timezone"])
    as_of = f"{_literal(clock.as_of)}::timestamptz"
    before = f"{_literal(clock.before)}::timestamptz"
    for grain in spec["grains"]:
        has_begun = grain in work.begun
        if not (is_full or work.is_touched or (has_begun and is_bounded)):
            continue
        selects = []
        if is_full or work.is_touched:
            selects += [_touched_periods(piece, grain, zone, as_of, is_full) for piece in spec["pieces"]]
        now, step = _current(grain, zone, as_of), _step(grain)
        least = _least(spec, grain, zone, as_of)
        where = ["s is not null"]
        if is_bounded:
            where.append(f"s <= {now}")
            if has_begun and not is_full and clock.before != "-infinity":
                after = (
                    f"kpi.hour_end({before}, {zone})"
                    if grain == "hour"
                    else f"{_current(grain, zone, before)} + {step}"
                )
                selects.append(f"select {_series(grain, zone, after, now)}")
        first = ""
        if spec["fills_gaps"]:
            first = least or f"least({_first(spec, grain, zone)}, {now})"
            if is_full:
                selects.append(f"select {_series(grain, zone, first, now)}")
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
    ids = ", ".join(map(_literal, kpis))
    stands = (
        f"(select min(first) from unnest(array[{ids}]) as kpi_id cross join lateral (select min(period_start) as first"
        f" from kpi.period_value where period_value.kpi_id = kpi_id.kpi_id and grain = '{grain}') as stands)"
    )
    if grain != "hour":
        stands = f"({stands} at time zone {zone})::date::timestamp"
    return (
        "select between_them.s from"
        f" (select {first} as begin, {stands} as stands) as moved,"
        f" {_series(grain, zone, 'least(begin, stands)', 'greatest(begin, stands)')} as between_them(s)"
        " where begin <> stands"
    )


def _step(grain: str) -> str:
    return f"interval '{STEPS.get(grain, '1 hour')}'"


def _series(grain: str, zone: str, first: str, last: str) -> str:
    """SQL of the starts of periods from one to another: set of instants for hours, else of local timestamps."""
    if grain == "hour":
        return f"kpi.hours({first}, {last}, {zone})"
    return f"generate_series({first}, {last}, {_step(grain)})"


def _current(grain: str, zone: str, at: str) -> str:
    """SQL of the start of the period around an instant: an instant for hours, else a local timestamp."""
    if grain == "hour":
        return f"kpi.hour_start({at}, {zone})"
    return f"date_trunc('{grain}', kpi.local_time({at}, {zone}))"


def _least(spec: Mapping[str, Any], grain: str, zone: str, as_of: str) -> str | None:
    """SQL of the start of the oldest period that is kept; None: all are."""
    keep = spec["retention"].get(grain)
    if not keep:
        return None
    least = f"{_current(grain, zone, as_of)} - {int(keep) - 1} * {_step(grain)}"
    return f"kpi.hour_start({least}, {zone})" if grain == "hour" else least


def _start(piece: Mapping[str, Any], grain: str, zone: str, at: str) -> str:
    """SQL of the start of the period around a bucket."""
    return _current(grain, "'UTC'" if piece["is_date"] and grain != "hour" else zone, at)


def _first(spec: Mapping[str, Any], grain: str, zone: str) -> str:
    """SQL of the start of the first period that a source has, or before a purge had, a row in; null without any."""
    firsts = [
        _start(
            piece, grain, zone,
            f"(select least((select min(bucket_at) from kpi.{piece['state']}), (select min(hour_at)"
            f" from control.purged_hour where relation = {_literal(piece['clocks'][0].rpartition(':')[0])})))",
        )
        for piece in spec["pieces"]
    ]  # fmt: skip
    return f"least({', '.join(firsts)})"


def _touched_periods(piece: Mapping[str, Any], grain: str, zone: str, as_of: str, is_full: bool) -> str:
    """Select of the starts of the periods that a piece's touched buckets change."""
    clocks = ", ".join(map(_literal, piece["clocks"]))
    source = (
        f"(select distinct bucket_at from kpi.{piece['state']} offset 0)"
        if is_full
        else f"(select bucket_at from kpi_bucket where clock in ({clocks}) and bucket_at > '-infinity')"
    )
    start, now, step = _start(piece, grain, zone, "b.bucket_at"), _current(grain, zone, as_of), _step(grain)
    if piece["is_snapshot"]:
        first = f"(select min({start}) as first from {source} as b) as b"
        return f"select {_series(grain, zone, 'first', now)} from {first}"
    if piece["days"] is None and piece["to_date"] is None:
        return f"select {start} from {source} as b"
    day = f"(b.bucket_at at time zone {_literal('UTC') if piece['is_date'] else zone})::date"
    if piece["days"] is not None:
        # The last day of the period is the touched one, or one of the days that follow it.
        until = f"b.day + {int(piece['days']) - 1}"
        return (
            f"select s from (select distinct {day} as day from {source} as b) as b"
            f" cross join generate_series(date_trunc('{grain}', b.day::timestamp), ({until})::timestamp, {step}) as s"
            f" where (s + {step})::date - 1 between b.day and {until}"
        )
    around = f"date_trunc('{piece['to_date']}', {day}::timestamp)"
    after = f"(span.around + {_step(piece['to_date'])})"
    end = f"kpi.day_start({after}::date, {zone})" if grain == "hour" else after
    starts = _series(grain, zone, "span.first", f"least({end}, {now})")
    return (
        f"select s from (select min({start}) as first, {around} as around from {source} as b group by 2) as span"
        f" cross join {starts} as s where s < {end}"
    )


def period_rows(grain: str, zone: str, starts: str) -> str:
    """SQL of rows of `kpi_period` for the starts `s` that a query gives (an instant for hours, else local).

    `offset 0`, here and in such a query: or conditions, with all their arithmetic of zones, would be moved to where
    they are judged for each row of a state and not once for each period.
    """
    starts = f"{starts} offset 0"
    if grain == "hour":
        offset = f"(s at time zone {zone}) - (s at time zone 'UTC')"
        sign = f"case when {offset} < interval '0' then '-' else '+' end"
        size = f"case when {offset} < interval '0' then -({offset}) else {offset} end"
        # Local mean times of long ago had seconds.
        form = f"case when extract(second from {offset}) = 0 then 'HH24:MI' else 'HH24:MI:SS' end"
        date = f"kpi.local_time(s, {zone})::date"
        return (
            f"select 'hour', s, kpi.hour_end(s, {zone}), {date}, {date},"
            f" to_char(s at time zone {zone}, 'YYYY-MM-DD\"T\"HH24') || {sign} || to_char({size}, {form})"
            f" from ({starts}) as starts"
        )
    end = f"(s + interval '{STEPS[grain]}')::date"
    # A day that a zone skipped, at the date line, is none.
    return (
        f"select * from (select '{grain}', kpi.day_start(s::date, {zone}) as begins,"
        f" kpi.day_start({end}, {zone}) as ends, s::date, {end} - 1, {FORMATS[grain].format('s')}"
        f" from ({starts}) as starts offset 0) as period where begins < ends"
    )


def _expire(connection: Connection, model: _Model, kpis: list[str], grains: Sequence[str]) -> int:
    """Take out periods that are kept no longer, where time has moved on; return how many rows."""
    gone = 0
    zone = _literal(model.spec["timezone"])
    for grain in model.spec["retention"]:
        if grain in grains:
            least = str(_least(model.spec, grain, zone, "tick.as_of"))
            if grain != "hour":
                least = f"kpi.day_start(({least})::date, {zone})"
            gone += connection.execute(
                "delete from kpi.period_value using control.tick where kpi_id = any(%s) and grain = %s"
                f" and period_start < {least}".encode(),
                [kpis, grain],
            ).rowcount
    return gone


def _exchange(
    connection: Connection, name: str, kpis: list[str], clock: _Clock, *, is_full: bool
) -> tuple[int, int]:
    """Compute the values of `kpi_period` and put them in place of those that differ; rows taken out and put in.

    is_full: the KPIs' other periods are no more.
    """
    cells = sql.SQL(
        """
        select cell.kpi_id, cell.grain, cell.period_start,
            case when cell.dimensions = '{{}}' then '' else cell.dimensions::text end collate "C" as dimension_key,
            p.period_end, p.start_date, p.period, cell.dimensions, cell.components, cell.value, cell.value_json,
            cell.reason, kpi.version as definition_version
        from ({}) as cell
        inner join kpi_period as p using (grain, period_start)
        inner join kpi.kpi on kpi.kpi_id = cell.kpi_id
        where cell.kpi_id = any({}) and not p.is_gone and {}
        """
    ).format(
        sql.SQL(within_periods(connection, _query(connection, name))),
        sql.Literal(kpis),
        sql.SQL(unsealed(connection, "cell")),
    )
    parameters: dict[str, Any] = {
        "kpis": kpis, "as_of": clock.as_of, "load_id": clock.load_id, "is_full": is_full
    }  # fmt: skip
    connection.execute("drop table if exists kpi_cell, kpi_change")
    # Rows are sorted once for all aggregates, not all of them for the first, of which it takes a few.
    connection.execute(
        "select set_config(name, case name when 'work_mem' then '64MB' else 'off' end, true) from pg_settings"
        " where name in ('work_mem', 'enable_presorted_aggregate')"
    )
    # A table, because what is inserted at once is not computed in parallel.
    connection.execute(sql.SQL("create temp table kpi_cell on commit drop as {}").format(cells))
    standing = "select from kpi.period_value where kpi_id = any(%s) limit 1"
    if is_full and connection.execute(standing, [kpis]).fetchone() is None:
        return 0, connection.execute(f"{INSERT} table kpi_cell) as new".encode(), parameters).rowcount
    connection.execute("analyze kpi_cell")
    among = (
        "kpi_id = any(%(kpis)s)"
        if is_full
        else "(kpi_id, grain, period_start) in"
        " (select kpi_id, grain, period_start from kpi_period, unnest(%(kpis)s::text[]) as kpi_id)"
    )
    among += " and " + unsealed(connection, "period_value")
    # Both sides are laid side by side once, and what is the same is left alone.
    connection.execute(
        f"""
        create temp table kpi_change on commit drop as
        select coalesce(new.kpi_id, old.kpi_id) as kpi_id, coalesce(new.grain, old.grain) as grain,
            coalesce(new.period_start, old.period_start) as period_start,
            coalesce(new.dimension_key, old.dimension_key) as dimension_key,
            coalesce(new.period_end, old.period_end) as period_end, coalesce(new.period, old.period) as period,
            new.start_date, new.dimensions, new.components, new.value, new.value_json, new.reason,
            new.definition_version, old.value as old_value, old.value_json as old_json, old.computed_load_id,
            old.kpi_id is null as is_new, new.kpi_id is null as is_gone
        from kpi_cell as new
        full join (select * from kpi.period_value where {among}) as old
            on new.kpi_id = old.kpi_id and new.grain = old.grain and new.period_start = old.period_start
            and new.dimension_key = old.dimension_key
        where old.kpi_id is null or new.kpi_id is null or old.value is distinct from new.value
            or old.value_json is distinct from new.value_json or old.components is distinct from new.components
            or old.reason is distinct from new.reason
            or (%(is_full)s and old.definition_version <> new.definition_version)
        """.encode(),
        parameters,
    )
    _restate(connection, parameters)
    deleted = connection.execute(
        f"delete from kpi.period_value as old {SAME} and new.is_gone".encode()
    ).rowcount
    updated = connection.execute(
        f"""
        update kpi.period_value as old set
            period_end = new.period_end, components = new.components, value = new.value, value_json = new.value_json,
            reason = new.reason, definition_version = new.definition_version, computed_load_id = %(load_id)s
        {SAME.replace("using", "from")} and not new.is_new and not new.is_gone
        """.encode(),
        parameters,
    ).rowcount
    inserted = connection.execute(
        f"{INSERT} select * from kpi_change where is_new) as new".encode(), parameters
    ).rowcount
    return deleted + updated, inserted + updated


INSERT = """
    insert into kpi.period_value (kpi_id, grain, period_start, dimension_key, period_end, start_date, period,
        dimensions, components, value, value_json, reason, definition_version, computed_load_id)
    select kpi_id, grain, period_start, dimension_key, period_end, start_date, period, dimensions, components, value,
        value_json, reason, definition_version, %(load_id)s
    from ("""
SAME = """
    using kpi_change as new
    where new.kpi_id = old.kpi_id and new.grain = old.grain and new.period_start = old.period_start
        and new.dimension_key = old.dimension_key"""


def within_periods(connection: Connection, query: str) -> str:
    """A values model's query for what lies within the periods of `kpi_period` only, as literals the planner knows."""
    spans: dict[tuple[bool, str], list[tuple[str, str]]] = {}
    for is_date, span in (
        (False, "tstzrange(period_start, period_end)"),
        (True, "daterange(start_date, last_date + 1)"),
    ):
        for grain, start, end in connection.execute(
            f"""
            with span as (
                select grain, unnest(range_agg({span})) as span
                from kpi_period where period_start < period_end group by grain
            ),
            counted as (select *, count(*) over (partition by grain) > {FEW_SPANS} as is_many from span)
            select grain, min(lower(span))::text, max(upper(span))::text
            from counted group by grain, case when not is_many then span end order by 1, 2
            """.encode()
        ):
            spans.setdefault((is_date, str(grain)), []).append((str(start), str(end)))

    def condition(match: re.Match[str]) -> str:
        kind, grain, column = match.groups()
        suffix = "T00:00Z" if kind == "midnight" else ""
        ranges = [
            f"({column} >= '{start}{suffix}' and {column} < '{end}{suffix}')"
            for start, end in spans.get((kind != "instant", grain), [])
        ]
        return f"({' or '.join(ranges) or 'false'})"

    edges: dict[str, list[tuple[str, str]]] = {}
    for grain, at, day in connection.execute(
        # Where a period begins, and where what is of none does.
        "select grain, at::text, min(day)::text from ("
        "select grain, period_start as at, start_date as day from kpi_period"
        " union all select grain, period_end, last_date + 1 from kpi_period) as edges group by 1, at order by 1, at"
    ):
        edges.setdefault(str(grain), []).append((str(at), str(day)))

    def place(match: re.Match[str]) -> str:
        column, kind, grain = match.groups()
        found = edges.get(grain, [])
        if len(found) == 2:
            # Everything within is of the one period.
            return f"'{found[0][0]}'::timestamptz"
        starts = "'{" + ", ".join(f'"{at}"' for at, _ in found) + "}'::timestamptz[]"
        given = starts if kind == "instant" else "'{" + ", ".join(day for _, day in found) + "}'::date[]"
        return f"({starts})[width_bucket({column}, {given})]"

    return PLACE.sub(place, WITHIN.sub(condition, query))


# Closed as of the tick before: it had ended by more than what may come late, its feeds had been read past its end, and
# no occurrence in it was not due.
CLOSED = """
    tick.published_as_of >= {0}.period_end + (kpi.spec ->> 'allow_late')::integer * interval '1 second'
    and not exists (
        select from kpi.clock
        where kpi.spec -> 'clocks' ? clock.clock
            and (
                clock.read_at < {0}.period_end
                or (clock.open_from at time zone case when clock.is_date then 'UTC' else kpi.spec ->> 'timezone' end)
                    < ({0}.period_end at time zone (kpi.spec ->> 'timezone'))
            )
    )
"""


def _restate(connection: Connection, parameters: Mapping[str, Any]) -> None:
    """Journal the closed periods whose value changes, before it does."""
    connection.execute(
        f"""
        insert into kpi.restatement (kpi_id, grain, period_start, period, dimension_key, reported_value, reported_json,
            restated_value, restated_json, reported_at, restated_at, load_id, definition_version)
        select cell.kpi_id, cell.grain, cell.period_start, cell.period, cell.dimension_key, cell.old_value,
            cell.old_json, cell.value, cell.value_json, load.received_at, %(as_of)s::timestamptz, %(load_id)s,
            kpi.version
        from kpi_change as cell
        inner join kpi.kpi on kpi.kpi_id = cell.kpi_id
        cross join control.tick
        left join raw.load on load.load_id = cell.computed_load_id
        where (cell.old_value is distinct from cell.value or cell.old_json is distinct from cell.value_json)
            -- going back in time is none, and of a period without a value nothing was reported
            and tick.as_of >= tick.published_as_of
            and (not cell.is_new or exists (
                select from kpi.period_value as reported where reported.kpi_id = cell.kpi_id
                    and reported.grain = cell.grain and reported.period_start = cell.period_start
            ))
            and {CLOSED.format("cell")}
        """.encode(),
        parameters,
    )


def note_sealed(connection: Connection, kpis: Sequence[str], *, has_standing: bool = False) -> None:
    """Note in `kpi_sealed` which periods of the KPIs read an hour that was purged, by any window of theirs.

    Of those of `kpi_period`, out of which go those that are sealed for all of the KPIs; has_standing: and of those that
    have a value.
    """
    connection.execute(SEALED)
    connection.execute("truncate kpi_sealed")
    rows = connection.execute(
        """
        select kpi_id, spec ->> 'timezone', read
        from kpi.kpi cross join jsonb_array_elements(spec -> 'reads') as read
        where kpi_id = any(%s) and exists (
            select from control.purged_hour where relation = read ->> 'relation'
        )
        """,
        [list(kpis)],
    ).fetchall()
    for kpi_id, zone, read in rows:
        start, end = read_bounds(read, _literal(str(zone)))
        steps = " ".join(f"when '{grain}' then interval '{step}'" for grain, step in STEPS.items())
        standing = f"""
            union select grain, period_start, period_end, start_date,
                coalesce((start_date + case grain {steps} end)::date - 1, start_date)
            from kpi.period_value where kpi_id = %(kpi)s
        """
        connection.execute(
            f"""
            insert into kpi_sealed
            select %(kpi)s, grain, period_start
            from (
                select grain, period_start, period_end, start_date, last_date from kpi_period
                {standing if has_standing else ""}
            ) as period
            where exists (
                select from control.purged_hour
                where relation = %(relation)s and part = any(coalesce(%(parts)s::text[], array[part]) || ''::text)
                    and hour_at >= {start} and hour_at < {end}
            )
            """.encode(),
            {"kpi": kpi_id, "relation": read["relation"], "parts": read["parts"]},
        )
    if rows:
        connection.execute("analyze kpi_sealed")
        connection.execute(
            """
            delete from kpi_period using (
                select grain, period_start from kpi_sealed
                group by grain, period_start having count(distinct kpi_id) = %s
            ) as sealed
            where kpi_period.grain = sealed.grain and kpi_period.period_start = sealed.period_start
            """,
            [len(set(kpis))],
        )


def unsealed(connection: Connection, cells: str) -> str:
    """SQL condition: a cell (kpi_id, grain, period_start) is not in a sealed period."""
    if connection.execute("select from kpi_sealed limit 1").fetchone() is None:
        return "true"
    return (
        f"not exists (select from kpi_sealed as sealed where sealed.kpi_id = {cells}.kpi_id"
        f" and sealed.grain = {cells}.grain and sealed.period_start = {cells}.period_start)"
    )


def read_bounds(piece: Mapping[str, Any], zone: str) -> tuple[str, str]:
    """SQL of the instants from and before which a piece has its buckets, of a period's columns."""
    start = None
    if piece["days"] is not None:
        start = f"(last_date - {int(piece['days']) - 1})"
    elif piece["to_date"] is not None:
        start = f"date_trunc('{piece['to_date']}', last_date::timestamp)::date"
    if piece["is_date"]:
        first = f"({start or 'start_date'})::timestamp at time zone 'UTC'"
        end = "(last_date + 1)::timestamp at time zone 'UTC'"
    else:
        first = f"kpi.day_start({start}, {zone})" if start else "period_start"
        end = "period_end"
    return "timestamptz '-infinity'" if piece["is_snapshot"] else first, end


def forget(connection: Connection, is_rebuild: bool) -> list[Publication]:
    """Take out the states of what this tick purged, within its transaction: no period changes by that."""
    del is_rebuild
    gone: dict[str, list[str]] = {}
    for clock, bucket in connection.execute(
        """
        delete from kpi.touched using kpi.clock
        where touched.clock = clock.clock and exists (
            select from control.purged_hour
            where purged_hour.relation = clock.relation and hour_at = date_trunc('hour', bucket_at, 'UTC')
        )
        returning touched.clock, date_trunc('hour', bucket_at, 'UTC')::text
        """
    ):
        gone.setdefault(str(clock), []).append(str(bucket))
    if gone:
        for name, spec in connection.execute(
            "select name, spec from kpi.model where kind = 'state' and query <> ''"
        ).fetchall():
            hours = [hour for clock in spec["clocks"] for hour in gone.get(clock, [])]
            if hours:
                connection.execute(
                    sql.SQL(
                        "delete from {} using unnest(%s::timestamptz[]) as gone (hour_at)"
                        " where bucket_at >= hour_at and bucket_at < hour_at + interval '1 hour'"
                    ).format(sql.Identifier("kpi", str(name))),
                    [hours],
                )
    return []


def _clocks(connection: Connection, *, has_slos_changed: bool) -> None:
    """Note how far each clock's feeds have been read, and from when on something in it is not due."""
    feeds = "raw.feed_read"
    if connection.execute("select to_regclass(%s)", [feeds]).fetchone() == (None,):
        return
    connection.execute(
        """
        update kpi.clock set read_at = found.read_at
        from (
            select clock, case
                when cardinality(feeds) = 0 then (select as_of from control.tick)
                -- a feed that nothing was ever read of has nothing that could be waited for
                else coalesce(least(min(feed_read.began_at), (select as_of from control.tick)), '-infinity')
            end as read_at
            from kpi.clock left join raw.feed_read on feed_read.feed = any(clock.feeds)
            group by clock
        ) as found
        where found.clock = clock.clock and found.read_at is distinct from clock.read_at
        """
    )
    if not has_slos_changed:
        return
    for name, relation, column in connection.execute(
        "select clock, relation, time_column from kpi.clock where relation like 'marts.slo%'"
    ).fetchall():
        by = column if relation == "marts.slo_performance" else "business_date"
        connection.execute(
            sql.SQL(
                "update kpi.clock set open_from = found.open_from from (select coalesce(min({by})::timestamp"
                " at time zone 'UTC', 'infinity') as open_from"
                " from marts.slo_performance where outcome = 'not_due') as found"
                " where clock = {name} and clock.open_from is distinct from found.open_from"
            ).format(by=sql.Identifier(by), name=sql.Literal(name))
        )
