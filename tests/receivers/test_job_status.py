"""`POST /api/v1/job-status`: every answer, and what stands in the tables then."""

from __future__ import annotations

import base64
import gzip
import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pipelines.access.tokens import revoke
from pipelines.landing.unload import unload
from pipelines.warehouse.connect import connect
from tests.receivers.conftest import PATH, STATUS, Receiver

Fresh = Callable[..., dict[str, Any]]


def counts(receiver: Receiver, run_id: str) -> int:
    return int(receiver.query("select count(*) from raw.job_status where run_id = %s", run_id)[0][0])


def test_one_status_is_stored_and_then_known(receiver: Receiver, fresh: Fresh) -> None:
    status = fresh()
    done = receiver.post(status)
    assert (done.status_code, done.json()) == (201, {"stored": 1, "known": 0, "rejected": []})
    [(load_id, *row)] = receiver.query(
        "select load_id, seq, line_no, job_id, status_at = '2026-03-02T05:31:07Z' from raw.job_status"
        " where run_id = %s",
        status["run_id"],
    )
    assert row == [0, 1, "load", True]
    assert receiver.query("select feed, source, record_count from raw.load where load_id = %s", load_id) == [
        ("job_status", "http scheduler", 1)
    ]
    again = receiver.post(status)
    assert (again.status_code, again.json()) == (200, {"stored": 0, "known": 1, "rejected": []})
    assert counts(receiver, status["run_id"]) == 1
    # In other words, it is the same: the seven fields are equal.
    other = {"applicationId": " deposits ", "jobId": "load", "jobStatusCode": "start", "jobStatusTimestamp":
             "2026-03-02T05:31:07Z",
             "businessDate": "2026-03-01", "runId": status["run_id"], "hostId": "h1"}  # fmt: skip
    assert receiver.post(other).json()["known"] == 1
    # Another host is another copy.
    assert receiver.post(status | {"host_id": None}).json()["stored"] == 1
    assert receiver.post(status | {"host_id": None}).json()["known"] == 1


def test_an_array_and_lines_are_many(receiver: Receiver, fresh: Fresh) -> None:
    first, second = fresh(), fresh(status_code="FAIL")
    done = receiver.post([first, second, first])
    assert (done.status_code, done.json()) == (201, {"stored": 2, "known": 1, "rejected": []})
    lines = b"\r\n".join(json.dumps(one).encode() for one in (second, {}, fresh())) + b"\n\n"
    done = receiver.post(lines, content_type="application/x-ndjson; charset=utf-8")
    assert done.status_code == 207
    assert {**done.json(), "rejected": [one["index"] for one in done.json()["rejected"]]} == {
        "stored": 1, "known": 1, "rejected": [1],
    }  # fmt: skip
    pretty = json.dumps([fresh(), fresh()], indent=2).replace("\n", "\r\n").encode()
    assert receiver.post(b"\xef\xbb\xbf" + pretty).json()["stored"] == 2


