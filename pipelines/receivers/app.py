"""The ASGI app: doors, what it keeps open while it runs, and one line of the log for each answer."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from importlib.metadata import version

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pipelines import logs
from pipelines.access.authority import Authority
from pipelines.processes.status import daemon, report
from pipelines.receivers import lineage, metrics, questions, statuses
from pipelines.receivers.doors import Door
from pipelines.receivers.group import GroupCommit
from pipelines.receivers.refusals import Refused, answer, refused
from pipelines.subject import Subjects, hand_in
from pipelines.warehouse.connect import name_process
from pipelines.warehouse.settings import Settings

log = logs.get_logger(__name__)

PARENT_SECONDS = 1.0


def create(settings: Settings, subjects: Callable[[], Subjects], *, is_open: bool = False) -> FastAPI:
    """The app for a home; `is_open`: nobody is asked who he is.

    `subjects` are those of the process, which may be a new one that knows of nothing.
    """
    hand_in(subjects)

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        logs.configure()
        hear_uvicorn()
        name_process("serve")
        for group in app.state.groups.values():
            group.start()
        orphaned = asyncio.create_task(_end_with_parent())
        try:
            yield
        finally:
            orphaned.cancel()
            for group in app.state.groups.values():
                await asyncio.to_thread(group.stop)
            app.state.door.authority.close()

    app = FastAPI(
        title="Duemark",
        description="Statuses of batch jobs in, and what is known of them.",
        version=version("duemark"),
        openapi_url="/api/v1/openapi.json",
        # Their pages load scripts of others.
        docs_url=None,
        redoc_url=None,
        lifespan=running,
    )
    authority = Authority(settings)
    app.state.settings = settings
    app.state.door = Door(authority, settings.http_rate, is_open=is_open)
    app.state.groups = {
        feed: GroupCommit(settings, feed, authority) for feed in (statuses.FEED, lineage.FEED)
    }
    for kind in (Refused, HTTPException, RequestValidationError, Exception):
        app.add_exception_handler(kind, refused)
    app.add_middleware(Logged)
    app.include_router(statuses.router)
    app.include_router(lineage.router)
    app.include_router(questions.router)
    app.include_router(metrics.router)
    app.add_api_route("/health", health, response_class=Response)
    app.add_api_route("/status", status, response_class=Response)
    return app


class Logged:
    """Middleware: each answer is counted, and has a line in the log with neither tokens nor what was sent."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, and look at the status that goes out."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        code = 0

        async def looked_at(message: Message) -> None:
            nonlocal code
            if message["type"] == "http.response.start":
                code = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, looked_at)
        finally:
            seconds = time.perf_counter() - began
            metrics.count(scope["method"], getattr(scope.get("route"), "path", "other"), code, seconds)
            # What went well is told by its load.
            tell = log.debug if code < 400 else log.info
            tell(
                "answered", method=scope["method"], path=scope["path"], status=code,
                milliseconds=round(seconds * 1000, 1),
            )  # fmt: skip


async def health(request: Request) -> Response:
    """Whether the receiver can store, and the scheduler runs; open to everybody. 503 when it is not so."""
    door: Door = request.app.state.door
    is_stored = await asyncio.to_thread(door.authority.is_reached)
    beats = is_stored and await asyncio.to_thread(_beats, request.app.state.settings)
    checks = {
        "service": "ok",
        "storage": {"postgres": "ok" if is_stored else "unreachable"},
        "scheduler": "ok" if beats else "stopped",
    }
    return answer(checks, 200 if is_stored and beats else 503)


def _beats(settings: Settings) -> bool:
    with suppress(Exception):
        return daemon(settings, datetime.now(UTC)).is_ready
    return False


async def status(request: Request) -> Response:
    """How every part stands, as `duemark status --json` says it; 503 when one is not ready."""
    door: Door = request.app.state.door
    await door.admitted(request, "analyst")
    found = await asyncio.to_thread(report, request.app.state.settings)
    return Response(found.as_json(), 200 if found.exit_code == 0 else 503, media_type="application/json")


async def _end_with_parent() -> None:
    """Of several workers, end when who started them is gone: nobody else would."""
    parent = multiprocessing.parent_process()
    while parent is not None and parent.is_alive():
        await asyncio.sleep(PARENT_SECONDS)
    if parent is not None:
        os.kill(os.getpid(), signal.SIGTERM)


def hear_uvicorn() -> None:
    """Let what uvicorn says of itself go the way of our own log, once in a process."""
    its = logging.getLogger("uvicorn.error")
    if not its.handlers:
        its.addHandler(_Heard())


class _Heard(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        # What a door raised was told by who answered it.
        if record.exc_info:
            return
        tell = log.error if record.levelno >= logging.ERROR else log.warning
        tell("uvicorn", message=record.getMessage())
