"""The marts say what the oracle says, of any statuses."""

from __future__ import annotations

from hypothesis import given

from tests.transform.support import Warehouse, examples
from tests.transform.worlds import World, assert_as_judged, verdict, worlds


@examples(60)
@given(world=worlds())
def test_the_marts_say_what_the_oracle_says(deployed: Warehouse, world: World) -> None:
    deployed.reset()
    deployed.write_catalog(world.documents)
    report = deployed.ingest(world.statuses)
    assert report.files[0].record_count == len(world.statuses)
    as_of = world.moments[-1]
    deployed.tick(as_of)
    assert_as_judged(deployed.marts(), verdict(deployed.settings.catalog, world.statuses, as_of))
