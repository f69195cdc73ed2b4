"""What a single file may cost, and what becomes of it once it is loaded: settings with defaults that work."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

from pipelines.errors import DuemarkError

# What becomes of a file in the landing folder once it is loaded.
LoadedFiles = Literal["keep", "archive", "delete"]

# So much any packed file may hold, however small it is.
ALWAYS_UNPACKED = 64 << 20


@dataclass(frozen=True)
class Limits:
    """`rejected_kept`: rejected records of a file that are kept; the others are counted.

    `unpacked_ratio`: how many times its own size a compressed or Parquet file may hold, once that is more than
    64 MiB; `unpacked_bytes`: how much at all. Logs and statuses are packed by 5 to 50; the most that gzip can is 1,030.
    """

    rejected_kept: int = 10_000
    unpacked_ratio: int = 200
    unpacked_bytes: int = 64 << 30
    loaded_files: LoadedFiles = "keep"

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Limits:
        """Read `DUEMARK_REJECTED_KEPT`, `DUEMARK_UNPACKED_RATIO`, `DUEMARK_UNPACKED_BYTES`, `DUEMARK_LOADED_FILES`."""
        env = os.environ if env is None else env
        return cls(
            _number(env, "DUEMARK_REJECTED_KEPT", cls.rejected_kept, least=0),
            _number(env, "DUEMARK_UNPACKED_RATIO", cls.unpacked_ratio, least=1),
            _number(env, "DUEMARK_UNPACKED_BYTES", cls.unpacked_bytes, least=1),
            _loaded_files(env),
        )

    def most_unpacked(self, packed: int) -> int:
        """How many bytes a file of `packed` bytes may hold."""
        return min(self.unpacked_bytes, max(ALWAYS_UNPACKED, self.unpacked_ratio * packed))

    def too_much(self, packed: int) -> tuple[str, str]:
        """What to say of a file that holds more, and the way out."""
        message = (
            f"Its {packed:,} bytes hold more than {self.most_unpacked(packed):,} once they are unpacked."
        )
        hint = (
            "If that is meant, deliver it unpacked or in parts, or raise DUEMARK_UNPACKED_RATIO"
            f" (now {self.unpacked_ratio}) or DUEMARK_UNPACKED_BYTES (now {self.unpacked_bytes})"
            " and load it by `duemark ingest` with its path."
        )
        return message, hint


def _loaded_files(env: Mapping[str, str]) -> LoadedFiles:
    text = (env.get("DUEMARK_LOADED_FILES") or "keep").strip()
    if text not in get_args(LoadedFiles):
        raise DuemarkError(
            f"DUEMARK_LOADED_FILES is {text!r}.", f"One of {', '.join(get_args(LoadedFiles))}; default: keep."
        )
    return cast("LoadedFiles", text)


def _number(env: Mapping[str, str], name: str, default: int, *, least: int) -> int:
    text = (env.get(name) or "").strip()
    if not text:
        return default
    if not (text.isascii() and text.isdecimal()) or len(text) > 18 or int(text) < least:
        raise DuemarkError(
            f"{name} is {text!r}; a whole number from {least} on is wanted.",
            f"Leave it out for the default, {default}.",
        )
    return int(text)