def test_what_is_refused_says_all_that_is_wrong_and_is_kept(receiver: Receiver, fresh: Fresh) -> None:
    wrong = fresh(status_code="GO", job_id="", business_date="2026-03-09")
    good = fresh()
    done = receiver.post([good, wrong])
    assert done.status_code == 207
    body = done.json()
    assert (body["stored"], body["known"]) == (1, 0)
    [refused] = body["rejected"]
    assert refused["index"] == 1
    assert [reason["field"] for reason in refused["reasons"]] == ["job_id", "status_code", "business_date"]
    assert refused["reasons"][0] == {
        "field": "job_id", "message": "job_id is missing.", "hint": "1 to 200 characters.",
    }  # fmt: skip
    [(path, line_no, reasons)] = receiver.query(
        "select path, line_no, reasons from raw.rejected_record where record like %s", f"%{wrong['run_id']}%"
    )
    assert (path, line_no, reasons) == ("http scheduler", 2, refused["reasons"])
    assert receiver.post(wrong).status_code == 400


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        (b'[{"job_id": "load"}, {"job_id', None, "The line is no JSON"),
        (b'{"job_id": "load"', None, "The line is no JSON"),
        (b"[1, 2]", None, "The line is a JSON number, not an object."),
        (b'"text"', None, "The line is a JSON string, not an object."),
        (b"[[]]", None, "The line is a JSON array, not an object."),
        (b"[{}}", None, "The line is no JSON"),
        (b"\xff\xfe{\x00}\x00", None, "NUL byte"),
        (b'{"job_id": "l\xf6sch"}', None, "The line is not UTF-8"),
        (b'{"job_id": "a\\u0000b"}', "job_id", "A NUL character stands in the value."),
        (b'{"job_id": "a\x00b"}', None, "NUL byte"),
        (b'{"job_id": ["load"]}', "job_id", "job_id is a JSON array; text is wanted."),
        (b'{"job_id": true}', "job_id", "job_id is a JSON boolean; text is wanted."),
        (b'{"job_id": "a", "jobId": "b"}', "job_id", "are one column"),
        (b"[" * 100_000 + b"]" * 100_000, None, "The line is"),
        (b'{"job_id": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", None, "The line is"),
        (b'{"job_id": "' + b"x" * (2 << 20) + b'"}', None, "The line has 2,097,"),
    ],
    ids=[
        "truncated array", "truncated object", "numbers", "a string", "arrays", "wrong brackets", "UTF-16", "Latin-1",
        "NUL escaped", "NUL", "a list for text", "a boolean for text", "one column twice", "deep array",
        "deep object", "long line",
    ],
)  # fmt: skip
def test_a_body_that_is_none_is_refused_with_its_reason(
    receiver: Receiver, body: bytes, field: str | None, words: str
) -> None:
    before = receiver.query("select count(*) from raw.rejected_record")[0][0]
    done = receiver.post(body)
    assert done.status_code == 400
    refused = done.json()["rejected"]
    assert words in " ".join(reason["message"] for reason in refused[0]["reasons"])
    assert field in [reason["field"] for reason in refused[0]["reasons"]]
    assert receiver.query("select count(*) from raw.rejected_record")[0][0] == before + len(refused)


def test_one_bad_byte_refuses_its_record_alone(receiver: Receiver, fresh: Fresh) -> None:
    records = [json.dumps(fresh()).encode() for _ in range(3)]
    records[1] = records[1].replace(b"h1", b"h\xf61")
    done = receiver.post(b"[" + b" ,\n".join(records) + b"]")
    assert (done.status_code, done.json()["stored"]) == (207, 2)
    assert [one["index"] for one in done.json()["rejected"]] == [1]


def test_an_empty_body_is_refused(receiver: Receiver) -> None:
    for body in (b"", b" \n", b"[]", b" [ ] "):
        done = receiver.post(body)
        assert (done.status_code, done.json()["rejected"][0]["reasons"][0]["message"]) == (
            400, "The body is empty.",
        )  # fmt: skip


def test_a_number_is_text_as_it_was_written_and_of_a_key_that_stands_twice_the_last_counts(
    receiver: Receiver, fresh: Fresh
) -> None:
    status = fresh(job_id=17)
    text = json.dumps(status).replace('"status_code": "START"', '"status_code": "GO", "status_code": "FAIL"')
    assert receiver.post(text.encode()).status_code == 201
    assert receiver.query(
        "select job_id, status_code from raw.job_status where run_id = %s", status["run_id"]
    ) == [("17", "FAIL")]


@pytest.mark.parametrize(
    "text", ["'; drop table raw.job_status; --", "<script>alert(1)</script>", "%s {x} $1"]
)
def test_sql_and_script_are_text(receiver: Receiver, fresh: Fresh, text: str) -> None:
    status = fresh(application_id=text, job_id=text, host_id=text, run_id=text)
    assert receiver.post(status, "gateway").status_code == 201
    # No offset, and nobody knows the application's zone; and no code, no date.
    wrong = status | {"status_code": text, "status_at": text, "business_date": text}
    fields = [reason["field"] for reason in receiver.post(wrong, "gateway").json()["rejected"][0]["reasons"]]
    assert fields == ["status_code", "status_at", "business_date"]
    with receiver.client("dashboards") as client:
        found = client.get(PATH, params={"application_id": text, "business_date": "2026-03-01"}).json()
    assert [(one["job_id"], one["host_id"], one["run_id"]) for one in found["statuses"]] == [
        (text, text, text)
    ]


