"""Lines of a JSON access log, as a reverse proxy (Caddy) writes them: whole columns of those that are in order.

A block of lines is read by Arrow at once. Where it finds one that it cannot read, or that this module does not trust it
with, the block is read in parts, and the parts with such lines one by one; the outcome is the same. What is kept of a
line that is rejected holds nothing of the visitor: no address, no agent, no query, no text that a sender chose freely.
"""

from __future__ import annotations

import functools
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pa_json

from pipelines.landing.feed import Reason
from pipelines.metrics.facts import FIRST_SECOND, LAST_SECOND, Ints
from pipelines.metrics.packages import Packages, Site, archive_name, host_name

LEVEL, MESSAGE = "info", "handled request"
# The levels of the proxy; any other text is not repeated.
LEVELS = frozenset({"debug", "info", "warn", "error", "panic", "fatal"})
LAST_STATUS = 999
# An Arrow block: several threads share a chunk. Parts with bad lines get smaller, down to so many lines.
BLOCK_BYTES = 1 << 19
PARTS = 8
FEW_LINES = 64
# orjson goes no deeper than 1024.
DEEP = 1000

_STATUS = re.compile(r"[0-9]{1,3}", re.ASCII)
_METHOD = re.compile(r"[A-Z]{1,20}", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9.:_\[\]-]{1,255}", re.ASCII)
_PATH = re.compile(r"/[^?#;]{0,1000}")

_REQUEST = pa.struct([("host", pa.string()), ("uri", pa.string()), ("method", pa.string())])
_SCHEMAS = tuple(
    pa.schema(
        [
            ("level", pa.string()),
            ("msg", pa.string()),
            ("ts", pa.float64()),
            ("status", status),
            ("request", _REQUEST),
            # That there are some is enough; the few lines whose headers count are read again.
            ("resp_headers", pa.struct([])),
        ]
    )
    # A number, or text: one and the same in a log, nearly always.
    for status in (pa.int64(), pa.string())
)


@dataclass(frozen=True)
class Refused:
    """A line that is rejected: its place in the block (from 0), what may be kept of it, and why."""

    place: int
    record: str
    reasons: list[Reason]


@dataclass(frozen=True)
class Requests:
    """One entry for each request to a package: the line's position, the package's title, whether it is its home."""

    positions: Ints
    titles: pa.DictionaryArray
    is_home: npt.NDArray[np.bool_]


