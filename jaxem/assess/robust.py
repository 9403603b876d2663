"""The typical frame of a stack and how far its pixels stray, by medians, which a few odd frames or pixels cannot move.

Whatever is looked at is held in blocks of a few million pixels: the stack may be a file mapped into memory.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

PIXELS_PER_BLOCK = 2**21
FRAMES_FOR_MEDIANS = 255  # of which the typical frame is the median
LEAST_OF_DIFFERENCES = 0.8  # no less is the noise over that of differences: medians of few frames err
STD_PER_MAD = 1.4826  # a normal distribution's standard deviation by its median absolute deviation


class Typical(NamedTuple):
    """What pixels are in most frames.

    ========  =======  ===============================================================================
    field     shape    meaning, unit
    ========  =======  ===============================================================================
    level     (H, W)   median over frames, pixel value; nan where nothing was observed
    scale     (H, W)   robust standard deviation over frames, pixel value, nowhere below the unit
    spread    (H, W)   the same, not bounded from below
    noise     ()       typical standard deviation of a pixel, pixel value
    step      ()       the numbers are multiples of it, or 0 where they are of no step
    ========  =======  ===============================================================================
    """

    level: np.ndarray
    scale: np.ndarray
    spread: np.ndarray
    noise: float
    step: float

    @property
    def unit(self) -> float:
        """What deviations are measured by: the noise, and no less than a step of the numbers."""
        return max(self.noise, self.step)


def as_seen(block: np.ndarray, weights: np.ndarray | None) -> np.ndarray:
    """Frames (n, H, W) in double precision, nan where the weights, (H, W) or (n, H, W), are zero."""
    values = block.astype(np.float64)
    if weights is not None:
        values[np.broadcast_to(weights <= 0, values.shape)] = np.nan
    return values


def frame_blocks(images: np.ndarray, weights: np.ndarray | None = None) -> Iterator[tuple[int, np.ndarray]]:
    """The number of a block's first frame, and the block as `as_seen` gives it."""
    step = max(1, PIXELS_PER_BLOCK // images[0].size)
    for start in range(0, len(images), step):
        some = slice(start, start + step)
        yield start, as_seen(images[some], weights if weights is None or weights.ndim == 2 else weights[some])


def some_frames(count: int, most: int = FRAMES_FOR_MEDIANS) -> np.ndarray:
    """Numbers of frames drawn as if by chance, the same at each call: a rhythm of the recording shall not bias them."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, most, replace=False))


def typical_frame(
    images: np.ndarray, weights: np.ndarray | None, noise: float, leave_out: np.ndarray | None = None
) -> Typical:
    """The typical frame.

    Args:
        images: (K, H, W), pixel values.
        weights: (H, W) or (K, H, W), zero where a pixel was not observed, or None.
        noise: what differences of frames show of the noise, pixel value.
        leave_out: (K,), true for frames that shall not count, or None.
    """
    numbers = np.arange(len(images)) if leave_out is None else np.flatnonzero(~leave_out)
    numbers = numbers[some_frames(len(numbers))]
    height, width = images.shape[1:]
    level, spread = np.empty((height, width)), np.empty((height, width))
    rows_at_a_time = max(1, PIXELS_PER_BLOCK // (len(numbers) * width))
    for top in range(0, height, rows_at_a_time):
        rows = slice(top, top + rows_at_a_time)
        own = weights if weights is None else weights[rows] if weights.ndim == 2 else weights[numbers, rows]
        some = as_seen(images[numbers, rows], own)
        level[rows] = median(some, axis=0)
        spread[rows] = STD_PER_MAD * median(np.abs(some - level[rows]), axis=0)
    step = step_of(images[numbers[:8]])
    typical = float(np.nanmedian(spread)) if np.isfinite(spread).any() else 0.0
    noise = max(typical, LEAST_OF_DIFFERENCES * noise if np.isfinite(noise) else 0.0)
    return Typical(level, np.fmax(spread, max(noise, step)), spread, noise, step)


def median(values: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    """The median of what is no nan; nan where all is."""
    if not np.isnan(values).any():
        return np.asarray(np.median(values, axis=axis))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.asarray(np.nanmedian(values, axis=axis))


def mean_of(values: np.ndarray) -> np.ndarray:
    """Means of frames (n, H, W) without their nan, (n,)."""
    here = np.isfinite(values)
    return np.where(here, values, 0).sum(axis=(1, 2)) / np.maximum(here.sum(axis=(1, 2)), 1)


def quantiles(values: np.ndarray, shares: tuple[float, ...]) -> np.ndarray:
    """Quantiles of each row of (n, m) without its nan, (n, len(shares)); nan of a row of nothing else."""
    if not np.isnan(values).any():
        return np.quantile(values, shares, axis=1).T
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        return np.nanquantile(values, shares, axis=1).T


def step_of(images: np.ndarray) -> float:
    """The largest number that all pixels differ by multiples of, if they are whole numbers; else 0."""
    values = images.ravel()
    values = values[np.isfinite(values)].astype(np.float64) if images.dtype.kind == "f" else values.astype(np.int64)
    if not values.size or (images.dtype.kind == "f" and (np.abs(values).max() > 2**53 or (values % 1 != 0).any())):
        return 0.0
    whole = values.astype(np.int64)
    return float(np.gcd.reduce(whole - whole.min()))


def robust_scale(values: np.ndarray) -> tuple[float, float]:
    """The median of numbers and their robust standard deviation, nan left out."""
    values = values[np.isfinite(values)]
    if not values.size:
        return np.nan, np.nan
    middle = float(np.median(values))
    return middle, STD_PER_MAD * float(np.median(np.abs(values - middle)))
