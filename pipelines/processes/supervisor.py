"""`duemark up` and `duemark down`: all processes of a home, kept up by one supervisor.

Every part is a process group of its own, so that what it starts (runs, above all) ends with it. Whatever happens to
the supervisor, nothing stays behind: the kernel tells its children when it is gone (Linux), and the reaper, which
reads from a pipe that only the supervisor holds, ends all groups and the embedded server.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

from pipelines.errors import DuemarkError
from pipelines.logs import get_logger
from pipelines.orchestration.instance import instance_env, write_instance
from pipelines.processes.page import Page, Shown
from pipelines.processes.parts import (
    LOCATIONS,
    OWN,
    Address,
    Part,
    parts,
    run_folder,
    socket_folder,
    socket_of,
    url_of,
    write_workspace,
)
from pipelines.processes.reaper import end_groups
from pipelines.processes.running import is_process, running_supervisor
from pipelines.signals import stopping
from pipelines.warehouse import embedded
from pipelines.warehouse.settings import Settings

log = get_logger(__name__)

POLL_SECONDS = 0.25
# How often readiness is looked at, while a part starts and afterwards.
READY_SECONDS = 0.5
STATUS_SECONDS = 5.0
# A part that dies again and again is started ever more seldom; one that lived so long starts afresh at once.
LONGEST_DELAY = 30.0
STEADY = timedelta(seconds=60)
STOP_SECONDS = 10.0
# What a killed `up` left is gone after a few seconds.
TAKE_OVER_SECONDS = 60.0
MOST_LOG_BYTES = 32 << 20
NEVER = datetime.min.replace(tzinfo=UTC)

# Runs before the program: the kernel shall end it when the supervisor's main thread is gone (1 is PR_SET_PDEATHSIG).
# Without that call (macOS) the reaper alone does it.
BOUND = (
    "import os, signal, sys\n"
    "if sys.platform == 'linux':\n"
    "    import ctypes\n"
    "    ctypes.CDLL(None).prctl(1, signal.SIGTERM)\n"
    "if os.getppid() == int(sys.argv[1]):\n"
    "    os.execv(sys.argv[2], sys.argv[2:])\n"
)


def supervise(
    settings: Settings, host: str, port: int, *, with_watch: bool = False, receiver: Address | None = None
) -> int:
    """Run everything until SIGINT or SIGTERM; return the exit code.

    `port` 0 takes a free one; `with_watch` and `receiver` run the watcher and the receiver, too.

    Raises DuemarkError when another `up` runs for this home, when a port is taken, and when the databases cannot be
    made ready.
    """
    with stopping() as stopped, _locked(settings) as lock:
        chosen = _free_port(host, port, "The web interface", "--port")
        if receiver is not None:
            free = _free_port(receiver.host, receiver.port, "The receiver", "--serve-port")
            receiver = replace(receiver, port=free)
        supervisor = Supervisor(
            settings, host, chosen, lock, stopped, with_watch=with_watch, receiver=receiver
        )
        return supervisor.run()


def stop(settings: Settings) -> list[str]:
    """Stop what runs for this home, the embedded server too; return a line for each thing that was stopped."""
    lines = []
    running = running_supervisor(settings)
    if running is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(running["pid"], signal.SIGTERM)
        lines.append(f"stopped what `duemark up` ran (process {running['pid']})")
        if not _gone(settings, STOP_SECONDS * 3):
            with contextlib.suppress(ProcessLookupError):
                os.kill(running["pid"], signal.SIGKILL)
            _gone(settings, TAKE_OVER_SECONDS)
    lines += [f"stopped {name}, which a killed `duemark up` had left" for name in _sweep(settings)]
    if settings.database_url is None and embedded.stop(settings.home, is_planned=True):
        lines.append("stopped the embedded PostgreSQL")
    return lines


def _gone(settings: Settings, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with _lock_file(settings) as lock, contextlib.suppress(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        time.sleep(0.2)
    return False


def _lock_file(settings: Settings) -> IO[str]:
    run_folder(settings).mkdir(parents=True, exist_ok=True)
    return (run_folder(settings) / "lock").open("a")


@contextlib.contextmanager
def _locked(settings: Settings) -> Iterator[IO[str]]:
    """The home's lock. Refuses beside another `up`; waits for the reaper of one that was killed."""
    deadline = time.monotonic() + TAKE_OVER_SECONDS
    with _lock_file(settings) as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                running = running_supervisor(settings)
                if running is not None or time.monotonic() > deadline:
                    raise _already(settings, running) from None
                time.sleep(0.2)
            else:
                break
        yield lock


