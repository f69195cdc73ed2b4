"""A board made by hand: a bank's KPIs with all that a page has to cope with."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from pipelines.board.model import (
    Application,
    Board,
    Definition,
    Late,
    Member,
    Members,
    Occurrence,
    Point,
    Restatement,
    ShownKpi,
    Silence,
    Trouble,
)
from pipelines.kpi.standing import Threshold

AS_OF = datetime(2026, 3, 10, 14, 30, tzinfo=UTC)
HOSTILE = "<script>alert('&\"x')</script>"


def decimal(value: float, digits: int = 2) -> Decimal:
    return Decimal(f"{value:.{digits}f}")


def days(
    value: Callable[[int], Decimal | None],
    count: int = 90,
    *,
    threshold: Threshold | None = None,
    version: str = "a1b2c3d4e5f6a7b8",
) -> tuple[Point, ...]:
    """So many days to AS_OF, the last of them provisional, in UTC."""
    points: list[Point] = []
    first = AS_OF.date() - timedelta(days=count - 1)
    for number in range(count):
        day = first + timedelta(days=number)
        start = datetime(day.year, day.month, day.day, tzinfo=UTC)
        now, before = value(number), points[-1].value if points else None
        change = None if now is None or before is None else now - before
        percent = None if change is None or not before else decimal(100 * float(change / abs(before)))
        is_open = number == count - 1
        points.append(
            Point(
                period=day.isoformat(),
                start=start,
                end=start + timedelta(days=1),
                value=now,
                previous=before,
                change=change,
                change_percent=percent,
                direction=None
                if percent is None
                else "stable"
                if abs(percent) <= 1
                else "up"
                if percent > 0
                else "down",
                status=None if is_open else judged(now, threshold),
                is_provisional=is_open,
                reason="no rows" if now is None else None,
                version=version,
            )
        )
    return tuple(points)


def judged(value: Decimal | None, threshold: Threshold | None) -> str:
    if value is None:
        return "no_data"
    if threshold is not None and threshold.direction != "band":
        for level, bounds in (("critical", threshold.critical), ("warning", threshold.warning)):
            if any(value <= b if threshold.direction == "lower" else value >= b for b in bounds):
                return level
    return "ok"


def definition(name: str, **changes: object) -> Definition:
    base = Definition(
        version="a1b2c3d4e5f6a7b8",
        name=name,
        valid_from=datetime(2026, 1, 5, 8, tzinfo=UTC),
        category="performance",
        description="Of all occurrences that were due, those that were complete in time.",
        owner="team:platform",
        expression='"on_time" / nullif("due", 0)',
        variables={
            "on_time": {"aggregation": "count", "table": "marts.slo_performance", "filters": "outcome = 'on_time'"},
            "due": {"aggregation": "count", "table": "marts.slo_performance"},
        },
        grains=("day", "week"),
        dimensions=("application",),
    )  # fmt: skip
    return replace(base, **changes)  # type: ignore[arg-type]


def on_time_share() -> ShownKpi:
    """Below its critical bound for three days; members, versions and restatements."""
    limit = Threshold("lower", (Decimal("0.95"),), (Decimal("0.90"),))
    series = days(
        lambda n: (
            None
            if n in {20, 21, 40}
            else decimal(0.97 + 0.02 * math.sin(n / 5) - (0.09 if 85 <= n < 89 else 0), 4)
        ),
        threshold=limit,
    )
    closed = series[-2]
    changes = [("overdrafts", 0.80, -0.11, -0.05), ("deposits", 0.99, 0.01, 0.002), (None, 0.9, 0.0, 0.0)]
    members = tuple(
        Member(
            name,
            replace(
                closed,
                value=decimal(value, 4),
                previous=decimal(value - change, 4),
                change=decimal(change, 4),
                status=judged(decimal(value, 4), limit),
            ),
            decimal(effect, 4),
        )
        for name, value, change, effect in changes
    )
    old = definition(
        "On-time share", threshold=replace(limit, critical=()), valid_to=AS_OF - timedelta(days=9)
    )
    new = definition("On-time share", threshold=limit, unit="share", version="f00dfeed12345678")
    new = replace(new, valid_from=AS_OF - timedelta(days=9))
    weeks = tuple(
        replace(point, period=f"2026-W{number + 1:02}", end=point.start + timedelta(days=7))
        for number, point in enumerate(series[5::7])
    )
    return ShownKpi(
        id="on-time-share",
        definition=new,
        series={"day": series, "week": weeks},
        members=(Members("application", "day", closed.period, members, 17),),
        history=(old, new),
        restatements=(
            Restatement(
                "day", "2026-03-05", "", Decimal("0.961"), Decimal("0.948"), None, None,
                AS_OF - timedelta(days=4), AS_OF - timedelta(days=1, hours=3), 812, "f00dfeed12345678",
            ),
        ),
        restated_count=4,
        trouble=(
            Trouble("", "critical", series[85].start, series[85].period),
            Trouble("application overdrafts", "critical", series[30].start, series[30].period, is_older=True),
        ),
        complete_to=closed.end,
    )  # fmt: skip


def revenue() -> ShownKpi:
    series = days(lambda n: decimal(1_204_300 + 5400 * n + 20_000 * math.sin(n / 3)))
    return ShownKpi(
        id="mrr",
        definition=definition(
            "Monthly recurring revenue", unit="USD", category="business", timezone="America/New_York",
            expression='"subscription_amount"', dimensions=("plan_type", "region"),
        ),
        series={"day": series},
        history=(definition("Monthly recurring revenue"),),
        complete_to=series[-2].end,
    )  # fmt: skip


def lateness() -> ShownKpi:
    limit = Threshold("higher", (Decimal(1800),), (Decimal(7200),))
    series = days(lambda n: decimal(abs(900 * math.sin(n / 4)) + (1500 if n > 86 else 0), 0), threshold=limit)
    return ShownKpi(
        id="p90-lateness",
        definition=definition("Lateness, 90th percentile", unit="seconds", threshold=limit, dimensions=()),
        series={"day": series},
        history=(definition("Lateness, 90th percentile"),),
        trouble=(Trouble("", "warning", series[87].start, series[87].period),),
        complete_to=series[-2].end,
    )


def popularity() -> ShownKpi:
    """A numbered one: no value but JSON."""
    plain = days(lambda _: None, 7)
    series = tuple(
        replace(
            point,
            reason=None,
            status=None if point.is_provisional else "ok",
            json={
                "items": [
                    {"package": "Encyclopaedia", "visits": 40 + n},
                    {"package": HOSTILE, "visits": 3},
                ],
                "totalVisits": 43 + n * 7 % 5,
            },
        )
        for n, point in enumerate(plain)
    )
    return ShownKpi(
        id="PackagePopularity",
        number=2001,
        definition=definition("Package popularity", category="user", dimensions=()),
        series={"day": series},
        history=(definition("Package popularity"),),
        complete_to=series[-2].end,
    )


def hostile() -> ShownKpi:
    """Everything that a person may write holds markup."""
    series = days(lambda n: decimal(n % 5), 3)
    member = Member(HOSTILE, series[1], None)
    return ShownKpi(
        id=HOSTILE,
        definition=definition(
            HOSTILE, description=HOSTILE, owner=HOSTILE, unit=HOSTILE, expression=HOSTILE,
            variables={HOSTILE: {HOSTILE: HOSTILE}}, dimensions=(HOSTILE,), category="custom",
        ),
        series={"day": series},
        members=(Members(HOSTILE, "day", series[1].period, (member,), 1),),
        history=(definition(HOSTILE), definition(HOSTILE, description=f"{HOSTILE}, before")),
        restatements=(
            Restatement("day", "2026-03-05", HOSTILE, None, None, HOSTILE, {"x": HOSTILE}, AS_OF, AS_OF, 1, "v"),
        ),
        restated_count=1,
        trouble=(Trouble(HOSTILE, "warning", AS_OF, "2026-03-09"),),
        complete_to=AS_OF,
    )  # fmt: skip


def empty() -> ShownKpi:
    """Defined, and nothing computed yet."""
    return ShownKpi(id="signups", definition=definition("Sign-ups", category="user"), history=())


def late() -> tuple[Late, ...]:
    """Overdue since the morning, at risk, failed before it is due, late and missed."""
    due = datetime(2026, 3, 10, 8, tzinfo=UTC)
    overdue = Late(
        slo_id="overdraft-report",
        name="Overdraft report in the inbox of the back office",
        business_date=date(2026, 3, 9),
        slot="00:00",
        outcome="overdue",
        due_at=due,
        late_by=AS_OF - due,
        blocking_job="decision-support/overdraft-report",
        waits_for="overdrafts/charge-overdrafts",
        affected=("risk-digest",),
        owner="team:risk",
        explanation="Overdue: nothing reported, waiting for decision-support/overdraft-report, due 04:00 EDT.",
        since=due,
        application_id="decision-support",
    )
    later = AS_OF + timedelta(hours=2)
    return (
        overdue,
        replace(
            overdue, slo_id="risk-digest", name="Risk digest", outcome="at_risk", due_at=later, since=later,
            late_by=None, p50=later + timedelta(minutes=50), affected=("a", "b", "c"),
            blocking_job="decision-support/risk-digest",
        ),
        replace(
            overdue, slo_id="swift-ack", name="Swift acknowledged", outcome="late", affected=(), waits_for=None,
            application_id="deposits", blocking_job="deposits/swift", late_by=timedelta(minutes=12),
            due_at=due - timedelta(days=1), since=due - timedelta(days=1),
        ),
        replace(
            overdue, slo_id="statements", name="Statements", outcome="failed", affected=(), waits_for=None,
            late_by=None, application_id="deposits", blocking_job="deposits/print",
            since=AS_OF - timedelta(hours=1), due_at=later,
        ),
    )  # fmt: skip


def occurrence(slo_id: str, name: str, application_id: str, due: datetime, **changes: object) -> Occurrence:
    """Of Monday, not due yet, foreseen at its due time give or take half an hour."""
    base = Occurrence(
        slo_id=slo_id,
        name=name,
        application_id=application_id,
        business_date=date(2026, 3, 9),
        slot="00:00",
        due_at=due,
        outcome="not_due",
        progress="pending",
        p10=due - timedelta(minutes=30),
        p50=due,
        p90=due + timedelta(minutes=30),
    )
    return replace(base, **changes)  # type: ignore[arg-type]


def today() -> tuple[Occurrence, ...]:
    """A chain over two applications, windows of which most are alike, one waived."""
    bad, risky = late()[:2]
    windows = [
        occurrence(
            "deposit-activity", "Checking and savings activity", "deposits", AS_OF.replace(hour=hour, minute=10),
            business_date=date(2026, 3, 10), slot=f"{hour:02}:00",
            ended_at=AS_OF.replace(hour=hour, minute=6) if hour < 14 else None,
            started_at=AS_OF.replace(hour=hour, minute=1) if hour < 14 else None,
            outcome="on_time" if hour < 14 else "not_due", progress="complete" if hour < 14 else "pending",
        )
        for hour in range(11, 18)
    ]  # fmt: skip
    found = [
        occurrence(
            "charges", "Overdrafts charged", "overdrafts", AS_OF.replace(hour=5), progress="running", outcome="overdue",
            started_at=AS_OF.replace(hour=6), p10=AS_OF, p50=AS_OF + timedelta(hours=1), p90=AS_OF + timedelta(hours=3),
        ),
        occurrence(bad.slo_id, bad.name, "decision-support", bad.due_at, outcome="overdue", p10=AS_OF,
            p50=AS_OF + timedelta(hours=2), p90=AS_OF + timedelta(hours=5)),
        occurrence(risky.slo_id, risky.name, "decision-support", risky.due_at, is_at_risk=True),
        occurrence("statements", "Statements", "deposits", AS_OF + timedelta(hours=2), progress="failed"),
        occurrence("posting", "Accounts posted", "deposits", AS_OF.replace(hour=5, minute=15), outcome="late",
            progress="complete", started_at=AS_OF.replace(hour=4), ended_at=AS_OF.replace(hour=5, minute=40)),
        occurrence("letters", "Letters", "deposits", AS_OF.replace(hour=20), outcome="waived", p10=None, p50=None,
            p90=None),
        occurrence("night", "Tonight's batch", "overdrafts", AS_OF + timedelta(hours=16)),
        *windows,
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda one: one.due_at))


def board() -> Board:
    return Board(
        as_of=AS_OF,
        timezone="America/New_York",
        kpis=(on_time_share(), revenue(), lateness(), popularity(), empty()),
        late=late(),
        silent=(Silence("overdrafts", AS_OF - timedelta(hours=9)),),
        today=today(),
        upstream={
            "risk-digest": frozenset({"overdraft-report"}),
            "overdraft-report": frozenset({"charges"}),
            "charges": frozenset({"posting"}),
        },
        applications=(
            Application(
                "decision-support", "Decision support", "America/New_York", "team:analytics", "Late last."
            ),
            Application("deposits", "Checking and savings", "America/New_York", "team:deposits"),
            Application("overdrafts", "Overdrafts", "America/New_York"),
            Application("quiet", "Nothing is promised here"),
        ),
    )
