"""Incremental equals full: whatever the order of loads and ticks, and however ticks die."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.transform.support import KILL_POINTS, Warehouse, examples
from tests.transform.worlds import World, assert_as_judged, verdict, worlds


@dataclass(frozen=True)
class History:
    """Steps in order: a load (places of statuses), a tick, or a tick that dies at a point."""

    world: World
    steps: tuple[tuple[str, Any], ...]


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Every status is loaded at least once, alone or with others, before or after any moment of judging."""
    world = draw(worlds(max_statuses=16))
    places = draw(st.permutations(range(len(world.statuses))))
    cuts = sorted(draw(st.lists(st.integers(0, len(places)), max_size=4)))
    loads = [places[start:end] for start, end in zip([0, *cuts], [*cuts, len(places)], strict=True)]
    again = st.lists(st.sampled_from(places), max_size=4)
    steps: list[tuple[str, Any]] = [("load", [*load, *draw(again)]) for load in loads if load]
    for moment in reversed(world.moments[:-1]):
        step = draw(st.sampled_from(["tick", "tick", "tick", *KILL_POINTS]))
        # From the last moment back, each at a place not after the one before: moments stay in order.
        last = next((place for place, (_, value) in enumerate(steps) if isinstance(value, datetime)), len(steps))
        steps.insert(draw(st.integers(0, last)), (step, moment))
    return History(world, tuple(steps))


@examples(25)
@given(history=histories())
def test_any_history_gives_the_marts_of_one_build(deployed: Warehouse, history: History) -> None:
    world = history.world
    deployed.reset()
    deployed.write_catalog(world.documents)
    for step, value in history.steps:
        if step == "load":
            deployed.ingest(world.statuses[place] for place in value)
        elif step == "tick":
            deployed.tick(value)
        else:
            deployed.killed_tick(value, step)
    as_of = world.moments[-1]
    report = deployed.tick(as_of)
    assert not report.is_rebuild or report.low == 0
    grown = deployed.marts()

    deployed.tick(as_of, rebuild=True)
    assert grown == deployed.marts(), "a rebuild of the same warehouse differs"

    deployed.reset()
    deployed.ingest(world.statuses)
    deployed.tick(as_of)
    assert grown == deployed.marts(), "a new warehouse differs"
    assert_as_judged(grown, verdict(deployed.settings.catalog, world.statuses, as_of))
