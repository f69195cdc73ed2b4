"""Names made of ids: plain ones stay, no two ids come to one name, and all fit where they go."""

from __future__ import annotations

import re
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from pipelines.catalog.names import (
    ASSET_PART,
    LAST_ASSET_PART,
    PAGE_PART,
    WORD,
    Style,
    distinct_words,
    is_unseen,
    joined_name,
    page_name,
    readable,
    safe_name,
)

STYLES = [ASSET_PART, LAST_ASSET_PART, WORD, PAGE_PART]
# Texts that are near each other, and such as look like what another one becomes.
CHARACTERS = st.sampled_from("aAbB09 _-./~ü\u0308u日😀\"'[]:")
IDS = st.one_of(st.text(CHARACTERS, min_size=1, max_size=6), st.text(min_size=1, max_size=250)).filter(
    lambda text: not any("\ud800" <= one <= "\udfff" for one in text)
)


@given(IDS, st.sampled_from(STYLES))
@hypothesis_settings(deadline=None)
def test_a_name_is_plain_short_and_can_be_read_back(text: str, style: Style) -> None:
    name = safe_name(text, style)
    assert set(name) <= style.plain | {style.mark}
    assert 1 <= len(name) <= style.longest
    if set(text) <= style.plain and len(text) <= style.longest:
        assert name == text
    if 2 * style.mark not in name:
        # Nothing is lost: no other text comes to this name.
        assert unquote(name.replace(style.mark, "%")) == text


@given(IDS, st.sampled_from(STYLES))
@hypothesis_settings(deadline=None)
def test_a_name_is_no_other_ids_name(text: str, style: Style) -> None:
    name = safe_name(text, style)
    assert name == text or safe_name(name, style) != name


@pytest.mark.parametrize("style", STYLES)
def test_what_is_cut_differs_by_what_was_cut_off(style: Style) -> None:
    one, other = (safe_name("ü" * 199 + end, style) for end in "ab")
    assert one != other
    assert len(one) == len(other) == style.longest


@given(st.lists(IDS, max_size=12))
@hypothesis_settings(deadline=None)
def test_words_are_words_and_nobody_elses(texts: list[str]) -> None:
    words = distinct_words(texts)
    assert set(words) == set(texts)
    assert len(set(words.values())) == len(words)
    assert all(re.fullmatch(r"\w+", word, re.ASCII) for word in words.values())


def test_words_are_readable() -> None:
    words = distinct_words(["core-banking", "cards", "Überträge"])
    assert words == {"core-banking": "core_banking", "cards": "cards", "Überträge": "_bertr_ge"}
    both = distinct_words(["a-b", "a_b"])
    assert both["a_b"] == "a_b"
    assert both["a-b"].startswith("a_b_")


@pytest.mark.parametrize(
    "character", "\0\n\x85\u00ad\u034f\u061c\u200b\u200d\u200e\u2028\u2029\u202e\u2060\u2066\u3164\ufeff"
)
def test_what_nobody_sees_is_shown(character: str) -> None:
    assert is_unseen(character)
    assert readable(f"a{character}b") == f"a\\u{ord(character):04x}b"


@pytest.mark.parametrize("text", ["a b", "Überträge", "日次", "😀", "[x]", "نص", "e\u0301"])
def test_what_can_be_seen_stays(text: str) -> None:
    assert readable(text) == text


PARTS = st.lists(st.text(st.sampled_from("ab0_-.Z"), min_size=1, max_size=5), min_size=1, max_size=4)


@given(st.sets(PARTS.map(tuple), min_size=2, max_size=8), st.sampled_from([20, 40]))
@hypothesis_settings(deadline=None)
def test_no_two_lists_of_parts_come_to_one_name(given: set[tuple[str, ...]], longest: int) -> None:
    names = [joined_name(parts, longest=longest) for parts in given]
    assert len(set(names)) == len(given)
    assert all(re.fullmatch(r"[a-z0-9_]+", name) and len(name) <= longest for name in names)


def test_joined_names_can_be_read() -> None:
    assert (
        joined_name(["marts", "slo_performance", "business_date"]) == "marts__slo_performance__business_date"
    )
    assert re.fullmatch(r"marts__odd_day___[0-9a-f]{12}", joined_name(["marts", "odd day"]))
    assert re.fullmatch(r"(long_){9}l___[0-9a-f]{12}", joined_name(["long_" * 20 + "end"], longest=61))
    assert joined_name(["a"], whole=1) != joined_name(["a"], whole=2)


def test_pages_have_readable_names_that_no_file_system_confuses() -> None:
    assert page_name("slo", "overdraft-report") == "slo-overdraft-report"
    assert page_name("job", "overdrafts", "charge-overdrafts") == "job-overdrafts.charge-overdrafts"
    assert page_name("slo", "Über/b.c") == "slo-~c3~9cber~2fb~2ec"


@given(st.sets(st.tuples(IDS, IDS), min_size=2, max_size=6))
@hypothesis_settings(deadline=None)
def test_no_two_jobs_have_one_page(jobs: set[tuple[str, str]]) -> None:
    names = {page_name("job", *job) for job in jobs}
    assert len({name.casefold() for name in names}) == len(jobs)
    assert all(len(f"{name}.html") <= 255 for name in names)
