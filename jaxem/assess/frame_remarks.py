"""What a fit would stumble over in frames as a whole, and what of their noise a fit did not explain."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from jaxem.assess.frame_stats import FrameStatistics
from jaxem.assess.robust import FRAMES_FOR_MEDIANS, STD_PER_MAD, as_seen, median, some_frames, step_of
from jaxem.runtime.remarks import Remark, warning

# Pixels at an end of the range that say that there were more beyond it, as a share and in number.
CLIPPED_SHARE, FEWEST_CLIPPED = 0.01, 20
# The noise of a fit is well above what pixels show at this ratio of standard deviations.
EXCESS = 1.4
FRAMES_FOR_OWN_NOISE = 16  # at least, for the noise to be taken pixel by pixel
PIXELS_FOR_NOISE = 2**22
NOISIEST = 0.02  # of the pixels, which are left out of the mean
STEPS = 0.5  # no noise is known to be less than this part of a step of the numbers


def frame_warnings(images: np.ndarray, stats: FrameStatistics) -> list[Remark]:
    """What a fit would stumble over, of the stack as a whole."""
    if stats.low == stats.high:
        return [warning("all-alike", "All pixels of all frames are alike; there is nothing to find.")]
    found = [*_clipping(stats, images.size)]
    if len(images) == 1:
        text = "There is one frame only; a template is found by what many frames have in common."
        found.append(warning("one-frame", text, 1))
    return found


def _clipping(stats: FrameStatistics, size: int) -> Iterator[Remark]:
    """Pixels heaped up at an end: of the type, or of the data where the type has none or the data end before."""
    for share, value, limit, end in (
        (stats.at_low, stats.low, None if stats.limits is None else stats.limits[0], "lowest"),
        (stats.at_high, stats.high, None if stats.limits is None else stats.limits[1], "highest"),
    ):
        if share > CLIPPED_SHARE and share * size >= FEWEST_CLIPPED and stats.low < stats.high:
            which = f"number of the type, {limit}" if value == limit else f"value there is, {value:.6g}"
            text = f"{100 * share:.3g} % of the pixels have the {end} {which}: clipped noise is not normal noise."
            yield warning("clipped", text, share)


def pixel_noise(images: np.ndarray, weights: np.ndarray | None = None) -> float:
    """The noise that single pixels show, pixel value; nan of fewer than three frames.

    It is the root mean square over pixels of their robust standard deviations, once from differences between
    neighbouring frames and once from differences between neighbouring pixels, the larger of the two: noise may
    be alike in neighbouring frames, or in neighbouring pixels.

    Args:
        images: (K, H, W), pixel values.
        weights: (H, W) or (K, H, W), zero where a pixel does not count, or None.
    """
    if len(images) < 3:
        return np.nan
    pairs = some_frames(len(images) - 1, min(FRAMES_FOR_MEDIANS, max(3, PIXELS_FOR_NOISE // images[0].size)))
    first, second = (
        as_seen(images[numbers], weights if weights is None or weights.ndim == 2 else weights[numbers])
        for numbers in (pairs, pairs + 1)
    )
    differences = second - first
    differences -= median(differences, axis=(1, 2))[:, None, None]
    found = [_root_mean_square(differences) / 2**0.5]
    rest = first - median(first, axis=0)
    axis = 2 if images.shape[2] > 1 else 1
    if images.shape[axis] > 2:
        found.append(_root_mean_square(np.diff(rest, axis=axis)) / 2**0.5)
    return max(float(np.nanmax(found)) if np.isfinite(found).any() else np.nan, STEPS * step_of(images[pairs[:8]]))


def _root_mean_square(values: np.ndarray) -> float:
    """Robust standard deviations along frames, pixel by pixel if there are enough, and their mean."""
    if len(values) < FRAMES_FOR_OWN_NOISE:
        return STD_PER_MAD * float(median(np.abs(values).reshape(1, -1), axis=1)[0])
    squares = np.sort(np.square(STD_PER_MAD * median(np.abs(values), axis=0)).ravel())
    squares = squares[np.isfinite(squares)]
    kept = squares[: max(1, round((1 - NOISIEST) * len(squares)))]
    return float(np.sqrt(kept.mean())) if len(kept) else np.nan


def noise_remarks(
    fitted: float | np.ndarray, images: np.ndarray, weights: np.ndarray | None = None, *, remedy: str = ""
) -> list[Remark]:
    """Whether the noise of a fit is well above what single pixels show; the effect is the ratio of the two.

    Args:
        fitted: the noise of the fit, pixel value, one number or (C,).
        images: (K, H, W) or (K, H, W, C), pixel values.
        weights: (H, W) or (K, H, W), zero where a pixel did not count, or None.
        remedy: what to do, a sentence.
    """
    channels = [images] if images.ndim == 3 else [images[..., channel] for channel in range(images.shape[3])]
    shown = np.array([pixel_noise(channel, weights) for channel in channels])
    scales = np.ravel(np.asarray(fitted, np.float64))
    if len(scales) == 1:  # the same for all channels
        shown = np.sqrt(np.mean(np.square(shown), keepdims=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratios = scales / shown
    if not np.isfinite(ratios).any():
        return []
    worst = int(np.nanargmax(ratios))
    ratio = float(ratios[worst])
    if not ratio > EXCESS:
        return []
    text = (
        f"The noise of the fit, {scales[worst]:.4g}, is {ratio:.3g} times what single pixels show, {shown[worst]:.4g}: "
        f"some frames or pixels, or the background, are not as the model says, and its places may be wrong."
    )
    return [warning("noise-above-pixels", f"{text} {remedy}".strip(), ratio)]
