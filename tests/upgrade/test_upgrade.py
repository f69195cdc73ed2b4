"""Homes of earlier versions, as tests/upgrade/dumps has them, are upgraded: the marts are what they were."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from pipelines.kpi import copies
from pipelines.landing.ingest import ingest
from pipelines.transform.deploy import deploy
from pipelines.transform.project import Project
from pipelines.transform.tick import tick
from pipelines.warehouse.migrate import migrate
from pipelines.warehouse.settings import ROOT
from sensors.incidents.judge import look
from tests.transform.support import held, waiting_backend
from tests.upgrade.differences import expected, of_facts
from tests.upgrade.support import DUMPED, Dump, Home, Tables, loaded, rows_of

# What the second database has that it had not when the dump was made.
LATER = """
insert into expenses values (90001, 'search', 'brand', 12.50, '2026-04-01', '2026-04-02T00:00Z');
update subscriptions set amount = amount + 2, updated_at = '2026-04-02T00:00Z' where id % 5 = 1;
delete from accounts where id = 7;
"""


@dataclass(frozen=True)
class Upgraded:
    """A home before and after."""

    home: Home
    project: Project
    marts: Tables
    ops: Tables
    """As they were in the dump."""


@pytest.fixture(scope="module", params=DUMPED, ids=lambda dump: dump.revision)
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
    assert [name for name, rows in upgraded.marts.items() if not rows] == []
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
    assert standing(found) == standing(upgraded.ops)
    assert len(found["notice"]) == len(upgraded.ops["notice"])


def standing(ops: Tables) -> dict[tuple[str, str, str], tuple[int, str | None]]:
    """Open incidents: number, and who took it on."""
    return {
        (row["kind"], row["subject"], row["occurrence"]): (row["incident_id"], row["acknowledged_by"])
        for row in ops["incident"]
        if row["resolved_at"] is None
    }


def assert_goes_on(home: Home, project: Project) -> None:
    """What lands later is loaded, each file once, and the marts grow to what a rebuild makes of them."""
    settings = home.settings
    assert ingest(settings).files == (), "all that is there was loaded before"
    shutil.copytree(Path(settings.landing).with_name("next"), settings.landing, dirs_exist_ok=True)
    assert {file.status for file in ingest(settings).files} == {"loaded"}
    with psycopg.connect(home.business_url) as connection:
        connection.execute(LATER.encode())
    copies.refresh_now(settings, compare=True)
    assert not tick(project, home.dump.next_as_of).is_rebuild
    grown = of_facts(home.tables("marts"))
    tick(project, home.dump.next_as_of, rebuild=True)
    assert_same(home.tables("marts"), grown)


def test_it_goes_on_with_new_input_as_a_rebuild_would(upgraded: Upgraded) -> None:
    assert_goes_on(upgraded.home, upgraded.project)


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
