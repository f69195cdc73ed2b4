"""Reads a catalog folder, checks all of it, and tells everything that is wrong at once.

`catalog/<kind>/**/*.yml` for the kinds below; other folders and files belong to other parts, or to the
user. A problem that only follows from another one is not reported: what refers to a thing that could not
be read is left alone until the thing can be.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from pipelines.catalog.calendars import holiday_faults
from pipelines.catalog.documents import (
    CatalogFolderError,
    Document,
    Kept,
    Location,
    Problem,
    file_name,
    key_path,
    read_document,
    without_collector,
    yaml_files,
)
from pipelines.catalog.excepted import exception_faults
from pipelines.catalog.kpis import Database, KpiEntry
from pipelines.catalog.models import (
    COUNTED_APPLICATIONS,
    EVERY_APPLICATION,
    Application,
    Calendar,
    Entry,
    Excepted,
    Job,
    Package,
    Sender,
    Slo,
)
from pipelines.errors import DuemarkError, nearest
from pipelines.subject import in_use
from pipelines.warehouse.settings import Settings

__all__ = [
    "Catalog",
    "CatalogError",
    "Declared",
    "JobKey",
    "Problem",
    "read_catalog",
    "read_kpis",
    "read_slo_ids",
    "unknown_slos",
    "yaml_files",
]

JobKey = tuple[str, str]
"""Application id and job id."""

M = TypeVar("M", bound=Entry)

KINDS = (
    "applications",
    "calendars",
    "jobs",
    "slos",
    "exceptions",
    "senders",
    "packages",
    "kpis",
    "databases",
)
# Folders with readers of their own; not to be taken for a misspelled kind.
OTHER_FOLDERS = ("routes", "frameworks")


class CatalogError(DuemarkError):
    """What is wrong with a catalog: `problems`, sorted by file and line."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = sorted(set(problems))
        count = len(self.problems)
        title = "1 problem" if count == 1 else f"{count} problems"
        super().__init__(
            "\n".join([f"the catalog has {title}:", *(f"  {problem}" for problem in self.problems)])
        )


@dataclass(frozen=True)
class Catalog:
    """A catalog without a fault: every reference in it leads somewhere."""

    applications: dict[str, Application]
    calendars: dict[str, Calendar]
    jobs: dict[JobKey, Job]
    slos: dict[str, tuple[Slo, ...]]
    """The entries of each SLO by `effective_from`, the one without a date first."""
    packages: tuple[Package, ...]
    upstream: dict[JobKey, tuple[JobKey, ...]] = field(repr=False)
    """What each job waits for: `depends_on`, resolved."""
    upstream_rank: dict[JobKey, int] = field(repr=False)
    """Steps on the longest way from a job that waits for nothing (0, the most upstream)."""
    kpis: dict[str, KpiEntry] = field(default_factory=dict)
    databases: dict[str, Database] = field(default_factory=dict)
    exceptions: tuple[Excepted, ...] = ()
    senders: dict[str, Sender] = field(default_factory=dict)
    """Those that have an entry, and those that only an application names."""
    warnings: tuple[Problem, ...] = ()
    """What is probably not meant, and is taken nevertheless."""
    slo_items: tuple[Declared[Slo], ...] = field(default=(), repr=False, compare=False)
    """Where the SLOs stand, for those who have something to say about one later."""

    def job_key(self, application: str, reference: str) -> JobKey:
        """The job that `reference` names in an entry of `application`.

        Raises:
            KeyError: there is no such job.
        """
        key = find_job(self.applications, self.jobs, application, reference)
        if key is None:
            raise KeyError(reference)
        return key

    def problem_of_slo(self, slo_id: str, message: str, hint: str = "") -> Problem:
        """A problem with an SLO, at its first entry.

        Raises:
            KeyError: it stands nowhere.
        """
        for item in self.slo_items:
            if item.model is not None and item.model.id == slo_id:
                return item.problem(("id",), message, hint)
        raise KeyError(slo_id)

    def slo_jobs(self, slo: Slo) -> tuple[JobKey, ...]:
        """The jobs of an SLO entry, in its order."""
        return tuple(self.job_key(slo.application, job.job) for job in slo.jobs)


