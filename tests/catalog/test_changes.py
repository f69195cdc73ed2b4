"""What a command says of a catalog that was edited: of which dates, what went, and what was probably renamed."""

from __future__ import annotations

from typing import Any

from pipelines.catalog import changes
from pipelines.catalog.changes import JOB, KPI, SLO
from tests.slo.test_exceptions import HEADER, STATUS, catalog, run
from tests.transform.conftest import deployed, warehouse
from tests.transform.support import Warehouse

__all__ = ["deployed", "warehouse"]


def entries(slos: dict[str, Any], kpis: tuple[str, ...] = ()) -> dict[str, dict[str, Any]]:
    return {SLO: slos, JOB: {}, KPI: dict.fromkeys(kpis)}


def hints(before: dict[str, dict[str, Any]], after: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    """(the entry that went, the one that it may be called now) of each change."""
    return [
        (change.message.split("`")[1], change.hint.split("`")[1] if "did you rename" in change.hint else "")
        for change in changes.gone(before, after)
    ]


def test_what_says_the_same_is_the_same_whatever_it_is_called() -> None:
    said = [{"id": "a", "name": "A", "calendar": "days"}]
    other = [{"id": "zzz", "name": "Z", "calendar": "days"}]
    unlike = [{"id": "ab", "name": "A", "calendar": "weeks"}]
    assert hints(entries({"a": said}), entries({"zzz": other, "ab": unlike})) == [("a", "zzz")]


def test_else_it_is_a_new_one_with_a_name_like_its() -> None:
    old, new = [{"id": "x", "calendar": "days"}], [{"id": "x", "calendar": "weeks"}]
    assert hints(entries({"close-month": old}), entries({"close-months": new})) == [
        ("close-month", "close-months")
    ]
    assert hints(entries({"close-month": old}), entries({"payments": new})) == [("close-month", "")]
    # One that was there before is no new name.
    both = {"close-month": old, "close-months": new}
    assert hints(entries(both), entries({"close-months": new})) == [("close-month", "")]
    assert hints(entries({}, ("on-time-share",)), entries({}, ("share-on-time", "on-time-shares"))) == [
        ("on-time-share", "on-time-shares")
    ]


def test_a_new_catalog_is_not_a_list_of_hundreds() -> None:
    found = changes.gone(entries({f"slo-{number}": [] for number in range(30)}), entries({}))
    assert len(found) == changes.MOST_SAID + 1
    assert found[-1].message == "so it is with 20 more"


def test_the_commands_say_so(warehouse: Warehouse) -> None:
    warehouse.write_catalog(catalog())
    first = run(warehouse, "tick", "--as-of", "2026-03-03T12:00:00Z")
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith("rebuilt as of 2026-03-03T12:00:00+00:00: ")
    assert "changes of the catalog" in first.stdout
    assert "edited" not in first.stderr

    # Another due time, and the SLO with windows under another id, as is its job.
    documents = {kind: list(rows) for kind, rows in catalog().items()}
    documents["jobs"][1] = {"id": "post-all", "application": "bank"}
    documents["slos"][0] = {
        **documents["slos"][0],
        "jobs": [{"job": "load", "end": "04:00", "day_offset": 1}],
    }
    documents["slos"][1] = {**documents["slos"][1], "id": "booked", "jobs": [{"job": "post-all"}]}
    warehouse.write_catalog(documents)
    checked = run(warehouse, "check")
    assert checked.returncode == 0
    for one in (
        "warning: the SLO `posted` is not in the catalog any more: nothing is promised of it any more",
        "warning: the job `bank/post` is not in the catalog any more",
        "did you rename it to `bank/post-all`? statuses are taken by the id that is sent",
    ):
        assert one in checked.stderr

    land = warehouse.settings.home / "job_status" / "mistyped.csv"
    land.parent.mkdir(exist_ok=True)
    land.write_text(
        HEADER
        + STATUS.format("SUCCEED", "2026-03-03T07:00:00Z", "2026-03-02")
        + STATUS.format("START", "2026-03-03T06:00:00Z", "2026-03-02").replace("load", "post-al")
        + STATUS.format("START", "2026-03-03T06:00:00Z", "2026-03-02").replace("bank", "bnak")
    )
    loaded = run(warehouse, "ingest", str(land))
    assert loaded.returncode == 0, loaded.stderr
    assert (
        "warning: bank/post-al: 1 status was sent, and the catalog has no job `post-al`: did you mean `post-all`?"
        " It is kept, and counts once the catalog has it."
    ) in loaded.stderr
    assert "the catalog has no application `bnak`: did you mean `bank`?" in loaded.stderr
    assert (
        "warning: the SLO `loaded` was edited: it applies as it is now from business date 2" in loaded.stderr
    )
    assert "duemark restate loaded --from DATE" in loaded.stderr
    assert "the SLO `posted` is not in the catalog any more" in loaded.stderr

    second = run(warehouse, "tick", "--as-of", "2026-03-03T12:00:01Z")
    assert "1 file, 3 statuses, " in second.stdout
    assert second.stdout.rstrip().endswith("occurrences judged")
    assert "edited" not in second.stderr
    third = run(warehouse, "tick", "--as-of", "2026-03-03T12:00:02Z")
    assert third.stdout.rstrip().endswith(": nothing new came in; no row changed")
