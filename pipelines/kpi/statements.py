"""A compiled model of values is several statements, one after the other, each with parameters that the engine fills."""

from __future__ import annotations

from collections.abc import Mapping

# No text of PostgreSQL holds it.
EDGE = "\0"
# How the parameters are named at which a statement begins: the macro `kpi_statement`.
BEGINS = "statement_"


class _Given(dict[str, str]):
    def __missing__(self, name: str) -> str:
        if name.startswith(BEGINS):
            return f"{EDGE}{name.removeprefix(BEGINS)}{EDGE}"
        # Of another statement; in the one that is asked for, it says itself what was not given.
        return f"%({name})s"


def statements_of(query: str, parameters: Mapping[str, str]) -> dict[str, str]:
    """The statements of a model by name, in their order, filled with SQL by the names of parameters.

    A model of states is one statement, which has no name. A parameter that is not given stays as it is.
    """
    first, *others = (query % _Given(parameters)).split(EDGE)
    named = dict(zip(others[::2], (text.strip() for text in others[1::2]), strict=True))
    return named or {"": first}
