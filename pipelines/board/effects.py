"""Who moved the total: a member's part in the change of a KPI, from the sums that its formula is made of.

The effect of a member is the total less what it had been, had this member stayed as it was in the previous period. For
a sum that is the member's own change, so that effects add up; for a ratio it weighs how large the member is, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, DivisionByZero, InvalidOperation
from functools import cache
from typing import Any

import sqlglot
from sqlglot import expressions as sql

Numbers = Mapping[str, Decimal | None]

ADDITIVE = frozenset({"sum", "count"})
"""Aggregations of which a total is the sum over its members."""


class NotComputableError(Exception):
    """The formula has something in it that is only computed by the database."""


def effect(
    expression: str, additive: Mapping[str, bool], total: Numbers, now: Numbers, before: Numbers
) -> Decimal | None:
    """Effect of a member; None where it is not known.

    `additive`: variables of the formula, and whether a total is the sum over members of this dimension; a variable that
    is not stands still (it is the same for all members, or not to be told apart by them).
    """
    without: dict[str, Decimal | None] = {}
    for name, value in total.items():
        without[name] = value
        if additive.get(name) and value is not None:
            without[name] = value - (now.get(name) or 0) + (before.get(name) or 0)
    try:
        here, there = evaluate(expression, total), evaluate(expression, without)
    except NotComputableError:
        return None
    return None if here is None or there is None else here - there


def evaluate(expression: str, values: Numbers) -> Decimal | None:
    """A formula over its variables; None as in SQL, and for a division by zero.

    Raises:
        NotComputableError: it is no arithmetic.
    """
    try:
        return _value(_parsed(expression), values)
    except (DivisionByZero, InvalidOperation):
        return None


@cache
def _parsed(expression: str) -> Any:
    try:
        return sqlglot.parse_one(expression, read="postgres")
    except sqlglot.errors.SqlglotError as error:
        raise NotComputableError(expression) from error


def _value(node: Any, values: Numbers) -> Decimal | None:
    # SUM(amount) is the variable amount by another name.
    if isinstance(node, sql.Paren | sql.AggFunc):
        return _value(node.this, values)
    if isinstance(node, sql.Column):
        if node.name not in values:
            raise NotComputableError(node.name)
        return values[node.name]
    if isinstance(node, sql.Literal) and not node.is_string:
        return Decimal(node.name)
    if isinstance(node, sql.Neg):
        inner = _value(node.this, values)
        return None if inner is None else -inner
    if isinstance(node, sql.Nullif):
        left, right = _value(node.this, values), _value(node.expression, values)
        return None if left == right else left
    if isinstance(node, sql.Coalesce):
        found = (_value(each, values) for each in [node.this, *node.expressions])
        return next((each for each in found if each is not None), None)
    if isinstance(node, sql.Add | sql.Sub | sql.Mul | sql.Div):
        left, right = _value(node.this, values), _value(node.expression, values)
        if left is None or right is None:
            return None
        if isinstance(node, sql.Add):
            return left + right
        if isinstance(node, sql.Sub):
            return left - right
        return left * right if isinstance(node, sql.Mul) else left / right
    raise NotComputableError(type(node).__name__)