def find_job(
    applications: Collection[str], jobs: Collection[JobKey], application: str, reference: str
) -> JobKey | None:
    """What `reference` means: `application/job` if there is one, else a job of `application` itself."""
    other, slash, job = reference.partition("/")
    if slash and other in applications and (other, job) in jobs:
        return other, job
    return (application, reference) if (application, reference) in jobs else None


def read_catalog(folder: Path, kept: Path | None = None) -> Catalog:
    """Read and check the catalog in `folder`.

    `kept`: a folder where what was read is kept (`kept_folder`), so that the next process reads only what changed.

    Raises:
        CatalogError: with all its problems.
    """
    if not folder.is_dir():
        message = "there is no catalog folder here"
        hint = "create it, with folders applications, calendars, jobs and slos, or set DUEMARK_CATALOG"
        raise CatalogError([Problem(file_name(folder), 1, "", message, hint)])
    with without_collector():
        return _Loader(folder, kept).load()


def kept_folder(settings: Settings) -> Path:
    """Where the processes of a home keep what they read of its catalog."""
    return settings.home / "target" / "catalog"


@dataclass
class Declared(Generic[M]):
    """One thing of a file; `model` is None when it is not valid."""

    document: Document
    at: Location
    raw: Mapping[str, object]
    model: M | None

    @property
    def place(self) -> str:
        return f"{self.document.file}:{self.document.line(self.at)}"

    def problem(self, location: Sequence[str | int], message: str, hint: str = "") -> Problem:
        return self.document.problem((*self.at, *location), message, hint)

    def problem_within(
        self, location: Sequence[str | int], offset: int, message: str, hint: str = ""
    ) -> Problem:
        """A problem with the character at `offset` of the text at `location`."""
        return self.document.problem_within((*self.at, *location), offset, message, hint)

    def text(self, key: str) -> str:
        """What stands under `key` if it is text, valid or not, else an empty text."""
        value = self.raw.get(key)
        return value if isinstance(value, str) else ""


def read_kpis(
    folder: Path, file: Path | None = None, kept: Path | None = None
) -> tuple[list[Declared[KpiEntry]], list[Declared[Database]], list[Problem]]:
    """What `kpis/` and `databases.yml` hold, and what is wrong there; the rest of the catalog is not looked at.

    For those who go on to check what the valid ones mean, whatever else is wrong in the catalog. `file`: one more file
    of KPIs, from wherever it lies.
    """
    loader = _Loader(folder, kept)
    return *loader.kpis(file), loader.problems


def read_slo_ids(folder: Path, kept: Path | None = None) -> set[str] | None:
    """Ids of the SLOs in `slos/`, valid or not; None where a file there cannot be read."""
    loader = _Loader(folder, kept)
    return loader.slo_ids()


def read_packages(folder: Path) -> list[Package] | None:
    """The packages in `packages/`; None where something is wrong with one of them."""
    loader = _Loader(folder)
    return loader.packages()


def unknown_slos(kpis: Sequence[Declared[KpiEntry]], known: Collection[str]) -> list[Problem]:
    """A problem for each SLO that a KPI waits for and that is not known."""
    problems = []
    for item in kpis:
        for index, slo in enumerate(item.model.slos if item.model is not None else ()):
            if slo not in known:
                hint = nearest(slo, known, "known SLOs") or "declare it in slos/"
                problems.append(item.problem(("slos", index), f"there is no SLO `{slo}`", hint))
    return problems


