"""Who is told: `catalog/routes/*.yml`, typed and checked like the rest of the catalog.

    routes:
      - id: deposits-on-call
        to: "${DUEMARK_ONCALL_URL}"      # any apprise URL; file:PATH appends JSON lines
        applications: [overdrafts, deposits]
        severity: warning
        repeat: 4h
        escalate: {after: 30m, to: head-of-operations}

    rules:
      watch: 3d

`${NAME}` is taken from the environment of the process that delivers, so that no secret stands in a file; without it
`${NAME:-default}` says what else. All routes that match an incident hear of it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from pipelines.catalog.documents import (
    CatalogFolderError,
    Document,
    Location,
    Problem,
    read_document,
    yaml_files,
)
from pipelines.catalog.models import STORED, ApplicationId, Duration, Entry, Fault, Id, duration_text
from pipelines.catalog.read import CatalogError, explain
from pipelines.errors import DuemarkError, nearest
from sensors.oncall.incidents.files import file_fault
from sensors.oncall.incidents.model import SEVERITIES, Incident, Rules, Severity, known_kinds
from sensors.oncall.incidents.secrets import VARIABLE, secret_fault

if TYPE_CHECKING:
    from pipelines.catalog.read import Catalog

FOLDER = "routes"
# Incidents of Duemark's own parts are of this application, whether the catalog has it or not.
OWN_APPLICATION = "duemark"


def _refuse(faults: Sequence[Fault]) -> None:
    if faults:
        text = "; ".join(message for _, message, _ in faults)
        raise PydanticCustomError("several", "{message}", {"message": text, "faults": list(faults)})


class Escalation(Entry):
    """Who else is told when nobody acknowledges."""

    after: Duration = Field(description="how long after the route was notified, such as 30m")
    to: Id = Field(description="the id of another route")


class Route(Entry):
    """Where messages go, and which."""

    id: Id = Field(description="a name for it")
    to: str = Field(min_length=1, description="an apprise URL, or file:PATH (JSON lines)")
    description: str | None = None
    applications: tuple[ApplicationId, ...] | None = Field(
        default=None, description="only incidents of these applications; default: all, and those of none"
    )
    slos: tuple[Id, ...] | None = Field(default=None, description="only incidents of these SLOs")
    kinds: tuple[str, ...] | None = Field(
        default=None, description="only these kinds, such as [overdue, failed]"
    )
    severity: Severity = Field(default="info", description="the least severity: info, warning or critical")
    repeat: Duration = Field(
        default=timedelta(hours=4),
        description="notify again while nobody acknowledged, such as 4h; 0m for never",
    )
    resolved: bool = Field(default=True, description="whether to notify of the end, too")
    grouped: bool = Field(
        default=False, description="also notify of what is grouped under a cause, each by itself"
    )
    when: Literal["always", "escalated"] = Field(
        default="always", description="`escalated`: only what another route escalates to it"
    )
    escalate: Escalation | None = Field(default=None, description="such as {after: 30m, to: another-route}")

    @field_validator("kinds")
    @classmethod
    def _check_kinds(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        known = known_kinds()
        _refuse(
            [
                ((index,), f"there is no kind `{kind}`", nearest(kind, known, "known kinds"))
                for index, kind in enumerate(value or ())
                if kind not in known
            ]
        )
        return value

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.escalate is not None and self.escalate.to == self.id:
            hint = "name another route, or remove `escalate`"
            _refuse([(("escalate", "to"), "the route escalates to itself", hint)])
        return self

    def matches(self, incident: Incident) -> bool:
        """Whether incidents of this kind, application, SLO and severity are told here."""
        return (
            (self.applications is None or incident.application_id in self.applications)
            and (self.slos is None or incident.slo_id in self.slos)
            and (self.kinds is None or incident.key.kind in self.kinds)
            and SEVERITIES.index(incident.severity) >= SEVERITIES.index(self.severity)
        )


class RuleSettings(Entry):
    """Settings of the rules, in the `rules:` of one file of the folder. What is left out keeps its default."""

    watch: Duration = Field(
        default=Rules.watch, description="how far back occurrences open incidents, such as 3d"
    )
    watch_newest: Duration = Field(
        default=Rules.watch_newest, description="the same for an SLO's newest, such as 40d"
    )
    regroup_after: Duration = Field(
        default=Rules.regroup_after,
        description="until there is a notice of its own of what was grouped, such as 15m",
    )
    silence_missing: int = Field(
        default=Rules.silence_missing,
        ge=1,
        strict=True,
        description="due times missed by a silent application, such as 2",
    )
    calendar_ends_within: Duration = Field(
        default=Rules.calendar_ends_within,
        description="how early the end of a calendar is reported, such as 60d",
    )
    rejected_count: int = Field(
        default=Rules.rejected_count, ge=1, strict=True, description="rejected records of a file, such as 100"
    )
    rejected_share: float = Field(
        default=Rules.rejected_share, gt=0, le=1, strict=True, description="their share, such as 0.01"
    )
    rejected_least: int = Field(
        default=Rules.rejected_least,
        ge=1,
        strict=True,
        description="fewer never count, whatever their share; such as 5",
    )
    future_status: Duration = Field(
        default=Rules.future_status, description="how far ahead of its receipt a status may lie, such as 5m"
    )
    event_open: Duration = Field(
        default=Rules.event_open, description="how long an incident of records stays open, such as 1d"
    )
    digest_above: int = Field(
        default=Rules.digest_above,
        ge=1,
        strict=True,
        description="more incidents than this within `digest_within` come in digests, such as 10",
    )
    digest_within: Duration = Field(
        default=Rules.digest_within, description="how far back they count, such as 15m"
    )
    digest_every: Duration = Field(
        default=Rules.digest_every, description="how long from digest to digest, such as 5m"
    )
    flaps_within: Duration = Field(
        default=Rules.flaps_within, description="a job that fails again so soon goes on failing, such as 1h"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.digest_every > self.regroup_after:
            hint = f"at most `regroup_after`, {duration_text(self.regroup_after)}: no notice may wait longer"
            _refuse([(("digest_every",), "digests would come too late", hint)])
        return self

    def rules(self) -> Rules:
        """The same as the rules take them."""
        return Rules(**{name: getattr(self, name) for name in type(self).model_fields})


@dataclass(frozen=True)
class Routes:
    """All routes by id, and the settings of the rules."""

    routes: Mapping[str, Route] = field(default_factory=dict)
    rules: Rules = field(default_factory=Rules)

    def to_json(self) -> dict[str, Any]:
        """A value that JSON can hold and `from_json` reads back."""
        settings = RuleSettings(**{name: getattr(self.rules, name) for name in RuleSettings.model_fields})
        return {
            "routes": [route.model_dump(mode="json", exclude_none=True) for route in self.routes.values()],
            "rules": settings.model_dump(mode="json"),
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Routes:
        """What `to_json` made."""
        routes = [Route.model_validate(route, context=STORED) for route in content["routes"]]
        return cls(
            {route.id: route for route in routes}, RuleSettings.model_validate(content["rules"]).rules()
        )


class MissingVariableError(DuemarkError):
    """A route names an environment variable that is not set here."""


def expand(target: str, env: Mapping[str, str] | None = None) -> str:
    """`target` with its `${NAME}` from `env` (default: the environment).

    Raises:
        MissingVariableError: a variable is not set, or empty, and has no default.
    """
    env = os.environ if env is None else env

    def value(match: re.Match[str]) -> str:
        found = env.get(match["name"]) or match["default"]
        if found is None:
            raise MissingVariableError(
                f"The environment variable {match['name']} is not set.",
                "Set it where alerts are delivered, or give the route a default: ${NAME:-file:alerts.jsonl}.",
            )
        return found

    return VARIABLE.sub(value, target)


def load_routes(catalog: Path) -> Routes:
    """The routes of a catalog folder; none when it has no folder `routes`.

    Raises:
        CatalogError: with all their problems.
    """
    files, problems = _files(catalog)
    if problems:
        raise CatalogError(problems)
    return _load(catalog, tuple(map(_stamp, files)))


def _stamp(path: Path) -> tuple[str, int, int]:
    try:
        state = path.stat()
    except OSError:
        # A link that leads nowhere, say: who reads it tells so.
        return os.fsdecode(path), 0, 0
    return os.fsdecode(path), state.st_mtime_ns, state.st_size


def _files(catalog: Path) -> tuple[list[Path], list[Problem]]:
    try:
        return yaml_files(catalog / FOLDER), []
    except CatalogFolderError as error:
        return [], [error.problem]


@lru_cache(maxsize=4)
def _load(catalog: Path, stamps: tuple[tuple[str, int, int], ...]) -> Routes:  # noqa: ARG001
    """Every ten seconds somebody asks, and the files are read when one of them changed (`stamps`)."""
    routes, rules, problems = _read(catalog)
    if problems:
        raise CatalogError(problems)
    return Routes({route.id: route for route in routes}, rules)


def check_routes(folder: Path, catalog: Catalog | None = None) -> list[Problem]:
    """What is wrong with the routes of a catalog folder, by file and line; nothing is sent anywhere.

    With the `catalog` that the folder holds, applications and SLOs that it does not have are told too.
    """
    return sorted(set(_read(folder, catalog)[2]))


def _read(catalog: Path, known: Catalog | None = None) -> tuple[list[Route], Rules, list[Problem]]:
    files, problems = _files(catalog)
    entries: list[tuple[Document, Location, Route]] = []
    settings: list[tuple[Document, RuleSettings]] = []
    is_complete = not problems
    for path in files:
        document = read_document(path)
        problems += document.problems
        before = len(problems)
        if document.is_readable:
            for at, raw, model in _contents(document, problems):
                valid = _validate(model, document, at, raw, problems)
                if isinstance(valid, Route):
                    entries.append((document, at, valid))
                elif isinstance(valid, RuleSettings):
                    settings.append((document, valid))
        is_complete = is_complete and document.is_readable and len(problems) == before
    problems += _faults(entries, is_complete=is_complete)
    if known is not None:
        problems += _unknown(entries, known)
    for document, _ in settings[1:]:
        hint = f"keep them in one file; the first stand in {settings[0][0].file}"
        problems.append(document.problem(("rules",), "the rules are set twice", hint))
    rules = settings[0][1].rules() if settings else Rules()
    return [route for _, _, route in entries], rules, problems


def _contents(
    document: Document, problems: list[Problem]
) -> Iterator[tuple[Location, object, type[Route] | type[RuleSettings]]]:
    content = document.value
    hint = "a file in routes/ holds a list `routes:`, and one of them may hold `rules:`"
    if content is None:
        return
    if not isinstance(content, dict):
        problems.append(document.problem((), "expected the key `routes`", hint))
        return
    for key, value in content.items():
        if key == "rules":
            yield ("rules",), {} if value is None else value, RuleSettings
        elif key != "routes":
            guess = nearest(key, ("routes", "rules"))
            problems.append(
                document.problem((key,), f"unknown key `{key}`", guess if guess.startswith("did") else hint)
            )
        elif isinstance(value, list):
            for index, raw in enumerate(value):
                yield ("routes", index), raw, Route
        elif value is not None:
            problems.append(document.problem((key,), "expected a list", hint))


def _validate(
    model: type[BaseModel], document: Document, at: Location, raw: object, problems: list[Problem]
) -> BaseModel | None:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            for location, message, hint in explain(model, details):
                problems.append(document.problem((*at, *location), message, hint))
    return None


def _faults(entries: Sequence[tuple[Document, Location, Route]], *, is_complete: bool) -> Iterator[Problem]:
    """What is wrong between routes, and with what a model alone does not see."""
    places: dict[str, str] = {}
    for document, at, route in entries:
        if route.id in places:
            message = f"the route `{route.id}` is declared twice, first in {places[route.id]}"
            yield document.problem((*at, "id"), message, "remove one of them, or give it another id")
        places.setdefault(route.id, f"{document.file}:{document.line(at)}")
        if fault := secret_fault(route.to) or target_fault(route.to):
            yield document.problem((*at, "to"), *fault)
    for document, at, route in entries:
        # Whoever refers to a route that could not be read is not to blame.
        if route.escalate is not None and route.escalate.to not in places and is_complete:
            hint = nearest(route.escalate.to, places, "known routes")
            yield document.problem((*at, "escalate", "to"), f"there is no route `{route.escalate.to}`", hint)


def _unknown(entries: Sequence[tuple[Document, Location, Route]], catalog: Catalog) -> Iterator[Problem]:
    for document, at, route in entries:
        for key, name, ids in (
            ("applications", "application", catalog.applications),
            ("slos", "SLO", catalog.slos),
        ):
            for index, value in enumerate(getattr(route, key) or ()):
                if value not in ids and value != OWN_APPLICATION:
                    hint = nearest(value, ids, f"known {key}")
                    yield document.problem((*at, key, index), f"there is no {name} `{value}`", hint)


def target_fault(target: str) -> tuple[str, str] | None:
    """What is wrong with where a route leads, as (message, hint); None when nothing is, as far as can be told here.

    Of a target with variables only their spelling is looked at: they may be set elsewhere only.
    """
    rest = VARIABLE.sub("", target)
    if "${" in rest:
        return "a variable is not closed, or its name is no name", "write ${NAME} or ${NAME:-default}"
    if rest != target:
        return None
    if target.startswith("file:"):
        return file_fault(target.removeprefix("file:"))
    import apprise

    if apprise.Apprise.instantiate(target, suppress_exceptions=True) is None:
        return (
            "no apprise URL",
            "such as json://host/path, mailto://…, slack://…, or file:alerts.jsonl; secrets as ${NAME}",
        )
    return None