class Lines:
    """Lines that are in order, one position each.

    `minutes`: UTC, since 1970; `methods` and `uris`: texts; `statuses`: 0 to 999; `host_codes`: index in `hosts`, which
    are without port and case-folded, and not unique.
    """

    def __init__(self, columns: pa.Table, raw: Sequence[bytes], packages: Packages) -> None:
        self._columns = columns.combine_chunks()
        self._raw = raw
        self.packages = packages

    def __len__(self) -> int:
        return int(self._columns.num_rows)

    def slice(self, start: int, count: int) -> Lines:
        return Lines(self._columns.slice(start, count), self._raw[start : start + count], self.packages)

    def raw(self, position: int) -> bytes:
        """The line as it came."""
        line: bytes = self._raw[position]
        return line

    def _column(self, name: str) -> pa.Array:
        column = self._columns.column(name)
        return column.chunk(0) if column.num_chunks else pa.array([], column.type)

    @functools.cached_property
    def minutes(self) -> Ints:
        seconds = np.floor(self._column("ts").to_numpy(zero_copy_only=False))
        minutes: Ints = np.floor_divide(seconds.astype(np.int64), 60)
        return minutes

    @functools.cached_property
    def methods(self) -> pa.StringArray:
        return self._column("method")

    @functools.cached_property
    def uris(self) -> pa.StringArray:
        return self._column("uri")

    @functools.cached_property
    def paths(self) -> pa.StringArray:
        """The uris without query."""
        if not pc.any(pc.match_substring(self.uris, "?")).as_py():
            return self.uris
        return pc.list_element(pc.split_pattern(self.uris, "?", max_splits=1), 0)

    @functools.cached_property
    def statuses(self) -> Ints:
        values: Ints = self._column("status").to_numpy(zero_copy_only=False)
        return values

    @functools.cached_property
    def _hosts(self) -> pa.DictionaryArray:
        return self._column("host").dictionary_encode()

    @property
    def hosts(self) -> list[str]:
        return [host_name(text) for text in self._hosts.dictionary.to_pylist()]

    @functools.cached_property
    def host_codes(self) -> npt.NDArray[np.int32]:
        codes: npt.NDArray[np.int32] = self._hosts.indices.to_numpy(zero_copy_only=False)
        return codes

    @functools.cached_property
    def sites(self) -> list[tuple[int, Site]]:
        """Each host code with each package that is there."""
        return [(code, site) for code, host in enumerate(self.hosts) for site in self.packages.on(host)]

    def headers(self, position: int) -> dict[str, list[object]]:
        """Headers of the response: names in lower case, all values of each."""
        found: dict[str, list[object]] = {}
        for name, value in parsed(self.raw(position)).get("resp_headers", {}).items():
            found.setdefault(name.lower(), []).extend(value if isinstance(value, list) else [value])
        return found

    @functools.cached_property
    def requests(self) -> Requests:
        """Which line is a request to which package."""
        parts = [part for part in itertools.chain(self._of_hosts(), self._of_zims()) if len(part[0])]
        names = list(dict.fromkeys(title for _, title, _ in parts))
        codes = [np.full(len(where), names.index(title), np.int32) for where, title, _ in parts]
        return Requests(
            np.concatenate([where for where, _, _ in parts] or [np.empty(0, np.int64)]),
            pa.DictionaryArray.from_arrays(
                pa.array(np.concatenate(codes or [np.empty(0, np.int32)])), pa.array(names, pa.string())
            ),
            np.concatenate([is_home for _, _, is_home in parts] or [np.empty(0, bool)]),
        )

    def _of_hosts(self) -> Iterator[tuple[Ints, str, npt.NDArray[np.bool_]]]:
        """Of files and apps, whatever is asked of their host."""
        for code, site in self.sites:
            if site.kind != "zim":
                where = np.flatnonzero(self.host_codes == code)
                home = pc.equal(self.paths.take(pa.array(where)), "/").to_numpy(zero_copy_only=False)
                yield where, site.title, home

    def _of_zims(self) -> Iterator[tuple[Ints, str, npt.NDArray[np.bool_]]]:
        """Of archives, what is below /content/NAME."""
        zims: dict[int, dict[str, list[str]]] = {}
        for code, site in self.sites:
            if site.kind == "zim" and site.name is not None:
                zims.setdefault(code, {}).setdefault(site.name, []).append(site.title)
        for code, by_name in zims.items():
            where = np.flatnonzero(self.host_codes == code)
            paths = self.paths.take(pa.array(where))
            is_content = pc.starts_with(paths, "/content/").to_numpy(zero_copy_only=False)
            where, paths = where[is_content], paths.filter(pa.array(is_content))
            if not len(where):
                continue
            below = pc.utf8_slice_codeunits(paths, len("/content/"))
            names = pc.list_element(pc.split_pattern(below, "/", max_splits=1), 0)
            # NAME, and at most a slash
            is_home = pc.less_equal(pc.binary_length(below), pc.add(pc.binary_length(names), 1))
            is_home = is_home.to_numpy(zero_copy_only=False)
            encoded = names.dictionary_encode()
            codes = encoded.indices.to_numpy(zero_copy_only=False)
            for which, name in enumerate(encoded.dictionary.to_pylist()):
                for title in by_name.get(archive_name(name), ()):
                    of_name = codes == which
                    yield where[of_name], title, is_home[of_name]


def read(block: bytes, packages: Packages) -> tuple[Lines, Ints, list[Refused]]:
    """Read whole lines: those in order, their places in the block (from 0), and the others but blank ones."""
    reading = _Reading(block)
    reading.read(0, len(reading.ends))
    columns = pa.concat_tables(reading.tables) if reading.tables else _COLUMNS.empty_table()
    places = np.concatenate(reading.places) if reading.places else np.empty(0, np.int64)
    return Lines(columns, _Raw(reading, places), packages), places, reading.refused


_COLUMNS = pa.schema(
    [
        ("ts", pa.float64()),
        ("status", pa.int64()),
        ("host", pa.string()),
        ("uri", pa.string()),
        ("method", pa.string()),
    ]
)


class _Raw(Sequence[bytes]):
    """Bytes of lines by position, cut out of the block when they are asked for."""

    def __init__(self, reading: _Reading, places: Ints) -> None:
        self._reading = reading
        self._places = places

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return _Raw(self._reading, self._places[key])
        return self._reading.line(int(self._places[key]))


