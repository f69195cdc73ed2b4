"""Code servers asked from outside: does a location load, what does it declare, does it still run this run?

Spoken here is Dagster's own gRPC protocol, byte for byte but without Dagster: whoever asks how Dagster is must answer
when it is broken, at once, and in little memory. Messages are read as protobuf writes them: every field that is of use
here is a string, or a number that is skipped.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipelines.errors import DuemarkError
from pipelines.warehouse.settings import Settings

SECONDS = 5.0
# The whole of a location, which is asked for once a server: thousands of assets are megabytes.
DECLARED_SECONDS = 30.0
AT_ONCE = 8
# A server that does not load is started again at least so often.
LOG_SECONDS = 60
_ERROR = re.compile(r"(?:\w+\.)*\w*(?:Error|Exception|Interrupt|Exit)\b")


@dataclass(frozen=True)
class Server:
    """Where a location's code server listens: a unix socket, or a host and port."""

    location: str
    socket: str | None = None
    host: str = "localhost"
    port: int | None = None
    ssl: bool = False

    @property
    def target(self) -> str:
        """As gRPC takes it."""
        return f"unix:{self.socket}" if self.socket else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Declared:
    """A sensor or schedule as the code has it. `interval`: seconds between ticks; `cron`: of a schedule."""

    name: str
    is_on: bool
    """Whether it runs unless somebody switches it off."""
    interval: int | None = None
    cron: tuple[str, ...] = ()
    timezone: str = "UTC"


@dataclass(frozen=True)
class Answer:
    """What a location's server said at `at`.

    `is_ok`: it answers and its code loaded. `is_error`: it answers that its code did not load; when it is neither,
    there was no answer. `reason` says why not. `declared`: its sensors and schedules, None where they are not known.
    """

    location: str
    at: datetime
    is_ok: bool
    is_error: bool = False
    reason: str = ""
    declared: tuple[Declared, ...] | None = None


def workspace_path(settings: Settings) -> Path:
    """The workspace of the daemon: `DUEMARK_WORKSPACE`, or the one that `duemark up` writes."""
    given = os.environ.get("DUEMARK_WORKSPACE")
    return Path(given) if given else settings.home / "run" / "workspace.yaml"


def servers(settings: Settings) -> list[Server]:
    """The code servers of the workspace; none where there is no workspace, or nothing in it is a server.

    Raises:
        DuemarkError: the file is no workspace.
    """
    path = workspace_path(settings)
    try:
        stamp = path.stat()
    except OSError:
        return []
    return list(_servers(path, stamp.st_mtime_ns, stamp.st_size))


@lru_cache(maxsize=4)
def _servers(path: Path, *_stamp: int) -> tuple[Server, ...]:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        content = YAML(typ="safe").load(path)
        entries = [entry["grpc_server"] for entry in content["load_from"] if "grpc_server" in entry]
        return tuple(_server(entry) for entry in entries)
    except (YAMLError, KeyError, TypeError, ValueError, OSError) as error:
        raise DuemarkError(
            f"{path} is no workspace: {error}",
            "See `grpc_server` in Dagster's documentation of workspace.yaml.",
        ) from error


def _server(entry: dict[str, Any]) -> Server:
    host, port, socket = entry.get("host") or "localhost", entry.get("port"), entry.get("socket")
    name = entry.get("location_name") or f"grpc:{host}:{port or socket}"
    return Server(str(name), socket, str(host), int(port) if port else None, bool(entry.get("ssl")))


def ask(settings: Settings, seconds: float = SECONDS) -> list[Answer]:
    """Ask every code server of the workspace, at once; takes at most a little more than `seconds`, raises nothing.

    What a server declares is asked for once as long as it lives.
    """
    found = servers(settings)
    if not found:
        return []
    with ThreadPoolExecutor(min(AT_ONCE, len(found))) as pool:
        answers = list(pool.map(lambda server: _ask(server, seconds), found))
    return [_explained(settings, one) for one in answers]


def _explained(settings: Settings, answer: Answer) -> Answer:
    """With the error that a server of `duemark up` ended with, where it did."""
    if answer.is_ok or answer.is_error:
        return answer
    words = _last_error(settings.home / "logs" / "up" / f"{answer.location}.log")
    return replace(answer, reason=f"{answer.reason}; its log ends with {words}") if words else answer


def _last_error(log: Path) -> str:
    """The error at the end of a log: the user's own, which Dagster's are raised from."""
    try:
        state = log.stat()
        # An old error is not why it does not answer now.
        if time.time() - state.st_mtime > LOG_SECONDS:
            return ""
        with log.open("rb") as file:
            file.seek(max(state.st_size - 16_384, 0))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    errors = [line for line in text.splitlines() if _ERROR.match(line) and not line.startswith("dagster.")]
    return errors[-1][:300] if errors else ""


