"""How jobs behave, date by date: durations, failures, restarts, corrections; and what their schedulers report of it."""

from __future__ import annotations

import math
import random
from calendar import monthrange
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from zoneinfo import ZoneInfo

from pipelines.simulator.plan import MINUTE, NEVER, SECOND, Code, Due, SimulatedJob, World, instant

_WEEKDAY = (1.08, 1.0, 0.98, 1.0, 1.06, 0.85, 0.8)
_MONTH_END = 1.15
SLOWDOWN = 0.75
"""How much longer a slowing job takes on the last date than on the first: a share of its usual duration."""


@dataclass(slots=True)
class Run:
    """One run as its scheduler reports it: (instant, code) in order."""

    run_id: str
    host: str
    statuses: list[tuple[int, Code]]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that was made to happen."""

    kind: str
    job: int
    day: date
    at: int
    detail: str = ""


@dataclass(slots=True)
class Day:
    """A business date: its promises by SLO, and the visible runs of every job that had any."""

    day: date
    dues: list[Sequence[Due]]
    runs: dict[int, list[Run]] = field(default_factory=dict)
    intraday: set[int] = field(default_factory=set)
    events: list[Event] = field(default_factory=list)


@dataclass(slots=True)
class _Plan:
    starts: list[int]
    dues: list[int]
    is_intraday: bool


@dataclass(slots=True)
class _State:
    rng: random.Random
    ended: int = 0
    busy: int = 0
    runs: int = 0
    number: int = 0


def simulate_days(world: World, seed: int) -> Iterator[Day]:
    """Simulate every business date in order, until the clock of `world` stops at its `as_of`.

    A job's history depends on the seed, itself and its upstreams only, so that a bank with one job more keeps the rest.
    """
    states = [_State(random.Random(f"{seed}/{job.application}/{job.job}")) for job in world.jobs]
    days = max(1, (world.last - world.first).days)
    finale = _finale(world, seed)
    day = world.begin
    # The farthest east begins the second date after while New York has its morning.
    while day <= world.last + timedelta(days=2):
        today = Day(day, [slo.on(day) for slo in world.slos])
        plans = _plans(world, today) if day >= world.first else {}
        common = random.Random(f"{seed}/{day.isoformat()}").lognormvariate(0, 0.04)
        common *= _WEEKDAY[day.weekday()] * (_MONTH_END if _is_month_end(day) else 1.0)
        ends: dict[int, list[int]] = {}
        midnights: dict[ZoneInfo, int] = {}
        # In the order of the jobs, which is that of the chains.
        for number in sorted(plans):
            job, plan, state = world.jobs[number], plans[number], states[number]
            zone = world.senders[job.application].zone
            if zone not in midnights:
                midnights[zone] = instant(day, 0, zone)
            growth = 1.0
            if job.role == "slowing":
                growth += SLOWDOWN * min(1.0, (day - world.first).days / days)
            simulation = _JobDay(
                world,
                number,
                plan,
                state,
                today,
                common * growth,
                midnights[zone],
                finale.get((number, day), ""),
            )
            ends[number] = simulation.run(_ready(job, plan, plans, ends, states))
        # Only now: an upstream that has not run yet on this date is known by its date before.
        for number, ended in ends.items():
            finite = [end for end in ended if end < NEVER]
            if finite:
                states[number].ended = max(finite)
        yield today
        day += timedelta(days=1)


def _is_month_end(day: date) -> bool:
    return day.day >= monthrange(day.year, day.month)[1] - 1


def _plans(world: World, today: Day) -> dict[int, _Plan]:
    """When each job runs: at its earliest planned start, or once in every window of its busiest intraday promise."""
    plans: dict[int, _Plan] = {}
    for slo, dues in zip(world.slos, today.dues, strict=True):
        if slo.is_intraday:
            for place, number in enumerate(slo.jobs):
                known = plans.get(number)
                if known is None or not known.is_intraday or len(known.starts) < len(dues):
                    starts = [due.jobs[place].start for due in dues]
                    if starts:
                        plans[number] = _Plan(starts, [due.jobs[place].end for due in dues], is_intraday=True)
            continue
        for due in dues:
            for entry in due.jobs:
                known = plans.get(entry.job)
                if known is None:
                    plans[entry.job] = _Plan([entry.start], [entry.end], is_intraday=False)
                elif not known.is_intraday and entry.start < known.starts[0]:
                    known.starts[0], known.dues[0] = entry.start, entry.end
    if today.day.weekday() < 5:
        for number in sorted(world.unpromised):
            job = world.jobs[number]
            ends = [plans[upstream].dues[-1] for upstream in job.upstreams if upstream in plans]
            night = instant(today.day, 26 * 60, world.senders[job.application].zone)
            start = max(ends, default=night)
            plans[number] = _Plan([start], [start + 60 * MINUTE], is_intraday=False)
    return plans


def _ready(
    job: SimulatedJob,
    plan: _Plan,
    plans: Mapping[int, _Plan],
    ends: Mapping[int, list[int]],
    states: Sequence[_State],
) -> list[int]:
    """The instants from which each run of a job has what it needs from upstream; `NEVER` when it will not come."""
    if not job.upstreams:
        return [0] * len(plan.starts)
    ready = []
    for start in plan.starts:
        latest = 0
        for upstream in job.upstreams:
            theirs = plans.get(upstream)
            # Hours later it is the date before that counts; minutes later, a spring gap turned the two about.
            if theirs is None or upstream not in ends or theirs.starts[0] > start + 3 * 60 * MINUTE:
                latest = max(latest, states[upstream].ended)
                continue
            times = theirs.starts if plan.is_intraday else theirs.dues
            due = [n for n, at in enumerate(times) if at <= start]
            latest = max(latest, ends[upstream][due[-1] if due else -1])
        ready.append(latest)
    return ready


class _JobDay:
    """One job on one business date."""

    def __init__(
        self,
        world: World,
        number: int,
        plan: _Plan,
        state: _State,
        today: Day,
        factor: float,
        midnight: int,
        fate: str,
    ) -> None:
        self.world, self.number, self.plan, self.state, self.today = world, number, plan, state, today
        self.job = world.jobs[number]
        self.sender = world.senders[self.job.application]
        self.rng = state.rng
        self.factor, self.midnight, self.fate = factor, midnight, fate
        self.runs: list[Run] = []
        # Without run ids only the order of the statuses tells runs apart, so nothing that blurs it is done to them.
        self.may_blur = self.sender.has_run_ids or not plan.is_intraday

    def run(self, ready: Sequence[int]) -> list[int]:
        """Simulate, keep what is visible, and return the true end of each run (`NEVER`: none)."""
        ends = [self._window(place, start, ready[place]) for place, start in enumerate(self.plan.starts)]
        self.state.runs += 1
        if self.plan.is_intraday:
            self.today.intraday.add(self.number)
        if self.job.role == "silent":
            return ends
        if self.plan.is_intraday:
            self._separate()
        visible = []
        for run in self.runs:
            run.statuses = [status for status in run.statuses if status[0] <= self.world.as_of]
            if self.job.role == "succeed_only":
                run.statuses = [status for status in run.statuses if status[1] == "SUCCEED"]
            if run.statuses:
                visible.append(run)
        if visible:
            self.today.runs[self.number] = visible
        return ends

    def _separate(self) -> None:
        """A rerun and the next window's run may meet in one second; they are to stay two statuses."""
        seen: set[tuple[int, str]] = set()
        for run in self.runs:
            for place, (at, code) in enumerate(run.statuses):
                apart = at
                while (apart, code) in seen:
                    apart += SECOND
                seen.add((apart, code))
                run.statuses[place] = (apart, code)

    def _event(self, kind: str, at: int, detail: str = "") -> None:
        if at <= self.world.as_of and self.job.role != "silent":
            self.today.events.append(Event(kind, self.number, self.today.day, at, detail))

    def _whole(self, milliseconds: float) -> int:
        return int(milliseconds) if self.sender.is_precise else int(milliseconds) // SECOND * SECOND

    def _window(self, place: int, planned: int, ready: int) -> int:
        if ready >= NEVER:
            return NEVER
        rng = self.rng
        intraday = self.plan.is_intraday
        start = planned + rng.expovariate(1 / (8 * SECOND if intraday else 70 * SECOND))
        if rng.random() < 0.03:
            start = planned - rng.uniform(5 * SECOND, 4 * MINUTE)
            self._event("early_start", int(start))
        if intraday and self.may_blur and rng.random() < 0.003:
            start = planned + rng.uniform(31 * MINUTE, 34 * MINUTE)
            self._event("slipped_window", int(start), f"window {place + 1}")
        start = max(start, ready + rng.uniform(3, 40) * SECOND, self.state.busy + 2 * SECOND, self.midnight)
        start = -int(-start // SECOND) * SECOND if not self.sender.is_precise else int(start)
        # Logarithms of durations spread evenly about the usual one.
        duration = self.job.median * self.factor * math.exp(rng.gauss(0, self.job.sigma)) * SECOND
        chance = rng.random()
        if chance < 0.006 and not intraday:
            duration *= rng.uniform(2, 4)
            self._event("long_run", start, f"{duration / MINUTE / self.job.median * 60:.1f} times the usual")
        if self.fate == "late":
            duration = max(duration, self.plan.dues[0] + rng.uniform(15, 35) * MINUTE - start)
            self._event("late_at_the_end", start)
        elif self.fate == "running":
            duration = self.world.as_of + 90 * MINUTE - start
            self._event("running_at_the_end", start)
        duration = max(duration, 2 * SECOND)
        self.state.number += 1
        end = self._attempts(start, duration)
        if end < NEVER:
            self.state.busy = max(self.state.busy, end)
            if self.may_blur and rng.random() < 0.008:
                self._revise(end)
        return end

    def _run_id(self) -> str:
        return f"{self.rng.getrandbits(48):012x}" if self.sender.has_run_ids else ""

    def _host(self) -> str:
        return f"{self.job.application}-{self.rng.randrange(1, 5):02d}" if self.sender.has_hosts else ""

    def _attempts(self, start: int, duration: float) -> int:
        """Try until it succeeds, or until somebody gives it up. Returns the end."""
        rng = self.rng
        run = Run(self._run_id(), self._host(), [])
        self.runs.append(run)
        attempt = 1
        while True:
            is_lost = attempt == 1 and self.may_blur and rng.random() < 0.003
            if is_lost:
                self._event("lost_start", start)
            else:
                run.statuses.append((start, "START"))
            fails = rng.random() < (0.015 if attempt == 1 else 0.1)
            if self.fate != "failed" and (self.fate or not fails):
                end = max(self._whole(start + duration), start + SECOND)
                run.statuses.append((end, "SUCCEED"))
                return end
            failed = max(self._whole(start + duration * rng.uniform(0.1, 0.8)), start + SECOND)
            run.statuses.append((failed, "FAIL"))
            self._event("failed", failed, f"attempt {attempt}")
            self.state.busy = max(self.state.busy, failed)
            if self.fate == "failed" or attempt == 4 or rng.random() < 0.02:
                self._event("given_up", failed)
                return NEVER
            wait = (
                rng.expovariate(1 / 50) * SECOND
                if self.plan.is_intraday
                else rng.expovariate(1 / 12) * MINUTE
            )
            start = self._whole(failed + 5 * SECOND + min(wait, 3 * 60 * MINUTE))
            attempt += 1
            if rng.random() < 0.75 or not self.sender.has_run_ids:
                self._event("restarted", start, "new run")
                run = Run(self._run_id(), self._host(), [])
                self.runs.append(run)
            else:
                self._event("restarted", start, "same run")

    def _revise(self, end: int) -> None:
        """After the data was there it is done, or tried, once more."""
        rng = self.rng
        again = self._whole(end + rng.uniform(10, 240) * MINUTE)
        kind = rng.choice(("success_again", "rerun", "failed_rerun"))
        self._event(kind, again)
        if kind == "success_again":
            self.runs[-1].statuses.append((again, "SUCCEED"))
            return
        took = self._whole(rng.uniform(2, 9) * MINUTE)
        code: Code = "SUCCEED" if kind == "rerun" else "FAIL"
        self.runs.append(Run(self._run_id(), self._host(), [(again, "START"), (again + took, code)]))
        if not self.plan.is_intraday:
            self.state.busy = max(self.state.busy, again + took)


def _finale(world: World, seed: int) -> dict[tuple[int, date], str]:
    """Something to look at when the simulation stops: promises of the last date that fail, still run, or came late."""
    rng = random.Random(f"{seed}/finale")
    downstream: dict[int, set[int]] = {}
    for number, job in enumerate(world.jobs):
        for upstream in job.upstreams:
            downstream.setdefault(upstream, set()).add(number)
    open_slos = []
    for slo in world.slos:
        for due in slo.on(world.last):
            is_fresh = world.as_of - 10 * 60 * MINUTE < due.expected_end < world.as_of - 40 * MINUTE
            # Jobs with a part of their own keep it.
            is_plain = not any(world.jobs[entry.job].role for entry in due.jobs)
            if is_fresh and is_plain and not slo.is_intraday:
                open_slos.append(due)
    rng.shuffle(open_slos)
    fates: dict[tuple[int, date], str] = {}
    taken: set[int] = set()
    for fate in ("late", "failed", "running", "late"):
        for due in open_slos:
            last = max(due.jobs, key=lambda entry: entry.end).job
            reach = {last}
            stack = [last]
            while stack:
                for number in downstream.get(stack.pop(), ()):
                    if number not in reach:
                        reach.add(number)
                        stack.append(number)
            reach |= {entry.job for entry in due.jobs}
            if not reach & taken:
                taken |= reach
                fates[last, world.last] = fate
                break
    return fates
