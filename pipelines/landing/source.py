"""Where files are: the landing folder, local or behind any fsspec URL, and paths that somebody names.

Light on purpose: a sensor looks every few seconds.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, Protocol, cast

from pipelines.errors import DuemarkError
from pipelines.landing import registry

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Stamp:
    """What tells one state of a file from another; equal stamps are taken for the same content.

    `inode` stays the same when a file is renamed; empty where files have none.
    """

    size: int
    modified_at: datetime
    identity: str = ""
    inode: str = ""


@dataclass(frozen=True)
class LandedFile:
    """A file of a feed as it was seen: `path` is absolute, or a URL."""

    feed: str
    path: str
    stamp: Stamp
    store: Store

    @property
    def label(self) -> str:
        """The path as text: a name that is not UTF-8 can be opened, but not stored."""
        return self.path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")

    @property
    def order(self) -> tuple[datetime, str]:
        return self.stamp.modified_at, self.path


class Store(Protocol):
    """Files of one kind of place."""

    def walk(self, folder: str) -> Iterator[tuple[str, Stamp]]:
        """Every file below `folder`, less what is not to be looked at; nothing when there is no such folder."""

    def folders(self, folder: str) -> list[str]:
        """Names in `folder`, folders with a slash at the end."""

    def stamp(self, path: str) -> Stamp | None:
        """The stamp of a file as it is now; None for a folder. FileNotFoundError when there is nothing."""

    def open(self, path: str) -> IO[bytes]:
        """Open a file for reading. Raises OSError."""


def is_looked_at(name: str) -> bool:
    """False for hidden names, and for `*.part`: still being written."""
    return not name.startswith(".") and not name.endswith(".part")


@dataclass(frozen=True)
class Local:
    """Folders of this machine."""

    def walk(self, folder: str, above: frozenset[str] = frozenset()) -> Iterator[tuple[str, Stamp]]:
        # A link may lead back up.
        real = str(Path(folder).resolve())
        if real in above:
            return
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except FileNotFoundError:
            return
        for entry in entries:
            if not is_looked_at(entry.name):
                continue
            try:
                stamp = _stamp(entry.stat())
                if not entry.is_dir():
                    yield entry.path, stamp
                elif os.access(entry.path, os.R_OK | os.X_OK):
                    yield from self.walk(entry.path, above | {real})
                else:
                    # Told of like a file that cannot be read, and no reason to stop.
                    yield entry.path, stamp
            except FileNotFoundError:
                continue  # moved away meanwhile, or a link to nothing

    def folders(self, folder: str) -> list[str]:
        try:
            return sorted(entry.name + "/" * entry.is_dir() for entry in os.scandir(folder))
        except FileNotFoundError:
            return []

    def stamp(self, path: str) -> Stamp | None:
        found = Path(path)
        return None if found.is_dir() else _stamp(found.stat())

    def open(self, path: str) -> IO[bytes]:
        return Path(path).open("rb")


def _stamp(found: os.stat_result) -> Stamp:
    modified_at = EPOCH + timedelta(microseconds=found.st_mtime_ns // 1000)
    inode = f"{found.st_dev}:{found.st_ino}"
    return Stamp(found.st_size, modified_at, f"{inode}:{found.st_mtime_ns}", inode)


@dataclass(frozen=True)
class Remote:
    """Anything that fsspec reaches."""

    filesystem: Any

    def walk(self, folder: str) -> Iterator[tuple[str, Stamp]]:
        import fsspec

        self.filesystem.invalidate_cache()
        _, root = fsspec.core.url_to_fs(folder)
        for path, info in sorted(self.filesystem.find(root, detail=True).items()):
            below = path.removeprefix(root).strip("/")
            if info["type"] == "file" and all(map(is_looked_at, below.split("/"))):
                yield self._url(path), self._stamp(path, info)

    def folders(self, folder: str) -> list[str]:
        try:
            found = self.filesystem.ls(folder, detail=True)
        except FileNotFoundError:
            return []
        return sorted(
            info["name"].rstrip("/").rsplit("/", 1)[-1] + "/" * (info["type"] == "directory")
            for info in found
        )

    def stamp(self, path: str) -> Stamp | None:
        self.filesystem.invalidate_cache()
        info = self.filesystem.info(path)
        return None if info["type"] == "directory" else self._stamp(path, info)

    def open(self, path: str) -> IO[bytes]:
        return cast("IO[bytes]", self.filesystem.open(path, "rb"))

    def _url(self, path: str) -> str:
        return cast("str", self.filesystem.unstrip_protocol(path))

    def _stamp(self, path: str, info: dict[str, Any]) -> Stamp:
        # Each implementation has a name of its own for the time.
        modified: Any = next(
            (info[key] for key in ("LastModified", "mtime", "last_modified", "updated") if info.get(key)),
            None,
        )
        if modified is None:
            try:
                modified = self.filesystem.modified(path)
            except NotImplementedError:
                modified = EPOCH
        if isinstance(modified, (int, float)):
            modified = EPOCH + timedelta(seconds=modified)
        elif isinstance(modified, str):
            modified = datetime.fromisoformat(modified)
        if modified.tzinfo is None:
            modified = modified.replace(tzinfo=UTC)
        identity = str(info.get("ETag") or info.get("etag") or info.get("md5Hash") or "")
        return Stamp(int(info["size"] or 0), modified.astimezone(UTC), identity)


def store_of(location: str) -> tuple[Store, str]:
    """The store of a path or URL, and the location as this store names it (a local one absolute)."""
    if location.startswith("file://"):
        location = location.removeprefix("file://")
    if "://" not in location:
        return Local(), str(Path(location).expanduser().absolute())
    import fsspec

    try:
        filesystem, _ = fsspec.core.url_to_fs(location)
    except (ImportError, ValueError) as error:
        raise DuemarkError(
            f"Files at {location} cannot be reached: {error}.",
            "Install what fsspec needs for it; for s3:// that is `pip install 'duemark[s3]'`.",
        ) from error
    return Remote(filesystem), location.rstrip("/")


def landed(landing: str, feeds: Iterable[str]) -> list[LandedFile]:
    """Files in the folders of `feeds`, by time of modification, then name."""
    store, root = store_of(landing)
    found: list[LandedFile] = []
    for feed in feeds:
        with _listing(landing):
            found += [LandedFile(feed, path, stamp, store) for path, stamp in store.walk(f"{root}/{feed}")]
    return sorted(found, key=lambda file: file.order)


def strays(landing: str) -> list[str]:
    """What lies in the landing folder but in no feed's: names nobody would ever read."""
    store, root = store_of(landing)
    with _listing(landing):
        names = [name for name in store.folders(root) if is_looked_at(name.rstrip("/"))]
    return [name for name in names if name.rstrip("/") not in registry.names() or not name.endswith("/")]


