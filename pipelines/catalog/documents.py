"""YAML files with the line of every key, read so that one fault does not hide the others.

A file is read by the events of libyaml, some twenty times as fast as Python; where that has a fault to tell, or reads
YAML 1.1 otherwise than 1.2, ruamel.yaml reads it, which decides and has the better words. What a plain scalar means is
said by ruamel.yaml in either case. The graph of nodes is made of the events, because it alone knows both places of a
key that stands twice, and the line of any value is looked up in it only when there is something to say about that
value. Values are kept by the content of their file (`Kept`), so that the next process does not read it again.
"""

from __future__ import annotations

import gc
import hashlib
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.catalog.names import readable

if TYPE_CHECKING:
    from ruamel.yaml import YAML

Location = tuple[str | int, ...]

MOST_BYTES = 32 * 2**20
"""Of one file."""
MOST_LEVELS = 100
MOST_UNFOLDED = 1_000_000
"""Values, and as many characters times a hundred, that the aliases of a file may stand for."""
MOST_DIGITS = 1000
"""Python writes no number of more than 4,300 digits, and nobody promises by one."""

_TAG = "tag:yaml.org,2002:"
_MERGE = f"{_TAG}merge"
_TEXT = f"{_TAG}str"
_PLAIN = {f"{_TAG}{name}" for name in ("str", "int", "float", "bool", "null", "timestamp", "map", "seq")}
# Signs that end lines in YAML 1.1, tabs, which both take differently, and a directive that asks for a version.
_READ_BY_THE_BOOK = ("\x85", "\u2028", "\u2029", "\t", "%YAML")
# Of the files that keep values; those of another form are made anew.
_FORM = 1


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


@dataclass(slots=True)
class Node:
    """A scalar, a list (of items) or a mapping (of pairs), and where it is written: offsets into the text."""

    kind: str
    tag: str
    value: Any
    line: int
    column: int
    start: int
    end: int
    style: str | None = None
    size: int = 1
    """Values in it, unfolded."""
    length: int = 0
    """Characters in it, unfolded."""


@dataclass
class Document:
    """A file that was read: its plain Python value, and the way back to its lines."""

    file: str
    value: object = None
    problems: list[Problem] = field(default_factory=list)
    is_readable: bool = True
    text: str = field(default="", repr=False)
    _root: Node | None = field(default=None, repr=False)

    @property
    def root(self) -> Node | None:
        """The graph of its nodes; of a file whose values were kept it is made when it is asked for."""
        if self._root is None and self.text and self.is_readable:
            with suppress(Exception):
                self._root, _ = _compose(self.text)
        return self._root

    def line(self, location: Sequence[str | int]) -> int:
        """Line of the key or item at `location`, or of the nearest thing around it that is there."""
        node = self.root
        line = 1 if node is None else node.line
        for part in location:
            found = None if node is None else _child(node, part)
            if found is None:
                break
            line, node = found[0].line, found[1]
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
        if node is None or node.kind != "scalar":
            return self.problem(location, message, hint)
        line, column = _place_within(node, self.text, offset)
        return Problem(self.file, line, key_path(location), message, hint, column)


class UnreadableError(Exception):
    """A file that is not read at all, or text that is no YAML: the line, what is wrong, and the way out."""

    def __init__(self, line: int, message: str, hint: str) -> None:
        super().__init__(message)
        self.line, self.message, self.hint = line, message, hint


