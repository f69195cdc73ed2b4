"""Copies: being built."""

from pipelines.warehouse.migrations import run

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    run("select 1")
