"""Deploy: all DDL of the dbt project, when the project is not the one that was deployed.

The core project is made as a whole, and its marts are built again. Generated models are made one by one by the subject
that generates them, which leaves all else as it is.
"""

from __future__ import annotations

from pipelines.logs import get_logger
from pipelines.subject import in_use
from pipelines.transform.project import Project, fingerprint
from pipelines.warehouse.connect import connect
from pipelines.warehouse.locks import Lock, held, held_up_by_no_analyst
from pipelines.warehouse.settings import Settings

log = get_logger(__name__)


def is_deployed(settings: Settings) -> bool:
    """Whether the tables are those of the dbt project as it is now. Expects the migrations to have been run."""
    with connect(settings, "transform") as connection:
        row = connection.execute("select deployed_project from control.tick").fetchone()
    return row is not None and row[0] == fingerprint(settings)


def deploy_alone(project: Project) -> bool:
    """`deploy` for who holds no lock: while no tick and no other deploy is under way."""
    with (
        connect(project.settings, "transform", autocommit=True) as connection,
        held(connection, Lock.TICK),
    ):
        return deploy(project)


def deploy(project: Project, *, force: bool = False) -> bool:
    """Make tables, views and functions as the dbt project says; the next tick rebuilds the marts.

    False when the project is deployed already. Expects the migrations to have been run.
    """
    for subject in in_use():
        if subject.ensure is not None:
            subject.ensure(project.settings)
    wanted = fingerprint(project.settings)
    with (
        connect(project.settings, "transform", autocommit=True) as connection,
        held_up_by_no_analyst(connection, project.settings.deploy_patience),
    ):
        row = connection.execute("select deployed_project from control.tick").fetchone()
        deployed = str(row[0]) if row is not None and row[0] else ""
        if not force and deployed == wanted:
            _deploy_generated(project, is_made_anew=False)
            return False
        if not force and deployed.partition("+")[0] == wanted.partition("+")[0]:
            _deploy_generated(project, is_made_anew=False)
            connection.execute("update control.tick set deployed_project = %s", [wanted])
            log.info("deployed what was generated", project=wanted[:12])
            return True
        # An empty window: the tables are made, and stay empty until the rebuild that follows. as_of stays as far as it
        # was: a tick must not step back unasked because the project changed.
        connection.execute(
            "update control.tick set low = 0, high = 0, as_of = greatest(as_of, published_as_of),"
            " previous_as_of = greatest(as_of, published_as_of), published_high = 0, published_as_of = '-infinity',"
            " needs_rebuild = true, deployed_project = null"
        )
        project.run("run", "--selector", "deploy", "--full-refresh")
        _deploy_generated(project, is_made_anew=True)
        connection.execute("update control.tick set deployed_project = %s", [wanted])
    log.info("deployed", project=wanted[:12])
    return True


def _deploy_generated(project: Project, *, is_made_anew: bool) -> None:
    # Before every tick: what could not be deployed is tried again.
    for generator in in_use().generators():
        generator.deploy(project, is_made_anew)
