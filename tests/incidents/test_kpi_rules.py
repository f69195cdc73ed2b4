"""Thresholds, by their rules alone."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from pipelines.kpi.standing import Threshold
from sensors.oncall.incidents.changes import changes
from sensors.oncall.incidents.kpis import (
    Standing,
    threshold_ending,
    threshold_incidents,
)
from sensors.oncall.incidents.model import Incident, Key, Wanted

NOW = datetime(2026, 3, 6, 1, tzinfo=UTC)
LIMIT = Threshold("lower", (Decimal("0.95"),), (Decimal("0.9"),))


def standing(value: str = "0.86", status: str = "critical", member: str = "", **changes: object) -> Standing:
    start = datetime(2026, 3, 5, tzinfo=UTC)
    base = Standing(
        kpi_id="share",
        grain="day",
        dimension_key=f'{{"application": "{member}"}}' if member else "",
        dimensions={"application": member} if member else {},
        name="On-time share",
        unit="share",
        owner="team:platform",
        timezone="UTC",
        threshold=LIMIT,
        slos=("slo-a",),
        period="2026-03-05",
        start=start,
        end=start + timedelta(days=1),
        value=Decimal(value),
        status=status,
        severity=status if status in {"warning", "critical"} else None,  # type: ignore[arg-type]
        version="v1",
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def opened(one: Wanted, number: int = 1) -> Incident:
    return Incident(
        incident_id=number, key=one.key, severity=one.severity, title=one.title, message=one.message,
        began_at=one.began_at, opened_at=NOW, last_seen_at=one.seen_at, tell_from=NOW, detail=one.detail,
    )  # fmt: skip


def overdue(cause: Key | None = None) -> Wanted:
    return Wanted(
        Key("overdue", "slo-a", "2026-03-05 00:00"), "critical", "", "", NOW, NOW, slo_id="slo-a",
        business_date=date(2026, 3, 5), slot="00:00", detail={"name": "The load"}, cause=cause,
    )  # fmt: skip


def test_a_threshold_crossed_says_what_and_by_how_much() -> None:
    (one,) = threshold_incidents([standing()], [], [], NOW)
    assert one.key == Key("kpi_threshold", "share", "day")
    assert (one.severity, one.title) == ("critical", "Critical: On-time share")
    assert one.message == "86 % in 2026-03-05; critical ≤ 90 %."
    assert one.cause is None
    (mild,) = threshold_incidents([standing("0.94", "warning")], [], [], NOW)
    assert (mild.severity, mild.message) == ("warning", "94 % in 2026-03-05; warning ≤ 95 %.")
    assert threshold_incidents([standing("0.99", "ok")], [], [], NOW) == []


def test_one_row_goes_on_while_it_is_bad_and_changes_its_severity() -> None:
    (first,) = threshold_incidents([standing()], [], [], NOW)
    row = opened(first)
    (next_day,) = threshold_incidents([standing("0.94", "warning", period="2026-03-06")], [row], [], NOW)
    todo = changes([row], [next_day], lambda _: threshold_ending(row, None))
    assert (todo.opened, todo.resolved) == ([], [])
    assert todo.updated[0][1].severity == "warning"
    assert next_day.detail["first_period"] == "2026-03-05"


def test_members_stand_under_their_total_and_else_alone() -> None:
    bad = [standing(member="b"), standing(member="a"), standing()]
    causes = {one.key.occurrence: one.cause for one in threshold_incidents(bad, [], [], NOW)}
    total = Key("kpi_threshold", "share", "day")
    assert causes == {"day": None, 'day {"application": "a"}': total, 'day {"application": "b"}': total}
    members = threshold_incidents(bad[:2], [], [], NOW)
    assert [one.cause for one in members] == [None, None]
    assert members[0].application_id == "a"
    assert members[0].title == "Critical: On-time share (application a)"


def test_it_is_held_while_an_slo_it_waits_for_is_overdue() -> None:
    late = overdue()
    (held,) = threshold_incidents([standing()], [], [late], NOW)
    assert held.cause == late.key
    assert held.message.endswith("Held: its data wait for The load, which is overdue.")
    root = Key("sender_silence", "core")
    (grouped,) = threshold_incidents([standing()], [], [overdue(root)], NOW)
    assert grouped.cause == root
    (free,) = threshold_incidents([standing(slos=("other",))], [], [late], NOW)
    assert free.cause is None
    (over,) = threshold_incidents([standing()], [], [replace(late, is_over=True)], NOW)
    assert over.cause is None


def test_it_is_held_while_an_slo_it_waits_for_was_missed() -> None:
    missed = standing().slos
    assert threshold_incidents([standing()], [], [], NOW, missed) == [], "nothing that it could stand under"
    # What stood under the overdue one ends, and opens again when newer data have come and it is bad still.
    (held,) = threshold_incidents([standing()], [], [overdue()], NOW)
    row = opened(held)
    assert threshold_incidents([standing()], [row], [], NOW, missed) == []
    ending = threshold_ending(row, standing(), missed)
    assert ending.resolution == "held"
    assert ending.message.startswith(f"Held: its data wait for {missed[0]}, which was missed. It opens again")
    assert len(threshold_incidents([standing()], [], [], NOW)) == 1
    # One that was told before there was anything to wait for stays as it was told.
    (told,) = threshold_incidents([standing()], [], [], NOW)
    (stays,) = threshold_incidents([standing("0.80")], [opened(told)], [], NOW, missed)
    assert (stays.key, stays.message, stays.cause) == (told.key, told.message, None)
    # While another one is overdue it stands under that.
    (grouped,) = threshold_incidents([standing()], [row], [overdue()], NOW, missed)
    assert grouped.cause == overdue().key


def test_no_value_is_no_recovery() -> None:
    (first,) = threshold_incidents([standing()], [], [], NOW)
    row = opened(first)
    gone = replace(standing(status="no_data", period="2026-03-06"), value=None)
    (still,) = threshold_incidents([gone], [row], [], NOW)
    assert (still.key, still.message) == (row.key, row.message)
    assert threshold_incidents([gone], [], [], NOW) == []


def test_how_it_ends() -> None:
    (first,) = threshold_incidents([standing()], [], [], NOW)
    row = opened(first)
    well = standing("0.99", "ok", period="2026-03-06", is_bad_since=True)
    assert threshold_ending(row, well).resolution == "ok"
    assert threshold_ending(row, well).message == "Well again: 99 % in 2026-03-06."
    restated = threshold_ending(row, replace(well, is_bad_since=False))
    assert restated.resolution == "withdrawn"
    assert "Restated: no period since 2026-03-05" in restated.message
    redefined = threshold_ending(row, replace(well, is_bad_since=False, version="v2"))
    assert (redefined.resolution, "definition was changed" in redefined.message) == ("withdrawn", True)
    assert threshold_ending(row, None).resolution == "withdrawn"


def test_what_is_old_opens_nothing_and_does_not_stay_for_ever() -> None:
    (first,) = threshold_incidents([standing()], [], [], NOW)
    row = opened(first)
    for days, opens, stays in ((1, True, True), (5, False, True), (45, False, False)):
        later = NOW + timedelta(days=days)
        assert bool(threshold_incidents([standing()], [], [], later)) is opens
        assert bool(threshold_incidents([standing()], [row], [], later)) is stays
    assert threshold_ending(row, standing()).resolution == "unwatched"
    month = standing(grain="month", period="2026-02")
    assert threshold_incidents([month], [], [], NOW + timedelta(days=40)) != []
