"""How long each thing may last before it is told, and what is expected to run."""

from __future__ import annotations

from dataclasses import dataclass, fields
from datetime import timedelta

from pipelines.warehouse.settings import Settings


@dataclass(frozen=True)
class Limits:
    """Durations, each as the setting of its name says it: `queued` is `watch_queued`, DUEMARK_WATCH_QUEUED."""

    heartbeat: timedelta = Settings.watch_heartbeat.standard
    grace: timedelta = Settings.watch_grace.standard
    location: timedelta = Settings.watch_location.standard
    tick: timedelta = Settings.watch_tick.standard
    quiet: timedelta = Settings.watch_quiet.standard
    queued: timedelta = Settings.watch_queued.standard
    starting: timedelta = Settings.watch_starting.standard
    silent: timedelta = Settings.watch_silent.standard
    orphaned: timedelta = Settings.watch_orphaned.standard
    waiting: timedelta = Settings.watch_waiting.standard
    undelivered: timedelta = Settings.watch_undelivered.standard
    forgotten: timedelta = Settings.watch_forgotten.standard

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """As they are set.

        Raises:
            DuemarkError: a value is no duration.
        """
        return cls(**{one.name: getattr(settings, f"watch_{one.name}") for one in fields(cls)})


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


def expected(settings: Settings) -> frozenset[tuple[str, str]]:
    """What is expected: ours, and the user's own in `DUEMARK_WATCH_EXPECT=location/name,location/name`.

    Beside these, whatever its code declares to be on is expected to be on.
    """
    return EXPECTED | settings.watch_expect
