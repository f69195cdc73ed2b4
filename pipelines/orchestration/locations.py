"""Code servers asked from outside: does a location load, what does it declare, does it still run this run?

Whoever asks how Dagster is must answer when it is broken, at once, and in little memory: no Dagster is imported.
"""

from __future__ import annotations

import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from pipelines.errors import DuemarkError
from pipelines.orchestration.dagster_private.servers import (
    SECONDS,
    Declared,
    Server,
    declared,
    identity,
    problem,
)
from pipelines.warehouse.settings import Settings

AT_ONCE = 8
# A server that does not load is started again at least so often.
LOG_SECONDS = 60
_ERROR = re.compile(r"(?:\w+\.)*\w*(?:Error|Exception|Interrupt|Exit)\b")


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
    return settings.workspace or settings.home / "run" / "workspace.yaml"


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
        name = identity(server, seconds)
        why = problem(server, seconds)
    except grpc.RpcError as error:
        return answer(is_ok=False, reason=_no_answer(error))
    except (KeyError, ValueError) as error:
        return answer(is_ok=False, reason=f"it gives an answer that is none of a code server: {error!r}")
    if why is not None:
        return answer(is_ok=False, is_error=True, reason=f"its code does not load: {why}")
    try:
        return answer(is_ok=True, declared=declared(server, name))
    except (grpc.RpcError, KeyError, ValueError, TypeError):
        # It loads all the same; a version of Dagster that says it in other words is no reason for an alarm.
        return answer(is_ok=True)


def _no_answer(error: Any) -> str:
    code = getattr(error.code(), "name", "UNKNOWN") if callable(getattr(error, "code", None)) else "UNKNOWN"
    return {
        "UNAVAILABLE": "its code server does not answer",
        "DEADLINE_EXCEEDED": "its code server takes too long to answer",
    }.get(code, f"its code server does not answer ({code})")