class _Loader:
    def __init__(self, folder: Path, kept: Path | None = None) -> None:
        self._folder = folder
        self._kept = kept
        self._problems: list[Problem] = []
        self._unreadable: set[str] = set()

    def load(self) -> Catalog:
        self._misspelled_folders()
        self._applications = self._read("applications", Application)
        self._calendars = self._read("calendars", Calendar)
        self._jobs = self._read("jobs", Job)
        self._slos = self._read("slos", Slo)
        self._exceptions = self._read("exceptions", Excepted)
        self._senders = self._read("senders", Sender)
        self._packages = self._read("packages", Package)
        kpis, databases = self.kpis()

        # Also what is not valid is there: who refers to it is not to blame.
        self._application_ids = {item.text("id") for item in self._applications}
        self._calendar_ids = {item.text("id") for item in self._calendars}
        self._job_keys = {(item.text("application"), item.text("id")) for item in self._jobs}

        self._unique(self._applications, lambda one: f"the application `{one.id}`")
        self._unique(self._calendars, lambda one: f"the calendar `{one.id}`")
        self._unique(self._jobs, lambda one: f"the job `{one.application}/{one.id}`")
        self._unique(
            self._slos, _slo_label, ("effective_from",), "give the later one a later `effective_from`"
        )
        self._unique(
            self._exceptions, lambda one: f"the exception {one.canonical()}", ("from",), "remove one of them"
        )
        self._unique(self._senders, lambda one: f"the sender `{one.id}`")
        self._unique(self._packages, lambda one: f"the package `{one.url}`", ("url",))
        self._check_senders()
        self._check_namespaces()
        self._check_holidays()
        upstream = self._check_jobs()
        self._check_slos()
        self._check_exceptions()
        self._check_kpis(kpis)
        ranks = self._rank(upstream)
        if self._problems:
            raise CatalogError(self._problems)
        return Catalog(
            applications={one.id: one for one in _models(self._applications)},
            calendars={one.id: one for one in _models(self._calendars)},
            jobs={(one.application, one.id): one for one in _models(self._jobs)},
            slos=_by_id(_models(self._slos)),
            packages=tuple(_models(self._packages)),
            kpis={one.id: one for one in _models(kpis)},
            databases={one.id: one for one in _models(databases)},
            exceptions=tuple(_models(self._exceptions)),
            senders=_senders(_models(self._applications), _models(self._senders)),
            upstream=upstream,
            upstream_rank=ranks,
            warnings=tuple(sorted(self._idents())),
            slo_items=tuple(self._slos),
        )

    @property
    def problems(self) -> list[Problem]:
        """What was found so far."""
        return self._problems

    def kpis(self, file: Path | None = None) -> tuple[list[Declared[KpiEntry]], list[Declared[Database]]]:
        """Read KPIs and databases, and check what concerns them alone."""
        kpis, databases = self._read("kpis", KpiEntry, file), self.databases()
        self._unique(kpis, lambda one: f"the KPI `{one.id}`")
        numbered = [item for item in kpis if item.model is not None and item.model.number is not None]
        self._unique(
            numbered, lambda one: f"the number {one.number}", ("number",), "give one of them another number"
        )
        return kpis, databases

    def slo_ids(self) -> set[str] | None:
        """Ids of the SLOs, valid or not; None where some cannot be read."""
        slos: list[Declared[Slo]] = self._read("slos", None)
        ids = {item.text("id") for item in slos}
        return None if "slos" in self._unreadable else ids

    def packages(self) -> list[Package] | None:
        """Read the packages; None where something is wrong with them."""
        packages = self._read("packages", Package)
        self._unique(packages, lambda one: f"the package `{one.url}`", ("url",))
        return None if self._problems else list(_models(packages))

    def databases(self) -> list[Declared[Database]]:
        """Read the databases."""
        databases = self._read("databases", Database)
        self._unique(databases, lambda one: f"the database `{one.id}`")
        copies: dict[str, str] = {}
        for item in databases:
            model = item.model
            if model is None:
                continue
            for table in model.tables:
                name = f"`{table}` of `{model.id}`"
                other = copies.setdefault(model.relation(table), name)
                # A database that is declared twice was told already.
                if other != name:
                    message = f"its copy would have the name of the copy of {other}"
                    hint = "declare it under a database with another id; the same URL may stand twice"
                    self._problems.append(item.problem(("tables", table), message, hint))
        return databases

    # Files

    def _misspelled_folders(self) -> None:
        try:
            folders = sorted(self._folder.iterdir())
        except OSError as error:
            raise CatalogError([CatalogFolderError(self._folder, str(error.strerror)).problem]) from error
        for folder in folders:
            name = folder.name
            if name in KINDS or name in OTHER_FOLDERS or name.startswith(".") or not folder.is_dir():
                continue
            hint = nearest(name, (*KINDS, *OTHER_FOLDERS))
            if hint.startswith("did") and self._files(folder):
                self._problems.append(Problem(file_name(folder), 1, "", "nothing reads this folder", hint))

    def _files(self, folder: Path, kind: str = "") -> list[Path]:
        try:
            return yaml_files(folder)
        except CatalogFolderError as error:
            self._unreadable.add(kind)
            self._problems.append(error.problem)
            return []

    def _read(self, kind: str, model: type[M] | None, file: Path | None = None) -> list[Declared[M]]:
        """The things of a kind; without a `model` they are not looked at any closer."""
        items: list[Declared[M]] = []
        paths = self._files(self._folder / kind, kind)
        single = self._folder / "databases.yml"
        if kind == "databases" and (single.exists() or single.is_symlink()) and not single.is_dir():
            # Few, so that they are one file by rule; the folder serves those who have many.
            paths = [single, *paths]
        kept = Kept(None if self._kept is None else self._kept / f"{kind}.msgpack")
        others = len(paths)
        if file is not None and file.resolve() not in [path.resolve() for path in paths]:
            paths.append(file)
        for number, path in enumerate(paths):
            document = read_document(path, kept if number < others else None)
            self._problems += document.problems
            if document.is_readable:
                items += self._items(kind, model, document)
            else:
                self._unreadable.add(kind)
        kept.write()
        return items

    def _items(self, kind: str, model: type[M] | None, document: Document) -> Iterator[Declared[M]]:
        content = document.value
        where = "databases.yml" if kind == "databases" else f"a file in {kind}/"
        hint = f"{where} holds a list: `{kind}:` and below it `- …` for each"
        if content is None:
            return
        if not isinstance(content, dict):
            self._unreadable.add(kind)
            self._problems.append(document.problem((), f"expected the key `{kind}`", hint))
            return
        for key in content:
            if key != kind:
                self._unreadable.add(kind)
                hint_here = f"move it to {key}/" if key in KINDS else hint
                self._problems.append(document.problem((key,), f"unknown key `{key}`", hint_here))
        rows = content.get(kind)
        if rows is None:
            return
        if not isinstance(rows, list):
            self._unreadable.add(kind)
            self._problems.append(document.problem((kind,), "expected a list", hint))
            return
        for index, raw in enumerate(rows):
            yield self._item(model, document, (kind, index), raw)

    def _item(self, model: type[M] | None, document: Document, at: Location, raw: object) -> Declared[M]:
        valid: M | None = None
        if model is None:
            return Declared(document, at, raw if isinstance(raw, dict) else {}, None)
        try:
            valid = model.model_validate(raw)
        except ValidationError as error:
            refused = {problem.key for problem in document.problems}
            for details in error.errors(include_url=False):
                for location, message, hint in explain(model, details):
                    if details["type"] == "missing" and key_path((*at, *location)) in refused:
                        # It is there, and was told already.
                        continue
                    self._problems.append(document.problem((*at, *location), message, hint))
        return Declared(document, at, raw if isinstance(raw, dict) else {}, valid)

    # Checks across things

    def _unique(
        self,
        items: list[Declared[M]],
        label: Callable[[M], str],
        key: Location = ("id",),
        hint: str = "remove one of them, or give it another id",
    ) -> None:
        first: dict[str, Declared[M]] = {}
        for item in items:
            if item.model is None:
                continue
            name = label(item.model)
            if name in first:
                message = f"{name} is declared twice, first in {first[name].place}"
                self._problems.append(item.problem(key if key[0] in item.raw else ("id",), message, hint))
            else:
                first[name] = item

    def _check_namespaces(self) -> None:
        owners: dict[str, str] = {}
        for item in self._applications:
            if item.model is None:
                continue
            of_item: set[str] = set()
            for index, namespace in enumerate(item.model.namespace_rules):
                owner = owners.setdefault(namespace.name, item.model.id)
                if owner != item.model.id:
                    message = f"the namespace `{namespace.name}` already means the application `{owner}`"
                    hint = "an OpenLineage namespace leads to one application"
                    self._problems.append(item.problem(("namespaces", index), message, hint))
                elif namespace.name in of_item:
                    message = f"the namespace `{namespace.name}` stands here twice"
                    self._problems.append(item.problem(("namespaces", index), message, "remove one of them"))
                of_item.add(namespace.name)
                calendar = namespace.business_date.calendar
                if (
                    calendar is not None
                    and calendar not in self._calendar_ids
                    and "calendars" not in self._unreadable
                ):
                    message = f"there is no calendar `{calendar}`"
                    hint = (
                        nearest(calendar, self._calendar_ids, "known calendars") or "declare it in calendars/"
                    )
                    at = ("namespaces", index, "business_date", "calendar")
                    self._problems.append(item.problem(at, message, hint))

    def _check_holidays(self) -> None:
        for item in self._calendars:
            if item.model is not None and (item.model.holidays or item.model.financial):
                self._problems += [item.problem(*fault) for fault in holiday_faults(item.model)]

    def _known_application(
        self,
        item: Declared[Job] | Declared[Slo] | Declared[Excepted] | Declared[Sender],
        application: str,
        at: Location = ("application",),
    ) -> bool:
        if application in self._application_ids:
            return True
        if "applications" not in self._unreadable:
            hint = nearest(application, self._application_ids, "known applications")
            message = f"there is no application `{application}`"
            self._problems.append(item.problem(at, message, hint or "declare it in applications/"))
        return False

    def _find_job(
        self, item: Declared[Job] | Declared[Slo], application: str, reference: str, at: Location
    ) -> JobKey | None:
        key = find_job(self._application_ids, self._job_keys, application, reference)
        if key is None and "jobs" not in self._unreadable:
            other, slash, _ = reference.partition("/")
            own = {job for owner, job in self._job_keys if owner == application}
            others = {f"{owner}/{job}" for owner, job in self._job_keys}
            whose = f"there is no job `{reference}`" + ("" if slash else f" in `{application}`")
            if slash and other not in self._application_ids and "applications" not in self._unreadable:
                whose += f", and no application `{other}`"
            hint = nearest(reference, others if slash else own)
            if not hint.startswith("did"):
                # Perhaps it is a job of another application, named without it.
                same = sorted(name for name in others if not slash and name.endswith(f"/{reference}"))
                hint = f"did you mean `{same[0]}`?" if same else hint or "declare it in jobs/"
                hint = hint if hint.startswith(("did", "declare")) else f"{hint}; or declare it in jobs/"
            self._problems.append(item.problem(at, whose, hint))
        return key

    def _check_jobs(self) -> dict[JobKey, tuple[JobKey, ...]]:
        upstream: dict[JobKey, tuple[JobKey, ...]] = {}
        for item in self._jobs:
            job = item.model
            if job is None or not self._known_application(item, job.application):
                continue
            found = [
                self._find_job(item, job.application, reference, ("depends_on", index))
                for index, reference in enumerate(job.depends_on)
            ]
            upstream[job.application, job.id] = tuple(dict.fromkeys(key for key in found if key is not None))
        return upstream

    def _check_slos(self) -> None:
        streaming = {(one.application, one.id) for one in _models(self._jobs) if one.streaming}
        for item in self._slos:
            slo = item.model
            if slo is None:
                continue
            if slo.calendar not in self._calendar_ids and "calendars" not in self._unreadable:
                hint = nearest(slo.calendar, self._calendar_ids, "known calendars")
                message = f"there is no calendar `{slo.calendar}`"
                self._problems.append(
                    item.problem(("calendar",), message, hint or "declare it in calendars/")
                )
            if not self._known_application(item, slo.application):
                continue
            seen: set[JobKey] = set()
            for index, reference in enumerate(slo.jobs):
                at: Location = ("jobs", index, "job")
                key = self._find_job(item, slo.application, reference.job, at)
                if key in seen:
                    message = f"the job `{reference.job}` stands twice"
                    hint = "an SLO names a job once; for two due times make two SLOs"
                    self._problems.append(item.problem(at, message, hint))
                elif key in streaming:
                    message = f"the job `{reference.job}` is streaming"
                    hint = "a streaming job never completes, so no SLO can wait for it: remove it here"
                    self._problems.append(item.problem(at, message, hint))
                if key is not None:
                    seen.add(key)

    def _check_exceptions(self) -> None:
        entries = _by_id(_models(self._slos))
        ids = {item.text("id") for item in self._slos}
        for item in self._exceptions:
            one = item.model
            if one is None:
                continue
            if one.application is not None:
                self._known_application(item, one.application)
            if one.slo is None:
                continue
            if one.slo not in ids:
                if "slos" not in self._unreadable:
                    hint = nearest(one.slo, ids, "known SLOs") or "declare it in slos/"
                    self._problems.append(item.problem(("slo",), f"there is no SLO `{one.slo}`", hint))
            elif one.slo in entries:
                self._problems += [item.problem(*fault) for fault in exception_faults(one, entries[one.slo])]

    def _idents(self) -> Iterator[Problem]:
        for item in self._packages:
            ident = None if item.model is None or item.model.kind != "app" else item.model.ident
            if ident is not None and ident.partition(".")[0].casefold() not in COUNTED_APPLICATIONS:
                guess = nearest(ident.partition(".")[0], COUNTED_APPLICATIONS)
                hint = "its requests count; file operations are those of edupi and file-manager, also with a domain"
                message = f"no input counts the files of the application `{ident}`"
                yield item.problem(
                    ("ident",), message, f"{guess} {hint}" if guess.startswith("did") else hint
                )

    def _check_senders(self) -> None:
        """Who has an entry, and is named by an application too, is said the same by both."""
        feeds = in_use().feeds()
        entries: dict[str, Sender] = {}
        named = {item.model.id: item.model.senders for item in self._applications if item.model is not None}
        for item in self._senders:
            sender = item.model
            if sender is None:
                continue
            entries[sender.id] = sender
            for index, feed in enumerate(sender.feeds):
                if feed not in feeds:
                    message = f"there is no feed `{feed}`"
                    self._problems.append(
                        item.problem(("feeds", index), message, nearest(feed, feeds, "feeds"))
                    )
            for index, application in enumerate(sender.applications):
                at: Location = ("applications", index)
                if application == EVERY_APPLICATION or not self._known_application(item, application, at):
                    continue
                others = named.get(application, ())
                if others and sender.id not in others:
                    message = f"the application `{application}` does not name this sender"
                    hint = f"add `{sender.id}` to `senders` of the application, or remove it here"
                    self._problems.append(item.problem(at, message, hint))
        for owner in self._applications:
            for index, name in enumerate(() if owner.model is None else owner.model.senders):
                entry = entries.get(name)
                if entry is None or owner.model is None:
                    continue
                if not {owner.model.id, EVERY_APPLICATION} & set(entry.applications):
                    message = f"the sender `{name}` does not name this application"
                    hint = f"add `{owner.model.id}` to its `applications` in senders/, or remove it here"
                    self._problems.append(owner.problem(("senders", index), message, hint))

    def _check_kpis(self, kpis: list[Declared[KpiEntry]]) -> None:
        if "slos" not in self._unreadable:
            self._problems += unknown_slos(kpis, {item.text("id") for item in self._slos})

    def _rank(self, upstream: Mapping[JobKey, tuple[JobKey, ...]]) -> dict[JobKey, int]:
        """Longest path from a root for every job; a problem for every cycle."""
        ranks: dict[JobKey, int] = {}
        waiting = {key: {one for one in needs if one in upstream} for key, needs in upstream.items()}
        downstream: dict[JobKey, list[JobKey]] = {key: [] for key in waiting}
        for key, needs in waiting.items():
            for need in needs:
                downstream[need].append(key)
        ready = [key for key, needs in waiting.items() if not needs]
        while waiting:
            while ready:
                key = ready.pop()
                ranks[key] = 1 + max((ranks.get(one, -1) for one in upstream[key]), default=-1)
                del waiting[key]
                for after in downstream[key]:
                    if after in waiting:
                        waiting[after].discard(key)
                        if not waiting[after]:
                            ready.append(after)
            if waiting:
                # What is left waits for a cycle, or is one: name one, cut it and go on.
                cycle = _cycle(waiting)
                self._report_cycle(cycle)
                waiting[cycle[0]].clear()
                ready.append(cycle[0])
        return ranks

    def _report_cycle(self, cycle: Sequence[JobKey]) -> None:
        path = " → ".join(f"{application}/{job}" for application, job in (*cycle, cycle[0]))
        for item in self._jobs:
            job = item.model
            if job is None or (job.application, job.id) != cycle[0]:
                continue
            needed = cycle[1 % len(cycle)]
            keys = [
                find_job(self._application_ids, self._job_keys, job.application, reference)
                for reference in job.depends_on
            ]
            message = f"jobs wait for each other: {path}"
            hint = "an arrow points to what the job waits for; remove one of them"
            self._problems.append(item.problem(("depends_on", keys.index(needed)), message, hint))
            return


