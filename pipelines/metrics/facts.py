"""Facts, and their sums by input, minute and dimension."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

if TYPE_CHECKING:
    from pipelines.metrics.registry import Input

Ints = npt.NDArray[np.int64]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The seconds that an instant of the years 1 to 9999 may have.
FIRST_SECOND = (datetime(1, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(seconds=1)
LAST_SECOND = (datetime.max.replace(tzinfo=UTC) - EPOCH) // timedelta(seconds=1)

# A key of sums in one integer: minute since 1970 (years 1 to 9999) in the lower bits, above them the series.
_BITS = 34
_OFFSET = 1 << (_BITS - 1)
_DENSE = 1 << 18


@dataclass(frozen=True)
class Facts:
    """One entry for each fact: its UTC minute (since 1970), its dimension, its amount (all 1 where none are given).

    `dimensions`: texts (plain or dictionary-encoded), one text for all of them, or None.
    """

    minutes: Ints
    dimensions: pa.Array | str | None = None
    amounts: Ints | None = None


@dataclass
class Sums:
    """Sums of facts by (input, dimension) — a series — and minute. Memory follows their number, not the facts'."""

    _series: dict[tuple[str, str | None], int] = field(default_factory=dict)
    _keys: list[Ints] = field(default_factory=list)
    _amounts: list[Ints] = field(default_factory=list)
    _size: int = 0
    _compacted: int = 0

    def __len__(self) -> int:
        """How many sums there are at most."""
        return self._size

    def add(self, name: str, facts: Facts) -> None:
        """Add facts of the input `name`. Raises ValueError, and adds nothing, where they are no facts."""
        minutes = np.asarray(facts.minutes, dtype=np.int64)
        if not len(minutes):
            return
        amounts = None if facts.amounts is None else np.asarray(facts.amounts, dtype=np.int64)
        if amounts is not None and len(amounts) != len(minutes):
            raise ValueError(f"{len(minutes)} minutes, but {len(amounts)} amounts")
        series = self._series_of(name, facts.dimensions, len(minutes))
        keys, sums = _summed(series, minutes, amounts)
        self._keys.append(keys)
        self._amounts.append(sums)
        self._size += len(keys)
        if self._size > 2 * self._compacted + _DENSE:
            self._compact()

    def table(self) -> pa.Table:
        """The sums, by minute: input, minute_at, dimension, amount. Empties them."""
        self._compact()
        keys = self._keys[0] if self._keys else np.empty(0, np.int64)
        amounts = self._amounts[0] if self._amounts else np.empty(0, np.int64)
        series, minutes = keys >> _BITS, (keys & ((1 << _BITS) - 1)) - _OFFSET
        known = sorted(self._series, key=lambda one: (one[0], one[1] is not None, one[1] or ""))
        rank = np.empty(len(known) + 1, np.int64)
        for place, one in enumerate(known):
            rank[self._series[one]] = place
        # The same facts give the same rows in the same order, whatever was seen first.
        order = np.lexsort((rank[series], minutes))
        which = pa.array(rank[series][order].astype(np.int32))
        inputs = pa.array([one[0] for one in known], pa.string())
        dimensions = pa.array([one[1] for one in known], pa.string())
        rows = pa.table(
            {
                "input": inputs.take(which),
                "minute_at": pa.array(minutes[order] * 60_000_000).view(pa.timestamp("us", "UTC")),
                "dimension": dimensions.take(which),
                "amount": pa.array(amounts[order]),
            }
        )
        self.__init__()  # type: ignore[misc] # empty again
        return rows

    def _series_of(self, name: str, dimensions: pa.Array | str | None, count: int) -> Ints:
        if dimensions is None or isinstance(dimensions, str):
            return np.full(count, self._number(name, dimensions), dtype=np.int64)
        values: Any = dimensions
        if len(values) != count:
            raise ValueError(f"{count} minutes, but {len(values)} dimensions")
        if not pa.types.is_dictionary(values.type):
            values = pa.array(values, pa.string()).dictionary_encode()
        texts = [*values.dictionary.to_pylist(), None]
        codes: Ints = values.indices.fill_null(len(texts) - 1).to_numpy(zero_copy_only=False)
        used = np.unique(codes)
        numbers: Ints = np.zeros(len(texts), dtype=np.int64)
        for code in used.tolist():
            numbers[code] = self._number(name, texts[code])
        found: Ints = numbers[codes]
        return found

    def _number(self, name: str, dimension: str | None) -> int:
        # Nothing tells an empty dimension from none.
        return self._series.setdefault((name, dimension or None), len(self._series))

    def _compact(self) -> None:
        if len(self._keys) > 1:
            keys, inverse = np.unique(np.concatenate(self._keys), return_inverse=True)
            amounts = np.zeros(len(keys), dtype=np.int64)
            np.add.at(amounts, inverse, np.concatenate(self._amounts))
            self._keys, self._amounts = [keys], [amounts]
        self._size = self._compacted = sum(map(len, self._keys))


def _summed(series: Ints, minutes: Ints, amounts: Ints | None) -> tuple[Ints, Ints]:
    first, last, most = int(minutes.min()), int(minutes.max()), int(series.max())
    if first < -_OFFSET or last >= _OFFSET:
        raise ValueError("a minute outside the years 1 to 9999")
    span = last - first + 1
    if amounts is None and span * (most + 1) <= _DENSE:
        # A chunk of a log is some minutes long: counting beats sorting.
        counts = np.bincount(series * span + (minutes - first), minlength=0)
        places = np.flatnonzero(counts)
        keys = (places // span << _BITS) + (places % span + first + _OFFSET)
        return keys.astype(np.int64), counts[places].astype(np.int64)
    keys, inverse, counts = np.unique(
        (series << _BITS) + (minutes + _OFFSET), return_inverse=True, return_counts=True
    )
    if amounts is None:
        return keys, counts.astype(np.int64)
    sums = np.zeros(len(keys), dtype=np.int64)
    np.add.at(sums, inverse, amounts)
    return keys, sums


class Sliceable(Protocol):
    """Lines, or what else an input looks at: a part of them is of the same kind."""

    def __len__(self) -> int: ...
    def slice(self, start: int, count: int) -> Any: ...


def add_facts(sums: Sums, one: Input, lines: Sliceable, start: int = 0) -> list[tuple[int, str]]:
    """Add the facts that an input finds in lines.

    Returns the positions (counted from `start`) of lines that it fails for, with the type of the error: its text may
    hold what the line says. The others are added.
    """
    if not len(lines):
        return []
    try:
        facts = one.facts(lines)
        if facts is not None:
            sums.add(one.name, facts)
    except Exception as error:  # noqa: BLE001 # whatever an input does, the others go on
        if len(lines) == 1:
            return [(start, type(error).__name__)]
        half = len(lines) // 2
        return [
            *add_facts(sums, one, lines.slice(0, half), start),
            *add_facts(sums, one, lines.slice(half, len(lines) - half), start + half),
        ]
    return []
