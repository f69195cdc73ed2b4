"""Whatever passes as an expression or a condition can be computed: one that failed would stop its neighbours too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipelines.kpi.expressions import ExpressionError, condition, formula
from pipelines.warehouse.connect import with_database
from tests.transform.support import examples

COLUMNS = {
    "a": "bigint", "b": "numeric(12,2)", "s": "text", "d": "date", "i": "interval", "t": "timestamp with time zone",
    "j": "jsonb", "u": "uuid", "flag": "boolean",
}  # fmt: skip
WORDS = (
    *COLUMNS, '"a"', *"+-*/%=<>(),;", "<>", "!=", "<=", ">=", "::", "1", "2.5", "0", "1e3", "1e99", "'x'",
    "'it''s'", "'2026-01-01'", "'2026-03-03T03:00:00Z'", "'1 day'", "'{{'", "'\\'", "case", "when", "then", "else",
    "end", "and", "or", "not", "is", "null", "in", "between", "true", "abs(", "coalesce(", "nullif(", "round(",
    "--x\n", "/*y*/", "select", "||", "distinct",
)  # fmt: skip
VALUES = st.sampled_from((*COLUMNS, "null", "'x'", "'2026-01-01'", "'1 day'", "'{{'", "'\\'", "true", "1"))


def made(text: str, *parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.tuples(*parts).map(lambda given: text.format(*given))


numbers: st.SearchStrategy[str] = st.deferred(
    lambda: st.one_of(
        st.sampled_from(("a", "b", "1", "0", "2.5", "1e3", "null")),
        made("{} {} {}", numbers, st.sampled_from("+-*/%"), numbers),
        made("({})", numbers),
        made("-{}", numbers),
        made("{}({})", st.sampled_from(("abs", "round")), numbers),
        made("{}({}, {})", st.sampled_from(("coalesce", "greatest", "least", "nullif")), numbers, numbers),
        made("case when {} then {} else {} end", conditions, numbers, numbers),
        made("case {} when {} then {} end", numbers, numbers, numbers),
    )
)
conditions: st.SearchStrategy[str] = st.deferred(
    lambda: st.one_of(
        made("{} {} {}", VALUES, st.sampled_from(("=", "<>", "<", ">=")), VALUES),
        made("{} = {}", numbers, numbers),
        made("not {}", conditions),
        made("({})", conditions),
        made("{} {} {}", conditions, st.sampled_from(("and", "or")), conditions),
        made("{} is {}", VALUES, st.sampled_from(("null", "not null", "true", "not true"))),
        made("{} {} ({}, {})", VALUES, st.sampled_from(("in", "not in")), VALUES, VALUES),
        made("{} {} {} and {}", VALUES, st.sampled_from(("between", "not between")), VALUES, VALUES),
        made("coalesce({}, {}) = {}", VALUES, VALUES, VALUES),
    )
)
anything = st.lists(st.sampled_from(WORDS), min_size=1, max_size=10).map(" ".join)


@pytest.fixture(scope="module")
def rows(server_url: str) -> Iterator[psycopg.Connection[Any]]:
    """A table x with these columns, of zeros, of nulls, and of something."""
    with psycopg.connect(with_database(server_url, "postgres"), autocommit=True) as connection:
        columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
        connection.execute(f"create temp table x ({columns})".encode())
        connection.execute("insert into x default values")
        connection.execute(
            "insert into x values"
            " (0, 0, '', '2026-01-01', '0', '2026-01-01Z', '{}', gen_random_uuid(), true),"
            " (9223372036854775807, 'NaN', '', 'infinity', '0', '-infinity', '{}', gen_random_uuid(), true),"
            " (7, -1.5, 'x', '2026-12-31', '-1 day', '2026-03-03T03:00:00Z', '[1]', gen_random_uuid(), false)"
        )
        yield connection


@example(text="coalesce(null, null) = a")
@example(text="nullif(null, null) in (1, b)")
@example(text="case a when 1 then null end = b")
@given(text=st.one_of(anything, numbers, conditions))
@examples(300)
def test_what_passes_can_be_computed(rows: psycopg.Connection[Any], text: str) -> None:
    with suppress(ExpressionError):
        # Variables are numeric, whatever they count.
        found = formula(text, ["a", "b"]).sql
        rows.execute(f"select ({found})::numeric from (select a::numeric, b from x) as x".encode())
    with suppress(ExpressionError):
        rows.execute(f"select 1 from x where {condition(text, COLUMNS).sql}".encode())
