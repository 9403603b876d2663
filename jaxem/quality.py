"""What frames show before anything is fitted: their noise, and what a fit would stumble over (extra ``app``)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from jaxem.diagnostics import plural

BLOCK = 2**22  # pixels looked at a time
MAD = 1.4826  # standard deviations of a normal distribution in its median absolute deviation
LAPLACE = 6.0  # root of the sum of squares of the mask 1 -2 1 down times the same across
MOST_NAMED = 3
# Pixels at an end of the range that say that there were more beyond it, as a share and in number; and how much of a
# pixel's noise the brightness of whole frames may wander.
MUCH_CLIPPED, FEWEST_CLIPPED, MUCH_DRIFT = 0.01, 20, 0.5
SAMPLE = 2**21  # pixels from which noise is estimated


class Quality(NamedTuple):
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


def look_at(images: np.ndarray) -> Quality:
    """Look at frames (K, H, W), pixel values, some millions of pixels at a time.

    Example:
        >>> import numpy as np
        >>> from jaxem.quality import look_at
        >>> frames = 100 + 5 * np.random.default_rng(0).normal(size=(20, 40, 50))
        >>> round(look_at(frames).noise), round(look_at(frames).roughness)
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
    return Quality(
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
    step = max(1, len(images) // max(2, SAMPLE // images[0].size))
    some = images[np.arange(0, len(images) - 1, step)[:, None] + [0, 1]].astype(np.float64) if len(images) > 1 else None
    frames = images[::step].astype(np.float64) if some is None else some[:, 0]
    noise = np.nan
    if some is not None:
        differences = some[:, 1] - some[:, 0]
        differences -= np.median(differences, axis=(1, 2), keepdims=True)
        noise = MAD * float(np.median(np.abs(differences))) / 2**0.5
    if min(images.shape[1:]) < 3:
        return noise, np.nan
    down = frames[:, :-2] - 2 * frames[:, 1:-1] + frames[:, 2:]
    across = down[:, :, :-2] - 2 * down[:, :, 1:-1] + down[:, :, 2:]
    return noise, MAD * float(np.median(np.abs(across))) / LAPLACE


def describe_quality(images: np.ndarray, quality: Quality) -> list[str]:
    """Type, range, mean and noise, a line each."""
    noise = "one frame tells none"
    if np.isfinite(quality.noise):
        noise = f"{quality.noise:.4g} by differences between neighbouring frames (median absolute deviation)"
    if np.isfinite(quality.roughness):
        noise += f"; {quality.roughness:.4g} by the Laplacian within frames"
    return [
        f"pixels     {images.dtype}, {quality.low:.6g} to {quality.high:.6g}, mean {quality.mean:.6g}",
        f"noise      {noise}",
    ]


def doubts(images: np.ndarray, quality: Quality) -> list[str]:
    """What a fit would stumble over, a sentence each."""
    count = len(images)
    found = [*_clipping(quality, images.size)]
    if quality.low == quality.high:
        return ["All pixels of all frames are alike; there is nothing to find."]
    if count == 1:
        found.append("There is one frame only; a template is found by what many frames have in common.")
    if quality.constant:
        named = _named([str(number) for number in quality.constant])
        found.append(f"{plural(len(quality.constant), 'frame')} of {count} are empty, all pixels alike: {named}.")
    if quality.duplicates:
        named = _named([f"{one} and {other}" for one, other in quality.duplicates])
        found.append(
            f"{plural(len(quality.duplicates), 'frame')} of {count} are copies to the bit of earlier ones: {named}. "
            f"Copies count as evidence that they are not."
        )
    drift = _drift(quality, images[0].size)
    if drift:
        found.append(drift)
    return found


def _clipping(quality: Quality, size: int) -> Iterator[str]:
    """Pixels heaped up at an end: of the type, or of the data where the type has none or the data end before."""
    for share, value, limit, end in (
        (quality.at_low, quality.low, None if quality.limits is None else quality.limits[0], "lowest"),
        (quality.at_high, quality.high, None if quality.limits is None else quality.limits[1], "highest"),
    ):
        if share > MUCH_CLIPPED and share * size >= FEWEST_CLIPPED and quality.low < quality.high:
            which = f"number of the type, {limit}" if value == limit else f"value there is, {value:.6g}"
            yield f"{100 * share:.3g} % of the pixels have the {end} {which}: clipped noise is not normal noise."


def _drift(quality: Quality, size: int) -> str | None:
    """Whether the frames' brightness wanders by much of the noise of a pixel, and by more than noise does."""
    means, noise = quality.brightness, quality.noise
    if len(means) < 4 or not noise > 0:
        return None
    third = max(1, len(means) // 3)
    between = float(np.median(means[-third:]) - np.median(means[:third]))
    wander = MAD * float(np.median(np.abs(means - np.median(means))))
    if max(abs(between), wander) < max(MUCH_DRIFT * noise, 6 * noise / size**0.5):
        return None
    how = (
        f"drifts by {between:+.3g} from the first third of the frames to the last"
        if abs(between) >= wander
        else f"varies by {wander:.3g} from frame to frame"
    )
    return f"Brightness {how}, and the noise of a pixel is {noise:.3g}; the model has one background for all frames."


def _blocks(images: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    step = max(1, BLOCK // images[0].size)
    for start in range(0, len(images), step):
        yield start, images[start : start + step]


def _named(names: list[str]) -> str:
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return ", ".join(names[:MOST_NAMED]) + more
