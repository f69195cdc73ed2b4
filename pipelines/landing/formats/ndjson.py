"""NDJSON: an object a line, its members as text or the whole of it as a document."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.landing.feed import Feed, Reason
from pipelines.landing.formats.columns import folded, names_of, shown, tell_unknown
from pipelines.landing.formats.lines import Block, LongLine, candidates_of, chunk_of, screen
from pipelines.landing.formats.records import NUL, NUL_HINT, Chunk, Warnings, only_rejected


def read_ndjson(
    lines: Iterator[Block | LongLine], feed: Feed, warnings: Warnings, most: int
) -> Iterator[Chunk]:
    """Chunks of an NDJSON file; beyond `most` a chunk, lines that are no objects are only counted."""
    keys = _Keys(feed, warnings)
    for block in lines:
        if isinstance(block, LongLine):
            yield only_rejected(feed, [block.rejected()])
            continue
        bad = screen(block, feed.longest_line)
        kept: list[int] = []
        objects: list[dict[str, Any]] = []
        described = only_counted = 0
        for index in candidates_of(block, bad, shortest=8).tolist():
            line = block.line(index)
            try:
                value = orjson.loads(line)
            except orjson.JSONDecodeError as error:
                described += 1
                if described > most:
                    only_counted += 1
                    continue
                bad[index] = [
                    Reason(
                        None,
                        f"The line is no JSON: {error.msg} at character {error.colno}.",
                        "One object a line.",
                    )
                ]
                continue
            if isinstance(value, dict):
                kept.append(index)
                objects.append(value)
                continue
            described += 1
            if described > most:
                only_counted += 1
            else:
                bad[index] = [
                    Reason(None, f"The line is a JSON {_kind(value)}, not an object.", "One object a line.")
                ]
        if feed.shape == "document":
            chunk = _documents(block, kept, objects, bad)
        else:
            chunk = _json_chunk(block, kept, objects, bad, keys)
        yield replace(chunk, only_counted=only_counted) if only_counted else chunk


def _kind(value: object) -> str:
    names = {bool: "boolean", int: "number", float: "number", str: "string", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _has_nul(value: object) -> bool:
    # No recursion: orjson takes more levels than Python.
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str) and "\0" in one:
            return True
        if isinstance(one, dict):
            waiting += [*one, *one.values()]
        elif isinstance(one, list):
            waiting += one
    return False


def _documents(
    block: Block, kept: list[int], objects: list[dict[str, Any]], bad: dict[int, list[Reason]]
) -> Chunk:
    if b"\\u0000" in block.data:
        for index, value in zip(kept, objects, strict=True):
            if _has_nul(value):
                bad[index] = [Reason(None, NUL, NUL_HINT)]
        kept = [index for index in kept if index not in bad]
    texts = pa.chunked_array([pa.array([block.line(index).decode().strip() for index in kept], pa.string())])
    return chunk_of(block, np.array(kept, dtype=np.int64), {"document": texts}, bad)


class _Keys:
    """Keys of JSON objects -> columns, remembered: objects of a file mostly have the same keys."""

    def __init__(self, feed: Feed, warnings: Warnings) -> None:
        self.feed = feed
        self._warnings = warnings
        self._known = names_of(feed)
        self._cache: dict[tuple[str, ...], tuple[dict[str, str], list[Reason]]] = {}
        self._cached = 0

    def resolve(self, keys: tuple[str, ...], line_no: int) -> tuple[dict[str, str], list[Reason]]:
        """Column -> key, and what is wrong with these keys."""
        found = self._cache.get(keys)
        if found is None:
            columns: dict[str, str] = {}
            reasons: list[Reason] = []
            for key in keys:
                column = self._known.get(folded(key))
                if column is None:
                    tell_unknown(self.feed, key, line_no, self._warnings)
                elif column in columns:
                    message = f"{shown(columns[column])} and {shown(key)} are one column."
                    reasons.append(Reason(column, message, "Leave one of them out."))
                else:
                    columns[column] = key
            found = (columns, reasons)
            self._cached += sum(map(len, keys)) + len(keys)
            if self._cached < 4 << 20:
                self._cache[keys] = found
        return found


def _json_chunk(
    block: Block, kept: list[int], objects: list[dict[str, Any]], bad: dict[int, list[Reason]], keys: _Keys
) -> Chunk:
    names = keys.feed.frame_columns
    shapes = {tuple(value) for value in objects}
    values: dict[str, list[Any]]
    if len(shapes) == 1:
        columns, reasons = keys.resolve(shapes.pop(), block.first_line + kept[0])
        values = {
            name: [value.get(columns[name]) for value in objects]
            if name in columns
            else [None] * len(objects)
            for name in names
        }
        if reasons:
            bad.update((index, list(reasons)) for index in kept)
    else:
        values = {name: [] for name in names}
        for index, value in zip(kept, objects, strict=True):
            columns, reasons = keys.resolve(tuple(value), block.first_line + index)
            for name in names:
                values[name].append(value.get(columns[name]) if name in columns else None)
            if reasons:
                bad[index] = list(reasons)
    # Reasons that stand in `bad` by now belong to lines of `kept` as well: those are dropped below.
    arrays: dict[str, pa.Array] = {}
    for name in names:
        try:
            arrays[name] = pa.array(values[name], pa.string())
        except (pa.ArrowTypeError, pa.ArrowInvalid):
            arrays[name] = _texts(block, kept, name, values[name], bad, keys)
    if b"\\u0000" in block.data:
        for name, array in arrays.items():
            for position in np.flatnonzero(
                pc.fill_null(pc.match_substring(array, "\0"), False).to_numpy(False)
            ).tolist():
                bad.setdefault(kept[position], []).append(Reason(name, NUL, NUL_HINT))
    good = [position for position, index in enumerate(kept) if index not in bad] if bad else None
    lines = np.array(kept, dtype=np.int64)
    if good is not None:
        lines = lines[good]
        arrays = {name: array.take(pa.array(good, pa.int64())) for name, array in arrays.items()}
    return chunk_of(block, lines, {name: pa.chunked_array([array]) for name, array in arrays.items()}, bad)


def _texts(
    block: Block, kept: list[int], name: str, values: list[Any], bad: dict[int, list[Reason]], keys: _Keys
) -> pa.Array:
    """Texts of a column that has other values too: a number is taken as it is written, anything else is a breach."""
    result: list[str | None] = []
    for index, value in zip(kept, values, strict=True):
        if value is None or isinstance(value, str):
            result.append(value)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            # Read again: 1e3, 1.50 and twenty digits are to stay what they are.
            try:
                written = json.loads(block.line(index), parse_int=str, parse_float=str)
            except RecursionError:
                result.append(None)
                bad.setdefault(index, []).append(
                    Reason(None, "The line is nested too deeply.", "One flat object a line.")
                )
                continue
            columns, _ = keys.resolve(tuple(written), block.first_line + index)
            result.append(written[columns[name]])
        else:
            result.append(None)
            reason = Reason(
                name, f"{name} is a JSON {_kind(value)}; text is wanted.", "Write it as a string."
            )
            bad.setdefault(index, []).append(reason)
    return pa.array(result, pa.string())
