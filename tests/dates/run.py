"""`make test-dates`: the suite at moments at which dates go wrong, each with the clock of the whole machine as of then.

libfaketime moves the clock of pytest and of all processes that it starts, the server's too, by a fixed time: it goes
on from there as it does today. Runs in the background of other work; prints a line a moment, and fails if any did.

    python -m tests.dates.run [MOMENT…] [-- PYTEST ARGUMENTS…]
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LOGS = ROOT / ".cache" / "test-dates"
# Of the system, where PyPI's has none for this machine.
LIBRARIES = (
    "/usr/lib/*/faketime/libfaketime.so.1",
    "/usr/lib*/faketime/libfaketime.so.1",
    "/usr/local/lib/faketime/libfaketime.so.1",
)


@dataclass(frozen=True)
class Moment:
    """When it is while the tests run, and in which zone the machine stands."""

    name: str
    at: datetime
    zone: str = "UTC"


def _utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# Some minutes before what is meant, where it lies within the run. Later than the dumps of tests/upgrade were made.
MOMENTS = (
    Moment("saturday", _utc("2027-01-16 12:00")),
    Moment("leap-day", _utc("2028-02-29 12:00")),
    Moment("new-years-eve", _utc("2027-12-31 23:57")),
    Moment("new-year", _utc("2028-01-01 00:20")),
    Moment("first-of-month", _utc("2027-06-01 00:10")),
    Moment("new-york-spring", _utc("2027-03-14 06:57"), "America/New_York"),
    Moment("new-york-autumn", _utc("2027-11-07 05:57"), "America/New_York"),
    Moment("berlin-spring", _utc("2027-03-28 00:57"), "Europe/Berlin"),
    Moment("berlin-autumn", _utc("2027-10-31 00:57"), "Europe/Berlin"),
)

# What asks no clock: how fast it is, the tree itself, and how the processes of `up` stand to each other.
LEFT_OUT = ("tests/bench", "tests/house", "tests/processes/test_up.py", "tests/board/test_browser.py")
# Days on which the suite runs as a whole; at the other moments, of which there are more, what asks for the date.
WHOLE = ("saturday", "leap-day")
# What is about processes that are killed, formats and stores: at the first moment only, for it tells of the moved clock
# itself, not of the date.
ONCE = (
    "tests/copies", "tests/dagster/test_loading.py", "tests/dagster/test_odd_ids.py",
    "tests/dagster/test_web_interface.py", "tests/kpi/test_engine_ticks.py", "tests/kpi/test_oracles.py",
    "tests/landing/test_bombs.py", "tests/landing/test_follow_objects.py", "tests/landing/test_object_store.py",
    "tests/landing/test_records.py", "tests/orchestration", "tests/processes", "tests/real",
    "tests/transform/test_attempts.py", "tests/transform/test_killed_ticks.py", "tests/upgrade",
    "tests/watch/test_database.py", "tests/watch/test_locations.py", "tests/watch/test_outside.py",
)  # fmt: skip
# What judges as of moments of its own alone, and would show on any day that it does not: on the days above.
FIXED = (
    "tests/catalog/test_documents.py", "tests/catalog/test_errors.py", "tests/catalog/test_names.py",
    "tests/dagster/test_asset_graph.py", "tests/dagster/test_instance.py", "tests/incidents/test_replay.py",
    "tests/incidents/test_routes.py", "tests/incidents/test_rules.py", "tests/incidents/test_worlds.py",
    "tests/kpi/test_compile.py", "tests/kpi/test_definitions.py", "tests/kpi/test_engine_property.py",
    "tests/kpi/test_expressions.py", "tests/kpi/test_lineage.py", "tests/landing/test_bad_files.py",
    "tests/landing/test_bad_records.py", "tests/landing/test_data_frames.py", "tests/landing/test_odd_entries.py",
    "tests/landing/test_small_files.py", "tests/metrics", "tests/simulator/test_access_log.py",
    "tests/simulator/test_business.py", "tests/test_oracle.py", "tests/transform/test_dbt.py",
    "tests/transform/test_golden.py", "tests/transform/test_incremental.py", "tests/transform/test_unload.py",
    "tests/transform/test_verdicts.py", "tests/warehouse", "tests/watch/test_inventory.py",
)  # fmt: skip


def library() -> Path | None:
    """libfaketime, where one is installed by which programs can sleep; 0.9.10 and older fail at that."""
    found = [path for pattern in LIBRARIES for path in sorted(Path("/").glob(pattern[1:]))]
    package = importlib.util.find_spec("libfaketime")
    if package is not None and package.origin is not None:
        folder = Path(package.origin).parent / "vendor" / "libfaketime" / "src"
        found = [*sorted(folder.glob("libfaketime.so.1")), *found]
    return next((path for path in found if _lets_sleep(path)), None)


def _lets_sleep(path: Path) -> bool:
    program = "import threading, time; time.sleep(0.01); print(threading.Event().wait(0.01), time.time())"
    try:
        said = subprocess.run(
            [sys.executable, "-c", program], env=environment(MOMENTS[0], path), capture_output=True, text=True,
            timeout=60, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False
    return said.returncode == 0 and float(said.stdout.split()[1]) > MOMENTS[0].at.timestamp() - 60


def environment(moment: Moment, preload: Path) -> dict[str, str]:
    """The environment in which it is `moment` now."""
    # The clock of this process may be moved, too.
    moved = int(os.environ.get("FAKETIME", "0s").removesuffix("s"))
    ahead = int(moment.at.timestamp() - time.time()) + moved
    return {
        **os.environ,
        "LD_PRELOAD": str(preload),
        "FAKETIME": f"{ahead:+d}s",
        # What waits for a while waits by the clock that nobody sets.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        # The embedded server is given no more of an environment than this.
        "DUEMARK_SERVER_ENV": "LD_PRELOAD,FAKETIME,FAKETIME_DONT_FAKE_MONOTONIC,TZ",
        "TZ": moment.zone,
        # Whether dates matter shows in few examples as well.
        "DUEMARK_TEST_EXAMPLES": os.environ.get("DUEMARK_TEST_EXAMPLES", "0.2"),
    }


def run(moment: Moment, preload: Path, arguments: list[str]) -> bool:
    """Run the suite as of a moment; tell how it ended."""
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{moment.name}.log"
    started = time.monotonic()
    with log.open("w", encoding="utf-8") as output:
        result = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", *arguments],
            cwd=ROOT, env=environment(moment, preload), stdout=output, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
    text = log.read_text("utf-8", "replace")
    closing = re.findall(r"^(?:=+ )?(\d+ \w+.*?)(?: in [\d.]+s.*)?$", text, re.MULTILINE)
    said = closing[-1] if closing else f"no result, exit code {result.returncode}"
    print(
        f"{moment.name:16} {moment.at:%a %Y-%m-%d %H:%M}Z {moment.zone}: {said}, {time.monotonic() - started:.0f} s",
        flush=True,
    )
    for failed in re.findall(r"^(?:FAILED|ERROR) .*$", text, re.MULTILINE):
        print(f"    {failed}", flush=True)
    return result.returncode == 0


def _left_out(moment: Moment) -> tuple[str, ...]:
    of_the_day = () if moment == MOMENTS[0] else ONCE if moment.name in WHOLE else (*ONCE, *FIXED)
    return (*LEFT_OUT, *of_the_day)


def main() -> int:
    """Run what is asked for; 1 when a moment failed, 2 when it cannot be done here."""
    arguments = sys.argv[1:]
    names, more = arguments, []
    if "--" in arguments:
        place = arguments.index("--")
        names, more = arguments[:place], arguments[place + 1 :]
    unknown = set(names) - {moment.name for moment in MOMENTS}
    if unknown:
        print(f"There is no moment {', '.join(sorted(unknown))}: {', '.join(m.name for m in MOMENTS)}.")
        return 2
    preload = library()
    if preload is None:
        print(
            "No libfaketime by which programs can sleep is installed: one newer than 0.9.10 of your system, please."
        )
        return 2
    chosen = [moment for moment in MOMENTS if not names or moment.name in names]
    is_part = any(not one.startswith("-") and Path(one.partition("::")[0]).exists() for one in more)
    went_well = []
    for moment in chosen:
        left_out = () if is_part else _left_out(moment)
        went_well.append(run(moment, preload, [*more, *(f"--ignore={path}" for path in left_out)]))
    return 0 if all(went_well) else 1


if __name__ == "__main__":
    sys.exit(main())
