"""Old code beside a newer database: its sensors do nothing and say so, until the process is restarted."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import dagster as dg

from pipelines.logs import get_logger
from pipelines.warehouse.version import NewerDatabaseError

log = get_logger(__name__)

P = ParamSpec("P")
R = TypeVar("R")


def rests_beside_a_newer_database(evaluate: Callable[P, R]) -> Callable[P, R | dg.SkipReason]:
    """What a sensor or schedule evaluates, skipped with the reason where the database was upgraded meanwhile.

    Not raised: there is nothing in the code to look for. `duemark watch` tells of it, which then cannot look.
    """

    @functools.wraps(evaluate)
    def evaluated(*args: P.args, **kwargs: P.kwargs) -> R | dg.SkipReason:
        try:
            return evaluate(*args, **kwargs)
        except NewerDatabaseError as error:
            log.error("the database is newer than the code", problem=error.message, way_out=error.hint)  # noqa: TRY400 # no stack of ours
            return dg.SkipReason(f"{error.message} {error.hint}")

    return evaluated