class _Reading:
    """A block on its way to columns."""

    def __init__(self, block: bytes, *, is_alone: bool = False) -> None:
        self.block = block
        self._is_alone = is_alone
        self._buffer = pa.py_buffer(block)
        codes = np.frombuffer(block, np.uint8)
        self.ends = np.flatnonzero(codes == ord("\n"))
        self.starts = np.concatenate([np.zeros(min(1, len(self.ends)), np.int64), self.ends[:-1] + 1])
        # What begins and ends like an object, and so cannot share one with the next line.
        is_object = (self.ends > self.starts) & (codes[self.starts] == ord("{"))
        is_object &= codes[np.maximum(self.ends - 1, 0)] == ord("}")
        self.is_object = is_object
        self.tables: list[pa.Table] = []
        self.places: list[Ints] = []
        self.refused: list[Refused] = []
        self._schemas = list(_SCHEMAS)

    def line(self, place: int) -> bytes:
        return self.block[int(self.starts[place]) : int(self.ends[place])]

    def read(self, first: int, end: int) -> None:
        """Read the lines [first, end)."""
        if first == end:
            return
        if self.read_at_once(first, end):
            return
        if end - first <= FEW_LINES:
            self._read_one_by_one(np.arange(first, end))
            return
        bounds = np.linspace(first, end, PARTS + 1).astype(np.int64).tolist()
        for start, stop in itertools.pairwise(bounds):
            self.read(start, stop)

    def read_at_once(self, first: int, end: int) -> bool:
        if not self.is_object[first:end].all():
            return False
        start, stop = int(self.starts[first]), int(self.ends[end - 1]) + 1
        text = self._buffer.slice(start, stop - start)
        if not _is_utf8(text):
            # Arrow does not decode what it ignores.
            return False
        longest = int((self.ends[first:end] - self.starts[first:end]).max())
        block_size = max(BLOCK_BYTES, longest + 2)
        for schema in self._schemas:
            try:
                table = pa_json.read_json(
                    pa.BufferReader(text),
                    pa_json.ReadOptions(use_threads=True, block_size=block_size),
                    pa_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
                )
            except (pa.ArrowInvalid, UnicodeDecodeError):
                continue
            if table.num_rows != end - first:
                return False
            if schema is not self._schemas[0]:
                self._schemas.reverse()
            self._take(table, first)
            return True
        return False

    def _take(self, table: pa.Table, first: int) -> None:
        """Take what is in order, and look at the rest one by one."""
        table = table.combine_chunks()
        request = table.column("request").chunk(0)
        host, uri, method = (pc.struct_field(request, name) for name in ("host", "uri", "method"))
        status = table.column("status").chunk(0)
        if pa.types.is_string(status.type):
            is_status = pc.match_substring_regex(status, "^[0-9]{1,3}$")
            status = pc.if_else(is_status, status, None).cast(pa.int64())
        ts = table.column("ts").chunk(0)
        conditions = [
            pc.equal(table.column("level").chunk(0), LEVEL),
            pc.equal(table.column("msg").chunk(0), MESSAGE),
            pc.and_(pc.greater_equal(ts, float(FIRST_SECOND)), pc.less(ts, float(LAST_SECOND + 1))),
            pc.and_(pc.greater_equal(status, 0), pc.less_equal(status, LAST_STATUS)),
            *(pc.is_valid(each) for each in (host, uri, method, table.column("resp_headers").chunk(0))),
        ]
        is_good = pc.fill_null(functools.reduce(pc.and_, conditions), False)
        good = pa.table([ts, status, host, uri, method], schema=_COLUMNS)
        mask = is_good.to_numpy(zero_copy_only=False)
        self._add(good if mask.all() else good.filter(is_good), first + np.flatnonzero(mask))
        self._read_one_by_one(first + np.flatnonzero(~mask))

    def _is_for_arrow(self, line: bytes, place: int, refused: Refused) -> bool:
        """Take a line that Arrow alone reads: a deep one, or one with NaN in a field that does not count.

        It would have been taken in a block too, and what becomes of a line must not depend on its neighbours.
        """
        if self._is_alone or refused.record or not self.is_object[place]:
            return False
        if not (b"NaN" in line or b"Inf" in line or line.count(b"[") + line.count(b"{") > DEEP):
            return False
        alone = _Reading(line + b"\n", is_alone=True)
        if not alone.read_at_once(0, 1) or alone.refused:
            return False
        self.tables += alone.tables
        self.places += [where + place for where in alone.places]
        return True

    def _add(self, columns: pa.Table, places: Ints) -> None:
        if len(places):
            self.tables.append(columns)
            self.places.append(places)

    def _read_one_by_one(self, places: Ints) -> None:
        good: list[tuple[float, int, str, str, str]] = []
        where: list[int] = []
        for place in places.tolist():
            line = self.line(place)
            if not line.strip():
                continue
            values = read_line(line)
            if isinstance(values, tuple):
                good.append(values)
                where.append(place)
            elif not self._is_for_arrow(line, place, values):
                self.refused.append(Refused(place, values.record, values.reasons))
        if good:
            columns = [
                pa.array(column, each.type)
                for column, each in zip(zip(*good, strict=True), _COLUMNS, strict=True)
            ]
            self._add(pa.table(columns, schema=_COLUMNS), np.array(where, dtype=np.int64))


def _is_utf8(text: pa.Buffer) -> bool:
    offsets = pa.py_buffer(np.array([0, text.size], np.int32))
    try:
        pa.Array.from_buffers(pa.binary(), 1, [None, offsets, text]).cast(pa.string())
    except pa.ArrowInvalid:
        return False
    return True


