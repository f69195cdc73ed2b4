"""Make the next dump of the upgrade test: a small home of today's code, with something in every mart.

    python -m tests.upgrade.make

Writes `dumps/NNNN`, NNNN being the newest migration, on a server of its own that is gone afterwards:

* `catalog/`: the catalog by which the marts were made;
* `warehouse.sql.gz`, `business.sql.gz`: both databases, as SQL that PostgreSQL 15 loads and any client can send;
* `files.tar.gz`: `landing/`, and in `next/` the landing folder as it is later;
* `about.json`: `as_of` of the marts, `next_as_of` for the files in `next/`.

The bank, its logs and its business come of a seed. What a clock gives (when a file was received) is of that day.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

from pipelines import logs
from pipelines.catalog.store import restate
from pipelines.copies.refresh import refresh_now
from pipelines.kpi.proof import prove
from pipelines.landing.ingest import ingest
from pipelines.simulator import simulate
from pipelines.simulator.business import business, fill
from pipelines.transform.project import Project
from pipelines.transform.tick import tick
from pipelines.warehouse import embedded
from pipelines.warehouse.connect import connect, with_database
from pipelines.warehouse.migrate import migrate
from pipelines.warehouse.settings import ROOT, Settings
from sensors.oncall.incidents import commands
from sensors.oncall.incidents.delivery import deliver
from sensors.oncall.incidents.judge import look
from tests.upgrade.support import DUMPS, LANDING, VARIABLES

SEED = 8
DAYS = 8
LAST = date(2026, 4, 1)
BUSINESS_DAYS = 40
FIRST_LOOK = datetime(2026, 3, 31, 3, tzinfo=UTC)
# After the files of the last day of a quarter; a summer's change of clocks in Europe lies before.
AS_OF = datetime(2026, 4, 1, 15, 30, tzinfo=UTC)

# What a simulated bank does not send before its last minute: refused records, jobs and applications that nobody knows,
# a time without an offset, a time twice, a status from a week ahead.
BY_HAND = """\
application_id,job_id,status_code,status_at,business_date,run_id,host_id
overdrafts,charge-overdrafts,STARTED,2026-03-30T05:00:00Z,2026-03-30,b1,h1
overdrafts,charge-overdrafts,START,yesterday,30.03.2026,b2,h1
overdrafts,,FAIL,2026-03-30T05:00:00Z,2026-03-30,b3,h1
overdrafts,refund-overdrafts,START,2026-03-30T05:00:00Z,2026-03-30,b4,h1
overdrafts,refund-overdrafts,FAIL,2026-03-30T05:10:00Z,2026-03-30,b4,h1
archive,pack,SUCCEED,2026-03-31T09:00:00Z,2026-03-31,b5,h1
markets,fetch-prices,START,2025-10-26T01:30:00,2025-10-26,b6,h1
cards,settle-payments,START,2026-04-09T02:00:00Z,2026-04-08,b7,h1
"""

# Roles are the server's, and so no part of a dump of a database.
ROLES = """\
do $$
declare wanted text;
begin
    foreach wanted in array array['ingest', 'transform', 'operate', 'analyst'] loop
        if not exists (select from pg_roles where rolname = wanted) then
            execute format('create role %I nologin', wanted);
        end if;
    end loop;
end $$;

