"""MetricFlow on a database of ours: it asks for a client of its own protocol."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metricflow.data_table.mf_table import MetricFlowDataTable
from metricflow.engine.metricflow_engine import MetricFlowEngine, MetricFlowQueryRequest
from metricflow.protocols.sql_client import SqlEngine
from metricflow.sql.render.postgres import PostgresSQLSqlPlanRenderer
from metricflow_semantic_interfaces.parsing.dir_to_model import (
    parse_yaml_files_to_validation_ready_semantic_manifest,
)
from metricflow_semantic_interfaces.parsing.objects import YamlConfigFile
from metricflow_semantics.model.semantic_manifest_lookup import SemanticManifestLookup
from metricflow_semantics.sql.sql_bind_parameters import SqlBindParameterSet

from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

# It writes every value into its SQL.
NOTHING = SqlBindParameterSet()


class Client:
    """MetricFlow's protocol `SqlClient`, over our connections."""

    sql_engine_type = SqlEngine.POSTGRES
    sql_plan_renderer = PostgresSQLSqlPlanRenderer()

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def query(self, stmt: str, sql_bind_parameter_set: SqlBindParameterSet = NOTHING) -> MetricFlowDataTable:
        with connect(self.settings) as connection:
            cursor: Any = connection.execute(stmt.encode())
            names = [column.name for column in cursor.description or ()]
            return MetricFlowDataTable.create_from_rows(names, cursor.fetchall())

    def execute(self, stmt: str, sql_bind_parameter_set: SqlBindParameterSet = NOTHING) -> None:
        self.query(stmt)

    def dry_run(self, stmt: str, sql_bind_parameter_set: SqlBindParameterSet = NOTHING) -> None:
        self.query(f"explain {stmt}")

    def close(self) -> None:
        """Nothing stays open."""

    def render_bind_parameter_key(self, bind_parameter_key: str) -> str:
        return f"%({bind_parameter_key})s"


class Metrics:
    """Metrics of a manifest, ready to be asked for."""

    def __init__(self, settings: Settings, manifest: Path) -> None:
        file = YamlConfigFile(filepath=str(manifest), contents=manifest.read_text("utf-8"))
        parsed = parse_yaml_files_to_validation_ready_semantic_manifest([file])
        lookup = SemanticManifestLookup(parsed.semantic_manifest)
        self.engine = MetricFlowEngine(lookup, Client(settings))

    def rows(self, metric: str, group_by: Sequence[str]) -> list[tuple[Any, ...]]:
        """Rows of a metric, with columns in the order of `group_by`, then its value."""
        request = MetricFlowQueryRequest.create(metric_names=[metric], group_by_names=list(group_by))
        table = self.engine.query(request).result_df
        assert table is not None
        order = [table.column_names.index(name) for name in (*group_by, metric)]
        return [tuple(row[place] for place in order) for row in table.rows]
