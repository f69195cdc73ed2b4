"""`duemark demo`: the demonstration bank from nothing to the tables of what is late, and of its KPIs."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import click
import psycopg

from pipelines import logs
from pipelines.console import as_table
from pipelines.errors import DuemarkError
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import ROOT, Settings

NEXT = """\
Next:
  make up
      the web interface: assets, lineage, runs
  .venv/bin/duemark sql "table slo_late"
      what is late, with the sentence that explains each
  .venv/bin/duemark sql "select period, dimensions ->> 'application' as application, round(value, 3) as share, status
      from kpi_value where kpi_id = 'on-time-share' and grain = 'week' order by period_start desc, value"
      a KPI by week and application, the worst first
  .venv/bin/duemark board
      all of it as pages, which need no server
  .venv/bin/duemark sql "select * from slo_performance_at(now() - interval '3 days')"
      how it stood at any moment
  .venv/bin/duemark sql "select path, line_no, reasons from rejected_record"
      what was not taken, and why
  .venv/bin/duemark status
      is every part ready?"""

DAYS = 60
SEED = 42
# Lines of the access log of a working day.
REQUESTS = 400
# The simulation stops at 08:15 in New York on the date after its last: late work is still under way.
MARKET = ZoneInfo("America/New_York")


def run(settings: Settings) -> None:
    """Simulate, ingest and build through Dagster what is missing; print what is late and where to look next.

    The simulation ends on the last business day before the first call and is kept: a second call changes nothing.
    """
    from pipelines.warehouse.migrate import migrate

    # What a run logs is for its reader; here the steps are told, and what is amiss raises.
    logs.configure(default="ERROR")
    out = settings.home / "demo"
    # A store elsewhere is not written to for a demonstration.
    landing = str(out / "landing") if "://" in settings.landing else settings.landing
    settings = replace(settings, catalog=ROOT / "catalog", landing=landing)
    with _step("warehouse"):
        migrate(settings)
    as_of_file = out / "truth" / "as_of.txt"
    if not as_of_file.exists():
        with _step(f"simulate {DAYS} business days (seed {SEED})"):
            _simulate(settings, out)
    _land(out / "landing", Path(settings.landing))
    as_of = datetime.fromisoformat(as_of_file.read_text().strip())
    is_new = _make_business(settings, as_of)
    if not is_new and _is_built(settings, as_of):
        click.echo("everything is built already", err=True)
    else:
        with _step("ingest and build, a Dagster run of the job `tick`"):
            _build(settings, as_of)
    click.echo(_late(settings))
    click.echo(_coming(settings))
    click.echo(_kpis(settings))
    click.echo(NEXT)


class _step:  # noqa: N801
    """Tells what is under way, and how long it took."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __enter__(self) -> None:
        self.started = time.monotonic()
        click.echo(f"{self.name} …", err=True)

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            click.echo(f"  {time.monotonic() - self.started:.1f} s", err=True)


def _simulate(settings: Settings, out: Path) -> None:
    from pipelines.simulator import simulate

    local = datetime.now(UTC).astimezone(MARKET)
    # as_of must not be yet to come, or ticks by the clock would have to wait for it
    end = (local - timedelta(hours=8, minutes=15)).date() - timedelta(days=1)
    simulate(out, 1, DAYS, SEED, end=end, catalog=settings.catalog, requests=REQUESTS)