"""
UNKNOWN = re.compile(
    r"^(\\(un)?restrict \w+|SET transaction_timeout = 0;|ALTER .* OWNER TO postgres;)\n", re.MULTILINE
)

CHANGES = """
update subscriptions set amount = amount + 1, updated_at = '2026-03-31T04:00Z' where id % 7 = 3;
delete from expenses where id = 11;
update accounts set channel = 'search', updated_at = '2026-03-31T04:00Z' where id % 9 = 4;
"""


def main() -> None:
    """Make the dump and say how large it is."""
    logs.configure(default="ERROR")
    with tempfile.TemporaryDirectory(prefix="duemark-dump-") as folder:
        home = Path(folder)
        # Not in the embedded server's way: there, an analyst is a login of its own.
        server = embedded.start(home / "server")
        try:
            target = _make(home, server)
        finally:
            embedded.stop(home / "server")
    for path in sorted(target.rglob("*.gz")):
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size} bytes")


def _make(home: Path, server: str) -> Path:
    urls = {name: with_database(server, name) for name in ("warehouse", "business")}
    with psycopg.connect(with_database(server, "postgres"), autocommit=True) as connection:
        for name in urls:
            connection.execute(f"create database {name} template template0 encoding 'UTF8'".encode())
    os.environ |= dict.fromkeys(VARIABLES, urls["business"])
    catalog = home / "catalog"
    shutil.copytree(ROOT / "catalog", catalog)
    settings = replace(
        Settings.from_env({}),
        home=home / "home",
        database_url=urls["warehouse"],
        catalog=catalog,
        landing=str(home / "landing"),
    )
    _fill(settings, urls["business"], home)
    target = DUMPS / _revision(settings)
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(catalog, target / "catalog")
    for name, url in urls.items():
        text = _dump(url).replace(str(home / "landing"), LANDING)
        (target / f"{name}.sql.gz").write_bytes(gzip.compress(text.encode(), 9, mtime=0))
        if str(home) in text:
            raise SystemExit(f"{name} names a folder of this machine")
    with tarfile.open(target / "files.tar.gz", "w:gz") as archive:
        for name in ("landing", "next"):
            archive.add(home / name, name, filter=_nobodys)
    about = {"as_of": AS_OF.isoformat(), "next_as_of": (AS_OF + timedelta(hours=20, minutes=45)).isoformat()}
    (target / "about.json").write_text(json.dumps(about, indent=1) + "\n", "utf-8")
    return target


def _fill(settings: Settings, business_url: str, home: Path) -> None:
    """Two ticks with an incident's life between them, on a catalog that changes once."""
    simulate(home / "bank", 1, DAYS, SEED, end=LAST, catalog=settings.catalog, split="day", requests=40)
    migrate(settings)
    project = Project(settings)
    slos = settings.catalog / "slos" / "overdraft_chain.yml"
    now = slos.read_text("utf-8")
    slos.write_text(now.replace('end: "03:00"', 'end: "02:45"', 1), "utf-8")

    with psycopg.connect(business_url) as connection:
        fill(connection, business(FIRST_LOOK, SEED, BUSINESS_DAYS))
    _land(home / "bank", home / "landing", FIRST_LOOK)
    _in_whole_seconds(home / "landing")
    ingest(settings)
    _received(settings, FIRST_LOOK)
    refresh_now(settings)
    tick(project, FIRST_LOOK)
    look(settings, FIRST_LOOK)
    deliver(settings, FIRST_LOOK)
    first, second, *_ = (row["incident_id"] for row in commands.incidents(settings))
    commands.acknowledge(settings, first, by="ann", now=FIRST_LOOK + timedelta(minutes=5))
    commands.silence(
        settings, reason="agreed", application="cards", now=FIRST_LOOK, duration=timedelta(days=30), by="ann"
    )
    assert second is not None

    slos.write_text(now, "utf-8")
    _land(home / "bank", home / "landing", AS_OF)
    by_hand = home / "landing" / "job_status" / "by-hand.csv"
    by_hand.write_text(BY_HAND, "utf-8")
    copy = by_hand.with_name("by-hand-again.csv")
    shutil.copy(by_hand, copy)
    by_hand.with_name("broken.csv.gz").write_bytes(gzip.compress(BY_HAND.encode(), mtime=0)[:-20])
    _in_whole_seconds(home / "landing")
    ingest(settings)
    _received(settings, AS_OF - timedelta(hours=2))
    with psycopg.connect(business_url) as connection:
        connection.execute(CHANGES.encode())
    refresh_now(settings, compare=True)
    tick(project, AS_OF - timedelta(hours=2))
    restate(settings, "overdraft-charges", date(2026, 3, 24))
    tick(project, AS_OF)
    prove(settings)
    look(settings, AS_OF)
    with connect(settings, autocommit=True) as connection:
        # A message that its route refused, and will be sent again.
        connection.execute(
            "update ops.alert_outbox set attempts = 1, last_error = 'refused' where outbox_id ="
            " (select min(outbox_id) from ops.alert_outbox where delivered_at is null)"
        )
    shutil.copytree(home / "landing", home / "next")
    _land(home / "bank", home / "next", None)


def _received(settings: Settings, at: datetime) -> None:
    """What was just loaded came when it was sent: months later a business date that is alone opens no SLO."""
    with connect(settings, autocommit=True) as connection:
        connection.execute("update raw.load set received_at = least(received_at, %s)", [at])


def _land(bank: Path, landing: Path, until: datetime | None) -> None:
    """Make the landing folder as it is at a moment; None: at the end."""
    with (bank / "truth" / "files.csv").open(encoding="utf-8", newline="") as lines:
        appeared = {row["path"]: row["appeared_at"] for row in csv.DictReader(lines)}
    (landing / "metric_log" / "access.json").unlink(missing_ok=True)
    for path in sorted((bank / "landing").glob("*/*")):
        to = landing / path.parent.name / path.name
        to.parent.mkdir(parents=True, exist_ok=True)
        if path.parent.name == "job_status":
            if until is None or datetime.fromisoformat(appeared[f"landing/job_status/{path.name}"]) <= until:
                _copy(path, to)
            continue
        found = re.search(r"\d{4}-\d\d-\d\d", path.name)
        day = date.fromisoformat(found[0]) if found else LAST + timedelta(days=1)
        if until is None or day < until.date():
            _copy(path, to)
        elif day == until.date():
            # What is packed at midnight is still being written.
            name = "access.json" if path.suffix == ".gz" else path.name
            to.with_name(name).write_text(_before(path, until), "utf-8")


def _copy(path: Path, to: Path) -> None:
    # One that is there and the same has not landed again.
    if not to.exists() or to.read_bytes() != path.read_bytes():
        shutil.copy(path, to)


def _before(log: Path, until: datetime) -> str:
    """The lines of a log up to a moment."""
    text = gzip.decompress(log.read_bytes()).decode() if log.suffix == ".gz" else log.read_text("utf-8")
    lines = []
    for line in text.splitlines(keepends=True):
        epoch = re.search(r'"ts":([\d.]+)', line)
        moment = re.match(r"\d{4}-\S+", line)
        if epoch and datetime.fromtimestamp(float(epoch[1]), UTC) > until:
            break
        if moment and datetime.fromisoformat(moment[0]) > until:
            break
        lines.append(line)
    return "".join(lines)


def _revision(settings: Settings) -> str:
    with connect(settings) as connection:
        row: Any = connection.execute("select version_num from alembic_version").fetchone()
    return str(row[0])


def _dump(url: str) -> str:
    """The database as SQL, less what PostgreSQL 15 or a client other than psql does not know, and who is superuser."""
    result = subprocess.run(
        [embedded.binaries() / "pg_dump", "--rows-per-insert=500", "--dbname", url],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return ROLES + UNKNOWN.sub("", result.stdout)


def _in_whole_seconds(folder: Path) -> None:
    """An archive keeps the time of a file as a float: parts of a microsecond would make it another file."""
    for path in folder.rglob("*"):
        second = int(path.stat().st_mtime)
        os.utime(path, (second, second))


def _nobodys(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return entry


if __name__ == "__main__":
    main()
