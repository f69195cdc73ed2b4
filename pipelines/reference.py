"""The reference part of `docs/marts.md`, written from what dbt's yml says of each mart.

`python -m pipelines.reference` writes it anew between its two marks; `--check` only tells whether it would.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pipelines.subjects  # noqa: F401 # their models are in the manifest
from pipelines.errors import DuemarkError
from pipelines.transform.project import manifest_json
from pipelines.warehouse.settings import ROOT, Settings

PAGE = ROOT / "docs" / "marts.md"
BEGIN = "<!-- Made by `python -m pipelines.reference`; edit the yml beside the mart. -->"
END = "<!-- The end of what is made. -->"

FORMS = {"scoped": "table", "view": "view", "table_function": "function", "table": "table"}
TYPES = {"timestamp with time zone": "timestamptz"}

# What a description begins with, enough to tell and fit for a line; and a link of Markdown.
BEGINNING = re.compile(r".{20,}?(?=[.;:,](?:\s|$))")
LINK = re.compile(r"\[([^]]+)\]\([^)]+\)")


def reference(manifest: Mapping[str, Any]) -> str:
    """Every public mart of a manifest as Markdown: what it is, its key or its arguments, its columns."""
    return "\n\n".join("\n".join(_mart(model)) for model in _marts(manifest))


def overview(manifest: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Every public mart in a line: its subject, its name, and what it is in a few words."""
    found = []
    for model in _marts(manifest):
        text = LINK.sub(r"\1", _line(model["description"]))
        beginning = BEGINNING.match(text)
        found.append((_subject(model), str(model["name"]), beginning[0] if beginning else text))
    return found


def _marts(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    models = [
        node
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model" and node["access"] == "public"
    ]
    return sorted(models, key=lambda model: (_subject(model) != "slo", _subject(model), model["name"]))


def renewed(page: str, manifest: Mapping[str, Any]) -> str:
    """`page` with its made part made anew. Raises DuemarkError where the marks are missing."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise DuemarkError(f"The page has lost a mark: {BEGIN} or {END}", "Put both back, each on its line.")
    return f"{before}{BEGIN}\n\n{reference(manifest)}\n\n{END}{after}"


def _subject(model: Mapping[str, Any]) -> str:
    return str(model["fqn"][2])


def _mart(model: Mapping[str, Any]) -> Iterator[str]:
    form = FORMS[model["config"]["materialized"]]
    yield f"### {model['name']}"
    yield ""
    key: list[str] = next(
        (each["columns"] for each in model["constraints"] if each["type"] == "primary_key"), []
    )
    known = {"table": "A table", "view": "A view", "function": "A function"}[form]
    yield f"{known}. {_line(model['description'])}" + (f" Primary key: {_names(key)}." if key else "")
    yield ""
    if form == "function":
        yield "| argument | type | default |"
        yield "|---|---|---|"
        for argument in model["config"]["meta"]["arguments"]:
            declaration, _, default = argument.partition(" default ")
            name, _, kind = declaration.partition(" ")
            yield f"| `{_cell(name)}` | {kind} | {default and f'`{default}`'} |"
        yield ""
    yield "| column | type | unit | meaning |"
    yield "|---|---|---|---|"
    for column in model["columns"].values():
        yield _column(column)


def _column(column: Mapping[str, Any]) -> str:
    kind = TYPES.get(column["data_type"], column["data_type"])
    is_never_null = any(each["type"] == "not_null" for each in column["constraints"])
    return (
        f"| `{column['name']}` | {kind}{', not null' if is_never_null else ''} | {_unit(column['name'], kind)}"
        f" | {_cell(_line(column['description']))} |"
    )


def _unit(name: str, kind: str) -> str:
    if kind == "timestamptz":
        return "instant"
    if kind == "date":
        return "local date"
    if kind == "interval":
        return "duration"
    if name.endswith("_bytes"):
        return "bytes"
    if name.endswith("_count") or name == "revisions":
        return "count"
    return ""


def _names(columns: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in columns)


def _line(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main(arguments: list[str]) -> int:
    """Write the page anew; with `--check` only say (exit code 1) that it would change."""
    present = PAGE.read_text("utf-8")
    page = renewed(present, manifest_json(Settings.from_env()))
    if page == present:
        return 0
    if "--check" in arguments:
        sys.stderr.write("docs/marts.md is not as the yml of the marts: python -m pipelines.reference\n")
        return 1
    PAGE.write_text(page, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
