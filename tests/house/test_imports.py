"""What may be imported at start: a budget in modules, which no busy machine can break by being slow."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# Top-level packages whose import costs tenths of a second (sqlalchemy, holidays) or seconds (dbt, dagster).
HEAVY = {
    "alembic",
    "apprise",
    "dagster",
    "dagster_dbt",
    "dbt",
    "fsspec",
    "holidays",
    "numpy",
    "pandas",
    "pyarrow",
    "s3fs",
    "sqlalchemy",
}
# On call must load when the dbt project does not, and in a second.
HEAVY_FOR_SENSORS = {"alembic", "dagster_dbt", "dbt", "holidays", "numpy", "pandas", "pyarrow", "s3fs"}

LIST_MODULES = """
import json, sys
before = set(sys.modules)
{statements}
print(json.dumps(sorted(set(sys.modules) - before)))
"""

EVERY_MODULE_OF_SENSORS = """
import importlib, pkgutil, sensors
for module in pkgutil.walk_packages(sensors.__path__, "sensors."):
    importlib.import_module(module.name)
"""


def imported(statements: str) -> set[str]:
    """Names of the modules that these statements import in a fresh interpreter."""
    program = LIST_MODULES.format(statements=statements)
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    return set(json.loads(run.stdout.splitlines()[-1]))


def heavy(modules: set[str], ban: set[str]) -> list[str]:
    return sorted({module.partition(".")[0] for module in modules} & ban)


@pytest.mark.parametrize(
    "module", ["pipelines.cli", "pipelines.errors", "pipelines.logs", "pipelines.warehouse.settings"]
)
def test_the_command_line_imports_nothing_heavy(module: str) -> None:
    modules = imported(f"import {module}")
    assert heavy(modules, HEAVY) == []


def test_help_needs_nothing_heavy() -> None:
    """A `--help` that imports what its command will need is as slow as the command."""
    modules = imported(
        "import contextlib, io\n"
        "from pipelines.cli import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    main(['--help'])"
    )
    assert heavy(modules, HEAVY) == []


def test_sensors_import_no_dbt_and_no_pandas() -> None:
    modules = imported(EVERY_MODULE_OF_SENSORS)
    assert heavy(modules, HEAVY_FOR_SENSORS) == []
    assert "pipelines.definitions" not in modules


def test_the_location_on_call_needs_nothing_of_what_moves_the_data_on() -> None:
    modules = imported("import sensors.definitions")
    assert [name for name in modules if name.startswith("sensors.ticks")] == []
    assert "pipelines.transform.project" not in modules


def test_forecasts_need_numpy_and_no_dbt() -> None:
    modules = imported("import pipelines.forecasts.backtest")
    assert heavy(modules, HEAVY) == ["numpy"]
