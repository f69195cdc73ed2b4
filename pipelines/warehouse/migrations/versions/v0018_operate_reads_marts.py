"""`operate` reads marts by a right of its own: that of a member of `analyst` is the server's, and no backup holds it."""

from pipelines.warehouse.migrations import run

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    run("""
set local role transform;
alter default privileges in schema marts grant select on tables to operate;
grant select on all tables in schema marts to operate;
reset role;
""")
