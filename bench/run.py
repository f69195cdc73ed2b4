"""`python -m bench.run`: one table of what things cost, against plain SQL and COPY measured in the same run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import click
import structlog
from rich.console import Console

from bench import board, bombs, build, catalog, forecast, graph, incidents, ingest, kpi, logs, tick, visible
from bench.scale import FULL, QUICK, Scale
from bench.table import Row, section, sections, table, whole
from bench.warehouse import Workshop, workshop
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

# Each makes what it needs in the workshop, and yields rows as it has them.
BENCHES: dict[str, Callable[[Workshop, Scale], Iterator[Row]]] = {
    "ingest": ingest.rows,
    "bombs": bombs.rows,
    "build": build.rows,
    "tick": tick.rows,
    "graph": graph.rows,
    "catalog": catalog.rows,
    "incidents": incidents.rows,
    "visible": visible.rows,
    "logs": logs.rows,
    "kpi": kpi.rows,
    "forecast": forecast.rows,
    "board": board.rows,
}
RESULTS = Path(__file__).with_name("RESULTS.md")


def run(
    scale: Scale, names: Sequence[str] = (), tell: Callable[[str], None] = lambda _: None
) -> tuple[dict[str, list[Row]], str]:
    """Measure; return the rows of each bench and the version of the server."""
    found: dict[str, list[Row]] = {}
    with workshop() as shop:
        with connect(Settings.from_env({"DUEMARK_HOME": str(shop.home)}), database="postgres") as connection:
            server_version = connection.info.parameter_status("server_version") or ""
        for name, rows in BENCHES.items():
            if names and name not in names:
                continue
            tell(f"measuring {name}")
            found[name] = []
            for row in rows(shop, scale):
                found[name].append(row)
                tell("  " + " · ".join(cell for cell in row.cells() if cell))
            shop.drop_banks()
    return found, server_version


@click.command(help=__doc__)
@click.option(
    "--quick", is_flag=True, help="A smoke test in small: its times mean nothing, and are not kept."
)
@click.option(
    "--only", multiple=True, type=click.Choice(list(BENCHES)), help="Some of it; RESULTS.md keeps the rest."
)
def main(*, quick: bool, only: tuple[str, ...]) -> None:
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    progress = Console(stderr=True)
    found, server_version = run(
        QUICK if quick else FULL, only, lambda line: progress.print(line, style="dim")
    )
    rows = [row for part in found.values() for row in part]
    Console().print(table(rows))
    if not quick:
        kept = sections(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
        kept |= {name: section(part, server_version) for name, part in found.items()}
        page = whole({name: kept[name] for name in BENCHES if name in kept})
        RESULTS.write_text(page, encoding="utf-8")
        progress.print(f"written: bench/{RESULTS.name}", style="dim")
    if any(row.is_met is False for row in rows) and not quick:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
