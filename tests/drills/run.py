"""`make drill`: break the running system on purpose, one thing at a time, and see that somebody is told, once.

Real processes, real signals. Each drill breaks something, waits for its alert (two minutes at most), mends it, and
waits for the notice of its end. When all are done, every alert that came is accounted for: one alert and one end for
each drill on each route, and not one message more. Drills that do not touch each other run side by side.

    python -m tests.drills.run [--keep] [NAME…]
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from tests.drills.house import LOCATION, House, kill

# From when it is so. What has to last before it counts (a heartbeat missing, a run silent) is in `after`.
TELL_SECONDS = 120.0
END_SECONDS = 180.0
BEGIN_SECONDS = 90.0
SETTLE_SECONDS = 30.0
# It is pinged twice a minute, unless a look takes long.
PING_GAP = 60.0


@dataclass
class Drill:
    """`break_` does the damage; `after`: so many seconds later the condition holds; `mend` puts it right.

    `also`: what is told beside it, because it is part of the damage.
    """

    name: str
    kind: str
    subject: str
    break_: Callable[[House], object]
    mend: Callable[[House], object]
    after: float = 0.0
    also: tuple[tuple[str, str], ...] = ()
    broken_at: float = 0.0
    told: float | None = None
    ended: float | None = None
    problems: list[str] = field(default_factory=list)


def set_flag(name: str, *, is_set: bool) -> Callable[[House], None]:
    return lambda house: house.flag(name, is_set=is_set)


def switch(name: str, location: str = LOCATION, *, is_on: bool) -> Callable[[House], None]:
    return lambda house: house.switch(name, is_on=is_on, location=location)


def flag_and_launch(name: str, job: str, *, is_set: bool) -> Callable[[House], None]:
    def act(house: House) -> None:
        house.flag(name, is_set=is_set)
        house.launch(job)

    return act


def begin(house: House, job: str) -> int:
    """Launch a run that goes on until its flag is taken away; returns the id of its process."""
    house.flag(job, is_set=True)
    (house.flags / f"{job}.run").write_text(house.launch(job))
    pid_file = house.flags / f"{job}.pid"
    house.wait(
        f"the run of {job} to begin", lambda: pid_file.exists() and pid_file.read_text(), BEGIN_SECONDS
    )
    return int(pid_file.read_text())


def fill_queue(house: House) -> None:
    house.flag("holds", is_set=True)
    first = house.launch("holds")
    house.wait("the first run to begin", lambda: house.run_status(first) == "STARTED", BEGIN_SECONDS)
    house.launch("holds")


def lose_server(house: House) -> None:
    """The code server is killed, and what it runs with it: nobody is left to say that the run is over."""
    worker = begin(house, "vanishes")
    kill(house.pid(LOCATION))
    kill(worker)


def break_location(house: House) -> None:
    house.break_module()
    kill(house.pid(LOCATION))


def refuse(house: House) -> None:
    """A refusal shows when there is something to tell."""
    house.pager.status = 503
    house.switch("spare", is_on=False)


def accept(house: House) -> None:
    house.pager.status = 200
    house.switch("spare", is_on=True)


def kill_daemon(house: House) -> None:
    """Whoever would start it again is stopped first."""
    pid = house.pid("daemon")
    kill(house.supervisor(), signal.SIGSTOP)
    kill(pid)


def kill_database(house: House) -> None:
    """As the kernel does when memory is short: the supervisor starts it again."""
    kill(house.database())


def stop_database(house: House) -> None:
    """A fast shutdown that is none of ours: an administrator's, or a package's upgrade."""
    kill(house.database(), signal.SIGINT)


def nothing(_: House) -> None:
    """It comes back by itself."""


# Side by side within a phase, phases one after the other. `after` is what has to last before it is a failure.
PHASES = [
    [
        Drill("a sensor raises", "sensor_failed", f"{LOCATION}/raises",
              set_flag("raises", is_set=True), set_flag("raises", is_set=False), after=10),
        Drill("a sensor hangs", "sensor_late", f"{LOCATION}/hangs",
              set_flag("hangs", is_set=True), set_flag("hangs", is_set=False), after=35),
        Drill("a sensor is switched off", "sensor_off", f"{LOCATION}/switched",
              switch("switched", is_on=False), switch("switched", is_on=True)),
        Drill("a run fails", "run_failed", "fails",
              flag_and_launch("fails", "fails", is_set=True), flag_and_launch("fails", "fails", is_set=False)),
        Drill("a check fails", "check_failed", "drill/table is_fine",
              flag_and_launch("check", "checked", is_set=True), flag_and_launch("check", "checked", is_set=False)),
        Drill("runs wait in the queue", "run_stuck", "queue",
              fill_queue, set_flag("holds", is_set=False), after=60),
    ],
    [
        # Dagster does a run that crashed again: nothing is to be mended but what keeps it busy.
        Drill("a run's process is killed", "run_failed", "works",
              lambda house: kill(begin(house, "works")), set_flag("works", is_set=False)),
        Drill("a run says nothing", "run_stuck", "lingers",
              lambda house: begin(house, "lingers"), set_flag("lingers", is_set=False), after=40),
        # The watcher outside delivers instead.
        Drill("delivery is switched off", "sensor_off", "oncall/delivery",
              switch("delivery", "oncall", is_on=False), switch("delivery", "oncall", is_on=True)),
    ],
    [
        Drill("a code server is killed with its run", "run_failed", "vanishes",
              lose_server, set_flag("vanishes", is_set=False)),
        Drill("a route answers 503", "delivery_failed", "pager", refuse, accept, after=60,
              also=(("sensor_off", f"{LOCATION}/spare"),)),
    ],
    [
        Drill("a location has a syntax error", "location_failed", LOCATION,
              break_location, House.mend_module, after=45),
    ],
    [
        Drill("the daemon is killed", "daemon_dead", "daemon",
              kill_daemon, lambda house: kill(house.supervisor(), signal.SIGCONT), after=120),
    ],
    # Only the embedded server is ours to break.
    *(
        []
        if os.environ.get("DUEMARK_DATABASE_URL")
        else [
            [Drill("the whole database is killed", "database_restarted", "warehouse", kill_database, nothing)],
            [Drill("the database is restarted by hand", "database_restarted", "warehouse", stop_database, nothing)],
        ]
    ),
]  # fmt: skip


def drill(house: House, one: Drill) -> None:
    """Break, be told, mend, be told."""

    def seen(event: str) -> float | None:
        moments = [
            alert.at
            for alert in list(house.alerts)
            if (alert.event, alert.kind, alert.subject) == (event, one.kind, one.subject) and alert.at > began
        ]
        return moments[0] if moments else None

    began = time.monotonic()
    try:
        one.break_(house)
        one.broken_at = time.monotonic()
        try:
            house.wait("the alert", lambda: seen("opened"), one.after + TELL_SECONDS)
            one.told = (seen("opened") or 0.0) - one.broken_at
        finally:
            mended_at = time.monotonic()
            one.mend(house)
        house.wait("the notice of its end", lambda: seen("resolved"), END_SECONDS)
        one.ended = (seen("resolved") or 0.0) - mended_at
    except (TimeoutError, OSError, AssertionError) as error:
        one.problems.append(str(error) or type(error).__name__)


def account(house: House, drills: Sequence[Drill]) -> list[str]:
    """What is wrong with all that was told: one alert and one end for each drill, on each route, and nothing else."""
    told = Counter((alert.kind, alert.subject, alert.event) for alert in house.alerts)
    wanted = Counter(
        (kind, subject, event)
        for one in drills
        for kind, subject in ((one.kind, one.subject), *one.also)
        for event in ("opened", "resolved")
    )
    lines = [
        f"{' '.join(key)}: told {told[key]} times, not {wanted[key]}"
        for key in sorted({*told, *wanted})
        if told[key] != wanted[key]
    ]
    if Counter(alert.title for alert in house.alerts) != Counter(house.pager.titles):
        lines.append(f"the pager heard {len(house.pager.titles)} messages, the file {len(house.alerts)}")
    return lines


def pings(house: House, drills: Sequence[Drill]) -> list[str]:
    """The dead man's URL is silent while alerts do not reach somebody, and at no other time for long."""
    moments = [*house.pager.pings, time.monotonic()]
    silent = [(before, after) for before, after in pairwise(moments) if after - before > PING_GAP]
    lines = [] if house.pager.pings else ["nobody pinged"]
    refused = [one for one in drills if one.kind == "delivery_failed" and one.told]
    for before, after in silent:
        if not any(before - PING_GAP < one.broken_at + (one.told or 0) < after for one in refused):
            lines.append(f"no ping for {after - before:.0f} s")
    return lines


