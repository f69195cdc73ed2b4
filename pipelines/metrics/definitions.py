"""The registered indicators into the warehouse: a changed one is a load, and computes its records again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pipelines.logs import get_logger
from pipelines.metrics.registry import registry
from pipelines.warehouse.connect import connect
from pipelines.warehouse.loads import begin_load, end_load
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    import psycopg

log = get_logger(__name__)


def store_indicators(settings: Settings) -> None:
    """Add a version of every indicator that is new, changed or gone.

    Raises DuemarkError where what is registered makes no sense.
    """
    wanted = {one.id: json.loads(one.canonical()) for one in registry().indicators}
    with connect(settings, "ingest") as connection, connection.cursor() as cursor:
        if not _changes(cursor, wanted):
            return
        connection.rollback()
        load_id = begin_load(cursor)
        changes = _changes(cursor, wanted)
        cursor.executemany(
            "insert into catalog.indicator_version (indicator_id, load_id, is_retired, spec) values (%s, %s, %s, %s)",
            [(number, load_id, is_retired, json.dumps(spec)) for number, is_retired, spec in changes],
        )
        end_load(cursor, load_id, "indicators", "registered", len(changes))
    log.info("indicators", load=load_id, changed=[number for number, _, _ in changes])


def _changes(cursor: psycopg.Cursor[Any], wanted: dict[int, Any]) -> list[tuple[int, bool, Any]]:
    """(id, is_retired, spec) of the versions to add."""
    standing: dict[int, tuple[bool, Any]] = {
        number: (is_retired, spec)
        for number, is_retired, spec in cursor.execute(
            "select distinct on (indicator_id) indicator_id, is_retired, spec from catalog.indicator_version"
            " order by indicator_id, load_id desc"
        )
    }
    changes = [
        (number, False, spec) for number, spec in wanted.items() if standing.get(number) != (False, spec)
    ]
    changes += [
        (number, True, spec)
        for number, (is_retired, spec) in standing.items()
        if number not in wanted and not is_retired
    ]
    return changes
