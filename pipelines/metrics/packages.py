"""Packages by host, and which request is for which."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from pipelines.catalog.models import COUNTED_APPLICATIONS as APPLICATIONS

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
