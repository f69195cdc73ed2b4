"""Formulas and conditions: read by sqlglot, checked against a list of what is allowed, and written anew.

Nothing of a user's text gets into SQL as it stands: names are quoted and known, texts are escaped (braces too, for the
SQL lies in a template), and every node that is not on the list is refused with its place. A division by zero is null.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

import sqlglot
from sqlglot import TokenType, exp
from sqlglot.dialects.postgres import Postgres
from sqlglot.errors import ParseError, TokenError

from pipelines.errors import nearest

Fault = tuple[int, str, str]
"""Offset in the text, what is wrong, and the way out."""

FUNCTIONS = ("abs", "coalesce", "greatest", "least", "nullif", "round")
_SYMBOLS = {
    TokenType.PLUS, TokenType.DASH, TokenType.STAR, TokenType.SLASH, TokenType.MOD, TokenType.EQ, TokenType.NEQ,
    TokenType.LT, TokenType.LTE, TokenType.GT, TokenType.GTE, TokenType.L_PAREN, TokenType.R_PAREN, TokenType.COMMA,
    TokenType.NUMBER, TokenType.STRING,
}  # fmt: skip
_WORDS = {
    "case", "when", "then", "else", "end", "and", "or", "not", "is", "null", "in", "between", "true", "false",
}  # fmt: skip
ALLOWED = f"allowed are + - * / %, comparisons, case, and, or, not, is null, in, between, and {', '.join(FUNCTIONS)}"
_ARITHMETIC: dict[type[exp.Expr], str] = {
    exp.Add: "+",
    exp.Sub: "-",
    exp.Mul: "*",
    exp.Div: "/",
    exp.Mod: "%",
}
_COMPARISONS: dict[type[exp.Expr], str] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}
_SEVERAL: dict[type[exp.Expr], str] = {
    exp.Coalesce: "coalesce",
    exp.Greatest: "greatest",
    exp.Least: "least",
    exp.Nullif: "nullif",
}
# Parts of a node that are written; one with any other is refused.
_USUAL = frozenset({"this", "expression", "expressions"})
_PARTS: dict[type[exp.Expr], frozenset[str]] = {
    exp.Literal: frozenset({"this", "is_string"}),
    exp.Is: _USUAL | {"negate"},
    exp.Case: frozenset({"this", "ifs", "default"}),
    exp.Between: frozenset({"this", "low", "high"}),
    exp.Round: frozenset({"this", "decimals"}),
    exp.Div: _USUAL | {"typed"},
    exp.Greatest: _USUAL | {"ignore_nulls"},
    exp.Least: _USUAL | {"ignore_nulls"},
}
_AGGREGATE = re.compile(r"\s*(\w+)\s*\(\s*(distinct\s+)?(\w+|\*)\s*\)\s*", re.IGNORECASE)
# What Postgres is sure to read: a value that it refused would fail at the tick, with all KPIs beside it.
_DURATION = re.compile(r"\d{1,6}(\.\d{1,6})? (second|minute|hour|day)s?|\d{1,4}:[0-5]\d(:[0-5]\d)?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d(:?\d\d)?)")
_NUMBER = re.compile(r"\d{1,30}(\.\d{0,30})?(e[+-]?\d{1,2})?", re.IGNORECASE)
_TEXTS = {
    TokenType.HEREDOC_STRING, TokenType.NATIONAL_STRING, TokenType.RAW_STRING, TokenType.UNICODE_STRING,
    TokenType.BYTE_STRING, TokenType.BIT_STRING, TokenType.HEX_STRING,
}  # fmt: skip

_CLASSES = {
    "number": ("smallint", "integer", "bigint", "numeric", "decimal", "real", "double precision", "money"),
    "text": ("text", "character varying", "character", "varchar", "char", "name", "citext"),
    "boolean": ("boolean",),
    "date": ("date",),
    "instant": ("timestamp with time zone", "timestamptz"),
    "local time": ("timestamp without time zone", "timestamp"),
    "interval": ("interval",),
    "JSON": ("json", "jsonb"),
}
_CLASS_OF = {name: kind for kind, names in _CLASSES.items() for name in names}
# What is made of nulls alone is one: the server would take such a call for text.
_NULL = ("null", "null")
_ALIASES = {
    "int": "integer",
    "int4": "integer",
    "int8": "bigint",
    "int2": "smallint",
    "float8": "double precision",
}


def class_of(data_type: str) -> str:
    """What a Postgres type is to a formula: number, text, boolean, date, instant, interval, …, or else `other`."""
    plain = re.sub(r"\s*\([^)]*\)", "", data_type.strip().lower())
    if plain.endswith("[]"):
        return "other"
    return _CLASS_OF.get(_ALIASES.get(plain, plain), "other")


class ExpressionError(Exception):
    """All that is wrong with a text, by offset."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = sorted(set(faults))
        super().__init__("; ".join(message for _, message, _ in self.faults))


