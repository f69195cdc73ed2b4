"""What a process remembers of a home: one object for each, so that nothing of one home is taken for another's.

Whoever wants to remember something declares a slot beside its code: `SEEN: Slot[set[str]] = Slot(lambda _: set())`, and
asks `homes.of(settings).get(SEEN)`. Nothing may rest on it: a process that remembers nothing comes to the same.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from pipelines.warehouse.settings import Settings

T = TypeVar("T")

# A process has one, tests have many: what is remembered of the one that was asked for longest ago is forgotten.
MOST_HOMES = 8


class Slot(Generic[T]):
    """One thing that is remembered, each with a place of its own. `first` makes it where there is none yet."""

    def __init__(self, first: Callable[[Settings], T]) -> None:
        self.first = first


class Home:
    """What is remembered of one home. Safe from several threads; what a slot holds sees to itself."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._kept: dict[Slot[Any], Any] = {}
        self._lock = threading.RLock()

    def get(self, slot: Slot[T]) -> T:
        """What the slot holds. Raises what its `first` does, and remembers nothing then."""
        with self._lock:
            if slot not in self._kept:
                self._kept[slot] = slot.first(self._settings)
            return cast("T", self._kept[slot])

    def put(self, slot: Slot[T], value: T) -> None:
        """Remember this, and not what was there before."""
        with self._lock:
            self._kept[slot] = value

    def take(self, slot: Slot[T]) -> T:
        """What the slot holds, which is forgotten."""
        with self._lock:
            value = self.get(slot)
            del self._kept[slot]
            return value


_homes: OrderedDict[Settings, Home] = OrderedDict()
_lock = threading.Lock()


def of(settings: Settings) -> Home:
    """What this process remembers of the home with these settings."""
    with _lock:
        home = _homes.get(settings)
        if home is None:
            home = _homes[settings] = Home(settings)
            while len(_homes) > MOST_HOMES:
                _homes.popitem(last=False)
        _homes.move_to_end(settings)
        return home
