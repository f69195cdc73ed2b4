"""What is counted: inputs and indicators by name, ours and those that a plugin brings.

A module that `DUEMARK_PLUGINS` names (`pipelines.plugins`) may have `INPUTS` and `INDICATORS`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from pipelines import plugins
from pipelines.errors import DuemarkError

if TYPE_CHECKING:
    from pipelines.metrics.facts import Facts

T = TypeVar("T")

# Where ours are declared, as a plugin would: a new one is a file there and its name here.
OURS = (
    "pipelines.metrics.inputs.visits",
    "pipelines.metrics.inputs.file_operations",
    "pipelines.metrics.inputs.heartbeat",
    "pipelines.metrics.indicators.package_home_visit",
    "pipelines.metrics.indicators.shared_files_operations",
    "pipelines.metrics.indicators.uptime",
    "pipelines.metrics.indicators.usage",
)
FIRST_ID, LAST_ID = 1001, 1999


@dataclass(frozen=True)
class Input:
    """Facts that lines tell: `facts` is called with some lines of the feed, and looks at each by itself.

    What the lines are is the feed's own: `lines.Lines` for `metric_log`, `uptime.Beats` for `uptime`. None: no facts.
    Where it raises, the lines that it raises for are rejected records, and give nothing to this input alone.
    """

    name: str
    feed: str
    facts: Callable[[Any], Facts | None]


@dataclass(frozen=True)
class Indicator:
    """A number for each UTC hour (and dimension) that has facts of its inputs, a function of these facts alone.

    `value` is a SQL aggregate over rows of one hour (and dimension): `input`, `minute` (0 to 59), `first_minute` (the
    least of the hour's), `amount` (the sum in that minute). It is cast to bigint; where it is null there is no record.
    Without `is_by_dimension` the facts of all dimensions are taken together.
    """

    id: int
    name: str
    inputs: tuple[str, ...]
    value: str
    is_by_dimension: bool = False

    def canonical(self) -> str:
        """JSON that is the same text for the same definition."""
        return json.dumps(
            {
                "name": self.name,
                "inputs": sorted(self.inputs),
                "value": self.value,
                "is_by_dimension": self.is_by_dimension,
            },
            sort_keys=True,
        )


@dataclass(frozen=True)
class Registry:
    """All that is registered; indicators by id."""

    inputs: tuple[Input, ...]
    indicators: tuple[Indicator, ...]

    def inputs_of(self, feed: str) -> tuple[Input, ...]:
        return tuple(each for each in self.inputs if each.feed == feed)


def registry() -> Registry:
    """What is registered. Raises DuemarkError where that makes no sense: two of one id, an id out of range."""
    return _registry(plugins.named())


@functools.lru_cache(maxsize=4)
def _registry(names: tuple[str, ...]) -> Registry:
    modules = [import_module(name) for name in OURS]
    modules += [plugins.module(name) for name in names]
    return checked(_all(modules, "INPUTS", Input), _all(modules, "INDICATORS", Indicator))


def checked(inputs: Sequence[Input], indicators: Sequence[Indicator]) -> Registry:
    """A registry of these. Raises DuemarkError for the first thing that is wrong."""
    for kind, names in (("inputs", [i.name for i in inputs]), ("indicators", [i.name for i in indicators])):
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise DuemarkError(f"Two {kind} are called {twice[0]!r}.", "Give one of them another name.")
    ids = [indicator.id for indicator in indicators]
    for indicator in indicators:
        label = f"The indicator {indicator.name!r}"
        if not FIRST_ID <= indicator.id <= LAST_ID:
            raise DuemarkError(
                f"{label} has the id {indicator.id}.", f"Choose one of {FIRST_ID} to {LAST_ID}."
            )
        if ids.count(indicator.id) > 1:
            raise DuemarkError(
                f"Two indicators have the id {indicator.id}.", f"Give {indicator.name!r} another one."
            )
        unknown = sorted(set(indicator.inputs) - {each.name for each in inputs})
        if unknown or not indicator.inputs:
            known = ", ".join(sorted(each.name for each in inputs))
            what = f"has the input {unknown[0]!r}, which nothing gives" if unknown else "has no input"
            raise DuemarkError(f"{label} {what}.", f"There are: {known}.")
    return Registry(tuple(inputs), tuple(sorted(indicators, key=lambda each: each.id)))


def _all(modules: Iterable[ModuleType], attribute: str, kind: type[T]) -> list[T]:
    found: list[T] = []
    for module in modules:
        for each in getattr(module, attribute, ()):
            if not isinstance(each, kind):
                raise DuemarkError(
                    f"{module.__name__}.{attribute} holds {each!r}.", f"It is to hold {kind.__name__}s only."
                )
            found.append(each)
    return found
