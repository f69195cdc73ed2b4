"""Whatever stands in a catalog's folder is read or told by file and line, and what was read is kept."""

from __future__ import annotations

import math
import os
import random
import socket
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from pipelines.catalog.documents import (
    MOST_BYTES,
    CatalogFolderError,
    Kept,
    content_of,
    read_document,
    yaml_files,
)
from pipelines.catalog.read import CatalogError, read_catalog
from pipelines.catalog.store import fingerprint
from pipelines.warehouse.settings import Settings

Write = Callable[..., Path]

PIECES = [
    "slos:\n", "  - id: a\n", "    name: b\n", "- ", ": ", "\n", "  ", "[", "]", "{", "}", "'", '"', "#", "&a ", "*a",
    "!", "!!int ", "!!bool ", "!!timestamp ", "!!binary ", "!!python/object:os.system ", "!!set ", "|", ">", "<<: ",
    "<<: [*a]", "\t", "%YAML 1.1\n", "---\n", "...\n", "\\ud83d\\ude00", "\\ud83d", "\\0", "\\UFFFFFFFF", "0x1F",
    "=", "? ", ",",
    "2026-02-30", "0000-00-00", "9999-99-99T99:99:99Z", "1e999", ".inf", ".nan", "0b2", "+_", "\u2028", "\x85", "\r",
    "\0", "\ufeff", "😀", "@", "`", "\udcff",
]  # fmt: skip


@given(st.one_of(st.lists(st.sampled_from(PIECES), max_size=30).map("".join), st.binary(max_size=200)))
@example("slos: [{id: 0x" + "f" * 4000 + "}]")
@example("slos: [" + "9" * 5000 + "]")
@example("!!int ")
@example('slos: ["\\UFFFFFFFF"]')
@hypothesis_settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
def test_anything_is_read_or_told_by_line(tmp_path: Path, content: str | bytes) -> None:
    data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape")
    folder = tmp_path / "fuzzed"
    (folder / "slos").mkdir(parents=True, exist_ok=True)
    (folder / "slos" / "odd.yml").write_bytes(data)
    try:
        read_catalog(folder)
    except CatalogError as error:
        str(error).encode()
        lines = (
            1
            + data.count(b"\n")
            + data.count(b"\r")
            + data.count("\x85".encode())
            + data.count("\u2028".encode())
        )
        told = {problem.line for problem in error.problems}
        assert told <= set(range(1, lines + 2))


@given(st.text("0123456789.-+_:eExXobafinsulTtrRyYNn~ TZ", min_size=1, max_size=12))
@example("2026-01-01")
@example("0o17")
@example("1_000.5e3")
@example("2026-01-01T10:00:00+02:00")
@hypothesis_settings(deadline=None)
def test_a_plain_scalar_is_what_the_reference_says(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "scalar.yml"
    path.write_text(f"- {text}\n")
    try:
        expected = YAML(typ="safe", pure=True).load(path.read_text())
    except Exception:  # noqa: BLE001 # of a library
        # A date that does not exist, or no YAML: other tests say what becomes of it.
        return
    document = read_document(path)
    if isinstance(expected[0], dict | list):
        # `a: b` and `- a` are no scalars.
        return
    if isinstance(expected[0], float) and not math.isfinite(expected[0]):
        assert [problem.message.endswith("is no number") for problem in document.problems] == [True]
    else:
        assert repr(document.value) == repr(expected)


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("slos:\n  - 0x" + "f" * 4000, 2, "a number of 4002 characters"),
        ("slos:\n  - " + "9" * 5000, 2, "a number of 5000 characters"),
        ("slos:\n  - -1." + "0" * 5000, 2, "a number of 5003 characters"),
        ("slos:\n  - .inf", 2, ".inf is no number"),
        ("slos:\n  - 1e999", 2, "1e999 is no number"),
        ("slos:\n  - !!bool maybe", 2, "maybe is no bool"),
        ("slos:\n  - !!int", 2, " is no int"),
        ("slos:\n  - !!timestamp soon", 2, "soon is no timestamp"),
        ("slos:\n  - !!python/none", 2, "the tag tag:yaml.org,2002:python/none is not supported"),
        ("slos:\n  - !!binary aGk=", 2, "the tag tag:yaml.org,2002:binary is not supported"),
        ('slos:\n  - "\\ud83d"', 2, "a character that text cannot hold"),
        ('slos:\n  - "\\ude00\\ud83d"', 2, "a character that text cannot hold"),
        ('slos:\n  - {"a\\0": 1}', 2, "a character that text cannot hold"),
        ("slos:\n  " + "{a: " * 150, 2, "lists or mappings nested too deeply"),
        ("slos:\n  " + "- " * 200_000, 2, "lists or mappings nested too deeply"),
    ],
)  # fmt: skip
def test_values_that_no_catalog_has(tmp_path: Path, text: str, line: int, message: str) -> None:
    path = tmp_path / "odd.yml"
    path.write_text(text)
    problem = read_document(path).problems[0]
    assert (problem.line, problem.message) == (line, message)
    assert problem.hint


