"""The feed of job statuses: what a record must be (spec: job status)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.catalog.store import stored_zones
from pipelines.landing.feed import Breaches, Checked, Column, Feed, Mask, Note
from pipelines.landing.zones import DAY, EPOCH, FIRST, HOUR, LAST, Instants, offsets, to_utc

if TYPE_CHECKING:
    import pandas as pd

STATUS_CODES = ("START", "SUCCEED", "FAIL")
LONGEST = {"application_id": 200, "job_id": 200, "run_id": 50, "host_id": 150}

# In lower case: of pandas, Python, SQL and COPY.
STAND_INS = ("nan", "<na>", "nat", "none", "null", "\\n")
WHOLE_FLOAT = r"^(\d{1,48})\.0$"
# A date as pandas writes it: a timestamp of its midnight, without a zone.
MIDNIGHT = r"^(\d{4}-\d{2}-\d{2})[T ]00:00(?::00(?:\.0{1,9})?)?$"

# Nowhere is it later: the date check of an application whose zone is not known.
LATEST_OFFSET = 14 * HOUR
MICROSECOND = timedelta(microseconds=1)

# What came of reading a status_at.
_ABSENT, _ZONED, _LOCAL, _DATE, _UNREADABLE, _OUT_OF_RANGE = range(6)


def check(frame: pd.DataFrame, zones_of: Mapping[str, str]) -> Checked:
    """Statuses of a frame, by the rules of the feed: all breaches of a record are collected.

    `zones_of`: IANA zone of every registered application.
    """
    texts = {name: _trimmed(frame[name]) for name in frame.columns}
    notes: list[Note] = []
    for name in ("run_id", "host_id"):
        texts[name] = _without_stand_ins(texts[name], name, notes)
    texts["run_id"] = _without_fraction(texts["run_id"], "run_id", notes)
    breaches = Breaches(len(frame))
    for name, longest in LONGEST.items():
        _check_length(breaches, name, texts[name], longest, is_required=name in {"application_id", "job_id"})
    codes = pc.utf8_upper(texts["status_code"])
    _check_code(breaches, texts["status_code"], codes)

    applications = texts["application_id"].dictionary_encode()
    zones = [zones_of.get(name) for name in applications.dictionary.to_pylist()]
    which = pc.fill_null(applications.indices, -1).to_numpy(zero_copy_only=False)
    instants, kinds, is_ambiguous = _read_status_at(texts["status_at"], which, zones)
    _check_status_at(breaches, texts["status_at"], kinds)

    days, is_day = _read_dates(texts["business_date"])
    _check_business_date(breaches, texts["business_date"], is_day)
    _check_not_later(breaches, days, instants, is_day & (kinds == _ZONED), which, zones, texts)

    good = pa.array(breaches.good)
    rows = pa.table(
        {
            "application_id": texts["application_id"],
            "job_id": texts["job_id"],
            "status_code": codes,
            "status_at": pa.array(instants).view(pa.timestamp("us", "UTC")),
            "business_date": pa.array(days.astype(np.int32)).view(pa.date32()),
            "run_id": texts["run_id"],
            "host_id": texts["host_id"],
            "is_ambiguous": pa.array(is_ambiguous),
        }
    )
    return Checked(rows if breaches.good.all() else rows.filter(good), breaches, notes)


JOB_STATUS = Feed(
    name="job_status",
    table="raw.job_status",
    # Times without an offset are read in the zone that the catalog gives their application.
    context=stored_zones,
    check=check,
    columns=(
        Column("application_id", ("applicationId",), required=True),
        Column("job_id", ("jobId",), required=True),
        Column("status_code", ("statusCode", "jobStatusCode"), required=True),
        Column("status_at", ("statusAt", "jobStatusTimestamp"), required=True),
        Column("business_date", ("businessDate",), required=True),
        Column("run_id", ("runId",)),
        Column("host_id", ("hostId",)),
    ),
    partition_by="business_date",
    instant="status_at",
    known_by=("application_id", "job_id", "status_code", "status_at", "business_date", "run_id", "host_id"),
)


def _trimmed(column: pd.Series[str]) -> pa.Array:
    """The column's texts without blanks around them; what is blank is null."""
    values = pa.array(column)
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    values = pc.utf8_trim_whitespace(values)
    return pc.if_else(pc.equal(pc.binary_length(values), 0), pa.scalar(None, values.type), values)


def _without_stand_ins(texts: pa.Array, name: str, notes: list[Note]) -> pa.Array:
    """Null for the words by which programs say that there is no value."""
    if pc.all(pc.is_null(texts)).as_py():
        return texts
    found = _mask(pc.is_in(pc.utf8_lower(texts), pa.array(STAND_INS, texts.type)))
    if not found.any():
        return texts
    _note_first(
        notes, found, texts, name, "stand-in", "which stands for no value: it is taken as missing",
        "Leave the field empty; if it is meant, give it another name.",
    )  # fmt: skip
    return pc.if_else(pa.array(found), pa.scalar(None, texts.type), texts)


