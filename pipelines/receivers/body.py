"""Bodies: read within limits of size and time, unpacked, and cut into records as they were sent."""

from __future__ import annotations

import asyncio
import json
import zlib

from fastapi import Request
from starlette.requests import ClientDisconnect

from pipelines.receivers.refusals import Refused
from pipelines.warehouse.settings import Settings

JSON = "application/json"
NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines")

MOST_RECORDS = 50_000
# Of a body in which nobody can tell the records apart so much is kept.
MOST_KEPT = 1 << 20

_DECODER = json.JSONDecoder()
_BLANK = " \t\r\n"
_BOM = b"\xef\xbb\xbf"


async def read_records(request: Request) -> list[bytes]:
    """The records of the body, one line each: of one JSON object, of an array of them, or of NDJSON.

    What is no JSON at all is one record, which says so. A record stays as it was sent, but for line ends between its
    words.

    Raises Refused: 400 (no gzip), 408, 413, 415.
    """
    is_lines = _is_lines(request.headers.get("content-type", ""))
    body = (await _read(request)).removeprefix(_BOM)
    found = [one for one in (body.split(b"\n") if is_lines else _of_json(body)) if one.strip()]
    if len(found) > MOST_RECORDS:
        raise Refused(413, f"The body has more than {MOST_RECORDS:,} records.", "Send it in parts.")
    return found


def _is_lines(content_type: str) -> bool:
    """Whether a body of this type is NDJSON; else it is JSON. Raises Refused where it is neither."""
    kind, _, parameters = content_type.partition(";")
    kind = kind.strip().lower()
    charset = parameters.partition("charset=")[2].strip().strip('"').lower()
    if kind in {JSON, *NDJSON} and charset in {"", "utf-8", "utf8", "us-ascii"}:
        return kind != JSON
    raise Refused(
        415,
        f"A body of the type {content_type[:80]!r} is not read." if kind else "The body has no type.",
        f"Say Content-Type: {JSON} for an object or an array, {NDJSON[0]} for an object a line; in UTF-8.",
        {"Accept": f"{JSON}, {NDJSON[0]}"},
    )


async def _read(request: Request) -> bytes:
    settings: Settings = request.app.state.settings
    most, seconds = settings.http_body_bytes, settings.http_body_seconds
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length) > most:
        raise _too_large(most)
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in {"identity", "gzip", "x-gzip"}:
        message = f"The content coding {coding[:40]!r} is not read."
        raise Refused(415, message, "Use gzip, or none.", {"Accept-Encoding": "gzip"})
    unpacker = None if coding == "identity" else zlib.decompressobj(16 + zlib.MAX_WBITS)
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(seconds):
            async for part in request.stream():
                # One byte more tells that there is more.
                parts.append(part if unpacker is None else unpacker.decompress(part, most - size + 1))
                size += len(parts[-1])
                if size > most:
                    raise _too_large(most)
    except TimeoutError:
        hint = f"It has to within {seconds:.0f} s."
        raise Refused(408, "The body did not end.", hint, {"Connection": "close"}) from None
    except zlib.error:
        raise Refused(400, "The body is no gzip.", "Pack it, or leave out Content-Encoding.") from None
    except ClientDisconnect:
        raise Refused(400, "The body was cut off.", "Send it again.") from None
    if unpacker is not None and (not unpacker.eof or unpacker.unused_data):
        raise Refused(400, "The body is not one whole gzip.", "Pack all of it at once, and send it again.")
    return b"".join(parts)


def _of_json(body: bytes) -> list[bytes]:
    text = body.decode("utf-8", "surrogateescape")
    place = _after_blanks(text, 0)
    if not text.startswith("[", place):
        return [_in_one_line(text)]
    found: list[bytes] = []
    place = _after_blanks(text, place + 1)
    try:
        while not (text.startswith("]", place) and not text[place + 1 :].strip(_BLANK)):
            if found:
                if not text.startswith(",", place):
                    raise ValueError
                place = _after_blanks(text, place + 1)
            _, end = _DECODER.raw_decode(text, place)
            found.append(_in_one_line(text[place:end]))
            place = _after_blanks(text, end)
            if len(found) > MOST_RECORDS:
                break
    except (ValueError, RecursionError):
        return [_in_one_line(text)[:MOST_KEPT]]
    return found


def _in_one_line(text: str) -> bytes:
    """Line ends in JSON stand between words only: within a text they are written otherwise."""
    return text.replace("\n", " ").replace("\r", " ").encode("utf-8", "surrogateescape")


def _after_blanks(text: str, place: int) -> int:
    while place < len(text) and text[place] in _BLANK:
        place += 1
    return place


def _too_large(most: int) -> Refused:
    return Refused(413, f"The body has more than {most:,} bytes.", "Send it in parts, or land a file.")
