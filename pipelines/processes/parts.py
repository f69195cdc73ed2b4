"""What `duemark up` runs: the processes, in the order in which they start, and how each shows that it is ready."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pipelines.orchestration.dagster_private.calls import DAEMON_MODULE
from pipelines.orchestration.dagster_private.tables import heartbeats
from pipelines.orchestration.instance import dagster_home
from pipelines.warehouse.connect import connect
from pipelines.warehouse.embedded import SOCKET_FOLDER_BYTES
from pipelines.warehouse.settings import Settings

# Code location and the module that holds its definitions: a process each, so that one that does not load leaves the
# other up. `oncall` never imports dbt.
LOCATIONS = {"pipelines": "pipelines.definitions", "oncall": "sensors.definitions"}
# A command of ours.
OWN = (sys.executable, "-c", "from pipelines.cli import main; main()")


@dataclass(frozen=True)
class Address:
    """Where the receiver listens; `is_open`: it asks nobody who he is."""

    host: str
    port: int
    is_open: bool = False


@dataclass(frozen=True)
class Part:
    """A process to keep up. It is started when all of `needs` are ready, and stopped before them."""

    name: str
    command: tuple[str, ...]
    is_ready: Callable[[datetime], bool]
    """Called with the instant at which it was started; may raise."""
    needs: tuple[str, ...] = ()


def run_folder(settings: Settings) -> Path:
    """Where lock, process ids and workspace of what runs for the home are."""
    return settings.home / "run"


def socket_folder(settings: Settings) -> Path:
    """Folder of the code servers' sockets: in the home, unless its path is too long for a socket's."""
    inside = run_folder(settings)
    if len(os.fsencode(inside)) <= SOCKET_FOLDER_BYTES:
        return inside
    digest = hashlib.sha256(os.fsencode(settings.home)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"duemark-{digest}-run"


def socket_of(settings: Settings, location: str) -> Path:
    """Socket of a location's code server."""
    return socket_folder(settings) / f"{location}.sock"


def workspace_file(settings: Settings) -> Path:
    """The workspace of webserver and daemon: the code servers that `up` runs."""
    return run_folder(settings) / "workspace.yaml"


def write_workspace(settings: Settings) -> Path:
    """Write the workspace; return its path."""
    lines = ["# Written by `duemark up`: the code servers that it runs.", "load_from:"]
    for location in LOCATIONS:
        lines += [
            "  - grpc_server:",
            f"      socket: {json.dumps(str(socket_of(settings, location)))}",
            f"      location_name: {location}",
        ]
    path = workspace_file(settings)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def parts(
    settings: Settings, host: str, port: int, *, with_watch: bool, receiver: Address | None = None
) -> list[Part]:
    """Code servers first: what needs them would otherwise try in vain, and both cores are busy enough at the start."""
    python = (sys.executable, "-m")
    workspace = str(workspace_file(settings))
    found = [
        Part(
            location,
            (*python, "dagster", "api", "grpc", "--socket", str(socket_of(settings, location)),
             "--module-name", module, "--location-name", location, "--log-level", "warning",
             "--working-directory", str(dagster_home(settings)), "--use-python-environment-entry-point"),
            _answers(socket_of(settings, location)),
        )
        for location, module in LOCATIONS.items()
    ]  # fmt: skip
    servers = tuple(LOCATIONS)
    found.append(
        Part(
            "webserver",
            (*python, "dagster_webserver", "--host", host, "--port", str(port), "--workspace", workspace,
             "--dagster-log-level", "warning"),
            _serves(host, port),
            servers,
        )
    )  # fmt: skip
    found.append(
        Part(
            "daemon",
            (*python, DAEMON_MODULE, "run", "--workspace", workspace, "--log-level", "info"),
            lambda since: _heartbeat(settings, since),
            servers,
        )
    )
    found.append(
        Part(
            "board",
            (*OWN, "board", "--follow"),
            lambda _: True,
            ("daemon",),
        )
    )
    if receiver is not None:
        found.append(
            Part(
                "serve",
                (*OWN, "serve", "--host", receiver.host, "--port", str(receiver.port),
                 *(["--insecure-local"] if receiver.is_open else [])),
                _answers_http(receiver.host, receiver.port),
            )
        )  # fmt: skip
    if with_watch:
        found.append(
            Part(
                "watch",
                (*OWN, "watch"),
                lambda _: True,
                ("daemon",),
            )
        )
    return found


def url_of(host: str, port: int) -> str:
    """URL of the web interface, for somebody on this machine."""
    shown = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104
    return f"http://{f'[{shown}]' if ':' in shown and not shown.startswith('[') else shown}:{port}"


def _answers(path: Path) -> Callable[[datetime], bool]:
    def look(_: datetime) -> bool:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(1)
            client.connect(str(path))
        return True

    return look


def _answers_http(host: str, port: int) -> Callable[[datetime], bool]:
    url = f"{url_of(host, port)}/health"

    def look(_: datetime) -> bool:
        # Which may say that something else is not as it should be.
        with contextlib.suppress(urllib.error.HTTPError):
            urllib.request.urlopen(url, timeout=2).close()  # noqa: S310
        return True

    return look


def _serves(host: str, port: int) -> Callable[[datetime], bool]:
    url = f"{url_of(host, port)}/server_info"

    def look(_: datetime) -> bool:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310
            return bool(answer.status == 200)

    return look


def _heartbeat(settings: Settings, since: datetime) -> bool:
    """Its sensors' thread has looked around at least once since."""
    with (
        connect(settings, autocommit=True, database=settings.dagster_database) as connection,
        connection.cursor() as cursor,
    ):
        given = {one.part: one.at for one in heartbeats(cursor)}
    return given.get("SENSOR", datetime.min.replace(tzinfo=UTC)) >= since - timedelta(seconds=1)
