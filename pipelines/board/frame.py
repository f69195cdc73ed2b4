"""What all pages share: the templates, the words of a status, the addresses of pages."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

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


# Pieces of pages that are there by the ten thousand, and therefore no macros of the templates.


def link(links: Links, page: str, name: str) -> Markup:
    """The name of a thing, which leads to its page where it has one."""
    return Markup(f'<a href="{links(page)}">{escape(name)}</a>') if page in links.pages else escape(name)  # noqa: S704


def job_link(links: Links, job: str) -> Markup:
    """The same of a job, `application/job`."""
    return Markup(f"<code>{link(links, job_page(job), job)}</code>")  # noqa: S704


@cache
def _sign(name: str) -> str:
    return f'<span class="status {escape(name)}">{svg.shape(name)}'


def status(name: str, text: str = "") -> Markup:
    """How something stands: a sign and a word, or what else is said of it."""
    return Markup(f"{_sign(name)} {escape(text or WORDS.get(name, name))}</span>")  # noqa: S704


def time(moment: datetime | None, zone: str) -> Markup:
    """An instant by the wall clock of a zone, and for machines."""
    if moment is None:
        return Markup(formats.NONE)  # noqa: S704
    return Markup(f'<time datetime="{moment.isoformat()}">{formats.instant(moment, zone)}</time>')  # noqa: S704


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
        "slo_page": slo_page, "link": link, "job": job_link, "status": status, "time": time,
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
