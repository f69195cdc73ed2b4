"""From lines to hourly records: incremental, late, from the future, expired; as the rules have it, and as a rebuild."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.transform.waiting import waiting
from pipelines.warehouse.settings import ROOT
from tests.metrics import oracle
from tests.metrics.conftest import Server
from tests.metrics.support import BAD_LINES, MARKER, PACKAGES, START, good_lines, line
from tests.transform.support import Warehouse, examples, utc

AT = datetime.fromtimestamp(START, UTC)


def at(minute: float, **rest: Any) -> bytes:
    """A request in a minute after 08:00."""
    return line(ts=START + 60 * minute, **rest)


def test_active_minutes_are_slots_from_the_first_request(server: Server) -> None:
    server.log([at(minute) for minute in (9, 11)])
    server.log([at(60 + minute) for minute in (0, 40)])
    server.log([at(120 + minute, host="forms.example") for minute in (0, 10, 20, 30, 40, 50, 59)])
    server.log(
        [at(180 + minute, host=host) for minute, host in ((5, "forms.example"), (16, "library.example"))]
    )
    server.ingest()
    server.tick("2026-03-02 13:00")
    assert server.values(1005) == {
        ("2026-03-02T08", ""): 10,
        ("2026-03-02T09", ""): 20,
        ("2026-03-02T10", ""): 60,
        ("2026-03-02T11", ""): 20,
    }
    assert server.values(1006) == {
        ("2026-03-02T08", "Wiki"): 10,
        ("2026-03-02T09", "Wiki"): 20,
        ("2026-03-02T10", "Forms"): 60,
        ("2026-03-02T11", "Forms"): 10,
        ("2026-03-02T11", "Wiki"): 10,
    }


def test_uptime_counts_minutes_once(server: Server) -> None:
    beats = [AT + timedelta(minutes=minute, seconds=second) for minute in range(58) for second in (1, 31)]
    server.beat([*beats, AT + timedelta(hours=1)])
    server.ingest()
    server.tick("2026-03-02 10:00")
    assert server.values(1004) == {("2026-03-02T08", ""): 58, ("2026-03-02T09", ""): 1}
    (row, _) = server.warehouse.query("select * from marts.indicator_record order by hour_at")
    assert (row["dimension"], row["dimension_key"]) == (None, "")


def test_a_late_line_computes_its_hour_again_and_no_other(server: Server) -> None:
    server.log([at(minute) for minute in (1, 61, 121)])
    server.ingest()
    server.tick("2026-03-02 12:00")
    assert set(server.values(1001).values()) == {1}
    server.log([at(70), at(75)], name="late.json")
    server.ingest()
    report = server.tick("2026-03-02 12:01")
    (publication,) = [each for each in report.publications if each.name == "indicator_record"]
    # Of one hour: home visits, active minutes, active minutes of the package.
    assert (publication.deleted, publication.inserted) == (3, 3)
    assert server.values(1001)["2026-03-02T09", "Wiki"] == 3
    assert server.values(1005)["2026-03-02T09", ""] == 20


def test_an_open_hour_is_provisional_until_it_ends(server: Server) -> None:
    server.log([at(1), at(59.5)])
    server.ingest()
    server.tick("2026-03-02 08:30")

    def states() -> list[Any]:
        rows = server.warehouse.query(
            "select distinct provisional, value from marts.indicator_record where indicator_id = 1001"
        )
        return [tuple(row.values()) for row in rows]

    # The second line is from the future of 08:30, and held.
    assert states() == [(True, 1)]
    settings = server.warehouse.settings
    assert waiting(settings, utc("2026-03-02 08:58")).since is None
    assert waiting(settings, utc("2026-03-02 09:00")).since == utc("2026-03-02 08:59")
    server.tick("2026-03-02 08:59:30")
    assert states() == [(True, 2)]
    assert waiting(settings, utc("2026-03-02 09:00")).since == utc("2026-03-02 09:00")
    server.tick("2026-03-02 09:00")
    assert states() == [(False, 2)]
    assert waiting(settings, utc("2026-03-02 23:00")).since is None


def test_records_are_kept_for_a_year_to_the_instant(server: Server) -> None:
    server.log([line(ts=START - 3600 * 24 * 365 + 3600 * hour) for hour in (-1, 0, 1)])
    server.ingest()
    server.tick("2025-03-02 12:00")
    assert len(server.values(1001)) == 3
    server.tick("2026-03-02 08:00")
    assert list(server.values(1001)) == [("2025-03-02T08", "Wiki"), ("2025-03-02T09", "Wiki")]
    assert waiting(server.warehouse.settings, utc("2026-03-02 08:30")).since == utc("2026-03-02 08:00")
    server.tick("2026-03-02 08:00:01")
    assert list(server.values(1001)) == [("2025-03-02T09", "Wiki")]
    # A late line for an hour that is gone comes too late.
    server.log([line(ts=START - 3600 * 24 * 365)], name="late.json")
    server.ingest()
    server.tick("2026-03-02 08:10")
    assert list(server.values(1001)) == [("2025-03-02T09", "Wiki")]
    server.tick("2026-03-02 08:10", rebuild=True)
    assert list(server.values(1001)) == [("2025-03-02T09", "Wiki")]


def test_a_line_of_ten_megabytes_stands_in_nobodys_way(server: Server) -> None:
    server.log(
        [at(1), line(uri=f"/content/wiki_en/{MARKER * 850_000}"), at(2), line(host="é" * 900_000), at(3)]
    )
    (outcome,) = server.ingest().files
    assert (outcome.record_count, outcome.rejected_count) == (3, 2)
    server.tick("2026-03-02 12:00")
    assert server.values(1001) == {("2026-03-02T08", "Wiki"): 3}
    told = server.warehouse.query(
        "select line_no, record, reasons from marts.rejected_record order by line_no"
    )
    assert [row["line_no"] for row in told] == [2, 4]
    assert all("bytes." in row["reasons"] and not row["record"] for row in told)


def test_lines_of_one_hour_in_any_order_from_any_file_and_time(server: Server) -> None:
    """What is late by a tick, a file or a year of ticks is counted as if it had come in time."""
    lines = [
        at(minute, host=host) for minute in (0, 3, 11, 59) for host in ("forms.example", "library.example")
    ]
    found = []
    for order in (lines, lines[::-1]):
        server.reset()
        for number, each in enumerate(order):
            server.log([each], f"{number % 3}.json")
            server.ingest()
            server.tick(AT + timedelta(days=40 * number, hours=2))
        found.append(server.records())
    assert found[0].equals(found[1])
    assert len(found[0]) == 4


def test_what_comes_too_late_is_counted(server: Server) -> None:
    """By the moments of ticks: whatever the clock says, an hour that was never purged is not too late."""
    days = [AT - timedelta(days=each) for each in (1, 2, 360)]
    server.log([line(ts=day.timestamp()) for day in days])
    server.beat([AT - timedelta(days=2)])
    server.ingest()

    def counts() -> list[tuple[Any, ...]]:
        rows = server.warehouse.query(
            "select feed, record_count, too_late_count from marts.metric_log order by 1"
        )
        return [tuple(row.values()) for row in rows]

    server.tick(AT)
    server.log([line(ts=days[2].timestamp())])
    server.ingest()
    assert counts() == [("metric_log", 4, 0), ("uptime", 1, 0)]
    server.tick(AT)
    assert server.values(1001)[f"{days[2]:%Y-%m-%dT%H}", "Wiki"] == 2
    # A tick later that hour is old and gone. The one that is older still was never there, and is counted by a tick.
    server.tick(AT + timedelta(days=10))
    server.log([line(ts=day.timestamp()) for day in (days[0], days[2], AT - timedelta(days=800))])
    server.log([line(ts=days[2].timestamp(), host="elsewhere.example")])
    # The heartbeats of an hour whose visits were purged were not.
    server.beat([days[2], AT - timedelta(hours=5)])
    server.ingest()
    for is_rebuild in (False, True):
        # A visit and a request each; another host's is nobody's.
        assert counts() == [("metric_log", 8, 2), ("uptime", 3, 0)]
        server.tick(AT + timedelta(days=10), rebuild=is_rebuild)
        assert sum(server.values(1001).values()) == 3
        assert sum(server.values(1004).values()) == 2
    # What was counted and purged at once is too late the next time.
    server.beat([days[2]])
    server.ingest()
    assert counts() == [("metric_log", 8, 2), ("uptime", 4, 1)]


def test_a_rebuild_as_of_before_a_purge_brings_back_what_raw_has(server: Server) -> None:
    server.log([at(1), at(61)])
    server.ingest()
    server.tick(AT + timedelta(days=365, hours=1))
    assert list(server.values(1001)) == [("2026-03-02T09", "Wiki")]
    server.tick(AT + timedelta(days=2), rebuild=True)
    assert list(server.values(1001)) == [("2026-03-02T08", "Wiki"), ("2026-03-02T09", "Wiki")]
    server.log([at(2)])
    server.ingest()
    server.tick(AT + timedelta(days=2, hours=1))
    assert server.values(1001)["2026-03-02T08", "Wiki"] == 2


def test_numbered_kpis_count_the_last_hours_of_a_year_and_logs_of_long_ago(server: Server) -> None:
    path = server.warehouse.settings.catalog / "kpis" / "numbered.yml"
    path.parent.mkdir()
    shutil.copy(ROOT / "catalog" / "kpis" / "numbered.yml", path)

    def years() -> dict[str, tuple[int, bool]]:
        rows = server.warehouse.query(
            "select period, value_json -> 'totalVisits' as visits, provisional from marts.kpi_value"
            " where kpi_id = 'package-popularity' and grain = 'year' order by period"
        )
        return {row["period"]: (row["visits"], row["provisional"]) for row in rows}

    def visit(*moments: str, name: str = "access.json") -> None:
        server.log([line(ts=utc(moment).timestamp()) for moment in moments], name)
        server.ingest()

    try:
        visit("2022-01-01 03:00", "2022-12-31 10:00", "2022-12-31 10:01")
        server.tick("2022-12-31 12:00")
        visit("2022-12-31 22:00")
        server.tick("2023-01-01 00:00:30")
        # As old as a year, and read for the first time.
        visit("2020-05-05 05:00", "2022-10-01 10:00", name="old.json")
        server.tick("2023-01-01 02:00")
        assert years() == {"2020": (1, False), "2021": (0, False), "2022": (5, False), "2023": (0, True)}
        assert {hour[:4] for hour, _ in server.values(1001)} == {"2022"}
        # Now an hour of 2022 is purged: the year stays as it is, and what comes for it is in its month only.
        server.tick("2023-01-01 04:00")
        visit("2022-01-01 03:30", "2022-12-31 23:00", "2020-05-05 05:30")
        for is_rebuild in (False, True):
            server.tick("2023-01-01 05:00", rebuild=is_rebuild)
            assert years() == {"2020": (1, False), "2021": (0, False), "2022": (5, False), "2023": (0, True)}
            months = server.warehouse.query(
                "select value from marts.kpi_value where kpi_id = 'package-popularity' and period = '2022-12'"
            )
            assert months == [{"value": 4}]
        (late,) = server.warehouse.query("select sum(too_late_count) as n from marts.metric_log")
        assert late["n"] == 4, "a visit and a request, twice"
    finally:
        path.unlink()
        server.tick("2023-01-01 05:00", rebuild=True)


@pytest.mark.parametrize("seconds", [-62135596800 + 60, 0, 253402300799])
def test_times_far_away_are_no_error(server: Server, seconds: int) -> None:
    server.log([line(ts=seconds), at(5)])
    report = server.ingest()
    assert [outcome.rejected_count for outcome in report.files] == [0]
    server.tick("2026-03-02 12:00")
    assert server.values(1001) == {("2026-03-02T08", "Wiki"): 1}


def test_nothing_that_identifies_a_visitor_is_stored(server: Server) -> None:
    uri = f"/content/wiki_en/?token={MARKER}"
    server.log(
        [line(uri=uri), line(status=MARKER, uri=uri), line(level=MARKER), line(msg=MARKER), *BAD_LINES]
    )
    server.log([f"{MARKER}\n".encode(), b'{"who": "' + MARKER.encode() + b'"}\n'])
    # In the wrong folder, too.
    (server.folder("uptime") / "a.log").write_bytes(line() + f"{MARKER}\n".encode())
    server.ingest()
    server.tick("2026-03-02 12:00")
    rows = list(server.everything())
    assert any("rejected_record" in table for table, _ in rows)
    assert any("Wiki" in row for table, row in rows if table == "marts.indicator_record")
    assert [(table, row) for table, row in rows if MARKER in row] == []
    assert [(table, row) for table, row in rows if "User-Agent" in row or "remote_ip" in row] == []


LINES = st.lists(
    st.one_of(
        good_lines(st.floats(START, START + 3 * 3600)),
        good_lines(st.floats(START, START + 3 * 3600)),
        st.sampled_from(BAD_LINES),
    ),
    min_size=1,
    max_size=30,
)
BEATS = st.lists(st.integers(0, 170).map(lambda minute: AT + timedelta(minutes=minute)), max_size=20)


@given(
    parts=st.lists(st.tuples(LINES, BEATS, st.sampled_from(["a.json", "b.json"]), st.booleans()), max_size=4),
    minutes=st.lists(st.integers(0, 240), min_size=4, max_size=4).map(sorted),
)
@examples(4)
def test_incremental_is_full_is_what_the_rules_say(
    deployed: Warehouse,
    parts: list[tuple[list[bytes], list[datetime], str, bool]],
    minutes: list[int],
) -> None:
    server = Server(deployed)
    server.reset()
    lines: list[bytes] = []
    beats: list[datetime] = []
    for (some, instants, name, has_tick), minute in zip(parts, minutes, strict=False):
        server.log(some, name)
        server.beat(instants)
        server.ingest()
        lines += some
        beats += instants
        if has_tick:
            server.tick(AT + timedelta(minutes=minute, seconds=30))
    as_of = AT + timedelta(minutes=minutes[-1], seconds=30)
    server.tick(as_of)
    found = server.records()
    expected = oracle.records(lines, beats, PACKAGES, as_of)
    pd.testing.assert_frame_equal(found, expected, check_dtype=False, check_index_type=False)
    table = server.warehouse.query("select * from marts.indicator_record order by 1, 2, 4")
    server.tick(as_of, rebuild=True)
    assert server.warehouse.query("select * from marts.indicator_record order by 1, 2, 4") == table
    assert all(row["provisional"] == (row["hour_at"] + timedelta(hours=1) > as_of) for row in table)