def _land(simulated: Path, landing: Path) -> None:
    """Move what was simulated to where files land."""
    for path in sorted(simulated.glob("*/*")) if simulated != landing else []:
        (landing / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.move(path, landing / path.parent.name / path.name)


def _make_business(settings: Settings, as_of: datetime) -> bool:
    """Make what the KPIs over another database read, and copy it; False where it is there, or cannot be made."""
    from pipelines.copies.refresh import refresh_now
    from pipelines.simulator.business import DATABASE, is_made, make_business

    try:
        if is_made(settings, DATABASE):
            return False
        with _step(f"a business in a second database, {DATABASE} (seed {SEED})"):
            make_business(settings, as_of, SEED, DATABASE)
            # The tick waits for copies for a moment only, and what failed before waits for its turn.
            refresh_now(settings)
    except (psycopg.Error, DuemarkError) as error:
        said = (str(error) or type(error).__name__).strip().splitlines()[0]
        click.echo(f"  skipped: {said}", err=True)
        click.echo(
            f"  The KPIs over it (MRR, CAC, ARPU, active subscriptions) are left out. Let this user make the database"
            f" {DATABASE},\n  or make it for them; then do this again.",
            err=True,
        )
        return False
    return True


def _is_built(settings: Settings, as_of: datetime) -> bool:
    from pipelines.landing import ledger, source

    with connect(settings, "ingest") as connection:
        row = connection.execute(
            "select published_as_of >= %s and not needs_rebuild and published_high >= (select coalesce(max(load_id), 0)"
            " from raw.load) from control.tick",
            [as_of],
        ).fetchone()
        if not row or not row[0]:
            return False
        with connection.cursor() as cursor:
            return not ledger.unknown(cursor, source.landed(settings.landing, ["job_status"]), "unread")


def _build(settings: Settings, as_of: datetime) -> None:
    from pipelines.definitions import build_defs
    from pipelines.orchestration.runs import run_tick_job

    run_tick_job(settings, build_defs(settings), as_of.isoformat())


def _late(settings: Settings) -> str:
    with connect(settings, "analyst") as connection:
        connection.execute("set search_path = marts")
        rows = connection.execute(
            """
            select slo_id, business_date::text, slot, outcome,
                concat_ws(' ', nullif(extract(day from late)::text, '0') || ' d', to_char(late, 'HH24:MI:SS')),
                coalesce(cause_job, blocking_job), replace(cause_kind, '_', ' '),
                affected_slos[1] || coalesce(' +' || nullif(cardinality(affected_slos) - 1, 0), ''), owner
            from slo_late, justify_hours(date_trunc('second', late_by)) as late
            where not is_at_risk
            order by expected_end_at desc, slo_id limit 15
            """
        ).fetchall()
        counted = connection.execute(
            "select count(*) filter (where outcome = 'overdue'), count(*) from slo_late where not is_at_risk"
        ).fetchone()
        as_of = connection.execute("select to_char(as_of, 'YYYY-MM-DD HH24:MI') from tick").fetchone()
        totals = connection.execute(
            "select count(*), count(*) filter (where outcome = 'on_time'), count(*) filter (where outcome <> 'not_due')"
            " from slo_performance"
        ).fetchone()
    if not (counted and as_of and totals):
        return "The marts are empty."
    names = ["slo", "date", "slot", "outcome", "late by", "because of", "why", "hits", "owner"]
    table = as_table(names, [[str(value or "") for value in row] for row in rows])
    return f"""
Late as of {as_of[0]} UTC, the newest of {counted[1]} ({counted[0]} still overdue):

{table}
{totals[0]} occurrences judged, {totals[1]} of {totals[2]} due were on time.
"""


def _coming(settings: Settings) -> str:
    """What is expected next, and how well misses were foreseen before."""
    with connect(settings, "analyst") as connection:
        connection.execute("set search_path = marts")
        rows = connection.execute(
            """
            select
                slo_id, business_date::text, nullif(slot, '00:00'), to_char(expected_end_at, 'DD Mon HH24:MI'),
                to_char(p50, 'DD Mon HH24:MI'), to_char(p90, 'DD Mon HH24:MI'),
                to_char(100 * miss_probability, 'FM990') || ' %', case when is_at_risk then 'at risk' end
            from slo_forecast
            where expected_end_at > as_of and past_dates > 0
            order by miss_probability desc, expected_end_at, slo_id limit 6
            """
        ).fetchall()
        foreseen = connection.execute(
            """
            select slo_id || ' ' || to_char(100 * recall, 'FM990') || ' %, ' || lead_minutes || ' min before'
            from forecast_score
            where method = 'duemark' and recall >= 0.5 and forecast_count >= 20
            order by recall desc, slo_id limit 5
            """
        ).fetchall()
    names = ["slo", "date", "slot", "due", "as likely as not by", "nine in ten by", "a miss", ""]
    table = as_table(names, [[str(value or "") for value in row] for row in rows])
    said = "; ".join(str(row[0]) for row in foreseen) or "none of late"
    return f"""Expected next (UTC), the likeliest to be missed first:

{table}
Misses that forecasts announced before the due time: {said}.
"""


def _kpis(settings: Settings) -> str:
    from pipelines.kpi.short import table

    with connect(settings, "analyst") as connection:
        names, rows, _ = table(connection, most=100)
    return f"KPIs, the newest period of each that is closed:\n\n{as_table(names, rows)}"
