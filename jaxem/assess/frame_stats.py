"""What frames show: their noise, what a fit would stumble over, and which of them a model explains badly."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jaxem.runtime.text import listed, plural

PIXELS_PER_BLOCK = 2**22  # looked at a time
PIXELS_FOR_NOISE = 2**21  # from which noise is estimated
STD_PER_MAD = 1.4826  # a normal distribution's standard deviation by its median absolute deviation
LAPLACIAN_GAIN = 6.0  # root of the sum of squares of the mask 1 -2 1 down times the same across
MOST_LISTED = 3  # frames named in a warning
# Pixels at an end of the range that say that there were more beyond it, as a share and in number.
CLIPPED_SHARE, FEWEST_CLIPPED = 0.01, 20
# A frame is explained much worse than the rest where its log evidence lies so many robust standard deviations lower.
OUTLIER_STDS = 6.0
# The brightness of whole frames may wander by so many standard deviations of a pixel's noise, and of a frame's mean.
DRIFT_IN_PIXEL_STDS, DRIFT_IN_MEAN_STDS = 0.5, 6.0


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
    constant       numbers of the frames whose pixels are all alike
    duplicates     pairs of numbers of frames that are the same to the bit, the first such frame first
    brightness     mean pixel value of each frame
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
    constant: list[int]
    duplicates: list[tuple[int, int]]
    brightness: np.ndarray


def frame_statistics(images: np.ndarray) -> FrameStatistics:
    """Statistics of frames (K, H, W), pixel values, gathered some millions of pixels at a time.

    Example:
        >>> import numpy as np
        >>> from jaxem.assess.frame_stats import frame_statistics
        >>> frames = 100 + 5 * np.random.default_rng(0).normal(size=(20, 40, 50))
        >>> found = frame_statistics(frames)
        >>> round(found.noise), round(found.roughness)
        (5, 5)
    """
    low, high = images.min(), images.max()
    count_low = count_high = 0
    brightness, constant = [], []
    first: dict[bytes, int] = {}
    duplicates: list[tuple[int, int]] = []
    for start, block in _blocks(images):
        count_low += int((block == low).sum())
        count_high += int((block == high).sum())
        brightness.append(block.mean(axis=(1, 2), dtype=np.float64))
        for number, frame in enumerate(block, start):
            if frame.min() == frame.max():
                constant.append(number)
                continue
            digest = hashlib.blake2b(np.ascontiguousarray(frame).data, digest_size=16).digest()
            if first.setdefault(digest, number) != number:
                duplicates.append((first[digest], number))
    means = np.concatenate(brightness)
    limits = np.iinfo(images.dtype) if images.dtype.kind in "iu" else None
    return FrameStatistics(
        float(low),
        float(high),
        float(means.mean()),
        *estimate_noise(images),
        count_low / images.size,
        count_high / images.size,
        None if limits is None else (int(limits.min), int(limits.max)),
        constant,
        duplicates,
        means,
    )


def estimate_noise(images: np.ndarray) -> tuple[float, float]:
    """The noise by differences between frames and by roughness within them, both robust, pixel values.

    Differences are those of neighbours in the stack, less their own median, so that neither a background nor its drift
    counts, and templates count little while they cover less than half of the pixels. Where frames are near copies of
    their neighbours, as in a video, noise is still new in each.
    """
    step = max(1, len(images) // max(2, PIXELS_FOR_NOISE // images[0].size))
    some = images[np.arange(0, len(images) - 1, step)[:, None] + [0, 1]].astype(np.float64) if len(images) > 1 else None
    frames = images[::step].astype(np.float64) if some is None else some[:, 0]
    noise = np.nan
    if some is not None:
        differences = some[:, 1] - some[:, 0]
        differences -= np.median(differences, axis=(1, 2), keepdims=True)
        noise = STD_PER_MAD * float(np.median(np.abs(differences))) / 2**0.5
    if min(images.shape[1:]) < 3:
        return noise, np.nan
    down = frames[:, :-2] - 2 * frames[:, 1:-1] + frames[:, 2:]
    across = down[:, :, :-2] - 2 * down[:, :, 1:-1] + down[:, :, 2:]
    return noise, STD_PER_MAD * float(np.median(np.abs(across))) / LAPLACIAN_GAIN


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


def frame_warnings(images: np.ndarray, stats: FrameStatistics) -> list[str]:
    """What a fit would stumble over, a sentence each."""
    count = len(images)
    found = [*_clipping(stats, images.size)]
    if stats.low == stats.high:
        return ["All pixels of all frames are alike; there is nothing to find."]
    if count == 1:
        found.append("There is one frame only; a template is found by what many frames have in common.")
    if stats.constant:
        named = listed([str(number) for number in stats.constant], MOST_LISTED)
        found.append(f"Empty, with all pixels alike: {plural(len(stats.constant), 'frame')} of {count} ({named}).")
    if stats.duplicates:
        named = listed([f"{one} and {other}" for one, other in stats.duplicates], MOST_LISTED)
        found.append(
            f"Copies to the bit of earlier ones: {plural(len(stats.duplicates), 'frame')} of {count} ({named}). They "
            f"count as evidence that they are not."
        )
    drift = _drift(stats, images[0].size)
    if drift:
        found.append(drift)
    return found


def _clipping(stats: FrameStatistics, size: int) -> Iterator[str]:
    """Pixels heaped up at an end: of the type, or of the data where the type has none or the data end before."""
    for share, value, limit, end in (
        (stats.at_low, stats.low, None if stats.limits is None else stats.limits[0], "lowest"),
        (stats.at_high, stats.high, None if stats.limits is None else stats.limits[1], "highest"),
    ):
        if share > CLIPPED_SHARE and share * size >= FEWEST_CLIPPED and stats.low < stats.high:
            which = f"number of the type, {limit}" if value == limit else f"value there is, {value:.6g}"
            yield f"{100 * share:.3g} % of the pixels have the {end} {which}: clipped noise is not normal noise."


def _drift(stats: FrameStatistics, size: int) -> str | None:
    """Whether the frames' brightness wanders by much of the noise of a pixel, and by more than noise does."""
    means, noise = stats.brightness, stats.noise
    if len(means) < 4 or not noise > 0:
        return None
    third = max(1, len(means) // 3)
    between = float(np.median(means[-third:]) - np.median(means[:third]))
    wander = STD_PER_MAD * float(np.median(np.abs(means - np.median(means))))
    if max(abs(between), wander) < noise * max(DRIFT_IN_PIXEL_STDS, DRIFT_IN_MEAN_STDS / size**0.5):
        return None
    how = (
        f"drifts by {between:+.3g} from the first third of the frames to the last"
        if abs(between) >= wander
        else f"varies by {wander:.3g} from frame to frame"
    )
    return f"Brightness {how}, and the noise of a pixel is {noise:.3g}; the model has one background for all frames."


def _blocks(images: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    step = max(1, PIXELS_PER_BLOCK // images[0].size)
    for start in range(0, len(images), step):
        yield start, images[start : start + step]


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
