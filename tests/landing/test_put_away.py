"""Files that are loaded: asked for once, and taken out of the landing folder where that is wanted."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.errors import DuemarkError
from pipelines.landing import ledger
from pipelines.landing.ingest import ingest
from pipelines.landing.ledger import pending
from pipelines.landing.limits import Limits
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

HEADER = "application_id,job_id,status_code,status_at,business_date,run_id,host_id\n"
LINE = "deposits,load,START,2026-03-02T00:31:07-05:00,2026-03-01,%s,h1\n"

Query = Callable[..., list[tuple[Any, ...]]]
Drop = Callable[..., Path]


def below(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


@pytest.mark.parametrize("how", ["archive", "delete"])
def test_what_is_loaded_goes_and_nothing_else(
    settings: Settings, drop: Drop, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    folder = drop("a.csv", HEADER + LINE % "r1").parent
    (folder / "2026").mkdir()
    drop("2026/b.csv", HEADER + LINE % "r2")
    os.utime(drop("twin.csv", HEADER + LINE % "r1"), (2_000_000_000, 2_000_000_000))
    drop("bad.csv", "no header\n")
    drop("c.csv.part", HEADER)
    (folder / "link.csv").symlink_to("bad.csv")
    ingest(settings)
    assert len(below(folder)) == 6
    settings = settings.having(DUEMARK_LOADED_FILES=how)
    # Also what was loaded before, or by one that died then.
    drop("d.csv", HEADER + LINE % "r4")
    assert [outcome.status for outcome in ingest(settings).files] == ["loaded"]
    left = ["bad.csv", "c.csv.part", "link.csv"]
    kept = [".loaded/2026/b.csv", ".loaded/a.csv", ".loaded/d.csv", ".loaded/twin.csv"]
    assert below(folder) == (sorted(kept + left) if how == "archive" else left)
    # The same name again, with other content.
    drop("a.csv", HEADER + LINE % "r5")
    assert ingest(settings).loaded
    assert below(folder) == (sorted([*kept, ".loaded/1.a.csv", *left]) if how == "archive" else left)
    assert ingest(settings).files == ()


@pytest.mark.parametrize("how", ["archive", "delete"])
def test_what_changed_after_it_was_loaded_stays(
    settings: Settings, drop: Drop, query: Query, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    settings = settings.having(DUEMARK_LOADED_FILES=how)
    path = drop("a.csv", HEADER + LINE % "r1")
    loaded = ledger.loaded_as_they_are

    def late(*arguments: Any) -> Any:
        found = loaded(*arguments)
        path.unlink()
        path.write_text(HEADER + LINE % "r2")
        return found

    with monkeypatch.context() as patch:
        patch.setattr(ledger, "loaded_as_they_are", late)
        ingest(settings)
    assert "r2" in path.read_text()
    ingest(settings)
    assert query("select run_id from raw.job_status order by load_id") == [("r1",), ("r2",)]


def test_it_goes_back_where_it_changed_at_the_last_moment(
    settings: Settings, drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = drop("a.csv", HEADER + LINE % "r1")
    ingest(settings)
    rename = os.rename

    def late(*arguments: Any, **rest: Any) -> None:
        path.unlink()
        path.write_text(HEADER + LINE % "r2")
        rename(*arguments, **rest)

    monkeypatch.setattr(os, "rename", late)
    settings = settings.having(DUEMARK_LOADED_FILES="delete")
    ingest(settings)
    assert "r2" in path.read_text()
    assert below(path.parent) == ["a.csv"]


def test_a_link_in_the_way_is_told_and_not_followed(
    settings: Settings, drop: Drop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings.having(DUEMARK_LOADED_FILES="archive")
    path = drop("a.csv", HEADER + LINE % "r1")
    (path.parent / ".loaded").symlink_to(tmp_path)
    report = ingest(settings)
    assert len(report.loaded) == 1
    assert report.warnings[0].startswith(f"{path} is loaded, but cannot be put away: ")
    assert path.exists()


def test_a_word_that_is_no_way() -> None:
    with pytest.raises(DuemarkError, match="DUEMARK_LOADED_FILES is 'remove'") as caught:
        Limits.of(Settings.from_env({"DUEMARK_LOADED_FILES": "remove"}))
    assert caught.value.hint == "One of keep, archive, delete; default: keep."


def test_a_look_asks_for_what_is_loaded_once(
    settings: Settings, drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop("a.csv", HEADER + LINE % "r1")
    drop("bad.csv", "no header\n")
    ingest(settings)
    asked: list[int] = []
    states = ledger._states

    def counted(cursor: Any, files: Any) -> Any:
        asked.append(len(files))
        return states(cursor, files)

    monkeypatch.setattr(ledger, "_states", counted)
    assert [pending(settings) for _ in range(3)] == [[], [], []]
    assert asked == [2, 0, 0]
    # A new file, one that changed, and a ledger that is another.
    new = drop("b.csv", HEADER + LINE % "r2")
    changed = drop("a.csv", HEADER + LINE % "r33")
    assert {file.path for file in pending(settings)} == {str(new), str(changed)}
    assert asked[3:] == [2]
    ingest(settings)
    assert pending(settings) == []
    with connect(settings, autocommit=True) as connection:
        connection.execute("truncate raw.landed_file, raw.load, raw.job_status")
    assert len(pending(settings)) == 3
