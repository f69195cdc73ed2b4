"""Where routes lead: no secret is written down or told, and files are written where they may be."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipelines.catalog.read import CatalogError
from pipelines.errors import DuemarkError
from pipelines.warehouse.settings import Settings
from sensors.oncall.incidents.delivery import Message, send
from sensors.oncall.incidents.files import file_fault, open_route
from sensors.oncall.incidents.routes import Route, Routes, check_routes, load_routes
from sensors.oncall.incidents.secrets import hide, secret_fault

TOKEN = "t4G7hK2mQ9xW5zB8vN3c"  # of nothing
SECRETS = [
    "mailto://duemark:geheim@mail.example.org",
    "mailto://duemark:${PART}@mail.example.org?pass=geheim",
    "json://user:geheim@host/path",
    "jsons://host/hook?token=geheim",
    "json://host/?+X-Api-Key=geheim",
    "json://host/?-apikey=geheim",
    f"json://host/hooks/{TOKEN}",
    "xml://host/3fa85f64-5717-4562-b3fc-2c963f66afa6",
    f"slack://T1JJ3T3L2/A1BRTD4JD/{TOKEN}0000/#general",
    f"https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/{TOKEN}0000",
    "tgram://123456789:abcdefg_hijklmnop/12315544/",
    f"discord://4174216298/{TOKEN}JHxx",
    "${URL:-mailto://duemark:geheim@mail.example.org}",
    "${SCHEME:-json}://user:geheim@host",
    "json://user:${USUAL:-geheim}@host",
]
NO_SECRETS = [
    "file:alerts.jsonl",
    "${URL}",
    "${URL:-file:alerts.jsonl}",
    "json://host/path",
    "json://user@host:8080/duemark/incidents?cto=5",
    "mailto://duemark:${PASSWORD}@mail.example.org?to=head-of-operations@example.org",
    "slack://${TOKEN_A}/${TOKEN_B}/${TOKEN_C}/#general",
    "json://host/?token=${TOKEN}",
    "json://the-host-of-all-incidents-and-alerts.operations.example.org/on-call",
]


def routes(folder: Path, text: str) -> Path:
    (folder / "routes").mkdir(exist_ok=True)
    (folder / "routes" / "on_call.yml").write_text(text)
    return folder


@pytest.mark.parametrize("target", SECRETS)
def test_a_secret_that_is_written_down_is_refused_and_not_told(tmp_path: Path, target: str) -> None:
    routes(tmp_path, f"routes:\n  - id: all\n    to: {json.dumps(target)}\n")
    (problem,) = check_routes(tmp_path)
    assert (problem.line, problem.key) == (3, "routes[0].to")
    assert problem.message == "a secret is written into this address"
    assert "${NAME}" in problem.hint
    with pytest.raises(CatalogError) as caught:
        load_routes(tmp_path)
    assert "geheim" not in str(caught.value)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("target", NO_SECRETS)
def test_other_addresses_are_fine(target: str) -> None:
    assert secret_fault(target) is None


@pytest.mark.parametrize(
    "text",
    [
        'routes: ["mailto://u:geheim@host"]',
        'routes: [{id: "mailto://u:geheim@host ", to: "file:x"}]',
        'routes: [{id: x, to: "file:x", severity: "mailto://u:geheim@host"}]',
        'routes: [{id: x, to: "file:x", repeat: "mailto://u:geheim@host"}]',
        'routes: [{id: x, to: "file:x", kinds: "json://host?token=geheim"}]',
        'rules: "slack://a/b/geheim"',
    ],
)
def test_a_secret_in_the_wrong_place_is_not_told_either(tmp_path: Path, text: str) -> None:
    found = check_routes(routes(tmp_path, text))
    assert found
    assert "geheim" not in " ".join(map(str, found))


def test_what_is_told_of_a_failure_hides_what_came_from_the_environment() -> None:
    env = {"PASSWORD": "ge heim!", "HOOK": TOKEN}
    told = f"POST json://u:ge%20heim%21@host/{TOKEN} failed: 'ge heim!'"
    assert hide(told, "json://u:${PASSWORD}@host/${HOOK}", env) == (
        "POST json://…@host/${HOOK} failed: '${PASSWORD}'"
    )
    assert hide("no", "json://u:${PASSWORD}@host", env) == "no"


# Files


def told(settings: Settings, to: str) -> str:
    message = Message(1, "r", "opened", "info", "t", "b", {}, datetime(2026, 3, 1, tzinfo=UTC), 0)
    return send(settings, Routes({"r": Route(id="r", to=to)}), message)


@pytest.fixture
def at_home(tmp_path: Path) -> Settings:
    (tmp_path / "home").mkdir()
    return Settings.from_env({"DUEMARK_HOME": str(tmp_path / "home")})


def test_relative_files_lie_in_the_home(at_home: Settings) -> None:
    assert told(at_home, "file:told/alerts.jsonl") == ""
    assert json.loads((at_home.home / "told" / "alerts.jsonl").read_text())["notice"] == 1


@pytest.mark.parametrize("name", ["../out.jsonl", "a/../../out.jsonl", "~/out.jsonl", "", "a/"])
def test_paths_that_lead_elsewhere_are_refused(at_home: Settings, tmp_path: Path, name: str) -> None:
    routes(tmp_path, f"routes:\n  - id: all\n    to: 'file:{name}'\n")
    (problem,) = check_routes(tmp_path)
    assert (problem.line, problem.key) == (3, "routes[0].to")
    assert told(at_home, f"file:{name}") != ""
    assert not (tmp_path / "out.jsonl").exists()


def test_absolute_files_lie_below_a_folder_that_is_named(
    at_home: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = tmp_path / "named"
    monkeypatch.delenv("DUEMARK_FILE_ROUTES", raising=False)
    assert "DUEMARK_FILE_ROUTES" in told(at_home, f"file:{named}/a.jsonl")
    assert not named.exists()
    monkeypatch.setenv("DUEMARK_FILE_ROUTES", f"/nowhere:{named}")
    assert told(at_home, f"file:{named}/deep/a.jsonl") == ""
    assert (named / "deep" / "a.jsonl").is_file()
    assert file_fault(f"{named}-beside/a.jsonl") is not None
    assert told(at_home, f"file:{tmp_path}/named-beside/a.jsonl") != ""


def test_links_may_not_lead_out(at_home: Settings, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").write_text("mine")
    (at_home.home / "folder").symlink_to(outside)
    (at_home.home / "file.jsonl").symlink_to(outside / "mine")
    (at_home.home / "dangling.jsonl").symlink_to(outside / "new")
    (at_home.home / "loop.jsonl").symlink_to("loop.jsonl")
    for name in ("folder/a.jsonl", "folder/new/a.jsonl", "file.jsonl", "dangling.jsonl", "loop.jsonl"):
        assert told(at_home, f"file:{name}") != ""
    assert [path.name for path in outside.iterdir()] == ["mine"]
    assert (outside / "mine").read_text() == "mine"
    # One that stays inside is fine, and so is a home that is a link itself.
    (at_home.home / "real").mkdir()
    (at_home.home / "inside").symlink_to("real")
    assert told(at_home, "file:inside/a.jsonl") == ""
    (tmp_path / "other").symlink_to(at_home.home)
    assert told(Settings.from_env({"DUEMARK_HOME": str(tmp_path / "other")}), "file:b.jsonl") == ""
    assert (at_home.home / "b.jsonl").is_file()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_what_is_no_file_is_not_written_to(at_home: Settings, make: Callable[[Path], None]) -> None:
    make(at_home.home / "odd")
    assert told(at_home, "file:odd") != ""
    with pytest.raises((DuemarkError, OSError)):
        open_route(at_home.home, "odd")
