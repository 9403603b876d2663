"""The brightness of whole frames through a recording: whether it drifts, jumps, or beats."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from jaxem.assess.robust import STD_PER_MAD
from jaxem.runtime.remarks import Remark, warning

# Brightness may wander by so many standard deviations of a pixel's noise, and of a frame's mean.
IN_PIXEL_STDS, IN_MEAN_STDS = 0.5, 6.0
FEWEST_FRAMES, FEWEST_FOR_A_PERIOD = 4, 10
EXPLAINED = 0.6  # of the variance, by one jump or one frequency, for brightness to be said to do that
SMALLEST_SIDE_OF_JUMP = 3  # frames before it and after it
WHAT_IT_DOES = (
    "the model has one background for all frames, so that this counts as noise. Fit stretches of equal brightness by "
    "--frames, or take the median of each frame off it before"
)


def drift_remarks(
    means: np.ndarray, shifts: np.ndarray, noise: float, size: int, numbers: Sequence[int] | None = None
) -> list[Remark]:
    """What there is to say of the brightness of frames.

    Args:
        means: (K,), mean of each frame less the typical frame, pixel value; nan for frames that do not count.
        shifts: (K,), how far all of a frame is brighter, pixel value: a template moves means, but not these.
        noise: of a pixel, pixel value.
        size: pixels of a frame.
        numbers: of the frames in their file.
    """
    here = np.flatnonzero(np.isfinite(means) & np.isfinite(shifts))
    if len(here) < FEWEST_FRAMES or not noise > 0:
        return []
    third = max(1, len(here) // 3)
    wanders = []
    for series in (means[here], shifts[here]):
        between = float(np.median(series[-third:]) - np.median(series[:third]))
        varies = STD_PER_MAD * float(np.median(np.abs(series - np.median(series))))
        wanders.append((max(abs(between), varies), between, varies))
    least = min(wanders)[0]
    _, between, varies = wanders[0]
    if least < noise * max(IN_PIXEL_STDS, IN_MEAN_STDS / size**0.5):
        return []
    how = (
        f"drifts by {between:+.3g} from the first third of the frames to the last"
        if abs(between) >= varies
        else f"varies by {varies:.3g} from frame to frame"
    )
    how += _shape(means[here], here if numbers is None else np.array(numbers)[here])
    text = f"Brightness {how}, and the noise of a pixel is {noise:.3g}; {WHAT_IT_DOES}."
    return [warning("brightness-drift", text, least / noise)]


def _shape(series: np.ndarray, numbers: np.ndarray) -> str:
    """In what way it wanders, if in a simple one."""
    total = float(np.square(series - series.mean()).sum())
    count = len(series)
    if not total > 0 or count < FEWEST_FOR_A_PERIOD:
        return ""
    sums = np.cumsum(series - series.mean())[:-1]
    before = np.arange(1, count)
    explained = np.square(sums) * count / (before * (count - before))
    explained[: SMALLEST_SIDE_OF_JUMP - 1] = explained[count - SMALLEST_SIDE_OF_JUMP :] = 0
    at = int(explained.argmax())
    line = np.polynomial.polynomial.polyfit(np.arange(count), series, 1)
    rest = series - np.polynomial.polynomial.polyval(np.arange(count), line)
    left = float(np.square(rest).sum())
    if explained[at] > max(EXPLAINED * total, total - left):
        jump = series[at + 1 :].mean() - series[: at + 1].mean()
        return f", by a jump of {jump:+.3g} at frame {numbers[at + 1]}"
    power = np.square(np.abs(np.fft.rfft(rest)))[1:]
    weights = np.full(len(power), 2.0)
    weights[-1] = 1.0 if count % 2 == 0 else 2.0
    power = power * weights
    peak = int(power.argmax())
    if left > EXPLAINED * total and peak >= 1 and power[peak] > EXPLAINED * power.sum():
        return f", with a period of {count / (peak + 1):.3g} frames"
    steps = [np.median(part) for part in np.array_split(series, 6)]
    signs = {np.sign(later - earlier) for earlier, later in pairwise(steps)}
    return ", steadily" if len(signs) == 1 else ""
