"""Keep a written board fresh: it is written again when a tick has published since.

A process of its own, so that nothing else waits for it or ends with it; `duemark up` runs one.
"""

from __future__ import annotations

import time
from datetime import datetime
from pathlib import Path
from typing import cast

import psycopg

from pipelines.board.write import make
from pipelines.errors import DuemarkError
from pipelines.logs import get_logger
from pipelines.signals import stopping
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

log = get_logger(__name__)

# While anything is open there is a tick each minute; nobody looks at a page more often.
EVERY_SECONDS = 60.0
LOOK_SECONDS = 5.0


def follow(settings: Settings, output: Path, timezone: str | None = None) -> None:
    """Write the board now, and whenever a tick has published since, until SIGINT, SIGTERM or SIGHUP.

    At most once in EVERY_SECONDS. What goes wrong is logged, once, and tried again.
    """
    follower = Follower(settings, output, timezone)
    with stopping() as stopped:
        while not stopped.is_set():
            began = time.monotonic()
            wait = EVERY_SECONDS if follower.step() else LOOK_SECONDS
            stopped.wait(max(wait - (time.monotonic() - began), LOOK_SECONDS))


class Follower:
    """What it remembers: which publication the board shows, and what went wrong last."""

    def __init__(self, settings: Settings, output: Path, timezone: str | None = None) -> None:
        self.settings, self.output, self.timezone = settings, output, timezone
        self._has_written = False
        self._shows: datetime | None = None
        self._problem = ""

    def step(self) -> bool:
        """Look, and write where there is something new; whether it wrote. Raises nothing: the next may do better."""
        try:
            # Before it is read: what is published meanwhile is written by the next one.
            published_at = self._published_at()
            if self._has_written and published_at == self._shows:
                return False
            began = time.monotonic()
            make(self.settings, self.output, self.timezone)
        except (DuemarkError, psycopg.Error, OSError) as error:
            problem = " ".join(str(error).split()) or type(error).__name__
            if problem != self._problem:
                log.warning("the board was not written", problem=problem, output=str(self.output))
            self._problem = problem
            return False
        self._has_written, self._shows, self._problem = True, published_at, ""
        log.info("the board was written", output=str(self.output), seconds=round(time.monotonic() - began, 2))
        return True

    def _published_at(self) -> datetime | None:
        with connect(self.settings, "operate", autocommit=True) as connection:
            row = connection.execute("select published_at from control.tick").fetchone()
        return cast("datetime | None", row[0]) if row else None
