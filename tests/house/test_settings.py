"""Settings are read in one class. Others may touch the environment for a reason, and for no setting of ours."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.errors import DuemarkError
from pipelines.warehouse.settings import PLACES, Settings, Variable

ROOT = Path(__file__).resolve().parents[2]
HOME = Path("pipelines/warehouse/settings.py")
# Why these touch it.
OTHERS = {
    "pipelines/copies/known.py": "whether a variable that the catalog names is set",
    "pipelines/copies/source.py": "a variable that the catalog names holds the URL of another database",
    "pipelines/processes/supervisor.py": "what it starts inherits it",
    "pipelines/transform/project.py": "dbt is given what its profile and its macros read",
    "pipelines/warehouse/embedded.py": "the server inherits what DUEMARK_SERVER_ENV names",
    "sensors/oncall/incidents/routes.py": "variables that routes of the catalog name",
    "pipelines/receivers/metrics.py": "prometheus-client has no other way to say where workers count",
    "pipelines/receivers/server.py": "the same, before the workers begin",
    "sensors/oncall/incidents/secrets.py": "their values are hidden in what is told",
    "sensors/oncall/watch/outside.py": "libpq is told how long it may wait for a connection",
}
# Handed to dbt, which is given no other way; no person sets them.
TO_DBT = re.compile(r"DUEMARK_DBT_(?!PROJECT$|TARGET$)\w+")


def sources() -> Iterator[tuple[str, ast.AST]]:
    for folder in ("pipelines", "sensors"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            relative = path.relative_to(ROOT)
            if relative != HOME:
                yield str(relative), ast.parse(path.read_text("utf-8"))


def touches(tree: ast.AST) -> bool:
    """Whether the source reads or writes the environment of the process."""
    names = {"environ", "environb", "getenv", "putenv"}
    return any(
        (isinstance(node, ast.Attribute) and node.attr in names)
        or (isinstance(node, ast.ImportFrom) and any(alias.name in names for alias in node.names))
        for node in ast.walk(tree)
    )


def test_the_environment_is_touched_for_a_reason() -> None:
    assert sorted(path for path, tree in sources() if touches(tree)) == sorted(OTHERS)


def test_no_setting_is_named_elsewhere() -> None:
    """In words of a message, but not as a value that something could be read by."""
    found = [
        f"{path}:{node.lineno}: {node.value}"
        for path, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"DUEMARK_\w+", node.value)
        and not TO_DBT.fullmatch(node.value)
    ]
    assert found == []


def test_every_variable_is_well_made() -> None:
    variables = Settings.others()
    names = [*PLACES, *(one.name for one in variables)]
    assert len(set(names)) == len(names)
    attributes = {name: value.name for name, value in vars(Settings).items() if isinstance(value, Variable)}
    assert attributes == {name: f"DUEMARK_{name.upper()}" for name in attributes}
    assert all(one.meaning for one in variables)
    settings = Settings.from_env({})
    for attribute, name in attributes.items():
        (variable,) = [one for one in variables if one.name == name]
        assert getattr(settings, attribute) == variable.standard


def test_what_is_set_reaches_a_child_and_what_is_empty_is_not_set() -> None:
    settings = Settings.from_env({"DUEMARK_HOME": "/h", "DUEMARK_WARM_BYTES": "7", "DUEMARK_PLUGINS": ""})
    assert (settings.warm_bytes, settings.plugins) == (7, ())
    assert Settings.from_env(settings.as_env()) == settings
    assert "DUEMARK_PLUGINS" not in settings.as_env()
    assert settings.having(DUEMARK_WARM_BYTES="").warm_bytes == 4 << 20
    with pytest.raises(ValueError, match="DUEMARK_WARM is none of the variables"):
        settings.having(DUEMARK_WARM="7")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("DUEMARK_KEEP_RUNS", "7d", "7d is too short to keep runs for"),
        ("DUEMARK_WARM_BYTES", "4 MiB", "DUEMARK_WARM_BYTES is '4 MiB'; a whole number from 0 on is wanted"),
        ("DUEMARK_LOADED_FILES", "burn", "DUEMARK_LOADED_FILES is 'burn'"),
        ("DUEMARK_REJECTED_KEPT", "-1", "DUEMARK_REJECTED_KEPT is '-1'; a whole number from 0 on is wanted"),
        ("DUEMARK_DEPLOY_PATIENCE", "1m", "DUEMARK_DEPLOY_PATIENCE is no number of seconds: '1m'"),
        ("DUEMARK_ANALYST_IDLE_TIMEOUT", "soon", "DUEMARK_ANALYST_IDLE_TIMEOUT is no duration: 'soon'"),
        ("DUEMARK_DEADMAN_URL", "x", "DUEMARK_DEADMAN_URL is no address: 'x'"),
        ("DUEMARK_WATCH_TICK", "1", "DUEMARK_WATCH_TICK='1' is no duration"),
        ("DUEMARK_WATCH_EXPECT", "a", "DUEMARK_WATCH_EXPECT: 'a' is no sensor or schedule"),
    ],
)
def test_a_wrong_value_fails_only_who_asks_for_it(name: str, value: str, words: str) -> None:
    settings = Settings.from_env({name: value})
    with pytest.raises(DuemarkError, match=re.escape(words)):
        getattr(settings, name.removeprefix("DUEMARK_").lower())
