"""One step of the pipeline in the evaluation of a sensor or a schedule: small work at once, big work by a run.

A run costs eight to fifteen seconds before its first step, because its process imports everything anew. The code
server has imported it, and keeps the dbt project parsed: what came in meanwhile is mostly a few records, visible a
second after they are seen. What would not fit into an evaluation (Dagster gives it a minute) is done by a run of the
job `tick`, and so is everything when DUEMARK_WARM_BYTES is 0.

Whatever happens half-way is safe: a file is loaded once, ticks are single by lock, and one that died is done again.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from pipelines.errors import DuemarkError
from pipelines.logs import get_logger
from pipelines.transform.attempts import attempts
from pipelines.transform.waiting import Waiting, waiting
from pipelines.warehouse import homes
from pipelines.warehouse.connect import connect
from pipelines.warehouse.homes import Slot
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    from pipelines.landing.follow import Grown
    from pipelines.landing.source import LandedFile

log = get_logger(__name__)

TICK_JOB = "tick"
# Records of loads that an evaluation takes upon itself, as of landed bytes DUEMARK_WARM_BYTES: a few seconds' work.
WARM_RECORDS = 50_000
# Files that it takes: a thousand a second, of a store that is asked for each by the network a few.
WARM_FILES = 2_000
WARM_REMOTE_FILES = 100
# Lines of logs are only counted: as quick as a sixteenth of their bytes in records.
LOG_BYTES_PER_BYTE = 16

UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def is_under_way(instance: dg.DagsterInstance) -> bool:
    """Whether a run of the job `tick` is queued or runs."""
    return bool(instance.get_runs(dg.RunsFilter(job_name=TICK_JOB, statuses=UNDER_WAY), limit=1))


def has_failed_of_late(settings: Settings) -> bool:
    """Whether the last tick raised, a moment ago: so would the next. One whose process died is done again at once."""
    with connect(settings, "operate") as connection, connection.cursor() as cursor:
        last = attempts(cursor)
    is_recent = last.failed_at is not None and datetime.now(UTC) - last.failed_at < timedelta(minutes=1)
    return last.has_raised and is_recent


def advance(
    settings: Settings,
    instance: dg.DagsterInstance,
    files: Sequence[LandedFile],
    found: Waiting,
    logs: Sequence[Grown] = (),
) -> dg.SkipReason | dg.RunRequest:
    """Load `files` and `logs`, and do the tick that is `found` waiting.

    Here, told as a skip reason, or by the run returned.
    """
    files = [*files, *(each.file for each in logs)]
    if not _is_small(settings, files, found, logs):
        return dg.RunRequest(tags={"duemark/reason": _reason(files, found)})
    return dg.SkipReason(work(settings, instance, files))


def refresh(settings: Settings) -> dg.SkipReason:
    """Look again at what time alone moves beside the marts, such as forecasts: a tick that asks no dbt.

    Dagster is told nothing of it: no mart changes by that, and it is done every minute.
    """
    from pipelines.transform.project import project_of
    from pipelines.transform.tick import TickRefusedError, tick

    if not _is_deployed(settings):
        return dg.SkipReason("nothing is deployed yet")
    try:
        done = tick(project_of(settings), wait=False)
    except TickRefusedError as error:
        return dg.SkipReason(error.message)
    return dg.SkipReason(f"looked again at what is open in {sum(done.seconds.values()):.1f} s")


def work(
    settings: Settings,
    instance: dg.DagsterInstance,
    files: Sequence[LandedFile],
) -> str:
    """Load `files`, do the tick that there is to do then, tell Dagster of both; return what was done, in words.

    Raises DuemarkError as an ingest and a tick do.
    """
    from pipelines.landing.assets import by_key, feed_metadata
    from pipelines.landing.ingest import ingest
    from pipelines.transform.assets import changed_marts
    from pipelines.transform.project import project_of
    from pipelines.transform.tick import TickRefusedError, tick

    told = []
    if files:
        feeds = list(dict.fromkeys(file.feed for file in files))
        # Times without an offset are read in the zone that the catalog gives their application.
        look_at_catalog(settings)
        report = ingest(settings, feeds=feeds)
        for key, its_feeds in by_key(feeds).items():
            if any(outcome.feed in its_feeds for outcome in report.files):
                instance.report_runless_asset_event(
                    dg.AssetMaterialization(key, metadata=feed_metadata(report, its_feeds))
                )
        records = sum(outcome.record_count for outcome in report.loaded)
        told.append(f"{len(report.loaded)} of {len(files)} files loaded, {records} records")
    if waiting(settings).since is not None:
        try:
            done = tick(project_of(settings), wait=False)
        except TickRefusedError as error:
            # The other one may have begun before our files were there; the minute's tick looks again.
            return "; ".join([*told, error.message])
        for event in changed_marts(settings, done):
            instance.report_runless_asset_event(event)
        rows = ", ".join(f"{mart.name} {mart.inserted}" for mart in done.publications if mart.inserted)
        seconds = sum(done.seconds.values())
        told.append(f"published up to load {done.high} in {seconds:.1f} s: {rows or 'no row changed'}")
    return "; ".join(told) or "nothing to do any more"


def _is_small(
    settings: Settings, files: Sequence[LandedFile], found: Waiting, logs: Sequence[Grown] = ()
) -> bool:
    most = settings.warm_bytes
    # Compressed and columnar files hold several times their size.
    unread = {each.file: each.unread_bytes // LOG_BYTES_PER_BYTE for each in logs}
    size = sum(
        unread.get(file, file.stamp.size) * (8 if file.path.endswith((".gz", ".parquet")) else 1)
        for file in files
    )
    is_many = len(files) > (WARM_REMOTE_FILES if "://" in settings.landing else WARM_FILES)
    if not most or size > most or is_many or not _is_deployed(settings):
        return False
    with connect(settings, "transform") as connection:
        row = connection.execute(
            "select coalesce(sum(coalesce(log_read.row_count, load.record_count)), 0)"
            " from raw.load left join raw.log_read using (load_id)"
            " where load_id > (select case when %s then 0 else published_high end from control.tick)",
            [found.is_rebuild],
        ).fetchone()
    return row is not None and int(str(row[0])) <= WARM_RECORDS


def _is_deployed(settings: Settings) -> bool:
    from pipelines.transform.deploy import is_deployed

    return is_deployed(settings)


def _reason(files: Sequence[LandedFile], found: Waiting) -> str:
    parts = [f"{len(files)} files landed"] if files else []
    parts += [f"{found.loads} loads wait"] if found.loads else []
    parts += ["a rebuild waits"] if found.is_rebuild else []
    return ", ".join(parts) or f"since {found.since:%Y-%m-%d %H:%M:%S}Z something is due"


def look_at_landing(settings: Settings) -> list[Grown]:
    """The logs that have grown; what else has landed is for the sensor. Where nothing has, that is noted."""
    from pipelines.landing import known_feeds
    from pipelines.landing.follow import grown
    from pipelines.landing.ledger import note_gone, note_look, pending
    from pipelines.landing.source import landed

    began_at = datetime.now(UTC)
    logs = grown(settings)
    idle = [] if logs else list(known_feeds.followed())
    idle += [] if pending(settings) else list(known_feeds.whole())
    with connect(settings, "ingest") as connection:
        note_look(connection, idle, began_at)
        with connection.cursor() as cursor:
            # Only files that are not loaded any more are looked for.
            note_gone(
                cursor, settings.landing, known_feeds.names(), landed(settings.landing, known_feeds.names())
            )
    return logs


# What was last looked at and refused: a broken catalog is not parsed again every few seconds.
REFUSED: Slot[str] = Slot(lambda _: "")
IS_WARM: Slot[bool] = Slot(lambda _: False)


def look_at_catalog(settings: Settings) -> None:
    """Store the catalog if its files changed, as a load that the next tick takes. Problems are logged, once.

    Raises CatalogError where no catalog was stored ever.
    """
    from pipelines.catalog.store import fingerprint, refresh_catalog

    now, home = fingerprint(settings), homes.of(settings)
    if home.get(REFUSED) != now and refresh_catalog(settings) is not None:
        home.put(REFUSED, now)


def warm_up(settings: Settings) -> None:
    """Import and parse, once in a process and while nothing waits, what the first file would wait for."""
    home = homes.of(settings)
    if home.get(IS_WARM):
        return
    import pipelines.landing.ingest  # noqa: F401
    from pipelines.transform.project import project_of

    try:
        project_of(settings).manifest  # noqa: B018 # the parse is kept
    except DuemarkError as error:
        log.warning("not warm", problem=error.message)
    home.put(IS_WARM, True)
