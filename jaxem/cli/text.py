"""How the command line speaks: lines on the screen, warnings beside them, and what is said of an interruption.

Imports nothing slow.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Protocol

from jaxem.cli.exit_codes import ExitCode
from jaxem.runtime.text import plural, printable

if TYPE_CHECKING:
    import numpy as np


class InterruptedRunError(Exception):
    """An interruption of which there is more to say than that nothing was written.

    Args:
        message: what became of what was done.
        exit_code: of the command.
    """

    def __init__(self, message: str, exit_code: int = ExitCode.INTERRUPTED) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def say(line: str) -> None:
    """Print a line at once: that it cannot be written must be noticed here and not when the program has ended."""
    print(printable(line), flush=True)


def warn(line: str) -> None:
    """Print a warning, which is no part of what was asked for."""
    print(f"jaxem: warning: {printable(line)}", file=sys.stderr)


class HasShape(Protocol):
    """Frames in an array, or in a source."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(K, H, W) or (K, H, W, C)."""

    @property
    def dtype(self) -> Any:
        """Of the pixels."""


def describe_frames(images: HasShape) -> str:
    """Number, size and type of the frames."""
    count, height, width, *channels = images.shape
    in_colour = f" in {plural(channels[0], 'channel')}" if channels else ""
    return f"{plural(count, 'frame')} of {height} x {width} {images.dtype}{in_colour}"


def describe_observed(images: np.ndarray, weights: np.ndarray | None, source: object) -> str:
    """The same with where they are from, and how much of them was observed."""
    observed = "" if weights is None else f"; {100 * float(weights.mean()):.3g} % of their pixels count"
    return f"{describe_frames(images)} from {source}{observed}"
