"""Homes of earlier versions, as tests/upgrade/dumps has them, are upgraded: the marts are what they were."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from pipelines.copies.refresh import refresh_now
from pipelines.landing.ingest import ingest
from pipelines.transform.deploy import deploy
from pipelines.transform.project import Project
from pipelines.transform.tick import tick
from pipelines.warehouse import embedded
from pipelines.warehouse.connect import with_database
from pipelines.warehouse.migrate import migrate
from pipelines.warehouse.settings import ROOT, Settings
from sensors.oncall.incidents.judge import look
from tests.docs.conftest import blocks, page
from tests.transform.support import held, waiting_backend
from tests.upgrade.differences import expected, given_up_at, of_facts
from tests.upgrade.support import (
    DUMPED,
    LONE_OPENS_NOTHING,
    Dump,
    Home,
    Tables,
    loaded,
    loaded_into,
    rows_of,
)

# What the second database has that it had not when the dump was made.
LATER = """
insert into expenses values (90001, 'search', 'brand', 12.50, '2026-04-01', '2026-04-02T00:00Z');
update subscriptions set amount = amount + 2, updated_at = '2026-04-02T00:00Z' where id % 5 = 1;
delete from accounts where id = 7;
"""


OPERATIONS = page("docs/operations.md")


def chapter(name: str) -> str:
    """A chapter of docs/operations.md, with what stands below it."""
    return re.split(r"\n## ", OPERATIONS.partition(f"\n## {name}\n")[2])[0]


@dataclass(frozen=True)
class Upgraded:
    """A home before and after."""

    home: Home
    project: Project
    marts: Tables
    ops: Tables
    """As they were in the dump."""


# The oldest, which has the longest way, and the newest; those between in `make test-deep`.
OLDEST_AND_NEWEST = [
    one if one in {DUMPED[0], DUMPED[-1]} else pytest.param(one, marks=pytest.mark.deep, id=one.revision)
    for one in DUMPED
]


@pytest.fixture(scope="module", params=OLDEST_AND_NEWEST, ids=lambda dump: dump.revision)
def dump(request: pytest.FixtureRequest) -> Dump:
    found: Dump = request.param
    return found


@pytest.fixture(scope="module")
def upgraded(
    dump: Dump, server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Upgraded]:
    folder = tmp_path_factory.mktemp("upgraded")
    with loaded(dump, server_url, folder, f"{template}_dagster") as home:
        marts, ops = home.tables("marts"), home.tables("ops")
        migrate(home.settings)
        project = Project(home.settings)
        tick(project, dump.as_of)
        yield Upgraded(home, project, marts, ops)


def assert_upgraded(home: Home, before: Tables) -> None:
    """All marts of the dump are there, with the rows that they had."""
    assert_same(home.tables("marts"), expected(home.dump.revision, before))


def assert_same(found: Tables, wanted: Tables) -> None:
    """The same rows, in the columns that `wanted` has."""
    for mart, rows in wanted.items():
        columns = list(rows[0]) if rows else []
        assert rows_of(found[mart], columns) == rows_of(rows, columns), mart


def test_a_dump_has_rows_in_every_mart(upgraded: Upgraded) -> None:
    empty = {name for name, rows in upgraded.marts.items() if not rows}
    # What opens incidents may have nothing to say, and eight dates show no trend.
    assert {name for name in empty if not name.startswith("incident_")} <= {"job_duration_trend"}
    assert {"incident", "alert_outbox", "notice", "silence"} <= {
        name for name, rows in upgraded.ops.items() if rows
    }
    assert any(row["acknowledged_at"] for row in upgraded.ops["incident"])


def test_a_dump_can_be_loaded_by_any_client_into_an_old_server(dump: Dump) -> None:
    for name in ("warehouse", "business"):
        lines = dump.sql(name).splitlines()
        # Settings of the session stand before the first object.
        head = lines[: next(place for place, line in enumerate(lines) if line.startswith("CREATE "))]
        assert not [line for line in head if "transaction_timeout" in line]
        assert not [line for line in lines if line.startswith(("\\restrict", "\\unrestrict", "COPY "))]


def test_the_marts_are_those_of_the_dump(upgraded: Upgraded) -> None:
    assert_upgraded(upgraded.home, upgraded.marts)


def test_what_on_call_knows_is_kept(upgraded: Upgraded) -> None:
    found = upgraded.home.tables("ops")
    for table in ("incident", "alert_outbox", "notice", "silence"):
        columns = list(upgraded.ops[table][0])
        assert rows_of(found[table], columns) == rows_of(upgraded.ops[table], columns), table


def test_nobody_is_told_because_of_the_upgrade(upgraded: Upgraded) -> None:
    home = upgraded.home
    look(home.settings, home.dump.as_of)
    found = home.tables("ops")
    given_up = {
        (row["slo_id"], f"{row['business_date']} {row['slot']}")
        for row in upgraded.marts["slo_performance"]
        if home.dump.revision < "0019" and given_up_at(row, upgraded.marts) is not None
    }
    before = standing(upgraded.ops)
    stays = {key: one for key, one in before.items() if key[1:] not in given_up}
    assert standing(found) == stays
    # What ended was given up, and nobody was told.
    assert {
        row["resolution"]
        for row in found["incident"]
        if row["incident_id"] in {before[key][0] for key in before.keys() - stays}
    } <= {"missed"}
    assert len(found["notice"]) == len(upgraded.ops["notice"])


def standing(ops: Tables) -> dict[tuple[str, str, str], tuple[int, str | None]]:
    """Open incidents: number, and who took it on."""
    return {
        (row["kind"], row["subject"], row["occurrence"]): (row["incident_id"], row["acknowledged_by"])
        for row in ops["incident"]
        if row["resolved_at"] is None
    }


def test_a_backup_is_restored_as_the_page_says(tmp_path: Path) -> None:
    dump = DUMPED[-1]
    login, roles, *_ = blocks(chapter("A PostgreSQL of your own"), "sql")
    save, restore, *_ = blocks(chapter("Backup"), "sh")
    restore = restore.replace("tick --rebuild", f"tick --rebuild --as-of {dump.as_of.isoformat()}")
    databases = "".join(line for line in login.splitlines(keepends=True) if "create database" in line)
    with server(tmp_path / "server") as administrator:
        business = with_database(administrator, "business")
        url = as_login(administrator, "duemark:secret")
        execute(administrator, f"{login}{roles}create database business;\n")
        with loaded_into(dump, url, business, tmp_path, "dagster") as home:
            before = home.tables("marts")
            shell(save, tmp_path, home.settings)
            # A new server: the roles are there, and databases made as above.
            execute(administrator, f"drop database duemark;\ndrop database dagster;\n{databases}")
            shell(restore, tmp_path, home.settings)
            assert_upgraded(home, before)
            assert_goes_on(home, Project(home.settings))


def as_login(url: str, login: str) -> str:
    """The database `duemark` of a server, by a login."""
    return urlunsplit(urlsplit(url)._replace(netloc=f"{login}@", path="/duemark"))


def execute(server_url: str, statements: str) -> None:
    """Run the statements of a page, each by itself, as the server's administrator."""
    with psycopg.connect(with_database(server_url, "postgres"), autocommit=True) as connection:
        for statement in filter(None, re.split(r";\s*", statements)):
            connection.execute(statement.encode())


