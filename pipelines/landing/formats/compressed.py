"""Compressed files: what they hold is bounded by their size, and what is wrong with them is said in our words."""

from __future__ import annotations

import gzip
import io
import zlib
from dataclasses import dataclass
from typing import IO

from pipelines.landing.feed import FileError
from pipelines.landing.limits import Limits


@dataclass(frozen=True)
class Unpacked:
    """How much a file of `packed` bytes may hold; None of both: as much as it does."""

    packed: int = 0
    limits: Limits | None = None

    def check(self, size: int) -> None:
        """FileError when `size` bytes are more than it may hold."""
        if self.limits is not None and size > self.limits.most_unpacked(self.packed):
            raise FileError(*self.limits.too_much(self.packed))


class Unzipped(io.BufferedIOBase):
    """A gzip stream that says in our words what is wrong with it."""

    def __init__(self, stream: IO[bytes], unpacked: Unpacked) -> None:
        self._inner = gzip.GzipFile(fileobj=stream)
        self._unpacked = unpacked
        self._size = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        try:
            data = self._inner.read(size)
            self._size += len(data)
            self._unpacked.check(self._size)
            return data
        except EOFError:
            raise FileError(
                "The gzip file is cut off: it ends before its end mark.",
                "Deliver it again, under a name ending in .part until it is whole.",
            ) from None
        except (gzip.BadGzipFile, zlib.error) as error:
            raise FileError(f"The gzip file is damaged: {error}.", "Deliver it again.") from None
