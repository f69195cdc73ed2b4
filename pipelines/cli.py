"""`duemark …`: one thin function a command. Heavy imports stand inside, so that help and small answers come at once."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

import pipelines.subjects  # hands the subjects in
from pipelines import failures, logs
from pipelines.durations import LONGEST, SECONDS, duration
from pipelines.errors import DuemarkError
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    from pipelines.catalog.read import Catalog
    from pipelines.console import Format
    from pipelines.landing.ingest import IngestReport

# Lines of a table that somebody looks at.
MOST_SHOWN = 500
# Beyond, promises would be made for centuries.
LAST_YEAR = 2200


def _only_for_csv(form: Format, *, is_safe: bool) -> None:
    if is_safe and form != "csv":
        raise DuemarkError("--safe is for csv.", "Add --format csv, or leave it out.")


SAFE = click.option(
    "--safe", is_flag=True,
    help="With --format csv, for spreadsheets: text that they would take for a formula begins with an apostrophe.",
)  # fmt: skip


FORMAT = click.option(
    "--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True
)
INSECURE = click.option(
    "--insecure-local", is_flag=True,
    help="No authentication, to try the receiver: everybody on this machine may do everything.",
)  # fmt: skip


class Commands(click.Group):
    """Commands in the order in which one meets them; whatever they raise is a message, not a traceback.

    Exit code 2 for what a user can put right, 3 for a defect of ours.
    """

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            try:
                return super().invoke(ctx)
            finally:
                # Here, or Python would do it when nobody can catch what it raises any more.
                sys.stdout.flush()
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except BrokenPipeError:
            # Whoever read the answer has had enough, as `head` has.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            ctx.exit(failures.READER_GONE)
        except KeyboardInterrupt:
            _refuse("interrupted", failures.left(_name(ctx)))
            ctx.exit(failures.INTERRUPTED)
        except Exception as error:  # noqa: BLE001 # a user is never shown a traceback unasked
            if ctx.params.get("debug"):
                import traceback

                traceback.print_exc()
            ctx.exit(_told(error, _name(ctx)))


def _name(ctx: click.Context) -> str:
    return ctx.invoked_subcommand or ""


def _refuse(message: str, hint: str) -> None:
    click.echo(f"duemark: {message}", err=True)
    if hint:
        click.echo(f"  {hint}", err=True)


def _told(error: Exception, command: str) -> int:
    """Say what was raised; return the exit code."""
    if isinstance(error, FileExistsError | FileNotFoundError | NotADirectoryError | PermissionError):
        _refuse(str(error), "Is the path right (DUEMARK_HOME too), and may this user write there?")
        return 2
    settings = Settings.from_env()
    known = error if isinstance(error, DuemarkError) else failures.explained(error, settings)
    if known is not None:
        _refuse(known.message, known.hint)
        return 2
    _refuse(f"{command} failed: {failures.one_line(error)}", failures.left(command))
    click.echo(f"  {failures.keep(error, settings)}", err=True)
    return failures.FAILED


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Settings come from the environment: DUEMARK_HOME (state; default .duemark), DUEMARK_DATABASE_URL (a"
    " PostgreSQL of your own, 15 or newer; default: the embedded one), DUEMARK_CATALOG (default: the demonstration"
    " catalog), DUEMARK_LANDING (a folder or an fsspec URL; default: landing in the home). Exit codes: 0 well,"
    " 1 something is not as it should be, 2 it could not be done, 3 Duemark itself failed, 130 interrupted, 141 the"
    " reader of the answer went away.",
)
@click.version_option(package_name="duemark", prog_name="duemark")
@click.option("--debug", is_flag=True, envvar=Settings.debug.name, help="Show the traceback of what fails.")
@click.pass_context
def main(ctx: click.Context, debug: bool) -> None:  # noqa: ARG001 # Commands looks at it
    """Which promised data is late, which will be late, why, and who is hit by it.

    Jobs and schedulers send what they did; a catalog says what was promised. `duemark ingest` loads what landed,
    `duemark tick` brings the marts up to date, `duemark sql` asks them; `duemark up` does all of it by itself.
    """
    from pipelines.warehouse.connect import name_process

    # The answer is what a command prints; what serves (up, watch) sets its own level.
    logs.configure(default="WARNING")
    name_process(_name(ctx))


@main.command()
def demo() -> None:
    """Simulate a bank, build everything through Dagster, print what is late, and the KPIs.

    60 business days of the demonstration catalog, with a fixed seed. Done again, it builds only what is missing. What
    KPIs read of another database is made as `demo_business` on the same server; where its user may not, these KPIs are
    left out, and it says so.
    """
    from pipelines.demo import run

    run(Settings.from_env())


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address of the web interface.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=3000,
    show_default=True,
    help="Port of the web interface; 0: any.",
)
@click.option("--serve-host", default="127.0.0.1", show_default=True, help="Address of the receiver.")
@click.option(
    "--serve-port",
    type=click.IntRange(0, 65535),
    default=3004,
    show_default=True,
    help="Port of the receiver; 0: any.",
)
@INSECURE
def up(host: str, port: int, serve_host: str, serve_port: int, insecure_local: bool) -> None:
    """Run everything: web interface, daemon, code locations, receiver, watcher; Ctrl-C or SIGTERM stops it."""
    from pipelines.access.authority import refuse_others
    from pipelines.processes.parts import Address
    from pipelines.processes.supervisor import supervise

    logs.configure()
    if insecure_local:
        refuse_others(serve_host)
    receiver = Address(serve_host, serve_port, insecure_local)
    settings = Settings.from_env()
    sys.exit(supervise(settings, host, port, with_watch="watch" in main.commands, receiver=receiver))


@main.command()
def down() -> None:
    """Stop what runs for this home, the embedded PostgreSQL too."""
    from pipelines.processes.supervisor import stop

    for line in stop(Settings.from_env()) or ["nothing was running"]:
        click.echo(line)


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=3004,
    show_default=True,
    help="Port; 0: any that is free.",
)
@click.option(
    "--workers", type=click.IntRange(1, 64), default=1, show_default=True, help="Processes that answer."
)
@INSECURE
def serve(host: str, port: int, workers: int, insecure_local: bool) -> None:
    """Receive statuses by HTTP, and answer what is known of them; Ctrl-C or SIGTERM stops it.

    Each request is answered once it is stored. Clients send a token (`duemark token issue`); what they may do is said
    in the catalog. The address is the first line of stdout.
    """
    from pipelines.receivers.server import serve as run

    logs.configure()
    settings, subjects = Settings.from_env(), pipelines.subjects.subjects
    run(settings, host, port, workers, subjects, is_open=insecure_local)


@main.group(context_settings={"help_option_names": ["-h", "--help"]})
def token() -> None:
    """Tokens, by which the receiver knows its clients."""


@token.command(name="issue")
@click.argument("sender")
@click.option("--expires", metavar="DURATION", help="Such as 90d; default: when it is revoked.")
@click.option("--by", help="Who does it; default: the name you are logged in by.")
def token_issue(sender: str, expires: str | None, by: str | None) -> None:
    """Issue a token for a sender of the catalog. It is the last line, shown now and never again.

    What the sender may do is said in catalog/senders, or by `senders` of an application.
    """
    from pipelines.access.tokens import issue
    from pipelines.catalog.store import refresh_catalog
    from pipelines.warehouse.migrate import migrate

    lasts = None if expires is None else duration(expires)
    if expires is not None and not lasts:
        raise DuemarkError(f"--expires {expires} is no duration.", "Write 90d, 12h or 30m; at most 366d.")
    settings = Settings.from_env()
    migrate(settings)
    if (problem := refresh_catalog(settings)) is not None:
        _tell_kept(problem)
    issued = issue(settings, sender, lasts, by)
    until = "it is revoked" if issued.expires_at is None else f"{issued.expires_at:%Y-%m-%d %H:%M}Z"
    click.echo(f"token {issued.token_id} of {sender}, valid until {until}:")
    click.echo(issued.token)


@token.command(name="list")
@click.argument("sender", required=False)
@FORMAT
def token_list(sender: str | None, form: Format) -> None:
    """List the tokens of all senders, or of one, the newest first; never the tokens themselves."""
    from dataclasses import asdict

    from pipelines.access.tokens import Listed, tokens
    from sensors.oncall.incidents.commands import render

    found = tokens(Settings.from_env(), sender)
    click.echo(render([asdict(one) for one in found], form, columns=list(Listed.__annotations__)), nl=False)


@token.command(name="revoke")
@click.argument("sender")
@click.option("--id", "token_id", metavar="ID", help="Only this one; default: all of the sender.")
@click.option("--by", help="Who does it; default: the name you are logged in by.")
def token_revoke(sender: str, token_id: str | None, by: str | None) -> None:
    """Revoke tokens of a sender, at once and for ever."""
    from pipelines.access.tokens import revoke

    for one in revoke(Settings.from_env(), sender, token_id, by):
        click.echo(f"revoked: token {one} of {sender}")


@main.command()
@click.argument("paths", nargs=-1, metavar="[PATH]...")
@click.option("--feed", help="Whose files PATHs are, where the name of their folder does not say it.")
def ingest(paths: tuple[str, ...], feed: str | None) -> None:
    """Load files: those that landed, or the files and folders given.

    Each file is loaded once, whole or not at all; records that break the contract are kept aside with every reason
    (mart rejected_record). Exit code 1 when a file or a record was not taken.
    """
    from pipelines.catalog.store import refresh_catalog
    from pipelines.landing.ingest import ingest as load
    from pipelines.slo.unregistered import warnings as unregistered
    from pipelines.warehouse.migrate import migrate

    # What is odd about a file is told below, once.
    logs.configure(default="ERROR")
    settings = Settings.from_env()
    if any(not path.strip() for path in paths):
        raise DuemarkError("A path is empty.", "Leave it out to load what landed.")
    if (
        not paths
        and "://" not in settings.landing
        and settings.has_landing
        and not Path(settings.landing).is_dir()
    ):
        raise DuemarkError(
            f"The landing folder {settings.landing} does not exist.", "Make it, or set DUEMARK_LANDING."
        )
    migrate(settings)
    with _told_changes(settings):
        problem = refresh_catalog(settings)
    if problem is not None:
        _tell_kept(problem)
    report = load(settings, list(paths) or None, feed=feed)
    _tell_ingest(report)
    loads = sorted({file.load_id for file in report.loaded if file.feed == "job_status" and file.load_id})
    for warning in unregistered(settings, loads) if loads else []:
        click.echo(f"warning: {warning}", err=True)
    refused = any(f.status in {"quarantined", "changed"} or f.rejected_count for f in report.files)
    sys.exit(1 if problem or refused else 0)


def _tell_kept(problem: DuemarkError) -> None:
    click.echo(f"duemark: {problem.message}\n  The catalog that was stored before stands.", err=True)


def _tell_ingest(report: IngestReport) -> None:
    loaded = [f for f in report.files if f.status == "loaded"]
    records, rejected = sum(f.record_count for f in loaded), sum(f.rejected_count for f in loaded)
    for warning in report.warnings:
        click.echo(f"warning: {warning}", err=True)
    for file in report.files:
        for odd in file.warnings:
            hint = f" {odd['hint']}" if odd.get("hint") else ""
            message = str(odd["message"])
            where = file.path if message.startswith("Line ") else f"{file.path}, line {odd['line']}"
            click.echo(f"warning: {where}: {message}{hint}", err=True)
        if file.status != "loaded":
            click.echo(f"{file.status}: {file.path}: {file.message}", err=True)
            if file.hint:
                click.echo(f"  {file.hint}", err=True)
        elif file.rejected_count:
            kept = "" if file.rejected_kept is None else f", of which the first {file.rejected_kept} are kept"
            click.echo(f"rejected: {file.path}: {file.rejected_count} of its records{kept}", err=True)
    if rejected:
        click.echo('  duemark sql "select path, line_no, reasons from rejected_record" shows them.', err=True)
    if not report.files:
        click.echo("nothing new has landed")
        return
    click.echo(f"{_count(len(loaded), 'file')} loaded, {_count(records, 'record')}, {rejected} rejected")


@main.command()
@click.option("--as-of", metavar="T", help="The moment of judging, ISO 8601 with an offset; default: now.")
@click.option(
    "--rebuild", is_flag=True, help="Compute every row again; with it --as-of may be earlier than the last."
)
def tick(as_of: str | None, rebuild: bool) -> None:
    """Bring the marts up to date: what was loaded, and what time alone has changed.

    A tick that died is simply done again. Marts change together, or not at all. What of the catalog was
    edited, or is not in it any more, is said with what to do.
    """
    from pipelines.slo.lone import warnings
    from pipelines.transform.project import Project
    from pipelines.transform.tick import tick as run_tick
    from pipelines.transform.words import done
    from pipelines.warehouse.migrate import migrate

    moment = _instant(as_of)
    settings = Settings.from_env()
    migrate(settings)
    with _told_changes(settings):
        report = run_tick(Project(settings), moment, rebuild=rebuild)
    for problem in report.problems:
        _tell_kept(problem)
    for warning in warnings(settings):
        click.echo(f"warning: {warning}", err=True)
    click.echo(
        f"{'rebuilt' if report.is_rebuild else 'published'} as of {report.as_of.isoformat()}: {done(settings, report)}"
    )
    sys.exit(1 if report.problems else 0)


@contextmanager
def _told_changes(settings: Settings) -> Iterator[None]:
    """Say what of the stored catalog is another after the block than it was before it."""
    from pipelines.catalog import changes
    from pipelines.kpi.commands import stored as stored_kpis

    # Most often nothing has changed: what thousands of entries say is read only when something has.
    load_id, kpis = changes.newest(settings), stored_kpis(settings)
    yield
    new_kpis = stored_kpis(settings)
    if changes.newest(settings) != load_id or new_kpis != kpis:
        before = changes.stored(settings, load_id) | kpis
        after = changes.stored(settings) | new_kpis
        for line in changes.lines([*changes.edited(settings, before, after), *changes.gone(before, after)]):
            click.echo(line, err=True)


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    hint = "Write ISO 8601 with an offset: 2026-03-03T03:00:00-05:00, or …Z for UTC."
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise DuemarkError(f"{text!r} is no moment.", hint) from error
    if moment.tzinfo is None:
        raise DuemarkError(f"{text!r} has no offset.", hint)
    if not 1990 <= moment.year <= LAST_YEAR:
        raise DuemarkError(f"{text!r} is not in the years 1990 to {LAST_YEAR}.", hint)
    return moment


@main.command()
def check() -> None:
    """Check the catalog: every error at once, with its file, line and key. Exit code 1 when there are any.

    Warnings leave the exit code as it is. What needs a database (which SLOs can never be judged, what of the
    stored catalog is not in the files any more, what tables of other databases have) is left out where there is none,
    and it says so.
    """
    from pipelines.catalog.read import CatalogError, kept_folder, read_catalog
    from pipelines.kpi.definitions.check import check as check_kpis
    from pipelines.slo.unjudged import warnings as unjudged
    from sensors.oncall.incidents.routes import check_routes

    # What could not be checked is told below.
    logs.configure(default="ERROR")
    settings = Settings.from_env()
    catalog, problems = None, set()
    try:
        catalog = read_catalog(settings.catalog, kept_folder(settings))
    except CatalogError as error:
        problems.update(error.problems)
    problems.update(check_routes(settings.catalog, catalog))
    kpis = check_kpis(settings)
    problems.update(kpis.problems)
    for problem in sorted(problems):
        click.echo(str(problem), err=True)
    never_judged, unseen = unjudged(settings, catalog) if catalog is not None else ([], [])
    gone, unknown = _gone(settings, catalog) if catalog is not None else ([], [])
    for warned in (*catalog.warnings, *never_judged) if catalog is not None else ():
        click.echo(f"warning: {warned}", err=True)
    for line in gone:
        click.echo(line, err=True)
    for warning in (*kpis.warnings, *unseen, *unknown):
        click.echo(f"not checked: {warning}", err=True)
    if catalog is None or problems:
        click.echo(f"{_count(len(problems), 'problem')} in {settings.catalog}", err=True)
        sys.exit(1)
    click.echo(
        f"{settings.catalog}: {_count(len(catalog.applications), 'application')},"
        f" {_count(len(catalog.calendars), 'calendar')}, {_count(len(catalog.jobs), 'job')},"
        f" {_count(len(catalog.slos), 'SLO')}, {_count(len(catalog.kpis), 'KPI')}: no problems"
    )


def _gone(settings: Settings, catalog: Catalog) -> tuple[list[str], list[str]]:
    """What the stored catalog has and `catalog` has not, and why that could not be seen; starts no server."""
    import psycopg

    from pipelines.catalog import changes
    from pipelines.kpi.commands import stored as stored_kpis
    from pipelines.warehouse import embedded

    what = "what of the stored catalog is not in the files any more"
    if settings.database_url is None and embedded.running_pid(settings.home) is None:
        return [], [f"{what}: the database does not run"]
    try:
        before = changes.stored(settings) | stored_kpis(settings)
    except (DuemarkError, psycopg.Error) as error:
        text = error.message if isinstance(error, DuemarkError) else str(error)
        return [], [f"{what}: {text.strip().partition(chr(10))[0].rstrip('.')}"]
    return list(changes.lines(changes.gone(before, changes.of_files(catalog)))), []


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


@main.command()
@click.argument("query", required=False)
@FORMAT
@SAFE
def sql(query: str | None, form: Format, safe: bool) -> None:
    """Ask the marts, as an analyst may: read only, and marts need no schema before their names.

    `duemark sql` alone lists the marts, `duemark sql "select * from slo_late"` asks one. Instants are in UTC; a table
    shows durations to the second, csv and json as they are. A question may take five minutes
    (DUEMARK_ANALYST_STATEMENT_TIMEOUT), and ends when this command does.
    """
    from pipelines import console

    _only_for_csv(form, is_safe=safe)
    settings = Settings.from_env()
    if query is not None:
        console.answer(settings, query, form, is_safe=safe)
    else:
        _list_marts(settings, form, is_safe=safe)


def _list_marts(settings: Settings, form: Format, *, is_safe: bool) -> None:
    from itertools import groupby

    from pipelines import console
    from pipelines.reference import overview
    from pipelines.transform.project import manifest_json
    from pipelines.warehouse.grants import SCHEMAS

    # What keeps KPIs from being made is reported by `check`.
    logs.configure(default="ERROR")
    marts = overview(manifest_json(settings))
    if form != "table":
        names = ("subject", "mart", "answers")
        console.write_rows(names, [console.TEXT] * len(names), marts, form, sys.stdout, is_safe=is_safe)
        return
    page = click.get_current_context().make_formatter()
    for subject, rows in groupby(marts, key=lambda row: row[0]):
        with page.section(subject):
            page.write_dl([(name, words) for _, name, words in rows])
    beside = [f"ops.{table}" for table, roles in SCHEMAS["ops"].besides.items() if "analyst" in roles]
    page.write_paragraph()
    page.write_text(f"Beside them, for incidents and who was notified: {', '.join(beside)}.")
    page.write_paragraph()
    page.write_text(
        'The columns of one: duemark sql "select * from slo_late limit 5"; what they mean: docs/marts.md.'
    )
    click.echo(page.getvalue().lstrip("\n"), nl=False)


@main.command()
@click.option("--from", "first", metavar="DATE", help="First business date; default: the first there is.")
@click.option("--to", "last", metavar="DATE", help="Last business date; default: the last there is.")
@click.option(
    "--lead", "leads", multiple=True, metavar="TIME",
    help="How long before the due time: 60m, 2h; may be given again. Default: 120m, 60m, 30m, 10m.",
)  # fmt: skip
@click.option("--slo", "slos", multiple=True, metavar="SLO", help="Only this SLO; may be given again.")
@FORMAT
def backtest(
    first: str | None, last: str | None, leads: tuple[str, ...], slos: tuple[str, ...], form: Format
) -> None:
    """Replay the forecast over the past, as of moments before each due time, and score it.

    Each forecast knows what had happened by its moment, and no more. The table sets it against four simple rules:
    losses and leads in minutes, the share of ends between p10 and p90, how many misses were foreseen. csv and json
    have a row for each forecast that was open then. docs/forecast.md says how it is done.
    """
    from pipelines.forecasts.backtest import LEADS
    from pipelines.forecasts.backtest import backtest as run

    run(
        Settings.from_env(),
        sys.stdout,
        form,
        leads=sorted({_lead(text) for text in leads}, reverse=True) or LEADS,
        first=_date(first, "--from"),
        last=_date(last, "--to"),
        slos=slos,
    )


def _lead(text: str) -> int:
    found = duration(text)
    if found is None or found % timedelta(minutes=1):
        raise DuemarkError(f"--lead {text} is no time in whole minutes.", "Write 60m, 2h or 1d.")
    return found // timedelta(minutes=1)


def _date(text: str | None, option: str) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError as error:
        raise DuemarkError(f"{option} {text} is no date.", "Write it so: 2026-03-31.") from error


@main.command()
@click.option(
    "--output", type=click.Path(path_type=Path),
    help="A folder (default: board in the home); or, ending in .html, one file with all pages, for a mail.",
)  # fmt: skip
@click.option(
    "--timezone", metavar="ZONE",
    help="IANA zone of what is today, and of instants; default: that of most SLOs. A KPI's periods are in its own.",
)  # fmt: skip
@click.option(
    "--follow", is_flag=True,
    help="Stay, and write it again after each tick, at most once a minute; `duemark up` does so by itself.",
)  # fmt: skip
def board(output: Path | None, timezone: str | None, follow: bool) -> None:
    """Write the board: what needs attention, today, KPIs, applications and SLOs; pages that need no server.

    Open OUTPUT/index.html. The same marts give the same bytes.
    """
    from pipelines.board.write import make

    settings = Settings.from_env()
    output = output or settings.board
    if follow:
        from pipelines.board.follow import follow as stay

        logs.configure()
        stay(settings, output, timezone)
        return
    made = make(settings, output, timezone)
    page = output if output.is_file() else output / "index.html"
    click.echo(f"{page}: {_count(len(made.kpis), 'KPI')}, {_count(len(made.tracked), 'SLO')}")


@main.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of lines.")
def status(as_json: bool) -> None:
    """Say of each part whether it is ready, with the reason when not.

    Exit code 0: all are; 1: some are not; 2: there is no database.
    """
    from pipelines.processes.status import report

    result = report(Settings.from_env())
    click.echo(result.as_json() if as_json else result.as_text())
    sys.exit(result.exit_code)


@main.command()
@click.option("--interval", default="10s", show_default=True, metavar="DURATION", help="From look to look.")
@click.option(
    "--once", is_flag=True, help="Look once, as from cron: say what is wrong; exit code 1 when anything is."
)
def watch(interval: str, once: bool) -> None:
    """Watch Duemark itself from outside: report failed runs and checks, dead processes, undelivered alerts.

    A process of its own, which needs nothing but the database: run it where the rest cannot take it down. `up` runs
    one too. DUEMARK_DEADMAN_URL is pinged twice a minute as long as it can look and notify.
    """
    from sensors.oncall.watch.outside import run

    logs.configure()
    seconds = _length(interval, "--interval", "s").total_seconds()
    sys.exit(run(Settings.from_env(), seconds, once=once))


@main.command()
@click.option("--jobs", default=40, show_default=True, help="Jobs of the bank.")
@click.option("--days", default=60, show_default=True, help="Business days.")
@click.option("--seed", default=1, show_default=True, help="Decides everything that happens.")
@click.option("--end", type=click.DateTime(["%Y-%m-%d"]), help="Last date; default 2026-04-01.")
@click.option(
    "--catalog",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="Simulate this catalog's jobs instead.",
)
@click.option(
    "--split", type=click.Choice(["application", "day", "month", "one"]), default="application", show_default=True,
    help="One file per application and date, per date, per month, or one.",
)  # fmt: skip
@click.option(
    "--live", is_flag=True,
    help="Go on sending the statuses of the catalog's jobs as time passes, to OUT/landing or where files land.",
)  # fmt: skip
@click.option("--speed", default=1.0, show_default=True, help="With --live: let its clock run faster.")
@click.option(
    "--requests", type=click.IntRange(0), metavar="N",
    help="Requests that a content server logs on a working day; default 0, with --live 400.",
)  # fmt: skip
@click.argument("out", type=click.Path(path_type=Path, file_okay=False), required=False)
def simulate(
    jobs: int, days: int, seed: int, end: datetime | None, catalog: Path | None,
    split: Literal["application", "day", "month", "one"], live: bool, speed: float, requests: int | None,
    out: Path | None,
) -> None:  # fmt: skip
    """Simulate a bank: writes OUT/catalog, OUT/landing/job_status/… and OUT/truth/….

    With --requests also the access logs and heartbeats of a content server: OUT/landing/metric_log and …/uptime.

    The same arguments give the same bytes. To run it: DUEMARK_CATALOG=OUT/catalog DUEMARK_LANDING=OUT/landing.

    `duemark simulate --live` sends beside a running `duemark up`, until Ctrl-C; nothing but files comes of it.
    """
    if live:
        _simulate_live(out, catalog, seed, speed, 400 if requests is None else requests)
        return
    if out is None:
        raise DuemarkError("Where shall it be written?", "Name a folder: duemark simulate OUT")
    from pipelines.simulator import simulate as run

    summary = run(
        out, jobs, days, seed, end=end.date() if end else None, catalog=catalog, split=split, requests=requests or 0
    )  # fmt: skip
    click.echo(
        f"{out}: {summary.jobs} jobs, {summary.slos} SLOs, {summary.occurrences} occurrences from"
        f" {summary.first_date} to {summary.last_date}, {summary.records} records and {summary.bad_records} bad"
        f" ones in {summary.files} files; judge it as of {summary.as_of}"
    )


def _simulate_live(out: Path | None, catalog: Path | None, seed: int, speed: float, requests: int) -> None:
    from pipelines.simulator.live import live

    settings = Settings.from_env()
    if out is None and "://" in settings.landing:
        raise DuemarkError(
            f"Files land in {settings.landing}, which is no folder of this machine.",
            "Name one: duemark simulate --live OUT",
        )
    landing = Path(settings.landing) if out is None else out / "landing"
    click.echo(f"sending to {landing}; Ctrl-C stops it")
    try:
        for sent in live(landing, catalog or settings.catalog, seed, speed=speed, requests=requests):
            click.echo(
                f"{sent.up_to:%Y-%m-%d %H:%M:%S}Z {sent.statuses} statuses in {len(sent.files)} files,"
                f" {sent.lines} lines of logs"
            )
    except KeyboardInterrupt:
        click.echo("stopped")


@main.group(context_settings={"help_option_names": ["-h", "--help"]})
def kpi() -> None:
    """The definitions of KPIs: list them, show one, check them before they are in the catalog.

    Their values are in the marts: duemark sql "select * from kpi_current". docs/kpis.md says how to write one.
    """
    logs.configure(default="ERROR")


@kpi.command(name="list")
def kpi_list() -> None:
    """List all KPIs of the catalog."""
    from pipelines.kpi.commands import listed

    click.echo(listed(Settings.from_env()), nl=False)


@kpi.command(name="show")
@click.argument("kpi_id", metavar="ID")
def kpi_show(kpi_id: str) -> None:
    """Show one KPI by its id or number: formula, variables, thresholds, version."""
    from pipelines.kpi.commands import shown

    click.echo(shown(Settings.from_env(), kpi_id), nl=False)


@kpi.command(name="compile")
@click.argument("kpi_id", metavar="[ID]", required=False)
def kpi_compile(kpi_id: str | None) -> None:
    """Print the SQL of the dbt models that are generated of all KPIs, or of one."""
    from pipelines.kpi.commands import compiled

    click.echo(compiled(Settings.from_env(), kpi_id), nl=False)


@kpi.command(name="validate")
@click.argument("path", required=False, type=click.Path(path_type=Path))
def kpi_validate(path: Path | None) -> None:
    """Check the catalog's KPIs, another catalog's folder, or one file beside those of the catalog.

    Every problem at once, with its file, line and column. Exit code 1 when there are any.
    """
    from pipelines.kpi.commands import validate

    result = validate(Settings.from_env(), path)
    for problem in result.problems:
        click.echo(str(problem), err=True)
    for warning in result.warnings:
        click.echo(f"not checked: {warning}", err=True)
    if result.problems:
        click.echo(_count(len(result.problems), "problem"), err=True)
        sys.exit(1)
    click.echo(f"{_count(result.count, 'KPI')}: no problems")


@main.command()
@click.argument("incident_id", type=int, metavar="[ID]", required=False)
@click.option("--all", "everything", is_flag=True, help="Those that are over, too, the newest first.")
@click.option("--kind", help="Of one kind: overdue, late, failed, …")
@click.option("--application", help="Of one application.")
@click.option("--slo", help="Of one SLO.")
@click.option(
    "--replay", nargs=2, type=click.DateTime(["%Y-%m-%d"]), metavar="FROM TO",
    help="Instead: what the rules would have sent on past days (UTC), both included.",
)  # fmt: skip
@click.option("--detail", is_flag=True, help="With --replay: every message, not their number.")
@FORMAT
@SAFE
def incidents(
    incident_id: int | None, everything: bool, kind: str | None, application: str | None, slo: str | None,
    replay: tuple[datetime, datetime] | None, detail: bool, form: Format, safe: bool,
) -> None:  # fmt: skip
    """List what is open: what is wrong, since when, and who acknowledged it; or show the whole story of one.

    Of ID it says what it is of and what caused it, who was notified of what and when, whether it was delivered, who
    acknowledged it, and how it ended.
    """
    from sensors.oncall.incidents import commands

    _only_for_csv(form, is_safe=safe)
    settings = Settings.from_env()
    if incident_id is not None:
        found = commands.story(settings, incident_id)
        if form == "json":
            text = commands.as_json(found.as_dict())
        else:
            text = found.as_text() if form == "table" else commands.render(found.events, form, is_safe=safe)
        click.echo(text, nl=False)
        return
    if replay:
        result = commands.replay_days(settings, replay[0].date(), replay[1].date())
        click.echo(commands.render(commands.replay_rows(result, detail=detail), form, is_safe=safe), nl=False)
        click.echo(commands.replayed_risks(result), err=True)
        return
    show: Literal["open", "all"] = "all" if everything else "open"
    most = MOST_SHOWN + 1 if form == "table" else None
    rows = commands.incidents(settings, show=show, kind=kind, application=application, slo=slo, limit=most)
    if form == "table" and len(rows) > MOST_SHOWN:
        click.echo(f"the first {MOST_SHOWN} are shown; --format csv and json have all", err=True)
        rows = rows[:MOST_SHOWN]
    if said := commands.not_judged(settings):
        click.echo(said, err=True)
        if form == "table" and not rows:
            return
    click.echo(commands.render(rows, form, columns=commands.INCIDENT_COLUMNS, is_safe=safe), nl=False)


@main.command()
@click.option("--as-of", metavar="T", help="The clock of the look, ISO 8601 with an offset; default: now.")
@FORMAT
@SAFE
def judge(as_of: str | None, form: Format, safe: bool) -> None:
    """Judge the marts of the last tick once, and send what is due: what `up` does by itself every ten seconds.

    For cron, and for tests. Prints a line for each notice: its incident and its route. Exit code 0: judged, and
    all messages were delivered; 1: some wait because their route refused them, the files of the routes have problems,
    or there was no tick yet; 2: it could not be done, as when T is before the last look. What the rules would have sent
    on past days is `duemark incidents --replay`.
    """
    from pipelines.warehouse.migrate import migrate
    from sensors.oncall.incidents import commands
    from sensors.oncall.incidents.judge import judge as run

    _only_for_csv(form, is_safe=safe)
    moment = _instant(as_of)
    settings = Settings.from_env()
    migrate(settings)
    done = run(settings, moment)
    click.echo(commands.render_lines(done.summary.told, form, is_safe=safe), nl=False)
    click.echo(commands.judged(done), err=True)
    sys.exit(done.exit_code)


@main.command()
@click.argument("incident_ids", type=int, metavar="ID...", nargs=-1, required=True)
@click.option("--by", help="Who acknowledges; default: the name you are logged in by.")
def ack(incident_ids: tuple[int, ...], by: str | None) -> None:
    """Acknowledge incidents: they are not repeated or escalated any more."""
    from sensors.oncall.incidents import commands

    settings = Settings.from_env()
    for incident_id in incident_ids:
        row = commands.acknowledge(settings, incident_id, by=by)
        click.echo(f"{row['incident_id']} {row['title']}: acknowledged by {row['acknowledged_by']}")


@main.command()
@click.option("--application", help="Silence an application.")
@click.option("--slo", help="Silence an SLO.")
@click.option("--kind", help="Silence a kind of incident.")
@click.option("--everything", is_flag=True, help="Silence all.")
@click.option("--for", "length", metavar="DURATION", help="For so long from now, such as 4h or 30m.")
@click.option("--until", metavar="T", help="Until then, ISO 8601 with an offset.")
@click.option("--reason", help="Why; whoever wonders will read it.")
@click.option("--end", "ended", type=int, metavar="ID", help="End a silence now.")
def silence(
    application: str | None, slo: str | None, kind: str | None, everything: bool,
    length: str | None, until: str | None, reason: str | None, ended: int | None,
) -> None:  # fmt: skip
    """Send no notices of some incidents for a while; without options, list the silences in force.

    Incidents are kept all the same, and of what is still open when the silence ends, routes are notified then.
    """
    from sensors.oncall.incidents import commands

    settings = Settings.from_env()
    if ended is not None:
        commands.end_silence(settings, ended)
    elif application or slo or kind or everything or reason or length is not None or until:
        commands.silence(
            settings, reason=reason or "", application=application, slo=slo, kind=kind, everything=everything,
            end=_instant(until), duration=None if length is None else _length(length, "--for", "h"),
        )  # fmt: skip
    click.echo(commands.render([commands.silence_row(one) for one in commands.silences(settings)]), nl=False)


def _length(text: str, option: str, bare: Literal["h", "s"]) -> timedelta:
    """A duration of an option. A number counts units of `bare`, as it did before they were written, and is told so."""
    found = duration(text)
    if found is None and re.fullmatch(r"\d{1,4}(\.\d{1,4})?", text):
        found = min(float(text) * timedelta(seconds=SECONDS[bare]), LONGEST)
        click.echo(
            f"{option} {text} is taken for {text}{bare}: a number without a unit will be refused.", err=True
        )
    if not found:
        raise DuemarkError(
            f"{option} {text} is no length of time.",
            "Write a whole number and a unit, such as 90s, 30m, 4h or 2d.",
        )
    return found


@main.command()
@click.argument("slo")
@click.option(
    "--from",
    "since",
    required=True,
    type=click.DateTime(["%Y-%m-%d"]),
    help="First business date it is to apply to.",
)
def restate(slo: str, since: datetime) -> None:
    """Make what the catalog says of one SLO now apply to past business dates too.

    Otherwise a past date keeps the promise that stood on it. An SLO whose first `effective_from` is not before --from
    promises nothing before it any more.
    """
    from pipelines.catalog.store import restate as run
    from pipelines.warehouse.migrate import migrate

    settings = Settings.from_env()
    migrate(settings)
    since_date: date = since.date()
    withdrawn = run(settings, slo, since_date)
    before = f", and nothing is promised before {withdrawn}" if withdrawn else ""
    click.echo(
        f"{slo} applies as it is now from {withdrawn or since_date} on{before}; the next tick shows it"
    )


@main.command()
@click.argument("slo")
@click.option(
    "--from", "first", required=True, type=click.DateTime(["%Y-%m-%d"]), help="First business date."
)
@click.option(
    "--to", "last", type=click.DateTime(["%Y-%m-%d"]), help="Last business date; default: the first."
)
@click.option(
    "--slot", metavar="HH:MM", help="Only this window of an intraday SLO; default: all of the date."
)
@click.option(
    "--due",
    metavar="HH:MM",
    help="Due later, at this time of the date on which it is due, instead of waived.",
)
@click.option("--reason", required=True, metavar="TEXT", help="Why; whoever wonders will read it.")
@click.option("--by", help="Who decided it; default: the name you are logged in by.")
@click.option(
    "--withdraw", is_flag=True, help="Take back what was waived, or put off, for the same dates and window."
)
def waive(
    slo: str, first: datetime, last: datetime | None, slot: str | None, due: str | None, reason: str, by: str | None,
    withdraw: bool,
) -> None:  # fmt: skip
    """Say that nothing is due of an SLO on business dates, past ones too; or, with --due, that it is due later.

    Waived occurrences are not due whatever happens, and no share counts them. It is written into the journal, not into
    the files: what is known beforehand, such as a bank holiday, stands better in catalog/exceptions.
    """
    from pipelines.catalog import exceptions
    from pipelines.catalog.store import refresh_catalog
    from pipelines.warehouse.migrate import migrate

    settings = Settings.from_env()
    asked = exceptions.excepted(slo, first.date(), last.date() if last else None, slot, due, reason, by)
    migrate(settings)
    if (problem := refresh_catalog(settings)) is not None:
        _tell_kept(problem)
    days = exceptions.said(asked)
    if withdraw:
        count = exceptions.withdraw(settings, asked)
        click.echo(
            f"{slo} is promised again for {days}: {_count(count, 'exception')} withdrawn; the next tick shows it"
        )
        return
    done = exceptions.waive(settings, asked)
    what = "is waived" if due is None or asked.due_minutes is None else f"is due at {due}"
    covered = f"{_count(done.covered, 'occurrence')} of {_count(done.dates, 'business date')}"
    if not done.covered:
        covered = "nothing is promised there so far"
    click.echo(f"{slo} {what} for {days} ({covered}), by load {done.load_id}; the next tick shows it")


@main.command()
@click.argument("target", metavar="PATH|LOAD_ID")
@click.option("--reason", required=True, metavar="TEXT", help="Why; whoever wonders will read it.")
@click.option("--by", help="Who does it; default: the name you are logged in by.")
def unload(target: str, reason: str, by: str | None) -> None:
    """Take what a file or a load brought back out of all marts.

    PATH as it landed, or within the landing folder: all that was ever loaded of this file, or read of this log.
    Nothing is deleted: questions with a `known_at` before it still see it, and the same content landed again is loaded
    again.
    """
    from pipelines.landing.unload import unload as run
    from pipelines.warehouse.migrate import migrate

    settings = Settings.from_env()
    migrate(settings)
    done = run(settings, target, reason, by)
    for path in done.paths:
        click.echo(f"unloaded: {path}")
    click.echo("the next tick shows it")


@main.command()
def deploy() -> None:
    """Make or upgrade the databases: migrations, then tables, views and functions of the dbt project.

    Ticks do it by themselves when the project changed; use it to have an upgrade done before the first tick.
    """
    from pipelines.transform.deploy import deploy_alone as run
    from pipelines.transform.project import Project
    from pipelines.warehouse.migrate import migrate

    settings = Settings.from_env()
    migrate(settings)
    click.echo(
        "deployed; the next tick rebuilds the marts" if run(Project(settings)) else "nothing to deploy"
    )


@main.command()
@click.option("--keep", metavar="DURATION", help="Such as 14d; default: DUEMARK_KEEP_RUNS, else 30d.")
def purge(keep: str | None) -> None:
    """Take out what Dagster keeps of old runs: the runs, their logs and events.

    While `up` runs, a sensor does it every hour. The warehouse is no part of it.
    """
    from pipelines.orchestration.instance import load_instance
    from pipelines.orchestration.purge import purge as run
    from pipelines.warehouse.migrate import migrate

    settings = Settings.from_env()
    if keep:
        settings = settings.having(DUEMARK_KEEP_RUNS=keep)
    duration = settings.keep_runs
    migrate(settings)
    with load_instance(settings) as instance:
        gone = run(settings, instance, duration)
    click.echo(f"{_count(gone.runs, 'run')} and {_count(gone.events, 'event')} taken out")


@main.command(name="build-manifest")
def build_manifest() -> None:
    """Parse the dbt project beforehand, into DUEMARK_DBT_TARGET (default: target in the home). Needs no database.

    An image is built with it, so that no process has to parse when it starts.
    """
    from pipelines.transform.project import manifest_json, target_folder

    settings = Settings.from_env()
    nodes = manifest_json(settings)["nodes"]
    click.echo(f"{target_folder(settings)}: {len(nodes)} nodes")


@main.command(name="dbt-env")
def dbt_env() -> None:
    """Print the environment in which dbt may be run by hand: eval "$(duemark dbt-env)"."""
    import shlex

    from pipelines.transform.project import environment

    for name, value in environment(Settings.from_env()).items():
        click.echo(f"export {name}={shlex.quote(value)}")
