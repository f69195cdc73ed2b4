"""Old code beside a newer database, and new code beside an older one: a word, and nothing is touched."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import dagster as dg
import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from click.testing import CliRunner
from dagster._core.test_utils import instance_for_test
from psycopg import sql

from pipelines.cli import main
from pipelines.errors import DuemarkError
from pipelines.warehouse import version
from pipelines.warehouse.connect import connect
from pipelines.warehouse.migrate import migrate
from pipelines.warehouse.settings import Settings
from sensors.definitions import defs as oncall
from sensors.ticks.arrivals import arrivals_sensor, tick_schedule
from sensors.ticks.report import report_sensor

# Every command that asks the warehouse; `sql` and `board` read marts and nothing else.
COMMANDS = [
    ["tick"], ["ingest"], ["deploy"], ["purge"], ["restate", "some-slo", "--from", "2026-01-01"], ["judge"],
    ["incidents"], ["ack", "1"], ["silence"], ["silence", "--slo", "a", "--for", "1", "--reason", "r"],
    ["watch", "--once"], ["demo"],
]  # fmt: skip


@pytest.fixture
def newer(settings: Settings) -> Settings:
    """A database that a version of tomorrow has migrated."""
    with connect(settings) as connection:
        connection.execute("update public.alembic_version set version_num = '9876'")
    # Whether it is newer is looked at now and then: another URL of the same database was not yet looked at.
    return replace(
        settings, database_url=f"{settings.database_url}&application_name={settings.home.parent.name}"
    )


def test_the_newest_migration_is_the_one_that_alembic_finds() -> None:
    config = Config()
    config.set_main_option("script_location", str(version.FOLDER.parent))
    script = ScriptDirectory.from_config(config)
    assert script.get_current_head() == version.known()[-1]
    assert sorted(each.revision for each in script.walk_revisions()) == version.known()


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_command_of_old_code_says_so(newer: Settings, arguments: list[str]) -> None:
    done = CliRunner().invoke(main, arguments, env=newer.as_env())
    assert done.exit_code == 2, done.output
    assert "The database was upgraded by a newer Duemark: its schema is 9876" in done.stderr
    assert "Use the newer version" in done.stderr
    assert "Traceback" not in done.output
    with connect(newer) as connection:
        assert connection.execute("select version_num from public.alembic_version").fetchall() == [("9876",)]


def test_status_of_old_code_says_so(newer: Settings) -> None:
    done = CliRunner().invoke(main, ["status"], env=newer.as_env())
    (line,) = [line for line in done.stdout.splitlines() if "migrations" in line]
    assert "newer than this version of Duemark" in line
    assert "duemark deploy" not in line


def test_sensors_of_old_code_rest_and_say_so(newer: Settings) -> None:
    # `purge` looks at Dagster's own database alone.
    others = [sensor for sensor in oncall.get_repository_def().sensor_defs if sensor.name != "purge"]
    sensors = [arrivals_sensor, report_sensor, *others]
    feed = Path(newer.landing) / "job_status"
    feed.mkdir()
    (feed / "waits.csv").write_text("application_id\n")
    found = {}
    with instance_for_test() as instance:
        for sensor in sensors:
            with dg.build_sensor_context(instance, resources={"settings": newer}) as context:
                found[sensor.name] = sensor.evaluate_tick(context).skip_message
        with dg.build_schedule_context(instance, resources={"settings": newer}) as scheduled:
            found["tick"] = tick_schedule.evaluate_tick(scheduled).skip_message
    assert {"arrivals", "tick", "report", "incidents", "delivery", "watch"} <= set(found)
    assert {
        name for name, said in found.items() if "upgraded by a newer Duemark" not in (said or "")
    } == set()


def test_new_code_beside_an_older_database_names_the_way_out(settings: Settings) -> None:
    with connect(settings) as connection:
        connection.execute("update public.alembic_version set version_num = '0004'")
        connection.execute("alter table ops.incident rename to as_it_was")
    done = CliRunner().invoke(main, ["incidents"], env=settings.as_env())
    assert done.exit_code == 2, done.output
    assert "The database is older than this Duemark: its schema is 0004" in done.stderr
    assert "Run `duemark deploy`." in done.stderr


def test_nothing_to_migrate_is_seen_without_alembic(settings: Settings, tmp_path: Path) -> None:
    import subprocess
    import sys

    program = (
        "import sys\nfrom pipelines.warehouse.migrate import migrate\n"
        "from pipelines.warehouse.settings import Settings\nmigrate(Settings.from_env())\n"
        "print(sorted({'alembic', 'sqlalchemy'} & set(sys.modules)))"
    )
    with psycopg.connect(str(settings.database_url), autocommit=True) as connection:
        row = connection.execute(
            "select count(*) from pg_database where datname = %s", [settings.dagster_database]
        )
        assert row.fetchone() == (1,)
    done = subprocess.run(
        [sys.executable, "-c", program], env={**settings.as_env(), "PATH": ""}, capture_output=True, text=True,
        check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("[]\n", "")
    migrate(settings)


def test_a_user_who_may_not_migrate_is_told_what_is_missing(settings: Settings) -> None:
    name = f"poor_{os.getpid()}"
    with psycopg.connect(str(settings.database_url), autocommit=True) as owner:
        owner.execute(sql.SQL("create role {} login password 'word'").format(sql.Identifier(name)))
        owner.execute(sql.SQL("grant create on schema public to {}").format(sql.Identifier(name)))
        owner.execute(
            sql.SQL("grant connect on database {} to {}").format(
                sql.Identifier(settings.dagster_database), sql.Identifier(name)
            )
        )
        owner.execute("drop table public.alembic_version")
        try:
            parts = urlsplit(str(settings.database_url))
            place = parts.netloc.rpartition("@")[2]
            url = urlunsplit(parts._replace(netloc=f"{name}:word@{place}"))
            with pytest.raises(DuemarkError, match="The migrations were refused") as caught:
                migrate(replace(settings, database_url=url))
            assert "needs CREATE on the database and CREATEROLE" in caught.value.hint
        finally:
            owner.execute(sql.SQL("drop owned by {}").format(sql.Identifier(name)))
            owner.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))
