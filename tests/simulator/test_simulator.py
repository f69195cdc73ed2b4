"""The simulated bank: the same bytes every time, a valid catalog, a truth that the oracle reads from the files too."""

from __future__ import annotations

import contextlib
import csv
import gzip
import hashlib
import io
import json
import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow.parquet as pq
import pytest

from pipelines.catalog.read import Catalog, read_catalog
from pipelines.catalog.resolve import resolve
from pipelines.errors import DuemarkError
from pipelines.simulator import Summary, simulate
from pipelines.slo.promises import expand
from tests.oracle import Row, Verdict, judge
from tests.transform.worlds import Promised

ROOT = Path(__file__).resolve().parents[2]
NAMES = {
    "applicationId": "application_id",
    "jobId": "job_id",
    "jobStatusCode": "status_code",
    "jobStatusTimestamp": "status_at",
    "businessDate": "business_date",
    "runId": "run_id",
    "hostId": "host_id",
}


@dataclass(frozen=True)
class Simulated:
    """A simulation, read back from its files."""

    out: Path
    summary: Summary
    catalog: Catalog

    def truth(self, name: str) -> list[dict[str, str]]:
        with (self.out / "truth" / f"{name}.csv").open(encoding="utf-8", newline="") as lines:
            return list(csv.DictReader(lines))

    @property
    def as_of(self) -> datetime:
        return datetime.fromisoformat((self.out / "truth" / "as_of.txt").read_text(encoding="utf-8").strip())

    def records(self) -> Iterator[tuple[Path, int, Mapping[str, Any]]]:
        """File, line and record, good or bad, by the canonical names."""
        for path in sorted((self.out / "landing" / "job_status").iterdir()):
            for line, record in enumerate(_records(path), start=2):
                yield path, line, {NAMES.get(name, name): value or None for name, value in record.items()}

    def statuses(self) -> list[dict[str, Any]]:
        """The good records."""
        bad = {(row["path"], int(row["line_no"])) for row in self.truth("bad_records")}
        return [
            self._status(record)
            for path, line, record in self.records()
            if (path.relative_to(self.out).as_posix(), line) not in bad
        ]

    def _status(self, record: Mapping[str, Any]) -> dict[str, Any]:
        status_at, business_date = record["status_at"], record["business_date"]
        if isinstance(status_at, str):
            status_at = datetime.fromisoformat(status_at)
            if status_at.tzinfo is None:
                zone = ZoneInfo(self.catalog.applications[record["application_id"]].timezone)
                status_at = status_at.replace(tzinfo=zone)
        if isinstance(business_date, str):
            business_date = date.fromisoformat(business_date)
        return {
            **record,
            "run_id": record.get("run_id"),
            "host_id": record.get("host_id"),
            "status_code": record["status_code"].upper(),
            "status_at": status_at.astimezone(UTC),
            # The truth is that of a bank whose statuses come as they happen.
            "received_at": status_at.astimezone(UTC),
            "business_date": business_date,
        }

    def verdict(self, statuses: list[dict[str, Any]]) -> Verdict:
        promises: list[Promised] = []
        open_start = set()
        for slo_id, entries in self.catalog.slos.items():
            if entries[0].effective_from is None:
                open_start.add(slo_id)
            for entry, following in zip(entries, [*entries[1:], None], strict=True):
                last = date(2026, 4, 30)
                if following is not None and following.effective_from is not None:
                    last = following.effective_from - timedelta(days=1)
                spec = resolve(self.catalog, entry)
                promises += [
                    Promised(slo_id, promise, entry.application, spec.timezone)
                    for promise in expand(spec, date(2025, 1, 1), last)
                ]
        return judge(statuses, promises, self.as_of, open_start=open_start)


def _records(path: Path) -> Iterator[Mapping[str, Any]]:
    if path.suffix == ".parquet":
        yield from pq.read_table(path).to_pylist()
        return
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    text = raw.decode("utf-8")
    if ".ndjson" in path.name:
        yield from (json.loads(line) for line in text.splitlines())
    else:
        yield from csv.DictReader(io.StringIO(text, newline=""))


