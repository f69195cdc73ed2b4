"""What the pages show works, as it stands there."""

from __future__ import annotations

import io
import re
import subprocess
from datetime import datetime
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from pipelines.catalog.store import store_catalog
from pipelines.cli import main
from pipelines.console import answer
from pipelines.landing.ingest import ingest
from pipelines.transform.project import Project
from pipelines.transform.tick import tick
from pipelines.warehouse.settings import ROOT, Settings
from tests.docs.conftest import Ask, asked, blocks, page

PAGES = ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))]
SHELL = "\n".join(block for name in PAGES for block in blocks(page(name), "sh"))
# The bank that README makes has a database of its own.
OWN_BANK = next(block for block in blocks(page("README.md"), "sh") if "bank/catalog" in block)

# What an administrator does to a server (operations) is not for an analyst to ask.
QUERIES = [
    pytest.param(query, id=f"{name}-{number}")
    for name in PAGES
    for number, query in enumerate(
        [
            *(query for query in blocks(page(name), "sql") if query.startswith(("select", "with"))),
            *(query for block in blocks(page(name), "sh") if block != OWN_BANK for query in asked(block)),
        ],
        1,
    )
]


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_runs_and_has_an_answer(demonstration: Ask, query: str) -> None:
    answer = demonstration(query)
    # Incidents are opened by a sensor, and none has run.
    assert "ops." in query or not answer.endswith("\n(0 rows)\n")


def test_the_tables_of_ops_are_described_column_by_column(demonstration: Ask) -> None:
    chapter = page("docs/marts.md").partition("\n### Incidents\n")[2]
    for table in ("incident", "open_incident", "silence", "notice"):
        (line,) = (line for line in chapter.splitlines() if line.startswith(f"| `ops.{table}` |"))
        columns = demonstration(f"select * from ops.{table}").splitlines()[0].split()
        base = chapter if "the same, and" in line else line
        assert [name for name in columns if f"`{name}`" not in base] == []


def test_the_bank_of_the_readme_gives_what_it_shows(bank: Settings, tmp_path: Path) -> None:
    files, _, commands = OWN_BANK.partition("bank() {")
    subprocess.run(["bash", "-euc", files], cwd=tmp_path, check=True)
    as_of = re.search(r"bank check && bank ingest && bank tick --as-of (\S+)", commands)
    (query,) = asked(commands.replace("bank sql", "duemark sql"))
    assert as_of is not None

    store_catalog(bank)
    assert [file.status for file in ingest(bank).files] == ["loaded"]
    tick(Project(bank), datetime.fromisoformat(as_of[1]))
    out = io.StringIO()
    answer(bank, query, "table", out)
    *_, text = blocks(page("README.md"), "text")
    assert out.getvalue() == text


@pytest.mark.parametrize("line", sorted(set(re.findall(r"duemark ([a-z][a-z-]*[^\n&;|#]*)", SHELL))))
def test_a_command_and_its_options_exist(line: str) -> None:
    name, *rest = line.split()
    command = main.commands[name]
    # `token` has commands of its own.
    path = [name, rest[0]] if isinstance(command, click.Group) else [name]
    shown = CliRunner().invoke(main, [*path, "--help"])
    assert shown.exit_code == 0, shown.output
    for option in rest:
        if option.startswith("--"):
            assert re.search(rf"^\s+{option.partition('=')[0]}\b", shown.output, re.MULTILINE), shown.output


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):.*## ", page("Makefile"), re.MULTILINE))
    shown = set(re.findall(r"^make ([a-z]+)", SHELL, re.MULTILINE))
    assert shown <= targets
    assert {"demo", "test"} <= shown
