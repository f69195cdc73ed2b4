"""Logs in an object store, where a log grows by being put again, and is renamed by a copy: every whole line once."""

from __future__ import annotations

import gzip
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from pipelines.landing import follow
from pipelines.landing.follow import grown
from pipelines.landing.ingest import IngestReport, ingest
from pipelines.warehouse.settings import Settings
from tests.landing.test_follow import Logs, beat
from tests.landing.test_object_store import Put
from tests.landing.test_object_store import put as put  # a fixture

pytestmark = pytest.mark.usefixtures("put")


@dataclass
class Bucket:
    """Objects of the feed `uptime` in the bucket `bank`, and what was read of them."""

    settings: Settings
    put: Put
    objects: dict[str, bytes] = field(default_factory=dict)

    def key(self, name: str) -> str:
        return f"landing/uptime/{name}"

    def append(self, name: str, *numbers: int, partial: str = "") -> None:
        self.write(name, self.objects.get(name, b"") + ("".join(map(beat, numbers)) + partial).encode())

    def write(self, name: str, body: bytes) -> None:
        self.objects[name] = body
        self.put(self.key(name), body)

    def rename(self, name: str, other: str) -> None:
        self.write(other, self.objects[name])
        self.drop(name)

    def drop(self, name: str) -> None:
        import boto3

        boto3.client("s3").delete_object(Bucket="bank", Key=self.key(name))
        del self.objects[name]

    def read(self) -> IngestReport:
        return ingest(self.settings, feeds=["uptime"])

    def found(self) -> list[int]:
        return Logs(self.settings).found()


@pytest.fixture
def bucket(settings: Settings, put: Put) -> Bucket:
    return Bucket(replace(settings, landing="s3://bank/landing"), put)


def test_a_log_that_grows_and_a_partial_line(bucket: Bucket) -> None:
    bucket.append("beats.log", 0, 1, partial=beat(2)[:9])
    assert [each.unread_bytes for each in grown(bucket.settings)] == [2 * len(beat(0)) + 9]
    (outcome,) = bucket.read().files
    assert (outcome.path, outcome.record_count) == ("s3://bank/landing/uptime/beats.log", 2)
    assert bucket.read().files == ()
    bucket.write("beats.log", bucket.objects["beats.log"] + beat(2)[9:].encode() + beat(3).encode())
    bucket.read()
    assert bucket.found() == [0, 1, 2, 3]
    assert grown(bucket.settings) == []


@pytest.mark.parametrize("unread", [(), (3, 4)])
@pytest.mark.parametrize("is_packed", [False, True])
def test_rotation(bucket: Bucket, unread: tuple[int, ...], is_packed: bool) -> None:
    bucket.append("beats.log", 0, 1, 2)
    bucket.read()
    bucket.append("beats.log", *unread)
    if is_packed:
        bucket.write("beats.log.1.gz", gzip.compress(bucket.objects["beats.log"]))
        bucket.drop("beats.log")
    else:
        bucket.rename("beats.log", "beats.log.1")
    bucket.append("beats.log", 10)
    bucket.read()
    assert bucket.found() == [0, 1, 2, *unread, 10]
    bucket.append("beats.log", 11)
    bucket.read()
    assert bucket.found() == [0, 1, 2, *unread, 10, 11]


def test_a_log_that_is_put_anew_and_one_that_is_shorter(bucket: Bucket) -> None:
    bucket.append("beats.log", *range(300))
    bucket.read()
    # Longer than what it is known by.
    bucket.write("beats.log", bucket.objects["beats.log"][: 200 * len(beat(0))])
    bucket.read()
    bucket.write("beats.log", "".join(map(beat, range(400, 420))).encode())
    bucket.read()
    assert bucket.found() == [*range(300), *range(400, 420)]


def test_an_object_that_is_put_again_while_it_is_read(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follow, "CHUNK_BYTES", 100)
    bucket.append("beats.log", *range(500))

    def longer(_: Any) -> None:
        if len(bucket.objects["beats.log"]) == 500 * len(beat(0)):
            bucket.append("beats.log", 500, 501)

    ingest(bucket.settings, feeds=["uptime"], progress=longer)
    bucket.read()
    assert bucket.found() == list(range(502))
    assert bucket.read().files == ()


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_to_objects(bucket: Bucket, seed: int) -> None:
    chance = random.Random(seed)
    next_number = 0

    def pack() -> None:
        for name, body in list(bucket.objects.items()):
            if name.startswith("old-") and not name.endswith(".gz"):
                bucket.write(f"{name}.gz", gzip.compress(body))
                bucket.drop(name)

    def copy() -> None:
        for name, body in list(bucket.objects.items()):
            if name.startswith("old-"):
                bucket.write(f"copy-{name}", body)

    def rotate() -> None:
        if "beats.log" in bucket.objects:
            bucket.rename("beats.log", f"old-{next_number}.log")

    actions: list[Callable[[], object]] = [
        lambda: bucket.append("beats.log", *range(next_number, next_number + 40)),
        bucket.read,
        rotate,
        pack,
        copy,
    ]
    for _ in range(14):
        which = chance.choice([0, 0, 1, 1, 2, 3, 4])
        actions[which]()
        next_number += 40 * (which == 0)
    bucket.read()
    assert bucket.found() == list(range(next_number))
    assert bucket.read().files == ()
