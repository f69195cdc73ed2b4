"""Every KPI of the demonstration against SQL by hand (`oracles/*.sql`), against MetricFlow, and against pandas.

A simulated bank, access logs, and a business in a database of its own go through the real tick twice: at first a part
of the files is missing, then it comes late, and the business changes, also at midnights and within an hour of them.
Queries of the business ask its own database, so the copies are tested too; periods are named here in Python.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import combinations
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import psycopg
import pytest

from pipelines.copies.refresh import refresh_now
from pipelines.kpi.definitions.check import resolved
from pipelines.kpi.grains import Grain
from pipelines.kpi.model import Kpi
from pipelines.kpi.proof import prove
from pipelines.landing.ingest import ingest
from pipelines.simulator import simulate
from pipelines.simulator.business import business, fill
from pipelines.transform.project import Project
from pipelines.transform.tick import tick
from pipelines.warehouse.connect import connect, with_database
from pipelines.warehouse.settings import Settings
from tests.conftest import _database, _drop
from tests.kpi.metricflow_client import Metrics

ORACLES = Path(__file__).with_name("oracles")
DEFINED = sorted(path.stem for path in ORACLES.glob("*.sql"))
VARIABLES = ("PAYMENTS_DB_URL", "FINANCE_DB_URL", "USERS_DB_URL")
ZONE = ZoneInfo("America/New_York")
FORMATS = {"day": "%Y-%m-%d", "week": "%G-W%V", "month": "%Y-%m", "year": "%Y"}
# Columns by which an oracle's query has to group, for each dimension.
COLUMNS = {"application": "application_id"}
Cells = dict[tuple[str, str], tuple[Decimal | None, Any]]
"""Value and JSON by period and members."""

# In New York March began at 05:00 UTC, the clock was put forward on the 8th at 07:00, and April began at 04:00.
BOUNDARIES = """
insert into accounts values
    (90001, 'boundary', null, '2026-03-01T04:59:59.999999Z', '2026-04-01Z'),
    (90002, 'boundary', null, '2026-03-01T05:00:00Z', '2026-04-01Z'),
    (90003, 'boundary', 'x', '2026-04-01T03:59:59.999999Z', '2026-04-01Z'),
    (90004, 'boundary', 'x', '2026-04-01T04:00:00Z', '2026-04-01Z');
insert into expenses values
    (90001, 'boundary', null, 30.10, '2026-03-01', '2026-04-01Z'),
    (90002, 'boundary', 'x', 50.20, '2026-03-31', '2026-04-01Z'),
    (90003, 'boundary', 'x', 7.07, '2026-04-01', '2026-04-01Z'),
    (90004, 'nobody', null, 5, '2026-02-10', '2026-04-01Z');
insert into subscriptions values
    (90001, 1, 'boundary', null, 10, '2026-01-05Z', '2026-03-01T04:59:59.999999Z', '2026-04-01Z'),
    (90002, 1, 'boundary', null, 20, '2026-01-05Z', '2026-03-01T05:00:00Z', '2026-04-01Z'),
    (90003, 1, 'boundary', 'x', 40, '2026-03-09T03:59:59.999999Z', null, '2026-04-01Z'),
    (90004, 1, 'boundary', 'x', 80, '2026-03-09T04:00:00Z', null, '2026-04-01Z'),
    (90005, 1, 'boundary', 'x', 160, '2026-03-08T06:59:59Z', '2026-03-08T07:00:00Z', '2026-04-01Z');
update subscriptions set amount = amount + 1, updated_at = '2026-04-01Z' where id % 50 = 7 and id < 90000;
update subscriptions set ended_at = '2026-03-20T12:00Z', updated_at = '2026-04-01Z' where id = 5;
delete from subscriptions where id % 40 = 3 and id < 90000;
delete from expenses where id = 11;
update accounts set channel = 'search', updated_at = '2026-04-01Z' where id % 60 = 9 and id < 90000;
"""


@dataclass(frozen=True)
class House:
    """The warehouse after both ticks, with the URL of the business's database."""

    settings: Settings
    business_url: str
    as_of: datetime
    truth: Path
    kpis: Mapping[str, Kpi]
    reported: dict[tuple[str, ...], tuple[Any, Any]]
    """What had been reported of closed periods after the first tick."""

    def ask(self, kpi: Kpi, query: str) -> list[tuple[Any, ...]]:
        """Rows of a query, from where the KPI's sources really are."""
        if kpi.variables[0].source.database != "warehouse":
            with psycopg.connect(self.business_url) as connection:
                return connection.execute(query.encode()).fetchall()
        with connect(self.settings) as connection:
            return connection.execute(query.encode()).fetchall()

    def values(self, kpi_id: str, grain: str) -> Cells:
        with connect(self.settings, "analyst") as connection:
            rows: list[Any] = connection.execute(
                "select period, dimension_key, value, value_json from marts.kpi_value"
                " where kpi_id = %s and grain = %s",
                [kpi_id, grain],
            ).fetchall()
        return {(str(period), members(json.loads(key or "{}"))): (v, j) for period, key, v, j in rows}