def _simulated(out: Path, catalog: Path | None = None, **arguments: Any) -> Simulated:
    given = {"jobs": 60, "days": 25, "seed": 7, **arguments}
    return Simulated(
        out,
        simulate(out, catalog=catalog, **given),
        read_catalog(out / "catalog" if catalog is None else catalog),
    )


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    return _simulated(tmp_path_factory.mktemp("bank"))


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory: pytest.TempPathFactory) -> Simulated:
    return _simulated(tmp_path_factory.mktemp("demonstration"), ROOT / "catalog", seed=42)


def _as_truth(row: Row) -> dict[str, str]:
    """A row of the oracle as the simulator writes its own."""

    def text(value: Any) -> str:
        if value is None:
            return ""
        if isinstance(value, datetime):
            return value.isoformat(timespec="milliseconds" if value.microsecond else "seconds")
        if isinstance(value, timedelta):
            return f"{value.total_seconds():.3f}"
        return str(value)

    names = [
        name
        for name in row
        if name
        not in ("late_by", "last_success_at", "last_status", "blocking_job", "gives_up_at", "is_waived")
    ]
    return {**{name: text(row[name]) for name in names}, "late_by_seconds": text(row["late_by"])}


def _by_key(rows: list[dict[str, str]]) -> dict[tuple[str, str, str], dict[str, str]]:
    made = {(row["slo_id"], row["business_date"], row["slot"]): row for row in rows}
    assert len(made) == len(rows)
    return made


# Truth


@pytest.mark.parametrize("name", ["bank", "demonstration"])
def test_the_oracle_reads_the_truth_from_the_files(name: str, request: pytest.FixtureRequest) -> None:
    simulated: Simulated = request.getfixturevalue(name)
    statuses = simulated.statuses()
    random.Random(1).shuffle(statuses)
    found = _by_key([_as_truth(row) for row in simulated.verdict(statuses).slo_performance])
    truth = _by_key(simulated.truth("slo_performance"))
    assert found.keys() == truth.keys()
    assert {key: row for key, row in found.items() if row != truth[key]} == {}
    assert len(truth) == simulated.summary.occurrences


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("jobs", [1, 3, 5, 12, 150])
def test_the_truth_holds_for_other_banks(tmp_path: Path, jobs: int, seed: int) -> None:
    # November: both clocks have changed back, and the second pass of the hour needs its offset.
    simulated = _simulated(tmp_path, jobs=jobs, days=4, seed=seed, end=date(2025, 11, 4))
    assert len(simulated.catalog.jobs) == jobs
    found = _by_key([_as_truth(row) for row in simulated.verdict(simulated.statuses()).slo_performance])
    assert found == _by_key(simulated.truth("slo_performance"))


def test_every_outcome_is_there_at_the_end(bank: Simulated, demonstration: Simulated) -> None:
    for simulated in (bank, demonstration):
        rows = simulated.truth("slo_performance")
        found = {(row["progress"], row["outcome"]) for row in rows}
        assert found >= {
            ("complete", "on_time"),
            ("complete", "late"),
            ("pending", "not_due"),
            ("pending", "overdue"),
        }
        # Of the last date something failed, and something came late.
        last = [row for row in rows if row["business_date"] == simulated.summary.last_date.isoformat()]
        assert {"failed", "complete"} <= {row["progress"] for row in last}
        assert {"late", "overdue", "on_time"} <= {row["outcome"] for row in last}


def test_as_of_is_the_morning_after_the_last_business_date(bank: Simulated) -> None:
    assert bank.as_of == datetime(2026, 4, 2, 8, 15, tzinfo=ZoneInfo("America/New_York"))
    assert bank.summary.as_of == bank.as_of.isoformat()
    assert bank.summary.last_date == date(2026, 4, 1)
    # Twenty-five business days, Presidents' Day apart, is five weeks back.
    assert bank.summary.first_date == date(2026, 2, 26)
    assert max(status["status_at"] for status in bank.statuses()) <= bank.as_of


def test_another_end(tmp_path: Path) -> None:
    # 4 July 2025 is a Friday and a holiday.
    summary = simulate(tmp_path, 5, 2, 1, end=date(2025, 7, 6))
    assert (summary.first_date, summary.last_date) == (date(2025, 7, 2), date(2025, 7, 3))
    assert summary.as_of == "2025-07-04T12:15:00+00:00"


# Determinism


def _digest(out: Path) -> dict[str, tuple[str, int]]:
    files = (path for path in sorted(out.rglob("*")) if path.is_file())
    made = {}
    for path in files:
        modified = path.stat().st_mtime_ns if "landing" in path.parts else 0
        made[path.relative_to(out).as_posix()] = (hashlib.sha256(path.read_bytes()).hexdigest(), modified)
    return made


