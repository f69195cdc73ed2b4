"""`duemark simulate`: a bank to try things on, with the truth beside it.

The same arguments give the same bytes: every draw comes from the seed, and no clock is read.
"""

from __future__ import annotations

import csv
import os
import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Literal, get_args
from zoneinfo import ZoneInfo

from pipelines.errors import DuemarkError
from pipelines.simulator import truth as truths
from pipelines.simulator.bank import Bank, business_calendar, make_bank, senders, write_catalog
from pipelines.simulator.behaviour import SLOWDOWN, Day, simulate_days
from pipelines.simulator.files import COLUMNS, Row, StatusFile, Written
from pipelines.simulator.plan import MINUTE, SECOND, Sender, World, instant, iso

Split = Literal["application", "day", "month", "one"]
FORMATS = ("csv", "ndjson", "csv.gz", "ndjson.gz", "parquet")

# The end is fixed so that a demonstration is the same on any day. The 60 business days before it hold three month ends
# and the spring changes of both New York and London.
_DEFAULT_END = date(2026, 4, 1)
_NEW_YORK = ZoneInfo("America/New_York")
# Early enough in New York that its day shows half-hours kept and half-hours to come, after the last report was due.
_STOPS_AT = 8 * 60 + 15
# Parquet is one file held in memory until it is complete.
_PARQUET_MOST = 200_000


@dataclass(frozen=True, slots=True)
class Summary:
    """What was written. `as_of` is the ISO instant at which the simulation stops, and at which `truth/` judges."""

    first_date: date
    last_date: date
    as_of: str
    applications: int
    jobs: int
    slos: int
    occurrences: int
    statuses: int
    """Different statuses (identities); every one is visible at `as_of`."""
    records: int
    """Good records in the files, copies included."""
    bad_records: int
    files: int


def simulate(
    out: Path,
    jobs: int,
    days: int,
    seed: int,
    end: date | None = None,
    catalog: Path | None = None,
    formats: Sequence[str] = FORMATS,
    *,
    bad_records: int = 10,
    split: Split = "application",
    requests: int = 0,
) -> Summary:
    """Write `out/landing/job_status/…`, `out/truth/…` and, for a made-up bank, `out/catalog/…`.

    Args:
        out: A folder; what an earlier simulation wrote there is removed first, other files are left alone.
        jobs: Number of jobs of the bank; not used with `catalog`.
        days: Number of business days, the last of which is the last one not after `end`.
        seed: Decides everything that happens.
        end: The last date; 2026-04-01 when absent. The simulation stops at 08:15 in New York on the date after.
        catalog: A catalog folder whose jobs are simulated instead of a made-up bank's.
        formats: Formats to use, of `FORMATS`.
        bad_records: Number of records that a validation has to refuse.
        split: One file per application and business date, per business date, per month, or a single one; what comes
            late stands in files of its own, of all applications. Formats and column names differ by application
            in the first case only.
        requests: About how many requests a content server logs on a working day; with some, its logs and heartbeats
            stand in `out/landing/metric_log` and `out/landing/uptime`.

    Raises:
        DuemarkError: an argument makes no sense, or the catalog cannot be used.
    """
    _check(jobs, days, formats, bad_records, split)
    last = end or _DEFAULT_END
    calendar = business_calendar()
    dates: list[date] = []
    while len(dates) < days:
        if calendar.has(last):
            dates.append(last)
        last -= timedelta(days=1)
    first, last = dates[-1], dates[0]
    as_of = instant(last + timedelta(days=1), _STOPS_AT, _NEW_YORK)
    _remove_earlier(out)
    written: list[Path] = []
    if catalog is None:
        bank = make_bank(jobs, first, last, seed)
        written += write_catalog(bank, out / "catalog")
        world = _world(bank, first, last, as_of, formats)
    else:
        from pipelines.simulator.existing import load_world

        world = load_world(catalog, first, last, as_of, formats)
    if requests:
        from pipelines.simulator.access_log import simulate_logs

        at = datetime.fromtimestamp(as_of / SECOND, UTC)
        written += simulate_logs(out, catalog, first, at, seed, requests)
    return _Simulation(out, world, seed, tuple(formats), bad_records, split, written).run()


