"""What a subject is to the rest of the house: one typed record, and the records that are in use.

A subject (SLOs, logs, KPIs, …) fills its record in `<subject>/subject.py`; `pipelines.subjects` lists all of them, and
whoever stands at the top (the command line, the two code locations) hands that list in. The layers below ask
`in_use` for it, so that none of them imports a subject. Nothing heavy is imported by a record: what a field does, it
imports when it is called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.errors import DuemarkError

if TYPE_CHECKING:
    import dagster as dg
    import psycopg

    from pipelines.landing.feed import Feed, LogFeed
    from pipelines.transform.project import Project
    from pipelines.transform.tick import TickReport
    from pipelines.warehouse.settings import Settings

    Connection = psycopg.Connection[Any]
    Manifest = Mapping[str, Any]
    Metadata = dict[str, dg.MetadataValue[Any] | int | float]
    Describe = Callable[[Connection, TickReport], Metadata]


@dataclass(frozen=True)
class FeedEntry:
    """A feed as those know it who only look for files: its name, which is its folder, and its table in `raw`.

    `whole` gives the feed whose files are loaded whole, `followed` that whose files grow: one of the two.
    `records` is what its records are called, of one and of several.
    """

    name: str
    table: str
    whole: Callable[[], Feed] | None = None
    followed: Callable[[], LogFeed] | None = None
    records: tuple[str, str] = ("record", "records")

    def __post_init__(self) -> None:
        if (self.whole is None) == (self.followed is None):
            raise ValueError(f"feed {self.name}: its files are loaded whole, or followed")


@dataclass(frozen=True)
class Publication:
    """What publishing did to one mart: rows taken out and put in, wall seconds."""

    name: str
    deleted: int
    inserted: int
    seconds: float


@dataclass(frozen=True)
class Step:
    """A step of a tick's publication, after the marts, in its transaction; `fills` is the table that it writes.

    `run` gets the connection and whether it is a rebuild, and says what it did.
    """

    fills: str
    run: Callable[[Connection, bool], list[Publication]]


@dataclass(frozen=True)
class Generator:
    """dbt models that a subject makes of the catalog.

    `models` gets the fingerprint of the core project and returns texts by path within the project;
    `refused` says why those made before still stand, if they do; `deploy` makes their tables, before every tick, and is
    told whether the core was made anew.
    """

    models: Callable[[Settings, str], Mapping[str, str]]
    refused: Callable[[Settings], DuemarkError | None]
    deploy: Callable[[Project, bool], None]


@dataclass(frozen=True)
class IncidentKind:
    """A kind of incident that is open while a view has a row for it.

    `view` (schema and name), a dbt model `incident_…`, has the columns `subject`, `occurrence` ('' without one),
    `severity`, `title`, `message`, `began_at` (null: when it is first seen), `application_id`, `slo_id`,
    `business_date`, `group_key` (rows of one group are told together; null: it stands alone) and `detail` (jsonb).
    While it is open, an incident stays as it was told, or with `follows` says what its row says now. It has ended when
    its row is gone: `resolution` is the word for that, `ending` the sentence.
    """

    name: str
    view: str
    resolution: str
    ending: str
    follows: bool = False


@dataclass(frozen=True)
class Subject:
    """One subject. Whatever it does not do stays empty.

    Attributes:
        name: The folder, too.
        feeds: What lands for it.
        dbt: A folder of models and macros of a subject from outside of the package, laid out as `dbt_project` is.
        ensure: Seen to before a deploy, because models may depend on it: a subject from outside makes its tables here,
            those of the house have migrations.
        prepare: Before a tick looks at the loads, given its moment; returns the last load that it has dealt with (None:
            it waits for none). In the order of the list.
        restore: In the tick's transaction before the marts are exchanged; told whether it is a rebuild.
        publish: After the marts. In the order of the list.
        forget: After all of `publish`: what is old goes when all that reads it is computed. In the order of the list.
        next_due: The first instant after the last tick's at which time alone changes something, None without one.
        next_refresh: The first instant after the last tick's at which what `publish` fills is to be filled again,
            though no mart changes: a tick without dbt. None without one.
        generator: Its generated dbt models.
        constants: What the project's SQL takes of Python, by the variable of the environment in which dbt finds it.
            Another value is another project, so that the next tick deploys it and is a rebuild.
        behind: Beginnings of names of its tables behind a mart that is a view, with that mart.
        assets: Specs of the tables that `prepare` fills, made of the manifest.
        kept: Specs of the tables that `publish` fills and that are no dbt models, made of the manifest.
        checks: Its asset checks.
        describe: What is told of a mart after a tick, beyond the rows exchanged, by the mart's name.
        counted: What rows of a mart are called where a tick says how many it computed, of one and of several, by mart.
        incident_kinds: Its kinds of incidents that are views.
    """

    name: str
    feeds: tuple[FeedEntry, ...] = ()
    dbt: Path | None = None
    ensure: Callable[[Settings], object] | None = None
    prepare: Callable[[Settings, datetime], int | None] | None = None
    restore: Callable[[Connection, bool], None] | None = None
    publish: tuple[Step, ...] = ()
    forget: tuple[Step, ...] = ()
    next_due: Callable[[Connection, datetime], datetime | None] | None = None
    next_refresh: Callable[[Connection, datetime], datetime | None] | None = None
    generator: Generator | None = None
    constants: Mapping[str, Callable[[], str]] = field(default_factory=dict)
    behind: Mapping[str, str] = field(default_factory=dict)
    assets: Callable[[Manifest], Sequence[dg.AssetSpec]] | None = None
    kept: Callable[[Manifest], Sequence[dg.AssetSpec]] | None = None
    checks: Callable[[], Sequence[dg.AssetChecksDefinition]] | None = None
    describe: Mapping[str, Describe] = field(default_factory=dict)
    counted: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    incident_kinds: tuple[IncidentKind, ...] = ()


class Subjects(tuple[Subject, ...]):
    """Subjects in their order; no two of one name, nor two feeds or kinds of incidents."""

    __slots__ = ()

    def __new__(cls, subjects: Sequence[Subject]) -> Subjects:
        for what, names in {
            "subjects": [one.name for one in subjects],
            "feeds": [feed.name for one in subjects for feed in one.feeds],
            "kinds of incidents": [kind.name for one in subjects for kind in one.incident_kinds],
        }.items():
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise DuemarkError(
                    f"Two {what} are called {', '.join(twice)}.", "Give one of them another name."
                )
        return super().__new__(cls, subjects)

    def feeds(self) -> dict[str, FeedEntry]:
        """All feeds by name."""
        return {feed.name: feed for one in self for feed in one.feeds}

    def incident_kinds(self) -> tuple[IncidentKind, ...]:
        """All kinds of incidents that are views."""
        return tuple(kind for one in self for kind in one.incident_kinds)

    def describe(self) -> dict[str, Describe]:
        """What is told of marts, by the mart's name."""
        return {mart: describe for one in self for mart, describe in one.describe.items()}

    def generators(self) -> list[Generator]:
        """Those that make dbt models."""
        return [one.generator for one in self if one.generator is not None]


_source: Callable[[], Subjects] | None = None


def hand_in(source: Callable[[], Subjects]) -> None:
    """Say what the subjects of the process are. `source` is asked at first use, so that its errors are told as any."""
    global _source  # one process runs one list
    _source = source


def in_use() -> Subjects:
    """The subjects of this process. Raises DuemarkError where a plugin cannot be had."""
    if _source is None:
        raise LookupError("no subjects were handed in: the top of a program imports pipelines.subjects")
    return _source()


@contextmanager
def using(subjects: Subjects | None) -> Iterator[None]:
    """Within the block these are the subjects of the process; None changes nothing."""
    global _source  # see `hand_in`
    before = _source
    if subjects is not None:
        _source = lambda: subjects  # noqa: E731 # nothing to name
    try:
        yield
    finally:
        _source = before