def _cycle(waiting: Mapping[JobKey, Collection[JobKey]]) -> list[JobKey]:
    """A cycle among jobs that all wait for another one of them, from its least job on."""
    path = [min(waiting)]
    while (following := min(waiting[path[-1]])) not in path:
        path.append(following)
    cycle = path[path.index(following) :]
    least = cycle.index(min(cycle))
    return cycle[least:] + cycle[:least]


def _models(items: list[Declared[M]]) -> Iterator[M]:
    return (item.model for item in items if item.model is not None)


def _senders(applications: Iterator[Application], entries: Iterator[Sender]) -> dict[str, Sender]:
    """All senders: who has no entry reports for the applications that name it."""
    named: dict[str, list[str]] = {}
    for application in applications:
        for name in application.senders:
            named.setdefault(name, []).append(application.id)
    implied = {name: Sender(id=name, applications=tuple(its)) for name, its in named.items()}
    return implied | {entry.id: entry for entry in entries}


def _by_id(slos: Iterator[Slo]) -> dict[str, tuple[Slo, ...]]:
    entries: dict[str, list[Slo]] = {}
    for slo in slos:
        entries.setdefault(slo.id, []).append(slo)
    return {
        slo_id: tuple(sorted(some, key=lambda one: one.effective_from or date.min))
        for slo_id, some in entries.items()
    }