def test_a_value_that_was_refused_is_not_missing_too(write: Write) -> None:
    with pytest.raises(CatalogError) as caught:
        read_catalog(
            write({"jobs/odd.yml": "jobs:\n  - id: 0x" + "f" * 4000 + "\n    application: deposits\n"})
        )
    (problem,) = caught.value.problems
    assert (problem.line, problem.key, problem.message) == (2, "jobs[0].id", "a number of 4002 characters")


def test_emoji_as_json_escapes_them(tmp_path: Path) -> None:
    path = tmp_path / "odd.yml"
    path.write_text('{"a\\ud83d\\ude00": "\\ud83d\\udc68 \\u00fc"}')
    assert read_document(path).value == {"a😀": "👨 ü"}


def test_aliases_that_unfold_without_end(tmp_path: Path) -> None:
    path = tmp_path / "odd.yml"
    rows = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    rows += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    path.write_text("\n".join(rows))
    (problem,) = read_document(path).problems
    assert (problem.line, problem.message) == (
        6,
        "the aliases up to here stand for more than 1,000,000 values",
    )
    path.write_text("a: &a " + "x" * 2_000_000 + "\nb: [" + ", ".join(["*a"] * 100) + "]")
    assert not read_document(path).is_readable
    # Defaults that thousands of entries take are no bomb.
    path.write_text("a: &a {x: 1, y: 2}\nb:\n" + "  - {<<: *a, z: 3}\n" * 10_000)
    assert read_document(path).problems == []


def test_what_is_no_plain_file(tmp_path: Path) -> None:
    jobs = tmp_path / "catalog" / "jobs"
    jobs.mkdir(parents=True)
    os.mkfifo(jobs / "pipe.yml")
    (jobs / "dangling.yml").symlink_to(tmp_path / "nowhere")
    (jobs / "loop.yml").symlink_to(jobs / "loop.yml")
    (jobs / "huge.yml").write_bytes(b"")
    os.truncate(jobs / "huge.yml", MOST_BYTES + 1)
    (jobs / "utf16.yml").write_text("jobs: []\n", "utf-16")
    (jobs / "folder.yml").mkdir()
    (jobs / "folder.yml" / "sound.yml").write_text("jobs: []\n")
    with socket.socket(socket.AF_UNIX) as server:
        place = Path.cwd()
        os.chdir(jobs)
        server.bind("socket.yml")
        os.chdir(place)
        with pytest.raises(CatalogError) as caught:
            read_catalog(tmp_path / "catalog")
        settings = Settings.from_env({"DUEMARK_CATALOG": str(tmp_path / "catalog")})
        assert fingerprint(settings) == fingerprint(settings)
    assert {Path(problem.file).name: problem.message for problem in caught.value.problems} == {
        "pipe.yml": "this is no file",
        "socket.yml": "this is no file",
        "dangling.yml": "the file cannot be read: No such file or directory",
        "loop.yml": "the file cannot be read: Too many levels of symbolic links",
        "huge.yml": "a file of more than 32 MiB",
        "utf16.yml": "the file is not UTF-8 text",
    }


def test_names_of_files_that_are_no_text(tmp_path: Path) -> None:
    folder = tmp_path / "jobs"
    folder.mkdir()
    name = os.fsencode(folder) + b"/\xff\n\xe2\x80\xae.yml"
    Path(os.fsdecode(name)).write_text("jobs: [\n")
    with pytest.raises(CatalogError) as caught:
        read_catalog(tmp_path)
    assert "\\xff\\u000a\\u202e.yml:2: not valid YAML" in str(caught.value)
    assert fingerprint(Settings.from_env({"DUEMARK_CATALOG": str(tmp_path)}))


