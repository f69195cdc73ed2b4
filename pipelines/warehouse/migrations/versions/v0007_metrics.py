"""Metric logs: being built."""

from pipelines.warehouse.migrations import run

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    run("select 1")
