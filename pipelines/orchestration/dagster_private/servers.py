"""Code servers, asked in Dagster's own gRPC protocol, byte for byte but without Dagster.

Messages are read as protobuf writes them: every field that is of use here is a string, or a number that is skipped.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

SECONDS = 5.0
# The whole of a location, which is asked for once a server: thousands of assets are megabytes.
DECLARED_SECONDS = 30.0


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


def identity(server: Server, seconds: float = SECONDS) -> str:
    """What the server calls itself: another one after every start.

    Raises grpc.RpcError where it does not answer, KeyError and ValueError where that is no code server.
    """
    return _call(server, "GetServerId", seconds=seconds)[1].decode()


def problem(server: Server, seconds: float = SECONDS) -> str | None:
    """Why its code does not load; None where it loads. Raises as `identity` does."""
    told = json.loads(_call(server, "ListRepositories", seconds=seconds)[1])
    return error_text(told) if told.get("__class__") == "SerializableErrorInfo" else None


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


@lru_cache(maxsize=32)
def declared(server: Server, name: str) -> tuple[Declared, ...]:  # noqa: ARG001 - a new one asks again
    """Its sensors and schedules; asked for once as long as it is the server of this `identity`.

    Raises as `identity` does, and TypeError where it says them in other words.
    """
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
