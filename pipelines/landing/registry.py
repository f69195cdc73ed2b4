"""The feeds there are. A subject declares its feed; one line here makes its files be loaded."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

from pipelines.errors import DuemarkError

if TYPE_CHECKING:
    from pipelines.landing.feed import Feed

# Name of the feed (and of its folder under landing) -> where it is declared. Strings, because a subject's modules
# are heavy to import and whoever only looks for files needs the names alone.
DECLARATIONS: dict[str, str] = {
    "job_status": "pipelines.slo.job_status:JOB_STATUS",
}


def known(name: str) -> str:
    """The name itself; DuemarkError when there is no such feed."""
    if name not in DECLARATIONS:
        raise DuemarkError(
            f"There is no feed {name!r}.", f"The feeds are: {', '.join(sorted(DECLARATIONS))}."
        )
    return name


def feed(name: str) -> Feed:
    """The feed of that name; DuemarkError when there is none."""
    module, _, attribute = DECLARATIONS[known(name)].partition(":")
    return cast("Feed", getattr(import_module(module), attribute))
