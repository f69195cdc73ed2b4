"""Which package may import which, and which are declared: from the source, so imports in functions count too."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Collection, Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]

# What has to load when the dbt project does not, and when what moves the data on does not.
ONCALL = ("sensors", "oncall")
NOT_FOR_ONCALL = ("sensors.ticks", "pipelines.transform.project", "dbt", "dagster_dbt")
# The only modules that see everything: what puts it together, and the command line.
TOP = {"definitions", "cli", "demo"}


def modules_of(source: str, package: str) -> Iterator[str]:
    """Absolute names that a module's source imports; `package` is the one that it lies in."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")
                parents = parents[: len(parents) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            # `from pipelines import slo` imports a module too.
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def imports() -> Iterator[tuple[Path, str]]:
    """Every (file, imported name) of the distribution."""
    for folder in ("pipelines", "sensors"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            relative = path.relative_to(ROOT)
            package = ".".join(relative.parts[:-1])
            for name in modules_of(path.read_text("utf-8"), package):
                yield relative, name


IMPORTS = sorted(set(imports()))
OURS = {"pipelines", "sensors", "tests", "bench"}
# Imported by their own name, and released only together with what we declare.
COMES_WITH = {
    "pydantic_core": "pydantic",
    "starlette": "fastapi",
    "dagster_shared": "dagster",
    "dbt_common": "dbt-core",
}


def part(dotted: str) -> str | None:
    """`slo` of `pipelines.slo.assets`; None for what is not within `pipelines`."""
    names = dotted.split(".")
    return names[1] if names[0] == "pipelines" and len(names) > 1 else None


def part_of_file(path: Path) -> str | None:
    return part(".".join(path.with_suffix("").parts))


def offences(rule: str) -> list[str]:
    """Imports that break a rule, as `file imports name`."""
    found = []
    for path, name in IMPORTS:
        importer, imported = part_of_file(path), part(name)
        broken = {
            "pipelines import sensors": path.parts[0] == "pipelines"
            and importer not in TOP
            and name.split(".")[0] == "sensors",
            "what is on call imports dbt or what moves the data on": path.parts[:2] == ONCALL
            and any(f"{name}.".startswith(f"{each}.") for each in NOT_FOR_ONCALL),
            "what moves the data on imports what is on call": path.parts[:2] == ("sensors", "ticks")
            and f"{name}.".startswith("sensors.oncall."),
            "what reacts imports the pages, or what keeps processes up": path.parts[0] == "sensors"
            and imported in {"board", "processes"},
            "something imports the top": imported in TOP and importer not in TOP,
            "the distribution imports tests or the bench": name.split(".")[0] in {"tests", "bench"},
        }
        if broken[rule]:
            found.append(f"{path} imports {name}")
    return found


# What may be stood upon by what: nothing imports what stands as high as itself, or higher. Not named: the top.
RANKS = {
    "errors": 0,
    "durations": 0,
    "signals": 0,
    "settings": 1,
    "logs": 2,
    # The record of a subject names the types of those who use it, and imports none of them when it runs.
    "subject": 2,
    "plugins": 2,
    "warehouse": 3,
    "console": 4,
    "failures": 4,
    "orchestration": 4,
    "catalog": 5,
    "access": 6,
    "landing": 6,
    "copies": 7,
    "transform": 8,
    "slo": 9,
    "metrics": 9,
    "kpi": 9,
    "forecasts": 9,
    "simulator": 10,
    "board": 10,
    "processes": 10,
    "receivers": 11,
}
TOP_RANK = 12


def room(name: str) -> str | None:
    """What of `RANKS` a module belongs to. Settings are read by everything, and import nothing of the warehouse."""
    return "settings" if name == "pipelines.warehouse.settings" else part(name)


def modules() -> dict[str, ast.Module]:
    """Every module of the distribution by its name."""
    found = {}
    for folder in ("pipelines", "sensors"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            found[name] = ast.parse(path.read_text("utf-8"))
    return found


def run_imports(tree: ast.Module, known: Collection[str]) -> set[str]:
    """Modules of `known` that are imported when the code runs, in functions too; not what is there for types only."""
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & set(known)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found |= {whole if whole in known else node.module} & set(known)
    return found


MODULES = modules()
GRAPH = {name: run_imports(tree, MODULES) - {name} for name, tree in MODULES.items()}


def test_no_arrow_runs_back_up() -> None:
    up = []
    for name, imported in GRAPH.items():
        rank = RANKS.get(room(name) or "", TOP_RANK)
        for other in sorted(imported):
            if room(other) in {None, room(name)} or rank == TOP_RANK:
                continue
            if RANKS.get(room(other) or "", TOP_RANK) >= rank:
                up.append(f"{name} imports {other}")
    assert up == []


def test_no_circle() -> None:
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_nothing_is_called_by_a_string() -> None:
    """`package.module:name` is seen by no type checker and by no rule of this file."""
    named = re.compile(r"(?:pipelines|sensors)(?:\.\w+)+:\w+")
    found = [
        f"{name}: {node.value}"
        for name, tree in MODULES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and named.fullmatch(node.value)
    ]
    assert found == []


@pytest.mark.parametrize(
    "rule",
    [
        "pipelines import sensors",
        "what is on call imports dbt or what moves the data on",
        "what moves the data on imports what is on call",
        "what reacts imports the pages, or what keeps processes up",
        "something imports the top",
        "the distribution imports tests or the bench",
    ],
)
def test_no_layer_is_crossed(rule: str) -> None:
    assert offences(rule) == []


def test_what_is_imported_is_declared() -> None:
    """Nothing rests on what a dependency happens to bring along."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lines = [*project["dependencies"], *project["optional-dependencies"]["s3"]]
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    distributions = packages_distributions()
    undeclared = set()
    for path, name in IMPORTS:
        package = name.split(".")[0]
        if package in OURS or package in sys.stdlib_module_names:
            continue
        names = [COMES_WITH[package]] if package in COMES_WITH else distributions.get(package, [package])
        if not {canonicalize_name(each) for each in names} & declared:
            undeclared.add(f"{path} imports {package}")
    assert sorted(undeclared) == []


def test_imports_are_read_whatever_their_form() -> None:
    source = (
        "import pipelines.slo.feed as feed\n"
        "from . import errors\n"
        "from ..metrics import assets\n"
        "def late():\n"
        "    from pipelines import cases\n"
    )
    assert set(modules_of(source, "pipelines.slo")) == {
        "pipelines.slo.feed",
        "pipelines.slo",
        "pipelines.slo.errors",
        "pipelines.metrics",
        "pipelines.metrics.assets",
        "pipelines",
        "pipelines.cases",
    }
