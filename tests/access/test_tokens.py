"""Tokens: shown once, kept hashed, known until they expire or are revoked; who did it is kept."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipelines.access.authority import Authority, refuse_others
from pipelines.access.clients import Client, of_sender
from pipelines.access.tokens import UnknownError, issue, revoke, tokens
from pipelines.catalog.models import Role, Sender
from pipelines.catalog.store import store_catalog
from pipelines.cli import main
from pipelines.errors import DuemarkError
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

APPLICATIONS = "applications:\n  - {id: deposits, timezone: UTC, senders: [scheduler]}\n"


@pytest.fixture
def house(settings: Settings, tmp_path: Path) -> Settings:
    """A home whose catalog has one application, which names a sender."""
    (tmp_path / "catalog" / "applications").mkdir(parents=True)
    (tmp_path / "catalog" / "applications" / "a.yml").write_text(APPLICATIONS)
    found = replace(settings, catalog=tmp_path / "catalog")
    store_catalog(found)
    return found


def test_a_token_is_kept_as_its_hash_alone(house: Settings) -> None:
    issued = issue(house, "scheduler", by="ann")
    assert len(issued.token.split("_", 2)[2]) == 43
    with connect(house) as connection:
        [(stored,)] = connection.execute("select to_jsonb(token)::text from access.token").fetchall()
        assert issued.token not in str(stored)
        assert hashlib.sha256(issued.token.encode()).hexdigest() in str(stored)
    client = Authority(house).client(issued.token)
    assert client == Client(
        "scheduler", frozenset({"sender"}), frozenset({"deposits"}), frozenset({"job_status"})
    )
    [listed] = tokens(house)
    assert (listed.token_id, listed.issued_by, listed.last_used_at is not None) == (
        issued.token_id,
        "ann",
        True,
    )


def test_what_is_no_valid_token_is_not_known(house: Settings) -> None:
    authority = Authority(house)
    good, expired, gone = (issue(house, "scheduler", lasts) for lasts in (None, timedelta(0), None))
    assert revoke(house, "scheduler", gone.token_id) == [gone.token_id]
    for token, words in (
        ("", "no token of Duemark"),
        (good.token.replace("duemark", "deumark"), "no token of Duemark"),
        (good.token + "A", "not known"),
        (f"duemark_{expired.token_id}_{good.token.split('_', 2)[2]}", "not known"),
        (expired.token, "has expired"),
        (gone.token, "was revoked"),
    ):
        with pytest.raises(UnknownError, match=words):
            authority.client(token)
    assert authority.remembered(good.token) is None
    assert authority.client(good.token) == authority.remembered(good.token)


def test_the_last_use_is_written_once_a_minute(house: Settings) -> None:
    authority = Authority(house)
    token = issue(house, "scheduler").token
    authority.client(token)
    first = tokens(house)[0].last_used_at
    authority.client(token)
    assert tokens(house)[0].last_used_at == first
    with connect(house) as connection:
        connection.execute("update access.token set last_used_at = last_used_at - interval '61 s'")
    authority.client(token)
    assert tokens(house)[0].last_used_at > first  # type: ignore[operator]


def test_who_is_taken_out_of_the_catalog_is_not_known_any_more(house: Settings) -> None:
    authority = Authority(house)
    token = issue(house, "scheduler").token
    (house.catalog / "applications" / "a.yml").write_text(APPLICATIONS.replace("[scheduler]", "[]"))
    store_catalog(house)
    with pytest.raises(UnknownError, match="does not have the sender of this token any more"):
        authority.client(token)
    with pytest.raises(DuemarkError, match="The catalog has no sender 'scheduler'"):
        issue(house, "scheduler")


def test_the_commands(house: Settings) -> None:
    run = CliRunner()

    def call(*arguments: str) -> str:
        done = run.invoke(main, ["token", *arguments], env=house.as_env())
        assert done.exit_code == 0, done.output
        return done.stdout

    # The sender is in the files, and not stored yet.
    (house.catalog / "senders").mkdir()
    (house.catalog / "senders" / "s.yml").write_text("senders: [{id: ana, roles: [analyst]}]\n")
    token = call("issue", "ana", "--expires", "90d", "--by", "bob").splitlines()[-1]
    assert Authority(house).client(token).may("analyst")
    [listed] = json.loads(call("list", "--format", "json"))
    assert (listed["sender_id"], listed["issued_by"]) == ("ana", "bob")
    assert token.split("_", 2)[2] not in call("list", "ana")
    assert call("revoke", "ana", "--by", "cid") == f"revoked: token {listed['token_id']} of ana\n"
    with connect(house) as connection:
        assert connection.execute(
            "select actor, action, subject, detail ->> 'token_id' from access.audit order by audit_id"
        ).fetchall() == [
            ("bob", "token issued", "ana", listed["token_id"]),
            ("cid", "token revoked", "ana", listed["token_id"]),
        ]
    again = run.invoke(main, ["token", "revoke", "ana"], env=house.as_env())
    assert (again.exit_code, again.stderr.splitlines()[0]) == (
        2, "duemark: ana has no token that could be revoked.",
    )  # fmt: skip
    wrong = run.invoke(main, ["token", "issue", "anna"], env=house.as_env())
    assert (wrong.exit_code, "did you mean `ana`?" in wrong.stderr) == (2, True)
    assert run.invoke(main, ["token", "issue", "ana", "--expires", "soon"], env=house.as_env()).exit_code == 2


@pytest.mark.parametrize(
    ("roles", "may"),
    [
        (["sender"], {"sender"}),
        (["analyst"], {"analyst"}),
        (["on_call"], {"analyst", "on_call"}),
        (["admin"], {"analyst", "on_call", "admin"}),
        (["sender", "on_call"], {"sender", "analyst", "on_call"}),
    ],
)
def test_what_roles_may(roles: list[Role], may: set[str]) -> None:
    client = of_sender(Sender(id="x", applications=("deposits",), roles=tuple(roles)))
    every: tuple[Role, ...] = ("sender", "analyst", "on_call", "admin")
    assert {role for role in every if client.may(role)} == may
    assert client.may_send("job_status") == ("sender" in roles)
    assert not client.may_send("metric_log")


def test_asking_nobody_is_for_this_machine_alone() -> None:
    for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"):
        refuse_others(host)
    for host in ("0.0.0.0", "::", "192.0.2.1", "", "example.org"):
        with pytest.raises(DuemarkError, match="--insecure-local is for this machine alone"):
            refuse_others(host)
