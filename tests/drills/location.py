"""The code location of the drills: sensors, jobs and a check that do wrong while a file says so.

`tests/drills/run.py` copies this file beside the drill's home, so that it can break it, too.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg

FLAGS = Path(os.environ["DUEMARK_DRILL_FLAGS"])
ON = dg.DefaultSensorStatus.RUNNING


def is_set(flag: str) -> bool:
    """Whether the drill wants it to go wrong."""
    return (FLAGS / flag).exists()


def wait_while(flag: str, say: Callable[[], None] | None = None) -> None:
    """Do nothing as long as the drill wants so, and `say` so now and then; never for ever."""
    deadline, said = time.monotonic() + 600, time.monotonic()
    while is_set(flag) and time.monotonic() < deadline:
        time.sleep(0.2)
        if say is not None and time.monotonic() - said > 5:
            said = time.monotonic()
            say()


@dg.sensor(name="raises", minimum_interval_seconds=10, default_status=ON)
def raises() -> dg.SkipReason:
    if is_set("raises"):
        raise ValueError("this sensor was told to raise")
    return dg.SkipReason("well")


@dg.sensor(name="hangs", minimum_interval_seconds=10, default_status=ON)
def hangs() -> dg.SkipReason:
    wait_while("hangs")
    return dg.SkipReason("well")


@dg.sensor(name="switched", minimum_interval_seconds=10, default_status=ON)
def switched() -> dg.SkipReason:
    return dg.SkipReason("well")


@dg.sensor(name="spare", minimum_interval_seconds=10, default_status=ON)
def spare() -> dg.SkipReason:
    return dg.SkipReason("well")


@dg.op
def fail() -> None:
    if is_set("fails"):
        raise ValueError("this run was told to fail")


@dg.job(executor_def=dg.in_process_executor)
def fails() -> None:
    fail()


@dg.op
def work() -> None:
    (FLAGS / "works.pid").write_text(str(os.getpid()))
    wait_while("works")


@dg.job(executor_def=dg.in_process_executor)
def works() -> None:
    work()


@dg.op
def linger() -> None:
    (FLAGS / "lingers.pid").write_text(str(os.getpid()))
    wait_while("lingers")


@dg.job(executor_def=dg.in_process_executor)
def lingers() -> None:
    linger()


@dg.op
def vanish() -> None:
    (FLAGS / "vanishes.pid").write_text(str(os.getpid()))
    wait_while("vanishes")


@dg.job(executor_def=dg.in_process_executor)
def vanishes() -> None:
    vanish()


@dg.op(pool="drill")
def hold(context: dg.OpExecutionContext) -> None:
    """Unlike the others it does say something, or it would be stuck itself."""
    wait_while("holds", lambda: context.log.info("holding the only place of the pool"))


@dg.job(executor_def=dg.in_process_executor)
def holds() -> None:
    hold()


@dg.asset(key=["drill", "table"])
def table() -> None:
    pass


@dg.asset_check(asset=dg.AssetKey(["drill", "table"]), name="is_fine")
def is_fine() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=not is_set("check"), description="this check was told to fail")


checked = dg.define_asset_job(
    "checked", selection=dg.AssetSelection.all_asset_checks(), executor_def=dg.in_process_executor
)

defs = dg.Definitions(
    assets=[table],
    asset_checks=[is_fine],
    jobs=[fails, works, lingers, vanishes, holds, checked],
    sensors=[raises, hangs, switched, spare],
)