@dataclass(frozen=True)
class Expression:
    """A checked text, written anew."""

    sql: str
    used: frozenset[str]
    """Names of the variables or columns in it."""
    divisors: tuple[str, ...] = ()
    """SQL of everything that something is divided by."""


def formula(text: str, variables: Collection[str], *, name: Callable[[str], str] | None = None) -> Expression:
    """A number of `variables`, which are numbers. `name` gives the SQL of a variable; default: its name, quoted.

    Raises ExpressionError.
    """
    writer = _Writer(text, dict.fromkeys(variables, "number"), "variable", name or quoted)
    sql, kind = writer.write()
    if kind not in ("number", "null"):
        what = "a condition" if kind == "boolean" else f"a {kind}"
        hint = "write `case when … then 1 else 0 end` for a number of it" if kind == "boolean" else ALLOWED
        raise ExpressionError([(0, f"the formula gives {what}, not a number", hint)])
    return Expression(sql, frozenset(writer.used), tuple(dict.fromkeys(writer.divisors)))


def condition(text: str, columns: Mapping[str, str]) -> Expression:
    """A condition on rows with these columns (name and Postgres type). Raises ExpressionError."""
    writer = _Writer(text, {name: class_of(kind) for name, kind in columns.items()}, "column", quoted)
    sql, kind = writer.write()
    if kind != "boolean":
        message = "this is no condition" if kind == "null" else f"this is {_a(kind)}, not a condition"
        raise ExpressionError([(0, message, "write a comparison, such as status = 'open'")])
    return Expression(sql, frozenset(writer.used))


def aggregate(text: str) -> tuple[str, str] | None:
    """Aggregation and variable of a formula that is written as the aggregate itself, `SUM(amount)`; else None."""
    match = _AGGREGATE.fullmatch(text)
    if match is None or match[1].lower() in FUNCTIONS:
        return None
    name = match[1].lower()
    if match[2]:
        name = "count_distinct" if name == "count" else name
    return name, match[3]


def quoted(name: str) -> str:
    """An identifier, quoted."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as SQL, also within a Jinja template, where two braces would begin something else."""
    escaped = text.replace("'", "''")
    if "{" not in text and "\\" not in text:
        return f"'{escaped}'"
    return "E'" + escaped.replace("\\", "\\\\").replace("{", "\\x7b") + "'"


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else kind if kind in ("text", "JSON") else f"a {kind}"


