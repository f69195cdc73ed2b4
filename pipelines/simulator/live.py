"""`duemark simulate --live`: jobs report and packages are visited as time passes: something to watch."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock
from pathlib import Path
from zoneinfo import ZoneInfo

from pipelines.errors import DuemarkError
from pipelines.simulator.access_log import LiveLogs
from pipelines.simulator.behaviour import Day, simulate_days
from pipelines.simulator.existing import load_world
from pipelines.simulator.files import Row, StatusFile
from pipelines.simulator.plan import SECOND, World
from pipelines.simulator.simulate import stems

FORMATS = ("csv", "ndjson")
# As in the demonstration, whose simulated past ends at 08:15 in New York: what it did not send comes from here.
MARKET = ZoneInfo("America/New_York")
STOPS_AT = timedelta(hours=8, minutes=15)
# A relay that collects, and sends what it has.
SEND_SECONDS = 10.0
# The world ends so many days after its quarter began; whoever watches for so long starts it again.
WORLD_DAYS = 190


@dataclass(frozen=True)
class Sent:
    """Files that were put into the landing folder at one go: statuses in them, up to which instant.

    `lines`: those appended to logs since the one before.
    """

    files: tuple[Path, ...]
    statuses: int
    up_to: datetime
    lines: int = 0


def live(
    landing: Path,
    catalog: Path,
    seed: int,
    *,
    speed: float = 1.0,
    requests: int = 0,
    seconds: float | None = None,
    now: datetime | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Sent]:
    """Send the statuses of `catalog`'s jobs when they fall due, for ever or for `seconds` of wall time.

    What happened already to the business dates under way comes at once. Each file is written as `.part` and renamed.
    The same seed gives the same statuses for a date, whenever in its quarter the simulation is started; those sent
    twice are known. `speed` lets the simulated clock run so much faster, from `now` (default: the real one) on; what
    is sent then is from the future. With `requests` on a working day, access logs and heartbeats grow too, from where
    the demonstration's end. Raises DuemarkError when the catalog cannot be used.
    """
    if speed <= 0:
        raise DuemarkError("The clock cannot stand still or run backwards.", "Give --speed above 0.")
    start = now or datetime.now(UTC)
    world, since = _world(catalog, start)
    folder = landing / "job_status"
    folder.mkdir(parents=True, exist_ok=True)
    names = stems(world.senders)
    queue = _Queue(world, seed, since)
    logs = (
        LiveLogs(landing, catalog, seed, requests, datetime.combine(since, clock(), MARKET) + STOPS_AT)
        if requests
        else None
    )
    lines = 0
    # Making the past takes a moment, which is no part of the time that passes.
    queue.make(start)
    began = time.monotonic()
    while True:
        elapsed = time.monotonic() - began
        moment = start + timedelta(seconds=elapsed * speed)
        if logs is not None:
            lines += logs.write(moment)
        rows = queue.due(moment)
        if rows:
            yield Sent(tuple(_write(folder, world, names, rows, moment)), len(rows), moment, lines)
            lines = 0
        if queue.is_empty or (seconds is not None and elapsed >= seconds):
            return
        sleep(max(min(SEND_SECONDS / speed, SEND_SECONDS), 0.05))


def _world(catalog: Path, start: datetime) -> tuple[World, date]:
    """The world of the quarter, and the first business date that is sent."""
    local = start.astimezone(MARKET)
    since = (local - STOPS_AT).date()
    first = date(since.year, since.month - (since.month - 1) % 3, 1)
    last = first + timedelta(days=WORLD_DAYS)
    end = int(datetime(last.year, last.month, last.day, tzinfo=UTC).timestamp()) * SECOND
    return load_world(catalog, first, last, end, FORMATS), since


class _Queue:
    """Statuses in the order of their instants, made a date ahead of the clock."""

    def __init__(self, world: World, seed: int, since: date) -> None:
        self._days: Iterator[Day] = simulate_days(world, seed)
        self._world, self._since = world, since
        self._made: date | None = None
        self._rows: list[tuple[int, int, Row]] = []
        self._number = 0
        self.is_empty = False

    def make(self, moment: datetime) -> None:
        """Make all that may happen until a day after `moment`."""
        # The farthest east begins a date fourteen hours earlier, and nobody starts a day too soon.
        ahead = (moment + timedelta(days=1)).date()
        while self._made is None or self._made <= ahead:
            day = next(self._days, None)
            if day is None:
                self.is_empty = not self._rows
                break
            self._made = day.day
            if day.day >= self._since:
                self._add(day)

    def due(self, moment: datetime) -> list[Row]:
        """Those whose instant has come."""
        self.make(moment)
        limit = int(moment.timestamp() * SECOND)
        rows = []
        while self._rows and self._rows[0][0] <= limit:
            rows.append(heapq.heappop(self._rows)[2])
        return rows

    def _add(self, day: Day) -> None:
        for number, runs in day.runs.items():
            job = self._world.jobs[number]
            for run in runs:
                for at, code in run.statuses:
                    row = (job.application, job.job, code, at, day.day.isoformat(), run.run_id, run.host)
                    # The number keeps what happened at one instant in its order.
                    heapq.heappush(self._rows, (at, self._number, row))
                    self._number += 1


def _write(
    folder: Path, world: World, names: dict[str, str], rows: list[Row], moment: datetime
) -> Iterator[Path]:
    by_application: dict[str, list[Row]] = {}
    for row in rows:
        by_application.setdefault(row[0], []).append(row)
    for application, own in sorted(by_application.items()):
        sender = world.senders[application]
        path = folder / f"live-{moment:%Y%m%dT%H%M%S%f}-{names[application]}.{sender.format}"
        draft = path.with_name(f"{path.name}.part")
        file = StatusFile(draft, sender, sender.format)
        file.add(own, world.senders)
        file.close()
        yield draft.rename(path)
