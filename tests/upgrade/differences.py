"""Where marts are meant to be others than in a dump of an earlier version: the one place, with the reasons.

A change is made to the rows of the dump before they are compared. Whoever changes on purpose what a mart says of the
same facts adds an entry; whoever only adds a column need not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.upgrade.support import Row, Tables


@dataclass(frozen=True)
class Difference:
    """`then` makes of a row of the dump what the mart has to hold now: None where the row is gone.

    A column that it takes out of a row (of every row) is not compared. `since`: the first migration whose dump has it
    as it is now; dumps before that one are concerned.
    """

    since: str
    mart: str
    why: str
    then: Callable[[Row], Row | None]


def without(*columns: str) -> Callable[[Row], Row]:
    """These columns are not compared."""
    return lambda row: {name: value for name, value in row.items() if name not in columns}


DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        since="0017",
        mart="kpi_value",
        why="Where there are rows, and none of them gives a value, the reason is `no values`; it said `no rows`."
        " Such rows are written anew by the upgrade's tick.",
        then=without("reason", "computed_load_id"),
    ),
)

# What tells when a tick ran, and whether it had to plan before it judged, not what of.
_OF_THE_MOMENT = {"tick": without("published_at", "high")}


def of_facts(marts: Tables) -> Tables:
    """Marts less what depends on nothing but the moment at which a tick ran."""
    return {
        mart: [_OF_THE_MOMENT[mart](row) for row in rows] if mart in _OF_THE_MOMENT else rows
        for mart, rows in marts.items()
    }


def expected(revision: str, marts: Tables) -> Tables:
    """What the marts of the dump `revision` have to hold after the upgrade."""
    wanted = of_facts(marts)
    for one in DIFFERENCES:
        if revision < one.since:
            wanted[one.mart] = [new for row in wanted[one.mart] if (new := one.then(row)) is not None]
    return wanted
