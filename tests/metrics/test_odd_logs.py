"""What rotation, browsers and catalogs do to lines, and they count all the same."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from pipelines.catalog.read import read_catalog
from pipelines.cli import main
from pipelines.landing.follow import LONGEST_LINE, without_fill
from tests.metrics.conftest import Server
from tests.metrics.support import PACKAGES, line

BOM = b"\xef\xbb\xbf"


def counted(server: Server) -> dict[tuple[str, str], int]:
    """Amounts by (input, dimension)."""
    rows = server.warehouse.query(
        "select input, dimension, sum(amount)::int as amount from raw.metric_input group by 1, 2"
    )
    return {(str(row["input"]), str(row["dimension"])): row["amount"] for row in rows}


def requests(server: Server) -> dict[str, int]:
    return {title: amount for (name, title), amount in counted(server).items() if name == "package_request"}


def rejected(server: Server) -> int:
    (row,) = server.warehouse.query("select count(*) as count from marts.rejected_record")
    return int(row["count"])


def test_fill_is_taken_from_the_heads_of_lines_only() -> None:
    assert without_fill(b"a\nb\n") == b"a\nb\n"
    assert without_fill(b"\0\0a\n" + BOM + b"b\n\0" + BOM + b"\0c\0d\n") == b"a\nb\nc\0d\n"


@pytest.mark.parametrize(
    "hole", [1, 100, LONGEST_LINE + 10, 9 * 2**20], ids=["one", "some", "a line", "a chunk"]
)
def test_a_log_that_was_cut_under_its_writer(server: Server, hole: int) -> None:
    server.log([line(uri="/content/wiki_en/1")] * 3)
    server.ingest()
    path = server.folder("metric_log") / "access.json"
    # What copytruncate leaves of a writer that goes on where it was: zeros, and then its next line.
    with path.open("r+b") as file:
        os.truncate(path, 0)
        file.seek(hole)
        file.write(line(uri="/content/wiki_en/2") + line(uri="/content/wiki_en/3"))
    server.ingest()
    server.log([line(uri="/content/wiki_en/4")])
    server.ingest()
    assert requests(server) == {"Wiki": 6}
    assert rejected(server) == 0


def test_a_hole_that_nobody_has_written_behind_yet(server: Server) -> None:
    path = server.folder("metric_log") / "access.json"
    path.touch()
    os.truncate(path, 3 * LONGEST_LINE)
    server.ingest()
    server.log([line()[:-1]])
    server.ingest()
    assert requests(server) == {}
    server.log([b"\n", b"\0" * 50, line()])
    server.ingest()
    assert sum(requests(server).values()) == 2
    assert rejected(server) == 0


def test_marks_of_utf8_before_lines(server: Server) -> None:
    server.log([BOM, line(), BOM + line(), line()])
    (server.folder("uptime") / "beats.log").write_bytes(
        BOM + b"2026-03-02T08:00:00Z\n\0\x002026-03-02T08:01:00Z\n"
    )
    server.ingest()
    found = counted(server)
    assert sum(requests(server).values()) == 3
    assert found["heartbeat", "None"] == 2
    assert rejected(server) == 0


def test_names_of_archives_in_any_spelling(server: Server) -> None:
    server.warehouse.write_catalog(
        {
            "packages": [
                {"kind": "zim", "title": "Coffee", "url": "//library.example/viewer#caf%C3%A9_en"},
                {
                    "kind": "zim",
                    "title": "Tea",
                    "url": "//library.example/content/tea (1)".replace(" ", "%20"),
                },
                {"kind": "zim", "title": "Page", "url": "//library.example/content/pages/A/Main_Page?x#top"},
                {"kind": "zim", "title": "Shown", "url": "//library.example/viewer#shown/A/Main_Page"},
            ]
        }
    )
    uris = [
        "/content/café_en", "/content/caf%C3%A9_en/", "/content/caf%c3%a9_en/A", "/content/%63afé_en/B?q",
        "/content/cafe_en", "/content/tea%20(1)/x", "/content/tea%20%281%29", "/content/pages/",
        "/content/pages/A/Main_Page", "/content/shown", "/content/caf%E9_en", "/content/pages%2FA", "/content/%",
    ]  # fmt: skip
    server.log([line(uri=uri) for uri in uris])
    server.ingest()
    assert requests(server) == {"Coffee": 4, "Tea": 2, "Page": 2, "Shown": 1}
    visits = {
        title: amount for (name, title), amount in counted(server).items() if name == "package_home_visit"
    }
    assert visits == {"Coffee": 2, "Tea": 1, "Page": 1, "Shown": 1}


APPS: list[dict[str, Any]] = [
    {"kind": "app", "title": "Plain", "ident": "edupi", "url": "//a.example/"},
    {"kind": "app", "title": "Domain", "ident": "edupi.example.org", "url": "//b.example/"},
    {"kind": "app", "title": "Manager", "ident": "file-manager.offspot.kiwix.org", "url": "//c.example/"},
    {"kind": "app", "title": "Other", "ident": "edupi2.example.org", "url": "//d.example/"},
    {"kind": "app", "title": "Wiki", "ident": "nomad.offspot.kiwix.org", "url": "//e.example/"},
]


def test_idents_with_a_domain_count(server: Server) -> None:
    server.warehouse.write_catalog({"packages": APPS})
    server.log(
        [
            line(host=f"{one}.example", uri="/api/documents/", method="POST", status=201, resp_headers={})
            for one in "abd"
        ]
        + [line(host="c.example", resp_headers={"X-Tfm-Files-Added": ["5"]})]
    )
    server.ingest()
    created = Counter(
        {name: amount for name, amount in counted(server).items() if name[0] == "file_operation"}
    )
    assert sum(created.values()) == 1 + 1 + 5


def test_other_idents_are_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "packages"
    folder.mkdir()
    rows = "".join(
        f"  - {{kind: app, title: {one['title']}, ident: {one['ident']}, url: {one['url']}}}\n"
        for one in APPS
    )
    (folder / "all.yml").write_text(f"packages:\n{rows}")
    warnings = read_catalog(tmp_path).warnings
    assert [(one.line, one.key, one.message) for one in warnings] == [
        (5, "packages[3].ident", "no input counts the files of the application `edupi2.example.org`"),
        (6, "packages[4].ident", "no input counts the files of the application `nomad.offspot.kiwix.org`"),
    ]
    assert warnings[0].hint.startswith("did you mean `edupi`?")
    monkeypatch.setenv("DUEMARK_CATALOG", str(tmp_path))
    monkeypatch.setenv("DUEMARK_HOME", str(tmp_path / "home"))
    result = CliRunner().invoke(main, ["check"])
    assert result.exit_code == 0
    assert result.output.count("warning: ") == 2


def test_logs_wait_for_packages_that_a_refused_catalog_holds_back(server: Server) -> None:
    settings = server.warehouse.settings
    server.log([line(host="library.example", uri="/content/wiki_en")])
    server.ingest()
    broken = settings.catalog / "jobs" / "broken.yml"
    broken.parent.mkdir(exist_ok=True)
    broken.write_text("jobs: [\n")
    # The packages are the same: what they count does not wait for a job.
    server.log([line(host="library.example", uri="/content/wiki_en")])
    server.ingest()
    assert requests(server) == {"Wiki": 2}
    more = [*PACKAGES, {"kind": "files", "title": "New", "url": "//new.example/"}]
    server.warehouse.write_catalog({"packages": more})
    broken.parent.mkdir(exist_ok=True)
    broken.write_text("jobs: [\n")
    server.log([line(host="new.example", uri="/")])
    report = server.ingest()
    assert any(warning.startswith("Logs wait") for warning in report.warnings)
    assert requests(server) == {"Wiki": 2}
    (settings.catalog / "packages" / "odd.yml").write_text("packages: [{kind: zim}]\n")
    server.ingest()
    assert requests(server) == {"Wiki": 2}
    (settings.catalog / "packages" / "odd.yml").unlink()
    broken.unlink()
    server.ingest()
    assert requests(server) == {"Wiki": 2, "New": 1}
