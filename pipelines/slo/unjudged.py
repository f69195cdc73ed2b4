"""SLOs that can never be judged: without `effective_from`, and none of their jobs ever sent a status.

Such an SLO starts with its first status. Where none comes, because an id is mistyped, say, nothing is ever due of it,
and nobody is told that it is missing.
"""

from __future__ import annotations

import psycopg

from pipelines.catalog.read import Catalog, Problem
from pipelines.errors import DuemarkError
from pipelines.warehouse import embedded
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings


def warnings(settings: Settings, catalog: Catalog) -> tuple[list[Problem], list[str]]:
    """A warning for each such SLO of `catalog`, and what could not be looked at: the database says which statuses came.

    No server is started for it.
    """
    undated = {
        slo_id: entries
        for slo_id, entries in catalog.slos.items()
        if all(one.effective_from is None for one in entries)
    }
    if not undated:
        return [], []
    if settings.database_url is None and embedded.running_pid(settings.home) is None:
        return [], [_unseen("the database does not run")]
    wanted = [
        (slo_id, *key)
        for slo_id, entries in undated.items()
        for one in entries
        for key in catalog.slo_jobs(one)
    ]
    try:
        with connect(settings, "ingest") as connection:
            if connection.execute("select from raw.job_status limit 1").fetchone() is None:
                return [], [_unseen("no status was loaded yet")]
            rows = connection.execute(
                """
                select distinct slo_id
                from unnest(%s::text[], %s::text[], %s::text[]) as wanted (slo_id, application_id, job_id)
                where exists (
                    select from raw.job_status as status
                    where status.application_id = wanted.application_id and status.job_id = wanted.job_id
                )
                union
                -- It had an `effective_from`, or another version before: it is promised from a date on.
                select slo_id from catalog.slo_version
                where slo_id = any(%s) and not is_open_start and not is_retired
                """,
                [*(list(column) for column in zip(*wanted, strict=True)), list(undated)],
            ).fetchall()
    except (DuemarkError, psycopg.Error) as error:
        text = error.message if isinstance(error, DuemarkError) else str(error)
        return [], [_unseen(text.strip().partition("\n")[0].rstrip("."))]
    judged = {str(slo_id) for (slo_id,) in rows}
    return [_warning(catalog, slo_id) for slo_id in sorted(undated) if slo_id not in judged], []


def _unseen(why: str) -> str:
    return f"which SLOs can never be judged (no `effective_from`, and no job that ever sent a status): {why}"


def _warning(catalog: Catalog, slo_id: str) -> Problem:
    jobs = ", ".join(
        "/".join(key)
        for key in dict.fromkeys(key for one in catalog.slos[slo_id] for key in catalog.slo_jobs(one))
    )
    message = (
        f"nothing is due of the SLO `{slo_id}`: it has no `effective_from`, and {jobs} never sent a status"
    )
    hint = "give it an `effective_from`, or correct the ids of application and job to those that report"
    return catalog.problem_of_slo(slo_id, message, hint)
