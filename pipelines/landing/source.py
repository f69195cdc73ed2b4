"""Where files are: the landing folder, local or behind any fsspec URL, and paths that somebody names.

Light on purpose: a sensor looks every few seconds.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any, Protocol, cast

from pipelines.errors import DuemarkError
from pipelines.landing import known_feeds

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
    """A file of a feed as it was seen: `path` is absolute, or a URL.

    `refused` says why it is not opened: it is something else than a regular file, or a link that leads out of the
    landing folder. Empty for all others.
    """

    feed: str
    path: str
    stamp: Stamp
    store: Store
    refused: str = ""

    @property
    def label(self) -> str:
        """The path as text: a name that is not UTF-8 can be opened, but not stored.

        Control characters are escaped (a terminal would obey them), and so is the backslash: no two share a label.
        """
        return _UNSTORABLE.sub(_escaped, self.path)

    @property
    def order(self) -> tuple[datetime, str]:
        return self.stamp.modified_at, self.path


# Controls, line and paragraph separators, marks of direction, and bytes that are no UTF-8.
_UNSTORABLE = re.compile(
    "[\\\\\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def _escaped(found: re.Match[str]) -> str:
    point = ord(found.group())
    if found.group() == "\\":
        return "\\\\"
    if 0xDC80 <= point <= 0xDCFF:
        return f"\\x{point - 0xDC00:02x}"
    # A character of two bytes is told from the byte that has its number.
    return f"\\x{point:02x}" if point < 0x80 else f"\\u{point:04x}"


@dataclass(frozen=True)
class Found:
    """An entry of a folder; `refused` as that of a `LandedFile`."""

    path: str
    stamp: Stamp
    refused: str = ""


class Store(Protocol):
    """Files of one kind of place."""

    def walk(self, folder: str) -> Iterator[Found]:
        """Every file below `folder`, less what is not to be looked at; nothing when there is no such folder."""

    def folders(self, folder: str) -> list[str]:
        """Names in `folder`, folders with a slash at the end."""

    def look(self, path: str) -> Found | None:
        """What somebody names; None for a folder. FileNotFoundError when there is nothing."""

    def stamp(self, path: str, stream: IO[bytes] | None = None) -> Stamp:
        """The stamp of a file as it is now; of the one that `stream` reads, where the store can tell."""

    def open(self, path: str) -> IO[bytes]:
        """Open a file for reading. Raises OSError, also when it is no regular file any more."""

    def put_away(self, path: str, stamp: Stamp, folder: str, *, is_kept: bool) -> bool:
        """Move a file of `folder` into its `.loaded`, or delete it; False where it is not as `stamp` says."""

    def within(self, *folders: str) -> Store:
        """The same store, which follows links to files in these folders only; what is read lies in the last."""


def is_looked_at(name: str) -> bool:
    """False for hidden names, and for `*.part`: still being written."""
    return not name.startswith(".") and not name.endswith(".part")


# Never wait for a writer, never make a terminal ours, never follow what was put there after we looked.
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
_NAMES = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}
_OUT = "It is a link that leads out of the landing folder; it is not followed."


@dataclass(frozen=True)
class Local:
    """Folders of this machine.

    `roots`: folders whose files may be opened by a link; what is read lies below the last. Without any a path is
    opened as its user named it. A hard link is a file like another: whoever makes one could write the file.
    """

    roots: tuple[str, ...] = ()

    def within(self, *folders: str) -> Local:
        return Local(folders)

    def walk(self, folder: str) -> Iterator[Found]:
        # The folder itself may be a link; below it none is followed to a folder. No recursion: a tree may be deep.
        waiting = [folder]
        while waiting:
            here = waiting.pop()
            try:
                with os.scandir(here) as listing:
                    entries = sorted(listing, key=lambda entry: entry.name)
            except FileNotFoundError:
                continue  # moved away meanwhile
            except OSError as error:
                if here == folder and error.errno in {errno.ENOTDIR, errno.ELOOP}:
                    continue  # no folder: `strays` tells of it
                yield Found(here, _NO_STAMP, f"It cannot be listed: {_why(error)}.")
                continue
            for entry in entries:
                if not is_looked_at(entry.name):
                    continue
                try:
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(entry.path)
                    else:
                        yield self._entry(entry.path, entry.stat(follow_symlinks=False))
                except FileNotFoundError:
                    continue
                except OSError as error:
                    yield Found(entry.path, _NO_STAMP, f"It cannot be looked at: {_why(error)}.")

    def _entry(self, path: str, found: os.stat_result) -> Found:
        if not stat.S_ISLNK(found.st_mode):
            return Found(path, _stamp(found), _no_file(found))
        if self._target(path) is None:
            return Found(path, _stamp(found), _OUT)
        try:
            target = Path(path).stat()
        except FileNotFoundError:
            return Found(path, _stamp(found), "It is a link to nothing.")
        except OSError as error:
            return Found(path, _stamp(found), f"It is a link that cannot be followed: {_why(error)}.")
        refused = _no_file(target).replace("It is ", "It is a link to ")
        return Found(path, _stamp(found if refused else target), refused)

    def _target(self, path: str) -> tuple[str, str] | None:
        """Where a link leads: the root, and the path below it; None when that is in no root."""
        real = os.path.realpath(path)
        for root in self.roots:
            real_root = os.path.realpath(root).rstrip("/")
            if f"{real}/".startswith(real_root + "/"):
                return real_root or "/", real[len(real_root) + 1 :]
        return None

    def folders(self, folder: str) -> list[str]:
        try:
            return sorted(entry.name + "/" * _is_folder(entry) for entry in os.scandir(folder))
        except FileNotFoundError:
            return []

    def look(self, path: str) -> Found | None:
        if self.roots and path != self.roots[-1]:
            found = os.lstat(path)
            return None if stat.S_ISDIR(found.st_mode) else self._entry(path, found)
        # Somebody names it, so a link is followed wherever it leads.
        if Path(path).is_symlink() and not Path(path).exists():
            return Found(path, _stamp(os.lstat(path)), "It is a link to nothing.")
        found = Path(path).stat()
        if stat.S_ISDIR(found.st_mode):
            return None
        return Found(path, _stamp(found), _no_file(found))

    def stamp(self, path: str, stream: IO[bytes] | None = None) -> Stamp:
        return _stamp(os.fstat(stream.fileno()) if stream is not None else Path(path).stat())

    def open(self, path: str) -> IO[bytes]:
        descriptor = self._opened(path)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, "it is no regular file any more", path)
            return os.fdopen(descriptor, "rb")
        except BaseException:
            os.close(descriptor)
            raise

    def _opened(self, path: str) -> int:
        if not self.roots:
            if not stat.S_ISREG(Path(path).stat().st_mode):
                raise OSError(errno.EINVAL, "it is no regular file", path)
            return os.open(path, _FLAGS)
        root = self.roots[-1]
        try:
            return _opened_below(root, path.removeprefix(root).lstrip("/"))
        except OSError as error:
            target = self._target(path) if error.errno == errno.ELOOP else None
            if target is None:
                raise
        return _opened_below(*target)

    def put_away(self, path: str, stamp: Stamp, folder: str, *, is_kept: bool) -> bool:
        *folders, name = path.removeprefix(folder).lstrip("/").split("/")
        with _folder_below(folder, folders) as here:
            if _stamp(os.stat(name, dir_fd=here, follow_symlinks=False)) != stamp:
                return False
            with _folder_below(folder, [LOADED, *folders], is_made=True) as there:
                aside = _free_name(name, there)
                os.rename(name, aside, src_dir_fd=here, dst_dir_fd=there)
                if _stamp(os.stat(aside, dir_fd=there, follow_symlinks=False)) != stamp:
                    # Something else was put under the name at this moment: it goes back, unless there is a third.
                    with contextlib.suppress(FileExistsError):
                        os.link(aside, name, src_dir_fd=there, dst_dir_fd=here, follow_symlinks=False)
                        os.unlink(aside, dir_fd=there)
                    return False
                if not is_kept:
                    os.unlink(aside, dir_fd=there)
        return True


# Where loaded files are put: in the folder of their feed, for that is one file system, and hidden.
LOADED = ".loaded"


@contextlib.contextmanager
def _folder_below(root: str, folders: Iterable[str], *, is_made: bool = False) -> Iterator[int]:
    """Descriptor of a folder below another, in whose path there is no link."""
    here = os.open(root, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    try:
        for folder in folders:
            if is_made:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(folder, dir_fd=here)
            inner = os.open(folder, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
            os.close(here)
            here = inner
        yield here
    finally:
        os.close(here)


def _free_name(name: str, folder: int) -> str:
    """The name, with a number where it is taken."""
    found, number = name, 0
    while True:
        try:
            os.stat(found, dir_fd=folder, follow_symlinks=False)
        except FileNotFoundError:
            return found
        number += 1
        # The longest name leaves no room for more.
        found = f"{number}.{name}" if len(os.fsencode(name)) < 240 else f"{number}.{name[-100:]}"


def _opened_below(root: str, below: str) -> int:
    """Descriptor of a file below a folder; ELOOP if there is a link in its path, at this moment."""
    *folders, name = below.split("/")
    with _folder_below(root, folders) as here:
        return os.open(name, _FLAGS | os.O_NOFOLLOW, dir_fd=here)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False  # a link to itself


def _no_file(found: os.stat_result) -> str:
    kind = stat.S_IFMT(found.st_mode)
    return "" if kind == stat.S_IFREG else f"It is {_NAMES.get(kind, 'something else')}, and no file."


def _why(error: OSError) -> str:
    return error.strerror or str(error)


def _stamp(found: os.stat_result) -> Stamp:
    modified_at = EPOCH + timedelta(microseconds=found.st_mtime_ns // 1000)
    inode = f"{found.st_dev}:{found.st_ino}"
    return Stamp(found.st_size, modified_at, f"{inode}:{found.st_mtime_ns}", inode)


_NO_STAMP = Stamp(0, EPOCH)


@dataclass(frozen=True)
class Remote:
    """Anything that fsspec reaches."""

    filesystem: Any

    def within(self, *_: str) -> Remote:
        return self

    def walk(self, folder: str) -> Iterator[Found]:
        import fsspec

        self.filesystem.invalidate_cache()
        _, root = fsspec.core.url_to_fs(folder)
        for path, info in sorted(self.filesystem.find(root, detail=True).items()):
            below = path.removeprefix(root).strip("/")
            if info["type"] != "directory" and all(map(is_looked_at, below.split("/"))):
                yield self._found(path, info)

    def folders(self, folder: str) -> list[str]:
        try:
            found = self.filesystem.ls(folder, detail=True)
        except FileNotFoundError:
            return []
        return sorted(
            info["name"].rstrip("/").rsplit("/", 1)[-1] + "/" * (info["type"] == "directory")
            for info in found
        )

    def look(self, path: str) -> Found | None:
        self.filesystem.invalidate_cache()
        info = self.filesystem.info(path)
        return None if info["type"] == "directory" else self._found(path, info)

    def stamp(self, path: str, stream: IO[bytes] | None = None) -> Stamp:  # noqa: ARG002
        self.filesystem.invalidate_cache()
        return self._stamp(path, self.filesystem.info(path))

    def open(self, path: str) -> IO[bytes]:
        return cast("IO[bytes]", self.filesystem.open(path, "rb"))

    def put_away(self, path: str, stamp: Stamp, folder: str, *, is_kept: bool) -> bool:
        if not path.startswith(f"{folder}/") or self.stamp(path) != stamp:
            return False
        if is_kept:
            below = path.removeprefix(folder).lstrip("/")
            target, number = f"{folder}/{LOADED}/{below}", 0
            while self.filesystem.exists(target):
                number += 1
                target = f"{folder}/{LOADED}/{number}/{below}"
            try:
                # `copy` would take what is in a name (?, *, [) for a pattern.
                self.filesystem.cp_file(
                    self.filesystem._strip_protocol(path), self.filesystem._strip_protocol(target)
                )
            except NotImplementedError:
                raise OSError(errno.ENOTSUP, "its store cannot copy", path) from None
            # Stores have no renaming: what was written meanwhile stays.
            if self.stamp(path) != stamp:
                return False
        self.filesystem.rm_file(path)
        return True

    def _found(self, path: str, info: dict[str, Any]) -> Found:
        # Some stores (SFTP) have links, and devices: whatever stands behind them is not followed there.
        refused = "" if info["type"] == "file" else f"It is of the kind {info['type']!r}, and no file."
        return Found(self._url(path), self._stamp(path, info), refused)

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
    from fsspec.implementations.local import LocalFileSystem

    try:
        filesystem, path = fsspec.core.url_to_fs(location)
    except (ImportError, ValueError) as error:
        raise DuemarkError(
            f"Files at {location} cannot be reached: {error}.",
            "Install what fsspec needs for it; for s3:// that is `pip install 'duemark[s3]'`.",
        ) from error
    if isinstance(filesystem, LocalFileSystem):
        return Local(), path
    return Remote(filesystem), location.rstrip("/")


def landed(landing: str, feeds: Iterable[str]) -> list[LandedFile]:
    """Files in the folders of `feeds`, by time of modification, then name."""
    store, root = store_of(landing)
    found: list[LandedFile] = []
    for feed in feeds:
        folder = f"{root}/{feed}"
        inside = store.within(root, folder)
        with _listing(landing):
            found += [
                LandedFile(feed, each.path, each.stamp, inside, each.refused) for each in inside.walk(folder)
            ]
    return sorted(found, key=lambda file: file.order)


def folder_labels(landing: str, feeds: Iterable[str]) -> list[tuple[str, str]]:
    """Each feed with what the labels of all that lies in its folder begin with."""
    _, root = store_of(landing)
    return [(feed, _UNSTORABLE.sub(_escaped, f"{root}/{feed}/")) for feed in feeds]


def strays(landing: str) -> list[str]:
    """What lies in the landing folder but in no feed's: names nobody would ever read."""
    store, root = store_of(landing)
    with _listing(landing):
        names = [name for name in store.folders(root) if is_looked_at(name.rstrip("/"))]
    return [name for name in names if name.rstrip("/") not in known_feeds.names() or not name.endswith("/")]


