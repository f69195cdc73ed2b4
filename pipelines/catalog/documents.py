"""YAML files with the line of every key, read so that one fault does not hide the others.

The node graph of the parser is kept: it alone knows both places of a key that stands twice, and the line
of any value is looked up in it only when there is something to say about that value.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from pipelines.catalog.names import readable

Location = tuple[str | int, ...]

_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_PLAIN = {f"{_TAG}{name}" for name in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq")}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a catalog file, and the way out. `line` counts from 1. Sorts by its place."""

    file: str
    line: int
    key: str
    message: str
    hint: str = ""
    column: int = 0
    """From 1; 0 where the line says enough."""

    def __lt__(self, other: Problem) -> bool:
        return self._order < other._order

    @property
    def _order(self) -> tuple[str, int, int, str, str, str]:
        return self.file, self.line, self.column, self.key, self.message, self.hint

    def __str__(self) -> str:
        column = f":{self.column}" if self.column else ""
        place = f"{self.file}:{self.line}{column}: " + (f"{self.key}: " if self.key else "")
        return readable(place + self.message) + (f"\n    {readable(self.hint)}" if self.hint else "")


def key_path(location: Sequence[str | int]) -> str:
    """A location as text: `("slos", 0, "jobs", 1, "end")` is `slos[0].jobs[1].end`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


@dataclass
class Document:
    """A file that was read: its plain Python value, and the way back to its lines."""

    file: str
    value: object = None
    problems: list[Problem] = field(default_factory=list)
    is_readable: bool = True
    root: Node | None = None

    def line(self, location: Sequence[str | int]) -> int:
        """Line of the key or item at `location`, or of the nearest thing around it that is there."""
        node, line = self.root, 1 if self.root is None else _line(self.root)
        for part in location:
            found = None if node is None else _child(node, part)
            if found is None:
                break
            line, node = _line(found[0]), found[1]
        return line

    def problem(self, location: Sequence[str | int], message: str, hint: str = "") -> Problem:
        """A problem with what stands at `location` of this file."""
        return Problem(self.file, self.line(location), key_path(location), message, hint)

    def problem_within(
        self, location: Sequence[str | int], offset: int, message: str, hint: str = ""
    ) -> Problem:
        """A problem with the character at `offset` of the text at `location`; the place is told to the column."""
        node = self.root
        for part in location:
            found = None if node is None else _child(node, part)
            node = None if found is None else found[1]
        if not isinstance(node, ScalarNode):
            return self.problem(location, message, hint)
        line, column = _place_within(node, offset)
        return Problem(self.file, line, key_path(location), message, hint, column)


def read_document(path: Path) -> Document:
    """Read one YAML 1.2 file of UTF-8 text; what is wrong with it stands in `problems`."""
    document = Document(file=path.as_posix())
    try:
        data = path.read_bytes()
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        return _unreadable(document, line, "the file is not UTF-8 text", "save it as UTF-8")
    except OSError as error:
        return _unreadable(document, 1, f"the file cannot be read: {error.strerror}", "check its permissions")
    yaml = YAML(typ="safe", pure=True)
    try:
        document.root = yaml.compose(text)
        if document.root is not None:
            document.value = _Values(document, yaml).value(document.root, ())
    except RecursionError:
        return _unreadable(document, 1, "lists or mappings nested too deeply", "a catalog needs five levels")
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = 1 if mark is None else mark.line + 1
        what = ", ".join(part for part in (error.context, error.problem) if part)
        return _unreadable(document, line, f"not valid YAML: {what}", _syntax_hint(what))
    except ReaderError as error:
        line = text[: error.position].count("\n") + 1
        code = f"U+{ord(text[error.position]):04X}"
        return _unreadable(document, line, f"a character that YAML does not allow: {code}", "remove it")
    except YAMLError as error:
        return _unreadable(document, 1, f"not valid YAML: {error}", _syntax_hint(""))
    return document


def _unreadable(document: Document, line: int, message: str, hint: str) -> Document:
    document.is_readable = False
    document.problems.append(Problem(document.file, line, "", message, hint))
    return document


def _syntax_hint(what: str) -> str:
    if "expected a single document" in what:
        return "one file holds one document: remove the `---` between them, or make two files"
    if "cannot start any token" in what and "'\\t'" in what:
        return "indent with spaces, not with tabs"
    if "mapping values are not allowed" in what:
        return "check the indentation of this line, and put text with a colon in it in quotes"
    if "undefined alias" in what:
        return "an alias (*name) needs an anchor (&name) before it; put text that begins with * in quotes"
    return "check the indentation, brackets and quotes of this line and the one before"


def _line(node: Node) -> int:
    return int(node.start_mark.line) + 1


def _place_within(node: ScalarNode, offset: int) -> tuple[int, int]:
    """Line and column, from 1, of a character of a text, as it stands in the file.

    The text is looked for word by word in what was written, because quotes, escapes and folded lines make both differ.
    """
    written = node.start_mark.buffer[node.start_mark.index : node.end_mark.index]
    at = 0
    if node.style in ("|", ">"):
        # After the line with the indicator.
        at = written.find("\n") + 1
    elif node.style in ("'", '"'):
        at = 1
    for character in node.value[:offset]:
        at = _skip_blank(written, at) if character.isspace() else _find(written, character, at)
    if offset < len(node.value) and not node.value[offset].isspace():
        at = _find(written, node.value[offset], at) - 1
    before = written[:at]
    line = int(node.start_mark.line) + before.count("\n") + 1
    column = at - before.rfind("\n") if "\n" in before else int(node.start_mark.column) + at + 1
    return line, column


def _skip_blank(written: str, at: int) -> int:
    return at + 1 if at < len(written) and written[at].isspace() else at


def _find(written: str, character: str, at: int) -> int:
    """The place after the next `character`, or `at` where it is written otherwise (an escape)."""
    found = written.find(character, at)
    return at if found < 0 else found + 1


def _merged(node: Node) -> Iterator[MappingNode]:
    """The mappings that `<<` names, first the one that counts most."""
    sources = node.value if isinstance(node, SequenceNode) else [node]
    yield from (source for source in sources if isinstance(source, MappingNode))


def _child(node: Node, part: str | int) -> tuple[Node, Node] | None:
    """Where `part` of `node` stands, and its value."""
    if isinstance(node, SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    if isinstance(node, SequenceNode) and isinstance(part, str):
        # A list of things that are named, read as a mapping.
        for item in node.value:
            name = _child(item, "name")
            if name is not None and name[1].value == part:
                return item, item
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if key.tag != _MERGE and key.value == part:
                return key, value
        for key, value in node.value:
            if key.tag == _MERGE:
                for source in _merged(value):
                    if (found := _child(source, part)) is not None:
                        return found
    return None


class _Values:
    """Plain Python values of a node graph. Anchors are shared, so a value is made once per node."""

    def __init__(self, document: Document, yaml: YAML) -> None:
        self._document = document
        self._scalar = yaml.constructor.construct_object
        self._made: dict[int, object] = {}
        self._open: set[int] = set()

    def value(self, node: Node, location: Location) -> object:
        if id(node) in self._made:
            return self._made[id(node)]
        if id(node) in self._open:
            self._complain(node, location, "this value holds itself", "write it out in place of the alias")
            return None
        self._open.add(id(node))
        made = self._make(node, location)
        self._open.discard(id(node))
        self._made[id(node)] = made
        return made

    def _make(self, node: Node, location: Location) -> object:
        if str(node.tag) not in _PLAIN:
            self._complain(node, location, f"the tag {node.tag} is not supported", "write a plain value")
            return None
        if isinstance(node, MappingNode):
            return self._mapping(node, location)
        if isinstance(node, SequenceNode):
            return [self.value(item, (*location, index)) for index, item in enumerate(node.value)]
        if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in node.value):
            # Only an escape ("\0") can bring them; Postgres has no text that holds them.
            self._complain(node, location, "a character that text cannot hold", "remove the escape")
            return None
        try:
            return self._scalar(node)
        except (ValueError, OverflowError):
            # Such as 2026-02-30: the text goes on, and the model says what it expects there.
            return node.value

    def _mapping(self, node: MappingNode, location: Location) -> dict[str, object]:
        own: dict[str, object] = {}
        lines: dict[str, int] = {}
        merged: dict[str, object] = {}
        for key, value in node.value:
            if key.tag == _MERGE:
                for source in _merged(value):
                    values = self.value(source, location)
                    if isinstance(values, dict):
                        merged = {**values, **merged}
                continue
            if not isinstance(key, ScalarNode) or key.tag != f"{_TAG}str":
                name = key.value if isinstance(key, ScalarNode) else "a list or mapping"
                self._complain(key, location, f"{name} is no name of a key", "keys are text")
                continue
            name = key.value
            if name in own:
                self._complain(
                    key,
                    (*location, name),
                    f"the key `{name}` stands twice, first on line {lines[name]}",
                    "keep one of them; YAML would silently drop the other",
                )
                continue
            lines[name] = _line(key)
            own[name] = self.value(value, (*location, name))
        return {**merged, **own}

    def _complain(self, node: Node, location: Location, message: str, hint: str) -> None:
        self._document.problems.append(
            Problem(self._document.file, _line(node), key_path(location), message, hint)
        )
