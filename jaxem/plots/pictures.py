"""Pixel values as colours of a screen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

TWO_CHANNELS = np.array([[1, 0.5, 0], [0, 0.5, 1]], np.float32)  # red, green and blue of each


class Palette(NamedTuple):
    """The pixel values that are black and white.

    =====  =====================
    field  meaning, unit
    =====  =====================
    low    black, pixel value
    high   white, pixel value
    =====  =====================
    """

    low: float
    high: float

    @classmethod
    def of(cls, arrays: Iterable[np.ndarray], *, cut: float = 0.0) -> Palette:
        """From the lowest to the highest number, but for a share of each array at either end."""
        finite = [array[np.isfinite(array)] for array in map(np.asarray, arrays)]
        ends = [tuple(map(float, np.quantile(numbers, [cut, 1 - cut]))) for numbers in finite if numbers.size]
        return cls(min((low for low, _ in ends), default=0.0), max((high for _, high in ends), default=1.0))


def as_picture(pixels: np.ndarray, palette: Palette, seen: np.ndarray | None = None) -> np.ndarray:
    """Red, green, blue and opacity, (H, W, 4), from 0 to 1.

    Args:
        pixels: (H, W) or (H, W, C), pixel values. Three channels are red, green and blue. Two are orange and azure,
            which together are white and which nobody confuses. Of any other number the mean is shown in grey.
        palette: what is black and what is white.
        seen: (H, W), where there is anything to show; by default where all numbers are finite.
    """
    shade = np.asarray(pixels, np.float32)
    there = np.isfinite(shade) if shade.ndim == 2 else np.isfinite(shade).all(axis=-1)
    seen = np.asarray(there if seen is None else seen & there)
    shade = np.clip((shade - palette.low) / max(palette.high - palette.low, float(np.finfo(np.float32).tiny)), 0, 1)
    shade = np.where(seen[..., None], shade.reshape(*seen.shape, -1), 0)
    channels = shade.shape[-1]
    if channels == 2:
        shade = shade @ TWO_CHANNELS
    elif channels != 3:
        shade = np.repeat(shade.mean(axis=-1, keepdims=True), 3, axis=-1)
    return np.concatenate([shade, seen[..., None].astype(shade.dtype)], axis=-1)
