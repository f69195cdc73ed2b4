"""The feeds there are. A subject declares its feed; one line here makes its files be loaded."""

from __future__ import annotations

from pkgutil import resolve_name
from typing import TYPE_CHECKING, cast

from pipelines.errors import DuemarkError

if TYPE_CHECKING:
    from pipelines.landing.feed import Feed, LogFeed

# Name of the feed (and of its folder under landing) -> where it is declared. Strings, because a subject's modules
# are heavy to import and whoever only looks for files needs the names alone.
DECLARATIONS: dict[str, str] = {
    "job_status": "pipelines.slo.job_status:JOB_STATUS",
}


# The same of feeds whose files grow and rotate: they are followed, and nobody is woken by them.
FOLLOWED: dict[str, str] = {
    "metric_log": "pipelines.metrics.access_log:METRIC_LOG",
    "uptime": "pipelines.metrics.uptime:UPTIME",
}
# Their tables in `raw`, where they are not called like the feed.
TABLES: dict[str, str] = {"metric_log": "metric_input", "uptime": "metric_input"}


def tables() -> dict[str, list[str]]:
    """Each table in `raw` that feeds are loaded into, with these feeds."""
    found: dict[str, list[str]] = {}
    for name in names():
        found.setdefault(TABLES.get(name, name), []).append(name)
    return found


def names() -> tuple[str, ...]:
    """All feeds."""
    return (*DECLARATIONS, *FOLLOWED)


def known(name: str) -> str:
    """The name itself; DuemarkError when there is no such feed."""
    if name not in names():
        raise DuemarkError(f"There is no feed {name!r}.", f"The feeds are: {', '.join(sorted(names()))}.")
    return name


def feed(name: str) -> Feed:
    """The feed of that name, whose files are loaded whole; DuemarkError when there is none."""
    return cast("Feed", resolve_name(DECLARATIONS[known(name)]))


def log_feed(name: str) -> LogFeed:
    """The feed of that name, whose files are followed; DuemarkError when there is none."""
    return cast("LogFeed", resolve_name(FOLLOWED[known(name)]))
