"""The newest values of each member of a KPI are found by an index."""

from pipelines.warehouse.migrations import run

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    run("""
set local role transform;
create index period_value_member on kpi.period_value (kpi_id, grain, dimension_key, period_start);
reset role;
""")