@dataclass
class _Writer:
    """Writes one text anew; `names` are the columns or variables that it may use, with their class."""

    text: str
    names: Mapping[str, str]
    what: str
    name: Callable[[str], str]
    used: set[str] = field(default_factory=set)
    divisors: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)

    def write(self) -> tuple[str, str]:
        try:
            self._tokens()
            if self.faults:
                raise ExpressionError(self.faults)
            result = self._node(self._parse())
        except RecursionError:
            raise ExpressionError([(0, "nested too deeply", "write it shorter")]) from None
        if self.faults:
            raise ExpressionError(self.faults)
        return result

    # Words and signs

    def _tokens(self) -> None:
        try:
            tokens = Postgres().tokenize(self.text)
        except TokenError:
            quote = max(self.text.rfind("'"), self.text.rfind('"'), 0)
            raise ExpressionError([(quote, "a text or name that does not end", "close its quotes")]) from None
        if not tokens:
            raise ExpressionError([(0, "nothing is written here", f"{ALLOWED}")])
        for index, token in enumerate(tokens):
            following = tokens[index + 1].token_type if index + 1 < len(tokens) else None
            word = token.text.lower()
            shown = self.text[token.start : token.end + 1]
            if token.token_type == TokenType.IDENTIFIER:
                self._known(token.text, token.start, is_quoted=True)
            elif token.token_type in _TEXTS:
                hint = "write a text in single quotes, with nothing before them"
                self.faults.append((token.start, f"`{shown}` is not allowed here", hint))
            elif re.fullmatch(r"[^\W\d]\w*", token.text) and token.token_type != TokenType.STRING:
                is_called = following == TokenType.L_PAREN
                if word in _WORDS or (is_called and word in FUNCTIONS):
                    continue
                if whole := self._larger(word, token.start):
                    self.faults = [whole]
                    return
                if is_called:
                    self._function(token.text, token.start)
                else:
                    self._known(token.text, token.start, is_word=token.token_type != TokenType.VAR)
            elif token.token_type == TokenType.SEMICOLON:
                self.faults = [
                    (token.start, "`;` is not allowed here", "write one expression, without an end")
                ]
                return
            elif token.token_type == TokenType.NUMBER and not _NUMBER.fullmatch(token.text):
                hint = "write at most 30 digits, such as 0.5 or 1e6"
                self.faults.append((token.start, f"`{shown}` is no number", hint))
            elif token.token_type == TokenType.DOT and following == TokenType.NUMBER:
                self.faults.append((token.start, "a number begins with a digit", "write 0.5"))
            elif token.token_type not in _SYMBOLS and (
                not self.faults or not self.faults[-1][1].startswith(f"`{shown}` ")
            ):
                self.faults.append((token.start, f"`{shown}` is not allowed here", ALLOWED))

    def _larger(self, word: str, at: int) -> Fault | None:
        """What is wrong with the whole text, so that its parts are not worth a word."""
        if self._lookup(word, is_quoted=False) is not None:
            return None
        if word in ("select", "with", "union", "values"):
            hint = "rows are counted by variables: name a `source` there, and conditions in `filters`"
            return at, "a query is not allowed here", hint
        if word == "over":
            hint = "a variable has a window: `time_range: last_30_days`, or month_to_date"
            return at, "a window function is not allowed here", hint
        return None

    def _function(self, name: str, at: int) -> None:
        hint = ALLOWED
        if self.what == "variable" and name.lower() in ("sum", "count", "avg", "min", "max", "median"):
            hint = "say it in the variable's source: `aggregation: " + name.lower() + "`"
        self.faults.append((at, f"the function `{name}` is not on the list", hint))

    def _known(self, name: str, at: int, *, is_quoted: bool = False, is_word: bool = False) -> None:
        """A fault, if it is none of the names; `is_word`: it means something in SQL."""
        if self._lookup(name, is_quoted=is_quoted) is None:
            hint = nearest(name, self.names, f"known {self.what}s")
            if is_word and not hint.startswith("did"):
                self.faults.append((at, f"`{name}` is not allowed here", ALLOWED))
                return
            self.faults.append((at, f"there is no {self.what} `{name}`", hint or ALLOWED))

    def _lookup(self, name: str, *, is_quoted: bool) -> str | None:
        if name in self.names:
            return name
        if is_quoted:
            return None
        found = [one for one in self.names if one.lower() == name.lower()]
        return found[0] if len(found) == 1 else None

    def _parse(self) -> exp.Expr:
        try:
            return sqlglot.parse_one(self.text, dialect="postgres")
        except ParseError as error:
            details = error.errors[0] if error.errors else {}
            lines = self.text.split("\n")
            line, column = int(details.get("line") or 1), int(details.get("col") or 1)
            # The parser tells the end of the token at which it stopped.
            offset = (
                sum(len(one) + 1 for one in lines[: line - 1]) + column - len(details.get("highlight") or " ")
            )
            offset = min(max(offset, 0), max(len(self.text) - 1, 0))
            hint = "check brackets, commas and operators"
            words = sorted(name for name in self.names if name.lower() in _WORDS)
            if words:
                hint += f"; write the {self.what} `{words[0]}` as {quoted(words[0])}"
            raise ExpressionError([(offset, "this cannot be read as SQL", hint)]) from None

    # Nodes

    def _node(self, node: exp.Expr) -> tuple[str, str]:
        kind: type[exp.Expr] = type(node)
        odd = [name for name, value in node.args.items() if value and name not in _PARTS.get(kind, _USUAL)]
        if odd:
            # A part that would not be written must not be lost.
            self.faults.append((self._at(node), f"`{_shown(node)}` is not allowed here", ALLOWED))
            return "null", "null"
        if kind in _ARITHMETIC:
            return self._arithmetic(node, _ARITHMETIC[kind])
        if kind in _COMPARISONS:
            left, right = self._compared(node, [node.this, node.expression])
            return f"({left} {_COMPARISONS[kind]} {right})", "boolean"
        write = _WRITERS.get(kind)
        if write is None:
            self.faults.append((self._at(node), f"`{_shown(node)}` is not allowed here", ALLOWED))
            return "null", "null"
        return write(self, node)

    def _at(self, node: exp.Expr) -> int:
        starts = [one.meta["start"] for one in node.walk() if "start" in one.meta]
        return min(starts, default=0)

    def _numbers(self, node: exp.Expr, operands: Sequence[exp.Expr], sign: str) -> list[str]:
        written = []
        for operand in operands:
            sql, kind = self._node(operand)
            if kind not in ("number", "null"):
                shown = _shown(operand)
                hint = (
                    "write numbers without quotes" if kind == "literal" else "take a column that is a number"
                )
                what = "text" if kind == "literal" else _a(kind)
                message = f"`{sign}` takes numbers, and `{shown}` is {what}"
                self.faults.append((self._at(operand) or self._at(node), message, hint))
            # A null by itself has no type.
            written.append(f"({sql})::numeric" if kind == "null" else sql)
        return written

    def _arithmetic(self, node: exp.Expr, sign: str) -> tuple[str, str]:
        divisor = node.expression
        if (
            sign in "/%"
            and isinstance(inner := divisor.unnest(), exp.Nullif)
            and inner.expression.name == "0"
        ):
            # `a / nullif(b, 0)` is said already.
            divisor = inner.this
        left, right = self._numbers(node, [node.this, divisor], sign)
        # Of integers and doubles a row may give more than they hold, which would be an error.
        cast = "::numeric" if self.what == "column" else ""
        if sign not in "/%":
            return f"({left}{cast} {sign} {right}{cast})", "number"
        self.divisors.append(right)
        right = f"nullif({right}, 0)"
        if sign == "/":
            return f"({left}::numeric / {right}{cast})", "number"
        return f"mod({left}::numeric, {right}::numeric)", "number"

    def _unified(self, node: exp.Expr, operands: Sequence[exp.Expr]) -> tuple[list[str], str]:
        """Operands of one class; a text without a type of its own is what the others are."""
        written = [self._node(operand) for operand in operands]
        kinds = [kind for _, kind in written if kind not in ("null", "literal")]
        kind = kinds[0] if kinds else ("literal" if any(k == "literal" for _, k in written) else "null")
        for operand, (_, other) in zip(operands, written, strict=True):
            if other == "literal" and kind != "literal":
                self._fits(operand, kind)
            elif other not in (kind, "null", "literal"):
                message = f"{_a(kind)} is compared with {_a(other)}: `{_shown(node)}`"
                self.faults.append((self._at(operand), message, "compare like with like"))
        if kind == "JSON":
            self.faults.append(
                (self._at(node), f"JSON cannot be compared: `{_shown(node)}`", "take another column")
            )
        texts = [
            # What has a type of its own (an enumeration, an id) is compared as text, which no value can break.
            f"{sql}::text" if kind == "other" and other == "other" else sql
            for sql, other in written
        ]
        return texts, "text" if kind in ("other", "literal") else kind

    def _fits(self, node: exp.Expr, kind: str) -> None:
        text = str(node.this) if isinstance(node, exp.Literal) else ""
        checks: dict[str, tuple[Callable[[str], object], str]] = {
            "date": (_date, "write YYYY-MM-DD"),
            "instant": (_instant, "write ISO 8601 with an offset: 2026-03-03T03:00:00Z"),
            "interval": (lambda one: _DURATION.fullmatch(one) or int("no"), "write such as '30 minutes' or '01:30'"),
            "number": (lambda _: int("no"), "write numbers without quotes"),
            "boolean": (lambda _: int("no"), "write true or false without quotes"),
            "local time": (lambda _: int("no"), "take a column that is an instant"),
        }  # fmt: skip
        check, hint = checks.get(kind, (str, ""))
        try:
            check(text)
        except ValueError:
            offset = max(self.text.find(f"'{text}'"), 0)
            is_written = kind in ("date", "instant", "interval")
            message = f"'{text}' is no {kind}" if is_written else f"'{text}' is compared with {_a(kind)}"
            self.faults.append((offset, message, hint))

    def _compared(self, node: exp.Expr, operands: Sequence[exp.Expr]) -> list[str]:
        return self._unified(node, operands)[0]

    def _boolean(self, node: exp.Expr) -> str:
        sql, kind = self._node(node)
        if kind not in ("boolean", "null"):
            what = "text" if kind == "literal" else _a(kind)
            self.faults.append(
                (self._at(node), f"`{_shown(node)}` is {what}, not a condition", "compare it with something")
            )
        return f"({sql})::boolean" if kind == "null" else sql

    def _column(self, node: exp.Expr) -> tuple[str, str]:
        identifier = node.this
        if not isinstance(identifier, exp.Identifier) or node.args.get("table") is not None:
            self.faults.append((self._at(node), f"`{_shown(node)}` is not allowed here", ALLOWED))
            return "null", "null"
        found = self._lookup(str(identifier.this), is_quoted=bool(identifier.args.get("quoted")))
        if found is None:
            self._known(str(identifier.this), self._at(node))
            return "null", "null"
        self.used.add(found)
        return self.name(found), self.names[found]

    def _literal(self, node: exp.Expr) -> tuple[str, str]:
        if node.args.get("is_string"):
            return literal(str(node.this)), "literal"
        return str(node.this), "number"

    def _paren(self, node: exp.Expr) -> tuple[str, str]:
        return self._node(node.this)

    def _null(self, _: exp.Expr) -> tuple[str, str]:
        return _NULL

    def _true_false(self, node: exp.Expr) -> tuple[str, str]:
        return ("true" if node.this else "false"), "boolean"

    def _neg(self, node: exp.Expr) -> tuple[str, str]:
        return f"(- {self._numbers(node, [node.this], '-')[0]})", "number"

    def _junction(self, node: exp.Expr) -> tuple[str, str]:
        word = "and" if isinstance(node, exp.And) else "or"
        return f"({self._boolean(node.this)} {word} {self._boolean(node.expression)})", "boolean"

    def _not(self, node: exp.Expr) -> tuple[str, str]:
        return f"(not {self._boolean(node.this)})", "boolean"

    def _is(self, node: exp.Expr) -> tuple[str, str]:
        sql, kind = self._node(node.this)
        if isinstance(node.expression, exp.Null):
            return f"({sql} is {'not ' if node.args.get('negate') else ''}null)", "boolean"
        if isinstance(node.expression, exp.Boolean) and kind in ("boolean", "null"):
            negated = "not " if node.args.get("negate") else ""
            return f"({sql} is {negated}{'true' if node.expression.this else 'false'})", "boolean"
        self.faults.append(
            (self._at(node), f"`{_shown(node)}` is not allowed here", "`is` takes null, true or false")
        )
        return "null", "boolean"

    def _in(self, node: exp.Expr) -> tuple[str, str]:
        if not node.expressions or node.args.get("query") is not None:
            self.faults.append((self._at(node), "`in` takes a list here, no query", "write in ('a', 'b')"))
            return "null", "boolean"
        this, *others = self._compared(node, [node.this, *node.expressions])
        return f"({this} in ({', '.join(others)}))", "boolean"

    def _between(self, node: exp.Expr) -> tuple[str, str]:
        this, low, high = self._compared(node, [node.this, node.args["low"], node.args["high"]])
        return f"({this} between {low} and {high})", "boolean"

    def _case(self, node: exp.Expr) -> tuple[str, str]:
        subject, branches, default = node.this, node.args["ifs"], node.args.get("default")
        whens: list[str] = []
        for branch in branches:
            if subject is None:
                whens.append(self._boolean(branch.this))
            else:
                left, right = self._compared(branch, [subject, branch.this])
                whens.append(f"{left} = {right}")
        results = [branch.args["true"] for branch in branches] + ([] if default is None else [default])
        written, kind = self._unified(node, results)
        if kind == "null":
            return _NULL
        text = " ".join(f"when {when} then {one}" for when, one in zip(whens, written, strict=False))
        last = "" if default is None else f" else {written[-1]}"
        return f"(case {text}{last} end)", kind

    def _several(self, node: exp.Expr) -> tuple[str, str]:
        name = _SEVERAL[type(node)]
        operands = [node.this, *node.expressions]
        if isinstance(node, exp.Nullif):
            operands = [node.this, node.expression]
        written, kind = self._unified(node, operands)
        return _NULL if kind == "null" else (f"{name}({', '.join(written)})", kind)

    def _abs(self, node: exp.Expr) -> tuple[str, str]:
        return f"abs({self._numbers(node, [node.this], 'abs')[0]})", "number"

    def _round(self, node: exp.Expr) -> tuple[str, str]:
        sql = self._numbers(node, [node.this], "round")[0]
        digits = node.args.get("decimals")
        if digits is None:
            return f"round({sql}::numeric)", "number"
        if not isinstance(digits, exp.Literal) or not re.fullmatch(r"\d|1\d", str(digits.this)):
            self.faults.append(
                (self._at(node), "`round` takes a number of digits, 0 to 19", "write round(x, 2)")
            )
            return "null", "number"
        return f"round({sql}::numeric, {digits.this})", "number"


