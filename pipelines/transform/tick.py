"""The tick: what is new, and what time alone has changed, into the marts. All of it, or nothing.

A tick that died is simply done again: what it computed stands in work tables that the next one empties, and the marts
change only in the transaction that also moves `low` to `high`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from pipelines.catalog.store import refresh_catalog
from pipelines.errors import DuemarkError
from pipelines.logs import get_logger
from pipelines.subject import Publication, Subjects, in_use, using
from pipelines.transform.attempts import attempt
from pipelines.transform.deploy import deploy
from pipelines.transform.project import ModelResult, Project, generators_problems
from pipelines.transform.publish import publish
from pipelines.transform.waiting import waiting
from pipelines.warehouse.connect import connect
from pipelines.warehouse.locks import Lock, held, held_at_once
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    import psycopg

log = get_logger(__name__)

# Where no subject limits how far a tick looks.
EVERY_LOAD = (1 << 63) - 1


class TickRefusedError(DuemarkError):
    """The tick was not begun; the message says why."""


@dataclass(frozen=True)
class TickReport:
    """What a tick did: loads in (low, high], judged as of `as_of`; wall seconds by step."""

    low: int
    high: int
    as_of: datetime
    is_rebuild: bool
    models: Sequence[ModelResult]
    publications: Sequence[Publication]
    seconds: dict[str, float]
    problems: list[DuemarkError] = field(default_factory=list)


def tick(
    project: Project,
    as_of: datetime | None = None,
    *,
    rebuild: bool = False,
    wait: bool = True,
    subjects: Subjects | None = None,
) -> TickReport:
    """Bring the marts up to date with all loads, as of `as_of` (default: now).

    `rebuild` computes every row again. `wait=False` raises TickRefusedError where another tick is under way.
    `subjects`: instead of those of the process.

    Raises:
        TickRefusedError: `as_of` is before the last tick's and `rebuild` is not asked for.
        DbtError: a model failed; the marts are as they were.
    """
    with using(subjects):
        return _tick(project, as_of, rebuild=rebuild, wait=wait)


def _tick(project: Project, as_of: datetime | None, *, rebuild: bool, wait: bool) -> TickReport:
    settings = project.settings
    seconds: dict[str, float] = {}
    timer = _Timer(seconds)
    problems: list[DuemarkError] = []
    with (
        connect(settings, "transform", autocommit=True) as connection,
        _alone(connection, wait=wait),
        attempt(connection, TickRefusedError, KeyboardInterrupt),
    ):
        with timer("deploy"):
            deploy(project)
        with timer("catalog"):
            problem = refresh_catalog(settings)
            problems += [problem] if problem is not None else generators_problems(settings)
        moment = as_of or datetime.now(UTC)
        if moment.tzinfo is None:
            raise TickRefusedError(
                f"{moment.isoformat()} has no offset.", "Give one: 2026-03-03T03:00:00-05:00, or …Z for UTC."
            )
        _refuse_step_back(connection, moment, is_default=as_of is None, rebuild=rebuild)
        with timer("prepare"):
            prepared = _prepare(settings, moment)
        is_idle = not rebuild and _is_idle(settings, moment)
        begun_by = uuid4().hex
        low, high, is_rebuild = _begin(connection, begun_by, moment, prepared, rebuild=rebuild)
        with timer("dbt"):
            # Each model asks for what it needs to know of its schema, a third of what dbt would ask beforehand.
            models = [] if is_idle else project.run("run", "--selector", "tick", "--no-populate-cache")
        with timer("publish"):
            publications = publish(connection, models, is_rebuild=is_rebuild, begun_by=begun_by)
    log.info(
        "tick", low=low, high=high, as_of=moment.isoformat(), rebuild=is_rebuild,
        rows={p.name: p.inserted for p in publications}, seconds={k: round(v, 3) for k, v in seconds.items()},
    )  # fmt: skip
    return TickReport(low, high, moment, is_rebuild, models, publications, seconds, problems)


@contextmanager
def _alone(connection: psycopg.Connection[Any], *, wait: bool) -> Iterator[None]:
    if wait:
        with held(connection, Lock.TICK):
            yield
        return
    with held_at_once(connection, Lock.TICK) as holder:
        if holder is not None:
            raise TickRefusedError(
                f"Another tick is under way: {holder}.",
                "Its result will be there in a moment; there is nothing to do.",
            )
        yield


def _refuse_step_back(
    connection: psycopg.Connection[Any], as_of: datetime, *, is_default: bool, rebuild: bool
) -> None:
    if rebuild:
        return
    row = connection.execute(
        # The one published, and the one that a tick that died had set.
        "select greatest(published_as_of, as_of) from control.tick where greatest(published_as_of, as_of) > %s",
        [as_of],
    ).fetchone()
    if row is None:
        return
    hint = "Add --rebuild to judge everything again as of then."
    if is_default:
        hint = "The last tick was given a moment that is yet to come; `duemark tick --rebuild` goes back to the clock."
    raise TickRefusedError(
        f"The marts stand as of {row[0].isoformat()}, which is later than {as_of.isoformat()}.", hint
    )


def _is_idle(settings: Settings, as_of: datetime) -> bool:
    """Whether no mart would change: no load that was not taken, nothing that time has brought, no rebuild.

    Then all scopes would come out empty, and dbt, most of what a tick costs, is not asked. KPIs that failed are tried
    again all the same, and the marts stand as of the new moment.
    """
    found = waiting(settings, as_of)
    return not found.loads and not found.is_rebuild and found.since is None


def _prepare(settings: Settings, as_of: datetime) -> int:
    """Let every subject prepare; return the last load that all of them have dealt with: the tick looks no further."""
    done = [one.prepare(settings, as_of) for one in in_use() if one.prepare is not None]
    return min((load for load in done if load is not None), default=EVERY_LOAD)


def _begin(
    connection: psycopg.Connection[Any], begun_by: str, as_of: datetime, high: int, *, rebuild: bool
) -> tuple[int, int, bool]:
    """Set the control row: which loads, and from when to when."""
    row = connection.execute(
        """
        update control.tick set
            high = %(high)s,
            as_of = %(as_of)s,
            low = case when needs_rebuild or %(rebuild)s then 0 else published_high end,
            previous_as_of = case when needs_rebuild or %(rebuild)s then '-infinity' else published_as_of end,
            needs_rebuild = needs_rebuild or %(rebuild)s,
            begun_by = %(begun_by)s
        returning low, high, needs_rebuild
        """,
        {"as_of": as_of, "high": high, "rebuild": rebuild, "begun_by": begun_by},
    ).fetchone()
    if row is None:
        raise TickRefusedError(
            "The control row of ticks is gone.", "Restore it: insert into control.tick default values."
        )
    return int(row[0]), int(row[1]), bool(row[2])


class _Timer:
    """`with timer("dbt"): …` notes the wall seconds under the name."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds
        self._name = ""
        self._started = 0.0

    def __call__(self, name: str) -> _Timer:
        self._name = name
        return self

    def __enter__(self) -> None:
        self._started = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self.seconds[self._name] = time.monotonic() - self._started
