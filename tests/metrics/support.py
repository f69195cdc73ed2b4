"""Lines of access logs to test with: good ones, and every way to be bad."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

PACKAGES = [
    {"kind": "zim", "title": "Wiki", "url": "//library.example/viewer#wiki_en"},
    {"kind": "zim", "title": "Maps", "url": "//Library.example:8080/content/maps"},
    {"kind": "files", "title": "Forms", "url": "//forms.example/"},
    {"kind": "app", "title": "Training", "ident": "edupi", "url": "//edupi.example/"},
    {"kind": "app", "title": "Exchange", "ident": "file-manager", "url": "//fm.example/"},
    {"kind": "app", "title": "Board", "ident": "other", "url": "//board.example/"},
]
# 2026-03-02 08:00 UTC
START = 1772438400

# Stands in every place of a line that may tell who somebody is.
MARKER = "visitor-7f3a"


def record(
    ts: Any = START + 30.25, host: Any = "library.example", uri: Any = "/content/wiki_en/", **rest: Any
) -> dict[str, Any]:
    """A line's object as the proxy writes it; `rest`: method, status, resp_headers, or any other field."""
    method = rest.pop("method", "GET")
    return {
        "level": "info",
        "ts": ts,
        "logger": "http.log.access.log0",
        "msg": "handled request",
        "request": {
            "remote_ip": MARKER,
            "client_ip": MARKER,
            "method": method,
            "host": host,
            "uri": uri,
            "headers": {"User-Agent": [MARKER], "Cookie": [f"session={MARKER}"], "Referer": [MARKER]},
        },
        "user_id": MARKER,
        "status": 200,
        "resp_headers": {"Server": ["Caddy"], "Set-Cookie": [MARKER]},
        **rest,
    }


def line(*arguments: Any, **rest: Any) -> bytes:
    return dumped(record(*arguments, **rest))


def dumped(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\n"


def without(*path: str) -> bytes:
    """A good line that lacks a field."""
    found = record()
    holder = found
    for name in path[:-1]:
        holder = holder[name]
    del holder[path[-1]]
    return dumped(found)


HOSTS = (
    "library.example", "LIBRARY.example:443", "library.example:8080", "forms.example", "edupi.example:80",
    "edupi.example", "fm.example", "FM.EXAMPLE", "board.example", "elsewhere.example", "", "[::1]:8080",
)  # fmt: skip
URIS = (
    "/", "/?a=1", "", "/content/wiki_en", "/content/wiki_en/", "/content/wiki_en?x", "/content/wiki_en/A/Ü?q=/content/",
    "/content/wiki_en/A", "/content/wiki_enx", "/content/maps", "/content//maps", "/content/gone/", "/content",
    "/content/", "/viewer#wiki_en", "/api/documents/", "/api/documents/?x=1", "/api/documents", "/api/documents/7",
    "/api/documents/7/a", "/other",
)  # fmt: skip
COUNTS: tuple[Any, ...] = (
    ["3"], "2", 4, [5], [" 6 "], ["0"], ["x"], ["1", "2"], [], "", None, 1.5, True, ["-1"], ["+1"], ["٣"], ["1" * 10],
)  # fmt: skip
HEADERS = ("X-Tfm-Files-Added", "x-tfm-files-added", "X-TFM-FILES-DELETED", "X-Tfm-Files-Deleted", "Server")
STATUSES: tuple[Any, ...] = (200, 201, 204, "200", "201", "204", 0, 404, 201.0, 999)
BAD_STATUSES: tuple[Any, ...] = (None, True, "ok", "", "20 0", 200.5, -1, 1000, [200], "1000", 1e20)


def good_lines(seconds: st.SearchStrategy[float]) -> st.SearchStrategy[bytes]:
    headers = st.dictionaries(st.sampled_from(HEADERS), st.sampled_from(COUNTS), max_size=3)
    return st.builds(
        line,
        ts=seconds,
        host=st.sampled_from(HOSTS),
        uri=st.sampled_from(URIS),
        method=st.sampled_from(["GET", "POST", "POST", "DELETE", "post"]),
        status=st.sampled_from(STATUSES),
        resp_headers=headers,
    )


BAD_LINES: tuple[bytes, ...] = (
    *(without(*path) for path in (
        ("level",), ("msg",), ("ts",), ("status",), ("request",), ("request", "host"), ("request", "uri"),
        ("request", "method"), ("resp_headers",),
    )),
    *(line(status=status) for status in BAD_STATUSES),
    line(level="error"), line(level=5), line(msg=f"TLS handshake error from {MARKER}"), line(msg=None),
    line(ts="1772438400"), line(ts=True), line(ts=None), line(ts=1e15), line(ts=-1e15), line(ts=[1]),
    line(host=5), line(uri=5), line(uri=None), line(method=["GET"]), line(request=[]), line(request=None),
    line(resp_headers=[]), line(resp_headers=None), line(resp_headers="x"),
    b"\xff\xfe\n", line()[:-20] + b"\n", b"{}\n", b"[]\n", b"5\n", b"null\n", b"plain text\n", b'{"ts":1} {"ts":2}\n',
    b'{"level":"a\xff"}\n', line().replace(b"GET", b"G\xffT"), line().replace(b"Caddy", b"Ca\xffy"),
    line()[:-1] + b",\n", b"{\0" + line()[1:], line().replace(b'"GET"', b"NaN"),
)  # fmt: skip
"""Each of them is rejected."""

ODD_LINES: tuple[bytes, ...] = (
    b"\n", b"   \n", b" " + line(), line()[:-1] + b" \r\n",
    line(ts=0), line(ts=-5.5), line(ts=START), line(ts=4102444800.5),
    line(deep=json.loads("[" * 900 + "]" * 900)),
)  # fmt: skip
"""Blank, or good though they do not look like it."""
