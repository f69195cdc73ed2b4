"""docs/operations.md and deploy/ say what the code does."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import Any

from ruamel.yaml import YAML

from pipelines.durations import duration
from pipelines.orchestration.instance import CONFIGURATION
from pipelines.processes.parts import LOCATIONS
from pipelines.warehouse.settings import PLACES, Settings
from sensors.oncall.incidents.model import kinds_decided
from sensors.oncall.watch import findings
from sensors.oncall.watch.limits import EXPECTED, Limits
from sensors.oncall.watch.outside import BLIND_KIND
from tests.docs.conftest import blocks, page

TEXT = page("docs/operations.md")
PREFIX = "DUEMARK_WATCH_"


def read(text: str) -> Any:
    return YAML(typ="safe").load(text)


def chapter(name: str) -> str:
    return re.split(r"\n##+ ", TEXT.partition(f" {name}\n")[2])[0]


def test_every_kind_of_incident_has_its_row() -> None:
    described = re.findall(
        r"^\| `(\w+)` \| (?:critical|warning|info)", chapter("Kinds of incidents"), re.MULTILINE
    )
    # The last is told past the database, and stands in no table.
    assert sorted(described) == sorted([*kinds_decided(), *findings.KINDS, BLIND_KIND])


def test_every_limit_of_the_watcher_is_described_with_its_default() -> None:
    described: dict[str, str] = {}
    for names, values in re.findall(
        r"^\| (`[A-Z`, ]+`) \| ([\w, ]+) \|", chapter("The watcher"), re.MULTILINE
    ):
        described.update(zip(re.findall(r"\w+", names), re.findall(r"\w+", values), strict=True))
    assert {name: duration(value) for name, value in described.items()} == {
        one.name.upper(): getattr(Limits(), one.name) for one in fields(Limits)
    }


def test_every_setting_has_its_row() -> None:
    rows = re.findall(r"^\| `(DUEMARK_[A-Z_]+)` \|", page("README.md") + TEXT, re.MULTILINE)
    assert len(rows) == len(set(rows))
    # The limits of the watcher have a table of their own, which the test above reads.
    limits = {f"{PREFIX}{one.name.upper()}" for one in fields(Limits)}
    assert set(rows) == {*PLACES, *(one.name for one in Settings.others())} - limits


def test_the_instance_of_supervised_processes_is_the_one_of_up() -> None:
    written = read(
        CONFIGURATION.format(first_line="", storage_url='""', storage_folder='""', log_folder='""')
    )
    ours = read(page("deploy/dagster.yaml"))
    for one in (written, ours):
        for part in (one["storage"]["custom"], one["local_artifact_storage"], one["compute_logs"]):
            part["config"] = sorted(part["config"])
    assert ours == written


def test_containers_run_the_processes_that_the_page_names() -> None:
    compose = read(page("deploy/compose.yaml"))
    services = compose["services"]
    environment = services["daemon"]["environment"]
    instance = read(page("deploy/dagster.yaml"))
    wanted = re.findall(r"\{env: (\w+)\}", page("deploy/dagster.yaml"))
    assert set(wanted) <= set(environment)
    assert instance["run_queue"]
    servers = {
        one["grpc_server"]["location_name"]: one["grpc_server"]
        for one in read(page("deploy/workspace.yaml"))["load_from"]
    }
    assert set(servers) == set(LOCATIONS)
    for location, module in LOCATIONS.items():
        command = services[servers[location]["host"]]["command"]
        assert command[command.index("--module-name") + 1] == module
        assert int(command[command.index("--port") + 1]) == servers[location]["port"]
        assert f"--module-name {module} --location-name {location}" in TEXT
    (environment_of_the_page,) = (block for block in blocks(TEXT, "text") if "DAGSTER_HOME" in block)
    assert set(re.findall(r"^(\w+)=", environment_of_the_page, re.MULTILINE)) - {"DUEMARK_HOME"} <= set(
        environment
    )


def test_every_sensor_and_schedule_is_described() -> None:
    described = re.findall(r"^\| `(\w+)` \| `(\w+)` \|", page("docs/architecture.md"), re.MULTILINE)
    assert {(location, name) for name, location in described} == EXPECTED
