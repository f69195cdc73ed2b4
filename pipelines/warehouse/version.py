"""Which schema the code knows and the database has, without the machinery of migrations."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import DuemarkError

if TYPE_CHECKING:
    import psycopg

FOLDER = Path(__file__).parent / "migrations" / "versions"
TABLE = "public.alembic_version"


class NewerDatabaseError(DuemarkError):
    """The database was upgraded by a newer version of Duemark."""


def known() -> list[str]:
    """Numbers of the migrations that the code has, in order; the last is the schema that it works with."""
    return sorted(path.name[1:5] for path in FOLDER.glob("v*.py"))


def present(connection: psycopg.Connection[Any]) -> list[str] | None:
    """What the database has run; None where it was never migrated, or `connection` may not know."""
    row = connection.execute("select has_table_privilege(to_regclass(%s), 'select')", [TABLE]).fetchone()
    if row is None or not row[0]:
        return None
    return [str(number) for (number,) in connection.execute("select version_num from public.alembic_version")]


def refuse_newer(numbers: Collection[str]) -> None:
    """Raise NewerDatabaseError where the database has run migrations that the code does not know."""
    mine = known()
    if newer := sorted(set(numbers) - set(mine)):
        raise NewerDatabaseError(
            f"The database was upgraded by a newer Duemark: its schema is {newer[-1]}, and this version knows up to"
            f" {mine[-1]}.",
            "Use the newer version, and restart what still runs of this one (`duemark up`, services); or restore the"
            " backup from before the upgrade. Nothing was changed.",
        )
