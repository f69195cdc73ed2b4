"""dagster.yaml: written, private, and left alone by whom it is changed."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import quote

from ruamel.yaml import YAML
from sqlalchemy.engine import make_url

from pipelines.orchestration.instance import (
    FIRST_LINE,
    instance_env,
    load_instance,
    storage_url,
    write_instance,
)
from pipelines.orchestration.storage import KEPT
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings


def test_a_socket_and_a_password_reach_the_driver(nowhere: Callable[..., Settings]) -> None:
    embedded = make_url(storage_url(nowhere(database_url=None)))
    assert embedded.drivername == "postgresql+psycopg2"
    assert embedded.database == "dagster"
    # in the home, or in a short folder where the home's name is too long for a socket
    assert str(embedded.query["host"]).startswith("/")
    password = "p%@/:'\"ß"
    given = make_url(
        storage_url(
            nowhere(database_url=f"postgres://ann:{quote(password, safe='')}@db:5433/x?sslmode=require")
        )
    )
    assert (given.password, given.host, given.port, given.database) == (password, "db", 5433, "dagster")
    assert given.query["sslmode"] == "require"


def test_only_its_owner_reads_the_file(nowhere: Callable[..., Settings]) -> None:
    settings = nowhere(database_url="postgresql://ann:secret@db/x")
    path = write_instance(settings) / "dagster.yaml"
    assert path.stat().st_mode & 0o777 == 0o600
    config = YAML(typ="safe").load(path.read_text("utf-8"))
    assert (
        config["storage"]["custom"]["config"]["postgres_url"] == "postgresql+psycopg2://ann:secret@db/dagster"
    )
    assert config["telemetry"] == {"enabled": False}
    assert config["concurrency"]["pools"] == {"default_limit": 1, "granularity": "run"}


def test_changes_of_a_person_are_kept(nowhere: Callable[..., Settings]) -> None:
    settings = nowhere()
    path = write_instance(settings) / "dagster.yaml"
    written = path.read_text("utf-8")
    path.write_text(written.replace("max_concurrent_runs: 4", "max_concurrent_runs: 9"), "utf-8")
    write_instance(settings)
    assert path.read_text("utf-8") == written
    own = written.replace(FIRST_LINE + "\n", "").replace("max_concurrent_runs: 4", "max_concurrent_runs: 9")
    path.write_text(own, "utf-8")
    write_instance(settings)
    assert path.read_text("utf-8") == own


def test_the_instance_keeps_its_connections(settings: Settings) -> None:
    def backends() -> set[int]:
        with connect(settings) as connection:
            rows = connection.execute(
                "select pid from pg_stat_activity where datname = %s", [settings.dagster_database]
            ).fetchall()
        return {int(str(pid)) for (pid,) in rows}

    with load_instance(settings) as instance:
        assert instance.is_persistent
        instance.get_runs(limit=1)
        at_first = backends()
        for _ in range(5):
            instance.get_runs(limit=1)
        assert backends() == at_first != set()
        assert instance.get_concurrency_config().pool_config.default_pool_limit == 1


def test_instances_of_a_process_share_their_connections(settings: Settings) -> None:
    """One is made for every evaluation, and nobody knows when its garbage is collected."""
    query = "select pid from pg_stat_activity where datname = %s and backend_type = 'client backend'"
    made = []
    with connect(settings, autocommit=True) as connection:
        before = connection.execute(query, [settings.dagster_database]).fetchall()
        for _ in range(12):
            instance = load_instance(settings)
            # As the web interface does with its own.
            instance.optimize_for_webserver(statement_timeout=1000, pool_recycle=60, max_overflow=20)
            instance.get_runs(limit=1)
            instance.all_instigator_state()
            instance.get_asset_keys()
            made.append(instance)
        after = connection.execute(query, [settings.dagster_database]).fetchall()
        assert len(after) <= max(len(before), KEPT)
        # A server that was started again has closed them all: nobody is to notice.
        connection.execute(
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity where datname = %s",
            [settings.dagster_database],
        )
    for instance in made:
        assert instance.get_runs(limit=1) is not None
        instance.dispose()


def test_children_are_told_where_everything_is(nowhere: Callable[..., Settings]) -> None:
    settings = nowhere()
    env = instance_env(settings)
    assert env["DAGSTER_HOME"] == str(settings.home / "dagster")
    assert Settings.from_env(env) == settings
