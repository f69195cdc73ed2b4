"""Routes: read with every fault told by file, line and key; matched; filled from the environment."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipelines.catalog.read import CatalogError, read_catalog
from sensors.oncall.incidents.model import Incident, Key, Rules
from sensors.oncall.incidents.routes import (
    MissingVariableError,
    Route,
    Routes,
    check_routes,
    expand,
    load_routes,
    target_fault,
)

ROOT = Path(__file__).resolve().parents[2]
NOON = datetime(2026, 3, 3, 12, tzinfo=UTC)
OVERDUE = Incident(
    incident_id=1,
    key=Key("overdue", "slo-a", "2026-03-03 00:00"),
    severity="critical",
    title="Overdue",
    message="",
    began_at=NOON,
    opened_at=NOON,
    last_seen_at=NOON,
    tell_from=NOON,
    application_id="core",
    slo_id="slo-a",
)


def write(folder: Path, content: str, name: str = "on_call.yml") -> Path:
    (folder / "routes").mkdir(exist_ok=True)
    (folder / "routes" / name).write_text(content, "utf-8")
    return folder


def faults(folder: Path) -> list[str]:
    """Problems as `line key: message`."""
    return [f"{one.line} {one.key}: {one.message}" for one in check_routes(folder)]


def test_the_demonstration_routes_have_no_fault() -> None:
    catalog = read_catalog(ROOT / "catalog")
    assert check_routes(ROOT / "catalog", catalog) == []
    routes = load_routes(ROOT / "catalog")
    assert set(routes.routes) == {"operations", "deposits-team", "head-of-operations"}
    assert routes.rules == Rules()


def test_a_catalog_without_routes_tells_nobody(tmp_path: Path) -> None:
    assert load_routes(tmp_path) == Routes()


def test_all_faults_at_once(tmp_path: Path) -> None:
    write(
        tmp_path,
        """routes:
  - id: one
    to: file:alerts.jsonl
    severity: hi
  - id: two
    to: nonsense
    repeat: 4
    kinds: [overdu]
  - id: three
    to: file:x
    escalate: {after: 30m, to: three}
  - to: json://host
rules: {watc: 3d, digest_above: 0}
router: []
""",
    )
    assert faults(tmp_path) == [
        "4 routes[0].severity: unknown value hi",
        "7 routes[1].repeat: 4 has no unit of time",
        "8 routes[1].kinds[0]: there is no kind `overdu`",
        "11 routes[2].escalate.to: the route escalates to itself",
        "12 routes[3].id: `id` is missing",
        "13 rules.digest_above: 0: input should be greater than or equal to 1",
        "13 rules.watc: unknown key `watc`",
        "14 router: unknown key `router`",
    ]
    with pytest.raises(CatalogError, match="8 problems"):
        load_routes(tmp_path)


def test_faults_between_routes(tmp_path: Path) -> None:
    write(
        tmp_path,
        """routes:
  - id: one
    to: nonsense
    escalate: {after: 30m, to: tow}
  - id: two
    to: "file:"
  - id: two
    to: "${NOT CLOSED"
