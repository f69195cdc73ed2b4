"""Names that are safe where ids are not: in Dagster, and wherever else letters, digits and `_` are all there is.

Ids are any text that a scheduler may report. `safe_name` is the one way from an id to a name of a narrower alphabet,
and no two ids come to the same name: what the alphabet has stays, every other byte (of UTF-8) becomes the mark and two
hex digits, and the mark itself is never in the alphabet. What would be too long is cut, and ends in two marks, which no
other name has, and a hash of the whole id.
"""

from __future__ import annotations

import hashlib
import re
import string
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_LOWER = string.ascii_lowercase + string.digits
_HASH_DIGITS = 24


@dataclass(frozen=True)
class Style:
    """An alphabet: what stays as it is, the mark before all else, and how many characters a name may have."""

    plain: frozenset[str]
    mark: str
    longest: int


ASSET_PART = Style(frozenset(_LOWER + string.ascii_uppercase + "_-."), "~", 200)
"""A part of an asset key. Dagster indexes keys as ASCII, in which an id of 200 signs may be 2,400 bytes long."""
LAST_ASSET_PART = Style(ASSET_PART.plain | {"/"}, "~", 200)
"""The same with slashes, which many schedulers put into the ids of jobs. Only the last part of a key may have them."""
WORD = Style(frozenset(_LOWER), "_", 63)
"""A word in Python, SQL and Dagster; to begin with a letter it needs one before it. PostgreSQL cuts at 63."""
PAGE_PART = Style(frozenset(_LOWER + "_-"), "~", 100)
"""A part of a page's name, which is that of a file and in an address: some systems do not tell upper case apart."""


def safe_name(text: str, style: Style) -> str:
    """`text` in the alphabet of `style`: itself if it is plain, and never what another text becomes."""
    data = text.encode()
    name = "".join(chr(byte) if chr(byte) in style.plain else f"{style.mark}{byte:02x}" for byte in data)
    if len(name) <= style.longest:
        return name
    end = 2 * style.mark + hashlib.sha256(data).hexdigest()[:_HASH_DIGITS]
    return name[: style.longest - len(end)] + end


def split_job(reference: str) -> tuple[str, str]:
    """Application and job of `application/job`, as marts name a job in one column: split at the first slash."""
    application_id, _, job_id = reference.partition("/")
    return application_id, job_id


def page_name(kind: str, *ids: str) -> str:
    """The name, without `.html`, of the page of a thing: `slo-overdraft-report`, `job-overdrafts.charge-overdrafts`.

    A dot stands between ids, and in none of them: no two things have one page.
    """
    return f"{kind}-{'.'.join(safe_name(one, PAGE_PART) for one in ids)}"


def distinct_words(texts: Iterable[str]) -> dict[str, str]:
    """A word of letters, digits and `_` for each text, readable and no other's: `core-banking` is `core_banking`.

    A text that is such a word keeps it. Another one gets it with `_` for all else, or a longer one if that is taken.
    """
    allowed = frozenset(string.ascii_letters + string.digits + "_")
    words: dict[str, str] = {}
    taken: set[str] = set()
    for text in sorted(set(texts), key=lambda text: (not set(text) <= allowed, text)):
        word = "".join(sign if sign in allowed else "_" for sign in text)[: WORD.longest] or "_"
        if word in taken or not word.strip("_"):
            word = f"{word[:30]}_{hashlib.sha256(text.encode()).hexdigest()[:_HASH_DIGITS]}"
        while word in taken:
            word += "_"
        words[text] = word
        taken.add(word)
    return words


_PLAIN_PART = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
_SHORT_HASH_DIGITS = 12


def joined_name(parts: Sequence[str], whole: object = None, longest: int = WORD.longest) -> str:
    """A word of these parts, `__` between them: what other parts come to is never the same.

    Where a part is more than letters, digits and single `_`, where the word would be too long, or where the parts do
    not say all, which is `whole` (as its `repr` tells it), it is cut and ends in `___`, which no other name has, and a
    hash.
    """
    name = "__".join(parts)
    if whole is None and len(name) <= longest and all(map(_PLAIN_PART.fullmatch, parts)):
        return name
    digest = hashlib.sha256(repr((list(parts), whole)).encode()).hexdigest()
    end = "___" + digest[:_SHORT_HASH_DIGITS]
    return re.sub(r"[^a-z0-9_]", "_", name.lower())[: longest - len(end)].rstrip("_") + end


# They show nothing, although they count as letters, marks or signs: joiners, fillers, separators of vowels.
_BLANK = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180e\u180f\u2800\u3164\uffa0")


def is_unseen(character: str) -> bool:
    """Whether a character shows nothing, ends a line, or turns the text around it: two ids could look like one."""
    return unicodedata.category(character) in {"Cc", "Cf", "Zl", "Zp", "Cs"} or character in _BLANK


def readable(text: str) -> str:
    """`text` in one line that can be printed and looks like what it is: what nobody sees is written as an escape."""
    return "".join(
        (f"\\u{ord(one):04x}" if ord(one) < 0x10000 else f"\\U{ord(one):08x}") if is_unseen(one) else one
        for one in text
    )
