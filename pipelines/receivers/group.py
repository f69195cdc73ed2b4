"""Group commit: what waits is stored in one transaction, and each request has its own answer.

While one group is being committed the next one gathers, so that a group is as large as the load is. A process has one
such thread; those of all processes take turns by the lock of loads.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections import Counter
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import psycopg

from pipelines.access.authority import Authority
from pipelines.access.tokens import UnknownError
from pipelines.errors import DuemarkError
from pipelines.failures import one_line
from pipelines.landing.append import Delivery, Receipt, feed_of_rows, receive
from pipelines.landing.limits import Limits
from pipelines.logs import get_logger
from pipelines.receivers.refusals import Refused, busy
from pipelines.warehouse.connect import connect
from pipelines.warehouse.settings import Settings

if TYPE_CHECKING:
    Connection = psycopg.Connection[tuple[object, ...]]

log = get_logger(__name__)

# What may wait in a process, of one client no more than half of it.
MOST_WAITING = 1000
MOST_WAITING_BYTES = 64 << 20
# Lines of one group: some tenths of a second.
MOST_LINES = 5000


@dataclass
class Waiting:
    """A delivery, whose it is, and who waits for its receipt."""

    delivery: Delivery
    token: str | None
    receipt: Future[Receipt]
    size: int


class GroupCommit:
    """Stores the deliveries of one feed; `start` it before, and `stop` it after."""

    def __init__(self, settings: Settings, feed: str, authority: Authority) -> None:
        self._settings, self._authority = settings, authority
        self._feed = feed_of_rows(feed)
        self._queue: queue.SimpleQueue[Waiting | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"group commit {feed}", daemon=True)
        # Of the event loop alone.
        self._waiting: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()
        # Of the thread alone.
        self._connection: Connection | None = None
        self._context: tuple[int, Any] | None = None

    def start(self) -> None:
        """Begin to store."""
        self._thread.start()

    def stop(self) -> None:
        """Store what waits, and end."""
        self._queue.put(None)
        self._thread.join()

    async def store(self, delivery: Delivery, token: str | None) -> Receipt:
        """What became of the delivery, once it is committed. `token`: looked at once more before; None: needs none.

        Raises Refused: 401, 429 and 503; it may have been stored nevertheless.
        """
        size = sum(map(len, delivery.lines))
        source = delivery.source
        if self._is_full(self._waiting[source], self._bytes[source] + size, 2):
            raise busy("Too much of this client waits to be stored.", status=429)
        if self._is_full(self._waiting.total(), self._bytes.total() + size, 1):
            raise busy("Too much waits to be stored.")
        one = Waiting(delivery, token, Future(), size)
        self._waiting[source] += 1
        self._bytes[source] += size
        try:
            self._queue.put(one)
            return await asyncio.wrap_future(one.receipt)
        finally:
            self._waiting[source] -= 1
            self._bytes[source] -= size
            if not self._waiting[source]:
                del self._waiting[source], self._bytes[source]

    def _is_full(self, count: int, size: int, part: int) -> bool:
        # Whatever its size, one at a time always finds room.
        return count > 0 and (count >= MOST_WAITING // part or size > MOST_WAITING_BYTES // part)

    def _run(self) -> None:
        held: Waiting | None = None
        is_last = False
        while not is_last or held is not None:
            first = held or self._queue.get()
            if first is None:
                break
            group, lines, held = [first], len(first.delivery.lines), None
            while lines < MOST_LINES and not is_last:
                try:
                    one = self._queue.get_nowait()
                except queue.Empty:
                    break
                if one is None:
                    is_last = True
                elif lines + len(one.delivery.lines) > MOST_LINES:
                    held = one
                    break
                else:
                    group.append(one)
                    lines += len(one.delivery.lines)
            self._store([one for one in group if one.receipt.set_running_or_notify_cancel()])
        self._close()

    def _store(self, group: list[Waiting]) -> None:
        group = self._recognised(group)
        if not group:
            return
        try:
            receipts = self._receive([one.delivery for one in group])
        except (DuemarkError, psycopg.OperationalError) as error:
            # A fault of nobody's delivery.
            self._close()
            log.warning("not stored", requests=len(group), problem=one_line(error))
            for one in group:
                one.receipt.set_exception(_not_now(error))
        except Exception as error:  # noqa: BLE001 # whatever it is, it may be the fault of one alone
            self._close()
            if len(group) > 1:
                for one in group:
                    self._store([one])
                return
            group[0].receipt.set_exception(error)
        else:
            for one, receipt in zip(group, receipts, strict=True):
                one.receipt.set_result(receipt)

    def _recognised(self, group: list[Waiting]) -> list[Waiting]:
        """Those whose token is still valid: it may have been revoked since it was looked at."""
        unknown: dict[str, Exception] = {}
        for token in {one.token for one in group if one.token is not None}:
            try:
                self._authority.client(token)
            except UnknownError as error:
                unknown[token] = Refused(401, str(error))
            except (DuemarkError, psycopg.Error) as error:
                unknown[token] = _not_now(error)
        for one in group:
            if one.token in unknown:
                one.receipt.set_exception(unknown[one.token])
        return [one for one in group if one.token not in unknown]

    def _receive(self, deliveries: list[Delivery]) -> list[Receipt]:
        if self._connection is None or self._connection.closed:
            self._connection = connect(self._settings, "ingest", autocommit=True)
            # A load that takes long, of a large file, holds back all others; and what is answered stands on a disk.
            self._connection.execute(
                "select set_config('lock_timeout', %s, false),"
                " case current_setting('synchronous_commit')"
                " when 'off' then set_config('synchronous_commit', 'on', false) end",
                [f"{self._settings.http_wait_seconds:.0f}s"],
            )
        return receive(
            self._connection, self._feed, deliveries, self._known(self._connection), Limits.of(self._settings)
        )

    def _known(self, connection: Connection) -> Any:
        """What the check has to know, as of the newest catalog."""
        row: Any = connection.execute(
            "select coalesce(max(load_id), 0) from raw.load where feed = 'catalog'"
        ).fetchone()
        if self._context is None or self._context[0] != row[0]:
            self._context = row[0], self._feed.context(self._settings)
        return self._context[1]

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _not_now(error: Exception) -> Refused:
    if isinstance(error, psycopg.errors.LockNotAvailable):
        return busy("A large load is under way.")
    return busy("The database does not answer.")
