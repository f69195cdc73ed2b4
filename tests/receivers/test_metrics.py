"""`/metrics`, as Prometheus reads it: read here by the parser of its own client."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from pipelines.warehouse.settings import ROOT, Settings
from tests.receivers.conftest import Receiver, running

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(receiver: Receiver) -> Samples:
    with receiver.client("dashboards") as client:
        answer = client.get("/metrics")
    assert answer.status_code == 200
    families = re.findall(r"^# TYPE (\w+)", answer.text, re.MULTILINE)
    assert len(set(families)) == len(families), "each is described once"
    return {
        (one.name, tuple(sorted(one.labels.items()))): one.value
        for family in text_string_to_metric_families(answer.text)
        for one in family.samples
    }


def answers(found: Samples, path: str, status: str) -> float:
    return sum(
        value
        for (name, labels), value in found.items()
        if name == "duemark_http_request_seconds_count"
        and dict(labels).items() >= {"path": path, "status": status}.items()
    )


def test_parts_and_requests(receiver: Receiver, fresh: Callable[..., dict[str, Any]]) -> None:
    before = samples(receiver)
    receiver.post(fresh())
    receiver.post({})
    with receiver.client("dashboards") as client:
        client.get("/api/v1/slos/one")
        client.get("/api/v1/slos/other")
        client.get("/nowhere")
    after = samples(receiver)
    path = "/api/v1/job-status"
    assert answers(after, path, "201") - answers(before, path, "201") == 1
    assert answers(after, path, "400") - answers(before, path, "400") == 1
    assert answers(after, "other", "404") - answers(before, "other", "404") == 1
    # By the path of the interface, not of the request.
    assert not [labels for _, labels in after if "/api/v1/slos/one" in dict(labels).values()]
    assert after["duemark_ready", (("part", "database"),)] == 1
    assert after["duemark_ready", (("part", "daemon"),)] == 0
    assert after["duemark_part_delivery_messages", ()] == 0


def test_the_dashboard_asks_for_what_is_there(judged: Receiver) -> None:
    """Every name in a question of deploy/grafana.json is that of a metric."""
    dashboard = json.loads((ROOT / "deploy" / "grafana.json").read_text("utf-8"))
    asked = {
        name
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"duemark_\w+", target["expr"])
    }
    assert len(asked) >= 8
    assert asked <= {name for name, _ in samples(judged)}


def test_only_analysts_ask(receiver: Receiver) -> None:
    for sender, status in ((None, 401), ("scheduler", 403)):
        with receiver.client(sender) as client:
            assert client.get("/metrics").status_code == status


def test_several_workers_are_added_up(home: Settings) -> None:
    with running(home, "--workers", "2") as receiver:
        for _ in range(40):
            # A connection of its own, so that both answer.
            with receiver.client(None) as client:
                client.get("/health")
        found = samples(receiver)
    assert answers(found, "/health", "200") + answers(found, "/health", "503") == 40
