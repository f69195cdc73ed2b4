"""What all pages share: the templates, the words of a status, the addresses of pages."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from pipelines.board import svg
from pipelines.catalog.names import page_name
from pipelines.kpi import formats

WORDS = {
    "ok": "ok", "warning": "warning", "critical": "critical", "no_data": "no data", "provisional": "provisional",
    "overdue": "overdue", "missed": "missed", "late": "late", "on_time": "on time", "not_due": "not due yet",
    "waived": "waived", "at_risk": "at risk", "failed": "failed", "running": "running", "silent": "silent",
}  # fmt: skip


@dataclass(frozen=True)
class Links:
    """Addresses of pages by their name: files beside each other, or places in the one page."""

    is_single: bool = False
    pages: frozenset[str] = frozenset()
    """Names of all pages that there are."""

    def __call__(self, page: str) -> str:
        return f"#{page}" if self.is_single else f"{page}.html"


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pipelines.board"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "instant": formats.instant,
        "iso": formats.iso,
        "quantity": formats.quantity,
        "difference": formats.difference,
        "percent": formats.percent,
        "words": formats.words,
        "lateness": formats.lateness,
    }
    environment.globals |= {
        "shape": svg.shape, "WORDS": WORDS, "application_page": application_page, "job_page": job_page,
        "slo_page": slo_page,
    }  # fmt: skip
    return environment


def template(name: str) -> Any:
    """A template by its name, without its endings."""
    return _environment().get_template(f"{name}.html.jinja")


@cache
def slo_page(slo_id: str) -> str:
    """The name of an SLO's page."""
    return page_name("slo", slo_id)


@cache
def job_page(job: str) -> str:
    """The name of the page of a job, `application/job`: ids of applications have no slash."""
    return page_name("job", *job.split("/", 1))


@cache
def application_page(application_id: str) -> str:
    """The name of an application's page."""
    return page_name("application", application_id)
