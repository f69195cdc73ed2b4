"""The feed of OpenLineage events: what one must be, and what is taken from it (spec: OpenLineage as a source)."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pyarrow as pa

from pipelines.catalog.models import MAX_LENGTH
from pipelines.landing.feed import Breaches, Checked, Feed
from pipelines.slo.lineage.rules import stored_applications
from pipelines.slo.lineage.runs import ORDER

if TYPE_CHECKING:
    import pandas as pd

FEED = "openlineage"
# As much as a request may hold.
LONGEST_EVENT = 16 << 20
LONGEST_TEXT = 2000
# Inputs and outputs of one event that make edges.
MOST_EDGES = 10_000

_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")
_NIL = "00000000-0000-0000-0000-000000000000"
_INSTANT = "ISO 8601 with an offset, such as 2026-03-02T05:31:07Z."
_TAGS = {"business_date", "businessdate"}
_UUID_HINT = "The UUID of the run, the same in all of its events."

Breach = tuple[str | None, str, str]
"""The field, what is wrong, and the way out."""


@dataclass
class _Found:
    """What one event says; `breaches`: what is wrong with it."""

    kind: str = "run"
    state: str | None = None
    event_at: datetime | None = None
    namespace: str | None = None
    job_id: str | None = None
    application_id: str | None = None
    run_id: str | None = None
    parent_run_id: str | None = None
    root_run_id: str | None = None
    nominal_at: datetime | None = None
    tag_date: date | None = None
    is_streaming: bool = False
    edges: dict[str, list[list[str]]] = field(default_factory=dict)
    digest: str = ""
    breaches: list[Breach] = field(default_factory=list)


def check(frame: pd.DataFrame, applications: Mapping[str, str]) -> Checked:
    """Events of a frame: all breaches of one are collected. `applications` by namespace."""
    documents = frame["document"].tolist()
    found = [_read(text, applications) for text in documents]
    breaches = Breaches(len(found))
    by_field: defaultdict[tuple[str | None, str], dict[int, str]] = defaultdict(dict)
    for position, one in enumerate(found):
        for name, message, hint in one.breaches:
            by_field[name, hint][position] = message
    for (name, hint), messages in by_field.items():
        where = np.zeros(len(found), dtype=bool)
        where[list(messages)] = True
        breaches.add(where, name, messages.__getitem__, hint)
    good = [(one, text) for one, text in zip(found, documents, strict=True) if not one.breaches]
    instant, text = pa.timestamp("us", "UTC"), pa.string()
    days = [one.event_at.date() if one.event_at else None for one, _ in good]
    columns = {
        "event_date": pa.array(days, pa.date32()),
        "digest": pa.array([one.digest for one, _ in good], text),
        "kind": pa.array([one.kind for one, _ in good], text),
        "state": pa.array([one.state for one, _ in good], text),
        "event_at": pa.array([one.event_at for one, _ in good], instant),
        "namespace": pa.array([one.namespace for one, _ in good], text),
        "job_id": pa.array([one.job_id for one, _ in good], text),
        "application_id": pa.array([one.application_id for one, _ in good], text),
        "run_id": pa.array([one.run_id for one, _ in good], text),
        "parent_run_id": pa.array([one.parent_run_id for one, _ in good], text),
        "root_run_id": pa.array([one.root_run_id for one, _ in good], text),
        "nominal_at": pa.array([one.nominal_at for one, _ in good], instant),
        "tag_date": pa.array([one.tag_date for one, _ in good], pa.date32()),
        "is_streaming": pa.array([one.is_streaming for one, _ in good], pa.bool_()),
        "edges": pa.array([orjson.dumps(one.edges).decode() for one, _ in good], text),
        "document": pa.array([document for _, document in good], pa.large_string()),
    }
    return Checked(pa.table(columns), breaches)


OPENLINEAGE = Feed(
    name=FEED,
    table="raw.openlineage_event",
    shape="document",
    check=check,
    context=stored_applications,
    partition_by="event_date",
    instant="event_at",
    known_by=("event_date", "digest"),
    longest_line=LONGEST_EVENT,
)


def _read(text: str, applications: Mapping[str, str]) -> _Found:
    event = orjson.loads(text)
    one = _Found(digest=hashlib.sha256(orjson.dumps(event, option=orjson.OPT_SORT_KEYS)).hexdigest())
    one.event_at = _instant(one, event.get("eventTime"), "eventTime", is_required=True)
    if "run" in event:
        _read_run(one, event)
    elif "job" in event:
        one.kind = "job"
    elif "dataset" in event:
        one.kind = "dataset"
        return one
    else:
        hint = "Send run, job or dataset events of OpenLineage 2."
        one.breaches.append((None, "The event has no run, no job and no dataset.", hint))
        return one
    _read_job(one, event.get("job"), applications)
    one.edges = {
        name: pairs
        for name, pairs in (
            ("in", _names(event.get("inputs"))),
            ("out", _names(event.get("outputs"))),
            ("up", _dependencies(event, "upstream")),
            ("down", _dependencies(event, "downstream")),
        )
        if pairs
    }
    return one


def _read_job(one: _Found, job: Any, applications: Mapping[str, str]) -> None:
    names = {}
    for key, longest in (("namespace", LONGEST_TEXT), ("name", MAX_LENGTH)):
        value = _at(job, key)
        at, hint = f"job.{key}", f"Text of 1 to {longest} characters."
        if value is None or (isinstance(value, str) and not value.strip()):
            one.breaches.append((at, f"{at} is missing.", hint))
        elif not isinstance(value, str):
            one.breaches.append((at, f"{at} is no text.", hint))
        elif len(value.strip()) > longest:
            one.breaches.append((at, f"{at} has {len(value.strip()):,} characters.", hint))
        else:
            names[key] = value.strip()
    one.job_id, one.namespace = names.get("name"), names.get("namespace")
    if one.namespace is None:
        return
    one.application_id = applications.get(one.namespace, one.namespace)
    if len(one.application_id) > MAX_LENGTH:
        message = (
            f"No application has the namespace, which with {len(one.namespace):,} characters can be none."
        )
        hint = "Name it in `namespaces` of an application in the catalog."
        one.breaches.append(("job.namespace", message, hint))
    one.is_streaming = _at(job, "facets", "jobType", "processingType") == "STREAMING"


def _read_run(one: _Found, event: dict[str, Any]) -> None:
    state = event.get("eventType")
    if state is not None and not isinstance(state, str):
        one.breaches.append(("eventType", "eventType is no text.", f"One of {', '.join(ORDER)}."))
    else:
        # What later versions of the specification may add gives no status either.
        one.state = state.upper() if state is not None and state.upper() in ORDER else "OTHER"
    run_id = _at(event, "run", "runId")
    one.run_id = _run_id(run_id)
    if run_id is None:
        one.breaches.append(("run.runId", "run.runId is missing.", _UUID_HINT))
    elif one.run_id is None:
        shown = repr(run_id if len(str(run_id)) <= 60 else f"{str(run_id)[:57]}…")
        one.breaches.append(("run.runId", f"run.runId is {shown}: no UUID of a run.", _UUID_HINT))
    facets = _at(event, "run", "facets")
    at = "run.facets.nominalTime.nominalStartTime"
    one.nominal_at = _instant(one, _at(facets, "nominalTime", "nominalStartTime"), at, is_required=False)
    one.parent_run_id = _run_id(_at(facets, "parent", "run", "runId"))
    one.root_run_id = _run_id(_at(facets, "parent", "root", "run", "runId"))
    one.tag_date = _tag(one, facets, "run") or _tag(one, _at(event, "job", "facets"), "job")


def _tag(one: _Found, facets: Any, owner: str) -> date | None:
    tags = _at(facets, "tags", "tags")
    for tag in tags if isinstance(tags, list) else ():
        if str(_at(tag, "key")).lower() not in _TAGS:
            continue
        value = _at(tag, "value")
        try:
            return date.fromisoformat(value)
        except (TypeError, ValueError):
            message = f"The tag business_date is {str(value)[:60]!r}: no date."
            hint = "An ISO date without time and zone, such as 2026-03-01."
            one.breaches.append((f"{owner}.facets.tags", message, hint))
    return None


def _instant(one: _Found, value: Any, at: str, *, is_required: bool) -> datetime | None:
    if value is None:
        if is_required:
            one.breaches.append((at, f"{at} is missing.", _INSTANT))
        return None
    try:
        found = datetime.fromisoformat(value)
        if found.tzinfo is not None:
            return found.astimezone(UTC)
        message = f"{at} is {value[:60]!r}: it has no offset."
    except (TypeError, ValueError, OverflowError):
        message = f"{at} is {str(value)[:60]!r}: no instant that exists."
    one.breaches.append((at, message, _INSTANT))
    return None


def _run_id(value: Any) -> str | None:
    text = value.strip().lower() if isinstance(value, str) else ""
    return text if _UUID.fullmatch(text) and text != _NIL else None


def _names(datasets: Any) -> list[list[str]]:
    return _pairs(datasets) if isinstance(datasets, list) else []


def _dependencies(event: dict[str, Any], way: str) -> list[list[str]]:
    found = _at(event, "run", "facets", "jobDependencies", way)
    return _pairs([_at(one, "job") for one in found]) if isinstance(found, list) else []


def _pairs(things: list[Any]) -> list[list[str]]:
    """Namespace and name of each, once; what has none is left out."""
    found = {
        (_at(one, "namespace").strip(), _at(one, "name").strip())
        for one in things[:MOST_EDGES]
        if isinstance(_at(one, "namespace"), str) and isinstance(_at(one, "name"), str)
    }
    return [list(pair) for pair in sorted(found)]


def _at(value: Any, *keys: str) -> Any:
    """What stands under these keys; None where something on the way is no object, or has no such key."""
    for key in keys:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value
