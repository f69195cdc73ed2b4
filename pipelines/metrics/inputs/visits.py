"""Requests to packages, and which of them are visits of a package's home."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.metrics.facts import Facts
from pipelines.metrics.registry import Input

if TYPE_CHECKING:
    # Whoever only asks what is registered reads no lines.
    from pipelines.metrics.lines import Lines


def home_visits(lines: Lines) -> Facts:
    """The home of a zim is /content/NAME with or without a slash, that of others is /."""
    requests = lines.requests
    where = requests.is_home
    return Facts(lines.minutes[requests.positions[where]], requests.titles.filter(where))


def package_requests(lines: Lines) -> Facts:
    """Every request to a package, its home's included."""
    return Facts(lines.minutes[lines.requests.positions], lines.requests.titles)


INPUTS = (
    Input("package_home_visit", "metric_log", home_visits),
    Input("package_request", "metric_log", package_requests),
)