def test_types_and_codings(receiver: Receiver, fresh: Fresh) -> None:
    for kind in ("", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16"):
        done = receiver.post(fresh(), content_type=kind)
        assert done.status_code == 415, kind
        assert "application/json" in done.json()["hint"]
    packed = gzip.compress(json.dumps(fresh()).encode())
    assert receiver.post(packed, content_encoding="gzip").status_code == 201
    for wrong in (packed[:-9], packed + b"x", b"no gzip"):
        assert receiver.post(wrong, content_encoding="gzip").status_code == 400
    assert receiver.post(packed, content_encoding="br").status_code == 415
    assert receiver.post(packed).status_code == 400


def test_chunks_are_one_body(receiver: Receiver, fresh: Fresh) -> None:
    body = json.dumps([fresh() for _ in range(100)]).encode()

    def parts() -> Iterator[bytes]:
        for start in range(0, len(body), 1000):
            yield body[start : start + 1000]

    with receiver.client() as client:
        done = client.post(PATH, content=parts(), headers={"content-type": "application/json"})
    assert (done.status_code, done.json()["stored"]) == (201, 100)


def test_too_much_is_refused(receiver: Receiver) -> None:
    bomb = gzip.compress(b" " * (100 << 20))
    assert len(bomb) < 1 << 20
    assert receiver.post(bomb, content_encoding="gzip").status_code == 413
    assert receiver.post(b" " * (100 << 20)).status_code == 413
    with receiver.client() as client:
        megabytes = (b" " * (1 << 20) for _ in range(20))
        headers = {"content-type": "application/json"}
        assert client.post(PATH, content=megabytes, headers=headers).status_code == 413
    many = receiver.post(b"{}\n" * 50_001, content_type="application/x-ndjson")
    assert (many.status_code, many.json()["message"]) == (413, "The body has more than 50,000 records.")
    assert receiver.post(b"[" + b"{}," * 50_001 + b"{}]").status_code == 413


def test_who_may_not_is_refused(receiver: Receiver, fresh: Fresh) -> None:
    status = fresh()
    unknown = receiver.post(status, None)
    assert unknown.status_code == 401
    assert unknown.headers["www-authenticate"].startswith("Bearer")
    of_nobody = base64.urlsafe_b64encode(b'{"alg":"none"}').decode() + ".e30."
    token = receiver.token("scheduler")
    for wrong in ("x", of_nobody, token[:-1], token + "x", "duemark_x_y", "duemark__", token.upper(), "é"):
        with receiver.client(None) as client:
            headers = {"content-type": "application/json", "authorization": f"Bearer {wrong}".encode()}
            done = client.post(PATH, json=status, headers=headers)  # type: ignore[arg-type]
        assert done.status_code == 401, wrong
    assert receiver.post(status, "dashboards").status_code == 403
    assert receiver.post(status, "other-feed").status_code == 403
    refused = receiver.post(status, "scheduler-abroad")
    assert refused.status_code == 403
    [reason] = refused.json()["rejected"][0]["reasons"]
    assert reason["field"] == "application_id"
    assert reason["message"] == "This client may not report for the application 'deposits'."
    assert counts(receiver, status["run_id"]) == 0
    assert receiver.query(
        "select path from raw.rejected_record where record like %s", f"%{status['run_id']}%"
    ) == [("http scheduler-abroad",)]
    mixed = receiver.post([status, status | {"application_id": "treasury"}])
    assert (mixed.status_code, mixed.json()["stored"]) == (207, 1)
    # Nothing is taken, but not for that alone.
    assert receiver.post([{}, status | {"application_id": "treasury"}]).status_code == 400


def test_a_revoked_token_is_refused_at_once(receiver: Receiver, fresh: Fresh) -> None:
    assert receiver.post(fresh(), "nobody-yet").status_code == 201
    revoke(receiver.settings, "nobody-yet")
    done = receiver.post(fresh(), "nobody-yet")
    assert (done.status_code, done.json()["message"]) == (401, "This token was revoked.")


def test_an_application_that_the_catalog_does_not_have_is_kept(receiver: Receiver, fresh: Fresh) -> None:
    status = fresh(application_id="unheard-of")
    assert receiver.post(status, "gateway").status_code == 201
    assert counts(receiver, status["run_id"]) == 1


def test_what_was_taken_out_is_stored_again(receiver: Receiver, fresh: Fresh) -> None:
    status = fresh()
    receiver.post(status)
    [(load_id,)] = receiver.query("select load_id from raw.job_status where run_id = %s", status["run_id"])
    assert receiver.post(status).status_code == 200
    unload(receiver.settings, str(load_id), "a test", "tests")
    assert receiver.post(status).status_code == 201


def test_requests_at_once_share_loads_and_have_their_own_answers(receiver: Receiver, fresh: Fresh) -> None:
    before = receiver.query("select coalesce(max(load_id), 0) from raw.load")[0][0]
    sent: list[tuple[str, Any, int]] = []
    for number in range(60):
        sender = ("scheduler", "gateway")[number % 2]
        sent.append((sender, {}, 400) if number % 3 == 0 else (sender, fresh(), 201))
    for sender in ("scheduler", "gateway"):
        receiver.token(sender)
    with ThreadPoolExecutor(12) as pool:
        done = list(pool.map(lambda one: receiver.post(one[1], one[0]), sent))
    assert [one.status_code for one in done] == [code for *_, code in sent]
    loads = receiver.query("select source, record_count from raw.load where load_id > %s", before)
    assert {source for source, _ in loads} == {"http scheduler", "http gateway"}
    assert sum(count for _, count in loads) == 40


def test_while_the_database_is_kept_from_it_the_receiver_says_when_to_come_again(
    receiver: Receiver, fresh: Fresh
) -> None:
    status = fresh()
    with connect(receiver.settings, "ingest") as connection:
        connection.execute("lock table control.lock_load in share update exclusive mode")
        done = receiver.post(status)
    assert (done.status_code, done.json()["message"]) == (503, "A large load is under way.")
    assert int(done.headers["retry-after"]) > 0
    assert receiver.post(status).status_code == 201


def test_a_body_that_never_ends_is_not_waited_for(receiver: Receiver) -> None:
    """Other clients are answered meanwhile."""
    with socket.create_connection(("127.0.0.1", receiver.port)) as client:
        client.sendall(
            f"POST {PATH} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {receiver.token('scheduler')}\r\n"
            "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{".encode()
        )
        assert receiver.post([]).status_code == 400
        client.settimeout(600)
        assert client.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_what_is_known_is_answered(receiver: Receiver, fresh: Fresh) -> None:
    status = fresh(job_id="asked", status_at="2026-03-02T05:00:00Z")
    receiver.post([status, status | {"status_code": "SUCCEED", "status_at": "2026-03-02T06:00:00Z"}])
    with receiver.client("dashboards") as client:
        for missing, words in (
            ({}, "The question has no application_id or job_id, and no business_date or from."),
            ({"job_id": "asked"}, "The question has no business_date or from."),
            ({"from": "2026-03-01"}, "The question has no application_id or job_id."),
        ):
            done = client.get(PATH, params=missing)
            assert (done.status_code, done.json()["message"]) == (400, words)
        assert client.get(PATH, params={"job_id": "asked", "from": "soon"}).status_code == 400
        found = client.get(PATH, params={"job_id": "asked", "from": "2026-03-01"}).json()
        assert [one["status_code"] for one in found["statuses"]] == ["START", "SUCCEED"]
        assert found["more"] is False
        first = found["statuses"][0]
        assert first.pop("received_at") > first["status_at"]
        assert first == STATUS | {
            "job_id": "asked", "status_at": "2026-03-02T05:00:00+00:00", "run_id": status["run_id"],
            "source": "http scheduler",
        }  # fmt: skip
        question: dict[str, str | int] = {
            "job_id": "asked",
            "application_id": "deposits",
            "business_date": "2026-03-01",
            "limit": 1,
        }
        assert client.get(PATH, params=question).json()["more"] is True
        assert client.get(PATH, params=question | {"to": "2026-02-28"}).json()["statuses"] == []
    with receiver.client() as client:
        assert client.get(PATH, params=question).status_code == 403


def test_health_is_open_and_status_is_not(receiver: Receiver) -> None:
    with receiver.client(None) as client:
        health = client.get("/health")
        assert (health.status_code, health.json()) == (
            503, {"service": "ok", "storage": {"postgres": "ok"}, "scheduler": "stopped"},
        )  # fmt: skip
        assert client.get("/status").status_code == 401
        nothing = client.get("/api/v2")
        assert (nothing.status_code, nothing.json()["message"]) == (404, "Not Found")
        assert client.delete(PATH).status_code == 405
        paths = client.get("/api/v1/openapi.json").json()["paths"]
        assert set(paths[PATH]) == {"get", "post"}
    with receiver.client("dashboards") as client:
        done = client.get("/status")
    assert done.status_code == 503
    assert {part["name"] for part in done.json()["parts"]} > {"database", "tick", "daemon"}


def test_nothing_secret_is_logged(receiver: Receiver) -> None:
    log = (receiver.settings.home / "serve.log").read_text("utf-8")
    assert receiver.token("scheduler") not in log
    assert receiver.token("scheduler").split("_", 2)[2] not in log
    assert all("event" in json.loads(line) for line in log.splitlines())
