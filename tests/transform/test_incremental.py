"""Incremental equals full: whatever the order of loads and ticks, and however ticks die."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.catalog.exceptions import waive
from pipelines.catalog.models import Excepted
from pipelines.catalog.store import store_catalog
from pipelines.landing.unload import unload
from pipelines.transform.deploy import deploy
from pipelines.transform.project import Project
from pipelines.warehouse.settings import Settings
from tests.transform.support import KILL_POINTS, Status, Warehouse, examples
from tests.transform.test_golden import CATALOG, CHARGE, HEADER
from tests.transform.worlds import World, assert_as_judged, verdict, worlds


@dataclass(frozen=True)
class History:
    """Steps in order: a load (places of statuses), a tick, one that dies at a point, an unload (which of the loads).

    Or other exceptions in the files (places), or one by command (its place).
    """

    world: World
    steps: tuple[tuple[str, Any], ...]


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Every status is loaded at least once, alone or with others, before or after any moment of judging."""
    world = draw(worlds(max_statuses=16))
    chance = Random(f"steps {draw(st.integers(0, 2**32 - 1))}")
    places = chance.sample(range(len(world.statuses)), len(world.statuses))
    cuts = sorted(chance.sample(range(1, len(places)), chance.randint(1, 4)))
    loads = [places[start:end] for start, end in zip([0, *cuts], [*cuts, len(places)], strict=True)]
    loads_left = iter([("load", [*load, *chance.choices(places, k=chance.randint(0, 2))]) for load in loads])
    kinds = ["tick", "tick", "tick", "tick", *KILL_POINTS]
    moments_left = iter([(chance.choice(kinds), moment) for moment in world.moments[:-1]])
    # Loads and moments each keep their order; how they meet is drawn.
    turns = [True] * len(loads) + [False] * (len(world.moments) - 1)
    chance.shuffle(turns)
    steps = [next(loads_left if turn else moments_left) for turn in turns]
    # Some of the loads are taken out again, and may be landed once more.
    for _ in range(chance.choice([0, 0, 1, 2])):
        place = chance.randint(1, len(steps))
        steps.insert(place, ("unload", chance.randint(0, 9)))
        if chance.random() < 0.3:
            again = [step for step in steps[:place] if step[0] == "load"]
            steps[place + 1 :] += [chance.choice(again)] if again else []
    # Other exceptions in the files, and some by command.
    some = range(len(world.exceptions))
    for _ in range(chance.choice([0, 1, 2])):
        chosen = chance.sample(some, chance.randint(0, len(some)))
        steps.insert(chance.randint(0, len(steps)), ("except", chosen))
    for place in chance.sample(some, chance.choice([0, 0, 1, 2])):
        steps.insert(chance.randint(0, len(steps)), ("waive", place))
    return History(world, tuple(steps))


@examples(6)
@given(history=histories())
def test_any_history_gives_the_marts_of_one_build(deployed: Warehouse, history: History) -> None:
    world = history.world
    deployed.reset()
    deployed.store_catalog(world.documents)
    standing: dict[int, list[Status]] = {}
    waived: list[Excepted] = []
    for step, value in history.steps:
        if step == "load":
            part = [world.statuses[place] for place in value]
            load_id = deployed.ingest(part).files[0].load_id
            assert load_id is not None
            standing[load_id] = part
        elif step == "unload":
            if standing:
                load_id = sorted(standing)[value % len(standing)]
                unload(deployed.settings, str(load_id), "a test")
                del standing[load_id]
        elif step == "except":
            chosen = [world.exceptions[place] for place in value]
            deployed.write_catalog({**world.documents, "exceptions": chosen})
        elif step == "waive":
            one = Excepted.model_validate(world.exceptions[value])
            if one.slo is not None:
                waive(deployed.settings, one)
                waived.append(one)
        elif step == "tick":
            deployed.tick(value)
        else:
            deployed.killed_tick(value, step)
    as_of = world.moments[-1]
    report = deployed.tick(as_of)
    assert not report.is_rebuild or report.low == 0
    grown, expected = deployed.marts(), deployed.forecasts()

    deployed.tick(as_of, rebuild=True)
    assert grown == deployed.marts(), "a rebuild of the same warehouse differs"
    assert expected == deployed.forecasts(), "forecasts of a rebuild differ"

    deployed.reset()
    statuses = [status for part in standing.values() for status in part]
    deployed.ingest(statuses)
    if waived:
        store_catalog(deployed.settings)
    for one in waived:
        waive(deployed.settings, one)
    deployed.tick(as_of)
    assert grown == deployed.marts(), "a new warehouse differs"
    assert expected == deployed.forecasts(), "forecasts of a new warehouse differ"
    assert_as_judged(grown, verdict(deployed.settings.catalog, statuses, as_of, waived=waived))


@pytest.mark.parametrize("way", ["a new database", "deployed again"])
def test_a_warehouse_that_grew_is_the_same_as_one_made_anew(
    warehouse: Warehouse, settings: Settings, way: str
) -> None:
    warehouse.store_catalog(CATALOG)
    statuses = [
        ("", 1, "START"),
        ("", 2, "FAIL"),
        ("r2", 2, "START"),
        ("r2", 4, "SUCCEED"),
        ("r2", 1, "FAIL"),
    ]
    lines = [CHARGE.format(code, f"0{hour}:00:00", f"{run},h{hour}") for run, hour, code in statuses]
    for number, line in enumerate(lines):
        warehouse.ingest(HEADER + line)
        warehouse.tick(f"2026-03-03 {number + 6:02}:30")
    grown = warehouse.marts()
    as_of = f"2026-03-03 {len(lines) + 5:02}:30"
    if way == "a new database":
        theirs = replace(settings, catalog=warehouse.settings.catalog)
        new = Warehouse(theirs, Project(theirs))
        new.ingest(HEADER + "".join(reversed(lines)))
        new.tick(as_of)
        assert new.marts() == grown
    else:
        assert not deploy(warehouse.project), "the project that was deployed"
        assert deploy(warehouse.project, force=True)
        assert warehouse.marts()["slo_performance"] == []
        assert warehouse.tick(as_of).is_rebuild
        assert warehouse.marts() == grown
