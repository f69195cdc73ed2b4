"""The self-proof as a check of the values, with the others once an hour."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg

from pipelines.kpi.proof import Proof, prove
from pipelines.orchestration.failures import explained
from pipelines.orchestration.tables import markdown_table
from pipelines.warehouse.settings import Settings

VALUES = dg.AssetKey(["marts", "kpi_value"])
PROOF = "proof"


def proof_checks() -> dg.AssetChecksDefinition:
    """The check `proof` of the values, in the op `prove_kpis`; its result is kept in `kpi.proof` too."""
    spec = dg.AssetCheckSpec(
        PROOF,
        asset=VALUES,
        description="Values of a random sample of periods are what their sources' rows say, computed again.",
    )

    @dg.multi_asset_check(name="prove_kpis", specs=[spec])
    def _prove_kpis(settings: dg.ResourceParam[Settings]) -> Iterator[dg.AssetCheckResult]:
        with explained():
            proof = prove(settings)
        yield dg.AssetCheckResult(
            asset_key=VALUES,
            check_name=PROOF,
            passed=not proof.wrong_count,
            severity=dg.AssetCheckSeverity.ERROR,
            description=_said(proof),
            metadata={
                "cells": sum(proof.cells.values()),
                "wrong": proof.wrong_count,
                "by KPI": dg.MetadataValue.md(markdown_table(["KPI", "cells", "wrong"], _by_kpi(proof))),
                "cells that are wrong": dg.MetadataValue.md(
                    markdown_table(
                        ["KPI", "grain", "period", "members", "stands", "from its sources"],
                        [tuple(vars(one).values()) for one in proof.wrong],
                    )
                ),
                "not proved": dg.MetadataValue.md(
                    markdown_table(["model", "because"], list(proof.skipped.items()))
                ),
            },
        )

    return _prove_kpis


def _said(proof: Proof) -> str:
    cells = sum(proof.cells.values())
    if proof.wrong_count:
        return f"{proof.wrong_count} of {cells} cells are not what their sources say."
    text = f"{cells} cells are what their sources say." if cells else "There was nothing to prove."
    count = len(proof.skipped)
    return text + (f" {count} model{'s' * (count != 1)} could not be proved." if count else "")


def _by_kpi(proof: Proof) -> list[tuple[str, int, int]]:
    """Those that are wrong first."""
    rows = [(kpi_id, cells, proof.wrong_by_kpi.get(kpi_id, 0)) for kpi_id, cells in proof.cells.items()]
    return sorted(rows, key=lambda row: (-row[2], row[0]))
