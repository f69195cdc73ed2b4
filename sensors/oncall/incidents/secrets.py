"""Secrets in the addresses of routes: refused where they are written down, hidden where they are told.

Services have secrets everywhere: as a password, as a token in the path, as an argument. Apprise knows of each service
which parts are private; what it does not know (a token in the path of a plain webhook, say) is known by its looks.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from urllib.parse import quote, unquote

VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")

HINT = (
    "take it from the environment of the process that delivers: "
    '"mailto://duemark:${MAIL_PASSWORD}@mail.example.org", or the whole address as "${NAME}"'
)
# Stands for the value of a variable: no part that has it is written down.
_UNKNOWN = "\ue000"
_PASSWORD = re.compile(r"^[A-Za-z][A-Za-z0-9+.-]*://[^/?#@]*:(?P<secret>[^/?#]*)@")
_ARGUMENT = re.compile(r"[?&](?P<name>[^=&#]+)=(?P<secret>[^&#]*)")
_PRIVATE_NAME = re.compile(
    r"pass|pwd|secret|token|api[-_]?key|^[-+:]?key$|auth|cred|signature|^[-+:]?sig$|cookie|session|bearer",
    re.IGNORECASE,
)
_PART = re.compile(r"[^/?&#=:@,;]+")
_LONG = 20


def secret_fault(target: str) -> tuple[str, str] | None:
    """(message, hint) where a secret is written into an address; neither says it. None where there is none."""
    for text in _written(target):
        if not text.startswith("file:") and _has_secret(text):
            return "a secret is written into this address", HINT
    return None


def hide(text: str, target: str, env: Mapping[str, str] | None = None) -> str:
    """`text` without what variables and the address itself (expanded or not) give away."""
    env = os.environ if env is None else env
    for match in VARIABLE.finditer(target):
        text = _without(text, env.get(match["name"]) or "", f"${{{match['name']}}}")
    for written in _written(target):
        if found := _PASSWORD.match(written):
            text = _without(text, found["secret"], "…")
        for argument in _ARGUMENT.finditer(written):
            if _PRIVATE_NAME.search(argument["name"]):
                text = _without(text, argument["secret"], "…")
    return re.sub(r"://[^/?#\s@]*:[^/?#\s@]*@", "://…@", text)


def _without(text: str, secret: str, instead: str) -> str:
    for written in {secret, quote(secret, safe=""), quote(secret), unquote(secret)}:
        # A word of three letters is no secret, and stands everywhere.
        if len(written) > 3:
            text = text.replace(written, instead)
    return text


def _written(target: str) -> list[str]:
    """The address with each variable by its default, or as unknown; and each default by itself, which may be one."""
    defaults = [match["default"] for match in VARIABLE.finditer(target) if match["default"]]
    return [
        VARIABLE.sub(lambda match: match["default"] or _UNKNOWN, target),
        VARIABLE.sub(_UNKNOWN, target),
        *defaults,
    ]


def _has_secret(text: str) -> bool:
    password = _PASSWORD.match(text)
    if password is not None and password["secret"] and _UNKNOWN not in password["secret"]:
        return True
    for argument in _ARGUMENT.finditer(text):
        secret = argument["secret"]
        if secret and _UNKNOWN not in secret and _PRIVATE_NAME.search(unquote(argument["name"])):
            return True
    if _UNKNOWN not in text and _is_private(text):
        return True
    _, scheme, rest = text.partition("://")
    return bool(scheme) and any(_looks_random(unquote(part)) for part in _PART.findall(rest))


def _is_private(text: str) -> bool:
    """Whether apprise would hide a part of it."""
    import apprise

    service = apprise.Apprise.instantiate(text, suppress_exceptions=True)
    if service is None:
        return False
    return bool(service.url(privacy=True) != service.url(privacy=False))  # type: ignore[no-untyped-call]


def _looks_random(part: str) -> bool:
    """Letters and digits without end, as no name of a host, a channel or a person is."""
    word = re.sub(r"[-_]", "", part)
    return (
        len(word) >= _LONG
        and word.isascii()
        and word.isalnum()
        and sum(one.isdigit() for one in word) >= 3
        and any(one.isalpha() for one in word)
    )
