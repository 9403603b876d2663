"""Something made in a thread of its own while what came before is worked on, but never much ahead of it."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Generic, TypeVar

from jaxem.runtime.errors import StoppedError

Item = TypeVar("Item")


class ReadAhead(Generic[Item]):
    """Goes through items in a thread; to be used in a ``with`` statement, at whose end the thread has ended too.

    An exception of the items comes out where they are asked for.

    Args:
        items: what to go through; its generator runs in the thread.
        depth: how many items may be there before they are asked for, with the one being made.
    """

    def __init__(self, items: Iterable[Item], depth: int):
        self._items, self._room = items, threading.Semaphore(depth)
        self._made: SimpleQueue[tuple[Any, BaseException | None]] = SimpleQueue()
        self._is_stopped = False
        self._thread = threading.Thread(target=self._make, name="jaxem-read-ahead", daemon=True)

    def __enter__(self) -> ReadAhead[Item]:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._thread.join()

    def stop(self) -> None:
        """Make nothing more; who waits for an item gets a `StoppedError`. Any thread may call it."""
        self._is_stopped = True
        self._room.release()
        self._made.put((None, StoppedError()))

    def __iter__(self) -> Iterator[Item]:
        while True:
            item, error = self._made.get()
            self._room.release()
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item
            del item  # which may be large, and is not needed while the next one is waited for

    def _make(self) -> None:
        try:
            items = iter(self._items)
            while True:
                self._room.acquire()
                if self._is_stopped:
                    return
                self._made.put((next(items), None))
        except BaseException as error:  # at the end of the items too
            self._made.put((None, error))