def _already(settings: Settings, running: dict[str, Any] | None) -> DuemarkError:
    where = f" as process {running['pid']}, at {running['url']}" if running else ""
    return DuemarkError(
        f"Duemark runs already for {settings.home}{where}.",
        "`duemark down` stops it; another DUEMARK_HOME runs beside it.",
    )


def _free_port(host: str, port: int, what: str, option: str) -> int:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # As the web server does, or the closed connections of the last one would count as taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except socket.gaierror as error:
        raise DuemarkError(
            f"{host!r} is no address of this machine: {error.strerror}.", "Give another --host."
        ) from error
    except OSError as error:
        why = error.strerror or str(error)
        raise DuemarkError(
            f"{what} cannot listen on {host}:{port}: {why}.",
            f"Another program may have the port: give another one with {option}, or 0 for any that is free.",
        ) from error


def _sweep(settings: Settings) -> list[str]:
    """End groups whose supervisor and reaper were both killed; return their names."""
    found = {}
    for path in sorted(run_folder(settings).glob("*.pid")):
        try:
            entry = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError):
            entry = {}
        if is_process(entry.get("pid"), entry.get("created")):
            found[path.stem] = int(entry["pid"])
        path.unlink(missing_ok=True)
    if found:
        end_groups(found.values())
    for location in LOCATIONS:
        socket_of(settings, location).unlink(missing_ok=True)
    return list(found)


def _created(pid: int) -> float:
    import psutil

    with contextlib.suppress(psutil.Error):
        return float(psutil.Process(pid).create_time())
    return 0.0


@dataclass
class Child:
    """A part and its process."""

    part: Part
    log_path: Path
    process: subprocess.Popen[bytes] | None = None
    is_ready: bool = False
    since: datetime | None = None
    """When it was started, or became ready, or went down."""
    started_at: datetime = NEVER
    restarts: int = 0
    failures: int = 0
    start_after: float = 0.0
    looked_at: float = 0.0
    note: str = ""

    @property
    def state(self) -> str:
        if self.process is None:
            return "down" if self.restarts or self.failures else "waiting"
        return "up" if self.is_ready else "starting"