def table(drills: Sequence[Drill]) -> str:
    def seconds(value: float | None) -> str:
        return "never" if value is None else f"{value:.0f} s"

    rows = [("drill", "counts after", "alert after", "end after", "")]
    rows += [
        (
            one.name,
            f"{one.after:.0f} s",
            seconds(one.told),
            seconds(one.ended),
            "; ".join(one.problems) or "ok",
        )
        for one in drills
    ]
    widths = [max(len(row[index]) for row in rows) for index in range(4)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(row[i].rjust(widths[i]) for i in (1, 2, 3)), row[4]]).rstrip()
        for row in rows
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the drills; return the exit code: 0 when each was told once, and its end once."""
    parser = argparse.ArgumentParser(
        description="Break the running system on purpose and see that someone is told."
    )
    parser.add_argument("--keep", action="store_true", help="keep the folder with its logs")
    parser.add_argument(
        "words", nargs="*", help="only drills whose name has one of these words; default: all"
    )
    options = parser.parse_args(arguments)
    phases = [
        [one for one in phase if not options.words or any(word in one.name for word in options.words)]
        for phase in PHASES
    ]
    drills = [one for phase in phases for one in phase]
    house = House(Path(tempfile.mkdtemp(prefix="duemark-drill-")))
    began = time.monotonic()
    try:
        say(f"starting everything in {house.folder}")
        house.start()
        # What is absent is told when somebody has been watching for a while.
        time.sleep(SETTLE_SECONDS)
        for phase in filter(None, phases):
            say(", ".join(one.name for one in phase))
            with ThreadPoolExecutor(len(phase)) as pool:
                list(pool.map(lambda one: drill(house, one), phase))
        # Time for what should not come.
        time.sleep(SETTLE_SECONDS)
        problems = account(house, drills) + pings(house, drills)
    finally:
        house.close()
    say(f"{len(drills)} drills in {time.monotonic() - began:.0f} s\n")
    sys.stdout.write("\n".join([table(drills), *problems]) + "\n")
    is_well = not problems and not any(one.problems for one in drills)
    if options.keep or not is_well:
        sys.stdout.write(f"logs and alerts are in {house.folder}\n")
    else:
        house.remove()
    return 0 if is_well else 1


def say(text: str) -> None:
    sys.stdout.write(f"{datetime.now(UTC):%H:%M:%SZ} {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
