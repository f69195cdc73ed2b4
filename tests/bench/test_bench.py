"""The bench runs, compares like with like, and fills its table; what it measures in small means nothing."""

from __future__ import annotations

import pytest

from bench.run import BENCHES, run
from bench.scale import QUICK
from bench.table import Row, section, sections, table, whole

# Others take minutes even in small. Of the three that are left out altogether, tests of `duemark up`, of metrics and of
# landing do the same steps.
QUICKEST = ["ingest", "catalog"]
NAMES = [name for name in BENCHES if name not in {"visible", "logs", "bombs"}]


@pytest.mark.parametrize(
    ("names", "judged"), [(QUICKEST, 3), pytest.param(NAMES, 23, marks=pytest.mark.deep)], ids=["some", "all"]
)
def test_quick_bench_fills_its_rows(names: list[str], judged: int) -> None:
    told: list[str] = []
    found, server_version = run(QUICK, names, told.append)
    assert list(found) == names
    rows = [row for part in found.values() for row in part]
    assert [line.removeprefix("measuring ") for line in told if line.startswith("measuring ")] == names
    assert all(found.values()), "every part has rows"
    assert len({row.what for row in rows}) == len(rows)
    # CPU comes in ticks of 10 ms, and little work may show as none.
    assert all(row.ours > 0 for row in rows if row.what.endswith("wall") or row.unit == "MB")
    assert sum(row.is_met is not None for row in rows) >= judged, "goals are judged"
    assert table(rows).row_count == len(rows)
    parts = {name: section(part, server_version) for name, part in found.items()}
    assert sections(whole(parts)) == parts
    assert sum(line.startswith("| ") for line in whole(parts).splitlines()) == len(rows) + len(parts)


def test_goal_limits_ratio_or_value() -> None:
    assert Row("a", 5.0, yardstick=2.0, goal=2.5).is_met is True
    assert Row("a", 5.1, yardstick=2.0, goal=2.5).is_met is False
    assert Row("a", 5.0, goal=4.0, limits="value").is_met is False
    assert Row("a", 900, "MB", 100, "of less", goal=1000, limits="value").is_met is True
    assert Row("a", 5.0).is_met is None
    assert Row("a", 5.0, yardstick=2.0, yardstick_is="that", goal=2.5).cells() == (
        "a", "5.00 s", "2.00 s, that", "2.50×", "≤ 2.5×", "yes",
    )  # fmt: skip
