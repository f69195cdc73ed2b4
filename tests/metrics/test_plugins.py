"""Inputs, indicators and KPIs from outside the package, and what becomes of those that fail."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import DuemarkError
from pipelines.metrics import registry
from pipelines.metrics.registry import Indicator, Input, checked
from tests.metrics.conftest import Server
from tests.metrics.support import START, line

FAILURES = '''
import pyarrow as pa

from pipelines.metrics.facts import Facts
from pipelines.metrics.registry import Indicator, Input


def failures(lines):
    """Answers of 500 and more, by host."""
    where = lines.statuses >= 500
    hosts = pa.array(lines.hosts).take(pa.array(lines.host_codes[where]))
    return Facts(lines.minutes[where], hosts)


INPUTS = [Input("server_failure", "metric_log", failures)]
INDICATORS = [Indicator({number}, "ServerFailures", ("server_failure",), "{value}", is_by_dimension=True)]
'''

# The whole of what a KPI takes: a file in the catalog.
KPI = """
kpis:
  - id: server-failures
    number: 2501
    name: Server failures
    description: Answers of 500 and more, by host.
    category: performance
    owner: team:platform
    unit: answers
    formula:
      type: simple
      expression: failures
      variables:
        failures:
          source: {table: marts.indicator_record, column: value, aggregation: sum}
          time_column: hour_at
          dimensions: {host: dimension}
    filters: [indicator_id = 1501]
    aggregations: [hour, day]
    dimensions: [host]
    schedule: {timezone: UTC}
    thresholds: {warning: 5, direction: higher}
"""

BROKEN = """
from pipelines.metrics.registry import Input


def broken(lines):
    if 418 in lines.statuses:
        raise KeyError("no tea: " + lines.uris[0].as_py())


INPUTS = [Input("broken", "metric_log", broken)]
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Install a module, and name it in the environment in place of those before."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(name: str, source: str) -> None:
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.setenv("DUEMARK_PLUGINS", name)

    return install


def formatted(value: str, number: int = 1501) -> str:
    return FAILURES.replace("{number}", str(number)).replace("{value}", value)


def test_an_input_and_an_indicator_from_outside(server: Server, plugin: Callable[[str, str], None]) -> None:
    server.log([line(ts=START, host="forms.example:80", uri="/a")])
    server.ingest()
    server.tick("2026-03-02 10:00")
    plugin("outside_one", formatted("sum(amount)"))
    lines = [line(ts=START + 60 * n, host="forms.example:80", uri="/a", status=500 + n % 2) for n in range(7)]
    server.log([*lines, line(ts=START + 3600, host="elsewhere.example", status=503)])
    server.ingest()
    server.tick("2026-03-02 10:01")
    assert server.values(1501) == {
        ("2026-03-02T08", "forms.example"): 7,
        ("2026-03-02T09", "elsewhere.example"): 1,
    }
    assert server.values(1006) == {("2026-03-02T08", "Forms"): 10}

    # A definition that changes computes again what is there, and says so.
    plugin("outside_two", formatted("max(amount) * 10"))
    server.tick("2026-03-02 10:03")
    assert server.values(1501) == {
        ("2026-03-02T08", "forms.example"): 10,
        ("2026-03-02T09", "elsewhere.example"): 10,
    }
    (row,) = server.warehouse.query("select * from marts.indicator where indicator_id = 1501")
    assert (row["name"], row["value"], row["inputs"]) == (
        "ServerFailures",
        "max(amount) * 10",
        ["server_failure"],
    )
    table = server.records()
    server.tick("2026-03-02 10:03", rebuild=True)
    assert server.records().equals(table)


def test_an_input_an_indicator_and_a_kpi_from_outside(
    server: Server, plugin: Callable[[str, str], None]
) -> None:
    plugin("outside_six", formatted("sum(amount)"))
    path = server.warehouse.settings.catalog / "kpis" / "outside.yml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(KPI, "utf-8")

    def values(grain: str) -> dict[tuple[str, str], tuple[int, Any]]:
        rows = server.warehouse.query(
            "select * from marts.kpi_value where kpi_id = 'server-failures' and grain = %s", grain
        )
        assert {row["kpi_number"] for row in rows} <= {2501}
        return {
            (row["period"], row["dimensions"].get("host", "")): (int(row["value"]), row["status"])
            for row in rows
        }

    try:
        lines = [line(ts=START + 60 * n, host="forms.example:80", status=500 + n % 2) for n in range(7)]
        server.log([*lines, line(ts=START + 3600, host="elsewhere.example", status=503), line(host="quiet")])
        server.ingest()
        server.tick("2026-03-04 10:00")
        assert values("day") == {
            ("2026-03-02", ""): (8, "warning"),
            ("2026-03-02", "forms.example"): (7, "warning"),
            ("2026-03-02", "elsewhere.example"): (1, "ok"),
        }
        # A late line is told of at every grain, and in no other hour.
        before = values("hour")
        server.log([line(ts=START + 3660, host="elsewhere.example", status=500)], "late.json")
        server.ingest()
        server.tick("2026-03-04 10:01")
        changed = {key: value for key, value in values("hour").items() if before[key] != value}
        assert changed == {
            ("2026-03-02T09+00:00", ""): (2, "ok"),
            ("2026-03-02T09+00:00", "elsewhere.example"): (2, "ok"),
        }
        assert values("day")["2026-03-02", ""] == (9, "warning")
        found = values("day"), values("hour")
        server.tick("2026-03-04 10:01", rebuild=True)
        assert (values("day"), values("hour")) == found
    finally:
        path.unlink()
    server.tick("2026-03-04 10:02")
    assert values("day") == {}


