"""Packages by host, and which request is for which."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from pipelines.catalog.models import COUNTED_APPLICATIONS as APPLICATIONS
from pipelines.landing.feed import NotYetError
from pipelines.logs import get_logger

if TYPE_CHECKING:
    from pipelines.warehouse.settings import Settings

log = get_logger(__name__)

_URL = re.compile(r"//(?P<host>[^/?#]+)(?:/(?:viewer#|content/)(?P<name>[^/?#\s]+))?")
_PORT = re.compile(r":\d*$")


def host_name(text: str) -> str:
    """A host as it is compared: without port, case-folded."""
    return _PORT.sub("", text).casefold()


def archive_name(text: str) -> str:
    """The name of an archive as it is compared: without percent-encoding, which a browser may add and a catalog too."""
    try:
        return unquote(text, errors="strict")
    except UnicodeDecodeError:
        return text


def application(ident: str | None) -> str | None:
    """Which application an ident names: `edupi`, or `edupi.example.org`, as hosts of applications are called."""
    if ident is None:
        return None
    name = ident.partition(".")[0].casefold()
    return name if name in APPLICATIONS else ident


@dataclass(frozen=True)
class Site:
    """A package: `name` is that of a zim's content, `ident` says which application it is."""

    kind: str
    title: str
    host: str
    ident: str | None = None
    name: str | None = None


class Packages:
    """The catalog's packages, by the hosts that they are on."""

    def __init__(self, specs: Iterable[Mapping[str, str]] = ()) -> None:
        self._by_host: dict[str, dict[Site, None]] = {}
        for spec in specs:
            found = _URL.match(spec["url"])
            if found is None:
                continue
            host = host_name(found["host"])
            name = archive_name(found["name"] or "") if spec["kind"] == "zim" else None
            site = Site(spec["kind"], spec["title"], host, application(spec.get("ident")), name or None)
            self._by_host.setdefault(host, {})[site] = None

    def on(self, host: str) -> tuple[Site, ...]:
        """Packages on a host; none where it is not known."""
        return tuple(self._by_host.get(host, ()))


def stored(settings: Settings) -> Packages:
    """The packages by which lines are counted. A line is read once: it must not come before the catalog.

    While the catalog is refused the packages before stand; logs go on to be counted by them as long as those in the
    files are the same. Raises NotYetError where they are not known yet.
    """
    from pipelines.catalog.store import stored_packages

    if not _are_known(settings):
        raise NotYetError(
            "Logs wait for a catalog without faults: what they are to be counted by is not known yet."
        )
    return Packages(stored_packages(settings))


def _are_known(settings: Settings) -> bool:
    from pipelines.catalog.read import CatalogError, read_packages
    from pipelines.catalog.store import refresh_catalog, stored_packages

    try:
        refused = refresh_catalog(settings)
    except CatalogError as error:
        log.warning("no catalog", problems=[str(problem) for problem in error.problems])
        return False
    if refused is None:
        return True
    packages = read_packages(settings.catalog)
    if packages is None:
        return False
    declared = {one.url: json.loads(one.canonical()) for one in packages}
    return declared == {one["url"]: one for one in stored_packages(settings)}
