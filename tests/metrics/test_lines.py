"""Lines of access logs: what is wrong with each bad one, and the facts of good ones, whatever stands beside them."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.landing.feed import Rejected
from pipelines.metrics.access_log import METRIC_LOG
from pipelines.metrics.packages import Packages
from tests.metrics import oracle
from tests.metrics.support import BAD_LINES, MARKER, ODD_LINES, PACKAGES, START, good_lines, line, without
from tests.transform.support import examples

INPUTS = {"package_home_visit": "visit", "package_request": "request", "file_operation": "operation"}

ADDED = "X-Tfm-Files-Added"

Facts = Counter[tuple[str, str, int]]


def taken(blocks: Iterable[bytes]) -> tuple[Facts, list[Rejected], int]:
    """Sums by (input, dimension, minute), the rejected lines, and the number of accepted ones."""
    reader = METRIC_LOG.reader(Packages(PACKAGES))
    rejected, accepted, number = [], 0, 1
    for block in blocks:
        count, refused = reader.take(block, number)
        rejected += refused
        accepted += count
        number += block.count(b"\n")
    facts: Facts = Counter()
    for row in reader.rows().to_pylist():
        minute = int(row["minute_at"].timestamp()) // 60
        facts[INPUTS[row["input"]], row["dimension"], minute] += row["amount"]
    return facts, rejected, accepted


def expected(lines: Iterable[bytes]) -> Facts:
    facts: Facts = Counter()
    for each in lines:
        found = oracle.accepted(each)
        if found is not None:
            for name, dimension, amount in oracle.facts_of(found, PACKAGES):
                facts[name, dimension, int(found["ts"] // 60)] += amount
    return facts


LINES = st.lists(
    st.one_of(
        good_lines(st.floats(START, START + 7200)),
        good_lines(st.integers(START, START + 7200)),
        st.sampled_from(BAD_LINES),
        st.sampled_from(ODD_LINES),
    ),
    max_size=40,
)


@given(lines=LINES, cuts=st.sets(st.integers(0, 40), max_size=4))
@examples(120)
def test_facts_are_those_of_the_rules_however_lines_are_cut(lines: list[bytes], cuts: set[int]) -> None:
    bounds = [0, *sorted(cut for cut in cuts if cut < len(lines)), len(lines)]
    blocks = [b"".join(lines[a:b]) for a, b in itertools.pairwise(bounds)]
    facts, rejected, accepted = taken(block for block in blocks if block)
    assert facts == expected(lines)
    good = [each for each in lines if oracle.accepted(each) is not None]
    blank = [each for each in lines if not each.strip()]
    assert accepted == len(good)
    assert len(rejected) == len(lines) - len(good) - len(blank)
    # Line by line it is the same, in every word.
    alone = taken(lines)
    assert alone[0] == facts
    assert sorted(map(repr, alone[1])) == sorted(map(repr, rejected))


@given(
    some=st.lists(good_lines(st.floats(START, START + 7200)), min_size=1, max_size=9),
    bad=st.lists(st.tuples(st.sampled_from(BAD_LINES), st.integers(0, 300)), max_size=6),
)
@examples(15)
def test_a_few_bad_lines_among_many_good_ones(some: list[bytes], bad: list[tuple[bytes, int]]) -> None:
    lines = (some * 300)[:300]
    for each, place in bad:
        lines.insert(place, each)
    facts, rejected, _ = taken([b"".join(lines)])
    assert facts == expected(lines)
    places = [number for number, each in enumerate(lines, start=1) if oracle.accepted(each) is None]
    assert sorted(each.line_no for each in rejected) == places


@pytest.mark.parametrize("bad", BAD_LINES)
def test_a_bad_line_is_rejected_and_tells_of_nobody(bad: bytes) -> None:
    facts, (rejected,), accepted = taken([bad])
    assert not facts
    assert not accepted
    assert rejected.reasons
    assert MARKER not in repr(rejected)


@pytest.mark.parametrize(
    ("bad", "field", "message"),
    [
        (without("level"), "level", "level is missing."),
        (without("msg"), "msg", "msg is missing."),
        (without("ts"), "ts", "ts is missing."),
        (without("status"), "status", "status is missing."),
        (without("request"), "request", "request is missing."),
        (without("request", "host"), "request.host", "request.host is missing."),
        (without("request", "uri"), "request.uri", "request.uri is missing."),
        (without("request", "method"), "request.method", "request.method is missing."),
        (without("resp_headers"), "resp_headers", "resp_headers is missing."),
        (line(level="error"), "level", "level is error, not info."),
        (line(level=MARKER), "level", "level is another, not info."),
        (line(msg=MARKER), "msg", "msg is not 'handled request'."),
        (line(host=5), "request.host", "request.host is no text."),
        (line(uri=5), "request.uri", "request.uri is no text."),
        (line(status="ok"), "status", "status is a text that is no number."),
        (line(status=200.5), "status", "status is 200.5, which is none."),
        (line(status=[200]), "status", "status is no number."),
        (line(ts="1772438400"), "ts", "ts is no number."),
        (line(ts=1e15), "ts", "ts is 1000000000000000.0: outside the years 1 to 9999."),
        (line(resp_headers=[]), "resp_headers", "resp_headers is no object."),
        (b"\xff\xfe\n", None, "The line is not UTF-8: byte 1 of 2 is none."),
        (b'{"a":1,\n', None, "The line of 7 bytes is no JSON, from character 8 on."),
        (b"[1]\n", None, "The line of 3 bytes is no JSON object."),
    ],
)
def test_the_reason(bad: bytes, field: str | None, message: str) -> None:
    _, (rejected,), _ = taken([bad])
    assert [(reason.field, reason.message) for reason in rejected.reasons] == [(field, message)]


def test_all_reasons_and_what_is_kept() -> None:
    bad = line(level="warn", status="none", ts="now", uri=f"/a/b;{MARKER}?who={MARKER}", method="GET")
    _, (rejected,), _ = taken([bad])
    assert [reason.field for reason in rejected.reasons] == ["level", "status", "ts"]
    assert json.loads(rejected.record) == {
        "level": "warn",
        "msg": "handled request",
        "request": {"host": "library.example", "method": "GET", "path": "/a/b"},
    }


def facts_of(*lines: bytes) -> dict[tuple[str, str], int]:
    facts, _, _ = taken([b"".join(lines)])
    sums: Counter[tuple[str, str]] = Counter()
    for (name, dimension, _), amount in facts.items():
        sums[name, dimension] += amount
    return dict(sums)


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ({"uri": "/content/wiki_en"}, {("visit", "Wiki"): 1, ("request", "Wiki"): 1}),
        ({"uri": "/content/wiki_en/?q=1"}, {("visit", "Wiki"): 1, ("request", "Wiki"): 1}),
        ({"uri": "/content/wiki_en/A/Moon"}, {("request", "Wiki"): 1}),
        ({"uri": "/content/wiki_en2/A/Moon"}, {}),
        ({"uri": "/"}, {}),
        ({"host": "LIBRARY.Example:80", "uri": "/content/maps/"}, {("visit", "Maps"): 1, ("request", "Maps"): 1}),
        ({"host": "elsewhere.example", "uri": "/"}, {}),
        ({"host": "forms.example", "uri": "/"}, {("visit", "Forms"): 1, ("request", "Forms"): 1}),
        ({"host": "forms.example", "uri": "/a"}, {("request", "Forms"): 1}),
        (
            {"host": "edupi.example", "uri": "/api/documents/", "method": "POST", "status": "201"},
            {("request", "Training"): 1, ("operation", "FILE_CREATED"): 1},
        ),
        (
            {"host": "edupi.example", "uri": "/api/documents/7/", "method": "DELETE", "status": 204},
            {("request", "Training"): 1, ("operation", "FILE_DELETED"): 1},
        ),
        (
            {"host": "edupi.example", "uri": "/api/documents/", "method": "DELETE", "status": 204},
            {("request", "Training"): 1},
        ),
        (
            {"host": "fm.example", "uri": "/x", "resp_headers": {ADDED.upper(): ["3"], "X-Tfm-Files-Deleted": "2"}},
            {("request", "Exchange"): 1, ("operation", "FILE_CREATED"): 3, ("operation", "FILE_DELETED"): 2},
        ),
        ({"host": "fm.example", "uri": "/x", "resp_headers": {ADDED: ["many"]}}, {("request", "Exchange"): 1}),
        ({"host": "board.example", "uri": "/x", "resp_headers": {ADDED: ["3"]}}, {("request", "Board"): 1}),
    ],
)  # fmt: skip
def test_what_a_line_tells(given: dict[str, Any], found: dict[tuple[str, str], int]) -> None:
    assert facts_of(line(**given)) == found


def test_a_number_that_json_does_not_have() -> None:
    """Arrow reads over it in a field that does not count: a line's fate must not depend on its neighbours."""
    odd = line().replace(b'"Caddy"', b"NaN")
    assert taken([odd, line()])[2] == taken([odd + line()])[2] == 2
