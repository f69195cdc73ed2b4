"""Rules for every file of the tree: what git would commit, read as text."""

from __future__ import annotations

import functools
import re
import subprocess
import tomllib
from pathlib import Path
from urllib.parse import unquote

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]

# Folders of one machine. In parts, or this file would break its own rule.
MACHINE_PATHS = re.compile(r"(?<![\w.$})-])/(?:" + "|".join(["work", "root", "home/" + r"[a-z]+"]) + r")/")
# Registries and their mirrors are a setting of the machine: the tree must install through any of them.
REGISTRIES = re.compile(
    "|".join(
        re.escape(".".join(parts))
        for parts in [
            ("pypi", "org"),
            ("files", "pythonhosted", "org"),
            ("registry", "npmjs", "org"),
            ("deb", "debian", "org"),
            ("docker", "io"),
            ("ghcr", "io"),
            ("quay", "io"),
        ]
    )
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)(?:\s+\"[^\"]*\")?\)")
HEADING = re.compile(r"^#+\s+(.*?)\s*#*$", re.MULTILINE)
CODE = re.compile(r"^(```|~~~).*?^\1", re.MULTILINE | re.DOTALL)


@functools.cache
def tree() -> dict[Path, str]:
    """Text of every file that is committed or would be, by its path in the tree."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listing.returncode != 0:
        pytest.skip("not a git checkout: what belongs to the tree is not known")
    texts = {}
    for name in listing.stdout.decode().split("\0"):
        path = ROOT / name
        if name and path.is_file():
            content = path.read_bytes()
            # Pictures and Parquet files are not ours to read; test input may be in any encoding.
            if b"\0" not in content:
                texts[Path(name)] = content.decode("utf-8", errors="replace")
    return texts


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{path}:{number}: {line.strip()[:120]}"
        for path, text in tree().items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_paths_of_one_machine_are_told_from_others() -> None:
    for folder in ("work", "root", "home/ann"):
        assert MACHINE_PATHS.search(f"see /{folder}/notes.txt")
    for fine in ("dbt_project/work/x", "${PWD}/root/x", "GET /home HTTP/1.1", "s3://bucket/work/x"):
        assert not MACHINE_PATHS.search(fine)


def test_no_path_of_one_machine() -> None:
    assert lines_with(MACHINE_PATHS) == []


def test_no_host_of_a_registry() -> None:
    assert lines_with(REGISTRIES) == []


def test_files_end_with_one_newline() -> None:
    written_by_hand = {".py", ".sql", ".md", ".yml", ".yaml", ".toml", ".txt", ".sh", ""}
    wrong = [
        str(path)
        for path, text in tree().items()
        if path.suffix in written_by_hand and text and (not text.endswith("\n") or text.endswith("\n\n"))
    ]
    assert wrong == []


def test_no_carriage_returns_or_blank_ends_of_line() -> None:
    wrong = [
        f"{path}:{number}"
        for path, text in tree().items()
        if path.suffix in {".py", ".sql", ".yml", ".yaml", ".toml", ".sh"}
        for number, line in enumerate(text.split("\n"), 1)
        if line != line.rstrip()
    ]
    assert wrong == []


def anchors(text: str) -> set[str]:
    """Anchors of a page's headings, as code hosts make them."""
    found = set()
    for heading in HEADING.findall(CODE.sub("", text)):
        plain = re.sub(r"[`*]|\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        found.add(re.sub(r"[^\w\- ]", "", plain).replace(" ", "-"))
    return found


def broken_links(page: Path, text: str) -> list[str]:
    broken = []
    for link in LINK.findall(CODE.sub("", text)):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = unquote(link).partition("#")
        path = (ROOT / page.parent / target).resolve() if target else ROOT / page
        if not path.exists():
            broken.append(f"{page}: {link} does not exist")
        elif anchor and path.suffix == ".md" and anchor not in anchors(path.read_text("utf-8")):
            broken.append(f"{page}: {link} has no such heading")
    return broken


def test_links_in_documents_lead_somewhere() -> None:
    pages = {path: text for path, text in tree().items() if path.suffix == ".md"}
    assert [link for page, text in pages.items() for link in broken_links(page, text)] == []


def test_links_are_found_and_judged() -> None:
    text = "# What's new?\n[a](CHANGELOG.md) [b](gone.md) [c](#whats-new) [d](#gone) [e](https://host/x)"
    assert anchors(text) == {"whats-new"}
    assert broken_links(Path("CONTRIBUTING.md"), text) == [
        "CONTRIBUTING.md: gone.md does not exist",
        "CONTRIBUTING.md: #whats-new has no such heading",
        "CONTRIBUTING.md: #gone has no such heading",
    ]


def test_constraints_pin_every_dependency_and_name_no_index() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = {}
    for line in lines:
        # No options, no URLs, no hashes of one machine's mirror: `name==version`, and a marker at most.
        requirement = Requirement(line)
        assert requirement.url is None
        (specifier,) = requirement.specifier
        assert specifier.operator == "=="
        pins[canonicalize_name(requirement.name)] = specifier.version

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    for line in wanted:
        requirement = Requirement(line)
        if requirement.name != project["name"]:
            pin = pins.get(canonicalize_name(requirement.name))
            assert pin is not None, f"{requirement.name} is not in constraints.txt: make lock"
            assert requirement.specifier.contains(pin, prereleases=True), (
                f"{line} but {pin} is pinned: make lock"
            )
