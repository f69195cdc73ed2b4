"""The SQL of generated models for people: rendered without dbt or a database, and formatted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import sqlglot

from pipelines.errors import DuemarkError
from pipelines.kpi.statements import statements_of

MACROS = ("macros/kpi", "macros/kpis")
# What is no Jinja but dbt's own; no model calls it.
DBT_ONLY = "{% materialization"


def rendered(project: Path, texts: Mapping[str, str]) -> dict[str, str]:
    """Templates that call the project's macros, by name, as SQL with the engine's parameters. Raises DuemarkError."""
    files = [path for folder in MACROS for path in sorted((project / folder).rglob("*.sql"))]
    macros = "".join(text for path in files if DBT_ONLY not in (text := path.read_text("utf-8")))
    environment = jinja2.Environment(
        extensions=["jinja2.ext.do"],
        # It makes SQL, in which nothing is escaped as in HTML.
        autoescape=jinja2.select_autoescape(default_for_string=False),
    )
    given: dict[str, Any] = {
        "config": lambda **_: "",
        "ref": lambda name: f"{_schema(name)}.{name}",
        "source": "{}.{}".format,
    }
    # Read once, for all of the texts.
    module = environment.from_string(macros).make_module(given)
    known = given | {name: macro for name, macro in vars(module).items() if callable(macro)}
    found = {}
    for name, text in texts.items():
        try:
            found[name] = environment.from_string(text).render(known)
        except jinja2.TemplateError as error:
            raise _only_by_dbt(name, error) from error
    return found


def readable(project: Path, texts: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Formatted statements of models, by name, from their texts; `project` is the dbt project with the macros.

    A parameter that the engine gives for what a tick is about stands as `%(name)s`. Raises DuemarkError where a macro
    asks for what only dbt has.
    """
    found: dict[str, dict[str, str]] = {}
    for name, query in rendered(project, texts).items():
        try:
            found[name] = {
                each: sqlglot.transpile(statement, read="postgres", write="postgres", pretty=True)[0]
                for each, statement in statements_of(query, {"states": "kpi", "once": "offset 0"}).items()
            }
        except sqlglot.ParseError as error:
            raise _only_by_dbt(name, error) from error
    return found


def _only_by_dbt(name: str, error: Exception) -> DuemarkError:
    return DuemarkError(
        f"{name} can only be compiled by dbt: {error}",
        "dbt's own text of it is in DUEMARK_HOME/target/compiled after a tick.",
    )


def _schema(model: str) -> str:
    return "kpi" if model.startswith("kpi_state_") else "marts"