_WRITERS: dict[type[exp.Expr], Callable[[_Writer, exp.Expr], tuple[str, str]]] = {
    exp.Column: _Writer._column,
    exp.Literal: _Writer._literal,
    exp.Paren: _Writer._paren,
    exp.Null: _Writer._null,
    exp.Boolean: _Writer._true_false,
    exp.Neg: _Writer._neg,
    exp.And: _Writer._junction,
    exp.Or: _Writer._junction,
    exp.Not: _Writer._not,
    exp.Is: _Writer._is,
    exp.In: _Writer._in,
    exp.Between: _Writer._between,
    exp.Case: _Writer._case,
    exp.Coalesce: _Writer._several,
    exp.Greatest: _Writer._several,
    exp.Least: _Writer._several,
    exp.Nullif: _Writer._several,
    exp.Abs: _Writer._abs,
    exp.Round: _Writer._round,
}


def _date(text: str) -> None:
    if not _DATE.fullmatch(text):
        raise ValueError(text)
    date.fromisoformat(text)


def _instant(text: str) -> None:
    if not _INSTANT.fullmatch(text):
        raise ValueError(text)
    datetime.fromisoformat(text)


def _shown(node: exp.Expr) -> str:
    text = node.sql(dialect="postgres")
    return text if len(text) <= 60 else f"{text[:57]}…"
