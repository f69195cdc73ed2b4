"""`make test-dates` moves the clock of all that a test starts: Python's, and the server's."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from pipelines.warehouse.settings import ROOT
from tests.dates.run import MOMENTS, Moment, environment, library, main

PRELOAD = library()
CHILD = """
import sys
from datetime import UTC, datetime
from pathlib import Path
import psycopg
from pipelines.warehouse import embedded
from pipelines.warehouse.connect import with_database
home = Path(sys.argv[1])
try:
    with psycopg.connect(with_database(embedded.start(home), "postgres")) as connection:
        print(datetime.now(UTC).isoformat())
        print(connection.execute("select clock_timestamp()").fetchone()[0].isoformat())
finally:
    embedded.stop(home)
"""


@pytest.mark.skipif(PRELOAD is None, reason="no libfaketime by which programs can sleep is installed")
def test_it_is_that_moment_for_python_and_for_the_server(tmp_path: Path) -> None:
    assert PRELOAD is not None
    moment = next(one for one in MOMENTS if one.name == "leap-day")
    result = subprocess.run(
        [sys.executable, "-c", CHILD, str(tmp_path / "home")],
        env={**environment(moment, PRELOAD), "PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    ours, servers = (datetime.fromisoformat(line) for line in result.stdout.split())
    assert ours.astimezone(UTC).date() == servers.astimezone(UTC).date() == moment.at.date()
    assert abs(servers - ours) < timedelta(hours=1)


def test_each_moment_is_what_it_is_called() -> None:
    at = {moment.name: moment for moment in MOMENTS}
    assert at["saturday"].at.weekday() == 5
    assert (at["leap-day"].at.month, at["leap-day"].at.day) == (2, 29)
    assert at["first-of-month"].at.day == 1
    for name in ("new-york-spring", "new-york-autumn", "berlin-spring", "berlin-autumn"):
        assert offset(at[name], timedelta()) != offset(at[name], timedelta(minutes=10)), name


def offset(moment: Moment, later: timedelta) -> timedelta | None:
    return (moment.at + later).astimezone(ZoneInfo(moment.zone)).utcoffset()


def test_a_moment_that_there_is_not(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["run", "doomsday"])
    assert main() == 2
    assert "There is no moment doomsday: saturday, leap-day" in capsys.readouterr().out
