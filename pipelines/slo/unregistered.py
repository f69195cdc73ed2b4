"""Jobs that the catalog does not have: said to who loads their statuses, at once, for mostly an id is mistyped."""

from __future__ import annotations

from collections.abc import Sequence

from pipelines.errors import nearest
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

# A warning that nobody reads to its end names no more.
MOST_NAMED = 10

REGISTERED = """
select application_id, job_id
from (
    select distinct on (application_id, job_id) application_id, job_id, is_retired
    from catalog.job_version order by application_id, job_id, load_id desc
) as newest
where not is_retired
"""

UNREGISTERED = f"""
select application_id, job_id, count(*) as count
from raw.job_status
where load_id = any(%s) and (application_id, job_id) not in ({REGISTERED})
group by application_id, job_id
order by application_id, job_id
"""  # noqa: S608 - a constant


def warnings(settings: Settings, load_ids: Sequence[int]) -> list[str]:
    """A sentence for each job of these loads that is not in the stored catalog, with the one that may be meant."""
    with connect(settings, "ingest") as connection:
        rows = connection.execute(UNREGISTERED, [list(load_ids)]).fetchall()
        if not rows:
            return []
        known = connection.execute(REGISTERED).fetchall()
    jobs: dict[str, list[str]] = {}
    for application, job in known:
        jobs.setdefault(str(application), []).append(str(job))
    said = [_said(str(application), str(job), int(str(count)), jobs) for application, job, count in rows]
    if (more := len(said) - MOST_NAMED) > 0:
        said[MOST_NAMED:] = [
            f"So it is with {more} more; the mart unregistered_job has them after the next tick."
        ]
    return said


def _said(application: str, job: str, count: int, jobs: dict[str, list[str]]) -> str:
    is_known = application in jobs
    what = f"job `{job}`" if is_known else f"application `{application}`"
    hint = nearest(job, jobs[application], "it has") if is_known else nearest(application, jobs, "it has")
    statuses = "1 status was" if count == 1 else f"{count} statuses were"
    kept = "It is kept, and counts once" if count == 1 else "They are kept, and count once"
    return (
        f"{application}/{job}: {statuses} sent, and the catalog has no {what}: {hint or 'it has none'}"
        f"{'' if hint.endswith('?') else '.'} {kept} the catalog has it."
    )
