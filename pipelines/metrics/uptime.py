"""The feed of heartbeats: one instant a line, ISO 8601 with an offset, while the watched service lives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa

from pipelines.landing.feed import LogFeed, Reason, Rejected
from pipelines.metrics.facts import EPOCH, Ints, Sums, add_facts
from pipelines.metrics.packages import Packages, stored
from pipelines.metrics.registry import Input, registry

_HINT = "One instant a line, such as 2026-03-01T05:00:00Z."
_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True)
class Beats:
    """Heartbeats: the UTC minute of each, since 1970."""

    minutes: Ints

    def __len__(self) -> int:
        return len(self.minutes)

    def slice(self, start: int, count: int) -> Beats:
        return Beats(self.minutes[start : start + count])


class UptimeReader:
    """Sums of the inputs of the feed. Nothing of a rejected line is kept: it may be of another log."""

    def __init__(self, inputs: Sequence[Input]) -> None:
        self._inputs = inputs
        self._sums = Sums()

    @property
    def row_count(self) -> int:
        return len(self._sums)

    def take(self, block: bytes, line_no: int) -> tuple[int, list[Rejected]]:
        minutes: list[int] = []
        numbers: list[int] = []
        rejected: list[Rejected] = []
        for number, line in enumerate(block.split(b"\n")[:-1], start=line_no):
            if not line.strip():
                continue
            found = _minute(line)
            if isinstance(found, str):
                rejected.append(Rejected(number, "", [Reason(None, found, _HINT)]))
            else:
                minutes.append(found)
                numbers.append(number)
        beats = Beats(np.array(minutes, dtype=np.int64))
        for one in self._inputs:
            for position, kind in add_facts(self._sums, one, beats):
                reason = Reason(
                    None, f"The input {one.name} failed: {kind}.", "Mend it; other inputs went on."
                )
                rejected.append(Rejected(numbers[position], "", [reason]))
        return len(minutes), rejected

    def rows(self) -> pa.Table:
        return self._sums.table()


def _minute(line: bytes) -> int | str:
    """The minute of a line, or what is wrong with it."""
    try:
        at = datetime.fromisoformat(line.strip().decode("ascii"))
    except ValueError:
        return f"The line of {len(line):,} bytes is no instant."
    if at.tzinfo is None:
        return "The instant has no offset."
    return (at - EPOCH) // _MINUTE


def _reader(_: Packages) -> UptimeReader:
    return UptimeReader(registry().inputs_of("uptime"))


UPTIME = LogFeed(
    name="uptime",
    table="raw.metric_input",
    # Nothing of a heartbeat asks for packages; what is sent beside it does, and is read with it.
    context=stored,
    reader=_reader,
    partition_by="minute_at",
    instant="minute_at",
)
