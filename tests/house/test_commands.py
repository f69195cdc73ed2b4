"""How commands end that fail: a line, what stands, where the rest is; never a traceback unasked."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipelines.cli import main
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings
from tests.waiting import until

# A command that raises what its argument says: the way out is the one of all commands.
BROKEN = """
import builtins, sys
from pipelines.cli import main

@main.command()
def broken():
    print("half an answer")
    raise getattr(builtins, {kind!r})({words!r})

main()
"""


def env_of(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DUEMARK_")}
    return kept | {"DUEMARK_HOME": str(home)} | more


def run_broken(
    env: Mapping[str, str], kind: str = "RuntimeError", words: str = "nobody foresaw this", *options: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", BROKEN.format(kind=kind, words=words), *options, "broken"],
        env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_what_nobody_foresaw_is_three_lines_and_a_log(tmp_path: Path) -> None:
    home = tmp_path / "home"
    done = run_broken(env_of(home))
    assert done.returncode == 3
    assert done.stdout == "half an answer\n"
    log = home / "logs" / "errors.log"
    assert done.stderr.splitlines() == [
        "duemark: broken failed: RuntimeError: nobody foresaw this",
        "  What was done stands, nothing is half done, and the command may be given again.",
        f"  The details are at the end of {log}; --debug shows them too.",
    ]
    kept = log.read_text("utf-8")
    assert "Traceback (most recent call last)" in kept
    assert " broken\n" in kept
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


@pytest.mark.parametrize("how", ["option", "variable"])
def test_debug_shows_the_traceback(tmp_path: Path, how: str) -> None:
    env = env_of(tmp_path, **({"DUEMARK_DEBUG": "1"} if how == "variable" else {}))
    done = run_broken(env, "ValueError", "odd", *(["--debug"] if how == "option" else []))
    assert done.returncode == 3
    assert "Traceback (most recent call last)" in done.stderr
    assert "duemark: broken failed: ValueError: odd" in done.stderr


def test_the_log_is_begun_anew_when_it_is_long(tmp_path: Path) -> None:
    log = tmp_path / "logs" / "errors.log"
    log.parent.mkdir()
    log.write_text("x" * (2 << 20))
    run_broken(env_of(tmp_path))
    assert log.stat().st_size < 10_000
    assert log.with_suffix(".1.log").stat().st_size == 2 << 20


def test_a_home_that_takes_no_log_is_told(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file")
    done = run_broken(env_of(tmp_path / "home"))
    assert done.returncode == 3
    assert "duemark: broken failed: RuntimeError" in done.stderr
    assert "The details could not be written to" in done.stderr
    assert "--debug shows them" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_log_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "errors.log").symlink_to(tmp_path / "target")
    done = run_broken(env_of(tmp_path))
    assert "The details could not be written to" in done.stderr
    assert not (tmp_path / "target").exists()


def test_the_password_of_the_database_is_in_neither(tmp_path: Path) -> None:
    url = "postgresql://duemark:s%2Fcret-word@db.example.org/duemark"
    done = run_broken(
        env_of(tmp_path, DUEMARK_DATABASE_URL=url), "RuntimeError", f"no answer of {url}, nor s/cret-word"
    )
    kept = (tmp_path / "logs" / "errors.log").read_text("utf-8")
    assert "no answer of postgresql://duemark:***@db.example.org/duemark, nor ***" in done.stderr
    assert "no answer of postgresql://duemark:***@db" in kept


def test_an_interruption_is_no_traceback(tmp_path: Path) -> None:
    done = run_broken(env_of(tmp_path), "KeyboardInterrupt", "")
    assert done.returncode == 130
    assert done.stderr.startswith("duemark: interrupted\n  What was done stands")
    assert "Traceback" not in done.stderr


def given(settings: Settings) -> dict[str, str]:
    return env_of(settings.home) | settings.as_env()


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from pipelines.cli import main; main()", *arguments]


@pytest.mark.parametrize("rows", [1, 200_000])
def test_a_reader_that_has_had_enough_is_no_traceback(settings: Settings, rows: int) -> None:
    asked = subprocess.Popen(
        command("sql", f"select n, repeat('x', 100) from generate_series(1, {rows}) as n", "--format", "csv"),
        env=given(settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert asked.stdout is not None
    assert asked.stderr is not None
    asked.stdout.close()
    told = asked.stderr.read()
    asked.stderr.close()
    assert (asked.wait(), told) == (141, b"")


def sleeping(settings: Settings) -> list[int]:
    with connect(settings) as connection:
        rows = connection.execute(
            "select pid from pg_stat_activity where datname = current_database() and state = 'active'"
            " and query like 'select pg_sleep%' and pid <> pg_backend_pid()"
        ).fetchall()
    return [int(str(pid)) for (pid,) in rows]


def until_one_sleeps(is_so: bool, settings: Settings) -> None:
    """Wait until somebody sleeps in the database, or nobody does."""
    until(lambda: bool(sleeping(settings)) == is_so)


def test_a_question_that_is_interrupted_ends_in_the_server_too(settings: Settings) -> None:
    asked = subprocess.Popen(
        command("sql", "select pg_sleep(600)"),
        env=given(settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    until_one_sleeps(True, settings)
    asked.send_signal(signal.SIGINT)
    _, told = asked.communicate()
    assert asked.returncode == 130
    assert told == "duemark: interrupted\n  A question changes nothing.\n"
    until_one_sleeps(False, settings)


def test_a_question_ends_with_a_client_that_was_killed(settings: Settings) -> None:
    asked = subprocess.Popen(command("sql", "select pg_sleep(600)"), env=given(settings))
    until_one_sleeps(True, settings)
    asked.kill()
    asked.wait()
    until_one_sleeps(False, settings)


@pytest.mark.parametrize(
    "query",
    [
        "select pg_sleep(600)",
        # A question cannot lift its own limit: the clock runs since it began.
        "select set_config('statement_timeout', '0', false), pg_sleep(600)",
        "do $$ begin perform set_config('statement_timeout', '0', false); perform pg_sleep(600); end $$",
    ],
)
def test_a_question_may_not_last_for_ever(settings: Settings, query: str) -> None:
    env = given(settings) | {"DUEMARK_ANALYST_STATEMENT_TIMEOUT": "300ms"}
    done = subprocess.run(command("sql", query), env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "canceling statement due to statement timeout" in done.stderr
    assert "DUEMARK_ANALYST_STATEMENT_TIMEOUT" in done.stderr


def test_a_limit_that_is_no_duration(settings: Settings) -> None:
    env = given(settings) | {"DUEMARK_ANALYST_STATEMENT_TIMEOUT": "5min -c role=postgres"}
    done = CliRunner().invoke(main, ["sql", "select 1"], env=env)
    assert done.exit_code == 2
    assert "DUEMARK_ANALYST_STATEMENT_TIMEOUT is no duration" in done.stderr


def test_sessions_say_what_they_are(settings: Settings) -> None:
    query = "select application_name from pg_stat_activity where pid = pg_backend_pid()"
    done = CliRunner().invoke(main, ["sql", query, "--format", "csv"], env=given(settings))
    assert done.stdout == "application_name\nduemark sql (analyst)\n"


def test_limits_of_analysts(settings: Settings) -> None:
    names = ("statement_timeout", "idle_in_transaction_session_timeout", "client_connection_check_interval")
    with connect(settings, "analyst") as analyst:
        found = [analyst.execute(f"show {name}").fetchone() for name in names]
    assert found == [("5min",), ("5min",), ("10s",)]
    # What an administrator sets for all must not end a rebuild, nor let go of a lock.
    for role in ("ingest", "transform", "operate"):
        with connect(settings, role) as own:
            assert [own.execute(f"show {name}").fetchone() for name in names[:2]] == [("0",), ("0",)]


def test_nothing_of_a_question_is_committed(settings: Settings) -> None:
    with connect(settings, autocommit=True) as listening:
        listening.execute("listen flood")
        done = CliRunner().invoke(
            main,
            ["sql", "select pg_notify('flood', n::text) from generate_series(1, 3) as n"],
            env=given(settings),
        )
        assert done.exit_code == 0
        assert list(listening.notifies(timeout=0)) == []


FORMULAS = {
    "=1+1": '"\'=1+1"',
    "+1 day": '"\'+1 day"',
    "-cmd|' /C calc'!A0": "\"'-cmd|' /C calc'!A0\"",
    "@SUM(A1)": '"\'@SUM(A1)"',
    "\tx": '"\'\tx"',
    "\rx": '"\'\rx"',
    "  =1": '"\'  =1"',
    '"=1': '"""=1"',
    "a;=1": '"a;=1"',
    "plain": '"plain"',
    "-1.5": "-1.5",
    "-1e5": "-1e5",
    "-1.5.2": '"\'-1.5.2"',
    "": '""',
}


def test_csv_for_spreadsheets_has_no_formulas(settings: Settings) -> None:
    quoted = ", ".join("('" + text.replace("'", "''") + "')" for text in FORMULAS)
    query = f'select text as "=name", -5 as number, null as nothing from (values {quoted}) as v (text)'
    run = CliRunner()
    done = run.invoke(main, ["sql", query, "--safe", "--format", "csv"], env=given(settings))
    assert done.exit_code == 0, done.stderr
    body = "".join(f"{cell},-5,\n" for cell in FORMULAS.values())
    assert done.stdout_bytes.decode() == '"\'=name","number","nothing"\n' + body
    plain = run.invoke(main, ["sql", query, "--format", "csv"], env=given(settings))
    assert "\n=1+1,-5,\n" in plain.stdout
    for refused in (["sql", query, "--safe"], ["incidents", "--safe"], ["judge", "--safe"]):
        done = run.invoke(main, refused, env=given(settings))
        assert (done.exit_code, done.stderr.splitlines()[0]) == (2, "duemark: --safe is for csv.")
