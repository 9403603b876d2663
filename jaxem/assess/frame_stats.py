"""What frames show: their range, their noise, and which of them a model explains badly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jaxem.assess.robust import STD_PER_MAD, as_seen, median

PIXELS_PER_BLOCK = 2**22  # looked at a time
PIXELS_FOR_NOISE = 2**21  # from which noise is estimated
LAPLACIAN_GAIN = 6.0  # root of the sum of squares of the mask 1 -2 1 down times the same across
# A frame is explained much worse than the rest where its log evidence lies so many robust standard deviations lower.
OUTLIER_STDS = 6.0


class FrameStatistics(NamedTuple):
    """What frames look like.

    =============  ==========================================================================================
    field          meaning, unit
    =============  ==========================================================================================
    low, high      lowest and highest pixel value
    mean           mean pixel value
    noise          robust standard deviation of differences of frames over root 2, pixel value; nan of one frame
    roughness      the same of what a frame's Laplacian leaves, pixel value: noise, and fine structure
    at_low         share of the pixels that have the lowest value
    at_high        share of the pixels that have the highest value
    limits         lowest and highest number of the type, or None where it has none to speak of
    =============  ==========================================================================================
    """

    low: float
    high: float
    mean: float
    noise: float
    roughness: float
    at_low: float
    at_high: float
    limits: tuple[int, int] | None


def frame_statistics(images: np.ndarray, weights: np.ndarray | None = None) -> FrameStatistics:
    """Statistics of frames (K, H, W) or (K, H, W, C), pixel values, gathered some millions of pixels at a time.

    Args:
        images: the frames.
        weights: (H, W) or (K, H, W), zero where a pixel was not observed, or None.

    Example:
        >>> import numpy as np
        >>> from jaxem.assess.frame_stats import frame_statistics
        >>> frames = 100 + 5 * np.random.default_rng(0).normal(size=(20, 40, 50))
        >>> found = frame_statistics(frames)
        >>> round(found.noise), round(found.roughness)
        (5, 5)
    """
    low, high, total, size = np.inf, -np.inf, 0.0, 0
    count_low = count_high = 0
    for block in _observed(images, weights):
        lowest, highest = (float(block.min()), float(block.max())) if block.size else (np.inf, -np.inf)
        count_low = (count_low if low <= lowest else 0) + (int((block == lowest).sum()) if lowest <= low else 0)
        count_high = (count_high if high >= highest else 0) + (int((block == highest).sum()) if highest >= high else 0)
        low, high = min(low, lowest), max(high, highest)
        total, size = total + float(block.sum(dtype=np.float64)), size + block.size
    limits = np.iinfo(images.dtype) if images.dtype.kind in "iu" else None
    size = max(size, 1)
    return FrameStatistics(
        low,
        high,
        total / size,
        *estimate_noise(images, weights),
        count_low / size,
        count_high / size,
        None if limits is None else (int(limits.min), int(limits.max)),
    )


def estimate_noise(images: np.ndarray, weights: np.ndarray | None = None) -> tuple[float, float]:
    """The noise by differences between frames and by roughness within them, both robust, pixel values.

    Differences are those of neighbours in the stack, less their own median, so that neither a background nor its drift
    counts, and templates count little while they cover less than half of the pixels. Where frames are near copies of
    their neighbours, as in a video, noise is still new in each. Of several channels it is the root mean square.

    Args:
        images: (K, H, W) or (K, H, W, C), pixel values.
        weights: (H, W) or (K, H, W), zero where a pixel was not observed, or None.
    """
    if images.ndim == 4:
        channels = [estimate_noise(images[..., channel], weights) for channel in range(images.shape[3])]
        noise, roughness = np.sqrt(np.mean(np.square(channels), axis=0)).tolist()
        return noise, roughness
    step = max(1, len(images) // max(2, PIXELS_FOR_NOISE // images[0].size))
    firsts = np.arange(0, max(1, len(images) - 1), step)

    def seen(numbers: np.ndarray) -> np.ndarray:
        return as_seen(images[numbers], weights if weights is None or weights.ndim == 2 else weights[numbers])

    frames, noise = seen(firsts), np.nan
    if len(images) > 1:
        differences = seen(firsts + 1) - frames
        differences -= median(differences, axis=(1, 2))[:, None, None]
        noise = STD_PER_MAD * _middle(np.abs(differences)) / 2**0.5
    if min(images.shape[1:]) < 3:
        return noise, np.nan
    down = frames[:, :-2] - 2 * frames[:, 1:-1] + frames[:, 2:]
    across = down[:, :, :-2] - 2 * down[:, :, 1:-1] + down[:, :, 2:]
    return noise, STD_PER_MAD * _middle(np.abs(across)) / LAPLACIAN_GAIN


def _middle(values: np.ndarray) -> float:
    return float(median(values.ravel(), axis=0))


def describe_statistics(images: np.ndarray, stats: FrameStatistics) -> list[str]:
    """Type, range, mean and noise, a line each."""
    noise = "one frame tells none"
    if np.isfinite(stats.noise):
        noise = f"{stats.noise:.4g} by differences between neighbouring frames (median absolute deviation)"
    if np.isfinite(stats.roughness):
        noise += f"; {stats.roughness:.4g} by the Laplacian within frames"
    return [
        f"pixels     {images.dtype}, {stats.low:.6g} to {stats.high:.6g}, mean {stats.mean:.6g}",
        f"noise      {noise}",
    ]


def _observed(images: np.ndarray, weights: np.ndarray | None) -> Iterator[np.ndarray]:
    """The pixels that were observed, a block of them at a time."""
    step = max(1, PIXELS_PER_BLOCK // images[0].size)
    for start in range(0, len(images), step):
        block = images[start : start + step]
        if weights is not None:
            own = weights if weights.ndim == 2 else weights[start : start + step]
            block = block[np.broadcast_to(own > 0, block.shape[:3])]
        yield block[np.isfinite(block)] if block.dtype.kind == "f" else block


def outliers(log_evidence: np.ndarray, image_size: int) -> np.ndarray:
    """Numbers of the frames whose evidence lies much lower than the others', the lowest first.

    Args:
        log_evidence: (K,), nats.
        image_size: pixels of a frame; noise alone spreads its evidence by the root of half of them.
    """
    evidence = np.where(np.isfinite(log_evidence), log_evidence, -np.inf)
    middle = np.median(evidence)
    if not np.isfinite(middle):
        return np.flatnonzero(evidence == -np.inf)
    spread = max(STD_PER_MAD * float(np.median(np.abs(evidence - middle))), (image_size / 2) ** 0.5)
    order = np.argsort(evidence, kind="stable")
    return order[evidence[order] < middle - OUTLIER_STDS * spread]