def _check(jobs: int, days: int, formats: Sequence[str], bad_records: int, split: str) -> None:
    if jobs < 1 or days < 1:
        raise DuemarkError(
            "A simulation needs at least one job and one day.", "Give --jobs and --days as 1 or more."
        )
    unknown = [f for f in formats if f not in FORMATS]
    if unknown or not any(f != "parquet" for f in formats):
        raise DuemarkError(
            f"Formats cannot be {', '.join(formats) or 'none'}.",
            f"Use some of {', '.join(FORMATS)}, not parquet alone.",
        )
    if bad_records < 0:
        raise DuemarkError("The number of bad records is negative.", "Give 0 or more.")
    if split not in get_args(Split):
        raise DuemarkError(
            f"Files cannot be split by {split!r}.", f"Use one of {', '.join(get_args(Split))}."
        )


def _world(bank: Bank, first: date, last: date, as_of: int, formats: Sequence[str]) -> World:
    reporting = senders(((application, zone) for application, _, zone in bank.applications), formats)
    return World(reporting, bank.jobs, bank.slos, first, last, as_of, first)


def _remove_earlier(out: Path) -> None:
    """Remove the files that an earlier simulation lists as its own, or a smaller one would leave a mixture."""
    manifest = out / "truth" / "files.csv"
    if not manifest.is_file():
        return
    with manifest.open(encoding="utf-8", newline="") as lines:
        names = [row["path"] for row in csv.DictReader(lines)]
    for name in names:
        path = out / name
        if not Path(name).is_absolute() and ".." not in Path(name).parts:
            path.unlink(missing_ok=True)


class _Csv:
    """A file of truth."""

    def __init__(self, path: Path, columns: Sequence[str], stack: ExitStack) -> None:
        self.rows = csv.writer(
            stack.enter_context(path.open("w", encoding="utf-8", newline="")), lineterminator="\n"
        )
        self.rows.writerow(columns)


