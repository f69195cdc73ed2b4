"""The one kind of error that a user is meant to read, and what was probably meant."""

from __future__ import annotations

from collections.abc import Iterable


class DuemarkError(Exception):
    """Something a user can put right.

    The command line prints `message` and, below it, `hint` (the way out), and exits with 2; a Dagster
    run shows both. Anything else that is raised is a defect of ours.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message if not hint else f"{message}\n  {hint}")
        self.message = message
        self.hint = hint


def nearest(word: str, known: Iterable[str], name: str = "known") -> str:
    """A hint for a word that is not known: the one that is probably meant, else what there is."""
    from difflib import get_close_matches

    names = sorted(set(known))
    folded = {one.casefold(): one for one in reversed(names)}
    close = get_close_matches(word.casefold(), list(folded), n=1, cutoff=0.6)
    if close:
        return f"did you mean `{folded[close[0]]}`?"
    if not names:
        return ""
    return f"{name}: {', '.join(names[:12])}{', …' if len(names) > 12 else ''}"
