"""How everything stands, on one page of the terminal; a line for each change where nobody looks at one."""

from __future__ import annotations

import sys
import threading
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

    from pipelines.processes.status import Status

COLOURS = {"up": "green", "starting": "yellow", "waiting": "dim", "down": "bold red"}


@dataclass(frozen=True)
class Shown:
    """A process as it is shown."""

    name: str
    state: str
    since: datetime | None
    pid: int | None
    restarts: int
    note: str


class Page:
    """A context manager; `status` is what was last found out of the rest."""

    def __init__(self, url: str, settings: Settings, receiver_url: str | None = None) -> None:
        self.url, self.settings, self.receiver_url = url, settings, receiver_url
        self.board = (settings.board / "index.html").as_uri()
        self.status: Status | None = None
        self._live: Live | None = None
        self._told: deque[str] = deque(maxlen=6)
        self._parts: list[Shown] = []
        self._ready = ""
        self._down: dict[str, str] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        if sys.stdout.isatty():
            from rich.live import Live

            self._live = Live(get_renderable=self.render, refresh_per_second=2)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def tell(self, text: str) -> None:
        """Something happened."""
        line = f"{datetime.now(UTC):%H:%M:%S}Z {text}"
        with self._lock:
            self._told.append(line)
        if self._live is None:
            click.echo(line)

    def show(self, parts: list[Shown]) -> None:
        """How the processes stand now."""
        self._parts = parts
        if parts and all(part.state == "up" for part in parts) and self._ready != self.url:
            self._ready = self.url
            receiver = f", statuses to {self.receiver_url}" if self.receiver_url else ""
            self.tell(f"everything is up: {self.url}{receiver}, the board: {self.board}")
        if self._live is None:
            self._tell_changes()

    def _tell_changes(self) -> None:
        """Without a terminal: parts of the status that are ready no more, or again."""
        status = self.status
        if status is None:
            return
        down = {part.name: part.reason for part in status.parts if not part.is_ready}
        for name, reason in down.items():
            if name not in self._down:
                self.tell(f"not ready: {name}: {reason}")
        for name in self._down:
            if name not in down:
                self.tell(f"ready: {name}")
        self._down = down

    def render(self) -> RenderableType:
        """The page."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        now = datetime.now(UTC)
        processes = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        for title in ("process", "state", "for", "pid", "restarts", ""):
            processes.add_column(title, justify="right" if title in {"for", "pid", "restarts"} else "left")
        for part in self._parts:
            processes.add_row(
                part.name,
                Text(part.state, COLOURS.get(part.state, "")),
                _age(now, part.since),
                str(part.pid or ""),
                str(part.restarts or ""),
                Text(part.note, "dim", overflow="ellipsis", no_wrap=True),
            )
        rest = Table(box=None, padding=(0, 2, 0, 0), show_header=False)
        for one in self.status.parts if self.status else ():
            rest.add_row(
                Text("ready", "green") if one.is_ready else Text("not ready", "bold red"),
                one.name,
                one.reason,
            )
        with self._lock:
            told = Text("\n".join(self._told), "dim")
        head = Text.assemble(
            ("Duemark", "bold"),
            "  ",
            (self.url, "cyan"),
            f"  statuses to {self.receiver_url}" if self.receiver_url else "",
            f"  {self.settings.home}  ",
            ("Ctrl-C stops it", "dim"),
            "\nboard    ",
            (self.board, "cyan"),
        )
        return Group(head, "", processes, "", rest, "", told)


def _age(now: datetime, since: datetime | None) -> str:
    if since is None:
        return ""
    seconds = max(int((now - since).total_seconds()), 0)
    days, rest = divmod(seconds, 86_400)
    hours, rest = divmod(rest, 3600)
    minutes, seconds = divmod(rest, 60)
    clock = f"{hours}:{minutes:02}:{seconds:02}" if hours or days else f"{minutes}:{seconds:02}"
    return f"{days} d {clock}" if days else clock
