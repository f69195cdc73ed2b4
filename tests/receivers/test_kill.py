"""The receiver is killed under load: what it answered stands, and what is sent again is known."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import httpx
import psutil

from pipelines.warehouse.settings import Settings
from tests.receivers.conftest import PATH, Receiver, running
from tests.waiting import until

CLIENTS = 4


def test_what_was_answered_stands_after_a_kill(home: Settings, fresh: Callable[..., dict[str, Any]]) -> None:
    with running(home) as receiver:
        receiver.token("scheduler")
        sent: list[dict[str, Any]] = []
        answered: list[str] = []

        def send() -> None:
            with receiver.client() as client:
                while True:
                    status = fresh(host_id="killed")
                    sent.append(status)
                    try:
                        done = client.post(PATH, json=status)
                    except httpx.TransportError:
                        return
                    assert done.status_code == 201
                    answered.append(status["run_id"])

        senders = [threading.Thread(target=send) for _ in range(CLIENTS)]
        for sender in senders:
            sender.start()
        until(lambda: len(answered) > 50)
        assert receiver.end(signal.SIGKILL) == -signal.SIGKILL
        for sender in senders:
            sender.join()
        assert stored(receiver).issuperset(answered)
        # Who got no answer sends again, as all may do.
        port = receiver.port
        receiver.start(port)
        done = receiver.post(sent).json()
        assert (done["stored"] + done["known"], done["rejected"]) == (len(sent), [])
        assert done["known"] >= len(answered)
        assert stored(receiver) == {status["run_id"] for status in sent}
        assert receiver.end() == 0


def stored(receiver: Receiver) -> set[str]:
    rows = receiver.query("select run_id from raw.job_status where host_id = 'killed'")
    assert len(rows) == len(set(rows))
    return {run_id for (run_id,) in rows}


def test_of_several_workers_one_is_killed_and_another_takes_its_place(
    home: Settings, fresh: Callable[..., dict[str, Any]]
) -> None:
    with running(home, "--workers", "2", "--insecure-local") as receiver:
        assert receiver.process is not None
        parent = psutil.Process(receiver.process.pid)

        def workers() -> list[psutil.Process]:
            # They come and go.
            with suppress(psutil.Error):
                return alive()
            return []

        def alive() -> list[psutil.Process]:
            found = [one for one in parent.children() if one.status() != psutil.STATUS_ZOMBIE]
            return [one for one in found if "spawn_main" in " ".join(one.cmdline())]

        victim, _ = until(lambda: is_answered(receiver) and len(found := workers()) == 2 and found)
        os.kill(victim.pid, signal.SIGKILL)
        until(lambda: len(workers()) == 2 and victim.pid not in [one.pid for one in workers()])
        # Of its connections those that were open ended with it; new ones are served.
        until(lambda: is_answered(receiver))
        assert receiver.post(fresh(), None).status_code == 201
        assert receiver.end() == 0


def is_answered(receiver: Receiver) -> bool:
    try:
        return receiver.post([], None).status_code == 400
    except httpx.TransportError:
        return False
