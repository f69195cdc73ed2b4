"""Access logs of a content server, and the heartbeats of it: files as they rotate, with the truth of each hour.

Lines are as Caddy writes them, visitors included: what becomes of those must not be found anywhere.
"""

from __future__ import annotations

import csv
import gzip
import json
import random
import re
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from itertools import accumulate
from pathlib import Path
from typing import Any

HOME_VISIT, OPERATIONS, UPTIME, USAGE, PACKAGE_USAGE = 1001, 1003, 1004, 1005, 1006
TRUTH = ("indicator_id", "hour_at", "dimension", "value")

# Requests by the UTC hour: a bank's day on the American east coast.
_HOURS = (1, 1, 0, 0, 0, 0, 0, 0, 1, 2, 4, 8, 14, 22, 26, 24, 20, 22, 26, 24, 16, 9, 4, 2)
_AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0 Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:125.0) Gecko/20100101 Firefox/125.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_4 like Mac OS X) AppleWebKit/605.1.15 Mobile/15E148",
)
_WEEKEND = 0.15

PACKAGES: tuple[dict[str, str], ...] = (
    {"kind": "zim", "title": "Handbook", "url": "//library.bank.example/viewer#handbook_en"},
    {"kind": "zim", "title": "Regulations", "url": "//library.bank.example/content/regulations_en"},
    {"kind": "files", "title": "Forms", "url": "//forms.bank.example/"},
    {"kind": "app", "title": "Training", "ident": "edupi", "url": "//training.bank.example/"},
    {"kind": "app", "title": "Exchange", "ident": "file-manager", "url": "//exchange.bank.example/"},
)


@dataclass
class _Hour:
    """What happened in an hour, told where it is made."""

    visits: dict[str, int] = field(default_factory=dict)
    operations: dict[str, int] = field(default_factory=dict)
    beats: set[int] = field(default_factory=set)
    minutes: dict[str, set[int]] = field(default_factory=dict)


def simulate_logs(
    out: Path, catalog: Path | None, first: date, as_of: datetime, seed: int, requests: int
) -> list[Path]:
    """Write `landing/metric_log`, `landing/uptime` and `truth/indicator_record.csv` below `out`; return the files.

    Packages are those of `catalog`, or ours, which are then written to `out/catalog`. `requests`: about how many
    there are on a working day. A log is rotated and compressed at UTC midnight, but the last: its last line is only
    half written at `as_of`.
    """
    if catalog is None:
        packages: Sequence[Mapping[str, Any]] = PACKAGES
        path = out / "catalog" / "packages" / "bank.yml"
        path.parent.mkdir(parents=True, exist_ok=True)
        # JSON is YAML too.
        path.write_text(json.dumps({"packages": PACKAGES}, indent=2) + "\n", encoding="utf-8")
        files = [path]
    else:
        packages = _packages(catalog)
        files = []
    writing = _Writing(out, packages, seed, requests)
    day = first
    while day <= as_of.date():
        writing.write_day(day, as_of)
        day += timedelta(days=1)
    return [*files, *writing.files, writing.truth()]


def _packages(catalog: Path) -> list[Mapping[str, Any]]:
    from pipelines.catalog.read import read_catalog

    return [json.loads(package.canonical()) for package in read_catalog(catalog).packages]


class LiveLogs:
    """Logs that grow as time passes: `metric_log/live-….json` and `uptime/live-….log`, of a UTC date each.

    The same seed, requests and catalog give the same lines for a date: started again, it goes on where its files end.
    """

    def __init__(self, landing: Path, catalog: Path, seed: int, requests: int, since: datetime) -> None:
        """`since`: nothing before is written."""
        self._landing = landing
        self._making = _Making(_packages(catalog), seed, requests)
        self._name = f"live-{seed}-{requests}"
        self._day = since.astimezone(UTC).date()
        self._since = since
        self._waiting: dict[Path, deque[tuple[datetime, bytes]]] = {}

    def write(self, moment: datetime) -> int:
        """Append what has happened until `moment`; return how many lines."""
        while self._day <= moment.astimezone(UTC).date():
            self._begin(moment)
            self._day += timedelta(days=1)
        count = 0
        for path, lines in list(self._waiting.items()):
            due = bytearray()
            while lines and lines[0][0] <= moment:
                due += lines.popleft()[1]
                count += 1
            if due:
                with path.open("ab") as file:
                    file.write(due)
            if not lines:
                del self._waiting[path]
        return count

    def _begin(self, moment: datetime) -> None:
        """Make the lines of a date, less those that its files have already."""
        lines, beats = self._making.day(self._day)
        for feed, ending, made in (("metric_log", "json", lines), ("uptime", "log", beats)):
            path = self._landing / feed / f"{self._name}-{self._day}.{ending}"
            path.parent.mkdir(parents=True, exist_ok=True)
            left = deque((at, line) for at, line in made if at > self._since)
            if path.exists():
                left = _unwritten(path.read_bytes(), left, moment)
            self._waiting[path] = left


