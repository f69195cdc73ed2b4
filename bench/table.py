"""What the bench says: rows, as a table on the terminal and as a page."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Literal

import psutil
from rich.table import Table

Unit = Literal["s", "MB", "KB", "cells", "connections", "rows"]
TITLES = ("what", "ours", "yardstick", "ratio", "goal", "met")


@dataclass(frozen=True)
class Row:
    """One measurement: ours against a yardstick, a fixed goal, or both.

    `goal` limits the ratio of ours to the yardstick (`limits="ratio"`) or ours itself; None: for information.
    """

    what: str
    ours: float
    unit: Unit = "s"
    yardstick: float | None = None
    yardstick_is: str = ""
    goal: float | None = None
    limits: Literal["ratio", "value"] = "ratio"

    @property
    def ratio(self) -> float | None:
        return None if self.yardstick is None else self.ours / self.yardstick

    @property
    def is_met(self) -> bool | None:
        measured = self.ratio if self.limits == "ratio" else self.ours
        return None if self.goal is None or measured is None else measured <= self.goal

    def cells(self) -> tuple[str, str, str, str, str, str]:
        yardstick = (
            "" if self.yardstick is None else f"{_shown(self.yardstick, self.unit)}, {self.yardstick_is}"
        )
        goal = ""
        if self.goal is not None:
            goal = f"≤ {self.goal:g}×" if self.limits == "ratio" else f"≤ {self.goal:g} {self.unit}"
        return (
            self.what,
            _shown(self.ours, self.unit),
            yardstick,
            "" if self.ratio is None else f"{self.ratio:.2f}×",
            goal,
            {True: "yes", False: "no", None: ""}[self.is_met],
        )


def _shown(value: float, unit: Unit) -> str:
    if unit in {"MB", "KB"}:
        return f"{value:,.0f} {unit}"
    if unit in {"cells", "connections", "rows"}:
        return f"{value:,.0f}"
    return f"{value:.3f} s" if value < 1 else f"{value:.2f} s"


def table(rows: Sequence[Row]) -> Table:
    result = Table(title="Duemark bench", title_justify="left")
    for title in TITLES:
        result.add_column(title, justify="right" if title in {"ours", "ratio", "goal"} else "left")
    for row in rows:
        colour = {True: "green", False: "red", None: None}[row.is_met]
        *cells, met = row.cells()
        result.add_row(*cells, f"[{colour}]{met}[/]" if colour else met)
    return result


def section(rows: Sequence[Row], server_version: str) -> str:
    """The rows of one bench as Markdown, with what they were measured on."""
    memory = psutil.virtual_memory().total / 2**30
    versions = ", ".join(
        f"{name} {version(name)}" for name in ("dbt-core", "dbt-postgres", "pyarrow", "pandas", "psycopg")
    )
    machine = (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores, {memory:.0f} GB of memory, {platform.system()} on"
        f" {platform.machine()}, Python {platform.python_version()}, PostgreSQL {server_version}, {versions}."
    )
    lines = [
        "| " + " | ".join(TITLES) + " |",
        "|---|--:|---|--:|--:|---|",
        *("| " + " | ".join(row.cells()) + " |" for row in rows),
        "",
        machine,
    ]
    return "\n".join(lines)


def sections(page: str) -> dict[str, str]:
    """What `whole` put together, by bench."""
    parts = (part.partition("\n") for part in page.split("\n## ")[1:])
    return {name.strip(): text.strip() for name, _, text in parts}


def whole(parts: Mapping[str, str]) -> str:
    """The sections as one page."""
    head = [
        "# Results of the bench",
        "",
        "Written by `make bench`. Both sides of a ratio were measured in the same run, on the same server with its",
        "default settings and without autovacuum; of several runs of each the best stands.",
    ]
    body = [f"\n## {name}\n\n{text}" for name, text in parts.items()]
    return "\n".join([*head, *body, ""])