class _Simulation:
    """The whole of one simulation, date by date."""

    def __init__(
        self,
        out: Path,
        world: World,
        seed: int,
        formats: Sequence[str],
        bad_records: int,
        split: Split,
        catalog: Sequence[Path],
    ) -> None:
        self.out, self.world, self.seed, self.formats, self.bad, self.split = (
            out,
            world,
            seed,
            formats,
            bad_records,
            split,
        )
        self.landing, self.truth = out / "landing" / "job_status", out / "truth"
        self.catalog = catalog
        self.counts: Counter[str] = Counter()
        self.written: list[Written] = []
        self.open: dict[str, StatusFile] = {}
        self.pending: dict[date, list[Row]] = {}
        self.noise = {a: random.Random(f"{seed}/noise/{a}") for a in sorted(world.senders)}
        self.stems = stems(world.senders)
        self.sample: list[Row] = []
        self.shadow = Sender("unlisted", ZoneInfo("UTC"), self._plain_format(), "utc")
        while self.shadow.application in world.senders:
            self.shadow = replace(self.shadow, application=f"{self.shadow.application}-x")
        self.senders = {**world.senders, self.shadow.application: self.shadow}
        self.stems[self.shadow.application] = self.shadow.application
        self.noise[self.shadow.application] = random.Random(f"{seed}/noise")

    def _plain_format(self) -> str:
        return next(f for f in self.formats if f != "parquet")

    def run(self) -> Summary:
        """Write everything."""
        self.landing.mkdir(parents=True, exist_ok=True)
        self.truth.mkdir(parents=True, exist_ok=True)
        world = self.world
        with ExitStack() as stack:
            occurrences = _Csv(self.truth / "slo_performance.csv", truths.COLUMNS, stack).rows
            columns = ("kind", "application_id", "job_id", "business_date", "at", "detail")
            self.events = _Csv(self.truth / "events.csv", columns, stack).rows
            truth = truths.Truth(world)
            for today in simulate_days(world, self.seed):
                rows = []
                for occurrence in truth.of(today):
                    due, late = occurrence.due, occurrence.late_by
                    rows.append(
                        (
                            occurrence.slo_id,
                            today.day.isoformat(),
                            due.slot,
                            iso(due.expected_start),
                            iso(due.expected_end),
                            iso(occurrence.actual_start),
                            iso(occurrence.actual_end),
                            occurrence.progress,
                            occurrence.outcome,
                            "" if late is None else f"{late / SECOND:.3f}",
                            occurrence.revisions,
                        )
                    )
                occurrences.writerows(rows)
                self.counts["occurrences"] += len(rows)
                self._report(today)
                self._deliver_late(today.day)
            self._deliver_late(None)
            for name in sorted(self.open):
                self._close(name, as_of=True)
            self._bad_records(stack)
            self._jobs(stack)
        return self._finish()

    # What is sent of a date, and how well.

    def _report(self, today: Day) -> None:
        by_application: dict[str, list[tuple[int, int, Row]]] = {}
        day = today.day.isoformat()
        for number, runs in today.runs.items():
            job = self.world.jobs[number]
            keyed = by_application.setdefault(job.application, [])
            may_copy = self.senders[job.application].has_run_ids or number not in today.intraday
            for run in runs:
                for at, code in run.statuses:
                    self._send(
                        (job.application, job.job, code, at, day, run.run_id, run.host),
                        keyed,
                        today.day,
                        may_copy,
                        may_win=number not in today.intraday,
                    )
        for row in self._unlisted(today.day):
            self._send(row, by_application.setdefault(row[0], []), today.day, may_copy=False, may_win=False)
        for event in today.events:
            job = self.world.jobs[event.job]
            self.events.writerow((event.kind, job.application, job.job, day, iso(event.at), event.detail))
        for application in sorted(by_application):
            rows = [row for _, _, row in sorted(by_application[application])]
            self._append(today.day, application, rows, is_late=False)

    def _send(
        self, row: Row, keyed: list[tuple[int, int, Row]], day: date, may_copy: bool, may_win: bool
    ) -> None:
        """Send one status: on time or late, once or twice, in its place or out of order."""
        self.counts["statuses"] += 1
        rng = self.noise[row[0]]
        chance = rng.random()
        place = row[3]
        if chance < 0.026:
            if chance < 0.006:
                self._event("late_status", row, day)
                self._later(row, day, rng)
                return
            if chance < 0.011:
                self._event("duplicate_in_file", row, day)
                keyed.append((place + rng.randrange(0, 60 * MINUTE), len(keyed), row))
            elif chance < 0.014:
                self._event("duplicate_in_other_file", row, day)
                self._later(row, day, rng)
            elif chance < 0.016 and may_copy:
                # A relay that gives the run an id of its own. Where windows follow from run ids the original has to
                # stay the first in order, which hexadecimal ids are before "z".
                prefix = rng.choice("0z") if may_win and row[5] else "z"
                self._event("copy_of_other_sender", row, day)
                keyed.append(
                    (
                        place + rng.randrange(0, 5 * MINUTE),
                        len(keyed),
                        (*row[:5], f"{prefix}-relay-{rng.getrandbits(32):08x}", "relay-01"),
                    )
                )
            elif chance >= 0.016:
                self._event("out_of_order", row, day)
                place += rng.randrange(-120 * MINUTE, 120 * MINUTE)
        keyed.append((place, len(keyed), row))

    def _event(self, kind: str, row: Row, day: date) -> None:
        self.counts[kind] += 1
        self.events.writerow((kind, row[0], row[1], day.isoformat(), iso(row[3]), row[2]))

    def _later(self, row: Row, day: date, rng: random.Random) -> None:
        self.pending.setdefault(day + timedelta(days=rng.randrange(1, 6)), []).append(row)

    def _unlisted(self, day: date) -> list[Row]:
        """Statuses that no catalog explains: one job of a known application, and one of an unknown one."""
        known = next(iter(sorted(self.world.senders)))
        taken = {job.job for job in self.world.jobs if job.application == known}
        job = "legacy-sweep"
        while job in taken:
            job += "-x"
        rows: list[Row] = []
        for application, name, weekdays in (
            (known, job, (1, 4)),
            (self.shadow.application, "copy-ledger", (2,)),
        ):
            if day.weekday() not in weekdays or day > self.world.last:
                continue
            start = instant(day, 21 * 60 + 7, self.senders[application].zone)
            run_id = f"sweep-{day:%Y%m%d}" if self.senders[application].has_run_ids else ""
            rows += [
                (application, name, code, at, day.isoformat(), run_id, "")
                for code, at in (("START", start), ("SUCCEED", start + 11 * MINUTE))
                if at <= self.world.as_of
            ]
        return rows

    # Files.

    def _append(self, day: date, application: str, rows: Sequence[Row], *, is_late: bool) -> None:
        if not rows:
            return
        self.counts["records"] += len(rows)
        if day == self.world.last:
            self.sample += rows[:1]
        sender = self.senders[application]
        form = self._plain_format()
        if self.split == "application" and not is_late:
            stem, form = f"{day.isoformat()}-{self.stems[application]}", sender.format
            if (
                "parquet" in self.formats
                and day == self.world.last
                and application == max(self.world.senders)
                and len(rows) <= _PARQUET_MOST
            ):
                form = "parquet"
        else:
            sender = replace(sender, is_camel_case=False)
            names = {"month": day.isoformat()[:7], "one": "job_status"}
            stem = f"{names.get(self.split, day.isoformat())}{'-late' if is_late else ''}"
        file = self.open.get(stem)
        if file is None:
            # A month or a date is over when the next one begins; its own late file takes what comes after.
            if self.split != "one":
                for other in [name for name in sorted(self.open) if name.endswith("-late") == is_late]:
                    self._close(other)
            file = self.open[stem] = StatusFile(self.landing / f"{stem}.{form}", sender, form)
        self.appeared = instant(day + timedelta(days=1), 14 * 60 + is_late * 60, ZoneInfo("UTC"))
        file.add(rows, self.senders)
        if self.split == "application" and not is_late:
            self._close(stem)

    def _close(self, stem: str, *, as_of: bool = False) -> None:
        file = self.open.pop(stem)
        file.close()
        self.written.append(Written(file.path, file.records, self.world.as_of if as_of else self.appeared))

    def _deliver_late(self, day: date | None) -> None:
        """Deliver what was held back until `day`; None: all that is left, when the simulation stops."""
        last = max((*self.pending, self.world.last + timedelta(days=2)))
        rows = [row for due in sorted(self.pending) if day is None or due <= day for row in self.pending[due]]
        self.pending = {due: held for due, held in self.pending.items() if day is not None and due > day}
        by_application: dict[str, list[Row]] = {}
        for row in rows:
            by_application.setdefault(row[0], []).append(row)
        for application in sorted(by_application):
            self._append(day or last, application, by_application[application], is_late=True)

    def _bad_records(self, stack: ExitStack) -> None:
        columns = ("path", "line_no", "fields")
        rows = _Csv(self.truth / "bad_records.csv", columns, stack).rows
        if not self.bad:
            return
        name = f"{self.world.last.isoformat()}-by-hand.csv"
        hand = Sender("", ZoneInfo("UTC"), "csv", "utc")
        file = StatusFile(self.landing / name, hand, "csv")
        utc = {
            application: replace(sender, stamp="utc", is_lower_case=False)
            for application, sender in self.senders.items()
        }
        file.add(self.sample, utc)
        self.counts["records"] += len(self.sample)
        for number in range(self.bad):
            record, fields = _bad_record(self.world, number)
            # The header is line 1.
            rows.writerow((f"landing/job_status/{name}", file.records + 2, ";".join(fields)))
            file.add_raw([record])
        file.close()
        self.written.append(Written(file.path, file.records, self.world.as_of))

    def _jobs(self, stack: ExitStack) -> None:
        columns = ("application_id", "job_id", "role", "usual_seconds", "slowdown_share")
        rows = _Csv(self.truth / "jobs.csv", columns, stack).rows
        for job in self.world.jobs:
            slowdown = SLOWDOWN if job.role == "slowing" else 0
            rows.writerow((job.application, job.job, job.role, f"{job.median:.1f}", slowdown))

    def _finish(self) -> Summary:
        world = self.world
        # Each file appears after the one before it, and none after the end.
        latest = world.as_of + SECOND
        self.written.sort(key=lambda file: (file.appeared, file.path.name))
        for file in reversed(self.written):
            latest = file.appeared = min(file.appeared, latest - SECOND)
            os.utime(file.path, ns=(latest * 1_000_000, latest * 1_000_000))
        (self.truth / "as_of.txt").write_text(f"{iso(world.as_of)}\n", encoding="utf-8", newline="\n")
        summary = Summary(
            world.first,
            world.last,
            iso(world.as_of),
            len(world.senders),
            len(world.jobs),
            len(world.slos),
            self.counts["occurrences"],
            self.counts["statuses"],
            self.counts["records"],
            self.bad,
            len(self.written),
        )
        with ExitStack() as stack:
            _Csv(self.truth / "summary.csv", ("name", "value"), stack).rows.writerows(
                (*asdict(summary).items(), *sorted(self._noise_counts().items()))
            )
            files = _Csv(self.truth / "files.csv", ("path", "records", "appeared_at"), stack).rows
            own = ("as_of", "bad_records", "events", "files", "jobs", "slo_performance", "summary")
            listed: list[tuple[Any, ...]] = [
                (self._relative(file.path), file.records, iso(file.appeared)) for file in self.written
            ]
            listed += [(self._relative(path), "", "") for path in self.catalog]
            listed += [(f"truth/{name}.{'txt' if name == 'as_of' else 'csv'}", "", "") for name in own]
            files.writerows(listed)
        return summary

    def _noise_counts(self) -> dict[str, int]:
        return {k: v for k, v in self.counts.items() if k not in ("occurrences", "statuses", "records")}

    def _relative(self, path: Path) -> str:
        return path.relative_to(self.out).as_posix()


