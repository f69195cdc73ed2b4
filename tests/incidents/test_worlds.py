"""Worlds drawn by chance, in the real tables: whatever is wrong, somebody hears of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.transform.project import Project
from pipelines.warehouse import homes
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings
from sensors.oncall.incidents.commands import acknowledge
from sensors.oncall.incidents.evaluate import MEMORY, evaluate
from sensors.oncall.incidents.model import KINDS, Ending, Incident, Key, Rules, Wanted
from sensors.oncall.incidents.routes import Escalation, Route, Routes
from sensors.oncall.incidents.store import in_transaction, open_incidents, read_silences, reconcile, tell
from tests.incidents.conftest import INTRADAY, at, empty_bank
from tests.transform.support import examples

START = datetime(2026, 3, 3, tzinfo=UTC)
REGROUP_AFTER = timedelta(minutes=15)
ROUTES = Routes(
    {
        "all": Route(
            id="all",
            to="file:x",
            repeat=timedelta(hours=2),
            escalate=Escalation(after=timedelta(minutes=30), to="boss"),
        ),
        "desk": Route(id="desk", to="file:y", applications=("desk",)),
        "worst": Route(id="worst", to="file:z", severity="critical", repeat=timedelta()),
        "boss": Route(id="boss", to="file:b", when="escalated"),
    },
    replace(Rules(), regroup_after=REGROUP_AFTER, digest_above=3),
)


@dataclass(frozen=True)
class Trouble:
    """Something that is wrong during a step; `cause`: the number of another, whether that is wrong too or not."""

    number: int
    cause: int | None
    is_severe: bool

    def wanted(self, now: datetime) -> Wanted:
        return Wanted(
            key=_key(self.number),
            severity="critical" if self.is_severe else "warning",
            title=f"Trouble {self.number}",
            message="",
            began_at=START,
            seen_at=now,
            application_id="desk" if self.number % 2 else "core",
            cause=None if self.cause is None else _key(self.cause),
        )


def _key(number: int) -> Key:
    return Key("overdue", f"s{number}", "x")


@dataclass(frozen=True)
class Step:
    """Minutes pass; then somebody takes one on, or silences an application; then the rules look."""

    minutes: int
    troubles: Sequence[Trouble]
    acknowledged: int | None
    silenced: str | None


@st.composite
def steps(draw: st.DrawFn) -> Step:
    numbers = st.integers(0, 6)
    wrong = draw(st.sets(numbers, max_size=7))
    return Step(
        draw(st.sampled_from([1, 4, 10, 16, 45])),
        [Trouble(one, draw(st.none() | numbers), draw(st.booleans())) for one in sorted(wrong)],
        draw(st.none() | st.none() | numbers),
        draw(st.sampled_from([None, None, None, None, "core", "desk"])),
    )


@dataclass
class World:
    """What the invariants need to remember between steps."""

    settings: Settings
    now: datetime = START
    uncovered: dict[tuple[int, str], datetime] = field(default_factory=dict)

    def look(self, step: Step) -> None:
        self.now += timedelta(minutes=step.minutes)
        standing = {one.key: one for one in self.open()}
        if step.acknowledged is not None and (taken := standing.get(_key(step.acknowledged))) is not None:
            told = self.told()
            acknowledge(self.settings, taken.incident_id, by="ann", now=self.now)
            for one in self.open():
                # Nobody takes on what nobody was told.
                if one.acknowledged_with_id == taken.incident_id:
                    assert one.incident_id in {incident for incident, _, _ in told}
        if step.silenced is not None:
            with connect(self.settings, "operate") as connection:
                connection.execute(
                    "insert into ops.silence"
                    " (application_id, starts_at, ends_at, reason, created_by, created_at)"
                    " values (%s, %s, %s, 'x', 'ann', %s)",
                    [step.silenced, self.now, self.now + timedelta(minutes=25), self.now],
                )
        wanted = [one.wanted(self.now) for one in step.troubles]

        def work(cursor: Any) -> tuple[int, int]:
            done = reconcile(
                cursor,
                KINDS,
                wanted,
                lambda _: Ending("over", ""),
                now=self.now,
                regroup_after=REGROUP_AFTER,
            )
            return done.updated, tell(cursor, ROUTES, self.now, done.over)

        in_transaction(self.settings, work)
        self.check()
        # Once more at the same moment: there is nothing to write and nobody to tell.
        assert in_transaction(self.settings, work) == (0, 0)

    def open(self) -> list[Incident]:
        with connect(self.settings, "operate") as connection, connection.cursor() as cursor:
            return open_incidents(cursor)

    def told(self) -> set[tuple[int, str, str]]:
        with connect(self.settings, "operate") as connection:
            return _notices(connection.cursor())

    def check(self) -> None:
        with connect(self.settings, "operate") as connection, connection.cursor() as cursor:
            standing = {one.incident_id: one for one in open_incidents(cursor)}
            told = {(incident, route) for incident, route, event in _notices(cursor) if event != "grouped"}
            silences = read_silences(cursor)
        for one in standing.values():
            root = standing[one.cause_id] if one.cause_id is not None else one
            # A forest of which every tree is one level high, and each root open.
            assert root.cause_id is None
            if one.acknowledged_with_id is not None:
                assert one.acknowledged_with_id == one.cause_id
                assert root.acknowledged_at is not None
            is_quiet = one.acknowledged_at is not None or any(each.covers(one, self.now) for each in silences)
            for route in ROUTES.routes.values():
                if route.when != "always" or not route.matches(one):
                    continue
                at = (one.incident_id, route.id)
                is_root_told = (root.incident_id, route.id) in told and root.acknowledged_at is None
                if is_quiet or at in told or is_root_told:
                    self.uncovered.pop(at, None)
                else:
                    # What told of it until this look, if anything did, does so no longer.
                    since = self.uncovered.setdefault(at, self.now)
                    assert self.now - since < REGROUP_AFTER, (one, root, route.id)


def _notices(cursor: Any) -> set[tuple[int, str, str]]:
    return set(cursor.execute("select incident_id, route, event from ops.notice").fetchall())


@examples(10)
@given(st.lists(steps(), min_size=4, max_size=10))
def test_whatever_is_open_is_told_or_its_root_is(deployed: Project, told: list[Step]) -> None:
    with connect(deployed.settings, autocommit=True) as connection:
        connection.execute(
            "truncate ops.incident, ops.notice, ops.alert_outbox, ops.silence, ops.held, ops.untold restart identity"
        )
    world = World(deployed.settings)
    for one in told:
        world.look(one)


# What a look remembers


JOBS = ("core/a", "desk/b", "desk/c", "core/lone", "core/window")


@st.composite
def hours(draw: st.DrawFn) -> tuple[int, list[tuple[str, str, int]]]:
    """Minutes that pass, and the statuses that come meanwhile: job, code, minutes before the end."""
    minutes = draw(st.integers(10, 150))
    statuses = draw(
        st.lists(
            st.tuples(
                st.sampled_from(JOBS),
                st.sampled_from(["START", "FAIL", "SUCCEED", "SUCCEED"]),
                st.integers(0, minutes - 1),
            ),
            max_size=3,
        )
    )
    return minutes, statuses


@examples(2)
@given(st.lists(hours(), min_size=4, max_size=5))
def test_a_look_that_remembers_comes_to_the_same(
    deployed: Project,
    tmp_path_factory: pytest.TempPathFactory,
    night: list[tuple[int, list[tuple[str, str, int]]]],
) -> None:
    bank = empty_bank(deployed, tmp_path_factory.mktemp("night"))
    bank.write("slos/window.yml", INTRADAY)
    bank.usual_day()
    bank.at("02:00")
    now, number = at("02:00"), 0
    for minutes, statuses in night:
        now += timedelta(minutes=minutes)
        for job, code, before in statuses:
            number += 1
            bank.sends(job, f"{code} {now - timedelta(minutes=before):%H:%M}", run=f"r{number}")
        bank.tick(now)
        evaluate(bank.settings, now)
        standing = {
            one.key: (one.severity, one.title, one.message, one.cause_id) for one in bank.open().values()
        }
        # One that remembers nothing, of the same marts; the next look remembers by what the first one did.
        remembered = homes.of(bank.settings).take(MEMORY)
        with connect(bank.settings, autocommit=True) as connection:
            connection.execute("update ops.evaluation set published_at = null")
        again = evaluate(bank.settings, now)
        homes.of(bank.settings).put(MEMORY, remembered)
        assert (again.opened, again.resolved, again.updated, again.messages) == (0, 0, 0, 0)
        assert standing == {
            one.key: (one.severity, one.title, one.message, one.cause_id) for one in bank.open().values()
        }