def _without_fraction(texts: pa.Array, name: str, notes: list[Note]) -> pa.Array:
    """Whole numbers that were written as floats, as pandas does where some are missing, as they were meant."""
    found = _mask(pc.match_substring_regex(texts, WHOLE_FLOAT))
    if not found.any():
        return texts
    _note_first(
        notes, found, texts, name, "fraction", "a whole number written as a float: it is taken without its fraction",
        "Write it as text, in pandas by astype('Int64') or astype('string').",
    )  # fmt: skip
    return pc.replace_substring_regex(texts, WHOLE_FLOAT, r"\1")


def _note_first(
    notes: list[Note], found: Mask, texts: pa.Array, name: str, kind: str, what: str, hint: str
) -> None:
    """Note of the first value that was found what it is, and that it is read otherwise."""
    first = int(found.argmax())
    notes.append(Note(first, name, kind, f"{name} is {texts[first].as_py()!r}, {what}.", hint))


def _mask(values: pa.Array) -> Mask:
    result: Mask = pc.fill_null(values, False).to_numpy(zero_copy_only=False)
    return result


def _value(texts: pa.Array, name: str, rest: str) -> Callable[[int], str]:
    def message(position: int) -> str:
        value = texts[position].as_py()
        shown = repr(value if len(value) <= 60 else value[:57] + "…")
        return f"{name} is {shown}: {rest}."

    return message


def _check_length(breaches: Breaches, name: str, texts: pa.Array, longest: int, *, is_required: bool) -> None:
    if is_required:
        breaches.add(_mask(pc.is_null(texts)), name, f"{name} is missing.", f"1 to {longest} characters.")
    lengths = pc.utf8_length(texts)
    breaches.add(
        _mask(pc.greater(lengths, longest)),
        name,
        lambda position: f"{name} has {lengths[position].as_py():,} characters.",
        f"At most {longest}.",
    )


def _check_code(breaches: Breaches, texts: pa.Array, codes: pa.Array) -> None:
    hint = f"One of {', '.join(STATUS_CODES)}, in any case."
    breaches.add(_mask(pc.is_null(texts)), "status_code", "status_code is missing.", hint)
    is_code = _mask(pc.is_in(codes, pa.array(STATUS_CODES, codes.type)))
    is_given = _mask(pc.is_valid(texts))
    breaches.add(is_given & ~is_code, "status_code", _value(texts, "status_code", "no such status"), hint)


# --- status_at ------------------------------------------------------------------------------------------------------


def _read_status_at(
    texts: pa.Array, which: npt.NDArray[np.int32], zones: list[str | None]
) -> tuple[Instants, npt.NDArray[np.int8], npt.NDArray[np.bool_]]:
    """UTC microseconds, what each text is (_ZONED when it could be read in the end), and whether it occurs twice.

    `which` gives each record's place in `zones`, -1 for none.
    """
    instants, kinds = _parse(texts)
    is_ambiguous = np.zeros(len(instants), dtype=bool)
    is_local = kinds == _LOCAL
    if is_local.any():
        for index, zone in enumerate(zones):
            where = is_local & (which == index)
            if zone is None or not where.any():
                continue
            instants[where], is_ambiguous[where] = to_utc(instants[where], zone)
            kinds[where] = _ZONED
    outside = (kinds == _ZONED) & ((instants < FIRST) | (instants > LAST))
    kinds[outside] = _OUT_OF_RANGE
    return instants, kinds, is_ambiguous


def _parse(texts: pa.Array) -> tuple[Instants, npt.NDArray[np.int8]]:
    """Microseconds since 1970 (of a time without offset: as if it were UTC), and what each text is."""
    given = _mask(pc.is_valid(texts))
    values = np.zeros(len(texts), dtype=np.int64)
    kinds = np.full(len(texts), _ABSENT, dtype=np.int8)
    # Z, or a sign where +hh:mm has it; what only looks like it is found out when it is read.
    end = pc.utf8_slice_codeunits(texts, -6)
    has_sign = pc.is_in(pc.utf8_slice_codeunits(end, 0, 1), pa.array(["+", "-"], texts.type))
    is_zoned = _mask(pc.or_(has_sign, pc.ends_with(end, "Z")))
    for kind, where in ((_ZONED, given & is_zoned), (_LOCAL, given & ~is_zoned)):
        if where.any():
            part = texts if where.all() else texts.filter(pa.array(where))
            values[where], kinds[where] = _parse_alike(part, kind)
    return values, kinds