class Kept:
    """Values of files by the sha256 of their content, in one file; what cannot be read there is made anew.

    Nothing has to be locked: a file is replaced whole, and whose it is does not matter. It holds what the last reader
    used, so it does not grow.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._found: dict[str, Any] | None = None
        self._used: dict[str, Any] = {}

    def get(self, digest: str) -> tuple[object, list[list[Any]], bool] | None:
        """Value, problems (without the file's name) and whether it was readable."""
        found = self._read().get(digest)
        if found is None:
            return None
        self._used[digest] = found
        value, problems, is_readable = found
        return value, problems, is_readable

    def put(self, digest: str, document: Document) -> None:
        problems = [[one.line, one.key, one.message, one.hint, one.column] for one in document.problems]
        self._used[digest] = [document.value, problems, document.is_readable]

    def write(self) -> None:
        """Keep what was used since, if it is other than what is kept. Where that fails, the next one reads again."""
        if self._path is None or self._used.keys() == self._read().keys():
            return
        import msgpack

        try:
            content = msgpack.packb({"form": _form(), "documents": self._used}, default=_packed)
        except (OverflowError, ValueError, TypeError):
            # Whole numbers of more than 64 bits.
            return
        part = self._path.with_suffix(f".{os.getpid()}")
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            part.write_bytes(hashlib.sha256(content).digest() + content)
            part.replace(self._path)
        with suppress(OSError):
            part.unlink(missing_ok=True)

    def _read(self) -> dict[str, Any]:
        if self._found is None:
            self._found = {}
            with suppress(Exception):
                # Whatever is wrong with it: it is a copy.
                self._found = _unpacked_file(self._path) if self._path is not None else {}
        return self._found


def _unpacked_file(path: Path) -> dict[str, Any]:
    import msgpack

    data = path.read_bytes()
    if hashlib.sha256(data[32:]).digest() != data[:32]:
        return {}
    content = msgpack.unpackb(data[32:], ext_hook=_unpacked, strict_map_key=True)
    return dict(content["documents"]) if content["form"] == _form() else {}


def _form() -> list[object]:
    from importlib.metadata import version

    return [_FORM, version("ruamel.yaml"), version("PyYAML")]


def _packed(value: object) -> object:
    import msgpack

    if isinstance(value, datetime):
        return msgpack.ExtType(1, value.isoformat().encode())
    if isinstance(value, date):
        return msgpack.ExtType(2, value.isoformat().encode())
    raise TypeError(type(value))


def _unpacked(code: int, data: bytes) -> object:
    text = data.decode()
    return datetime.fromisoformat(text) if code == 1 else date.fromisoformat(text)


@contextmanager
def without_collector() -> Iterator[None]:
    """Python's collector of cycles looks at all that was read again and again, and finds nothing."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def file_name(path: Path) -> str:
    """A path as it is told: in one line, whatever bytes it is made of."""
    return readable(os.fsencode(path.as_posix()).decode("utf-8", "backslashreplace"))


def content_of(path: Path) -> bytes:
    """The bytes of a catalog's file.

    Raises:
        UnreadableError: it is no file, cannot be read, or is larger than any catalog.
    """
    try:
        # Looked at first: to open a pipe waits for its other end, and to open a device may do something.
        if not path.is_file() and path.exists():
            raise UnreadableError(1, "this is no file", "a catalog is made of plain files: remove it")
        with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123 # a pipe may be there now
            data: bytes = file.read(MOST_BYTES + 1)
    except OSError as error:
        hint = "check its permissions"
        if path.is_symlink():
            hint = "check where the link leads, and the permissions there"
        raise UnreadableError(1, f"the file cannot be read: {error.strerror}", hint) from error
    if len(data) > MOST_BYTES:
        raise UnreadableError(
            1, f"a file of more than {MOST_BYTES // 2**20} MiB", "split it: a folder may hold many files"
        )
    return data


def yaml_files(folder: Path) -> list[Path]:
    """All that is named as a YAML file in `folder` and below, without hidden ones, in order.

    Raises:
        CatalogFolderError: a folder cannot be read; that is not the same as an empty one.
    """
    found: list[Path] = []

    def refuse(error: OSError) -> None:
        if isinstance(error, FileNotFoundError | NotADirectoryError):
            return
        raise CatalogFolderError(Path(os.fsdecode(error.filename)), error.strerror or str(error)) from error

    for parent, folders, names in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            path
            for name in names
            if not name.startswith(".") and (path := Path(parent, name)).suffix in (".yml", ".yaml")
        ]
    return sorted(found)


class CatalogFolderError(Exception):
    """A folder of the catalog that cannot be read; `problem` tells it."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(reason)
        message = f"the folder cannot be read: {reason}"
        self.problem = Problem(file_name(folder), 1, "", message, "check its permissions")


def add_files(digest: hashlib._Hash, folder: Path, paths: Iterable[Path]) -> None:
    """Add names (below `folder`) and contents to a digest. What cannot be read counts by the reason."""
    for path in paths:
        digest.update(b"\0" + os.fsencode(path.relative_to(folder).as_posix()) + b"\0")
        try:
            digest.update(content_of(path))
        except UnreadableError as error:
            digest.update(error.message.encode())


def read_document(path: Path, kept: Kept | None = None) -> Document:
    """Read one YAML 1.2 file of UTF-8 text; what is wrong with it stands in `problems`."""
    document = Document(file=file_name(path))
    try:
        data = content_of(path)
        digest = hashlib.sha256(data).hexdigest()
        document.text = _decoded(data)
        known = None if kept is None else kept.get(digest)
        if known is not None:
            document.value, problems, document.is_readable = known
            document.problems = [
                Problem(document.file, line, key, message, hint, column)
                for line, key, message, hint, column in problems
            ]
            return document
        with without_collector():
            document._root, yaml = _compose(document.text)
            if document._root is not None:
                document.value = _Values(document, yaml).value(document._root, ())
        if kept is not None:
            kept.put(digest, document)
    except UnreadableError as error:
        document.is_readable, document.value = False, None
        document.problems.append(Problem(document.file, error.line, "", error.message, error.hint))
    return document


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UnreadableError(line, "the file is not UTF-8 text", "save it as UTF-8") from error


def _compose(text: str) -> tuple[Node | None, YAML]:
    """The graph of a text's nodes, None where there is nothing but comments, and what knows their scalars.

    Raises UnreadableError.
    """
    import yaml
    from ruamel.yaml import YAML

    scalars = YAML(typ="safe", pure=True)
    if not any(sign in text for sign in _READ_BY_THE_BOOK):
        with suppress(yaml.YAMLError, _ByTheBookError):
            return _Composer(scalars, is_fast=True).root(_fast_events(text)), scalars
    return _composed_by_the_book(text, scalars), scalars


def _fast_events(text: str) -> Iterator[Any]:
    import yaml

    if not yaml.__with_libyaml__:
        # libyaml comes with the wheels of PyYAML, and not with every build of it.
        raise yaml.YAMLError
    parser = yaml.CSafeLoader(text)
    try:
        while (event := parser.get_event()) is not None:
            yield event
    finally:
        parser.dispose()


def _composed_by_the_book(text: str, yaml: YAML) -> Node | None:
    from ruamel.yaml.error import MarkedYAMLError
    from ruamel.yaml.reader import ReaderError

    composer = _Composer(yaml)
    try:
        return composer.root(yaml.parse(text))
    except UnreadableError:
        raise
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = 1 if mark is None else mark.line + 1
        what = ", ".join(part for part in (error.context, error.problem) if part)
        raise UnreadableError(line, f"not valid YAML: {what}", _syntax_hint(what)) from error
    except ReaderError as error:
        line = text[: error.position].count("\n") + 1
        code = f"U+{ord(text[error.position]):04X}"
        raise UnreadableError(line, f"a character that YAML does not allow: {code}", "remove it") from error
    except Exception as error:
        # A parser of all of YAML has corners: whatever it raises, the text has a fault about here.
        what = readable(str(error)) or type(error).__name__
        raise UnreadableError(composer.line, f"not valid YAML: {what[:200]}", _syntax_hint("")) from error


class _ByTheBookError(Exception):
    """Something that libyaml may read otherwise than ruamel.yaml."""


class _Composer:
    """Nodes of the events of either parser."""

    def __init__(self, yaml: YAML, *, is_fast: bool = False) -> None:
        self.line = 1
        self._is_fast = is_fast
        self._plain = _PlainScalars(yaml)

    def root(self, events: Iterable[Any]) -> Node | None:
        """The only document's node. Raises UnreadableError, and whatever the parser raises."""
        root: Node | None = None
        documents = unfolded = length = 0
        anchors: dict[str, Node] = {}
        open_: list[Node] = []
        keys: list[Node | None] = []
        for event in events:
            kind = type(event).__name__
            if self._is_fast and getattr(event, "tag", None) is not None:
                # Rare, and one of the corners in which parsers differ.
                raise _ByTheBookError
            mark = event.start_mark
            self.line = mark.line + 1
            if kind == "ScalarEvent":
                node = self._scalar(event)
            elif kind in ("MappingStartEvent", "SequenceStartEvent"):
                if len(open_) == MOST_LEVELS:
                    raise UnreadableError(
                        self.line, "lists or mappings nested too deeply", "a catalog needs five levels"
                    )
                node = _container(event, kind)
                if event.anchor is not None:
                    anchors[event.anchor] = node
                open_.append(node)
                keys.append(None)
                continue
            elif kind in ("MappingEndEvent", "SequenceEndEvent"):
                node = open_.pop()
                keys.pop()
                node.end = event.end_mark.index
            elif kind == "AliasEvent":
                if event.anchor not in anchors:
                    if self._is_fast:
                        raise _ByTheBookError
                    what = f"found undefined alias {event.anchor!r}"
                    raise UnreadableError(self.line, f"not valid YAML: {what}", _syntax_hint(what))
                node = anchors[event.anchor]
                unfolded, length = unfolded + node.size, length + node.length
                if unfolded > MOST_UNFOLDED or length > 100 * MOST_UNFOLDED:
                    message = f"the aliases up to here stand for more than {MOST_UNFOLDED:,} values"
                    raise UnreadableError(self.line, message, "write out what is meant")
            else:
                if kind == "DocumentStartEvent":
                    documents += 1
                    if documents > 1:
                        what = "expected a single document in the stream, but found another document"
                        raise UnreadableError(self.line, f"not valid YAML: {what}", _syntax_hint(what))
                continue
            if kind == "ScalarEvent" and event.anchor is not None:
                anchors[event.anchor] = node
            if not open_:
                root = node
                continue
            parent = open_[-1]
            parent.size += node.size
            parent.length += node.length
            if parent.kind == "list":
                parent.value.append(node)
            elif keys[-1] is None:
                keys[-1] = node
            else:
                parent.value.append((keys[-1], node))
                keys[-1] = None
        return root

    def _scalar(self, event: Any) -> Node:
        mark, tag, value = event.start_mark, event.tag, event.value
        if tag is None or tag == "!":
            tag = self._plain[value] if event.implicit[0] else _TEXT
        tag = str(tag)
        return Node(
            "scalar", tag, value, mark.line + 1, mark.column, mark.index, event.end_mark.index, event.style,
            length=len(value),
        )  # fmt: skip


def _container(event: Any, kind: str) -> Node:
    mark = event.start_mark
    name, tag = ("mapping", "map") if kind == "MappingStartEvent" else ("list", "seq")
    given = event.tag
    tag = f"{_TAG}{tag}" if given is None or given == "!" else str(given)
    return Node(name, tag, [], mark.line + 1, mark.column, mark.index, event.end_mark.index)


class _PlainScalars(dict[str, str]):
    """Tags of plain scalars by their text; a catalog says the same words again and again."""

    def __init__(self, yaml: YAML) -> None:
        super().__init__()
        from ruamel.yaml.nodes import ScalarNode

        self._resolve, self._node = yaml.resolver.resolve, ScalarNode

    def __missing__(self, text: str) -> str:
        tag = self[text] = str(self._resolve(self._node, text, (True, False)))
        return tag


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


def _place_within(node: Node, text: str, offset: int) -> tuple[int, int]:
    """Line and column, from 1, of a character of a text, as it stands in the file.

    The text is looked for word by word in what was written, because quotes, escapes and folded lines make both differ.
    """
    written = text[node.start : node.end]
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
    line = node.line + before.count("\n")
    column = at - before.rfind("\n") if "\n" in before else node.column + at + 1
    return line, column


def _skip_blank(written: str, at: int) -> int:
    return at + 1 if at < len(written) and written[at].isspace() else at


def _find(written: str, character: str, at: int) -> int:
    """The place after the next `character`, or `at` where it is written otherwise (an escape)."""
    found = written.find(character, at)
    return at if found < 0 else found + 1


def _merged(node: Node) -> Iterator[Node]:
    """The mappings that `<<` names, first the one that counts most."""
    sources = node.value if node.kind == "list" else [node]
    yield from (source for source in sources if source.kind == "mapping")


def _child(node: Node, part: str | int) -> tuple[Node, Node] | None:
    """Where `part` of `node` stands, and its value."""
    if node.kind == "list" and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part]
    if node.kind == "list" and isinstance(part, str):
        # A list of things that are named, read as a mapping.
        for item in node.value:
            name = _child(item, "name")
            if name is not None and name[1].value == part:
                return item, item
    if node.kind == "mapping":
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
        self._yaml = yaml
        self._plain: dict[tuple[str, str], object] = {}
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
        if node.tag not in _PLAIN:
            self._complain(node, location, f"the tag {node.tag} is not supported", "write a plain value")
            return None
        if node.kind == "mapping":
            return self._mapping(node, location)
        if node.kind == "list":
            return [self.value(item, (*location, index)) for index, item in enumerate(node.value)]
        if node.tag == _TEXT:
            return self._text(node, location)
        known = self._plain.get((node.tag, node.value), self)
        return self._scalar(node, location) if known is self else known

    def _text(self, node: Node, location: Location) -> str | None:
        text: str = node.value
        if text.isascii() and "\0" not in text:
            return text
        # JSON escapes what needs more than 16 bits as two halves.
        with suppress(UnicodeError):
            text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le")
            if "\0" not in text:
                return text
        # Only an escape ("\0") can bring them; Postgres has no text that holds them.
        self._complain(node, location, "a character that text cannot hold", "remove the escape")
        return None

    def _scalar(self, node: Node, location: Location) -> object:
        """What is no text: a number, a date, true, false or nothing."""
        from ruamel.yaml.nodes import ScalarNode

        kind = node.tag.removeprefix(_TAG)
        if kind in ("int", "float") and len(node.value) > MOST_DIGITS:
            hint = f"numbers have at most {MOST_DIGITS}; put it in quotes if it is text"
            self._complain(node, location, f"a number of {len(node.value)} characters", hint)
            return None
        try:
            made: object = self._yaml.constructor.construct_object(ScalarNode(node.tag, node.value))
        except (ValueError, OverflowError):
            # Such as 2026-02-30: the text goes on, and the model says what it expects there.
            return self._text(node, location)
        except Exception:  # noqa: BLE001 # of a tag that says what the text is not: a KeyError, an IndexError
            self._complain(node, location, f"{readable(node.value)[:60]} is no {kind}", "put text in quotes")
            return None
        if isinstance(made, float) and not math.isfinite(made):
            self._complain(node, location, f"{node.value[:60]} is no number", "write a plain number")
            return None
        self._plain[node.tag, node.value] = made
        return made

    def _mapping(self, node: Node, location: Location) -> dict[str, object]:
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
            if key.kind != "scalar" or key.tag != _TEXT:
                name = readable(key.value)[:60] if key.kind == "scalar" else "a list or mapping"
                self._complain(key, location, f"{name} is no name of a key", "keys are text")
                continue
            text = self._text(key, location)
            if text is None:
                continue
            name = text
            if name in own:
                self._complain(
                    key,
                    (*location, name),
                    f"the key `{name}` stands twice, first on line {lines[name]}",
                    "keep one of them; YAML would silently drop the other",
                )
                continue
            lines[name] = key.line
            own[name] = self.value(value, (*location, name))
        return {**merged, **own}

    def _complain(self, node: Node, location: Location, message: str, hint: str) -> None:
        self._document.problems.append(
            Problem(self._document.file, node.line, key_path(location), message, hint)
        )
