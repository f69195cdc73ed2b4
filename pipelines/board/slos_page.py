"""SLOs by name and by application: how each stands today, and what share of its last dates was on time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from pipelines.board import past
from pipelines.board.attention import Attention
from pipelines.board.frame import Links, application_page, job_page, link, slo_page, status
from pipelines.board.job_page import standing, usual_said, usual_seconds
from pipelines.board.model import Application, Board
from pipelines.board.slo_page import columns_of
from pipelines.board.today import STATES, counts, timeline
from pipelines.board.tracked import TrackedJob, TrackedSlo
from pipelines.kpi import formats

# A picture beside its number shows so many dates.
STRIP_DATES = 30


def slos_page(board: Board, links: Links) -> dict[str, Any]:
    """What the template of all SLOs needs."""
    names = {one.id: one.name for one in board.applications}
    return {
        "board": board,
        "links": links,
        "rows": [
            {
                **_standing(slo, states),
                "application": (
                    application_page(slo.application_id),
                    names.get(slo.application_id, slo.application_id),
                ),
            }
            for states in [_states(board)]
            for slo in board.tracked
        ],
    }


def application_pages(
    board: Board, found: Iterable[Attention], links: Links
) -> Iterable[tuple[Application, dict[str, Any]]]:
    """Every application, and what its template needs."""
    trouble = _by_application(found)
    today = _by_application(board.today)
    slos, jobs = _by_application(board.tracked), _by_application(board.jobs)
    states = _states(board)
    for application in board.applications:
        occurrences = today.get(application.id, [])
        yield (
            application,
            {
                "board": board,
                "links": links,
                "application": application,
                "attention": trouble.get(application.id, []),
                "counts": counts(occurrences),
                "timeline": timeline(
                    board,
                    occurrences,
                    uid=application_page(application.id),
                    is_grouped=False,
                ),
                "rows": [
                    {**_standing(slo, states), "strip": past.cells(columns_of(slo)[-STRIP_DATES:])}
                    for slo in slos.get(application.id, [])
                ],
                "jobs": "\n".join(_job(job, links) for job in jobs.get(application.id, [])),
            },
        )


def _job(job: TrackedJob, links: Links) -> str:
    """A row of the table of jobs. Made by hand: an application may have them by the thousand."""
    day = standing(job)
    usual = usual_seconds(job)
    stands = (
        f'<td>{status(day.outcome)}</td><td class="t">{day.business_date}</td>'
        if day
        else "<td>–</td><td>–</td>"
    )
    slowing = f" {status('warning', 'slowing')}" if job.trend is not None and job.trend.is_slowing else ""
    return (
        f'<tr><th scope="row">{link(links, job_page("/".join(job.key)), job.name)}</th>{stands}'
        f'<td class="n" data-key="{usual or ""}">{usual_said(job) or formats.NONE}{slowing}</td>'
        f'<td class="n">{len(job.slos)}</td></tr>'
    )


def _by_application(many: Iterable[Any]) -> Mapping[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for one in many:
        found.setdefault(one.application_id, []).append(one)
    return found


def _states(board: Board) -> Mapping[str, str]:
    """Of each SLO of today the worst state."""
    found: dict[str, str] = {}
    for one in board.today:
        found[one.slo_id] = min(found.get(one.slo_id, one.state), one.state, key=STATES.index)
    return found


def _standing(slo: TrackedSlo, states: Mapping[str, str]) -> dict[str, Any]:
    share = Decimal(slo.on_time) / slo.due if slo.due else None
    objective = Decimal(str(slo.objective)) if slo.objective else None
    return {
        "slo": slo,
        "page": slo_page(slo.id),
        "state": states.get(slo.id),
        "share": formats.quantity(share, "share"),
        "share_key": "" if share is None else f"{share:.6f}",
        "is_short": share is not None and objective is not None and share < objective,
        "objective": formats.quantity(objective, "share"),
    }
