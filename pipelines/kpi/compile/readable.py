"""The SQL of generated models for people: rendered without dbt or a database, and formatted."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import jinja2
import sqlglot

from pipelines.errors import DuemarkError

MACROS = ("macros/kpi", "macros/kpis")
# What is no Jinja but dbt's own; no model calls it.
DBT_ONLY = "{% materialization"


class _Named(dict[str, str]):
    """Parameters of the engine as they are told to people: by their name."""

    def __missing__(self, name: str) -> str:
        return f"%({name})s"


def readable(project: Path, texts: Mapping[str, str]) -> dict[str, str]:
    """Formatted SQL of models, by name, from their texts; `project` is the dbt project with the macros.

    A parameter that the engine gives for what a tick is about stands as `%(name)s`. Raises DuemarkError where a macro
    asks for what only dbt has.
    """
    files = [path for folder in MACROS for path in sorted((project / folder).rglob("*.sql"))]
    macros = "".join(text for path in files if DBT_ONLY not in (text := path.read_text("utf-8")))
    environment = jinja2.Environment(
        extensions=["jinja2.ext.do"],
        # It makes SQL, in which nothing is escaped as in HTML.
        autoescape=jinja2.select_autoescape(default_for_string=False),
    )
    given = {
        "config": lambda **_: "",
        "ref": lambda name: f"{_schema(name)}.{name}",
        "source": "{}.{}".format,
    }
    found = {}
    for name, text in texts.items():
        try:
            query = environment.from_string(macros + text).render(given)
            found[name] = sqlglot.transpile(
                query % _Named(states="kpi", once="offset 0"), read="postgres", write="postgres", pretty=True
            )[0]
        except (jinja2.TemplateError, sqlglot.ParseError) as error:
            raise DuemarkError(
                f"{name} can only be compiled by dbt: {error}",
                "dbt's own text of it is in DUEMARK_HOME/target/compiled after a tick.",
            ) from error
    return found


def _schema(model: str) -> str:
    return "kpi" if model.startswith("kpi_state_") else "marts"
