"""The catalog in the warehouse: what stood when.

A change of the catalog is a load like any other. Only what changed gets a version; what was taken out gets one that
is retired. Past occurrences keep the promise of their day, because a version of an SLO applies from a business date
on (see `_applies_from`), and because versions are never changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any, cast

from pipelines.catalog.documents import CatalogFolderError, add_files, yaml_files
from pipelines.errors import DuemarkError, nearest
from pipelines.logs import get_logger
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    import psycopg

    from pipelines.catalog.read import Catalog, CatalogError
    from pipelines.catalog.resolve import PromiseSpec

log = get_logger(__name__)

# Postgres knows no date before this; an open start is limited by the first status instead.
OPEN_START = "-infinity"


def fingerprint(settings: Settings) -> str:
    """sha256 of the catalog's files and of the versions of the data that promises are made of."""
    from importlib.metadata import version

    digest = hashlib.sha256(f"holidays {version('holidays')} tzdata {version('tzdata')}".encode())
    try:
        add_files(digest, settings.catalog, yaml_files(settings.catalog))
    except CatalogFolderError as error:
        # Who reads it tells what is wrong.
        digest.update(str(error.problem).encode())
    return digest.hexdigest()


def store_catalog(settings: Settings, at: datetime | None = None) -> int | None:
    """Read the catalog if its files changed since the last load, and store what is new in it.

    `at`: the moment of the change, by which business dates have passed or not (default: now). Returns the load_id,
    None when nothing changed.

    Raises:
        CatalogError: the files have problems; what stood before goes on to stand.
    """
    source = fingerprint(settings)
    with connect(settings, "ingest") as connection:
        if _last_source(connection) == source:
            return None
        from pipelines.catalog.read import kept_folder, read_catalog
        from pipelines.warehouse.loads import begin_load, end_load

        catalog = read_catalog(settings.catalog, kept_folder(settings))
        connection.rollback()
        with connection.transaction(), connection.cursor() as cursor:
            load_id = begin_load(cursor)
            if _last_source(connection) == source:
                return None
            count = _Store(cursor, load_id, at or datetime.now(UTC)).store(catalog)
            end_load(cursor, load_id, "catalog", source, count)
        # Too few rows for autovacuum to notice, and every plan of a tick begins with them.
        connection.execute(
            "analyze catalog.application_version, catalog.job_version, catalog.slo_entry_version, catalog.slo_version,"
            " catalog.slo_job, catalog.exception_version"
        )
        return load_id


def refresh_catalog(settings: Settings) -> CatalogError | None:
    """`store_catalog` for those who go on with what stands: problems are logged and returned, the catalog before stays.

    To be called before statuses are read, which need the zones of their applications. Raises CatalogError where no
    catalog was stored ever.
    """
    try:
        store_catalog(settings)
    except DuemarkError as error:
        # What raised it has imported it; whose catalog did not change needs none of it.
        from pipelines.catalog.read import CatalogError

        if not isinstance(error, CatalogError):
            raise
        with connect(settings, "ingest") as connection:
            if _last_source(connection) is None:
                raise
        log.warning(
            "catalog refused, the one before stands", problems=[str(problem) for problem in error.problems]
        )
        return error
    return None


def restate(settings: Settings, slo_id: str, since: date) -> date | None:
    """Make today's version of one SLO stand for business dates from `since` on, even past ones.

    Where all its entries have an `effective_from`, and `since` is not after the first of them, nothing is promised
    before that one any more: it is returned. Else what stood before `since` goes on to stand, and None is returned.
    Raises DuemarkError when the stored catalog has no such SLO.
    """
    from pipelines.warehouse.loads import begin_load, end_load

    store_catalog(settings)
    with connect(settings, "ingest") as connection, connection.cursor() as cursor:
        load_id = begin_load(cursor)
        copied = cursor.execute(
            """
            insert into catalog.slo_version
                (slo_id, load_id, entry_no, applies_from, effective_to, is_open_start, is_retired, timezone, objective,
                 warn_before, gives_up_after, spec)
            select slo_id, %(load)s, entry_no,
                greatest(%(since)s::date, coalesce((spec ->> 'effective_from')::date, '-infinity')),
                effective_to, false, is_retired, timezone, objective, warn_before, gives_up_after, spec
            from catalog.slo_version
            where slo_id = %(slo)s
                and load_id = (select max(load_id) from catalog.slo_version where slo_id = %(slo)s)
                and not is_retired
            """,
            {"load": load_id, "since": since, "slo": slo_id},
        ).rowcount
        if not copied:
            known = [str(row[0]) for row in cursor.execute("select distinct slo_id from catalog.slo_version")]
            raise DuemarkError(f"The catalog has no SLO {slo_id!r}.", nearest(slo_id, known, "It has"))
        withdrawn = cursor.execute(
            # Beside the entries of its load, and for the dates before them as if the SLO had been taken out.
            """
            insert into catalog.slo_version
                (slo_id, load_id, entry_no, applies_from, is_open_start, is_retired, timezone, spec)
            select slo_id, load_id, entry_no + 1, '-infinity', false, true, timezone, spec
            from catalog.slo_version
            where slo_id = %(slo)s and load_id = %(load)s
                and %(since)s::date <= all (
                    select coalesce((spec ->> 'effective_from')::date, '-infinity')
                    from catalog.slo_version where slo_id = %(slo)s and load_id = %(load)s
                )
            order by entry_no desc limit 1
            returning (
                select min((spec ->> 'effective_from')::date)
                from catalog.slo_version where slo_id = %(slo)s and load_id = %(load)s
            )
            """,
            {"load": load_id, "since": since, "slo": slo_id},
        ).fetchone()
        cursor.execute(
            "insert into catalog.slo_job select slo_id, %s, entry_no, application_id, job_id from catalog.slo_job"
            " where slo_id = %s and load_id = (select max(load_id) from catalog.slo_job where slo_id = %s)",
            [load_id, slo_id, slo_id],
        )
        end_load(cursor, load_id, "catalog", f"restate {slo_id} from {since}", copied)
    return cast("date", withdrawn[0]) if withdrawn else None


