"""Settings, all from the environment, each with a default that works. No other module reads a `DUEMARK_…` variable."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Generic, Literal, Self, TypeVar, cast, get_args, overload

from pipelines.durations import duration
from pipelines.errors import DuemarkError

T = TypeVar("T")

# The checkout: the demonstration catalog and the dbt project lie beside the package. In an installed wheel they
# are given by DUEMARK_CATALOG and DUEMARK_DBT_PROJECT.
ROOT = Path(__file__).resolve().parents[2]

# The variables of what `Settings` is made of, in its order; the others are attributes of it.
PLACES = (
    "DUEMARK_HOME",
    "DUEMARK_DATABASE_URL",
    "DUEMARK_CATALOG",
    "DUEMARK_LANDING",
    "DUEMARK_DBT_PROJECT",
    "DUEMARK_DAGSTER_DATABASE",
    "DUEMARK_DBT_TARGET",
)

# What becomes of a file in the landing folder once it is loaded.
LoadedFiles = Literal["keep", "archive", "delete"]
# The watcher looks back seven days for failures that nothing put right.
LEAST_KEPT = timedelta(days=8)


class Variable(Generic[T]):
    """A setting: an attribute of `Settings`, read and checked when it is asked for, so that it fails only who needs it.

    `name`: of the variable. `default`: as a person would write it, "" for none; it counts where the variable is
    missing or empty. `meaning`: in a line. `read`: makes the value of (name, text), or raises DuemarkError.
    """

    def __init__(self, name: str, default: str, meaning: str, read: Callable[[str, str], T]) -> None:
        self.name, self.default, self.meaning, self.read = name, default, meaning, read

    @property
    def standard(self) -> T:
        """The value where nothing is set."""
        return self.read(self.name, self.default)

    def now(self) -> T:
        """The value that the environment has now, for who has no settings at hand."""
        return self.read(self.name, os.environ.get(self.name) or self.default)

    @overload
    def __get__(self, settings: None, owner: type) -> Self: ...
    @overload
    def __get__(self, settings: Settings, owner: type) -> T: ...
    def __get__(self, settings: Settings | None, owner: type) -> Self | T:
        if settings is None:
            return self
        return self.read(self.name, dict(settings.variables).get(self.name) or self.default)


def _text(name: str, text: str) -> str:  # noqa: ARG001 - any text will do
    return text


def _names(name: str, text: str) -> tuple[str, ...]:  # noqa: ARG001 - any text will do
    return tuple(one.strip() for one in text.split(",") if one.strip())


def _number(default: int, *, least: int) -> Callable[[str, str], int]:
    def read(name: str, text: str) -> int:
        text = text.strip() or str(default)
        if not (text.isascii() and text.isdecimal()) or len(text) > 18 or int(text) < least:
            raise DuemarkError(
                f"{name} is {text!r}; a whole number from {least} on is wanted.",
                f"Leave it out for the default, {default}.",
            )
        return int(text)

    return read


def _loaded_files(name: str, text: str) -> LoadedFiles:
    text = text.strip()
    if text not in get_args(LoadedFiles):
        raise DuemarkError(
            f"{name} is {text!r}.", f"One of {', '.join(get_args(LoadedFiles))}; default: keep."
        )
    return cast("LoadedFiles", text)


def _of_server(name: str, text: str) -> str:
    """A duration as PostgreSQL writes it."""
    if not re.fullmatch(r"\d{1,9}(ms|s|min|h|d)?", text):
        raise DuemarkError(
            f"{name} is no duration: {text!r}.", "Write it like 30s, 5min or 1h; 0 means without limit."
        )
    return text


def _seconds(name: str, text: str) -> float:
    if not text.isdecimal():
        raise DuemarkError(f"{name} is no number of seconds: {text!r}.", "Write it like 60.")
    return float(text)


def _kept(name: str, text: str) -> timedelta:  # noqa: ARG001 - the command line gives it too
    hint = f"Write a whole number of days, {LEAST_KEPT.days}d or more: the watcher looks back seven days."
    found = duration(text)
    if found is None:
        raise DuemarkError(f"{text!r} is no duration to keep runs for.", hint)
    if found < LEAST_KEPT:
        raise DuemarkError(f"{text} is too short to keep runs for.", hint)
    return found


def _limit(name: str, text: str) -> timedelta:
    found = duration(text)
    if found is None:
        raise DuemarkError(
            f"{name}={text!r} is no duration.", "Write a whole number and a unit, such as 90s, 10m or 2h."
        )
    return found


def _instigators(name: str, text: str) -> frozenset[tuple[str, str]]:
    names = _names(name, text)
    wrong = [one for one in names if "/" not in one]
    if wrong:
        raise DuemarkError(
            f"{name}: {wrong[0]!r} is no sensor or schedule.", "Write location/name, separated by commas."
        )
    pairs = (one.split("/", 1) for one in names)
    return frozenset((location, one) for location, one in pairs)


def _address(name: str, text: str) -> str | None:
    if text and not text.startswith(("http://", "https://")):
        raise DuemarkError(f"{name} is no address: {text!r}.", "Write one that begins with https://.")
    return text or None


def _site(name: str, text: str) -> str | None:
    found = _address(name, text)
    return found and found.rstrip("/")


def _folders(name: str, text: str) -> tuple[Path, ...]:  # noqa: ARG001 - what is no absolute path is passed over
    return tuple(Path(one) for one in text.split(os.pathsep) if Path(one).is_absolute())


def _path(name: str, text: str) -> Path | None:  # noqa: ARG001 - any path will do
    return Path(text) if text else None


@dataclass(frozen=True)
class Settings:
    """Where things are, and what is set beside that.

    `home` holds the embedded server, Dagster's home and dbt's target; `database_url` is a libpq URL of a database
    on a server of your own (15 or newer), None for the embedded one; `landing` is a folder or any fsspec URL;
    `dagster_database` names the database, on the same server, of Dagster's own storage. `dbt_target` is where dbt keeps
    what it parsed (None: `target` in the home); an image brings it along.

    `variables` are the other variables that are set, as (name, text); each has an attribute below. `has_landing`: the
    landing folder was named, so that it has to be there.
    """

    home: Path
    database_url: str | None
    catalog: Path
    landing: str
    dbt_project: Path
    dagster_database: str = "dagster"
    dbt_target: Path | None = None
    variables: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    has_landing: bool = field(default=False, compare=False)

    log_level = Variable("DUEMARK_LOG_LEVEL", "", "the least level of what is logged", _text)
    debug = Variable("DUEMARK_DEBUG", "", "commands that fail show their traceback", _text)
    server_env = Variable("DUEMARK_SERVER_ENV", "", "variables that the embedded server inherits", _names)
    workspace = Variable("DUEMARK_WORKSPACE", "", "the workspace of the daemon; else that of `up`", _path)
    keep_runs = Variable("DUEMARK_KEEP_RUNS", "30d", "how long Dagster's runs and events are kept", _kept)
    plugins = Variable("DUEMARK_PLUGINS", "", "modules that bring subjects, inputs and indicators", _names)

    warm_bytes = Variable(
        "DUEMARK_WARM_BYTES",
        str(4 << 20),
        "bytes that an evaluation loads itself; 0: always by a run",
        _number(4 << 20, least=0),
    )
    listen_seconds = Variable(
        "DUEMARK_LISTEN_SECONDS",
        "8",
        "seconds that the sensor `arrivals` stays, to publish at once what is received",
        _seconds,
    )
    loaded_files = Variable(
        "DUEMARK_LOADED_FILES", "keep", "what becomes of files once they are loaded", _loaded_files
    )
    rejected_kept = Variable(
        "DUEMARK_REJECTED_KEPT",
        "10000",
        "rejected records of a file that are kept; the others are counted",
        _number(10_000, least=0),
    )
    unpacked_ratio = Variable(
        "DUEMARK_UNPACKED_RATIO",
        "200",
        "how many times its size a packed file may hold, once that is more than 64 MiB",
        _number(200, least=1),
    )
    unpacked_bytes = Variable(
        "DUEMARK_UNPACKED_BYTES",
        str(64 << 30),
        "how many bytes a packed file may hold at all",
        _number(64 << 30, least=1),
    )
    indicator_retention = Variable(
        "DUEMARK_INDICATOR_RETENTION", "1 year", "how long records of indicators are kept: an interval", _text
    )
    deploy_patience = Variable(
        "DUEMARK_DEPLOY_PATIENCE",
        "60",
        "seconds that a deploy waits for analysts; then it ends them",
        _seconds,
    )
    analyst_statement_timeout = Variable(
        "DUEMARK_ANALYST_STATEMENT_TIMEOUT",
        "5min",
        "how long one question of an analyst may take; 0: for ever",
        _of_server,
    )
    analyst_idle_timeout = Variable(
        "DUEMARK_ANALYST_IDLE_TIMEOUT",
        "5min",
        "how long an analyst may leave a transaction open; 0: for ever",
        _of_server,
    )
    http_body_bytes = Variable(
        "DUEMARK_HTTP_BODY_BYTES",
        str(16 << 20),
        "bytes that a body sent to the receiver may have, unpacked too",
        _number(16 << 20, least=1),
    )
    http_body_seconds = Variable(
        "DUEMARK_HTTP_BODY_SECONDS", "60", "seconds within which a body has to end", _seconds
    )
    http_wait_seconds = Variable(
        "DUEMARK_HTTP_WAIT_SECONDS", "20", "seconds that a request waits while a load is under way", _seconds
    )
    http_rate = Variable(
        "DUEMARK_HTTP_RATE",
        "300000",
        "requests of one client in a minute, of each process; 0: any number",
        _number(300_000, least=0),
    )
    file_routes = Variable(
        "DUEMARK_FILE_ROUTES", "", "folders below which `file:` routes may have absolute paths", _folders
    )
    url = Variable("DUEMARK_URL", "", "where the pages of the board are served; alerts link to them", _site)
    deadman_url = Variable(
        "DUEMARK_DEADMAN_URL", "", "what the watcher calls as long as it can look and notify", _address
    )

    watch_expect = Variable(
        "DUEMARK_WATCH_EXPECT", "", "sensors and schedules beside ours that have to be on", _instigators
    )
    watch_heartbeat = Variable(
        "DUEMARK_WATCH_HEARTBEAT",
        "2m",
        "the daemon gives a heartbeat every half minute; without it is dead",
        _limit,
    )
    watch_grace = Variable(
        "DUEMARK_WATCH_GRACE",
        "90s",
        "what is absent when somebody begins to watch may be about to start",
        _limit,
    )
    watch_location = Variable(
        "DUEMARK_WATCH_LOCATION",
        "45s",
        "a code server may take to start again; its error is reported at once",
        _limit,
    )
    watch_tick = Variable(
        "DUEMARK_WATCH_TICK", "90s", "how much later than expected a sensor or schedule may tick", _limit
    )
    watch_quiet = Variable(
        "DUEMARK_WATCH_QUIET", "60s", "a sensor that raised is well when it did not raise for so long", _limit
    )
    watch_queued = Variable("DUEMARK_WATCH_QUEUED", "10m", "a run may wait in the queue", _limit)
    watch_starting = Variable(
        "DUEMARK_WATCH_STARTING",
        "4m",
        "a run may take to start or to be cancelled; monitoring ends it before",
        _limit,
    )
    watch_silent = Variable("DUEMARK_WATCH_SILENT", "30m", "a run under way may give no event", _limit)
    watch_orphaned = Variable(
        "DUEMARK_WATCH_ORPHANED", "60s", "the same when its code server says that its process is gone", _limit
    )
    watch_waiting = Variable(
        "DUEMARK_WATCH_WAITING",
        "100s",
        "loads or a due time may wait for a tick while none is under way",
        _limit,
    )
    watch_undelivered = Variable(
        "DUEMARK_WATCH_UNDELIVERED", "60s", "a message may stand in the outbox", _limit
    )
    watch_forgotten = Variable(
        "DUEMARK_WATCH_FORGOTTEN",
        "7d",
        "a failure that nothing put right and nobody repeats is closed",
        _limit,
    )

    @property
    def board(self) -> Path:
        """Where `up` keeps the pages of the board, and `duemark board` writes them."""
        return self.home / "board"

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Read the environment, or what stands for it. Each variable is checked when it is asked for, and not here."""
        env = os.environ if env is None else env
        home = Path(env.get("DUEMARK_HOME") or ".duemark").expanduser().absolute()
        return cls(
            home=home,
            database_url=env.get("DUEMARK_DATABASE_URL") or None,
            catalog=Path(env.get("DUEMARK_CATALOG") or ROOT / "catalog").expanduser().absolute(),
            landing=env.get("DUEMARK_LANDING") or str(home / "landing"),
            dbt_project=Path(env.get("DUEMARK_DBT_PROJECT") or ROOT / "dbt_project").expanduser().absolute(),
            dagster_database=env.get("DUEMARK_DAGSTER_DATABASE") or "dagster",
            dbt_target=Path(target).expanduser().absolute()
            if (target := env.get("DUEMARK_DBT_TARGET"))
            else None,
            variables=tuple((one.name, text) for one in cls.others() if (text := env.get(one.name))),
            has_landing="DUEMARK_LANDING" in env,
        )

    @classmethod
    def others(cls) -> tuple[Variable[object], ...]:
        """The variables beside the places, in the order above."""
        return tuple(one for one in vars(cls).values() if isinstance(one, Variable))

    def having(self, **texts: str) -> Settings:
        """These settings with other variables, by name (`DUEMARK_WARM_BYTES="0"`); "" for the default."""
        unknown = sorted(set(texts) - {one.name for one in self.others()})
        if unknown:
            raise ValueError(f"{unknown[0]} is none of the variables")
        env = dict(self.variables) | texts
        return replace(
            self, variables=tuple((one.name, env[one.name]) for one in self.others() if env.get(one.name))
        )

    def as_env(self) -> dict[str, str]:
        """The same settings as environment variables, for a child process."""
        env = {
            "DUEMARK_HOME": str(self.home),
            "DUEMARK_CATALOG": str(self.catalog),
            "DUEMARK_LANDING": self.landing,
            "DUEMARK_DBT_PROJECT": str(self.dbt_project),
            "DUEMARK_DAGSTER_DATABASE": self.dagster_database,
        }
        if self.dbt_target:
            env["DUEMARK_DBT_TARGET"] = str(self.dbt_target)
        if self.database_url:
            env["DUEMARK_DATABASE_URL"] = self.database_url
        return env | dict(self.variables)