def _parse_alike(texts: pa.Array, kind: int) -> tuple[Instants, npt.NDArray[np.int8]]:
    """The same of texts that all seem to be of one kind, none of them null: by column if they are."""
    # Arrow reads a date alone as its midnight.
    if kind == _ZONED or pc.min(pc.binary_length(texts)).as_py() > len("2026-03-01"):
        try:
            parsed = texts.cast(pa.timestamp("us", "UTC" if kind == _ZONED else None))
        except pa.ArrowInvalid:
            pass
        else:
            values = parsed.view(pa.int64()).to_numpy(zero_copy_only=False).copy()
            # Arrow knows a year 0.
            if not ((values < FIRST) | (values > LAST)).any():
                return values, np.full(len(values), kind, dtype=np.int8)
    pairs = [_parse_one(text) for text in texts.to_pylist()]
    return np.array([value for value, _ in pairs], dtype=np.int64), np.array(
        [kind for _, kind in pairs], dtype=np.int8
    )


def _parse_one(text: str | None) -> tuple[int, int]:
    if text is None:
        return 0, _ABSENT
    try:
        parsed = datetime.fromisoformat(text[:-1] + "Z" if text.endswith("z") else text)
    except ValueError:
        return 0, _UNREADABLE
    if len(text) <= len("2026-W10-1") and _is_date(text):
        return 0, _DATE
    if parsed.tzinfo is None:
        return (parsed.replace(tzinfo=EPOCH.tzinfo) - EPOCH) // MICROSECOND, _LOCAL
    return (parsed - EPOCH) // MICROSECOND, _ZONED


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _check_status_at(breaches: Breaches, texts: pa.Array, kinds: npt.NDArray[np.int8]) -> None:
    example = "ISO 8601, such as 2026-03-02T00:31:07-05:00."
    name = "status_at"
    breaches.add(kinds == _ABSENT, name, "status_at is missing.", example)
    breaches.add(kinds == _UNREADABLE, name, _value(texts, name, "no instant that exists"), example)
    breaches.add(kinds == _DATE, name, _value(texts, name, "a date without a time"), example)
    breaches.add(
        kinds == _OUT_OF_RANGE, name, _value(texts, name, "outside the years 1 to 9999 of UTC"), example
    )
    breaches.add(
        kinds == _LOCAL,
        name,
        _value(
            texts, name, "it has no offset, and the application is not registered, so its zone is not known"
        ),
        "Send it with an offset, or register the application in the catalog.",
    )


# --- business_date --------------------------------------------------------------------------------------------------


def _read_dates(texts: pa.Array) -> tuple[Instants, Mask]:
    """Days since 1970, and which texts are dates, or the midnight of one without a zone."""
    longest = pc.max(pc.binary_length(texts)).as_py()
    if longest is not None and longest > len("2026-03-01"):
        texts = pc.replace_substring_regex(texts, MIDNIGHT, r"\1")
    try:
        parsed = texts.cast(pa.date32())
    except pa.ArrowInvalid:
        days: list[int | None] = []
        for text in texts.to_pylist():
            try:
                days.append(
                    None if text is None else date.fromisoformat(text).toordinal() - EPOCH.toordinal()
                )
            except ValueError:
                days.append(None)
        parsed = pa.array(days, pa.int32()).view(pa.date32())
    values = pc.fill_null(parsed.view(pa.int32()), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    return values, _mask(pc.is_valid(parsed)) & (values * DAY >= FIRST)


def _check_business_date(breaches: Breaches, texts: pa.Array, is_day: Mask) -> None:
    given = _mask(pc.is_valid(texts))
    hint = "An ISO date without time and zone, such as 2026-03-01."
    breaches.add(~given, "business_date", "business_date is missing.", hint)
    breaches.add(given & ~is_day, "business_date", _value(texts, "business_date", "no date"), hint)


def _check_not_later(
    breaches: Breaches,
    days: Instants,
    instants: Instants,
    is_known: Mask,
    which: npt.NDArray[np.int32],
    zones: list[str | None],
    texts: dict[str, pa.Array],
) -> None:
    """business_date is not later than the date of status_at where the application is, never at UTC midnight."""
    # Only what is near the date line of UTC needs the zone.
    doubtful = is_known & (days * DAY > instants - LATEST_OFFSET)
    local = instants + LATEST_OFFSET
    for index, zone in enumerate(zones):
        if zone is not None and (where := doubtful & (which == index)).any():
            local[where] = instants[where] + offsets(instants[where], zone)
    local_days = local // DAY

    def message(position: int) -> str:
        zone = zones[which[position]] if which[position] >= 0 else None
        # Where it is still the last day of the year 0, `date` has no word for it.
        seen = np.datetime64(int(local_days[position]), "D")
        where = f"in {zone}" if zone else "at UTC+14 (the application is not registered)"
        return (
            f"business_date {texts['business_date'][position].as_py()} is later than {seen},"
            f" the date of status_at {texts['status_at'][position].as_py()} {where}."
        )

    breaches.add(
        is_known & doubtful & (days > local_days),
        "business_date",
        message,
        "A status belongs to a date that has begun; correct the date, or the zone of the application.",
    )
