"""Who runs for a home: what its `duemark up` says of itself, and whether that is still so."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from pipelines.processes.parts import run_folder
from pipelines.warehouse.settings import Settings


def running_supervisor(settings: Settings) -> dict[str, Any] | None:
    """What the running `up` of this home says of itself: pid, url, started_at and parts; None when there is none."""
    try:
        state: dict[str, Any] = json.loads((run_folder(settings) / "up.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return state if is_process(state.get("pid"), state.get("created")) else None


def is_process(pid: object, created: object) -> bool:
    """Whether the process is the one meant: after a reboot its id may be anybody's."""
    import psutil

    if not isinstance(pid, int) or not isinstance(created, int | float):
        return False
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(pid)
        return abs(process.create_time() - created) < 1 and process.status() != psutil.STATUS_ZOMBIE
    return False
