"""How long each thing may last before it is told, and what is expected to run."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta

from pydantic import TypeAdapter, ValidationError

from pipelines.catalog.models import Duration
from pipelines.errors import DuemarkError

PREFIX = "DUEMARK_WATCH_"


@dataclass(frozen=True)
class Limits:
    """Durations. Each may be set by the environment: `DUEMARK_WATCH_QUEUED=20m` is `queued`."""

    heartbeat: timedelta = timedelta(minutes=2)
    """The daemon writes a heartbeat every half minute; it is dead when it did not for so long."""
    grace: timedelta = timedelta(seconds=90)
    """What is absent is told when somebody has been watching for so long: all of it may be about to start."""
    location: timedelta = timedelta(seconds=45)
    """A code server that starts again needs some seconds. An error of its code is told at once."""
    tick: timedelta = timedelta(seconds=90)
    """How much later than expected a sensor or schedule may tick."""
    quiet: timedelta = timedelta(seconds=60)
    """A sensor that raised is well again when it did not raise for so long."""
    queued: timedelta = timedelta(minutes=10)
    """A run may wait in the queue."""
    starting: timedelta = timedelta(minutes=4)
    """A run may take to start, or to be cancelled; run monitoring should have ended it before."""
    silent: timedelta = timedelta(minutes=30)
    """A run that is under way may give no event."""
    orphaned: timedelta = timedelta(seconds=60)
    """The same when the code server that started it says that its process is gone."""
    waiting: timedelta = timedelta(seconds=100)
    """Loads, or a due time that has passed, may wait for a tick while none is under way."""
    undelivered: timedelta = timedelta(seconds=60)
    """A message may stand in the outbox."""
    forgotten: timedelta = timedelta(days=7)
    """A failure that nothing put right and nobody repeats is closed."""

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Limits:
        """The defaults, with what the environment sets.

        Raises:
            DuemarkError: a value is no duration.
        """
        env = os.environ if env is None else env
        adapter: TypeAdapter[timedelta] = TypeAdapter(Duration)
        changes = {}
        for one in fields(cls):
            name = PREFIX + one.name.upper()
            if text := env.get(name):
                try:
                    changes[one.name] = adapter.validate_python(text)
                except ValidationError:
                    raise DuemarkError(
                        f"{name}={text!r} is no duration.",
                        "Write a whole number and a unit, such as 90s, 10m or 2h.",
                    ) from None
        return replace(cls(), **changes)


# (code location, sensor or schedule) that has to be there and on. A test compares it with the definitions.
EXPECTED = frozenset(
    {
        ("oncall", "incidents"),
        ("oncall", "delivery"),
        ("oncall", "purge"),
        ("oncall", "watch"),
        ("pipelines", "arrivals"),
        ("pipelines", "hourly_checks"),
        ("pipelines", "report"),
        ("pipelines", "tick"),
    }
)


def expected(env: Mapping[str, str] | None = None) -> frozenset[tuple[str, str]]:
    """What is expected: ours, and the user's own in `DUEMARK_WATCH_EXPECT=location/name,location/name`.

    Beside these, whatever its code declares to be on is expected to be on.
    """
    env = os.environ if env is None else env
    names = [name.strip() for name in env.get(PREFIX + "EXPECT", "").split(",") if name.strip()]
    wrong = [name for name in names if "/" not in name]
    if wrong:
        raise DuemarkError(
            f"{PREFIX}EXPECT: {wrong[0]!r} is no sensor or schedule.",
            "Write location/name, separated by commas.",
        )
    pairs = (name.split("/", 1) for name in names)
    return EXPECTED | {(location, name) for location, name in pairs}
