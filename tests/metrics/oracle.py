"""What the rules of inputs and indicators say, in pandas, line by line: it shares no code with what it tests."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

COLUMNS = ["indicator_id", "hour_at", "dimension", "value"]


def accepted(line: bytes) -> dict[str, Any] | None:
    """The line's object if it is one that counts; None if it is to be rejected."""
    try:
        record = json.loads(line.decode("utf-8"))
    except ValueError:
        return None
    if not isinstance(record, dict):
        return None
    request = record.get("request")
    status: Any = record.get("status")
    good = (
        record.get("level") == "info"
        and record.get("msg") == "handled request"
        and isinstance(request, dict)
        and all(isinstance(request.get(name), str) for name in ("host", "uri", "method"))
        and isinstance(record.get("resp_headers"), dict)
        and type(record.get("ts")) in {int, float}
        and -62135596800 <= record["ts"] < 253402300800
        and (
            (type(status) in {int, float} and status == int(status) and 0 <= status <= 999)
            or (isinstance(status, str) and status.isascii() and status.isdigit() and len(status) <= 3)
        )
    )
    return record if good else None


def facts_of(record: Mapping[str, Any], packages: Sequence[Mapping[str, str]]) -> list[tuple[str, str, int]]:
    """(input, dimension, amount) of a line."""
    host = record["request"]["host"].lower()
    name, colon, port = host.rpartition(":")
    if colon and port.isdigit():
        host = name
    path = record["request"]["uri"].split("?")[0]
    method, status = record["request"]["method"], int(record["status"])
    headers: dict[str, list[Any]] = {}
    for header, value in record["resp_headers"].items():
        headers.setdefault(header.lower(), []).extend(value if isinstance(value, list) else [value])
    found = []
    for package in packages:
        package_host, _, rest = package["url"].removeprefix("//").partition("/")
        if package_host.lower().split(":")[0] != host:
            continue
        title = package["title"]
        if package["kind"] == "zim":
            content = "/content/" + rest.removeprefix("viewer#").removeprefix("content/")
            if path in {content, content + "/"}:
                found += [("visit", title, 1), ("request", title, 1)]
            elif path.startswith(content + "/"):
                found += [("request", title, 1)]
            continue
        found += [("request", title, 1)]
        if path == "/":
            found += [("visit", title, 1)]
        if package.get("ident") == "edupi":
            if (method, path, status) == ("POST", "/api/documents/", 201):
                found += [("operation", "FILE_CREATED", 1)]
            deleted = path.removeprefix("/api/documents/")
            if method == "DELETE" and status == 204 and deleted not in {"", path}:
                found += [("operation", "FILE_DELETED", 1)]
        if package.get("ident") == "file-manager":
            for header, kind in (("added", "FILE_CREATED"), ("deleted", "FILE_DELETED")):
                values = headers.get(f"x-tfm-files-{header}", [])
                text = str(values[0]).strip() if len(values) == 1 and not isinstance(values[0], bool) else ""
                if text.isascii() and text.isdigit() and len(text) < 10:
                    found += [("operation", kind, int(text))]
    return [fact for fact in found if fact[2]]


def records(
    lines: Iterable[bytes], beats: Iterable[datetime], packages: Sequence[Mapping[str, str]], as_of: datetime
) -> pd.DataFrame:
    """Every indicator record, as COLUMNS; hours as UTC instants, a dimension of none is an empty text."""
    rows: list[tuple[str, str, int, datetime]] = []
    for line in lines:
        record = accepted(line)
        if record is not None:
            at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=record["ts"] // 60 * 60)
            rows += [(*fact, at) for fact in facts_of(record, packages)]
    rows += [("beat", "", 1, at.astimezone(UTC).replace(second=0, microsecond=0)) for at in beats]
    facts = pd.DataFrame(rows, columns=["input", "dimension", "amount", "at"])
    facts = facts[facts["at"] <= as_of]
    if facts.empty:
        return pd.DataFrame(columns=COLUMNS)
    facts["hour_at"] = facts["at"].dt.floor("h")
    facts["minute"] = facts["at"].dt.minute
    overall = facts.assign(dimension="")
    parts = [
        _part(facts, "visit", 1001, lambda group: group["amount"].sum()),
        _part(facts, "operation", 1003, lambda group: group["amount"].sum()),
        _part(overall, "beat", 1004, lambda group: group["minute"].nunique()),
        _part(overall, "request", 1005, _active),
        _part(facts, "request", 1006, _active),
    ]
    return pd.concat([part for part in parts if len(part)]).sort_values(COLUMNS[:3]).reset_index(drop=True)


def _active(group: pd.DataFrame) -> int:
    """Slots of ten minutes, opened one by one in time order."""
    slots: set[int] = set()
    first = None
    for minute in sorted(group["minute"]):
        first = minute if first is None else first
        slots.add(minute - ((minute - first) % 10))
    return 10 * len(slots)


def _part(facts: pd.DataFrame, name: str, number: int, value: Any) -> pd.DataFrame:
    rows = [
        (number, hour, dimension, int(value(group)))
        for (hour, dimension), group in facts[facts["input"] == name].groupby(["hour_at", "dimension"])
    ]
    return pd.DataFrame(rows, columns=COLUMNS)
