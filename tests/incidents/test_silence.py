"""A silent sender is told from evidence: due times that passed, and its own past."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from random import Random

from pipelines.transform.waiting import waiting
from pipelines.warehouse.connect import connect
from sensors.oncall.incidents.model import Detail, JobState, OccurrenceKey, Rules
from sensors.oncall.incidents.replay import replay
from sensors.oncall.incidents.rules import Missed
from sensors.oncall.incidents.silence import (
    GRACE,
    read_usual_pauses,
    sender_silences,
    usual_pause,
)
from tests.incidents.conftest import Bank, at

NOON = datetime(2026, 3, 12, 12, 50, tzinfo=UTC)


def shifts(
    days: int, step: timedelta = timedelta(minutes=10), rest: tuple[int, int] = (12, 13)
) -> list[datetime]:
    """From 8 to 18 on each of the days before that of NOON, with a rest."""
    found = []
    for day in range(days, 0, -1):
        moment = NOON.replace(hour=8, minute=0) - timedelta(days=day)
        while moment.hour < 18:
            if not rest[0] <= moment.hour < rest[1]:
                found.append(moment)
            moment += step
    return found


def missed(*due: datetime) -> dict[str, Sequence[Missed]]:
    """A job of `core` for each due time, of which nothing was heard."""
    return {
        "core": [
            Missed(
                OccurrenceKey(f"slo-{number}", moment.date(), "00:00"),
                JobState(("core", f"job-{number}"), "pending", None, moment),
            )
            for number, moment in enumerate(due)
        ]
    }


def is_silent(
    last: datetime,
    now: datetime,
    due: Sequence[datetime],
    past: Sequence[datetime] = (),
    *,
    is_told: bool = False,
) -> bool:
    pause = usual_pause([*past, last], now)
    usual = {} if pause is None else {"core": pause}
    told: dict[str, Detail] = {"core": {}} if is_told else {}
    wanted, _ = sender_silences(missed(*due), {"core": last}, lambda _: usual, Rules(), now, told)
    return bool(wanted)


def test_two_jobs_due_in_one_minute_and_three_minutes_of_silence_are_none() -> None:
    due = NOON - timedelta(minutes=1)
    last = NOON - timedelta(minutes=3)
    assert not is_silent(last, NOON, [due, due])
    assert not is_silent(last, NOON, [due, due.replace(second=59)])
    # Two due times, and still no silence; nor is one due time, after a day.
    assert not is_silent(last, NOON, [due, due - timedelta(minutes=1)])
    assert not is_silent(NOON - timedelta(days=1), NOON, [due, due])
    assert is_silent(NOON - GRACE - timedelta(minutes=1), NOON, [due, due - timedelta(minutes=1)])


def test_a_sender_that_always_pauses_over_noon_is_not_silent_at_noon() -> None:
    past = shifts(14)
    due = [NOON - timedelta(minutes=minutes) for minutes in (50, 20)]
    at_noon = NOON.replace(hour=11, minute=50)
    assert usual_pause([*past, at_noon], NOON) == timedelta(minutes=70)
    assert not is_silent(at_noon, NOON, due, past)
    assert is_silent(at_noon, NOON, due, shifts(14, rest=(0, 0)))
    # The rest is over for half an hour, and nothing came.
    assert is_silent(at_noon, NOON.replace(hour=13, minute=40), due, past)
    # One that usually works at this time, and stopped an hour before noon.
    assert is_silent(at_noon - timedelta(hours=1), NOON, due, past)


def test_what_is_told_stays_until_it_speaks() -> None:
    """Dead since four, it is quiet at midnight as on every night; nobody is told that it is over."""
    last = NOON.replace(hour=16, minute=0) - timedelta(days=1)
    past = [moment for moment in shifts(14) if moment < last]
    due = [last + timedelta(minutes=minutes) for minutes in (15, 45)]
    midnight = NOON.replace(hour=0, minute=0)
    assert is_silent(last, last + timedelta(minutes=46), due, past)
    assert not is_silent(last, midnight, due, past)
    assert is_silent(last, midnight, due, past, is_told=True)


def test_an_outage_is_not_usual_and_days_off_tell_nothing() -> None:
    past = [moment for moment in shifts(20) if (NOON - moment).days not in (3, 4)]
    assert usual_pause(past, NOON.replace(hour=10)) == timedelta(minutes=10)
    working = [moment for moment in shifts(20) if moment.weekday() < 5]
    assert usual_pause(working, NOON.replace(hour=10)) == timedelta(minutes=10)
    assert usual_pause(shifts(4), NOON) is None
    assert usual_pause([], NOON) is None


def test_the_mart_and_the_replay_say_the_same(bank: Bank) -> None:
    bank.tick("1 00:00")
    known = []
    for seed in range(40):
        chance = Random(seed)
        as_of = at("28 00:00") + timedelta(minutes=chance.randint(0, 1439))
        days = chance.randint(0, 27)
        first, last = chance.choice([(1, 3), (0, 24), (8, 18)])
        moments = sorted(
            {
                at(f"{day} 00:00") + timedelta(minutes=chance.randint(60 * first, 60 * last - 1))
                for day in range(28 - days, 29)
                for _ in range(chance.choice([0, 1, 5, 40]))
            }
        )
        with connect(bank.settings) as connection:
            connection.execute("delete from raw.job_status")
            connection.execute("update control.tick set published_as_of = %s", [as_of])
            for month in ("2026-02-01", "2026-03-01"):
                connection.execute("select raw.ensure_partition('job_status', %s::date)", [month])
            connection.cursor().executemany(
                "insert into raw.job_status (load_id, seq, line_no, application_id, job_id, status_code, status_at,"
                " business_date) values (1, %s, 1, 'core', 'a', 'START', %s, %s)",
                [(number, moment, moment.date()) for number, moment in enumerate(moments)],
            )
            connection.commit()
            found = read_usual_pauses(connection.cursor(), ["core", "desk"])
        pause = usual_pause(moments, as_of)
        assert found == ({} if pause is None else {"core": pause}), seed
        known += [pause] if pause is not None else []
    assert len(known) > 20


def test_dead_is_told_once_and_ends_when_it_speaks(bank: Bank) -> None:
    for day in range(1, 9):
        date = f"2026-03-{day:02}"
        bank.sends("core/a", f"START {day} 01:00", f"SUCCEED {day} 02:00", date=date)
        bank.sends("core/lone", f"START {day} 02:10", f"SUCCEED {day} 02:30", date=date)
    bank.at("9 02:59")
    assert bank.open() == {}
    bank.at("9 03:01")
    # One due time is none, whoever is late.
    assert "sender_silence core" not in bank.open()
    for moment in ("9 03:31", "9 03:32", "9 12:00", "9 23:00"):
        bank.at(moment)
        assert "sender_silence core" in bank.open()
    silent = bank.open()["sender_silence core"]
    # As it was told first, whatever is usual now.
    assert "at that time of day it is usually silent for 22h 30m at most; 2 jobs" in silent.message
    assert [
        title for event, title in bank.messages() if title.startswith("Sender silent") and event == "opened"
    ] == ["Sender silent: core"]
    assert bank.query(
        "select is_silent, missing_moments from marts.sender_silence where application_id = 'core'"
    ) == [(True, 2)]
    bank.sends("core/a", "START 9 23:10", date="2026-03-09")
    bank.at("9 23:11")
    assert "sender_silence core" not in bank.open()
    (over,) = [one for one in bank.all() if one.key.kind == "sender_silence"]
    assert over.resolution == "heard"
    found = replay(bank.settings, at("9 00:00"), at("9 23:59"))
    assert found.opened["sender_silence"] == 1


def test_silence_begins_with_time_alone(bank: Bank) -> None:
    """Two due times have passed, and it is quiet as it is every night: a quarter of an hour later it is not."""
    bank.write(
        "slos/bank.yml",
        """
slos:
  - {id: slo-a, application: core, calendar: every_day, jobs: [{job: a, end: "03:00"}]}
  - {id: slo-lone, application: core, calendar: every_day, jobs: [{job: lone, end: "03:02"}]}
""",
    )
    for day in range(1, 9):
        date = f"2026-03-{day:02}"
        bank.sends("core/a", f"START {day} 02:58", f"SUCCEED {day} 02:59", date=date)
        bank.sends("core/lone", f"SUCCEED {day} 03:01", date=date)
    as_of = bank.tick("9 03:05")
    assert bank.query(
        "select is_silent, silent_from_at from marts.sender_silence where application_id = 'core'"
    ) == [(False, at("9 03:13"))]
    found = waiting(bank.settings, as_of + timedelta(hours=1))
    assert found.since == at("9 03:13") + timedelta(microseconds=1)
    bank.at("9 03:14")
    assert "sender_silence core" in bank.open()
