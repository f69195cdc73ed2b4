"""Statuses of what came as OpenLineage events, before each tick.

Those that follow are appended as job statuses; those that do not follow any more, by what came later, are taken out.
What stands is a function of the events and of the catalog; a tick that died does no harm, since only what differs is
written.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipelines.logs import get_logger
from pipelines.warehouse.connect import connect
from pipelines.warehouse.loads import TakenOut, begin_load, standing, take_out
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    from datetime import date

    import psycopg

    from pipelines.slo.lineage.runs import Status

    Cursor = psycopg.Cursor[Any]

log = get_logger(__name__)

SOURCE = "openlineage"
REASON = "Its run says otherwise by what came since."
# Runs looked at together: bounds memory.
BATCH = 5_000


@dataclass
class _Differences:
    """Statuses that follow and do not stand, and rows of raw.job_status that stand and do not follow."""

    missing: list[Status] = field(default_factory=list)
    wrong: list[tuple[int, int, date]] = field(default_factory=list)
    """Load, seq, business date."""


def derive_statuses(settings: Settings) -> int:
    """Bring the job statuses that follow from events up to date; one load, and none when nothing differs.

    Returns the last load whose events were dealt with.
    """
    with connect(settings, "ingest") as connection, connection.cursor() as cursor:
        # Before the look: what is committed in between is not counted on.
        seen = _one(cursor, "select coalesce(max(load_id), 0) from raw.load")
        low = _one(cursor, "select published_high from control.tick")
        if not _is_something_new(cursor, low):
            return int(seen)
        connection.rollback()
        load_id = begin_load(cursor)
        found = _differences(cursor, low)
        if not found.missing and not found.wrong:
            connection.rollback()
            return load_id - 1
        _write(settings, cursor, load_id, found)
    log.info("statuses of runs", load=load_id, added=len(found.missing), taken_out=len(found.wrong))
    return load_id


def last_derived(settings: Settings, derived: int, high: int) -> int:
    """The last load up to `high` before which no events wait, nor a catalog; those up to `derived` were dealt with."""
    if high <= derived:
        return high
    with connect(settings, "ingest") as connection, connection.cursor() as cursor:
        return int(
            _one(
                cursor,
                "select coalesce(min(load_id) - 1, %s) from raw.load"
                " where load_id > %s and load_id <= %s and feed in ('openlineage', 'catalog')",
                high,
                derived,
                high,
            )
        )


def _one(cursor: Cursor, query: str, *parameters: object) -> Any:
    row = cursor.execute(query.encode(), parameters).fetchone()
    return row[0] if row else 0


def _is_something_new(cursor: Cursor, low: int) -> bool:
    """Whether events came or were taken out since the last tick, or the catalog changed below events."""
    return bool(
        _one(
            cursor,
            "select exists (select from raw.load where load_id > %s and feed = 'openlineage')"
            " or exists (select from raw.load where load_id > %s and feed = 'catalog')"
            " and exists (select from raw.openlineage_event)",
            low,
            low,
        )
    )


def _differences(cursor: Cursor, low: int) -> _Differences:
    from pipelines.slo.lineage.rules import rule_of, stored_rules
    from pipelines.slo.lineage.runs import statuses

    rules, before = stored_rules(cursor), stored_rules(cursor, low)
    changed = [name for name in rules.keys() | before.keys() if rules.get(name) != before.get(name)]
    asked = _asked(cursor, low, changed)
    found = _Differences()
    for start in range(0, len(asked), BATCH):
        run_ids = asked[start : start + BATCH]
        # Those above them are read with them, and are looked at on their own account only.
        of_all = statuses(_events(cursor, run_ids), rule_of(rules))
        wanted = set(run_ids)
        _compare(cursor, run_ids, {one for one in of_all if one.run_id in wanted}, found)
    found.missing.sort()
    return found


def _asked(cursor: Cursor, low: int, namespaces: Sequence[str]) -> list[str]:
    """Runs whose statuses may differ.

    Those that events came of, or were taken out, or whose namespace means something else now; and those below a run of
    which that may have changed the date.
    """
    cursor.execute(
        """
        with recursive touched as (
            select run_id, nominal_at, tag_date, parent_run_id, root_run_id, false as is_other
            from raw.openlineage_event where load_id > %(low)s
            union all
            select event.run_id, nominal_at, tag_date, parent_run_id, root_run_id, false
            from raw.unload as taken
            inner join raw.openlineage_event as event
                on taken.unloaded_load_id = event.load_id and event.seq >= taken.first_seq and event.seq < taken.end_seq
            where taken.load_id > %(low)s and taken.feed = 'openlineage'
            union all
            select run_id, nominal_at, tag_date, parent_run_id, root_run_id, true
            from raw.openlineage_event where namespace = any(%(namespaces)s)
        ),
        below as (
            select distinct run_id from touched
            where is_other or nominal_at is not null or tag_date is not null
                or parent_run_id is not null or root_run_id is not null
            union
            select child.run_id from below
            cross join lateral (
                select run_id from raw.openlineage_event where parent_run_id = below.run_id
                union all
                select run_id from raw.openlineage_event where root_run_id = below.run_id
            ) as child
        )
        select run_id from touched where run_id is not null
        union
        select run_id from below where run_id is not null
        order by run_id
        """,
        {"low": low, "namespaces": list(namespaces)},
    )
    return [str(run_id) for (run_id,) in cursor]


def _events(cursor: Cursor, run_ids: Sequence[str]) -> Iterator[Any]:
    """The events of these runs and of all above them, but for those that were taken out."""
    from pipelines.slo.lineage.runs import Event

    cursor.execute(
        f"""
        with recursive above as (
            select run_id collate "C" as run_id from unnest(%s::text[]) as given (run_id)
            union
            select up.run_id from above
            cross join lateral (
                select unnest(array[event.parent_run_id, event.root_run_id]) as run_id
                from raw.openlineage_event as event where event.run_id = above.run_id
            ) as up
            where up.run_id is not null
        )
        select run_id, namespace, job_id, state, event_at, nominal_at, tag_date, parent_run_id, root_run_id,
            is_streaming
        from above inner join raw.openlineage_event as event using (run_id)
        where {standing("event")}
        """,  # noqa: S608 - of constants
        [list(run_ids)],
    )
    return (Event(*row) for row in cursor)


def _compare(cursor: Cursor, run_ids: Sequence[str], follow: set[Status], found: _Differences) -> None:
    from pipelines.slo.lineage.runs import Status

    cursor.execute(
        f"""
        select run_id, namespace, job_id, application_id, status_at, status_code, business_date, business_date_rule,
            load_id, seq
        from raw.openlineage_status as status
        where run_id = any(%s) and (seq is null or {standing("status")})
        """,  # noqa: S608 - of constants
        [list(run_ids)],
    )
    known = set()
    for *values, load_id, seq in cursor:
        status = Status(*values)
        if seq is not None and (status not in follow or status in known):
            found.wrong.append((load_id, seq, status.business_date))
        else:
            # One that broke its contract is not told of again.
            known.add(status)
    found.missing += follow - known


def _write(settings: Settings, cursor: Cursor, load_id: int, found: _Differences) -> None:
    import pyarrow as pa

    from pipelines.landing.append import append_within
    from pipelines.landing.limits import Limits
    from pipelines.slo.job_status import JOB_STATUS
    from pipelines.warehouse.copy import copy_table

    parts = [
        TakenOut(old, f"{SOURCE} {first} to {last}", first, last + 1)
        for old, first, last in _spans(found.wrong)
    ]
    take_out(cursor, load_id, JOB_STATUS.name, parts, REASON, "duemark")
    rows = [
        {
            "application_id": one.application_id,
            "job_id": one.job_name,
            "status_code": one.code,
            "status_at": one.status_at,
            "business_date": one.business_date,
            "run_id": one.run_id,
        }
        for one in found.missing
    ]
    places = append_within(
        cursor,
        load_id,
        JOB_STATUS.name,
        rows,
        source=SOURCE,
        context=JOB_STATUS.context(settings),
        limits=Limits.of(settings),
        taken_out_months={day.replace(day=1) for *_, day in found.wrong},
    )
    seqs = dict(zip(places, itertools.count(), strict=False))
    copy_table(
        cursor,
        "raw.openlineage_status",
        pa.table(
            {
                "load_id": pa.array([load_id] * len(rows), pa.int64()),
                "seq": pa.array([seqs.get(place) for place in range(len(rows))], pa.int32()),
                "run_id": pa.array([one.run_id for one in found.missing], pa.string()),
                "namespace": pa.array([one.namespace for one in found.missing], pa.string()),
                "job_id": pa.array([one.job_name for one in found.missing], pa.string()),
                "application_id": pa.array([one.application_id for one in found.missing], pa.string()),
                "status_code": pa.array([one.code for one in found.missing], pa.string()),
                "status_at": pa.array([one.status_at for one in found.missing], pa.timestamp("us", "UTC")),
                "business_date": pa.array([one.business_date for one in found.missing], pa.date32()),
                "business_date_rule": pa.array([one.rule for one in found.missing], pa.string()),
            }
        ),
    )


def _spans(rows: Sequence[tuple[int, int, date]]) -> Iterator[tuple[int, int, int]]:
    """Load, first and last seq of rows that follow on each other."""
    keys = sorted({(load_id, seq) for load_id, seq, _ in rows})
    for (load_id, _), group in itertools.groupby(
        enumerate(keys), key=lambda pair: (pair[1][0], pair[1][1] - pair[0])
    ):
        seqs = [seq for _, (_, seq) in group]
        yield load_id, seqs[0], seqs[-1]
