"""Waiting in tests: for what is there in the end, however slow the machine is."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

# Seconds after which something hangs: nothing that a test waits for takes this long on any machine.
HUNG = 600.0


def until(what: Callable[[], Any], seconds: float = HUNG) -> Any:
    """The first true answer."""
    deadline = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
    return answer
