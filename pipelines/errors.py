"""The one kind of error that a user is meant to read."""

from __future__ import annotations


class DuemarkError(Exception):
    """Something a user can put right.

    The command line prints `message` and, below it, `hint` (the way out), and exits with 2; a Dagster
    run shows both. Anything else that is raised is a defect of ours.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message if not hint else f"{message}\n  {hint}")
        self.message = message
        self.hint = hint
