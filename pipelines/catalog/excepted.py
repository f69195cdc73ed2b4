"""What is wrong with an exception, by what its SLO promises."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.catalog.models import Excepted, Fault, Slo, time_of_day_text
from pipelines.errors import nearest


def exception_faults(one: Excepted, entries: Sequence[Slo]) -> list[Fault]:
    """What is wrong with an exception of the SLO with these entries: a window that it has not, a time that is no later.

    An entry says nothing where the others agree: of an SLO whose promise changes the exception may be about either.
    """
    faults: list[Fault] = []
    if one.slot is not None:
        slots = [slot for entry in entries for slot in slots_of(entry)]
        if not slots:
            hint = "it is due once a date: remove `slot`"
            faults.append((("slot",), f"the SLO `{one.slo}` has no windows", hint))
        elif one.slot not in slots:
            hint = nearest(one.slot, slots, "its windows")
            faults.append((("slot",), f"the SLO `{one.slo}` has no window `{one.slot}`", hint))
    if one.due_minutes is not None and not faults:
        dues = [due for entry in entries if (due := _due(entry, one.slot)) is not None]
        if len(dues) == len(entries) and all(one.due_minutes <= due for due in dues):
            own = time_of_day_text(min(dues))
            message = (
                f"{time_of_day_text(one.due_minutes)} is not later than the promise, which is due at {own}"
            )
            hint = (
                "the time is of the date on which it is due; of the date after it write hours past 24, such as "
                f'"{time_of_day_text(one.due_minutes % 1440 + 1440)}"; nothing due at all is `due: none`'
            )
            faults.append((("due",), message, hint))
    return faults


def slots_of(slo: Slo) -> list[str]:
    """The windows of an entry, as it declares them; none of a daily one."""
    if slo.every is None:
        return []
    return [time_of_day_text(at) for at in range(slo.every.from_, slo.every.to + 1, slo.every.minutes)]


def _due(slo: Slo, slot: str | None) -> int | None:
    """When an entry is due by the clock, the first of its windows; None where that depends on the date."""
    if slo.every is not None:
        hours, _, minutes = (slot or time_of_day_text(slo.every.from_)).partition(":")
        after = -(-slo.every.due_after.total_seconds() // 60)
        return int(int(hours) * 60 + int(minutes) + after) % 1440
    if any(job.due_weekday is not None for job in slo.jobs) and len(slo.jobs) > 1:
        return None
    return max((job.day_offset or 0) * 1440 + (job.end or 0) for job in slo.jobs) % 1440