def _ask(server: Server, seconds: float) -> Answer:
    import grpc

    def answer(*, is_ok: bool, is_error: bool = False, reason: str = "", **more: Any) -> Answer:
        return Answer(server.location, datetime.now(UTC), is_ok, is_error, reason, **more)

    try:
        identity = _call(server, "GetServerId", seconds=seconds)[1].decode()
        told = json.loads(_call(server, "ListRepositories", seconds=seconds)[1])
    except grpc.RpcError as error:
        return answer(is_ok=False, reason=_no_answer(error))
    except (KeyError, ValueError) as error:
        return answer(is_ok=False, reason=f"it gives an answer that is none of a code server: {error!r}")
    if told.get("__class__") == "SerializableErrorInfo":
        return answer(is_ok=False, is_error=True, reason=f"its code does not load: {error_text(told)}")
    try:
        return answer(is_ok=True, declared=_declared(server, identity))
    except (grpc.RpcError, KeyError, ValueError, TypeError):
        # It loads all the same; a version of Dagster that says it in other words is no reason for an alarm.
        return answer(is_ok=True)


def has_run(server: Server, run_id: str, seconds: float = SECONDS) -> bool | None:
    """Whether the process of this run lives, as the server that started it knows; None when it does not answer."""
    import grpc

    request = json.dumps({"__class__": "CanCancelExecutionRequest", "run_id": run_id})
    try:
        reply = _call(server, "CanCancelExecution", _string(1, request), seconds)
        return bool(json.loads(reply[1])["can_cancel"])
    except (grpc.RpcError, KeyError, ValueError):
        return None


def error_text(error: Any) -> str:
    """What an error that Dagster stored says, in a line: the message of its innermost cause, where it has one."""
    while isinstance(error, dict) and isinstance(error.get("cause"), dict):
        error = error["cause"]
    message = str(error.get("message") or "") if isinstance(error, dict) else ""
    return " ".join(message.split())[:500]


def _no_answer(error: Any) -> str:
    code = getattr(error.code(), "name", "UNKNOWN") if callable(getattr(error, "code", None)) else "UNKNOWN"
    return {
        "UNAVAILABLE": "its code server does not answer",
        "DEADLINE_EXCEEDED": "its code server takes too long to answer",
    }.get(code, f"its code server does not answer ({code})")


@lru_cache(maxsize=32)
def _declared(server: Server, identity: str) -> tuple[Declared, ...]:  # noqa: ARG001 - a new one asks again
    origin = {
        "__class__": "ExternalRepositoryOrigin",
        "repository_location_origin": {
            "__class__": "GrpcServerRepositoryLocationOrigin",
            "host": server.host,
            "port": server.port,
            "socket": server.socket,
            "location_name": server.location,
            "use_ssl": server.ssl or None,
            "additional_metadata": None,
        },
        "repository_name": "__repository__",
    }
    # Field 2, true: without what the jobs consist of.
    request = _string(1, json.dumps(origin)) + b"\x10\x01"
    chunks = _stream(server, "StreamingExternalRepository", request, DECLARED_SECONDS)
    content = json.loads(b"".join(chunk[2] for chunk in chunks))
    sensors = [
        Declared(one["name"], _is_on(one), one.get("min_interval") or 30)
        for one in content["external_sensor_datas"]
    ]
    schedules = [
        Declared(
            one["name"],
            _is_on(one),
            None,
            _crons(one["cron_schedule"]),
            one.get("execution_timezone") or "UTC",
        )
        for one in content["external_schedule_datas"]
    ]
    return (*sensors, *schedules)


def _is_on(one: dict[str, Any]) -> bool:
    return str((one.get("default_status") or {}).get("__enum__", "")).endswith(".RUNNING")


def _crons(value: str | list[str]) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


# The wire


def _channel(server: Server) -> Any:
    import grpc

    # Several processes of one machine ask the same sockets: none waits for another's backoff.
    options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    if server.ssl:
        return grpc.secure_channel(server.target, grpc.ssl_channel_credentials(), options=options)
    return grpc.insecure_channel(server.target, options=options)


def _call(server: Server, method: str, request: bytes = b"", seconds: float = SECONDS) -> dict[int, bytes]:
    with _channel(server) as channel:
        return _fields(channel.unary_unary(f"/api.DagsterApi/{method}")(request, timeout=seconds))


def _stream(server: Server, method: str, request: bytes, seconds: float) -> Iterator[dict[int, bytes]]:
    with _channel(server) as channel:
        yield from map(_fields, channel.unary_stream(f"/api.DagsterApi/{method}")(request, timeout=seconds))


def _string(number: int, text: str) -> bytes:
    """A field of protobuf that holds a string."""
    content = text.encode()
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    parts = []
    while value > 127:
        parts.append(value & 127 | 128)
        value >>= 7
    return bytes([*parts, value])


def _fields(message: bytes) -> dict[int, bytes]:
    """The strings of a message by the number of their field. Raises ValueError when it is no message."""
    found: dict[int, bytes] = {}
    place = 0
    while place < len(message):
        key, place = _number(message, place)
        value, place = _number(message, place)
        if key & 7 == 2:
            found[key >> 3] = message[place : place + value]
            place += value
        elif key & 7 != 0:
            raise ValueError(f"a field of wire type {key & 7}")
    return found


def _number(message: bytes, place: int) -> tuple[int, int]:
    """The number that begins at `place`, and the place behind it."""
    value = shift = 0
    for index in range(place, len(message)):
        value |= (message[index] & 127) << shift
        shift += 7
        if message[index] < 128:
            return value, index + 1
    raise ValueError("a message that breaks off")
