"""A year as a calendar: a column for each week, Monday on top, a mark for each date on which something was due.

Marks are strokes with dashes, so that dates of one outcome that follow each other are one short piece of a path. They
are told apart by size, too: small on time, the larger the later, with a hole where it did not come in time at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from pipelines.board import svg

WEEKS = 53
STEP = 10
# By the sign of `TrackedSlo.year`: class, size of the mark, words.
MARKS = {
    "o": ("o", 4, "on time"),
    "a": ("a", 6, "late by less than 15 minutes"),
    "b": ("b", 8, "late by less than an hour"),
    "c": ("c", 10, "late by an hour or more"),
    "v": ("v", 10, "overdue"),
    "m": ("v", 10, "missed"),
    "w": ("w", 2, "waived"),
}
HOLE = 4


def year(signs: Mapping[int, str], today: date, *, uid: str, title: str) -> dict[str, Any]:
    """What `year` of the templates draws. `signs`: outcomes by how many days a date lies before `today`."""
    this_monday = today - timedelta(today.weekday())
    first = this_monday - timedelta(7 * (WEEKS - 1))
    oldest = (today - first).days
    paths: dict[str, str] = {}
    for week in range(WEEKS):
        run, begun = "", 0
        for row in range(8):
            age = oldest - 7 * week - row
            sign = signs.get(age, "") if row < 7 else ""
            if sign == run:
                continue
            if run:
                kind, size, _ = MARKS[run]
                paths[kind] = paths.get(kind, "") + _run(week, begun, row, size)
                if kind == "v":
                    paths["hole"] = paths.get("hole", "") + _run(week, begun, row, HOLE)
            run, begun = sign, row
    body = "".join(f'<path class="{kind}" d="{paths[kind]}"/>' for kind in "oabcvw" if kind in paths)
    body += f'<path class="hole" d="{paths["hole"]}"/>' if paths.get("hole") else ""
    counts = Counter(MARKS[sign][2] for age, sign in signs.items() if age <= oldest)
    words = [words for _, _, words in MARKS.values() if words in counts]
    text = ", ".join(f"{counts[each]} {each}" for each in words) or "nothing was due"
    return {
        "svg": svg.drawing(
            "year marks", body, uid, title, f"Dates from {first} to {today}: {text}.",
            width=STEP * WEEKS, height=STEP * 7, is_stretched=False,
        ),
        "months": _months(first),
        "legend": [(MARKS[sign][0], words_) for sign, words_ in _legend(counts)],
        "text": text,
    }  # fmt: skip


def _run(week: int, first: int, last: int, size: int) -> str:
    """A stroke down the middle of the cells `first` to before `last`: its first and its last dash are whole."""
    air = (STEP - size) // 2
    return f"M{STEP * week + STEP // 2} {STEP * first + air}v{STEP * (last - first) - 2 * air}"


def _legend(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    return [(sign, words) for sign, (_, _, words) in MARKS.items() if words in counts]


def _months(first: date) -> list[tuple[float, str]]:
    """Where each quarter begins, in percent from the left, and its month, or in January the year."""
    found = []
    for week in range(WEEKS - 1):
        monday = first + timedelta(7 * week)
        if monday.day <= 7 and monday.month % 3 == 1:
            name = f"{monday:%Y}" if monday.month == 1 else f"{monday:%b}"
            found.append((round(100 * week / WEEKS, 1), name))
    return found
