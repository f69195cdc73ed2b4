"""Names of columns in a file -> columns of the feed."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence

from pipelines.landing.feed import Feed, FileError
from pipelines.landing.formats.records import Warnings

# Columns in which pandas keeps its index, when it is not told to leave it out.
INDEX = re.compile(r"Unnamed: \d+(\.\d+)*|__index_level_\d+__")
# Arrow takes kilobytes for each column, whatever is in it.
MOST_COLUMNS = 10_000
# Names and texts that are shown in messages.
MOST_SHOWN = 10


def folded(name: str) -> str:
    """The name as it is compared: without case and surrounding blanks."""
    return name.strip().casefold()


def names_of(feed: Feed) -> dict[str, str]:
    """Every name and alias, folded -> the column's name."""
    return {folded(name): column.name for column in feed.columns for name in (column.name, *column.aliases)}


def tell_unknown(feed: Feed, name: str, line: int, warnings: Warnings) -> None:
    """Warn of a column that the feed does not have, with the one that may be meant."""
    if not warnings.are_wanted(name):
        return
    known = names_of(feed)
    spelled = {folded(n): n for column in feed.columns for n in (column.name, *column.aliases)}
    near = difflib.get_close_matches(folded(name[:200]), known, n=1, cutoff=0.6)
    meant = f" Is {spelled[near[0]]} meant?" if near else ""
    warnings.add(
        line,
        name,
        f"Line {line}: the feed {feed.name} has no column {shown(name)}; its values are not loaded.{meant}"
        if name.strip()
        else f"Line {line}: a column has no name; its values are not loaded.",
        "If they were to be loaded, rename it and deliver the file again; otherwise nothing needs doing.",
    )


def resolve(names: Sequence[str], feed: Feed, where: str, warnings: Warnings) -> dict[str, int]:
    """Feed columns -> positions among the `names` of a file. FileError when one is missing or there twice."""
    if len(names) > MOST_COLUMNS:
        raise FileError(
            f"{where} has {len(names):,} columns, {MOST_COLUMNS:,} are allowed.",
            "Is it turned on its side? One record a line.",
        )
    known = names_of(feed)
    found: dict[str, int] = {}
    seen: set[str] = set()
    for position, name in enumerate(names):
        column = known.get(folded(name))
        if column is not None and column in found:
            other = names[found[column]]
            twice = (
                f"{shown(name)} twice"
                if folded(other) == folded(name)
                else f"{shown(other)} and {shown(name)}, which are one column"
            )
            raise FileError(f"{where} has {twice}.", "Leave one of them out and deliver the file again.")
        if column is not None:
            found[column] = position
        elif folded(name) in seen and name.strip():
            raise FileError(
                f"{where} has {shown(name)} twice.", "Leave one of them out and deliver the file again."
            )
        seen.add(folded(name))
    wanted = f"Wanted are {', '.join(column.name for column in feed.columns)}, in any order."
    if not found:
        raise FileError(f"{where} names no column of the feed {feed.name}: {shown(','.join(names))}.", wanted)
    missing = [column.name for column in feed.columns if column.required and column.name not in found]
    unknown = [name for name in names if folded(name) not in known]
    if missing:
        extra = f" It has {listed(map(shown, unknown))}, which the feed does not know." if unknown else ""
        raise FileError(f"{where} lacks {', '.join(missing)}.{extra}", wanted)
    for position, name in enumerate(names):
        is_index = INDEX.fullmatch(name) or (position == 0 and not name.strip())
        if folded(name) not in known and not is_index:
            tell_unknown(feed, name, 1, warnings)
    return found


def listed(names: Iterable[str]) -> str:
    """The first of these names, and how many more there are."""
    every = list(names)
    more = f" and {len(every) - MOST_SHOWN:,} more" if len(every) > MOST_SHOWN else ""
    return ", ".join(every[:MOST_SHOWN]) + more


def shown(value: str) -> str:
    """The value in quotes as messages show it, cut after 60 characters."""
    return repr(value if len(value) <= 60 else value[:57] + "…")