""",
    )
    write(tmp_path, "rules: {watch: 2d}\n", "a.yml")
    write(tmp_path, "rules: {watch: 2d}\n", "b.yml")
    found = check_routes(tmp_path)
    assert [(Path(one.file).name, one.line, one.message.split(",")[0]) for one in found] == [
        ("b.yml", 1, "the rules are set twice"),
        ("on_call.yml", 3, "no apprise URL"),
        ("on_call.yml", 4, "there is no route `tow`"),
        ("on_call.yml", 6, "a file without a path"),
        ("on_call.yml", 7, "the route `two` is declared twice"),
        ("on_call.yml", 8, "a variable is not closed"),
    ]
    assert next(one for one in found if "tow" in one.message).hint == "did you mean `two`?"


def test_what_the_catalog_does_not_have(tmp_path: Path) -> None:
    write(
        tmp_path, "routes:\n  - {id: x, to: 'file:x', applications: [overdraft, duemark], slos: [nothing]}\n"
    )
    found = check_routes(tmp_path, read_catalog(ROOT / "catalog"))
    assert [(one.key, one.message) for one in found] == [
        ("routes[0].applications[0]", "there is no application `overdraft`"),
        ("routes[0].slos[0]", "there is no SLO `nothing`"),
    ]


@pytest.mark.parametrize("content", ["routes:\n", "", "rules:\n", "# nothing\n"])
def test_empty_files_are_fine(tmp_path: Path, content: str) -> None:
    assert load_routes(write(tmp_path, content)) == Routes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("- x\n", "expected the key `routes`"),
        ("routes: x\n", "expected a list"),
        ("routes: [x]\n", "expected keys"),
    ],
)
def test_other_shapes(tmp_path: Path, content: str, message: str) -> None:
    (fault,) = check_routes(write(tmp_path, content))
    assert fault.message.startswith(message)


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    write(tmp_path, "routes:\n  - {id: one, to: 'file:x'}\n")
    assert list(load_routes(tmp_path).routes) == ["one"]
    write(tmp_path, "routes:\n  - {id: three, to: 'file:x'}\n")
    assert list(load_routes(tmp_path).routes) == ["three"]


def test_what_is_no_plain_file_is_told(tmp_path: Path) -> None:
    write(tmp_path, "routes:\n  - {id: one, to: 'file:x'}\n")
    (tmp_path / "routes" / "gone.yml").symlink_to(tmp_path / "nowhere")
    with pytest.raises(CatalogError, match=r"gone\.yml:1: the file cannot be read"):
        load_routes(tmp_path)


def test_json_and_back(tmp_path: Path) -> None:
    write(
        tmp_path,
        """
routes:
  - {id: one, to: "${URL}", applications: [core], repeat: 90s, escalate: {after: 5m, to: two}}
  - {id: two, to: "file:x", when: escalated, grouped: true, resolved: false, severity: critical}
rules: {watch: 1d, rejected_share: 0.5}
""",
    )
    routes = load_routes(tmp_path)
    assert routes.rules == replace(Rules(), watch=timedelta(days=1), rejected_share=0.5)
    assert Routes.from_json(routes.to_json()) == routes


@pytest.mark.parametrize(
    ("keys", "matches"),
    [
        ({}, True),
        ({"applications": ("core",)}, True),
        ({"applications": ("desk",)}, False),
        ({"kinds": ("overdue", "failed")}, True),
        ({"kinds": ("late",)}, False),
        ({"slos": ("slo-a",)}, True),
        ({"slos": ("slo-b",)}, False),
        ({"severity": "critical"}, True),
    ],
)
def test_what_a_route_hears(keys: dict[str, object], matches: bool) -> None:
    route = Route.model_validate({"id": "x", "to": "file:x", **keys})
    assert route.matches(OVERDUE) is matches
    # What belongs to no application goes to routes that name none.
    assert route.matches(replace(OVERDUE, application_id=None)) is (matches and "applications" not in keys)
    assert not Route(id="x", to="file:x", severity="critical").matches(replace(OVERDUE, severity="warning"))


def test_variables() -> None:
    env = {"TOKEN": "secret", "EMPTY": ""}
    assert expand("slack://${TOKEN}/x", env) == "slack://secret/x"
    assert expand("${EMPTY:-file:x}", env) == "file:x"
    assert expand("${TOKEN:-file:x}", env) == "secret"
    with pytest.raises(MissingVariableError, match="EMPTY is not set"):
        expand("json://${EMPTY}", env)


@pytest.mark.parametrize(
    "target", ["json://host/path", "mailto://user:pass@example.com", "file:x", "${X}", "${X:-y}"]
)
def test_targets_that_may_work(target: str) -> None:
    assert target_fault(target) is None
