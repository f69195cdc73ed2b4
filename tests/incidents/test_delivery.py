"""The outbox to a real HTTP server and to files: retried, in order, by several at once, across crashes."""

from __future__ import annotations

import email
import email.policy
import json
import os
import signal
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from pipelines.processes.status import _delivery
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings
from sensors.oncall.incidents.delivery import Delivered, Message, backlog, deliver, send, wait_after
from sensors.oncall.incidents.evaluate import evaluate, remind
from sensors.oncall.incidents.model import DELIVERY_FAILED, Ending
from sensors.oncall.incidents.routes import Route, Routes, load_routes
from tests.incidents.conftest import Bank, Hook, at
from tests.waiting import HUNG, until

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def overdue(bank: Bank, hook: Hook) -> Callable[..., Bank]:
    """One overdue incident whose message is in the outbox, at 03:01, for the server."""

    def make(routes: str = "", url: str = "") -> Bank:
        bank.write("routes/on_call.yml", routes or f'routes:\n  - {{id: all, to: "{url or hook.url}"}}\n')
        bank.usual_day()
        bank.sends("core/lone", "SUCCEED 02:20")
        assert bank.at("03:01").messages > 0
        return bank

    return make


def test_it_arrives_once_with_what_one_needs_to_know(overdue: Callable[..., Bank], hook: Hook) -> None:
    bank = overdue()
    assert deliver(bank.settings, at("03:01")) == Delivered(delivered=1)
    assert deliver(bank.settings, at("03:01")) == Delivered()
    (message,) = hook.taken()
    assert message["title"] == "Overdue: The load, 2026-03-03"
    assert message["type"] == "failure"
    assert "Cause (never started): core/a has not reported" in message["message"]
    assert "Owner: team:core" in message["message"]
    assert "duemark ack 1" in message["message"]


def test_a_route_that_answers_503_gets_it_later(overdue: Callable[..., Bank], hook: Hook) -> None:
    bank = overdue()
    hook.codes += [503, 503]
    assert deliver(bank.settings, at("03:01")) == Delivered(failed=1, pending=1)
    assert "503" in backlog(bank.settings).last_error
    # Not before ten seconds have passed, then not before another twenty.
    assert deliver(bank.settings, at("03:01") + timedelta(seconds=9)) == Delivered(pending=1)
    assert deliver(bank.settings, at("03:01") + timedelta(seconds=10)) == Delivered(failed=1, pending=1)
    assert deliver(bank.settings, at("03:01") + timedelta(seconds=29)) == Delivered(pending=1)
    assert deliver(bank.settings, at("03:01") + timedelta(seconds=30)) == Delivered(delivered=1)
    assert len(hook.taken()) == 1
    assert bank.query("select attempts, last_error from ops.alert_outbox") == [(3, None)]


def test_waits_double_up_to_a_quarter_of_an_hour() -> None:
    assert [wait_after(attempts).total_seconds() for attempts in (0, 1, 2, 5, 6, 7, 1000)] == [
        10, 20, 40, 320, 640, 900, 900,
    ]  # fmt: skip


def test_nobody_is_there_and_the_message_waits(overdue: Callable[..., Bank]) -> None:
    bank = overdue(url="json://127.0.0.1:9/nobody")
    assert deliver(bank.settings, at("03:01")).failed == 1
    assert backlog(bank.settings).pending == 1
    assert backlog(bank.settings).most_attempts == 1


def test_a_broken_route_does_not_hold_up_another(overdue: Callable[..., Bank], hook: Hook) -> None:
    bank = overdue(
        f"""
routes:
  - {{id: broken, to: "json://127.0.0.1:9/nobody"}}
  - {{id: file, to: "file:alerts.jsonl"}}
  - {{id: unset, to: "${{DUEMARK_TEST_UNSET}}"}}
  - {{id: working, to: "{hook.url}"}}
"""
    )
    assert deliver(bank.settings, at("03:01")) == Delivered(delivered=2, failed=2, pending=2)
    assert len(hook.taken()) == 1
    (line,) = (bank.settings.home / "alerts.jsonl").read_text().splitlines()
    written = json.loads(line)
    assert (written["event"], written["kind"], written["subject"]) == ("opened", "overdue", "slo-a")
    errors = dict(bank.query("select route, last_error from ops.alert_outbox where delivered_at is null"))
    assert "DUEMARK_TEST_UNSET is not set" in errors["unset"]


