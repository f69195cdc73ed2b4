"""What columns a table of another database has, from the copy that stands or from the database itself."""

from __future__ import annotations

import os
import time

from pipelines.catalog.kpis import Database
from pipelines.copies.kept import noted
from pipelines.copies.source import CopyError, columns_of, opened
from pipelines.copies.state import said
from pipelines.warehouse import homes
from pipelines.warehouse.homes import Slot
from pipelines.warehouse.settings import Settings

# A database that did not answer a question about its columns is not asked again at once.
_FORGET = 30.0
DOWN: Slot[dict[str, tuple[float, str]]] = Slot(lambda _: {})


def known_columns(
    settings: Settings, database: Database, table: str, *, ask: bool = True
) -> dict[str, str] | str:
    """Columns of a table of another database with the types of its copy; a text says why nobody can tell now.

    Of the copies that this home has made; else, with `ask`, of the database itself.
    """
    found = noted(settings).get(database.relation(table))
    if found is not None:
        return dict(found)
    if not ask:
        return "nothing was copied of it yet"
    down = homes.of(settings).get(DOWN)
    since, reason = down.get(database.id, (0.0, ""))
    if since > time.monotonic() - _FORGET:
        return reason
    try:
        with opened(settings, database) as engine:
            return columns_of(engine, database, table)
    except CopyError as error:
        return said(error)
    except Exception as error:  # noqa: BLE001 # whatever a driver raises, it could not be asked
        reason = said(error)
        if not os.environ.get(database.url_env):
            reason = (
                f"{database.url_env} is not set, and the warehouse's server has no {database.database} now"
            )
        down[database.id] = (time.monotonic(), reason)
        return reason