def test_the_same_arguments_give_the_same_bytes(tmp_path: Path, bank: Simulated) -> None:
    simulate(tmp_path, 60, 25, 7)
    assert _digest(tmp_path) == _digest(bank.out)


def test_another_seed_gives_others(tmp_path: Path, bank: Simulated) -> None:
    simulate(tmp_path, 60, 25, 8)
    assert (tmp_path / "truth" / "events.csv").read_bytes() != (
        bank.out / "truth" / "events.csv"
    ).read_bytes()


def test_a_second_simulation_replaces_the_first_and_nothing_else(tmp_path: Path) -> None:
    simulate(tmp_path / "once", 5, 3, 1)
    simulate(tmp_path / "twice", 40, 9, 2)
    kept = tmp_path / "twice" / "landing" / "job_status" / "of-somebody.csv"
    kept.write_text("kept", encoding="utf-8")
    simulate(tmp_path / "twice", 5, 3, 1)
    assert kept.read_text(encoding="utf-8") == "kept"
    kept.unlink()
    assert _digest(tmp_path / "twice") == _digest(tmp_path / "once")


def test_files_appear_one_after_the_other(bank: Simulated) -> None:
    listed = [row for row in bank.truth("files") if row["records"]]
    times = [datetime.fromisoformat(row["appeared_at"]) for row in listed]
    assert times == sorted(set(times))
    assert times[-1] <= bank.as_of
    assert [(bank.out / row["path"]).stat().st_mtime for row in listed] == [at.timestamp() for at in times]
    on_disk = [path for path in bank.out.rglob("*") if path.is_file()]
    assert {row["path"] for row in bank.truth("files")} == {
        p.relative_to(bank.out).as_posix() for p in on_disk
    }


# What the files hold