def test_a_route_taken_from_the_environment(
    overdue: Callable[..., Bank], hook: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUEMARK_TEST_URL", hook.url)
    bank = overdue(url="${DUEMARK_TEST_URL}")
    assert deliver(bank.settings, at("03:01")).delivered == 1
    assert bank.query("select content::text from ops.route_set")[0][0].count("127.0.0.1") == 0


def test_messages_of_a_route_that_is_gone_end_and_that_is_told_once(
    overdue: Callable[..., Bank], hook: Hook
) -> None:
    both = f"""
routes:
  - {{id: all, to: "${{DUEMARK_TEST_UNSET}}"}}
  - {{id: other, to: "{hook.url}", repeat: 0m}}
"""
    bank = overdue(both)
    assert deliver(bank.settings, at("03:01")) == Delivered(delivered=1, failed=1, pending=1)
    with connect(bank.settings) as connection:
        assert not _delivery(connection, at("03:10")).is_ready
    bank.write("routes/on_call.yml", f'routes:\n  - {{id: other, to: "{hook.url}", repeat: 0m}}\n')
    remind(bank.settings, at("03:10"))
    remind(bank.settings, at("03:11"))
    assert bank.outbox()[2:] == [("other", "opened", "Alerts do not reach the route all")]
    assert backlog(bank.settings).pending == 1
    assert deliver(bank.settings, at("03:11")) == Delivered(delivered=1)
    assert "no route all any more; 1 message that waited for it" in hook.taken()[1]["message"]
    assert [one.resolution for one in bank.all() if one.key.kind == "delivery_failed"] == ["undeliverable"]
    with connect(bank.settings) as connection:
        part = _delivery(connection, at("03:12"))
        assert part.is_ready
        assert part.reason == "nothing waits; 1 message to routes that are gone ended undeliverable (all)"
        assert _delivery(connection, at("5 03:12")).reason == "nothing waits"
    # Back again: it never got the message, and hears that others did.
    bank.write("routes/on_call.yml", both)
    remind(bank.settings, at("03:20"))
    assert bank.outbox()[3:] == [("all", "repeated", "Overdue: The load, 2026-03-03 (still open)")]


def test_a_route_whose_messages_were_told_as_refused_ends_that_too(
    overdue: Callable[..., Bank], hook: Hook
) -> None:
    from sensors.oncall.incidents.store import in_transaction, reconcile, tell
    from sensors.oncall.watch.findings import KINDS, Finding

    bank = overdue(f'routes:\n  - {{id: all, to: "json://127.0.0.1:9/x"}}\n  - {{id: o, to: "{hook.url}"}}\n')
    found = Finding(DELIVERY_FAILED, "all", "Alerts do not reach the route all", "refused", at("03:01"))
    routes = load_routes(bank.settings.catalog)

    def work(cursor: Any) -> None:
        reconcile(
            cursor, KINDS, [found.wanted(at("03:02"))], lambda _: Ending("delivered", ""), now=at("03:02")
        )
        tell(cursor, routes, at("03:02"))

    in_transaction(bank.settings, work)
    bank.write("routes/on_call.yml", f'routes:\n  - {{id: o, to: "{hook.url}"}}\n')
    remind(bank.settings, at("03:05"))
    said = [row for row in bank.outbox() if row[0] == "o" and "reach" in row[2]]
    assert said == [
        ("o", "opened", "Alerts do not reach the route all"),
        ("o", "resolved", "Alerts do not reach the route all (over)"),
    ]
    assert [one.resolution for one in bank.all() if one.key.kind == "delivery_failed"] == ["undeliverable"]


def test_a_renamed_route_is_not_told_anew(overdue: Callable[..., Bank], hook: Hook) -> None:
    bank = overdue()
    deliver(bank.settings, at("03:01"))
    bank.write("routes/on_call.yml", f'routes:\n  - {{id: crew, to: "{hook.url}"}}\n')
    remind(bank.settings, at("03:02"))
    assert len(bank.outbox()) == 1
    # Of what goes on it hears like the one that it was.
    remind(bank.settings, at("07:01"))
    assert bank.outbox()[1:] == [("crew", "repeated", "Overdue: The load, 2026-03-03 (still open)")]
    # With another address too it is a new one, which hears what is still open.
    bank.write("routes/on_call.yml", 'routes:\n  - {id: desk, to: "file:desk.jsonl"}\n')
    deliver(bank.settings, at("07:01"))
    remind(bank.settings, at("07:02"))
    assert bank.outbox()[2:] == [("desk", "repeated", "Overdue: The load, 2026-03-03 (still open)")]


def test_messages_of_one_incident_keep_their_order(overdue: Callable[..., Bank], hook: Hook) -> None:
    bank = overdue()
    hook.codes += [503]
    assert deliver(bank.settings, at("03:01")).failed == 1
    bank.sends("core/a", "SUCCEED 03:01")
    bank.at("03:01")
    assert len(bank.messages()) == 2
    # The end is due now, the opening in ten seconds: the end waits for it.
    assert deliver(bank.settings, at("03:01")) == Delivered(pending=2)
    assert deliver(bank.settings, at("03:02")).delivered == 2
    assert [message["title"].partition("2026-03-03")[2] for message in hook.taken()] == ["", " (over: late)"]
    assert [message["type"] for message in hook.taken()] == ["failure", "success"]


def test_several_at_once_send_each_message_once(bank: Bank, hook: Hook) -> None:
    bank.write(
        "routes/on_call.yml",
        "routes:\n" + "".join(f'  - {{id: r{number}, to: "{hook.url}"}}\n' for number in range(6)),
    )
    bank.usual_day()
    bank.sends("core/a", "START 01:00", "FAIL 01:10")
    bank.at("03:40")
    expected = bank.query("select count(*) from ops.alert_outbox")[0][0]
    assert expected == 12
    start = threading.Barrier(5)

    def run() -> None:
        start.wait()
        deliver(bank.settings, at("03:40"))

    threads = [threading.Thread(target=run) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Whoever met a message that another one held left its incident's later ones to the next delivery.
    deliver(bank.settings, at("03:40"))
    notices = [message["message"].rpartition("Notice ")[2] for message in hook.taken()]
    assert sorted(notices, key=int) == [str(number) for number in range(1, expected + 1)]


PROGRAM = """
import sys, time
from datetime import datetime
import pipelines.subjects
from pipelines.warehouse.settings import Settings
from sensors.oncall.incidents.{module} import {function}
settings = Settings.from_env()
{function}(settings, datetime.fromisoformat(sys.argv[1]))
print("done", flush=True)
time.sleep(60)
"""


def spawn(bank: Bank, module: str, function: str, moment: str) -> subprocess.Popen[str]:
    program = PROGRAM.format(module=module, function=function)
    return subprocess.Popen(
        [sys.executable, "-c", program, at(moment).isoformat()],
        env={**os.environ, **bank.settings.as_env(), "DUEMARK_LOG_LEVEL": "ERROR"},
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_killed_between_the_transaction_and_the_delivery(bank: Bank, hook: Hook) -> None:
    bank.write("routes/on_call.yml", f'routes:\n  - {{id: all, to: "{hook.url}"}}\n')
    bank.usual_day()
    bank.sends("core/lone", "SUCCEED 02:20")
    bank.tick("03:01")
    process = spawn(bank, "evaluate", "evaluate", "03:01")
    assert process.stdout is not None
    assert "done\n" in iter(process.stdout.readline, "")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert evaluate(bank.settings, at("03:01")).messages == 0
    assert deliver(bank.settings, at("03:01")) == Delivered(delivered=1)
    assert len(hook.taken()) == 1


def test_killed_while_it_delivers(overdue: Callable[..., Bank], hook: Hook) -> None:
    bank = overdue()
    hook.hold.clear()
    process = spawn(bank, "delivery", "deliver", "03:01")
    assert hook.arrived.wait(HUNG)
    # It is claimed: nobody else sends it meanwhile.
    assert deliver(bank.settings, at("03:01")) == Delivered(pending=1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    hook.hold.set()
    until(lambda: deliver(bank.settings, at("03:01")).delivered)
    numbers = {message["message"].rpartition("Notice ")[2] for _, message in hook.received}
    assert numbers == {"1"}
    assert bank.query("select count(*) from ops.alert_outbox where delivered_at is null") == [(0,)]


def test_an_incident_and_its_message_are_written_together_or_not_at_all(bank: Bank) -> None:
    bank.usual_day()
    bank.sends("core/lone", "SUCCEED 02:20")
    bank.tick("03:01")
    with connect(bank.settings, autocommit=True) as connection:
        connection.execute(
            "alter table ops.alert_outbox add constraint full_disk check (title = '') not valid"
        )
        try:
            with pytest.raises(Exception, match="full_disk"):
                evaluate(bank.settings, at("03:01"))
            assert (bank.all(), bank.outbox()) == ([], [])
        finally:
            connection.execute("alter table ops.alert_outbox drop constraint full_disk")
    assert evaluate(bank.settings, at("03:01")).messages == 1


# What a service shows


@dataclass
class Mailbox:
    """An SMTP server on loopback that keeps what it is sent."""

    server: socketserver.ThreadingTCPServer
    received: list[EmailMessage] = field(default_factory=list)


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.say("220 here")
            for line in iter(self.rfile.readline, b""):
                command = line.strip().upper()
                if command == b"DATA":
                    self.say("354 go on")
                    content = b"".join(iter(self.rfile.readline, b".\r\n"))
                    message = email.message_from_bytes(content, policy=email.policy.default)
                    made.received.append(message)
                self.say("221 bye" if command == b"QUIT" else "250 well")

        def say(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())

    made = Mailbox(socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler))
    made.server.daemon_threads = True
    threading.Thread(target=made.server.serve_forever, daemon=True).start()
    yield made
    made.server.shutdown()
    made.server.server_close()


BODY = "Due 03:00 EST, a < b.\nCause: core/load_all*x failed.\nRunbook: https://wiki.example.org/a?b=1&c=2"


def sent(settings: Settings, to: str) -> str:
    message = Message(7, "r", "opened", "critical", "Overdue: A & B <x>", BODY, {}, at("03:01"), 0)
    return send(settings, Routes({"r": Route(id="r", to=to)}), message)


def test_a_mail_looks_right_as_text_and_as_html(tmp_path: Path, mailbox: Mailbox) -> None:
    port = mailbox.server.server_address[1]
    to = f"mailto://127.0.0.1:{port}?from=duemark@example.org&to=ann@example.org"
    assert sent(Settings.from_env({"DUEMARK_HOME": str(tmp_path)}), to) == ""
    (mail,) = mailbox.received
    assert mail["Subject"] == "Overdue: A & B <x>"
    plain, rich = (mail.get_body((form,)) for form in ("plain", "html"))
    assert plain is not None
    assert rich is not None
    assert [line.strip() for line in plain.get_content().strip().splitlines()] == [
        *BODY.splitlines(),
        "Notice 7",
    ]
    said = rich.get_content()
    assert "Due 03:00 EST, a &lt; b.<br/>" in said
    assert "<b>Cause:</b> core/load_all*x failed.<br/>" in said
    assert '<a href="https://wiki.example.org/a?b=1&amp;c=2">' in said


@pytest.mark.parametrize(
    ("form", "lines"),
    [
        ("", BODY.splitlines()),
        ("?format=html", ["Due 03:00 EST, a &lt; b.<br/>", "<b>Cause:</b> core/load_all*x failed.<br/>"]),
        ("?format=markdown", ["**Cause:** core/load\\_all\\*x failed."]),
    ],
)
def test_each_service_gets_the_form_that_it_shows(
    tmp_path: Path, hook: Hook, form: str, lines: list[str]
) -> None:
    assert sent(Settings.from_env({"DUEMARK_HOME": str(tmp_path)}), hook.url + form) == ""
    (message,) = hook.taken()
    assert message["title"] == "Overdue: A & B <x>"
    for line in lines:
        assert line in message["message"]