def named(paths: Iterable[str], feed: str | None, default: str = "job_status") -> list[LandedFile]:
    """The files that `paths` name: files, or folders with all that is below them.

    Their feed is `feed`, else the nearest folder above that is called like a feed, else `default`. Raises
    DuemarkError for a path where nothing is.
    """
    found: list[LandedFile] = []
    for given in paths:
        store, path = store_of(given)
        with _listing(given):
            try:
                stamp = store.stamp(path)
            except FileNotFoundError:
                raise DuemarkError(f"There is no file or folder {given}.", "Nothing was loaded.") from None
            files = store.walk(path) if stamp is None else [(path, stamp)]
            if stamp is not None and not is_looked_at(path.rsplit("/", 1)[-1]):
                raise DuemarkError(
                    f"{given} is hidden or still being written, by its name.",
                    "Rename it when it is complete.",
                )
            found += [LandedFile(feed or _feed_of(each, default), each, its, store) for each, its in files]
    return sorted(dict.fromkeys(found), key=lambda file: file.order)


def _feed_of(path: str, default: str) -> str:
    return next((folder for folder in reversed(path.split("/")[:-1]) if folder in registry.names()), default)


@contextlib.contextmanager
def _listing(location: str) -> Iterator[None]:
    """Turn what a store cannot list into one clear error."""
    try:
        yield
    except DuemarkError:
        raise
    except Exception as error:
        if not is_storage_error(error):
            raise
        raise DuemarkError(
            f"{location} cannot be listed: {error}.", "Check the path, the permissions and the connection."
        ) from error


def is_storage_error(error: Exception) -> bool:
    """Whether an error comes from where files are, and not from a defect of ours."""
    # The libraries of object stores raise errors of their own kinds beside OSError.
    return isinstance(error, OSError) or type(error).__module__.split(".")[0] in {
        "aiobotocore",
        "aiohttp",
        "botocore",
    }