def named(
    paths: Iterable[str], feed: str | None, landing: str, default: str = "job_status"
) -> list[LandedFile]:
    """The files that `paths` name: files, links to files, or folders with all that is below them.

    A link is followed wherever it leads, less those below the landing folder, for which its own rule holds.

    Their feed is `feed`, else the nearest folder above that is called like a feed, else `default`. Raises
    DuemarkError for a path where nothing is.
    """
    found: list[LandedFile] = []
    for given in paths:
        store, path = store_of(given)
        _, root = store_of(landing)
        first, _, deeper = path.removeprefix(f"{root}/").partition("/")
        is_landed = path.startswith(f"{root}/") and (bool(deeper) or first in known_feeds.names())
        if is_landed:
            # What a pattern of the shell names is not meant one by one.
            store = store.within(root, f"{root}/{first}")
        with _listing(given):
            try:
                one = store.look(path)
            except FileNotFoundError:
                raise DuemarkError(f"There is no file or folder {given}.", "Nothing was loaded.") from None
            if one is not None and not is_looked_at(path.rsplit("/", 1)[-1]):
                raise DuemarkError(
                    f"{given} is hidden or still being written, by its name.",
                    "Rename it when it is complete.",
                )
            where = store if is_landed or one is not None else store.within(path)
            found += [
                LandedFile(feed or _feed_of(each.path, default), each.path, each.stamp, where, each.refused)
                for each in ([one] if one is not None else where.walk(path))
            ]
    return sorted(dict.fromkeys(found), key=lambda file: file.order)


def _feed_of(path: str, default: str) -> str:
    return next(
        (folder for folder in reversed(path.split("/")[:-1]) if folder in known_feeds.names()), default
    )


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