@contextmanager
def server(home: Path) -> Iterator[str]:
    """A new PostgreSQL server, empty."""
    try:
        yield embedded.start(home)
    finally:
        embedded.stop(home)


def shell(commands: str, folder: Path, settings: Settings) -> None:
    """Run commands of a page, with the clients of the embedded server."""
    path = [str(embedded.binaries()), str(Path(sys.executable).parent), os.environ["PATH"]]
    result = subprocess.run(
        ["sh", "-euc", commands],
        cwd=folder, env={**os.environ, **settings.as_env(), "PATH": ":".join(path), "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


def assert_goes_on(home: Home, project: Project) -> None:
    """What lands later is loaded, each file once, and the marts grow to what a rebuild makes of them."""
    settings = home.settings
    assert ingest(settings).files == (), "all that is there was loaded before"
    shutil.copytree(Path(settings.landing).with_name("next"), settings.landing, dirs_exist_ok=True)
    assert {file.status for file in ingest(settings).files} == {"loaded"}
    with psycopg.connect(home.business_url) as connection:
        connection.execute(LATER.encode())
    refresh_now(settings, compare=True)
    assert not tick(project, home.dump.next_as_of).is_rebuild
    grown = of_facts(home.tables("marts"))
    tick(project, home.dump.next_as_of, rebuild=True)
    assert_same(home.tables("marts"), grown)


def test_it_goes_on_with_new_input_as_a_rebuild_would(upgraded: Upgraded) -> None:
    assert_goes_on(upgraded.home, upgraded.project)


@pytest.mark.parametrize(
    "dump",
    [one for one in DUMPED if one.revision < LONE_OPENS_NOTHING],
    ids=lambda dump: dump.revision,
)
def test_what_a_lone_date_had_opened_closes(
    dump: Dump, server_url: str, template: str, tmp_path: Path
) -> None:
    with loaded(dump, server_url, tmp_path, f"{template}_dagster", keeps_starts=False) as home:
        before = home.tables("marts")
        migrate(home.settings)
        project = Project(home.settings)
        tick(project, dump.as_of)
        after, wanted = home.tables("marts"), expected(home.dump.revision, before)
        lone = {row["slo_id"]: row for row in after["slo_start"] if row["lone_dates"]}
        assert lone
        for mart in ("slo_performance", "slo_job_performance", "slo_job_run"):
            columns = list(wanted[mart][0])
            stays = [
                row
                for row in wanted[mart]
                if row["slo_id"] not in lone
                or row["business_date"] >= (lone[row["slo_id"]]["start_date"] or "9999-12-31")
            ]
            assert len(stays) < len(before[mart])
            assert rows_of(after[mart], columns) == rows_of(stays, columns), mart
        look(home.settings, dump.as_of)
        told = [key for key in standing(home.tables("ops")) if key[0] == "lone_date"]
        assert sorted(told) == sorted(
            ("lone_date", name, day) for name, row in lone.items() for day in row["lone_dates"]
        )
        promised = {(row["slo_id"], row["business_date"]) for row in after["slo_performance"]}
        for kind, subject, occurrence in standing(home.tables("ops")):
            if kind in {"overdue", "failed"} and subject in lone:
                assert (subject, occurrence.partition(" ")[0]) in promised
        assert_goes_on(home, project)


def test_an_upgrade_that_is_killed_is_done_again(
    dump: Dump, server_url: str, template: str, tmp_path: Path
) -> None:
    with loaded(dump, server_url, tmp_path, f"{template}_dagster") as home:
        before = home.tables("marts")
        if dump.revision != newest_revision():
            # A migration notes its number last, in its own transaction.
            kill(home, "public.alembic_version", "share", "deploy")
        kill(home, "marts.slo_performance", "access exclusive", "deploy")
        migrate(home.settings)
        project = Project(home.settings)
        assert deploy(project)
        kill(home, "marts.slo_performance", "access exclusive", "tick", "--as-of", dump.as_of.isoformat())
        tick(project, dump.as_of)
        assert_upgraded(home, before)


def kill(home: Home, relation: str, mode: str, *command: str) -> None:
    """Begin a command and kill it where it needs the relation."""
    with held(home.settings, relation, mode):
        child = home.run(*command)
        try:
            waiting_backend(home.settings, relation, child)
        finally:
            child.kill()
            child.wait()


def newest_revision() -> str:
    versions = ROOT / "pipelines" / "warehouse" / "migrations" / "versions"
    return max(path.stem.removeprefix("v").partition("_")[0] for path in versions.glob("v*.py"))
