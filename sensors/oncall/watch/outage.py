"""What the watcher outside knows while the database is away: a file in the home, so that no end of a process loses it.

Since when it cannot look, why, and which routes have been told. Two watchers of one home share it, and tell once.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from pipelines.logs import get_logger
from pipelines.warehouse.settings import Settings
from sensors.oncall.incidents.routes import Route, Routes

log = get_logger(__name__)


@dataclass(frozen=True)
class Outage:
    """Nobody could look since `since`, because of `reason`; `told`: the routes that know, by their id."""

    since: datetime
    reason: str
    told: dict[str, Route] = field(default_factory=dict)


def _path(settings: Settings) -> Path:
    return settings.home / "watch" / "outage.json"


def read(settings: Settings) -> Outage | None:
    """The outage that lasts, as far as anybody has noted; None without one."""
    try:
        content = json.loads(_path(settings).read_text("utf-8"))
        return Outage(
            datetime.fromisoformat(content["since"]),
            str(content["reason"]),
            dict(Routes.from_json(content["told"]).routes),
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("the note of the outage cannot be read", path=str(_path(settings)), error=str(error))
        return None


def write(settings: Settings, outage: Outage) -> None:
    """Note it for whoever looks next; only its owner can read the file, for routes stand in it."""
    path = _path(settings)
    content = {
        "since": outage.since.isoformat(),
        "reason": outage.reason,
        "told": Routes(outage.told).to_json(),
    }
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(content, file)
        draft.replace(path)
    except OSError as error:
        log.warning("the outage cannot be noted", path=str(path), error=str(error))


def clear(settings: Settings) -> None:
    """It is over."""
    _path(settings).unlink(missing_ok=True)
