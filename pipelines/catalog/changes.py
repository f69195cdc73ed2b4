"""What of a catalog was edited or went, in words for who did it: nothing there is an error, and all of it may be one.

A catalog is taken as its entries by kind and id, stored or read from files, and two of them are compared.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    from pipelines.catalog.read import Catalog

# By kind ("SLO", "job", "KPI") and id, what it says; of a kind that only has ids nothing.
Entries = Mapping[str, Mapping[str, Any]]

SLO, JOB, KPI = "SLO", "job", "KPI"
# A change that names hundreds is a new catalog, and nobody reads it to its end.
MOST_SAID = 10

STORED = """
select distinct on (kind, id) kind, id, spec, is_retired
from (
    select 'SLO' as kind, slo_id as id, spec, is_retired, load_id from catalog.slo_entry_version
    union all
    select 'job', application_id || '/' || job_id, spec, is_retired, load_id from catalog.job_version
) as version
where %(upto)s::bigint is null or load_id <= %(upto)s
order by kind, id, load_id desc
"""
NEWEST = """
select greatest(
    (select max(load_id) from catalog.slo_entry_version), (select max(load_id) from catalog.job_version), 0
)
"""


@dataclass(frozen=True)
class Change:
    """Of one entry: what became of it, and what to do when that was not meant."""

    message: str
    hint: str


def newest(settings: Settings) -> int:
    """The last load that changed an SLO or a job; 0 before the first. To ask this is cheap, with thousands too."""
    with connect(settings, "transform") as connection:
        row: Any = connection.execute(NEWEST).fetchone()
    return int(row[0])


def stored(settings: Settings, upto: int | None = None) -> dict[str, dict[str, Any]]:
    """SLOs and jobs as the warehouse has them, or had them after the load `upto`."""
    found: dict[str, dict[str, Any]] = {SLO: {}, JOB: {}}
    with connect(settings, "transform") as connection:
        rows = connection.execute(STORED, {"upto": upto}).fetchall()
    for kind, name, spec, is_retired in rows:
        if not is_retired:
            found[str(kind)][str(name)] = spec
    return found


def of_files(catalog: Catalog) -> dict[str, dict[str, Any]]:
    """SLOs, jobs and KPIs of a catalog that was read."""
    return {
        SLO: {
            slo_id: [json.loads(entry.canonical()) for entry in entries]
            for slo_id, entries in catalog.slos.items()
        },
        JOB: {
            "/".join(key): json.loads(job.canonical())
            | {"depends_on": [list(up) for up in sorted(catalog.upstream[key])]}
            for key, job in catalog.jobs.items()
        },
        KPI: dict.fromkeys(catalog.kpis),
    }


def gone(before: Entries, after: Entries) -> list[Change]:
    """What is in `before` and not in `after`, of the kinds that both have; with the one that it may be called now."""
    found = [
        _gone(kind, name, _renamed(name, entries, after[kind]))
        for kind, entries in before.items()
        for name in entries
        if kind in after and name not in after[kind]
    ]
    return _shortened(found)


def edited(settings: Settings, before: Entries, after: Entries) -> list[Change]:
    """SLOs that say something else in `after`, which is stored: from which date on, and how to have it so before."""
    slos = sorted(
        name for name, said in after[SLO].items() if name in before[SLO] and before[SLO][name] != said
    )
    if not slos:
        return []
    with connect(settings, "transform") as connection:
        rows = connection.execute(
            """
            select slo_id, min(applies_from)::text from catalog.slo_version
            where slo_id = any(%s) and not is_retired
                and load_id = (select max(load_id) from catalog.slo_version as o where o.slo_id = slo_version.slo_id)
            group by slo_id
            """,
            [slos],
        ).fetchall()
    since = {str(slo): str(day) for slo, day in rows}
    return _shortened([_edited(name, since[name]) for name in slos if name in since])


def _edited(slo: str, since: str) -> Change:
    return Change(
        f"the SLO `{slo}` was edited: it applies as it is now from business date {since} on, and dates before keep the"
        " promise that stood on them",
        f"to have it so before: duemark restate {slo} --from DATE",
    )


def _gone(kind: str, name: str, new: str | None) -> Change:
    message, meant, renamed = {
        SLO: (
            "nothing is promised of it any more, and past dates stay as they were judged",
            "if it ends, an entry with `effective_to` says by when",
            "past dates stay with the old id; keep it, or give `{}` an `effective_from`: both promise each date else",
        ),
        JOB: (
            "what it sends is unregistered from now on, and counts for nothing",
            "if it reports no more, nothing is to be done",
            "statuses are taken by the id that is sent: keep the old one until its scheduler sends `{}`",
        ),
        KPI: (
            "its values go with the next tick",
            "if it is not wanted any more, nothing is to be done",
            "`{}` is computed anew, over all periods; restatements stay with the old id",
        ),
    }[kind]
    hint = f"did you rename it to `{new}`? {renamed.format(new)}" if new else meant
    return Change(f"the {kind} `{name}` is not in the catalog any more: {message}", hint)


def _renamed(name: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """The new entry that says the same as this one did, else the one whose name is most like its."""
    new = [other for other in after if other not in before]
    said = _nameless(before[name])
    same = [other for other in new if said is not None and _nameless(after[other]) == said]
    return next(iter(same or get_close_matches(name, new, n=1, cutoff=0.6)), None)


def _nameless(said: Any) -> Any:
    if isinstance(said, list):
        return [_nameless(one) for one in said]
    return {key: value for key, value in said.items() if key not in {"id", "name"}} if said else None


def _shortened(changes: list[Change]) -> list[Change]:
    more = len(changes) - MOST_SAID
    return changes if more <= 0 else [*changes[:MOST_SAID], Change(f"so it is with {more} more", "")]


def lines(changes: list[Change]) -> Iterator[str]:
    """What is printed of them."""
    for change in changes:
        yield f"warning: {change.message}"
        if change.hint:
            yield f"    {change.hint}"
