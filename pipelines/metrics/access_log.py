"""The feed of access logs: lines to sums of facts, and of rejected lines nothing that tells who was there."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from pipelines.landing.feed import LogFeed, Reason, Rejected
from pipelines.metrics import lines as access_lines
from pipelines.metrics.facts import Sums, add_facts
from pipelines.metrics.packages import Packages, stored
from pipelines.metrics.registry import Input, registry


class AccessLogReader:
    """Sums of all registered inputs of the feed."""

    def __init__(self, inputs: Sequence[Input], packages: Packages) -> None:
        self._inputs = inputs
        self._packages = packages
        self._sums = Sums()

    @property
    def row_count(self) -> int:
        return len(self._sums)

    def take(self, block: bytes, line_no: int) -> tuple[int, list[Rejected]]:
        lines, places, refused = access_lines.read(block, self._packages)
        rejected = [Rejected(line_no + each.place, each.record, each.reasons) for each in refused]
        for one in self._inputs:
            for position, kind in add_facts(self._sums, one, lines):
                record = access_lines.kept(access_lines.parsed(lines.raw(position)))
                reason = Reason(
                    None, f"The input {one.name} failed: {kind}.", "Mend it; other inputs went on."
                )
                rejected.append(Rejected(line_no + int(places[position]), record, [reason]))
        return len(lines), rejected

    def rows(self) -> pa.Table:
        return self._sums.table()


def _reader(packages: Packages) -> AccessLogReader:
    return AccessLogReader(registry().inputs_of("metric_log"), packages)


METRIC_LOG = LogFeed(
    name="metric_log",
    table="raw.metric_input",
    context=stored,
    reader=_reader,
    partition_by="minute_at",
    instant="minute_at",
)