def read_line(line: bytes) -> tuple[float, int, str, str, str] | Refused:
    """One line by itself: ts, status, host, uri and method, or all that is wrong."""
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as undecodable:
            reason = Reason(
                None, f"The line is not UTF-8: byte {undecodable.start + 1} of {len(line):,} is none."
            )
        else:
            reason = Reason(
                None, f"The line of {len(line):,} bytes is no JSON, from character {error.colno} on."
            )
        return Refused(0, "", [reason])
    if not isinstance(record, dict):
        return Refused(0, "", [Reason(None, f"The line of {len(line):,} bytes is no JSON object.")])
    reasons: list[Reason] = []
    level = _text(record, "level", "level", reasons)
    if level is not None and level != LEVEL:
        shown = level if level in LEVELS else "another"
        reasons.append(Reason("level", f"level is {shown}, not {LEVEL}."))
    message = _text(record, "msg", "msg", reasons)
    if message is not None and message != MESSAGE:
        reasons.append(Reason("msg", f"msg is not {MESSAGE!r}."))
    request = record.get("request")
    host = uri = method = None
    if isinstance(request, dict):
        host = _text(request, "host", "request.host", reasons)
        uri = _text(request, "uri", "request.uri", reasons)
        method = _text(request, "method", "request.method", reasons)
    else:
        what = "is missing" if request is None else "is no object"
        reasons.append(Reason("request", f"request {what}."))
    status = _status(record.get("status"), reasons)
    headers = record.get("resp_headers")
    if not isinstance(headers, dict):
        what = "is missing" if headers is None else "is no object"
        reasons.append(Reason("resp_headers", f"resp_headers {what}."))
    ts = _seconds(record.get("ts"), reasons)
    if reasons or host is None or uri is None or method is None:
        return Refused(0, kept(record), reasons)
    return ts, status, host, uri, method


def _text(record: dict[str, Any], key: str, name: str, reasons: list[Reason]) -> str | None:
    value = record.get(key)
    if value is None:
        reasons.append(Reason(name, f"{name} is missing."))
    elif not isinstance(value, str):
        reasons.append(Reason(name, f"{name} is no text."))
    else:
        return value
    return None


def _status(value: object, reasons: list[Reason]) -> int:
    hint = f"A number, or its digits as text, of 0 to {LAST_STATUS}."
    if value is None:
        reasons.append(Reason("status", "status is missing.", hint))
    elif isinstance(value, str):
        if _STATUS.fullmatch(value):
            return int(value)
        reasons.append(Reason("status", "status is a text that is no number.", hint))
    elif isinstance(value, bool) or not isinstance(value, int | float):
        reasons.append(Reason("status", "status is no number.", hint))
    elif not 0 <= value <= LAST_STATUS or value != int(value):
        reasons.append(Reason("status", f"status is {value}, which is none.", hint))
    else:
        return int(value)
    return 0


def _seconds(value: object, reasons: list[Reason]) -> float:
    hint = "Seconds since 1970, a number, such as 1772323200.25."
    if value is None:
        reasons.append(Reason("ts", "ts is missing.", hint))
    elif isinstance(value, bool) or not isinstance(value, int | float):
        reasons.append(Reason("ts", "ts is no number.", hint))
    elif not FIRST_SECOND <= value < LAST_SECOND + 1:
        reasons.append(Reason("ts", f"ts is {value}: outside the years 1 to 9999.", hint))
    else:
        return float(value)
    return 0.0


def parsed(line: bytes) -> dict[str, Any]:
    """The object of a line that is in order; empty for one so deep that only Arrow reads it."""
    try:
        record: dict[str, Any] = orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            return {}
    return record


def kept(record: dict[str, Any]) -> str:
    """What may be kept of a line, as JSON: of its fields those that cannot name a visitor."""
    request = record.get("request")
    result: dict[str, Any] = {}
    if record.get("level") in LEVELS:
        result["level"] = record["level"]
    if record.get("msg") == MESSAGE:
        result["msg"] = MESSAGE
    if type(record.get("ts")) in {int, float}:
        result["ts"] = record["ts"]
    status = record.get("status")
    if type(status) in {int, float} or (isinstance(status, str) and _STATUS.fullmatch(status)):
        result["status"] = status
    if isinstance(request, dict):
        found: dict[str, str] = {}
        for name, pattern in (("host", _HOST), ("method", _METHOD)):
            value = request.get(name)
            if isinstance(value, str) and pattern.fullmatch(value):
                found[name] = value
        uri = request.get("uri")
        if isinstance(uri, str) and (path := _PATH.match(uri)):
            found["path"] = path[0]
        result["request"] = found
    return orjson.dumps(result, option=orjson.OPT_SORT_KEYS).decode()
