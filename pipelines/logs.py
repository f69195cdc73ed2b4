"""Structured logs: one event a line, JSON when nobody is looking at a terminal.

Everything goes to stderr, so that stdout stays the answer of a command.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog

from pipelines.warehouse.settings import Settings


def configure(default: str | None = None) -> None:
    """Set up structlog for a process.

    The level is `DUEMARK_LOG_LEVEL`; without it `default`, else WARNING on a terminal and INFO elsewhere.
    """
    on_terminal = sys.stderr.isatty()
    name = Settings.log_level.now() or default or ("WARNING" if on_terminal else "INFO")
    level = logging.getLevelNamesMapping().get(name.upper(), logging.INFO)
    renderer: Any = structlog.dev.ConsoleRenderer() if on_terminal else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        # Whatever stderr is by then: who captured it for a while may have closed that.
        logger_factory=lambda *_: structlog.PrintLogger(file=sys.stderr),
        cache_logger_on_first_use=False,
    )


def ensure() -> None:
    """Set up structlog where the process has not: code locations are loaded by processes that are not ours."""
    if not structlog.is_configured():
        configure()


def notice(event: str, **facts: object) -> None:
    """Log a warning that no level keeps back: what somebody at a terminal has to know, whatever they asked for."""
    ensure()
    heard: Any = structlog.wrap_logger(
        structlog.PrintLogger(file=sys.stderr),
        wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET),
    )
    heard.warning(event, **facts)


def get_logger(name: str) -> Any:
    """Return a logger bound to `name`; add facts as keyword arguments (`log.info("loaded", rows=3)`)."""
    return structlog.get_logger(module=name)