def _identity(status: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(
        status[name] for name in ("application_id", "job_id", "status_code", "status_at", "business_date")
    )


def test_counts(bank: Simulated) -> None:
    statuses = bank.statuses()
    assert len({_identity(status) for status in statuses}) == bank.summary.statuses
    assert len(statuses) == bank.summary.records
    files = [path for path, _, _ in bank.records()]
    assert len(set(files)) == bank.summary.files
    counts = Counter(path.relative_to(bank.out).as_posix() for path in files)
    assert counts == {row["path"]: int(row["records"]) for row in bank.truth("files") if row["records"]}
    assert len(files) == bank.summary.records + bank.summary.bad_records


def test_all_that_can_go_wrong_does(bank: Simulated) -> None:
    kinds = {row["kind"] for row in bank.truth("events")}
    assert kinds == {
        "copy_of_other_sender", "duplicate_in_file", "duplicate_in_other_file", "late_status", "out_of_order",
        "early_start", "slipped_window", "long_run", "failed", "restarted", "given_up", "lost_start",
        "success_again", "rerun", "failed_rerun", "late_at_the_end", "running_at_the_end",
    }  # fmt: skip


def test_formats_names_and_time_styles(bank: Simulated) -> None:
    suffixes = {"".join(Path(path.name).suffixes) for path, _, _ in bank.records()}
    assert suffixes == {".csv", ".csv.gz", ".ndjson", ".ndjson.gz", ".parquet"}
    raw = [
        record for path in sorted((bank.out / "landing/job_status").iterdir()) for record in _records(path)
    ]
    assert {"applicationId", "application_id"} <= {name for record in raw for name in record}
    stamps = [str(record.get("status_at") or record.get("jobStatusTimestamp")) for record in raw]
    assert any(stamp.endswith("Z") for stamp in stamps)
    assert any(stamp.endswith("-05:00") for stamp in stamps)
    assert any(len(stamp) == 19 for stamp in stamps)
    assert {status["run_id"] is None for status in bank.statuses()} == {True, False}


def test_some_statuses_are_of_no_catalog(bank: Simulated) -> None:
    unknown = {
        (status["application_id"], status["job_id"])
        for status in bank.statuses()
        if (status["application_id"], status["job_id"]) not in bank.catalog.jobs
    }
    assert unknown == {("cards", "legacy-sweep"), ("unlisted", "copy-ledger")}


def test_restarts_come_under_new_run_ids(bank: Simulated) -> None:
    rows = bank.verdict(bank.statuses()).job_run
    attempts = defaultdict(list)
    for row in rows:
        attempts[row["application_id"], row["job_id"], row["business_date"]].append(row)
    daily = [runs for (_, job, _), runs in attempts.items() if not job.endswith(("-activity", "-1"))]
    assert any([run["final_status"] for run in runs] == ["FAIL", "SUCCEED"] for runs in daily)


def test_bad_records_are_bad_in_what_they_are_said_to_be(bank: Simulated) -> None:
    listed = {
        (row["path"], int(row["line_no"])): row["fields"].split(";") for row in bank.truth("bad_records")
    }
    assert len(listed) == bank.summary.bad_records == 10
    lengths = {"application_id": 200, "job_id": 200, "run_id": 50, "host_id": 150}
    seen = set()
    for path, line, record in bank.records():
        fields = listed.pop((path.relative_to(bank.out).as_posix(), line), [])
        for name in fields:
            seen.add(name)
            value = record[name]
            if name in lengths:
                assert value is None or len(value) > lengths[name]
            elif name == "status_code":
                assert value not in ("START", "SUCCEED", "FAIL")
            elif name == "status_at" and record["application_id"] in bank.catalog.applications:
                with pytest.raises((ValueError, TypeError)):
                    datetime.fromisoformat(value)
            elif name == "business_date":
                with contextlib.suppress(ValueError):
                    assert date.fromisoformat(value) > bank.summary.last_date
    assert listed == {}
    assert seen == {*lengths, "status_code", "status_at", "business_date"}


def test_good_records_are_good(bank: Simulated, demonstration: Simulated) -> None:
    for simulated in (bank, demonstration):
        zones = {one.id: ZoneInfo(one.timezone) for one in simulated.catalog.applications.values()}
        for status in simulated.statuses():
            zone = zones.get(status["application_id"], ZoneInfo("UTC"))
            assert status["business_date"] <= status["status_at"].astimezone(zone).date()
            assert len(status["run_id"] or "") <= 50


# Habits


def _role(simulated: Simulated, role: str) -> tuple[str, str]:
    (row,) = [row for row in simulated.truth("jobs") if row["role"] == role]
    return row["application_id"], row["job_id"]


@pytest.mark.parametrize("name", ["bank", "demonstration"])
def test_habits_are_in_the_statuses(name: str, request: pytest.FixtureRequest) -> None:
    simulated: Simulated = request.getfixturevalue(name)
    statuses = simulated.statuses()
    codes = defaultdict(set)
    for status in statuses:
        codes[status["application_id"], status["job_id"]].add(status["status_code"])
    assert _role(simulated, "silent") not in codes
    assert _role(simulated, "silent") in simulated.catalog.jobs
    assert codes[_role(simulated, "succeed_only")] == {"SUCCEED"}

    verdict = simulated.verdict(statuses)
    by_job: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in verdict.job_run:
        if row["final_status"] == "SUCCEED" and row["duration"] is not None and row["attempt"] == 1:
            by_job[row["application_id"], row["job_id"]].append(row)
    slow = [
        row["duration"]
        for row in sorted(by_job[_role(simulated, "slowing")], key=lambda r: r["business_date"])
    ]
    third = len(slow) // 3
    assert sum(slow[-third:], timedelta()) / third > 1.3 * (sum(slow[:third], timedelta()) / third)

    shares: dict[str, list[bool]] = defaultdict(list)
    late_by: dict[str, list[timedelta]] = defaultdict(list)
    for row in verdict.slo_performance:
        if row["late_by"] is not None:
            shares[row["blocking_job"]].append(row["outcome"] == "on_time")
            late_by[row["blocking_job"]].append(row["late_by"])
    late = shares["/".join(_role(simulated, "late"))]
    assert 0.2 < sum(late) / len(late) < 0.8
    early = sorted(late_by["/".join(_role(simulated, "early"))])
    assert early[len(early) * 9 // 10] < timedelta(minutes=-30)
    usual = [
        kept
        for slo, kept in shares.items()
        if not any(slo == "/".join(_role(simulated, r)) for r in ("late", "slowing"))
    ]
    assert sum(map(sum, usual)) / sum(map(len, usual)) > 0.9


def test_jobs_start_after_their_upstreams_end(bank: Simulated) -> None:
    starts: dict[tuple[str, str, date], datetime] = {}
    ends: dict[tuple[str, str, date], datetime] = {}
    for row in bank.verdict(bank.statuses()).job_run:
        key = (row["application_id"], row["job_id"], row["business_date"])
        if row["started_at"] is not None:
            starts[key] = min(row["started_at"], starts.get(key, row["started_at"]))
        if row["final_status"] == "SUCCEED":
            ends[key] = min(row["ended_at"], ends.get(key, row["ended_at"]))
    pairs = [
        (starts[*job, day], ends[*upstream, day], job, upstream, day)
        for job, upstreams in bank.catalog.upstream.items()
        for upstream in upstreams
        for day in (bank.summary.first_date + timedelta(days=n) for n in range(40))
        if (*job, day) in starts and (*upstream, day) in ends
    ]
    assert len(pairs) > 300
    assert [pair for pair in pairs if pair[0] <= pair[1]] == []


def test_a_bank_has_zones_calendars_chains_and_windows(bank: Simulated) -> None:
    catalog = bank.catalog
    assert len({one.timezone for one in catalog.applications.values()}) >= 5
    assert len(catalog.calendars) >= 3
    assert max(catalog.upstream_rank.values()) >= 3
    assert any(entry.every is not None for entries in catalog.slos.values() for entry in entries)
    assert any(job.day_offset for entries in catalog.slos.values() for entry in entries for job in entry.jobs)
    assert any(key[0] != upstream[0] for key, upstreams in catalog.upstream.items() for upstream in upstreams)
    served = Counter(
        key for entries in catalog.slos.values() for entry in entries for key in catalog.slo_jobs(entry)
    )
    assert max(served.values()) >= 2


# Arguments


@pytest.mark.parametrize("split", ["day", "month", "one"])
def test_fewer_files_hold_the_same_statuses(tmp_path: Path, bank: Simulated, split: str) -> None:
    simulated = _simulated(tmp_path, split=split, bad_records=0)
    found = {_identity(status) for status in simulated.statuses()}
    assert found == {_identity(status) for status in bank.statuses()}
    most = {"day": 80, "month": 6, "one": 2}[split]
    assert simulated.summary.files <= most


def test_formats_can_be_chosen(tmp_path: Path) -> None:
    simulate(tmp_path, 60, 3, 1, formats=("ndjson", "parquet"), bad_records=0)
    suffixes = {"".join(path.suffixes) for path in (tmp_path / "landing/job_status").iterdir()}
    assert suffixes == {".ndjson", ".parquet"}


def test_an_existing_catalog_is_not_copied(demonstration: Simulated) -> None:
    assert not (demonstration.out / "catalog").exists()


def test_what_is_promised_before_the_first_date_is_missed(tmp_path: Path) -> None:
    for kind, text in {
        "applications": "{id: a, timezone: Europe/Rome}",
        "calendars": "{id: every, weekdays: [mon, tue, wed, thu, fri, sat, sun]}",
        "jobs": "{id: j, application: a}",
        "slos": '{id: s, application: a, calendar: every, effective_from: 2026-03-25, jobs: [{job: j, end: "18:00"}]}',
    }.items():
        (tmp_path / kind).mkdir()
        (tmp_path / kind / "one.yml").write_text(f"{kind}:\n  - {text}\n", encoding="utf-8")
    simulated = _simulated(tmp_path / "out", tmp_path, days=2)
    rows = simulated.truth("slo_performance")
    assert rows[0]["business_date"] == "2026-03-25"
    assert [row["outcome"] for row in rows][:6] == ["missed"] * 6
    assert [_as_truth(row) for row in simulated.verdict(simulated.statuses()).slo_performance] == rows


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"jobs": 0}, "at least one job and one day"),
        ({"days": 0}, "at least one job and one day"),
        ({"formats": ("xml",)}, "Formats cannot be xml."),
        ({"formats": ("parquet",)}, "Formats cannot be parquet."),
        ({"formats": ()}, "Formats cannot be none."),
        ({"bad_records": -1}, "negative"),
        ({"split": "hour"}, "Files cannot be split by 'hour'."),
    ],
)
def test_arguments_that_make_no_sense(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    given = {"jobs": 5, "days": 2, "seed": 1, **arguments}
    with pytest.raises(DuemarkError, match=message) as error:
        simulate(tmp_path, **given)
    assert error.value.hint
    assert list(tmp_path.iterdir()) == []
