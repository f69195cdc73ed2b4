"""What the board shows, asked of the marts: a few questions, however many KPIs and SLOs there are, in one snapshot."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.types.json import set_json_loads

from pipelines.board import ask, read_tracked
from pipelines.board.model import Board
from pipelines.board.read_kpis import KPI_MARTS, read_kpis
from pipelines.board.read_now import (
    read_applications,
    read_broken,
    read_late,
    read_silent,
    read_today,
    read_warnings,
)
from pipelines.board.tracked import JobKey, TrackedJob, TrackedSlo
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    from pipelines.board.ask import Connection


def read(settings: Settings, timezone: str | None = None) -> Board:
    """The board as of the last tick. `timezone` of everything but KPIs' pages; None: the zone of most SLOs."""
    # SLOs' names and objectives are the catalog's, which no analyst reads.
    with connect(settings, "operate") as connection:
        connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        connection.read_only = True
        set_json_loads(_loads, connection)
        return read_from(connection, timezone)


# One decoder: `json.loads` makes one for each value that is read.
_DECODER = json.JSONDecoder(parse_float=Decimal)


def _loads(text: str | bytes) -> Any:
    return _DECODER.decode(text if isinstance(text, str) else bytes(text).decode())


def read_from(connection: Connection, timezone: str | None = None) -> Board:
    """The same on a connection whose JSON numbers are Decimals."""
    if not ask.has(connection, "tick"):
        return Board(None, timezone or "UTC", has_kpis=False)
    has_kpis = ask.has(connection, *KPI_MARTS)
    tick = ask.rows(connection, "select as_of from marts.tick where as_of > '-infinity'")
    if not tick:
        return Board(None, timezone or "UTC", has_kpis=has_kpis)
    as_of: datetime = tick[0].as_of
    tracked = read_tracked.read_slos(connection, as_of)
    zone = timezone or usual_zone(tracked)
    names = {slo.id: slo.name for slo in tracked}
    late = tuple(read_late(connection))
    jobs = read_tracked.read_jobs(connection, as_of, tracked)
    return Board(
        as_of=as_of,
        timezone=zone,
        kpis=tuple(read_kpis(connection, as_of)) if has_kpis else (),
        has_kpis=has_kpis,
        late=(*late, *read_broken(connection, names, late)),
        silent=tuple(read_silent(connection)),
        today=tuple(read_today(connection, as_of, zone, names)),
        upstream=upstream_of(tracked, jobs),
        tracked=tracked,
        jobs=jobs,
        applications=tuple(read_applications(connection)),
        warnings=tuple(read_warnings(connection, has_kpis=has_kpis)),
    )


def usual_zone(slos: Iterable[TrackedSlo]) -> str:
    """The zone that most SLOs are promised in; UTC where there are none."""
    counts = Counter(slo.timezone for slo in slos if not slo.is_retired)
    return min(counts, key=lambda zone: (-counts[zone], zone), default="UTC")


def upstream_of(slos: Iterable[TrackedSlo], jobs: Iterable[TrackedJob]) -> dict[str, frozenset[str]]:
    """Of each SLO the next ones upstream: past jobs that no SLO promises."""
    own = {slo.id: {job.key for job in slo.jobs} for slo in slos}
    above = {job.key: job.upstream for job in jobs}
    promised: dict[JobKey, set[str]] = {}
    for slo_id, keys in own.items():
        for key in keys:
            promised.setdefault(key, set()).add(slo_id)
    found = {}
    for slo_id, keys in own.items():
        others: set[str] = set()
        seen, left = set(keys), list(keys)
        while left:
            for job in above.get(left.pop(), ()):
                if job in seen:
                    continue
                seen.add(job)
                if job in promised:
                    others |= promised[job]
                else:
                    left.append(job)
        found[slo_id] = frozenset(others - {slo_id})
    return found
