"""Frames that can only be decoded in their order, such as those of a video, read in any."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import numpy as np

from jaxem.io.readers.source import Source


class Rewinding:
    """A context of a source that is opened anew where frames are asked for that it has passed.

    Args:
        opened: opens it.
    """

    def __init__(self, opened: Callable[[], AbstractContextManager[Source]]) -> None:
        self._opened, self._open_one, self._position = opened, ExitStack(), 0

    def __enter__(self) -> Any:
        self._source = self._open_one.enter_context(self._opened())
        return self if hasattr(self._source, "position") else self._source

    def __exit__(self, *error: Any) -> None:
        self._open_one.__exit__(*error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def read(self, numbers: range, rows: slice, columns: slice) -> np.ndarray:
        """As `Source.read`."""
        if len(numbers) and numbers[0] < self._position:
            self._open_one.close()
            self._source = self._open_one.enter_context(self._opened())
        self._position = numbers[-1] + 1 if len(numbers) else self._position
        return self._source.read(numbers, rows, columns)
