"""The embedded server's folders: nobody leads us elsewhere by a link, and nothing is opened in silence."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import psycopg
import pytest

from pipelines.errors import DuemarkError
from pipelines.warehouse import embedded

is_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders to others")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_private_folder_is_made_and_found_again(tmp_path: Path) -> None:
    folder = tmp_path / "sockets"
    embedded.private_folder(folder)
    assert mode(folder) == 0o700
    folder.chmod(0o777)
    embedded.private_folder(folder)
    assert mode(folder) == 0o700


@pytest.mark.parametrize("target", ["folder", "file", "nowhere"])
def test_a_link_in_its_place_is_refused(tmp_path: Path, target: str) -> None:
    (tmp_path / "folder").mkdir(mode=0o755)
    (tmp_path / "folder").chmod(0o755)
    (tmp_path / "file").write_text("of somebody")
    link = tmp_path / "sockets"
    link.symlink_to(tmp_path / target)
    with pytest.raises(DuemarkError, match=f"{link} is a link, or no folder") as caught:
        embedded.private_folder(link)
    assert "Remove it" in caught.value.hint
    assert mode(tmp_path / "folder") == 0o755
    assert not (tmp_path / "nowhere").exists()


def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sockets").write_text("of somebody")
    with pytest.raises(DuemarkError, match="is a link, or no folder"):
        embedded.private_folder(tmp_path / "sockets")


@is_root
def test_root_gives_away_no_target_of_a_link(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "sockets").symlink_to(tmp_path / "mine")
    with pytest.raises(DuemarkError, match="is a link"):
        embedded.private_folder(tmp_path / "sockets", embedded._server_user())
    assert (tmp_path / "mine").stat().st_uid == 0


@is_root
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "sockets"
    folder.mkdir()
    os.chown(folder, 54321, 54321)
    for user in (None, embedded._server_user()):
        with pytest.raises(DuemarkError, match="belongs to the user with the number 54321"):
            embedded.private_folder(folder, user)
    assert folder.stat().st_uid == 54321


@is_root
def test_a_folder_of_ours_is_given_to_the_server(tmp_path: Path) -> None:
    user: Any = embedded._server_user()
    embedded.private_folder(tmp_path / "sockets", user)
    assert (tmp_path / "sockets").stat().st_uid == user.pw_uid
    embedded.private_folder(tmp_path / "sockets", user)


@is_root
def test_what_is_opened_above_a_home_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    user: Any = embedded._server_user()
    private, home = tmp_path / "private", tmp_path / "private" / "home"
    (home / "postgres" / "data").mkdir(parents=True)
    for folder in (tmp_path, private, home):
        folder.chmod(0o700)
    embedded._let_through(home / "postgres" / "data", user, home)
    told = capfd.readouterr().err
    assert mode(private) == mode(home) == 0o701
    assert str(private) in told
    assert "0700" in told
    assert "0701" in told
    assert str(home) not in told.replace(f"{private}/home/", ""), "what is in the home is ours"
    embedded._let_through(home / "postgres" / "data", user, home)
    assert capfd.readouterr().err == ""


@is_root
def test_the_private_folder_of_another_is_not_opened(tmp_path: Path) -> None:
    user: Any = embedded._server_user()
    of_another = tmp_path / "of-another"
    home = of_another / "home"
    home.mkdir(parents=True)
    tmp_path.chmod(0o755)
    of_another.chmod(0o700)
    os.chown(of_another, 54321, 54321)
    with pytest.raises(DuemarkError, match=r"may not pass through .*of-another.* closed") as caught:
        embedded._let_through(home / "postgres", user, home)
    assert f"chmod o+x {of_another}" in caught.value.hint
    assert mode(of_another) == 0o700


def test_configuration_is_not_written_through_a_link(tmp_path: Path) -> None:
    target = tmp_path / "passwd"
    target.write_text("as it was")
    (tmp_path / "duemark.conf").symlink_to(target)
    with pytest.raises(OSError, match="symbolic"):
        embedded._append(tmp_path / "duemark.conf", "port = 1", None)
    assert target.read_text() == "as it was"


def test_the_server_inherits_only_what_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGOPTIONS", "PGDATA", "LD_LIBRARY_PATH", "LC_ALL", "SECRET"):
        monkeypatch.setenv(name, "of the caller")
    # Set by `make test-dates`, whose server is to see the moved clock.
    monkeypatch.delenv("DUEMARK_SERVER_ENV", raising=False)
    found = embedded._environment()
    assert found == {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}
    monkeypatch.setenv("DUEMARK_SERVER_ENV", "SECRET, LD_LIBRARY_PATH, ABSENT")
    assert set(embedded._environment()) == {"PATH", "LC_ALL", "SECRET", "LD_LIBRARY_PATH"}


def test_a_port_of_the_caller_leads_nowhere_else(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """libpq would take it for an embedded server, too, whose URL named none; as for the server's own start."""
    home = tmp_path_factory.mktemp(
        "a-home-whose-path-is-longer-than-a-socket-of-it-may-be-in-any-system-of-today"
    )
    for name, value in {"PGPORT": "7654", "PGOPTIONS": "-c nonsense=1", "PGDATA": "/nowhere"}.items():
        monkeypatch.setenv(name, value)
    try:
        url = embedded.start(home)
        assert embedded.is_ready(home)
        assert len(os.fsencode(embedded._socket_folder(home))) <= embedded.SOCKET_FOLDER_BYTES
        with psycopg.connect(url.replace("/duemark?", "/postgres?"), options="") as connection:
            row = connection.execute(
                "select count(*) from pg_settings where source = 'environment variable'"
            ).fetchone()
            pid = embedded.running_pid(home)
        assert row == (0,)
        environment = Path(f"/proc/{pid}/environ")
        if environment.exists():
            names = {entry.partition("=")[0] for entry in environment.read_text().split("\0") if entry}
            assert not {name for name in names if name.startswith("DUEMARK")}
            assert "PGOPTIONS" not in names
    finally:
        embedded.stop(home)
