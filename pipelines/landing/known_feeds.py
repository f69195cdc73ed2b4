"""The feeds of the subjects in use, by name: whoever only looks for files needs no more than that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.errors import DuemarkError
from pipelines.subject import FeedEntry, in_use

if TYPE_CHECKING:
    from pipelines.landing.feed import Feed, LogFeed


def tables() -> dict[str, list[str]]:
    """Each table in `raw` that feeds are loaded into, with these feeds."""
    found: dict[str, list[str]] = {}
    for one in in_use().feeds().values():
        found.setdefault(one.table, []).append(one.name)
    return found


def names() -> tuple[str, ...]:
    """All feeds: those whose files are loaded whole, then those that are followed."""
    return (*whole(), *followed())


def whole() -> tuple[str, ...]:
    """Feeds whose files are loaded whole."""
    return tuple(one.name for one in in_use().feeds().values() if one.whole)


def followed() -> tuple[str, ...]:
    """Feeds whose files grow and rotate: nobody is woken by them."""
    return tuple(one.name for one in in_use().feeds().values() if one.followed)


def entry(name: str) -> FeedEntry:
    """The feed of that name; DuemarkError when there is none."""
    found = in_use().feeds()
    if name not in found:
        raise DuemarkError(f"There is no feed {name!r}.", f"The feeds are: {', '.join(sorted(found))}.")
    return found[name]


def feed(name: str) -> Feed:
    """The feed of that name, whose files are loaded whole; DuemarkError when there is none."""
    found = entry(name)
    if found.whole is None:
        raise DuemarkError(f"The feed {name!r} is followed, and not loaded whole.")
    return found.whole()


def log_feed(name: str) -> LogFeed:
    """The feed of that name, whose files are followed; DuemarkError when there is none."""
    found = entry(name)
    if found.followed is None:
        raise DuemarkError(f"The feed {name!r} is loaded whole, and not followed.")
    return found.followed()
