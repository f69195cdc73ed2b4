"""Minutes in which the watched service lived."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.metrics.facts import Facts
from pipelines.metrics.registry import Input

if TYPE_CHECKING:
    from pipelines.metrics.uptime import Beats


def heartbeats(beats: Beats) -> Facts:
    """Each line of the feed is one."""
    return Facts(beats.minutes)


INPUTS = (Input("heartbeat", "uptime", heartbeats),)