class Supervisor:
    """Starts parts, starts again those that die, and stops all of them."""

    def __init__(
        self,
        settings: Settings,
        host: str,
        port: int,
        lock: IO[str],
        stopped: threading.Event,
        *,
        with_watch: bool,
        receiver: Address | None,
    ) -> None:
        self.settings, self.lock, self.stopped = settings, lock, stopped
        self.url = url_of(host, port)
        self.receiver_url = url_of(receiver.host, receiver.port) if receiver else None
        self.started_at = datetime.now(UTC)
        logs = settings.home / "logs" / "up"
        self.children = [
            Child(part, logs / f"{part.name}.log")
            for part in parts(settings, host, port, with_watch=with_watch, receiver=receiver)
        ]
        self.env = {**os.environ, **instance_env(settings), "PYTHONUNBUFFERED": "1"}
        self.page = Page(self.url, settings, self.receiver_url)
        self._reaper: subprocess.Popen[str] | None = None
        self._has_written = ""
        self._looking = threading.Thread(target=self._look_around, name="status", daemon=True)

    def run(self) -> int:
        """Run until told to stop."""
        with self.page:
            try:
                self._prepare()
                if not self.stopped.is_set():
                    self._looking.start()
                while not self.stopped.wait(POLL_SECONDS):
                    self._step()
            finally:
                self._stop()
        return 0

    def _prepare(self) -> None:
        from pipelines.transform.deploy import is_deployed
        from pipelines.warehouse.migrate import migrate

        for name in _sweep(self.settings):
            self.page.tell(f"ended {name}, which a killed `duemark up` had left")
        embedded.private_folder(socket_folder(self.settings))
        write_workspace(self.settings)
        self._start_reaper()
        self._write_state()
        self.page.tell("preparing the databases")
        migrate(self.settings)
        write_instance(self.settings)
        if not is_deployed(self.settings) and not self.stopped.is_set():
            self._deploy()

    def _deploy(self) -> None:
        """In a process of its own: dbt would stay in this one's memory for ever."""
        self.page.tell("deploying the dbt project")
        process = self._spawn(
            (*OWN, "deploy"),
            subprocess.PIPE,
        )
        while process.poll() is None:
            if self.stopped.wait(POLL_SECONDS):
                self._end(process)
                return
        output = process.stdout.read().decode(errors="replace").strip() if process.stdout else ""
        self._tell_reaper(f"-{process.pid}")
        if process.returncode:
            raise DuemarkError(f"The dbt project could not be deployed:\n{output}")

    def _step(self) -> None:
        self._watch_reaper()
        if self.settings.database_url is None and embedded.running_pid(self.settings.home) is None:
            self.page.tell("the embedded PostgreSQL is down; starting it")
            try:
                embedded.start(self.settings.home)
            except DuemarkError as error:
                self.page.tell(error.message)
        for child in self.children:
            if child.process is None:
                self._start(child)
            elif child.process.poll() is not None:
                self._died(child, child.process)
            else:
                self._look(child)
        self._write_state()
        self.page.show([self._shown(child) for child in self.children])

    def _start(self, child: Child) -> None:
        ready = {other.part.name for other in self.children if other.is_ready}
        # Once it ran, it runs on without them.
        is_free = set(child.part.needs) <= ready or child.restarts > 0
        if not is_free or time.monotonic() < child.start_after:
            return
        child.log_path.parent.mkdir(parents=True, exist_ok=True)
        if child.log_path.exists() and child.log_path.stat().st_size > MOST_LOG_BYTES:
            child.log_path.replace(child.log_path.with_suffix(".1.log"))
        if child.part.name in LOCATIONS:
            socket_of(self.settings, child.part.name).unlink(missing_ok=True)
        with child.log_path.open("ab") as output:
            child.process = self._spawn(child.part.command, output.fileno())
        child.since = child.started_at = datetime.now(UTC)
        child.is_ready = False
        pid_file = run_folder(self.settings) / f"{child.part.name}.pid"
        pid_file.write_text(
            json.dumps({"pid": child.process.pid, "created": _created(child.process.pid)}), "utf-8"
        )

    def _spawn(self, command: tuple[str, ...], output: int) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", BOUND, str(os.getpid()), *command],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
            env=self.env, cwd=self.settings.home, start_new_session=True,
        )  # fmt: skip
        self._tell_reaper(f"+{process.pid}")
        return process

    def _look(self, child: Child) -> None:
        now = time.monotonic()
        if child.is_ready or now - child.looked_at < READY_SECONDS:
            return
        child.looked_at = now
        # Whatever it raises means: not yet.
        with contextlib.suppress(Exception):
            if child.part.is_ready(child.started_at):
                child.is_ready, child.since, child.note = True, datetime.now(UTC), ""
                self.page.tell(f"{child.part.name} is up")

    def _died(self, child: Child, process: subprocess.Popen[bytes]) -> None:
        code = process.returncode
        how = f"ended with {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"
        # What it had started (runs) would go on without anybody who knows of it.
        self._end(process)
        is_steady = child.started_at + STEADY <= datetime.now(UTC)
        child.failures = 0 if is_steady else child.failures + 1
        delay = min(2.0 ** (child.failures - 1), LONGEST_DELAY) if child.failures > 1 else 0.0
        child.process, child.is_ready, child.since = None, False, datetime.now(UTC)
        child.restarts += 1
        child.start_after = time.monotonic() + delay
        child.note = f"{how}: {_last_line(child.log_path)}"
        self.page.tell(
            f"{child.part.name} {how}; starting it again" + (f" in {delay:.0f} s" if delay else "")
        )

    def _end(self, process: subprocess.Popen[bytes], grace: float = 5.0) -> None:
        end_groups([process.pid], grace, process.poll)
        process.wait()
        self._tell_reaper(f"-{process.pid}")

    def _stop(self) -> None:
        """The watcher first, which would tell of the others' end; then who starts runs, then who runs them."""
        self.page.tell("stopping")
        left = {child.part.name: child.process for child in self.children if child.process is not None}
        for name in ("watch", "daemon"):
            if process := left.pop(name, None):
                self._end(process)
                log.debug("ended", part=name, code=process.returncode)
        processes = left.values()
        end_groups([one.pid for one in processes], STOP_SECONDS, lambda: [one.poll() for one in processes])
        for name, process in left.items():
            log.debug("ended", part=name, code=process.wait())
        for child in self.children:
            (run_folder(self.settings) / f"{child.part.name}.pid").unlink(missing_ok=True)
        for location in LOCATIONS:
            socket_of(self.settings, location).unlink(missing_ok=True)
        if self.settings.database_url is None:
            embedded.stop(self.settings.home, is_planned=True)
        (run_folder(self.settings) / "up.json").unlink(missing_ok=True)
        if self._reaper is not None and self._reaper.stdin is not None:
            self._tell_reaper("done")
            with contextlib.suppress(OSError):
                self._reaper.stdin.close()
            self._reaper.wait()
        self.page.tell("stopped")

    def _start_reaper(self) -> None:
        options = ["embedded"] if self.settings.database_url is None else []
        self._reaper = subprocess.Popen(
            [sys.executable, "-m", "pipelines.processes.reaper", str(self.settings.home), *options],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, text=True, bufsize=1,
            env=self.env, cwd=self.settings.home, start_new_session=True,
            pass_fds=[self.lock.fileno()],
        )  # fmt: skip
        for child in self.children:
            if child.process is not None:
                self._tell_reaper(f"+{child.process.pid}")

    def _watch_reaper(self) -> None:
        if self._reaper is not None and self._reaper.poll() is not None:
            self.page.tell("the reaper is gone; starting it again")
            self._start_reaper()

    def _tell_reaper(self, line: str) -> None:
        if self._reaper is not None and self._reaper.stdin is not None:
            with contextlib.suppress(OSError):
                self._reaper.stdin.write(f"{line}\n")
                self._reaper.stdin.flush()

    def _look_around(self) -> None:
        from pipelines.processes.status import report

        while not self.stopped.is_set():
            self.page.status = report(self.settings)
            self.stopped.wait(STATUS_SECONDS)

    def _shown(self, child: Child) -> Shown:
        return Shown(
            child.part.name,
            child.state,
            child.since,
            child.process.pid if child.process else None,
            child.restarts,
            child.note,
        )

    def _write_state(self) -> None:
        """For `down`, for a second `up`, and for whoever watches from outside."""
        state = {
            "pid": os.getpid(),
            "created": _created(os.getpid()),
            "url": self.url,
            "receiver_url": self.receiver_url,
            "started_at": self.started_at.isoformat(),
            "parts": {
                child.part.name: {
                    "state": child.state,
                    "since": child.since.isoformat() if child.since else None,
                    "pid": child.process.pid if child.process else None,
                    "restarts": child.restarts,
                    "note": child.note,
                }
                for child in self.children
            },
        }
        text = json.dumps(state)
        if text != self._has_written:
            draft = run_folder(self.settings) / f".up.{os.getpid()}"
            draft.write_text(text, "utf-8")
            draft.replace(run_folder(self.settings) / "up.json")
            self._has_written = text


def _last_line(path: Path) -> str:
    with contextlib.suppress(OSError):
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - 4096, 0))
            lines = file.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip()[:200] if lines else ""
    return ""
