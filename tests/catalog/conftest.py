"""A small catalog without a fault, to be spoiled one file at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest

Write = Callable[..., Path]

SOUND = {
    "applications/bank.yml": """\
        applications:
          - id: overdrafts
            timezone: America/New_York
          - id: deposits
            timezone: America/New_York
        """,
    "calendars/bank.yml": """\
        calendars:
          - id: every_day
            weekdays: [mon, tue, wed, thu, fri, sat, sun]
        """,
    "jobs/bank.yml": """\
        jobs:
          - id: charge
            application: overdrafts
          - id: summarize
            application: deposits
            depends_on: [overdrafts/charge]
        """,
    "slos/bank.yml": """\
        slos:
          - id: charges
            application: overdrafts
            calendar: every_day
            jobs:
              - {job: charge, start: "00:30", end: "03:00", day_offset: 1}
        """,
}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a catalog: the sound one, with the files given in place of or beside its own."""

    def _write(files: dict[str, str] | None = None, *, sound: bool = True) -> Path:
        folder = tmp_path / "catalog"
        for name, text in {**(SOUND if sound else {}), **(files or {})}.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(text), encoding="utf-8")
        folder.mkdir(exist_ok=True)
        return folder

    return _write