def closed(settings: Settings) -> dict[tuple[str, ...], tuple[Any, Any]]:
    """Value and JSON of every cell of periods that are closed."""
    with connect(settings, "analyst") as connection:
        rows = connection.execute(
            "select kpi_id, grain, period, dimension_key, value, value_json from marts.kpi_value"
            " where not provisional"
        ).fetchall()
    return {(str(row[0]), str(row[1]), str(row[2]), str(row[3])): (row[4], row[5]) for row in rows}


def members(given: Mapping[str, str | None]) -> str:
    return json.dumps(given, sort_keys=True)


@pytest.fixture(scope="module")
def house(server_url: str, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    home = tmp_path_factory.mktemp("oracles")
    name, other = _database(server_url, template), _database(server_url)
    other_url = with_database(server_url, other)
    settings = replace(
        Settings.from_env({}),
        home=home,
        landing=str(home / "landing"),
        database_url=with_database(server_url, name),
        dagster_database=f"{template}_dagster",
    )
    simulated = simulate(home, 1, 45, 42, catalog=settings.catalog, split="day", requests=60)
    as_of = datetime.fromisoformat(simulated.as_of)
    late = home / "late"
    for number, path in enumerate(sorted((home / "landing").glob("*/*"))):
        if number % 3 == 1:
            (late / path.parent.name).mkdir(parents=True, exist_ok=True)
            path.rename(late / path.parent.name / path.name)
    with pytest.MonkeyPatch.context() as patch, psycopg.connect(other_url) as connection:
        for variable in VARIABLES:
            patch.setenv(variable, other_url)
        fill(connection, business(as_of))
        connection.commit()
        project = Project(settings)
        ingest(settings)
        tick(project, as_of - timedelta(hours=33))
        reported = closed(settings)
        shutil.copytree(late, home / "landing", dirs_exist_ok=True)
        ingest(settings)
        connection.execute(BOUNDARIES)
        connection.commit()
        refresh_now(settings, compare=True)
        tick(project, as_of)
        yield House(settings, other_url, as_of, home / "truth", resolved(settings).kpis, reported)
    _drop(server_url, name)
    _drop(server_url, other)


def by_hand(house: House, kpi: Kpi, grain: Grain, zone: str = "America/New_York") -> Cells:
    """What the oracle gives, for every subset of the KPI's dimensions."""
    text = (ORACLES / f"{kpi.id}.sql").read_text("utf-8")
    found: Cells = {}
    for count in range(len(kpi.dimensions) + 1):
        for subset in combinations(kpi.dimensions, count):
            query = text
            for name, value in {
                "grain": grain,
                "zone": zone,
                "as_of": house.as_of.isoformat(),
                "members": "".join(f"{COLUMNS.get(name, name)}, " for name in subset),
                "keys": ", ".join(str(place + 1) for place in range(count + 1)),
            }.items():
                query = query.replace(f"{{{name}}}", value)
            for row in house.ask(kpi, query):
                starts, *rest = row
                values = (*rest[count:], None)[:2]
                key = (named(starts, grain), members(dict(zip(subset, rest[:count], strict=True))))
                found[key] = (values[0], values[1])
    return kept(house, kpi, grain, found)


def named(starts: date, grain: str) -> str:
    """A period by the date on which it starts, or the instant."""
    if isinstance(starts, datetime):
        starts = starts.astimezone(UTC if grain != "hour" else ZONE)
    if grain == "hour":
        assert isinstance(starts, datetime)
        return starts.isoformat().replace(":00:00-", "-")
    if grain == "quarter":
        return f"{starts:%Y}-Q{(starts.month + 2) // 3}"
    return starts.strftime(FORMATS[grain])


def kept(house: House, kpi: Kpi, grain: Grain, cells: Cells) -> Cells:
    """Of the numbered KPIs: the newest periods only, and those too in which nothing happened."""
    if kpi.number is None or not kpi.fills_gaps:
        return cells
    now = house.as_of.astimezone(UTC)
    periods = {named(now, grain)}
    day = now
    while len(periods) < dict(kpi.retention).get(grain, 1):
        day -= timedelta(days=1)
        periods.add(named(day, grain))
    empty = {
        "package-popularity": {"items": [], "totalVisits": 0},
        "total-usage": {"items": [], "totalMinutesActivity": 0},
        "uptime": {"nbMinutesOn": 0},
        "shared-files": {"filesCreated": 0, "filesDeleted": 0},
    }[kpi.id]
    return {(period, "{}"): cells.get((period, "{}"), (Decimal(0), empty)) for period in sorted(periods)}


def rounded(cells: Cells) -> dict[tuple[str, str], tuple[Decimal | None, Any]]:
    return {
        key: (None if value is None else round(Decimal(value), 9), extra)
        for key, (value, extra) in cells.items()
    }


def test_every_kpi_of_the_demonstration_has_an_oracle(house: House) -> None:
    assert sorted(house.kpis) == DEFINED
    assert len(DEFINED) >= 12


@pytest.mark.parametrize("kpi_id", DEFINED)
def test_values_are_those_of_sql_by_hand(house: House, kpi_id: str) -> None:
    kpi = house.kpis[kpi_id]
    for grain in kpi.grains:
        expected = by_hand(house, kpi, grain)
        assert expected
        assert rounded(house.values(kpi_id, grain)) == rounded(expected), grain


def test_what_lies_on_a_boundary_belongs_to_one_side(house: House) -> None:
    cac = {key: value for key, (value, _) in house.values("cac", "month").items()}
    spent = {
        # One came a microsecond before March began in New York, which was in March in London.
        ("2026-02", '{"channel": "boundary"}'): Decimal(0),
        ("2026-03", '{"channel": "boundary"}'): Decimal("80.30") / 2,
        ("2026-03", '{"campaign": null, "channel": "boundary"}'): Decimal("30.10"),
        ("2026-03", '{"campaign": "x", "channel": "boundary"}'): Decimal("50.20"),
        ("2026-04", '{"channel": "boundary"}'): Decimal("7.07"),
    }
    assert {key: cac[key] for key in spent} == spent
    with connect(house.settings, "analyst") as connection:
        rows = connection.execute(
            "select period, components::text, value, reason from marts.kpi_value where kpi_id = 'cac'"
            " and grain = 'month' and dimensions ->> 'channel' = 'nobody' and not dimensions ? 'campaign'"
        ).fetchall()
    assert rows == [("2026-02", '{"new_customers": 0, "marketing_spend": 5.00}', None, "division by zero")]
    boundary = '{"plan_type": "boundary"}'
    days = {
        period: value for (period, key), (value, _) in house.values("mrr", "day").items() if key == boundary
    }
    standing = {"2026-02-27": 30, "2026-02-28": 20, "2026-03-01": None, "2026-03-07": None, "2026-03-08": 40}
    assert {day: days.get(day) for day in standing} == standing
    assert days["2026-03-09"] == 120
    months = {
        period: value for (period, key), (value, _) in house.values("mrr", "month").items() if key == boundary
    }
    assert months == {"2026-01": 30, "2026-02": 20, "2026-03": 120, "2026-04": 120}


@pytest.mark.parametrize("kpi_id", ["cac", "mrr", "active-subscriptions", "runs-per-hour"])
def test_another_time_zone_would_be_noticed(house: House, kpi_id: str) -> None:
    kpi = house.kpis[kpi_id]
    grain = kpi.grains[-1]
    assert rounded(by_hand(house, kpi, grain, "UTC")) != rounded(by_hand(house, kpi, grain))


def test_what_came_late_changed_closed_periods_and_all_of_it_is_in_the_journal(house: House) -> None:
    now = closed(house.settings)
    changed = {
        key: (old, now.get(key, (None, None))) for key, old in house.reported.items() if now.get(key) != old
    }
    # What is kept no longer was not restated.
    changed = {key: both for key, both in changed.items() if key in now or house.kpis[key[0]].retention == ()}
    with connect(house.settings, "analyst") as connection:
        rows = connection.execute(
            "select kpi_id, grain, period, dimension_key, reported_value, reported_json, restated_value, restated_json"
            " from marts.kpi_restatement"
        ).fetchall()
    journal = {tuple(map(str, row[:4])): ((row[4], row[5]), (row[6], row[7])) for row in rows}
    assert len(journal) == len(rows)
    assert {key: both for key, both in journal.items() if key in house.reported} == changed
    assert {key[0] for key in changed} >= {
        "on-time-share",
        "package-popularity",
        "mrr",
        "cac",
        "lateness-p90",
    }


def test_numbered_values_are_those_of_the_truth(house: House) -> None:
    truth = pd.read_csv(house.truth / "indicator_record.csv", parse_dates=["hour_at"], keep_default_na=False)
    hours = truth["hour_at"].dt
    grains = {
        "day": hours.strftime("%Y-%m-%d"),
        "week": hours.strftime("%G-W%V"),
        "month": hours.strftime("%Y-%m"),
    }
    sources = {"package-popularity": 1001, "total-usage": 1005, "uptime": 1004, "shared-files": 1003}
    for kpi_id, indicator in sources.items():
        for grain, periods in grains.items():
            of_period = truth[truth["indicator_id"] == indicator].groupby(periods)["value"].sum()
            values = {period: value for (period, _), (value, _) in house.values(kpi_id, grain).items()}
            assert values == {period: int(of_period.get(period, 0)) for period in values}, (kpi_id, grain)
    visits = truth[truth["indicator_id"] == 1001]
    by_package = visits.groupby([visits["hour_at"].dt.strftime("%G-W%V"), "dimension"])["value"].sum()
    for (period, _), (_, listed) in house.values("package-popularity", "week").items():
        ranked = sorted(
            by_package.get(period, pd.Series(dtype=int)).items(), key=lambda one: (-one[1], one[0])
        )
        assert [(one["package"], one["visits"]) for one in listed["items"]] == ranked[:10]


# Each KPI that MetricFlow can express: what it calls the dimensions, and the grains that mean the same there.
OCCURRENCE, RUN = {"application": "occurrence__application"}, {"application": "run__application"}
EXPRESSED: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "on-time-share": (OCCURRENCE, ("day", "week", "month", "quarter", "year")),
    "on-time-share-30-days": (OCCURRENCE, ("day",)),
    "lateness-p90": (OCCURRENCE, ("day", "week", "month")),
    "failed-runs-month-to-date": (RUN, ("day",)),
    "failing-jobs": (RUN, ("day", "week", "month")),
    "run-duration-median": (RUN, ("day", "week", "month")),
    "runs-per-hour": (RUN, ("hour", "day", "week")),
    "failed-run-share": (RUN, ("day", "week", "month", "quarter")),
    "cac": ({"channel": "channel"}, ("month", "quarter")),
}