def _unwritten(
    written: bytes, lines: deque[tuple[datetime, bytes]], moment: datetime
) -> deque[tuple[datetime, bytes]]:
    """Lines, the first of them perhaps in part, that come after what a file holds; other contents go on from now."""
    left = deque(lines)
    while written and left:
        at, line = left.popleft()
        if not written.startswith(line):
            if line.startswith(written):
                left.appendleft((at, line[len(written) :]))
                return left
            break
        written = written[len(line) :]
    return deque((at, line) for at, line in lines if at > moment) if written else left


class _Making:
    """Lines, and what they tell of each hour."""

    def __init__(self, packages: Sequence[Mapping[str, Any]], seed: int, requests: int) -> None:
        self.packages = [dict(package) for package in packages]
        self.seed = seed
        self.requests = requests
        self.hours: dict[datetime, _Hour] = {}
        self.weights = [1 / (place + 1) for place in range(len(packages))]

    def day(self, day: date) -> tuple[list[tuple[datetime, bytes]], list[tuple[datetime, bytes]]]:
        """Requests and heartbeats of a whole UTC date, each with its instant, in their order."""
        rng, midnight = self._begun(day)
        end = midnight + timedelta(days=1)
        lines = [(at, f"{line}\n".encode()) for at, line in self._requests(rng, midnight, end)]
        return lines, [(at, line.encode()) for at, line in self._beats(rng, midnight, end)]

    def _begun(self, day: date) -> tuple[random.Random, datetime]:
        return random.Random(f"{self.seed}/access/{day}"), datetime.combine(day, time(), UTC)

    def _requests(
        self, rng: random.Random, midnight: datetime, as_of: datetime
    ) -> Iterator[tuple[datetime, str]]:
        count = round(self.requests * (rng.uniform(0.8, 1.2) if midnight.weekday() < 5 else _WEEKEND))
        for at in sorted(self._instant(rng, midnight) for _ in range(count)):
            if at <= as_of:
                for line in self._lines(rng, at):
                    yield at, line

    def _beats(
        self, rng: random.Random, midnight: datetime, as_of: datetime
    ) -> Iterator[tuple[datetime, str]]:
        """A line a minute, but for an outage now and then."""
        gone = rng.randrange(1440) if rng.random() < 0.2 else 1440
        back = gone + rng.randrange(3, 90)
        for minute in range(1440):
            at = midnight + timedelta(minutes=minute, seconds=rng.randrange(60))
            if at > as_of or gone <= minute < back:
                continue
            self._hour(at).beats.add(at.minute)
            yield at, f"{at:%Y-%m-%dT%H:%M:%SZ}\n"

    def _hour(self, at: datetime) -> _Hour:
        return self.hours.setdefault(at.replace(minute=0, second=0, microsecond=0), _Hour())

    @staticmethod
    def _instant(rng: random.Random, midnight: datetime) -> datetime:
        totals = list(accumulate(_HOURS))
        hour = bisect_left(totals, rng.uniform(0.001, totals[-1]))
        return midnight + timedelta(hours=hour, microseconds=rng.randrange(3_600_000_000))

    # A request, and what it is.

    def _lines(self, rng: random.Random, at: datetime) -> Iterator[str]:
        chance = rng.random()
        if chance < 0.02:
            yield _other(rng, at)
        elif chance < 0.06:
            yield _line(rng, at, rng.choice(("status.bank.example", "10.1.0.7")), "GET", "/ping", 200)
        elif chance < 0.08:
            # The library itself, or an archive that it does not have.
            yield _line(
                rng, at, "library.bank.example", "GET", rng.choice(("/", "/content/gone_en/A/Index")), 404
            )
        elif self.packages:
            (package,) = rng.choices(self.packages, self.weights)
            yield self._request(rng, at, package)

    def _request(self, rng: random.Random, at: datetime, package: Mapping[str, Any]) -> str:
        title, url = package["title"], package["url"]
        hour = self._hour(at)
        hour.minutes.setdefault(title, set()).add(at.minute)
        host = url.removeprefix("//").partition("/")[0]
        shown = rng.choice((host, host, host.upper(), f"{host}:443"))
        is_home = rng.random() < 0.3
        if is_home:
            hour.visits[title] = hour.visits.get(title, 0) + 1
        query = rng.choice(("", "", f"?session={rng.getrandbits(48):012x}"))
        if package["kind"] == "zim":
            name = re.split(r"viewer#|content/", url)[1].strip("/")
            below = rng.choice(("", "/")) if is_home else f"/A/Page_{rng.randrange(400)}"
            return _line(rng, at, shown, "GET", f"/content/{name}{below}{query}", 200)
        if is_home:
            return _line(rng, at, shown, "GET", f"/{query}", 200)
        if package.get("ident") == "edupi" and rng.random() < 0.4:
            return self._document(rng, at, shown, hour)
        if package.get("ident") == "file-manager" and rng.random() < 0.4:
            added, deleted = rng.randrange(4), rng.randrange(2)
            self._operation(hour, "FILE_CREATED", added)
            self._operation(hour, "FILE_DELETED", deleted)
            headers = {"X-Tfm-Files-Added": [str(added)], "x-tfm-files-deleted": [str(deleted)]}
            return _line(rng, at, shown, "POST", f"/branch/{rng.randrange(90)}", 200, headers)
        return _line(
            rng, at, shown, "GET", f"/static/{rng.randrange(50)}.js{query}", rng.choice((200, 304, "200"))
        )

    def _document(self, rng: random.Random, at: datetime, host: str, hour: _Hour) -> str:
        uri = "/api/documents/"
        if rng.random() < 0.7:
            status = rng.choice((201, 201, 201, 400))
            self._operation(hour, "FILE_CREATED", int(status == 201))
            return _line(rng, at, host, "POST", uri, status)
        status = rng.choice((204, 204, 404))
        self._operation(hour, "FILE_DELETED", int(status == 204))
        return _line(rng, at, host, "DELETE", f"{uri}{rng.randrange(900)}", status)

    @staticmethod
    def _operation(hour: _Hour, kind: str, count: int) -> None:
        if count:
            hour.operations[kind] = hour.operations.get(kind, 0) + count


