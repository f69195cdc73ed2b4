"""What a tick did, in words: `1 file, 60 statuses; 10 occurrences judged`."""

from __future__ import annotations

from pipelines.subject import in_use
from pipelines.transform.publish import told
from pipelines.transform.tick import TickReport
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

CATALOG = {"catalog": ("change of the catalog", "changes of the catalog")}


def done(settings: Settings, report: TickReport) -> str:
    """What came in by the loads of the tick, and what of the marts was computed for it."""
    with connect(settings, "transform") as connection:
        rows = connection.execute(
            "select feed, sum(record_count)::bigint from raw.load where load_id > %(low)s and load_id <= %(high)s"
            " group by feed",
            {"low": report.low, "high": report.high},
        ).fetchall()
        row = connection.execute(
            "select count(*) from raw.landed_file where status = 'loaded' and load_id > %s and load_id <= %s",
            [report.low, report.high],
        ).fetchone()
    records = {str(feed): int(str(count)) for feed, count in rows}
    files = int(str(row[0])) if row else 0
    words = {name: feed.records for name, feed in in_use().feeds().items()} | CATALOG
    came = [counted(files, ("file", "files"))] if files else []
    came += [counted(records[feed], said) for feed, said in words.items() if records.get(feed)]
    computed = {one.name: one.inserted for one in told(report.publications) if one.inserted}
    judged = [
        counted(computed[mart], said)
        for one in in_use()
        for mart, said in one.counted.items()
        if mart in computed
    ]
    return f"{', '.join(came) or 'nothing new came in'}; {', '.join(judged) or 'no row changed'}"


def counted(number: int, words: tuple[str, str]) -> str:
    """`1 file`, `1,200 files`."""
    return f"{number:,} {words[number != 1]}"
