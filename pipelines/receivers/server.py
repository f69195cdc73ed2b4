"""`duemark serve`: the receiver on a port, by one process or several."""

from __future__ import annotations

import functools
import os
import signal
import socket
from collections.abc import Callable

import click
import uvicorn
from uvicorn.supervisors import Multiprocess

from pipelines.access.authority import refuse_others
from pipelines.catalog.store import refresh_catalog
from pipelines.errors import DuemarkError
from pipelines.receivers import metrics
from pipelines.receivers.app import create, hear_uvicorn
from pipelines.subject import Subjects
from pipelines.warehouse.migrate import migrate
from pipelines.warehouse.settings import Settings

STOP_SECONDS = 15
KEEP_ALIVE_SECONDS = 65
# A worker that imports everything on a busy machine has not answered before; one that hangs is ended.
HUNG_SECONDS = 60


def serve(
    settings: Settings, host: str, port: int, workers: int, subjects: Callable[[], Subjects], *, is_open: bool
) -> None:
    """Serve until SIGINT or SIGTERM, and answer what was begun before ending.

    `port` 0 takes a free one; the address is the first line of stdout. `subjects` are those of every
    worker. `is_open`: nobody is asked who he is, on this machine alone.

    Raises DuemarkError: the address cannot be had, or is open to others; the database cannot be made ready; there is
    no catalog.
    """
    if is_open:
        refuse_others(host)
    listener = _listener(host, port)
    migrate(settings)
    # Times without an offset are read in the zone that the catalog gives their application; ticks store it later on.
    refresh_catalog(settings)
    bound, number = listener.getsockname()[:2]
    click.echo(f"serving on http://{f'[{bound}]' if ':' in bound else bound}:{number}")
    hear_uvicorn()
    # Uvicorn ends well, and then raises the signal again.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    if workers > 1:
        # Workers are new processes, which find it before they import the library.
        os.environ[metrics.FOLDER] = str(metrics.prepare(settings.home))
    config = uvicorn.Config(
        functools.partial(create, settings, subjects, is_open=is_open),
        factory=True,
        workers=workers,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        lifespan="on",
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=STOP_SECONDS,
        timeout_worker_healthcheck=HUNG_SECONDS,
    )
    if workers > 1:
        Multiprocess(config, [listener]).run()
    else:
        uvicorn.Server(config).run([listener])


def _listener(host: str, port: int) -> socket.socket:
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        raise DuemarkError(
            f"The receiver cannot listen on {host}:{port}: {error.strerror or error}.",
            "Another program may have the port: give another one with --port, or 0 for any that is free.",
        ) from error
    listener.set_inheritable(True)
    return listener
