"""Whole frames that are unlike the rest: their brightness, their noise, and how much of them no template explains."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np

from jaxem.assess.robust import Typical, quantiles, robust_scale

Shape = tuple[int, int]

PIXELS_FOR_QUANTILES = 2**14  # of a frame, from which its brightness and its noise are taken
BRIGHTNESS_SHARES = (0.15, 0.5, 0.85)  # all of these quantiles move where the whole frame is brighter
# Of the second differences: the first of them is raised only by noise nearly everywhere, and by no template.
NOISE_SHARES = (0.25, 0.5)
NORMAL_QUANTILES = (0.3186, 0.6745)
SECOND_DIFFERENCE_GAIN = 6.0**0.5
# A frame is odd if its brightness, its noise or its unexplained part lies so many robust standard deviations from
# the typical one, and by no less than: standard deviations of a pixel, a factor, a share of the pixels.
STDS = 8.0
LEAST_BRIGHTER, LEAST_NOISE_RATIO, LEAST_UNEXPLAINED = 2.0, 1.5, 0.08
FEW_FRAMES, LEAST_UNEXPLAINED_OF_FEW = 10, 0.25  # of which medians say little; also where a template's size is guessed
FEWEST_FRAMES, FEWEST_PIXELS, FEWEST_PIXELS_FOR_NOISE = 4, 16, 100
NO_POWER = 0.85  # two templates that cover so large a part of the frame may explain anything
FLOOR_OF_UNEXPLAINED = 0.03
SHARE_BY_CHANCE, FEWEST_OFF = 0.0124, 3  # of normal noise this part is a little off
# What explains a frame must leave so small a part of its squared distance, which is counted up to so many deviations.
EXPLAINED, MOST_DEVIATIONS = 0.4, 6.0
FEWEST_FOR_DUPLICATES, LEAST_NOISE_OF_DUPLICATES = 64, 0.3  # pixels; steps of the numbers


class Measures(NamedTuple):
    """What is known of each frame.

    ===========  =========  ======================================================================================
    field        shape      meaning
    ===========  =========  ======================================================================================
    mean         (K,)       mean above the typical frame, in standard deviations of the noise
    brightness   (K, 3)     quantiles of what is above the typical frame, in the same unit
    roughness    (K, 2)     its noise by low quantiles of second differences, in the same unit
    unexplained  (K,)       share of pixels off that two windows of the size of a template leave over
    ===========  =========  ======================================================================================
    """

    mean: np.ndarray
    brightness: np.ndarray
    roughness: np.ndarray
    unexplained: np.ndarray


def measure(ratio: np.ndarray, noise_ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles of brightness (n, 3), and noise (n, 2).

    Args:
        ratio: (n, H, W), pixels less the typical frame, in units of the noise of all.
        noise_ratio: the same, in units of each pixel's own noise.
    """
    step = max(1, ratio[0].size // PIXELS_FOR_QUANTILES)
    brightness = quantiles(ratio.reshape(len(ratio), -1)[:, ::step], BRIGHTNESS_SHARES)
    if ratio.shape[2] >= 3:
        rough = noise_ratio[:, :, :-2] - 2 * noise_ratio[:, :, 1:-1] + noise_ratio[:, :, 2:]
    elif ratio.shape[1] >= 3:
        rough = noise_ratio[:, :-2] - 2 * noise_ratio[:, 1:-1] + noise_ratio[:, 2:]
    else:
        return brightness, np.full((len(ratio), 2), np.nan)
    flat = np.abs(rough).reshape(len(ratio), -1)
    flat = flat[:, :: max(1, flat.shape[1] // PIXELS_FOR_QUANTILES)]
    return brightness, quantiles(flat, NOISE_SHARES) / NORMAL_QUANTILES / SECOND_DIFFERENCE_GAIN


def common_shift(brightness: np.ndarray) -> np.ndarray:
    """How far whole frames are brighter, (n,): as far as all quantiles (n, 3) are; 0 where they move in two ways."""
    least = np.abs(brightness).min(axis=1)
    one_way = (brightness > 0).all(axis=1) | (brightness < 0).all(axis=1)
    return np.where(one_way, np.sign(brightness[:, 1]) * least, 0.0)


def shift_of(measures: Measures) -> np.ndarray:
    """How far whole frames are brighter than the typical one, (K,), in standard deviations of the noise."""
    return common_shift(measures.brightness - [robust_scale(column)[0] for column in measures.brightness.T])


def unexplained(off: np.ndarray, seen: np.ndarray, shape: Shape, *, wrap: bool) -> np.ndarray:
    """The share of pixels off outside the two windows that hold most of them, (n,).

    Args:
        off: (n, H, W), true where a pixel is off.
        seen: (n, H, W), true where it was observed, and not already found odd.
        shape: (h, w) of the windows.
        wrap: whether windows go round the edges.
    """
    height, width = off.shape[1:]
    h, w = min(shape[0], height), min(shape[1], width)
    if 2 * h * w > NO_POWER * height * width:
        return np.zeros(len(off))
    outside = seen.sum(axis=(1, 2)) - 2 * h * w
    shares = off.sum(axis=(1, 2)) / np.maximum(seen.sum(axis=(1, 2)), 1)
    found = np.zeros(len(off))
    for number in np.flatnonzero((shares > FLOOR_OF_UNEXPLAINED) & (outside > 0)):
        left = off[number].copy()
        for _ in range(2):
            around = np.pad(left, ((0, h - 1), (0, w - 1)), mode="wrap") if wrap else left
            sums = np.pad(around, ((1, 0), (1, 0))).cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
            inside = sums[h:, w:] - sums[:-h, w:] - sums[h:, :-w] + sums[:-h, :-w]
            row, column = np.unravel_index(int(inside.argmax()), inside.shape)
            left[np.ix_((row + np.arange(h)) % height, (column + np.arange(w)) % width)] = False
        by_chance = SHARE_BY_CHANCE * outside[number]
        if left.sum() > by_chance + STDS * by_chance**0.5 + FEWEST_OFF:
            found[number] = left.sum() / outside[number]
    return found


def odd_by_measures(
    measures: Measures, num_pixels: int, *, known_shape: bool, in_steps: bool
) -> dict[str, dict[int, float]]:
    """Numbers of frames whose measures lie far from those of the rest, and how far, by kind.

    Brightness is in standard deviations of a pixel's noise, noise as a factor, and what is unlike a share of the frame.

    Args:
        measures: of the frames, nan for those that are odd already.
        num_pixels: of a frame.
        known_shape: whether the template's size is known and not guessed.
        in_steps: whether the numbers are so coarse that their noise cannot be measured frame by frame.
    """
    has_noise = num_pixels >= FEWEST_PIXELS_FOR_NOISE and not in_steps
    found: dict[str, dict[int, float]] = {"dark": {}, "bright": {}, "noisy": {}, "quiet": {}, "unlike": {}}
    count = len(measures.unexplained)
    if count < FEWEST_FRAMES or num_pixels < FEWEST_PIXELS:
        return found
    error = 1.5 / num_pixels**0.5  # of a quantile, and about that of a noise
    shift = shift_of(measures)
    usual = min(robust_scale(column)[1] for column in measures.brightness.T)
    far = max(LEAST_BRIGHTER, STDS * error, STDS * usual)
    with np.errstate(invalid="ignore"):
        for number in np.flatnonzero(np.abs(shift) > far):
            found["bright" if shift[number] > 0 else "dark"][int(number)] = float(shift[number])
        low, middle = (column / (robust_scale(column)[0] or np.nan) for column in measures.roughness.T)
        spread = STDS * max(error, robust_scale(low)[1], robust_scale(middle)[1])
        for number in np.flatnonzero((low > max(LEAST_NOISE_RATIO, 1 + spread)) & has_noise):
            found["noisy"][int(number)] = float(low[number])
        for number in np.flatnonzero((middle < 1 / max(LEAST_NOISE_RATIO, 1 + spread)) & has_noise):
            found["quiet"][int(number)] = float(middle[number])
    usual, spread = robust_scale(measures.unexplained)
    least = LEAST_UNEXPLAINED_OF_FEW if count < FEW_FRAMES or not known_shape else LEAST_UNEXPLAINED
    for number in np.flatnonzero(measures.unexplained > max(least, usual + STDS * spread, 2 * usual)):
        found["unlike"][int(number)] = float(measures.unexplained[number])
    return found


def explain(frame: np.ndarray, typical: Typical) -> str | None:
    """What makes a frame (H, W) unlike the typical one, in words: that it is displaced or turned."""
    level = typical.level
    here = np.isfinite(frame) & np.isfinite(level)
    if min(frame.shape) < 3 or not here.any():
        return None

    def distance(other: np.ndarray) -> float:
        """The mean of squared distances, nan where nothing can be compared."""
        squares = np.square((frame - other) / typical.scale)
        return float(np.nanmean(np.minimum(squares, MOST_DEVIATIONS**2))) if np.isfinite(squares).any() else np.inf

    middle = np.nanmean(level)
    one, other = (np.fft.rfft2(np.where(here, picture - middle, 0)) for picture in (frame, level))
    spectrum = one * np.conj(other)
    peaks = np.fft.irfft2(spectrum / np.maximum(np.abs(spectrum), 1e-300), frame.shape)
    down, right = np.unravel_index(int(peaks.argmax()), peaks.shape)
    shift = [int(d) - size if d > size // 2 else int(d) for d, size in zip((down, right), frame.shape, strict=True)]
    others = {
        "upside down": level[::-1],
        "mirrored": level[:, ::-1],
        "turned by 180 degrees": level[::-1, ::-1],
    }
    if any(shift):
        others = {f"displaced by {shift[0]:+d} rows and {shift[1]:+d} columns": _displaced(level, *shift), **others}
    before = distance(level)
    name, after = min(((name, distance(other)) for name, other in others.items()), key=lambda one: one[1])
    return name if after < EXPLAINED * before else None


def _displaced(picture: np.ndarray, down: int, right: int) -> np.ndarray:
    moved = np.full_like(picture, np.nan)
    height, width = picture.shape
    to = slice(max(0, down), height + min(0, down)), slice(max(0, right), width + min(0, right))
    of = slice(max(0, -down), height - max(0, down)), slice(max(0, -right), width - max(0, right))
    moved[to] = picture[of]
    return moved


def repeated(images: np.ndarray, noise: float, step: float) -> tuple[list[int], list[tuple[int, int]]]:
    """Numbers of frames that hold one value, and pairs that are the same to the bit where noise forbids it."""
    constant, copies = [], []
    first: dict[bytes, int] = {}
    can_repeat = images[0].size < FEWEST_FOR_DUPLICATES or noise < LEAST_NOISE_OF_DUPLICATES * step or not noise > 0
    for number, frame in enumerate(images):
        if frame.min() == frame.max():
            constant.append(number)
            continue
        if not can_repeat:
            digest = hashlib.blake2b(np.ascontiguousarray(frame).data, digest_size=16).digest()
            if first.setdefault(digest, number) != number:
                copies.append((first[digest], number))
    return constant, copies
