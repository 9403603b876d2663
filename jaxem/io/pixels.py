"""What becomes of the pixels that were read: grey numbers, or channels, as this machine knows them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey pixel (ITU-R BT.601)."""
GREYS = ("luma", "mean", "red", "green", "blue")


class Wanted(NamedTuple):
    """What is to become of pixels: see `read_frames`; and whether the last of four channels is opacity."""

    grey: str
    colour: bool
    nan_missing: bool
    has_opacity: bool = True


def as_wanted(pixels: np.ndarray, wanted: Wanted) -> np.ndarray:
    """Pixels (n, h, w) or (n, h, w, C) as grey, or as channels."""
    if not wanted.colour:
        return _grey(pixels, wanted.grey)
    if pixels.ndim == 3:  # grey among colour
        return np.repeat(pixels[..., None], 3, axis=-1)
    return pixels[..., :3] if pixels.shape[-1] == 4 and wanted.has_opacity else pixels


def _grey(pixels: np.ndarray, grey: str) -> np.ndarray:
    """Grey of (n, h, w) or (n, h, w, C); equal channels come out as they are, to the bit."""
    if pixels.ndim == 3:
        return pixels
    if pixels.shape[-1] < 3:
        return pixels[..., 0]
    if grey in ("red", "green", "blue"):
        return pixels[..., ("red", "green", "blue").index(grey)]
    red, green, blue = (pixels[..., channel].astype(np.float32) for channel in range(3))
    weights = np.array(LUMA if grey == "luma" else (1 / 3, 1 / 3, 1 / 3), np.float32)
    red -= green
    blue -= green
    return green + weights[0] * red + weights[2] * blue


def native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The same numbers as this machine and JAX know them."""
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    return np.dtype(np.float64) if dtype.kind == "f" and dtype.itemsize > 8 else dtype.newbyteorder("=")
