"""Values of Parquet -> texts, each that cannot be one a breach."""

from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.landing.feed import LONGEST_LINE, Reason

# Floats tell whole numbers apart up to here.
MOST_WHOLE = 2**53
# Seconds since 1970 of the years 1 and 10000.
FIRST_SECOND, END_SECOND = -62_135_596_800, 253_402_300_800


def holds_text(kind: pa.DataType) -> bool:
    """Whether values of this type are texts, in whatever layout."""
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def is_taken(kind: pa.DataType) -> bool:
    """Whether a column of this type can become texts."""
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = (
        "is_string",
        "is_large_string",
        "is_string_view",
        "is_integer",
        "is_floating",
        "is_decimal",
        "is_timestamp",
        "is_date",
        "is_null",
    )
    return any(getattr(pa.types, test)(kind) for test in tests)


def as_text(column: pa.Array, name: str, bad: dict[int, list[Reason]]) -> pa.Array:
    """ISO text of dates and timestamps (a zone's as UTC, cut to the microsecond), digits of whole numbers, texts.

    A fraction, or an instant outside the years 1 to 9999, is a breach.
    """
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return _whole(column, name, bad)
    if pa.types.is_timestamp(kind):
        per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[kind.unit]
        column = _in_range(column, per_second, name, bad)
        micros = column.cast(pa.timestamp("us", kind.tz), safe=False).cast(pa.timestamp("us"))
        text = pc.strftime(micros, "%Y-%m-%dT%H:%M:%S")
        return pc.binary_join_element_wise(text, "Z", "") if kind.tz is not None else text
    if pa.types.is_date(kind):
        column = _in_range(column, 1000 if pa.types.is_date64(kind) else 1 / 86_400, name, bad)
        return pc.strftime(column.cast(pa.date32(), safe=False), "%Y-%m-%d")
    return column.cast(pa.string())


def _in_range(column: pa.Array, per_second: float, name: str, bad: dict[int, list[Reason]]) -> pa.Array:
    """The column with null for what is outside the years 1 to 9999, where a cast would wrap."""
    numbers = pc.fill_null(
        column.view(pa.int32() if pa.types.is_date32(column.type) else pa.int64()), 0
    ).to_numpy(zero_copy_only=False)
    outside = (numbers < FIRST_SECOND * per_second) | (numbers >= END_SECOND * per_second)
    for position in np.flatnonzero(outside).tolist():
        message = f"{name} lies outside the years 1 to 9999."
        bad.setdefault(position, []).append(Reason(name, message, "ISO 8601, as text, is read as it stands."))
    return pc.if_else(pa.array(~outside), column, pa.scalar(None, column.type)) if outside.any() else column


def _whole(column: pa.Array, name: str, bad: dict[int, list[Reason]]) -> pa.Array:
    """Digits of numbers that are whole: a column of integers where some are missing is one of floats in pandas."""
    result: list[str | None] = []
    for position, value in enumerate(column.to_pylist()):
        if value is None or value != value:  # NaN
            result.append(None)
        elif math.isfinite(value) and value == int(value) and abs(value) < MOST_WHOLE:
            result.append(str(int(value)))
        else:
            result.append(None)
            message = f"{name} is the number {value}; text is wanted."
            bad.setdefault(position, []).append(Reason(name, message, "Write it as string."))
    return pa.array(result, pa.string())


def shortened(text: pa.Array, name: str, bad: dict[int, list[Reason]]) -> pa.Array:
    """The array with the beginning of what is longer than a line may be, each such value a breach."""
    lengths = pc.fill_null(pc.binary_length(text), 0).to_numpy(zero_copy_only=False)
    places = np.flatnonzero(lengths > LONGEST_LINE).tolist()
    if not places:
        return text
    values: list[bytes | None] = text.cast(pa.binary()).to_pylist()
    for position in places:
        values[position] = (values[position] or b"")[:LONGEST_LINE]
        message = f"{name} has {lengths[position]:,} bytes, {LONGEST_LINE:,} are allowed; the first of them are kept."
        bad.setdefault(position, []).append(Reason(name, message, "One value a field."))
    return pa.array(values, pa.binary()).view(pa.string())


def only_utf8(text: pa.Array, name: str, bad: dict[int, list[Reason]]) -> pa.Array:
    """The array with what is not UTF-8 replaced by nothing, each such value a breach."""
    result: list[str | None] = []
    for position, value in enumerate(text.cast(pa.binary()).to_pylist()):
        try:
            result.append(None if value is None else value.decode())
        except UnicodeDecodeError:
            result.append(None)
            bad[position] = [Reason(name, f"{name} is not UTF-8 text.", "Write the file as UTF-8.")]
    return pa.array(result, pa.string())
