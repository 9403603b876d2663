"""How a command shows what happens: in lines, as JSON, or not at all. Imports no JAX."""

from __future__ import annotations

import json
import math
import sys
import time
from types import TracebackType
from typing import Any, Self

from jaxem.cli.text import say


class Display:
    """Shows nothing; the others show the same things in their own ways.

    Args:
        num_images: of which objectives are given the mean.
    """

    def __init__(self, num_images: int = 1) -> None:
        self.num_images = num_images
        self.began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def note(self, event: str, *lines: str, **facts: Any) -> None:
        """Something that happened, in words and in facts."""

    def progress(self, progress: Any) -> None:
        """How far a run is, a `jaxem.Progress`; called in its thread, one call at a time."""


class Lines(Display):
    """Words alone."""

    def note(self, event: str, *lines: str, **facts: Any) -> None:
        for line in lines:
            say(line)


class JsonLines(Display):
    """A JSON object a line."""

    def note(self, event: str, *lines: str, **facts: Any) -> None:
        self.write({"event": event, "text": "\n".join(lines), **facts})

    def write(self, facts: dict[str, Any]) -> None:
        """One object; numbers that are not finite, which JSON does not know, are null."""
        finite = {name: None if isinstance(x, float) and not math.isfinite(x) else x for name, x in facts.items()}
        sys.stdout.write(json.dumps(finite) + "\n")
        sys.stdout.flush()


def lines_or_json(as_json: bool) -> Display:
    """The display of a command that is over soon."""
    return JsonLines() if as_json else Lines()