@pytest.fixture(scope="module")
def metricflow(house: House) -> Metrics:
    views = (
        (ORACLES / "metricflow" / "views.sql").read_text("utf-8").replace("{as_of}", house.as_of.isoformat())
    )
    with connect(house.settings) as connection:
        connection.execute(views.encode())
    return Metrics(house.settings, ORACLES / "metricflow" / "metrics.yml")


@pytest.mark.parametrize("kpi_id", EXPRESSED)
def test_values_are_those_of_metricflow(house: House, metricflow: Metrics, kpi_id: str) -> None:
    names, grains = EXPRESSED[kpi_id]
    for grain in grains:
        expected: dict[tuple[str, str], Any] = {}
        for subset in ((), tuple(names)):
            columns = [f"metric_time__{grain}", *(names[name] for name in subset)]
            for starts, *given, value in metricflow.rows(kpi_id.replace("-", "_"), columns):
                at = starts.replace(tzinfo=ZONE) if grain == "hour" else starts.date()
                if grain == "hour" and at <= house.as_of - timedelta(hours=1440):
                    continue  # is kept no longer
                expected[named(at, grain), members(dict(zip(subset, given, strict=True)))] = value
        values = {
            key: value
            for key, (value, _) in house.values(kpi_id, grain).items()
            if set(json.loads(key[1])) <= set(names)
        }
        assert set(values) == set(expected), grain
        for key, value in expected.items():
            if value is None:
                assert values[key] is None, key
            else:
                # It divides in double precision.
                assert float(values[key] or 0) == pytest.approx(float(value), rel=1e-9), key


def test_a_rebuild_gives_the_same(house: House) -> None:
    before = closed(house.settings)
    tick(Project(house.settings), house.as_of, rebuild=True)
    assert closed(house.settings) == before


def test_all_of_it_proves_itself(house: House) -> None:
    proof = prove(house.settings, periods=None)
    assert (proof.wrong, proof.skipped) == ([], {})
    assert set(proof.cells) == set(house.kpis)