class _Writing(_Making):
    """Files of whole dates, and the truth about them."""

    def __init__(self, out: Path, packages: Sequence[Mapping[str, Any]], seed: int, requests: int) -> None:
        super().__init__(packages, seed, requests)
        self.out = out
        self.files: list[Path] = []
        for folder in ("metric_log", "uptime"):
            (out / "landing" / folder).mkdir(parents=True, exist_ok=True)

    def write_day(self, day: date, as_of: datetime) -> None:
        """Everything of a UTC date until `as_of`."""
        rng, midnight = self._begun(day)
        text = "".join(f"{line}\n" for _, line in self._requests(rng, midnight, as_of)).encode()
        folder = self.out / "landing" / "metric_log"
        if day == as_of.date():
            torn = _line(rng, as_of, "library.bank.example", "GET", "/", 200).encode()
            self._write(folder / "access.json", text + torn[: len(torn) // 2])
        else:
            # No time in the header: the same bytes every time.
            packed = gzip.compress(text, mtime=0)
            self._write(folder / f"access-{day}.json.gz", packed)
        beats = "".join(beat for _, beat in self._beats(rng, midnight, as_of))
        self._write(self.out / "landing" / "uptime" / f"{midnight:%Y-%m-%d}.log", beats.encode())

    def _write(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        self.files.append(path)

    def truth(self) -> Path:
        """Write every record, as the rules have it."""
        path = self.out / "truth" / "indicator_record.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="") as lines:
            rows = csv.writer(lines, lineterminator="\n")
            rows.writerow(TRUTH)
            for at, hour in sorted(self.hours.items()):
                start = at.isoformat()
                rows.writerows((HOME_VISIT, start, title, n) for title, n in sorted(hour.visits.items()))
                rows.writerows((OPERATIONS, start, kind, n) for kind, n in sorted(hour.operations.items()))
                if hour.beats:
                    rows.writerow((UPTIME, start, "", len(hour.beats)))
                if hour.minutes:
                    rows.writerow((USAGE, start, "", _active(set().union(*hour.minutes.values()))))
                rows.writerows(
                    (PACKAGE_USAGE, start, title, _active(minutes))
                    for title, minutes in sorted(hour.minutes.items())
                )
        return path


def _active(minutes: set[int]) -> int:
    """Ten minutes for each slot, of which the first request opens the first."""
    first = min(minutes)
    return 10 * len({minute - (minute - first) % 10 for minute in minutes})


def _line(
    rng: random.Random,
    at: datetime,
    host: str,
    method: str,
    uri: str,
    status: int | str,
    headers: Mapping[str, Sequence[str]] | None = None,
) -> str:
    visitor = f"198.51.100.{rng.randrange(1, 255)}"
    return json.dumps(
        {
            "level": "info",
            "ts": at.timestamp(),
            "logger": "http.log.access.log0",
            "msg": "handled request",
            "request": {
                "remote_ip": visitor,
                "remote_port": str(rng.randrange(30_000, 60_000)),
                "client_ip": visitor,
                "proto": "HTTP/2.0",
                "method": method,
                "host": host,
                "uri": uri,
                "headers": {"User-Agent": [rng.choice(_AGENTS)], "Accept-Encoding": ["gzip, deflate, br"]},
            },
            "bytes_read": 0,
            "user_id": "",
            "duration": round(rng.uniform(0.0002, 0.09), 6),
            "size": rng.randrange(200, 90_000),
            "status": status,
            "resp_headers": {"Server": ["Caddy"], **(headers or {})},
        },
        separators=(",", ":"),
    )


def _other(rng: random.Random, at: datetime) -> str:
    """A line that is no request that was handled: it is to be rejected."""
    line = json.loads(_line(rng, at, "library.bank.example", "GET", "/content/", 200))
    kind = rng.randrange(4)
    if kind == 0:
        line |= {"level": "error", "msg": f"dial tcp {line['request']['client_ip']}: connection refused"}
    elif kind == 1:
        del line["status"]
    elif kind == 2:
        del line["resp_headers"]
    else:
        return json.dumps(line)[:-40]
    return json.dumps(line, separators=(",", ":"))
