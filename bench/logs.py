"""Lines of access logs to hourly records, against DuckDB reading the same file by the same rules; memory by size."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import orjson

from bench.measure import best
from bench.scale import Scale
from bench.table import Row
from bench.warehouse import Bank, Workshop
from pipelines.catalog.store import store_catalog
from pipelines.landing.ingest import ingest
from pipelines.transform.project import Project
from pipelines.transform.tick import tick
from pipelines.warehouse.connect import connect

START = datetime(2026, 3, 2, tzinfo=UTC)
PACKAGES = [
    *({"kind": "zim", "title": f"Wiki {n}", "url": f"//library.example/viewer#wiki_{n}"} for n in range(20)),
    {"kind": "files", "title": "Forms", "url": "//forms.example/"},
    {"kind": "app", "title": "Training", "ident": "edupi", "url": "//training.example/"},
    {"kind": "app", "title": "Exchange", "ident": "file-manager", "url": "//exchange.example/"},
]
AGENT = (
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/124.0.0.0 Safari/537.36"
)
CHILD = """
import sys
from pathlib import Path
from bench.measure import peak_memory
from pipelines.landing.ingest import ingest
from pipelines.warehouse.settings import Settings
report = ingest(Settings.from_env(), feeds=["metric_log"])
assert [outcome.status for outcome in report.files] == ["loaded"], report
print(peak_memory())
"""

# The rules of inputs and indicators, as one would write them there.
DUCKDB = """
with
    line as (
        select
            make_timestamp((floor(ts / 60) * 60000000)::bigint) as minute_at,
            regexp_replace(lower(request.host), ':\\d+$', '') as host,
            split_part(request.uri, '?', 1) as path,
            request.method as method,
            try_cast(status as integer) as status,
            resp_headers
        from read_json($file, format = 'newline_delimited', columns = {
            level: 'VARCHAR', msg: 'VARCHAR', ts: 'DOUBLE', status: 'VARCHAR',
            request: 'STRUCT(host VARCHAR, uri VARCHAR, method VARCHAR)', resp_headers: 'JSON'
        })
        where level = 'info' and msg = 'handled request' and resp_headers is not null
    ),
    request as (
        select
            minute_at, package.title, path, method, status, resp_headers, package.ident,
            case when package.kind = 'zim' then path in ('/content/' || name, '/content/' || name || '/')
                else path = '/' end as is_home
        from line
        join package on line.host = package.host
            and (package.kind <> 'zim' or package.name = split_part(path, '/', 3) and starts_with(path, '/content/'))
    ),
    operation as (
        select minute_at, 'FILE_CREATED' as kind, 1 as amount from request
        where ident = 'edupi' and method = 'POST' and path = '/api/documents/' and status = 201
        union all
        select minute_at, 'FILE_DELETED', 1 from request
        where ident = 'edupi' and method = 'DELETE' and starts_with(path, '/api/documents/')
            and path <> '/api/documents/' and status = 204
        union all
        select minute_at, 'FILE_CREATED',
            try_cast((resp_headers ->> '$."X-Tfm-Files-Added"[0]') as integer) from request
        where ident = 'file-manager' and (resp_headers ->> '$."X-Tfm-Files-Added"[0]') is not null
    ),
    minute as (
        select date_trunc('hour', minute_at) as hour_at, title, minute(minute_at) as m,
            count(*) filter (is_home) as visits
        from request group by all
    ),
    overall as (
        select hour_at, m, min(m) over (partition by hour_at) as first from (select distinct hour_at, m from minute)
    ),
    by_package as (select *, min(m) over (partition by hour_at, title) as first from minute)
