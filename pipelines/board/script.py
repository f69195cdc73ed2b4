"""What runs in a page where scripts may: tables can be searched and sorted. All is there without it."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from functools import cache
from pathlib import Path

MAKES = '<label class="finder"><input><output></output></label><button></button>'
"""What it adds to a page, whose style has to know it."""


@cache
def script() -> str:
    """The one script."""
    return Path(__file__).with_name("templates").joinpath("find.js").read_text("utf-8")


@cache
def script_hash() -> str:
    """By which a page allows this script, and no other."""
    return f"'sha256-{b64encode(hashlib.sha256(script().encode()).digest()).decode()}'"
