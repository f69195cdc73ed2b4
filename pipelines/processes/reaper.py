"""Ends what a killed `duemark up` leaves: `python -m pipelines.processes.reaper HOME [embedded]`.

The supervisor tells it of every process group through a pipe (`+ID`, `-ID`). When the pipe closes, the supervisor is
gone, however it went: all groups that are left are ended, and then the embedded server. It inherits the lock of the
home, so that the next `up` begins when this is done.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

GRACE_SECONDS = 5.0


def end_groups(
    groups: Iterable[int], grace: float = GRACE_SECONDS, reap: Callable[[], object] = lambda: None
) -> None:
    """SIGTERM to process groups, and SIGKILL to what is left of them after `grace` seconds.

    `reap` waits for children of the caller that have ended.
    """
    left = [group for group in groups if _signal(group, signal.SIGTERM)]
    deadline = time.monotonic() + grace
    while left and time.monotonic() < deadline:
        time.sleep(0.1)
        reap()
        left = [group for group in left if _signal(group, 0) and not _is_ended(group)]
    for group in left:
        _signal(group, signal.SIGKILL)
    reap()


def _is_ended(group: int) -> bool:
    """Whether only processes are left that have ended, and that nobody waits for: a container may have no init."""
    import psutil

    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error, OSError):
            if os.getpgid(pid) == group and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                return False
    return True


def _signal(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def main(home: str, *options: str) -> None:
    """Wait for the end of the supervisor, then end what is left."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    is_clean = False
    for line in sys.stdin:
        text = line.strip()
        if text == "done":
            is_clean = True
        elif text.startswith("+"):
            groups.add(int(text[1:]))
        elif text.startswith("-"):
            groups.discard(int(text[1:]))
    end_groups(groups)
    if is_clean:
        return
    for path in (Path(home) / "run").glob("*.pid"):
        path.unlink(missing_ok=True)
    if "embedded" in options:
        from pipelines.warehouse import embedded

        embedded.stop(Path(home))


if __name__ == "__main__":
    main(*sys.argv[1:])
