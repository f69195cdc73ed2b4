"""Alembic migrations of the schemas raw, catalog, control and ops, and of the roles."""

from alembic import op


def run(statements: str) -> None:
    """Execute a script of SQL statements as it stands (no parameters, so that % stays %)."""
    connection = op.get_bind().connection.driver_connection
    if connection is not None:
        connection.execute(statements)
