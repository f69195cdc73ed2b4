"""KPIs that are made of themselves, by way of others or not."""

from __future__ import annotations

from collections.abc import Mapping

from pipelines.kpi.definitions.known import Known


def cycles(known: Known) -> set[str]:
    """KPIs that use themselves, by way of others or not; a problem for each cycle."""
    uses: dict[str, dict[str, str]] = {
        kpi_id: {
            variable.kpi: name
            for name, variable in (item.model.formula.variables.items() if item.model else ())
            if variable.kpi is not None
        }
        for kpi_id, item in known.by_id.items()
    }
    bad: set[str] = set()
    for start in sorted(uses):
        path = _way_back(uses, start)
        if path is None:
            continue
        if not set(path) & bad or start == min(path):
            name = uses[start][path[1 % len(path)]]
            message = f"KPIs that are made of each other: {' → '.join((*path, start))}"
            hint = "an arrow points to what the KPI is made of; take one of them from a source"
            if start == min(path):
                at = ("formula", "variables", name, "kpi")
                known.problems.append(known.by_id[start].problem(at, message, hint))
        bad.update(path)
    # What is made of them cannot be resolved either, and is not to blame.
    grew = True
    while grew:
        more = {kpi_id for kpi_id, used in uses.items() if set(used) & bad} - bad
        bad |= more
        grew = bool(more)
    return bad


def _way_back(uses: Mapping[str, Mapping[str, str]], start: str) -> list[str] | None:
    """The shortest way from `start` along what is used back to it, without its end; None where there is none."""
    ways = [[start]]
    seen: set[str] = set()
    for way in ways:
        for following in sorted(uses.get(way[-1], ())):
            if following == start:
                return way
            if following not in seen:
                seen.add(following)
                ways.append([*way, following])
    return None