def _slo_label(slo: Slo) -> str:
    if slo.effective_from is None:
        return f"the SLO `{slo.id}` without `effective_from`"
    return f"the SLO `{slo.id}` from {slo.effective_from}"


# What pydantic says, in words that tell what to do


def explain(
    model: type[BaseModel], details: ErrorDetails
) -> Iterator[tuple[tuple[str | int, ...], str, str]]:
    """What one error of `model` means for the writer of the file: (where, message, hint)."""
    # Of a name that is not allowed, pydantic tells a part more.
    location: tuple[str | int, ...] = tuple(part for part in details["loc"] if part != "[key]")
    context: dict[str, Any] = details.get("ctx", {})
    kind, value = details["type"], details["input"]
    if kind == "several":
        for at, message, hint in context["faults"]:
            yield (*location, *at), message, hint
        return
    name = str(location[-1]) if location else ""
    # Of an item of a list, the key of the list is the name to tell.
    key = next((str(part) for part in reversed(location) if isinstance(part, str)), "")
    if kind == "refused":
        yield location, details["msg"], context["hint"]
    elif kind == "extra_forbidden":
        known = _keys(_model_at(model, location[:-1]))
        yield location, f"unknown key `{name}`", nearest(name, known, "known keys")
    elif kind == "missing":
        field_of = _keys(_model_at(model, location[:-1]))[name]
        yield location, f"`{name}` is missing", f"add `{name}`: {field_of}"
    elif kind in ("string_type", "string_sub_type"):
        hint = "write one text" if isinstance(value, list | dict) else f'put it in quotes: "{value}"'
        yield location, f"expected text, found {_kind_of(value)}", hint
    elif kind in ("string_too_short", "string_too_long"):
        limit = context.get("max_length")
        hint = "it may not be empty" if limit is None else f"at most {limit} characters"
        yield location, f"a text of {len(value)} characters", hint
    elif kind in ("model_type", "dict_type"):
        keys = ", ".join(_keys(_model_at(model, location)))
        yield location, f"expected keys and values, found {_kind_of(value)}", f"known keys: {keys}"
    elif kind == "tuple_type":
        yield location, f"expected a list, found {_kind_of(value)}", f"write `{key}: [{_shown(value)}]`"
    elif kind == "literal_error":
        expected = [word.strip().strip("'") for word in context["expected"].replace(" or ", ", ").split(", ")]
        yield location, f"unknown value {_shown(value)}", nearest(str(value), expected, "expected one of")
    elif kind in ("bool_type", "bool_parsing"):
        yield location, f"expected true or false, found {_kind_of(value)}", "write true or false"
    elif kind in ("int_type", "float_type", "int_from_float"):
        expected_number = "a number" if kind == "float_type" else "a whole number"
        hint = _keys(_model_at(model, location[:-1])).get(name, "")
        yield location, f"expected {expected_number}, found {_kind_of(value)}", f"expected: {hint}"
    else:
        hint = _keys(_model_at(model, location[:-1])).get(name, "")
        yield location, f"{_shown(value)}: {details['msg'].lower()}", f"expected: {hint}" if hint else ""


