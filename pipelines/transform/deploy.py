"""Deploy: migrations, then all DDL of the dbt project, when the project is not the one that was deployed."""

from __future__ import annotations

from pipelines.logs import get_logger
from pipelines.transform.project import Project, fingerprint
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

log = get_logger(__name__)


def is_deployed(settings: Settings) -> bool:
    """Whether the tables are those of the dbt project as it is now. Expects the migrations to have been run."""
    with connect(settings, "transform") as connection:
        row = connection.execute("select deployed_project from control.tick").fetchone()
    return row is not None and row[0] == fingerprint(settings)


def deploy(project: Project, *, force: bool = False) -> bool:
    """Make tables, views and functions as the dbt project says; the next tick rebuilds the marts.

    False when the project is deployed already. Expects the migrations to have been run.
    """
    wanted = fingerprint(project.settings)
    with connect(project.settings, "transform", autocommit=True) as connection:
        row = connection.execute("select deployed_project from control.tick").fetchone()
        if not force and row is not None and row[0] == wanted:
            return False
        # An empty window: the tables are made, and stay empty until the rebuild that follows. as_of stays as far as it
        # was: a tick must not step back unasked because the project changed.
        connection.execute(
            "update control.tick set low = 0, high = 0, as_of = greatest(as_of, published_as_of),"
            " previous_as_of = greatest(as_of, published_as_of), published_high = 0, published_as_of = '-infinity',"
            " needs_rebuild = true, deployed_project = null"
        )
        project.run("run", "--selector", "deploy", "--full-refresh")
        connection.execute("update control.tick set deployed_project = %s", [wanted])
    log.info("deployed", project=wanted[:12])
    return True
