"""`POST /api/v1/lineage`: events as clients of OpenLineage send them, and what comes of them."""

from __future__ import annotations

import json
import uuid
from typing import Any

import httpx

from pipelines.slo.lineage.derive import derive_statuses
from tests.receivers.conftest import Receiver


def event(state: str = "START", **values: Any) -> dict[str, Any]:
    return {
        "eventType": state,
        "eventTime": "2026-03-02T05:31:07Z",
        "run": {"runId": str(uuid.uuid4()), "facets": {}},
        "job": {"namespace": "prod", "name": "load"},
        "producer": "https://example.org/client",
        "schemaURL": "https://openlineage.io/spec/2-0-2/OpenLineage.json#/$defs/RunEvent",
    } | values


def post(receiver: Receiver, content: Any, path: str = "", sender: str | None = "lineage") -> httpx.Response:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    with receiver.client(sender) as client:
        return client.post(
            f"/api/v1/lineage{path}", content=body, headers={"content-type": "application/json"}
        )


def test_an_event_is_stored_once_and_becomes_a_status(receiver: Receiver) -> None:
    one = event()
    done = post(receiver, one)
    assert (done.status_code, done.json()) == (201, {"stored": 1, "known": 0, "rejected": []})
    # A client that got no answer sends it again, perhaps with its keys in another order.
    again = post(receiver, dict(reversed(one.items())))
    assert (again.status_code, again.json()) == (201, {"stored": 0, "known": 1, "rejected": []})
    run_id = one["run"]["runId"]
    [(source,)] = receiver.query(
        "select source from raw.openlineage_event inner join raw.load using (load_id) where run_id = %s",
        run_id,
    )
    assert source == "http lineage"
    derive_statuses(receiver.settings)
    assert receiver.query(
        "select application_id, job_id, status_code, source from marts.job_status where run_id = %s", run_id
    ) == [("deposits", "load", "START", "openlineage")]


def test_a_large_event_passes(receiver: Receiver) -> None:
    one = event()
    one["run"]["facets"]["spark.logicalPlan"] = {"plan": "x" * (3 << 20)}
    assert post(receiver, one).status_code == 201


def test_a_batch_takes_what_is_good(receiver: Receiver) -> None:
    events = [event(), event(eventTime=None), event("OTHER")]
    done = post(receiver, events, "/batch")
    assert done.status_code == 207
    body = done.json()
    assert (body["stored"], body["known"]) == (2, 0)
    [refused] = body["rejected"]
    assert (refused["index"], refused["reasons"][0]["field"]) == (1, "eventTime")
    assert post(receiver, events[:1] + events[2:], "/batch").status_code == 201
    assert post(receiver, events[1]).status_code == 400
    assert post(receiver, b"").status_code == 400
    assert post(receiver, b'{"eventType":').status_code == 400


def test_who_may(receiver: Receiver) -> None:
    assert post(receiver, event(), sender=None).status_code == 401
    # Job statuses only.
    assert post(receiver, event(), sender="scheduler").status_code == 403
    # Another application's job; what is of no job is nobody's.
    foreign = event(job={"namespace": "unheard-of", "name": "load"})
    done = post(receiver, foreign)
    assert done.status_code == 403
    assert done.json()["rejected"][0]["reasons"][0]["field"] == "application_id"
    dataset = {
        "eventTime": "2026-03-02T05:31:07Z",
        "dataset": {"namespace": "s3://b", "name": uuid.uuid4().hex},
    }
    assert post(receiver, dataset).status_code == 201
