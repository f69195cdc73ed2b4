"""The pages of all SLOs and jobs: what they share is put together once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from pipelines.board.frame import Links, job_page, slo_page, template
from pipelines.board.graph import Graph, Node
from pipelines.board.job_page import job_body
from pipelines.board.model import Board, Late
from pipelines.board.slo_page import slo_body
from pipelines.catalog.names import split_job

CRITICAL = frozenset({"overdue", "failed", "missed"})
WARNING = frozenset({"late", "at_risk"})


class Page(NamedTuple):
    """A page before it is put into its frame. `timezone`: of its instants."""

    name: str
    title: str
    body: str
    timezone: str


def tracked_names(board: Board) -> Iterable[str]:
    """The names of the pages that `tracked_pages` makes."""
    yield from (slo_page(slo.id) for slo in board.tracked)
    yield from (job_page("/".join(job.key)) for job in board.jobs)


def tracked_pages(board: Board, links: Links) -> Iterable[Page]:
    """A page for each SLO and each job that `links` has one of."""
    late: dict[str, list[Late]] = defaultdict(list)
    for one in sorted(board.late, key=lambda one: one.due_at, reverse=True):
        late[one.slo_id].append(one)
    graph = Graph.of(board.tracked, board.jobs, _state(board))
    jobs = {job.key: job for job in board.jobs}
    of_slo, of_job = template("slo"), template("job")
    for number, slo in enumerate(board.tracked):
        if (name := slo_page(slo.id)) in links.pages:
            body = of_slo.render(slo_body(board, slo, late.get(slo.id, ()), jobs, graph, links, f"s{number}"))
            yield Page(name, slo.name, body, slo.timezone)
    for number, job in enumerate(board.jobs):
        if (name := job_page("/".join(job.key))) in links.pages:
            yield Page(name, job.name, of_job.render(job_body(job, graph, links, f"j{number}")), job.timezone)


def _state(board: Board) -> Mapping[Node, str]:
    """What is not well: SLOs as they need attention, jobs as they stand on their newest date, and those to blame."""
    found: dict[Node, str] = {}

    def note(node: Node, outcome: str) -> None:
        if outcome in CRITICAL or (outcome in WARNING and node not in found):
            found[node] = "critical" if outcome in CRITICAL else "warning"

    for job in board.jobs:
        if job.days:
            note(job.key, job.days[-1].outcome)
    for one in board.late:
        note(one.slo_id, one.outcome)
        if one.outcome == "overdue":
            note(split_job(one.blocking_job), one.outcome)
    return found