def _kind_of(value: object) -> str:
    if isinstance(value, dict):
        return "keys and values"
    if isinstance(value, list):
        return "a list"
    return f"the text {_shown(value)}" if isinstance(value, str) else f"{_shown(value)}"


def _shown(value: object) -> str:
    if isinstance(value, dict):
        return "{…}"
    text = f'"{value}"' if isinstance(value, str) and not value.isidentifier() else str(value)
    # Addresses of services have secrets anywhere.
    text = re.sub(r"://\S+", "://…", text)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _keys(model: type[BaseModel] | None) -> dict[str, str]:
    """Keys of a model as they are spelled in a file, with what each says."""
    if model is None:
        return {}
    return {info.alias or name: info.description or "text" for name, info in model.model_fields.items()}


def _model_at(model: type[BaseModel], location: Sequence[str | int]) -> type[BaseModel] | None:
    """The model of the mapping at `location` of `model`."""
    found: type[BaseModel] | None = model
    named = False
    for part in location:
        if isinstance(part, int) or found is None:
            continue
        if named:
            # The name of an item, not of a field.
            named = False
            continue
        fields = found.model_fields
        info = next((info for name, info in fields.items() if part in (name, info.alias)), None)
        found = None if info is None else _model_in(info.annotation)
        named = info is not None and get_origin(info.annotation) in (dict, Mapping)
    return None if named else found


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for one in get_args(annotation) if (found := _model_in(one)) is not None), None)