def test_an_indicator_that_is_gone_has_no_records(
    server: Server, plugin: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin("outside_three", formatted("sum(amount)"))
    server.log([line(status=500)])
    server.ingest()
    server.tick("2026-03-02 10:00")
    assert len(server.values(1501)) == 1
    monkeypatch.delenv("DUEMARK_PLUGINS")
    server.tick("2026-03-02 10:01")
    assert server.values(1501) == {}
    assert len(server.values(1006)) == 1


def test_an_indicator_that_fails_stops_no_other(server: Server, plugin: Callable[[str, str], None]) -> None:
    plugin("outside_four", formatted("sum(amount) / (count(*) - 1)"))
    server.log([line(status=500)])
    server.ingest()
    server.tick("2026-03-02 10:00")
    assert server.values(1501) == {}
    assert server.values(1001) == {("2026-03-02T08", "Wiki"): 1}
    (row,) = server.warehouse.query("select failure from marts.indicator where indicator_id = 1501")
    assert row["failure"] == "division by zero"
    (told,) = server.warehouse.query("select * from marts.rejected_record where feed = 'indicator'")
    assert told["path"] == "indicator 1501"
    assert told["reasons"].startswith("The indicator could not be computed: division by zero.")


def test_an_input_that_fails_rejects_its_lines_and_stops_no_other(
    server: Server, plugin: Callable[[str, str], None]
) -> None:
    plugin("outside_five", BROKEN)
    lines = [
        line(ts=START + n, uri=f"/content/wiki_en/secret-{n}?q", status=418 if n == 3 else 200)
        for n in range(9)
    ]
    server.log(lines)
    (outcome,) = server.ingest().files
    assert (outcome.record_count, outcome.rejected_count) == (9, 1)
    server.tick("2026-03-02 10:00")
    assert server.values(1006) == {("2026-03-02T08", "Wiki"): 10}
    (told,) = server.warehouse.query("select * from marts.rejected_record")
    assert told["line_no"] == 4
    assert told["reasons"] == "The input broken failed: KeyError. (Mend it; other inputs went on.)"
    assert "no tea" not in str(told)


def test_a_plugin_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUEMARK_PLUGINS", "nowhere.to_be_found")
    with pytest.raises(DuemarkError) as caught:
        registry.registry()
    assert caught.value.message.startswith(
        "DUEMARK_PLUGINS names 'nowhere.to_be_found', which cannot be imported: "
    )
    assert caught.value.hint == "Install it where Duemark runs, or take its name out."


def nothing(_: Any) -> None:
    return None


ONE = Input("one", "metric_log", nothing)
GOOD = Indicator(1500, "Good", ("one",), "sum(amount)")


@pytest.mark.parametrize(
    ("inputs", "indicators", "message"),
    [
        ([ONE, ONE], [], "Two inputs are called 'one'."),
        ([ONE], [GOOD, Indicator(1500, "Other", ("one",), "1")], "Two indicators have the id 1500."),
        ([ONE], [GOOD, Indicator(1501, "Good", ("one",), "1")], "Two indicators are called 'Good'."),
        ([ONE], [Indicator(1000, "Low", ("one",), "1")], "The indicator 'Low' has the id 1000."),
        ([ONE], [Indicator(2001, "High", ("one",), "1")], "The indicator 'High' has the id 2001."),
        (
            [ONE],
            [Indicator(1501, "Odd", ("two",), "1")],
            "The indicator 'Odd' has the input 'two', which nothing gives.",
        ),
        ([ONE], [Indicator(1501, "Odd", (), "1")], "The indicator 'Odd' has no input."),
    ],
)
def test_what_is_registered_has_to_make_sense(
    inputs: list[Input], indicators: list[Indicator], message: str
) -> None:
    with pytest.raises(DuemarkError) as caught:
        checked(inputs, indicators)
    assert caught.value.message == message


def test_ours_are_those_of_the_rules() -> None:
    assert {each.id: each.name for each in registry.registry().indicators} == {
        1001: "PackageHomeVisit",
        1003: "SharedFilesOperations",
        1004: "Uptime",
        1005: "TotalUsageOverall",
        1006: "TotalUsageByPackage",
    }