def stored_zones(settings: Settings) -> dict[str, str]:
    """IANA zone of every application that stands in the stored catalog."""
    with connect(settings, "ingest") as connection:
        rows = connection.execute(
            "select distinct on (application_id) application_id, spec ->> 'timezone', is_retired"
            " from catalog.application_version order by application_id, load_id desc"
        ).fetchall()
    # A retired application's late statuses are still read in its own zone.
    return {str(application): str(zone) for application, zone, _ in rows}


def stored_packages(settings: Settings) -> list[dict[str, str]]:
    """The packages of the stored catalog, each as it stands there."""
    with connect(settings, "ingest") as connection:
        rows = connection.execute(
            "select distinct on (url) spec, is_retired from catalog.package_version order by url, load_id desc"
        ).fetchall()
    return [dict(spec) for spec, is_retired in rows if not is_retired and isinstance(spec, dict)]


def _last_source(connection: psycopg.Connection[Any]) -> str | None:
    row = connection.execute(
        "select source from raw.load where feed = 'catalog' and not starts_with(source, 'restate ')"
        " order by load_id desc limit 1"
    ).fetchone()
    return str(row[0]) if row else None


class _Store:
    def __init__(self, cursor: psycopg.Cursor[Any], load_id: int, loaded_at: datetime) -> None:
        self.cursor = cursor
        self.load_id = load_id
        self.loaded_at = loaded_at

    def store(self, catalog: Catalog) -> int:
        """Add a version of all that is new or changed, a retired one of what is gone; return how many."""
        from pipelines.catalog.exceptions import store_exceptions

        applications = {(key,): item.canonical() for key, item in catalog.applications.items()}
        calendars = {(key,): item.canonical() for key, item in catalog.calendars.items()}
        entries = {
            (key,): json.dumps([json.loads(entry.canonical()) for entry in slo], sort_keys=True)
            for key, slo in catalog.slos.items()
        }
        jobs = {
            key: json.dumps(
                json.loads(job.canonical())
                | {"depends_on": [list(up) for up in sorted(catalog.upstream[key])]},
                sort_keys=True,
            )
            for key, job in catalog.jobs.items()
        }
        packages = {(package.url,): package.canonical() for package in catalog.packages}
        count = self._versions("application_version", ("application_id",), applications)
        count += self._versions("package_version", ("url",), packages)
        senders = {(key,): item.canonical() for key, item in catalog.senders.items()}
        count += self._versions("sender_version", ("sender_id",), senders)
        count += self._versions("calendar_version", ("calendar_id",), calendars)
        count += self._versions("slo_entry_version", ("slo_id",), entries)
        count += self._versions(
            "job_version", ("application_id", "job_id"), jobs, {"upstream_rank": catalog.upstream_rank}
        )
        count += store_exceptions(self.cursor, self.load_id, catalog.exceptions)
        return count + self._slos(catalog)

    def _versions(
        self,
        table: str,
        keys: tuple[str, ...],
        specs: Mapping[Any, str],
        extra: dict[str, dict[Any, int]] | None = None,
    ) -> int:
        extra = extra or {}
        names = ", ".join(keys)
        columns = "".join(f", {name}" for name in extra)
        standing = {
            tuple(row[: len(keys)]): row[len(keys) :]
            for row in self.cursor.execute(
                f"select distinct on ({names}) {names}, is_retired, spec{columns} from catalog.{table}"  # noqa: S608
                f" order by {names}, load_id desc"
            )
        }
        added = []
        for key, spec in specs.items():
            values = [ranks[key] for ranks in extra.values()]
            old = standing.get(key)
            if old is None or old[0] or old[1] != json.loads(spec) or list(old[2:]) != values:
                added.append((*key, self.load_id, False, spec, *values))
        for key, (is_retired, spec, *values) in standing.items():
            if key not in specs and not is_retired:
                added.append((*key, self.load_id, True, json.dumps(spec), *values))
        with self.cursor.copy(
            f"copy catalog.{table} ({names}, load_id, is_retired, spec{columns}) from stdin"
        ) as copy:
            for row in added:
                copy.write_row(row)
        return len(added)

    def _slos(self, catalog: Catalog) -> int:
        from pipelines.catalog.resolve import resolve

        standing: dict[str, list[tuple[bool, Any, Any]]] = {}
        for slo_id, is_retired, spec, row in self.cursor.execute(
            """
            select slo_id, is_retired, spec, to_jsonb(slo_version)
            from catalog.slo_version
            where load_id = (select max(load_id) from catalog.slo_version as o where o.slo_id = slo_version.slo_id)
            order by slo_id, is_retired, entry_no
            """
        ):
            # Entries come first; what a restatement withdrew before them is none.
            found = standing.setdefault(slo_id, [])
            if not is_retired or not found:
                found.append((is_retired, spec, row))
        added = 0
        for slo_id, slo in catalog.slos.items():
            specs = [resolve(catalog, entry) for entry in slo]
            old = standing.get(slo_id)
            if (
                old
                and not old[0][0]
                and [spec for _, spec, _ in old] == [json.loads(s.canonical()) for s in specs]
            ):
                continue
            for entry_no, spec in enumerate(specs):
                if old is not None:
                    self._tell_of_the_past(spec, [spec for _, spec, _ in old])
                self._slo_version(spec, entry_no, is_first=old is None)
            added += 1
        for slo_id, versions in standing.items():
            if slo_id not in catalog.slos and not versions[0][0]:
                self._retire(slo_id, versions[0][2])
                added += 1
        return added

    def _applies_from(self, spec: PromiseSpec, *, is_first: bool) -> str:
        """The first business date for which a version may stand.

        An id's first version: its `effective_from`, even in the past. A later one: dates that have not ended in the
        SLO's zone now, or its own `effective_from` if that is later.
        """
        if is_first:
            return spec.effective_from.isoformat() if spec.effective_from else OPEN_START
        today = self._today(spec.timezone)
        return max(today, spec.effective_from or today).isoformat()

    def _today(self, timezone: str) -> date:
        from pipelines.catalog.zones import zone

        return self.loaded_at.astimezone(zone(timezone)).date()

    def _tell_of_the_past(self, spec: PromiseSpec, standing: Iterable[Any]) -> None:
        """An entry about dates that have passed changes nothing there, and its author should know."""
        since, today = spec.effective_from, self._today(spec.timezone)
        if since is not None and since < today and json.loads(spec.canonical()) not in standing:
            log.warning(
                "business dates that have passed keep the promise that stood on them",
                slo=spec.slo_id,
                applies_from=today.isoformat(),
                way_out=f"duemark restate {spec.slo_id} --from {since}",
            )

    def _slo_version(self, spec: PromiseSpec, entry_no: int, *, is_first: bool) -> None:
        self.cursor.execute(
            """
            insert into catalog.slo_version
                (slo_id, load_id, entry_no, applies_from, effective_to, is_open_start, is_retired, timezone, objective,
                 warn_before, gives_up_after, spec)
            values (%s, %s, %s, %s, %s, %s, false, %s, %s, %s, %s, %s)
            """,
            [
                spec.slo_id, self.load_id, entry_no, self._applies_from(spec, is_first=is_first), spec.effective_to,
                is_first and spec.effective_from is None, spec.timezone, spec.objective, spec.warn_before,
                spec.gives_up_after, spec.canonical(),
            ],
        )  # fmt: skip
        self._slo_jobs(spec.slo_id, entry_no, ((job.application, job.job) for job in spec.jobs))

    def _slo_jobs(self, slo_id: str, entry_no: int, jobs: Iterable[tuple[str, str]]) -> None:
        self.cursor.executemany(
            "insert into catalog.slo_job (slo_id, load_id, entry_no, application_id, job_id)"
            " values (%s, %s, %s, %s, %s)",
            [(slo_id, self.load_id, entry_no, application, job) for application, job in sorted(set(jobs))],
        )

    def _retire(self, slo_id: str, version: dict[str, Any]) -> None:
        self.cursor.execute(
            """
            insert into catalog.slo_version
                (slo_id, load_id, entry_no, applies_from, is_open_start, is_retired, timezone, spec)
            values (%s, %s, 0, %s, false, true, %s, %s)
            """,
            [
                slo_id,
                self.load_id,
                self._today(version["timezone"]),
                version["timezone"],
                json.dumps(version["spec"]),
            ],
        )