def stems(applications: Iterable[str]) -> dict[str, str]:
    """A part of a file name for each application, whatever its id is made of."""
    stems: dict[str, str] = {}
    for application in sorted(applications):
        stem = re.sub(r"[^A-Za-z0-9._-]", "_", application)[:60]
        while stem in stems.values():
            stem += "_"
        stems[application] = stem
    return stems


def _bad_record(world: World, number: int) -> tuple[list[str], list[str]]:
    """A record that must be refused, and the fields for which."""
    job = world.jobs[number % len(world.jobs)]
    zone = world.senders[job.application].zone
    at = iso(instant(world.last, 12 * 60 + number % 60, zone))
    good = dict(
        zip(COLUMNS, (job.application, job.job, "START", at, world.last.isoformat(), "", ""), strict=True)
    )
    kinds: tuple[dict[str, str], ...] = (
        {"application_id": ""},
        {"job_id": "j" * 201},
        {"status_code": "DONE"},
        {"status_at": "yesterday"},
        {"business_date": (world.last + timedelta(days=40)).isoformat()},
        {"business_date": world.last.strftime("%d/%m/%Y")},
        {"run_id": "r" * 51},
        {"host_id": "h" * 151},
        {"status_code": "", "status_at": "26 o'clock", "business_date": "2026-02-30"},
        {"application_id": "nowhere", "status_at": f"{world.last.isoformat()}T12:00:00"},
    )
    changed = kinds[number % len(kinds)]
    # An unknown application is no fault; that its time then has no zone is.
    fields = [name for name in changed if changed[name] != "nowhere"]
    return list({**good, **changed}.values()), fields
