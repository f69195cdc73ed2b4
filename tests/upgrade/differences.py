"""Where marts are meant to be others than in a dump of an earlier version: the one place, with the reasons.

A change is made to the rows of the dump before they are compared. Whoever changes on purpose what a mart says of the
same facts adds an entry; whoever only adds a column need not.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from tests.upgrade.support import Row, Tables


@dataclass(frozen=True)
class Difference:
    """`then` makes of a row of the dump what the mart has to hold now: None where the row is gone.

    It is given all marts of the dump besides. A column that it takes out of a row (of every row) is not compared.
    `since`: the first migration whose dump has it as it is now; dumps before that one are concerned.
    """

    since: str
    mart: str
    why: str
    then: Callable[[Row, Tables], Row | None]


def without(*columns: str) -> Callable[[Row], Row]:
    """These columns are not compared."""
    return lambda row: {name: value for name, value in row.items() if name not in columns}


def but_for(*columns: str) -> Callable[[Row, Tables], Row]:
    """The same, of a row of any mart."""
    left = without(*columns)
    return lambda row, _: left(row)


def given_up(row: Row, marts: Tables) -> Row:
    """An occurrence of a dump as it stands now."""
    moment = given_up_at(row, marts)
    if moment is None:
        return row
    (zone,) = re.findall(r", due \S+ \S+ ([\w/+-]+)[.;,]", row["explanation"])
    local = moment.astimezone(ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M:%S")
    said = row["explanation"].replace("Overdue: ", f"Missed, given up at {local}: ")
    return {**row, "outcome": "missed", "explanation": said}


def given_up_at(row: Row, marts: Tables) -> datetime | None:
    """When an occurrence of a dump was given up; None: it was not."""
    if row["outcome"] != "overdue":
        return None
    due = datetime.fromisoformat(row["expected_end_at"])
    later = [
        (one["business_date"], datetime.fromisoformat(one["expected_end_at"]))
        for one in marts["slo_performance"]
        if one["slo_id"] == row["slo_id"] and one["business_date"] > row["business_date"]
    ]
    first = min((moment for day, moment in later if day == min(later)[0]), default=None)
    moment = min(due + timedelta(days=7), first or due + timedelta(days=7))
    return moment if moment < datetime.fromisoformat(marts["tick"][0]["as_of"]) else None


# What a forecast says, by mart.
FORECAST = {
    "slo_forecast": ("p10", "p50", "p80", "p90", "p95", "miss_probability", "is_at_risk", "rule"),
    "incident_forecast": ("p50", "p80", "miss_probability", "is_at_risk", "rule"),
    "slo_late": ("p50",),
    "forecast_score": (
        "loss_p50", "loss_p80", "covered", "precision", "recall", "lead_minutes", "false_alarm_count",
    ),
}  # fmt: skip

DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        since="0017",
        mart="kpi_value",
        why="Where there are rows, and none of them gives a value, the reason is `no values`; it said `no rows`."
        " Such rows are written anew by the upgrade's tick.",
        then=lambda row, _: without("reason", "computed_load_id")(row),
    ),
    *(
        Difference(
            since="0019",
            mart=mart,
            why="What is overdue is given up when the next business date of its SLO falls due, at most 7 days after its"
            " due time: it is `missed` then, and stands in slo_late no more.",
            then=then,
        )
        for mart, then in {
            "slo_performance": given_up,
            "incident_occurrence": given_up,
            "slo_late": lambda row, marts: row if given_up_at(row, marts) is None else None,
        }.items()
    ),
    *(
        Difference(
            since="0021",
            mart=mart,
            why="`explanation` says the cause of what is late; slo_late waits for it, and asks who answers for it.",
            then=but_for(*columns),
        )
        for mart, columns in {
            "slo_performance": ("explanation",),
            "incident_occurrence": ("explanation",),
            "slo_late": ("explanation", "waits_for", "owner"),
        }.items()
    ),
    *(
        Difference(
            since="0026",
            mart=mart,
            why="Past dates are also read as a curve, and quantiles averaged; since 0026 weightings count otherwise:"
            " other ends are forecast.",
            then=but_for(*columns),
        )
        for mart, columns in FORECAST.items()
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
        if revision < one.since and one.mart in wanted:
            wanted[one.mart] = [new for row in wanted[one.mart] if (new := one.then(row, marts)) is not None]
    return wanted
