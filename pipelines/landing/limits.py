"""What a single file may cost, and what becomes of it once it is loaded: settings with defaults that work."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.warehouse.settings import LoadedFiles, Settings

# So much any packed file may hold, however small it is.
ALWAYS_UNPACKED = 64 << 20


@dataclass(frozen=True)
class Limits:
    """`rejected_kept`: rejected records of a file that are kept; the others are counted.

    `unpacked_ratio`: how many times its own size a compressed or Parquet file may hold, once that is more than
    64 MiB; `unpacked_bytes`: how much at all. Logs and statuses are packed by 5 to 50; the most that gzip can is 1,030.
    """

    rejected_kept: int = Settings.rejected_kept.standard
    unpacked_ratio: int = Settings.unpacked_ratio.standard
    unpacked_bytes: int = Settings.unpacked_bytes.standard
    loaded_files: LoadedFiles = Settings.loaded_files.standard

    @classmethod
    def of(cls, settings: Settings) -> Limits:
        """As they are set. Raises DuemarkError where one is set to what it cannot be."""
        return cls(
            settings.rejected_kept, settings.unpacked_ratio, settings.unpacked_bytes, settings.loaded_files
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
