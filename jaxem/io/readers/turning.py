"""Frames that are stored lying down or upside down, with a number that says how they are to be seen."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

# By the orientation of EXIF and TIFF: what brings rows and columns to where they belong.
TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels.swapaxes(0, 1)[:, ::-1],
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels.swapaxes(0, 1)[::-1],
}


def turned(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels (H, W) or (H, W, C) as they are to be seen; of a number that nobody has defined as they are."""
    return TURNS.get(orientation, TURNS[1])(pixels)


def turned_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    """Height and width of the same."""
    return size[::-1] if 5 <= orientation <= 8 else size
