"""Two threads beside the model's: one that fetches frames ahead, one that puts results away.

Both are joined to the caller by a queue of bounded length, so that neither side runs away from the
other, and both hand their errors to the caller.
"""

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from typing import Any

# A waiting thread looks this often, in seconds, whether the other side is still there. Items are
# passed on at once all the same.
POLL = 0.1
# How long to wait for the fetching thread, which may hang in a camera that sends nothing.
JOIN_TIMEOUT = 5.0

_END = object()


class Prefetcher:
    """Runs a generator in a thread, a bounded number of items ahead of the consumer.

    The generator is advanced and closed in its own thread only. What it raises is raised by the
    iterator, after the items that came before.

    Args:
        items: A generator. It belongs to the prefetcher from now on.
        size: Items to hold ready at most.

    Examples:
        >>> prefetcher = Prefetcher(read_frames(), size=8)
        >>> for frames in prefetcher.batches(4):
        ...     print(len(frames))
        >>> prefetcher.close()
    """

    def __init__(self, items: Generator, size: int):
        self._items = items
        self._queue: queue.Queue = queue.Queue(size)
        self._error: BaseException | None = None
        self._stopped = False
        self._thread = threading.Thread(target=self._fetch, name="prefetch", daemon=True)
        self._thread.start()

    def _fetch(self) -> None:
        try:
            for item in self._items:
                self._put(item)
                if self._stopped:
                    break
        except BaseException as error:
            self._error = error
        finally:
            self._items.close()
            self._put(_END)

    def _put(self, item: Any) -> None:
        while not self._stopped:
            try:
                return self._queue.put(item, timeout=POLL)
            except queue.Full:
                continue

    def batches(self, size: int) -> Iterator[list]:
        """Items in lists of up to ``size``: at least one, and beyond that what is there already.

        Raises:
            BaseException: What the generator raised.
        """
        ended = False
        while not ended and not self._stopped:
            batch = []
            try:
                while len(batch) < size:
                    item = self._queue.get(block=not batch, timeout=POLL)
                    if item is _END:
                        ended = True
                        break
                    batch.append(item)
            except queue.Empty:
                pass
            if batch:
                yield batch
        if ended and self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Let :meth:`batches` end now, with what was fetched and not consumed dropped.

        It only sets a flag and may be called from a signal handler or another thread.
        """
        self._stopped = True

    def close(self) -> None:
        """Stop, and wait for the generator to be closed."""
        self.stop()
        # What is let go may be collected, and closed, in any thread.
        if threading.current_thread() is not self._thread:
            self._thread.join(JOIN_TIMEOUT)


class Worker:
    """Calls a function in a thread of its own, for one item after another.

    When the function has raised, no further item reaches it.

    Args:
        function: Called with each item.
        size: Items that may wait; :meth:`put` blocks while as many do.
        name: Of the thread.
    """

    def __init__(self, function: Callable[[Any], None], size: int, name: str):
        self._function = function
        self._queue: queue.Queue = queue.Queue(size)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def _work(self) -> None:
        while (item := self._queue.get()) is not _END:
            if self._error is None:
                try:
                    self._function(item)
                except BaseException as error:
                    self._error = error

    def put(self, item: Any) -> None:
        """Hand over an item.

        Raises:
            BaseException: What the function raised on an earlier one.
        """
        self._raise()
        self._queue.put(item)

    def close(self) -> None:
        """Wait until all items are done and end the thread.

        If the wait is interrupted (Ctrl-C), the items that still wait are dropped: the thread has
        ended in any case.

        Raises:
            BaseException: What the function raised.
        """
        try:
            self._end()
        except BaseException as error:
            self._error = error
            self._end()
        self._raise()

    def _end(self) -> None:
        if self._thread.is_alive():
            self._queue.put(_END)
            self._thread.join()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error