select 1001 as indicator_id, hour_at, title as dimension, sum(visits) as value from minute group by all having value > 0
union all
select 1003, date_trunc('hour', minute_at), kind, sum(amount) from operation group by all having sum(amount) > 0
union all
select 1005, hour_at, null, 10 * count(distinct (m - first) // 10) from overall group by all
union all
select 1006, hour_at, title, 10 * count(distinct (m - first) // 10) from by_package group by all
"""


def rows(shop: Workshop, scale: Scale) -> Iterator[Row]:
    """Ours is an ingest and the tick that publishes the records, less a tick that has nothing to do."""
    import duckdb

    bank = shop.bank("logs", 40, 5)
    shutil.rmtree(bank.folder / "landing")
    packages = bank.settings.catalog / "packages"
    packages.mkdir()
    (packages / "all.yml").write_bytes(orjson.dumps({"packages": PACKAGES}))
    store_catalog(bank.settings)
    project = Project(bank.settings)
    tick(project, START)
    log = bank.folder / "landing" / "metric_log" / "access.json"
    log.parent.mkdir(parents=True)
    count = 1_000_000 if scale.is_full else 20_000
    write_log(log, count)

    as_of = datetime(2026, 12, 1, tzinfo=UTC)

    def ours() -> None:
        ingest(bank.settings, feeds=["metric_log"])
        tick(project, as_of)

    def theirs() -> list[tuple[object, ...]]:
        with duckdb.connect(config={"threads": 2}) as connection:
            connection.execute(
                "create table package (kind text, title text, ident text, host text, name text)"
            )
            for package in PACKAGES:
                host, _, rest = package["url"].removeprefix("//").partition("/")
                name = rest.removeprefix("viewer#") or None
                connection.execute(
                    "insert into package values (?, ?, ?, ?, ?)",
                    [package["kind"], package["title"], package.get("ident"), host, name],
                )
            return list(connection.execute(DUCKDB, {"file": str(log)}).fetchall())

    measured, yardstick = [], []
    for _ in range(scale.repeats):
        _empty(bank)
        tick(project, as_of, rebuild=True)
        measured.append(shop.meter.measure(ours))
        yardstick.append(shop.meter.measure(theirs))
    _compare(bank, theirs())
    what = f"{count / 1e6:.2g} M log lines ({log.stat().st_size / 1e6:,.0f} MB) to hourly records"
    fastest = best(measured, lambda cost: cost.wall)
    yield Row(
        f"{what}, {count / fastest:,.0f} lines/s, wall",
        fastest,
        yardstick=best(yardstick, lambda cost: cost.wall),
        yardstick_is="DuckDB, two threads, the same records of the same file",
        goal=3,
    )
    yield _memory(bank, log, count, scale)


def write_log(path: Path, count: int) -> None:
    """Lines of about two requests a second, as the proxy writes them."""
    rng = random.Random(1)
    at = START.timestamp()
    with path.open("wb") as file:
        for _ in range(count):
            at += rng.random()
            host, uri, method, status, headers = _request(rng)
            address = f"198.51.100.{rng.randrange(255)}"
            request = {
                "remote_ip": address, "remote_port": str(rng.randrange(60_000)), "client_ip": address,
                "proto": "HTTP/2.0", "method": method, "host": host, "uri": uri,
                "headers": {"User-Agent": [AGENT], "Accept": ["text/html"], "Accept-Encoding": ["gzip, br"]},
            }  # fmt: skip
            line = {
                "level": "info", "ts": at, "logger": "http.log.access.log0", "msg": "handled request",
                "request": request, "bytes_read": 0, "user_id": "", "duration": rng.random(),
                "size": rng.randrange(90_000), "status": status,
                "resp_headers": {"Server": ["Caddy"], "Content-Type": ["text/html; charset=utf-8"], **headers},
            }  # fmt: skip
            file.write(orjson.dumps(line) + b"\n")


def _request(rng: random.Random) -> tuple[str, str, str, int, dict[str, list[str]]]:
    kind = rng.random()
    if kind < 0.6:
        page = f"/A/Page_{rng.randrange(9000)}" if rng.random() < 0.9 else "/"
        return "library.example", f"/content/wiki_{rng.randrange(22)}{page}", "GET", 200, {}
    if kind < 0.8:
        return (
            "forms.example",
            rng.choice(("/", f"/forms/{rng.randrange(500)}.pdf?v={rng.randrange(9)}")),
            "GET",
            200,
            {},
        )
    if kind < 0.9:
        return "training.example", rng.choice(("/", "/api/documents/")), rng.choice(("GET", "POST")), 201, {}
    if kind < 0.95:
        headers = {"X-Tfm-Files-Added": [str(rng.randrange(5))]} if rng.random() < 0.2 else {}
        return "exchange.example", "/branch/7", "POST", 200, headers
    return "elsewhere.example", "/", "GET", 404, {}


def _compare(bank: Bank, expected: list[tuple[object, ...]]) -> None:
    with connect(bank.settings) as connection:
        found = connection.execute(
            "select indicator_id, hour_at, dimension, value from marts.indicator_record"
        ).fetchall()
    assert sorted(map(_text, found)) == sorted(map(_text, expected)), "both sides have to say the same"


def _text(row: tuple[object, ...]) -> str:
    indicator, hour, dimension, value = row
    assert isinstance(hour, datetime)
    at = hour.astimezone(UTC) if hour.tzinfo else hour
    return f"{indicator} {at:%Y-%m-%dT%H} {dimension} {int(str(value))}"


def _empty(bank: Bank) -> None:
    """Nothing read."""
    with connect(bank.settings, autocommit=True) as connection:
        connection.execute("truncate raw.metric_input, raw.log_read, raw.log_stream")
        connection.execute("delete from raw.load where feed = 'metric_log'")
        connection.execute("checkpoint")


def _memory(bank: Bank, log: Path, count: int, scale: Scale) -> Row:
    small = _peak(bank)
    once = log.with_suffix(".part")
    shutil.copy(log, once)
    with log.open("ab") as file:
        for _ in range(scale.growth - 1):
            with once.open("rb") as lines:
                shutil.copyfileobj(lines, file, 1 << 24)
    once.unlink()
    size = log.stat().st_size / 1e6
    return Row(
        f"peak memory of reading {count * scale.growth / 1e6:.2g} M lines, {size:,.0f} MB",
        _peak(bank),
        "MB",
        small,
        f"of {count / 1e6:.2g} M",
        goal=1000,
        limits="value",
    )


def _peak(bank: Bank) -> float:
    """Megabytes, of a process of its own."""
    _empty(bank)
    result = subprocess.run(
        [sys.executable, "-c", CHILD], env=bank.environment(), check=True, capture_output=True, text=True
    )
    return int(result.stdout.split()[-1]) / 1e6
