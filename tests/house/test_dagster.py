"""What Dagster does not publish stands behind one adapter: no other module imports it, reads it or names its tables."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from dagster._core.storage.event_log.schema import SqlEventLogStorageMetadata
from dagster._core.storage.runs.schema import RunStorageSqlMetadata
from dagster._core.storage.schedules.schema import ScheduleStorageSqlMetadata

ROOT = Path(__file__).resolve().parents[2]
ADAPTER = Path("pipelines/orchestration/dagster_private")
TABLES = sorted(
    {*RunStorageSqlMetadata.tables, *SqlEventLogStorageMetadata.tables, *ScheduleStorageSqlMetadata.tables}
)
# What is a word of everyday life is a table only where SQL takes one.
TABLE = re.compile(
    rf"\b(?:{'|'.join(name for name in TABLES if '_' in name)})\b"
    rf"|\b(?:from|join|into|update|table|truncate)\s+(?:public\.)?(?:{'|'.join(TABLES)})\b",
    re.IGNORECASE,
)
# Published by every named tuple, whatever it looks like.
NAMED_TUPLE = {"_asdict", "_fields", "_make", "_replace"}
PRIVATE = re.compile(r"\bdagster\w*\._|(?<!\w)\.dagster/")


def docstrings(tree: ast.AST) -> set[ast.AST]:
    """Strings that are no value: docstrings, of attributes too."""
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name not in NAMED_TUPLE


def of_dagster(tree: ast.AST) -> set[str]:
    """Names of the module that are Dagster's, or that the adapter derives from what is Dagster's."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            if node.module.startswith(("dagster", "pipelines.orchestration.dagster_private.classes")):
                found |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {
                (alias.asname or alias.name).split(".")[0]
                for alias in node.names
                if alias.name.startswith("dagster")
            }
    return found


def first_name(node: ast.expr) -> str:
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def offences(source: str) -> Iterator[tuple[int, str]]:
    """Lines of the source, and what is used there and not published."""
    tree = ast.parse(source)
    theirs, said = of_dagster(tree), docstrings(tree)
    derived = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and any(first_name(base) in theirs for base in node.bases)
    ]
    inherited = {
        node
        for one in derived
        for node in ast.walk(one)
        if isinstance(node, ast.Attribute) and is_private(node.attr)
    }
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.startswith("dagster") and any(is_private(part) for part in name.split(".")):
                yield getattr(node, "lineno", 0), name
        # Whose an object is cannot be seen: where Dagster is imported, any may be Dagster's.
        if theirs and isinstance(node, ast.Attribute) and is_private(node.attr):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            if node in inherited or owner not in {"self", "cls"}:
                yield node.lineno, f"{owner or '…'}.{node.attr}"
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in said:
            for pattern in (TABLE, PRIVATE):
                if match := pattern.search(node.value):
                    yield node.lineno, " ".join(match[0].split())


def test_what_dagster_does_not_publish_is_used_in_the_adapter_only() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {what}"
        for folder in ("pipelines", "sensors")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not path.is_relative_to(ROOT / ADAPTER)
        for line, what in offences(path.read_text("utf-8"))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("from dagster._core.errors import DagsterError", "dagster._core.errors.DagsterError"),
        ("import dagster._core.errors", "dagster._core.errors"),
        ("from dagster_dbt.core import _private", "dagster_dbt.core._private"),
        ("import dagster as dg\ndg._core", "dg._core"),
        ("import dagster as dg\ndef f(instance): return instance.run_storage._engine", "…._engine"),
        ("import dagster as dg\nclass A(dg.RunLauncher):\n def f(self): return self._runs", "self._runs"),
        ("f('select 1 from runs')", "from runs"),
        ("f('delete from\\n    event_logs')", "from event_logs"),
        ("f(f'select {x} from public.daemon_heartbeats')", "from public.daemon_heartbeats"),
        ("run('dagster._daemon')", "dagster._"),
        ("tags['.dagster/grpc_info']", ".dagster/"),
    ],
)
def test_it_is_seen(source: str, what: str) -> None:
    assert what in [found for _, found in offences(source)]


@pytest.mark.parametrize(
    "source",
    [
        '"""Made from runs, and from `event_logs`."""',
        "class A:\n def f(self): return self._own",
        "from dagster import RunRecord",
        "metadata = {'dagster/table_name': 'x'}",
        "f('the runs of a job')",
        "def f(other): return other._own",
        "import dagster as dg\ndef f(line): return line._replace(number=1)",
    ],
)
def test_what_is_published_is_not(source: str) -> None:
    assert list(offences(source)) == []
