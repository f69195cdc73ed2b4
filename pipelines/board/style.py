"""The style of the pages: one sheet beside them, and what of it the one page of a mail uses, which has its own copy."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_RULE = re.compile(
    r"(?P<media>@media[^{]+)\{(?P<inner>(?:[^{}]+\{[^{}]*\})*)\}|(?P<select>[^{}@]+)\{(?P<set>[^{}]*)\}"
)
_NAME = re.compile(r"(\.?)([A-Za-z][\w-]*)")
_ANY = re.compile(r":(?:is|where)\(([^()]*)\)")
# Other pseudo-classes and attributes do not say that a rule is unused.
_ASIDE = re.compile(r"::?[\w-]+(\([^()]*\))?|\[[^\]]*\]")
_COMMA = re.compile(r",(?![^()]*\))")
_CLASS = re.compile(r'class="([^"]*)"')


@dataclass(frozen=True)
class _Rule:
    """`selectors`, each with groups of tags and `.classes`, of each of which one has to be there."""

    selectors: tuple[tuple[str, tuple[frozenset[str], ...]], ...]
    declarations: str
    media: str = ""


MARK = "/* Duemark board */"
"""What the sheet begins with: only such files are ours to remove."""


@cache
def sheet() -> str:
    """The one style sheet, as it stands beside the pages."""
    return MARK + _short(_source())


@cache
def sheet_name() -> str:
    """Another sheet has another name: a browser that keeps the old one does not show new pages by it."""
    return f"style-{hashlib.sha256(sheet().encode()).hexdigest()[:8]}.css"


def style_of(bodies: Iterable[str]) -> str:
    """What of the one style sheet a page with these bodies uses, without white space."""
    used = {"body", "footer", ".quiet", "p", "time"}
    for body in bodies:
        used |= _names(body)
    return _of(frozenset(used))


def _names(body: str) -> set[str]:
    """The tags of a page that the sheet knows, and its `.classes`."""
    found = {tag for tag in _tags() if f"<{tag}" in body}
    for classes in set(_CLASS.findall(body)):
        found.update(f".{name}" for name in classes.split())
    return found


@cache
def _tags() -> frozenset[str]:
    names = (name for rule in _rules() for _, groups in rule.selectors for group in groups for name in group)
    return frozenset(name for name in names if not name.startswith("."))


@cache
def _of(used: frozenset[str]) -> str:
    text, media = "", ""
    for rule in _rules():
        there = [selector for selector, groups in rule.selectors if all(group & used for group in groups)]
        if not there:
            continue
        if rule.media != media:
            text += ("}" if media else "") + (f"{rule.media}{{" if rule.media else "")
            media = rule.media
        text += f"{','.join(there)}{{{rule.declarations}}}"
    return text + ("}" if media else "")


@cache
def _rules() -> tuple[_Rule, ...]:
    return tuple(_parsed(_short(_source())))


def _source() -> str:
    return Path(__file__).with_name("templates").joinpath("style.css").read_text("utf-8")


def _short(source: str) -> str:
    """Without comments, white space and zeros that say nothing, and with short names of its own properties."""
    text = re.sub(r"/\*.*?\*/", "", source, flags=re.DOTALL)
    text = re.sub(r"\s+", " ", text)
    # Not before a colon: `th :is(a)` is another selector than `th:is(a)`.
    text = (
        re.sub(r" ?([{};,>]) ?|(?<=[\w)]): ", lambda found: found[1] or ":", text).replace(";}", "}").strip()
    )
    text = re.sub(r"(?<![\w.])0(?=\.\d)", "", text)
    # Hex digits, so that none is `--n`, which pages set themselves.
    names = dict.fromkeys(re.findall(r"--[\w-]{2,}", text))
    short = {name: f"--{place:x}" for place, name in enumerate(names)}
    return re.sub(r"--[\w-]{2,}", lambda found: short[found[0]], text)


def _parsed(source: str, media: str = "") -> Iterable[_Rule]:
    for found in _RULE.finditer(source):
        if found["media"]:
            yield from _parsed(found["inner"], found["media"])
            continue
        selectors = tuple((each, _groups(each)) for each in _COMMA.split(found["select"]))
        yield _Rule(selectors, found["set"], media)


def _groups(selector: str) -> tuple[frozenset[str], ...]:
    alternatives = [_named(inner) for inner in _ANY.findall(selector)]
    return (*(frozenset({name}) for name in _named(_ANY.sub("", selector))), *map(frozenset, alternatives))


def _named(selector: str) -> set[str]:
    return {dot + name for dot, name in _NAME.findall(_ASIDE.sub("", selector))}
