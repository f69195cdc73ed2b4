"""`deploy/duemark-run`: reports a command, and changes nothing of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.warehouse.settings import ROOT
from tests.receivers.conftest import Receiver

SCRIPT = ROOT / "deploy" / "duemark-run"
Run = Callable[..., subprocess.CompletedProcess[bytes]]

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")


@pytest.fixture
def run(receiver: Receiver, tmp_path: Path) -> Run:
    """Runs a command by the script; `url` and `token` are where and by which it reports."""

    def start(
        *command: str,
        url: str | None = None,
        token: str = "scheduler",
        application: str = "deposits",
        **env: str,
    ) -> subprocess.CompletedProcess[bytes]:
        given = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "DUEMARK_URL": receiver.url if url is None else url,
            "DUEMARK_TOKEN": receiver.token(token),
            "DUEMARK_DATE": "2026-03-01",
        }
        return subprocess.run(
            [str(SCRIPT), application, "load", "--run-id", tmp_path.name, "--", *command],
            env=given | env, input=b"given\n", capture_output=True,
        )  # fmt: skip

    return start


def reported(receiver: Receiver, run_id: str) -> list[tuple[str, str, bool]]:
    return receiver.query(
        "select status_code, business_date::text, host_id = %s from raw.job_status where run_id = %s"
        " order by status_at, status_code = 'START' desc",
        os.uname().nodename,
        run_id,
    )


def spooled(tmp_path: Path, folder: str = "") -> list[str]:
    return sorted(
        path.name.rpartition("-")[2] for path in (tmp_path / ".duemark-spool" / folder).glob("*.json")
    )


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="there is no shellcheck")
def test_shellcheck_finds_nothing() -> None:
    done = subprocess.run(["shellcheck", str(SCRIPT)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_a_command_is_reported_and_stays_as_it_is(receiver: Receiver, run: Run, tmp_path: Path) -> None:
    done = run("sh", "-c", "cat; echo error >&2")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"given\n", b"error\n")
    assert reported(receiver, tmp_path.name) == [
        ("START", "2026-03-01", True),
        ("SUCCEED", "2026-03-01", True),
    ]
    assert spooled(tmp_path) == []


def test_a_command_that_fails_keeps_its_exit_code(receiver: Receiver, run: Run, tmp_path: Path) -> None:
    assert run("sh", "-c", "exit 7").returncode == 7
    assert [code for code, *_ in reported(receiver, tmp_path.name)] == ["START", "FAIL"]
    assert run("no-such-command").returncode == 127
    assert run("sh", "-c", "kill -9 $$").returncode == 128 + 9


def test_nothing_of_it_reaches_the_command(run: Run) -> None:
    names = {"count": "1", "code": "2", "day": "3", "name": "5", "_": "x"}
    done = run("sh", "-c", 'umask; env; echo "$#" "$@"', "x", "a b", "", "*", **names)
    lines = done.stdout.decode().splitlines()
    assert lines[0] == subprocess.run(["sh", "-c", "umask"], capture_output=True, text=True).stdout.strip()
    assert lines[-1] == "3 a b  *"
    env = dict(line.split("=", 1) for line in lines[1:-1])
    assert {name: env[name] for name in names if name != "_"} == {k: v for k, v in names.items() if k != "_"}
    assert set(env) - set(names) <= {
        "PATH", "HOME", "PWD", "OLDPWD", "SHLVL", "DUEMARK_URL", "DUEMARK_TOKEN", "DUEMARK_DATE",
    }  # fmt: skip


def test_what_nobody_takes_waits_and_is_sent_later(receiver: Receiver, run: Run, tmp_path: Path) -> None:
    done = run("sh", "-c", "exit 3", url="http://127.0.0.1:1")
    assert (done.returncode, done.stdout, done.stderr) == (3, b"", b"")
    assert spooled(tmp_path) == ["FAIL.json", "START.json"]
    # A token that is not known may become so; so it waits, too.
    assert run("true", DUEMARK_TOKEN="x").returncode == 0
    assert len(spooled(tmp_path)) == 4
    assert reported(receiver, tmp_path.name) == []
    assert run("true").returncode == 0
    assert spooled(tmp_path) == []
    assert {code for code, *_ in reported(receiver, tmp_path.name)} == {"START", "FAIL", "SUCCEED"}


def test_what_waits_is_sent_by_flush(receiver: Receiver, run: Run, tmp_path: Path) -> None:
    run("true", url="")
    assert len(spooled(tmp_path)) == 2
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "DUEMARK_URL": receiver.url + "/"}
    (tmp_path / "token").write_text(receiver.token("scheduler") + "\n")
    done = subprocess.run([str(SCRIPT), "--flush"], env=env | {"DUEMARK_TOKEN_FILE": str(tmp_path / "token")})
    assert done.returncode == 0
    assert spooled(tmp_path) == []
    assert len(reported(receiver, tmp_path.name)) == 2


def test_what_is_refused_for_good_is_put_aside_with_the_answer(run: Run, tmp_path: Path) -> None:
    done = run("echo", "done", application='nobody\'s "application" \\')
    assert (done.returncode, done.stdout, done.stderr) == (0, b"done\n", b"")
    assert (spooled(tmp_path), spooled(tmp_path, "refused")) == ([], ["START.json", "SUCCEED.json"])
    for path in (tmp_path / ".duemark-spool" / "refused").glob("*.json"):
        assert json.loads(path.read_text())["application_id"] == 'nobody\'s "application" \\'
        assert "may not report" in path.with_name(f"{path.name}.answer").read_text()


def test_a_wrong_use_is_told(tmp_path: Path) -> None:
    for wrong in (
        [],
        ["a", "b", "true"],
        [
            "a",
            "b",
            "--",
        ],
        ["a", "b", "--date", "--", "true"],
    ):
        done = subprocess.run(
            [str(SCRIPT), *wrong], capture_output=True, text=True, env={"HOME": str(tmp_path)}
        )
        assert done.returncode == 64, wrong
        assert done.stderr.startswith("usage: duemark-run APPLICATION JOB")