def test_a_folder_that_cannot_be_read_is_not_an_empty_one(tmp_path: Path) -> None:
    folder = tmp_path / "slos"
    (folder / "more").mkdir(parents=True)
    (folder / "more").chmod(0)
    try:
        if os.access(folder / "more", os.R_OK):
            # Nothing is closed to root: a name that is too long cannot be looked into either.
            with pytest.raises(CatalogFolderError):
                yaml_files(tmp_path / ("x" * 300))
            return
        with pytest.raises(CatalogError, match="the folder cannot be read: Permission denied"):
            read_catalog(tmp_path)
    finally:
        (folder / "more").chmod(0o700)


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    for name in ("b.yml", "a.yaml", "c.txt", ".hidden.yml", "sub/d.yml", ".git/e.yml"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    assert [path.relative_to(tmp_path).as_posix() for path in yaml_files(tmp_path)] == [
        "a.yaml",
        "b.yml",
        "sub/d.yml",
    ]
    assert yaml_files(tmp_path / "none") == []
    assert content_of(tmp_path / "b.yml") == b""


# Kept


def kept_value(path: Path, kept: Path) -> object:
    store = Kept(kept)
    document = read_document(path, store)
    store.write()
    return document.value, document.problems, document.is_readable


def test_what_was_read_is_kept_as_it_was(tmp_path: Path) -> None:
    path, kept = tmp_path / "one.yml", tmp_path / "kept" / "slos.msgpack"
    path.write_text(
        "a: [1, -2.5, true, null, text, 2026-03-01, 2026-03-01T10:00:00Z]\nb: &b {c: 9223372036854775807}\nd: *b\n"
    )
    first = kept_value(path, kept)
    assert first == (
        {
            "a": [1, -2.5, True, None, "text", date(2026, 3, 1), datetime(2026, 3, 1, 10, tzinfo=UTC)],
            "b": {"c": 2**63 - 1},
            "d": {"c": 2**63 - 1},
        },
        [],
        True,
    )  # fmt: skip
    stamp = kept.stat().st_mtime_ns
    assert kept_value(path, kept) == first
    assert kept.stat().st_mtime_ns == stamp
    # Lines are found without what was kept.
    assert read_document(path, Kept(kept)).line(("b", "c")) == 2
    path.write_text("a: 2\n")
    assert kept_value(path, kept) == ({"a": 2}, [], True)


@pytest.mark.parametrize("damage", ["cut", "bit", "empty", "foreign", "folder"])
def test_what_was_kept_and_is_damaged_is_read_anew(tmp_path: Path, damage: str) -> None:
    path, kept = tmp_path / "one.yml", tmp_path / "kept.msgpack"
    path.write_text("a: [1, 2, 3]\n")
    kept_value(path, kept)
    data = kept.read_bytes()
    if damage == "folder":
        kept.unlink()
        kept.mkdir()
    else:
        place = random.Random(1).randrange(40, len(data))
        flipped = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        kept.write_bytes({"cut": data[:-5], "bit": flipped, "empty": b"", "foreign": b"x" * 100}[damage])
    assert kept_value(path, kept) == ({"a": [1, 2, 3]}, [], True)


def test_faults_are_kept_with_their_lines_under_the_name_of_the_file(tmp_path: Path) -> None:
    kept = tmp_path / "kept.msgpack"
    for name in ("one.yml", "other.yml"):
        (tmp_path / name).write_text("a: 1\na: 2\n")
        kept_value(tmp_path / name, kept)
        (problem,) = read_document(tmp_path / name, Kept(kept)).problems
        assert (Path(problem.file).name, problem.line, problem.key) == (name, 2, "a")


def test_a_number_too_large_to_be_kept_is_read_each_time(tmp_path: Path) -> None:
    path, kept = tmp_path / "one.yml", tmp_path / "kept.msgpack"
    path.write_text(f"a: {2**80}\n")
    assert kept_value(path, kept) == kept_value(path, kept) == ({"a": 2**80}, [], True)
    assert not kept.exists()


def test_a_catalog_from_what_was_kept_is_the_same(write: Write, tmp_path: Path) -> None:
    folder = write()
    first = read_catalog(folder, tmp_path / "kept")
    assert {path.name for path in (tmp_path / "kept").iterdir()} == {
        f"{kind}.msgpack" for kind in ("applications", "calendars", "jobs", "slos")
    }
    assert read_catalog(folder, tmp_path / "kept") == first
    write({"slos/bank.yml": "slos:\n  - id: x\n    colour: red\n"})
    for _ in range(2):
        with pytest.raises(CatalogError) as caught:
            read_catalog(folder, tmp_path / "kept")
        assert ("slos/bank.yml", 3) in [
            (Path(problem.file).relative_to(folder).as_posix(), problem.line)
            for problem in caught.value.problems
        ]
