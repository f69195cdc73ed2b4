"""What `duemark up` refuses before it starts anything."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from pipelines.errors import DuemarkError
from pipelines.processes.parts import socket_of, url_of
from pipelines.processes.supervisor import supervise
from pipelines.warehouse.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.from_env({"DUEMARK_HOME": str(tmp_path / "home")})


def test_a_port_that_is_taken(settings: Settings) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(DuemarkError) as caught:
            supervise(settings, "127.0.0.1", port)
    assert f"127.0.0.1:{port}: Address already in use" in caught.value.message
    assert "--port" in caught.value.hint
    assert not (settings.home / "postgres").exists()


def test_an_address_of_another_machine(settings: Settings) -> None:
    with pytest.raises(DuemarkError, match=r"cannot listen on 192\.0\.2\.1:0"):
        supervise(settings, "192.0.2.1", 0)


def test_sockets_of_a_home_with_a_long_path_fit(tmp_path: Path) -> None:
    settings = Settings.from_env({"DUEMARK_HOME": str(tmp_path / ("deep" * 30))})
    assert len(str(socket_of(settings, "pipelines"))) < 104


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:3000"),
        ("0.0.0.0", "http://127.0.0.1:3000"),
        ("::1", "http://[::1]:3000"),
        ("::", "http://[::1]:3000"),
    ],
)
def test_the_url_is_one_to_click(host: str, url: str) -> None:
    assert url_of(host, 3000) == url
