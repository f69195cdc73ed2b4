"""The marts, and the function for any two clocks, say what the oracle says, of any statuses."""

from __future__ import annotations

from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from tests.oracle import Verdict
from tests.transform.support import Row, Status, Warehouse, examples
from tests.transform.worlds import World, assert_as_judged, assert_same, verdict, worlds


@examples(12)
@given(world=worlds(), cut=st.integers(0, 24))
def test_the_marts_say_what_the_oracle_says(deployed: Warehouse, world: World, cut: int) -> None:
    deployed.reset()
    catalog = deployed.settings.catalog
    deployed.store_catalog(world.documents)
    statuses: list[Status] = []
    for part in (world.statuses[:cut], world.statuses[cut:]):
        report = deployed.ingest(part)
        received = deployed.query("select max(received_at) as at from raw.load")[0]["at"]
        statuses += [{**status, "received_at": received} for status in part]
        assert report.files[0].record_count == len(part)
    as_of = world.moments[-1]
    deployed.tick(as_of)
    assert_as_judged(deployed.marts(), verdict(catalog, statuses, as_of))

    for moment in {world.moments[0], as_of}:
        for known_at in sorted({status["received_at"] for status in statuses}):
            found = deployed.query("select * from marts.slo_performance_at(%s, %s)", moment, known_at)
            assert_same(found, _running(verdict(catalog, statuses, moment, known_at), moment))


def _running(judged: Verdict, as_of: datetime) -> list[Row]:
    """As the function tells it: lateness runs while an occurrence is overdue."""
    return [
        {**row, "late_by": as_of - row["expected_end_at"] if row["outcome"] == "overdue" else row["late_by"]}
        for row in judged.slo_performance
    ]
