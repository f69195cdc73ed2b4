"""Modules of the user's own that `DUEMARK_PLUGINS` names, separated by commas.

Each may have `SUBJECT` (see `pipelines.subject`), `INPUTS` and `INDICATORS` (see `pipelines.metrics.registry`). Whoever
lands, ticks or serves the web interface has to know them: set it for all processes alike.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from pipelines.errors import DuemarkError
from pipelines.warehouse.settings import Settings

SETTING = Settings.plugins.name


def named() -> tuple[str, ...]:
    """The names of the modules, as the setting has them."""
    return Settings.plugins.now()


def module(name: str) -> ModuleType:
    """The module of that name. Raises DuemarkError where it cannot be imported."""
    try:
        return import_module(name)
    except Exception as error:
        raise DuemarkError(
            f"{SETTING} names {name!r}, which cannot be imported: {type(error).__name__}: {error}.",
            "Install it where Duemark runs, or take its name out.",
        ) from error
