"""What a result's numbers mean, in words: notes on what there is to know, warnings of what not to believe yet.

A test of a million pixels finds something in every real recording, so each remark asks for an effect of a size that
matters to the result, and only then whether chance could have made it. Source: ``docs/statistics.md``, *Remarks*.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from jaxem.assess.detection import DetectionTest
from jaxem.assess.frame_stats import outliers
from jaxem.assess.recoverability import recoverability_remarks
from jaxem.assess.residuals import ResidualStatistics
from jaxem.assess.trust import least_relative_contrast
from jaxem.model.predict import Located
from jaxem.runtime.remarks import Grade, Remark, note, warning
from jaxem.runtime.text import listed, plural

LARGEST_P_VALUE = 0.05
LEAST_AGREEMENT, LEAST_CONFIRMED, LEAST_CONFIDENCE = 0.5, 0.3, 0.6
MOST_LISTED = 3  # frames named in a sentence
CHANCE = 4.0  # standard deviations beyond which nothing happens by chance

# From which size on each violation is worth a note, and from which a result should not be believed.
CORRELATION = (0.05, 0.3)
REPETITION = (0.1, 0.3)
KURTOSIS = (1.0, 20.0)
SKEWNESS = (0.3, 2.0)
PIXEL_SPREAD = (0.3, 1.0)
OFFSET_SPREAD = (0.1, 0.4)
NOISE_SPREAD = (0.2, 0.6)
WORST_WINDOW = (5.0, 8.0)
# A frame's noise is unlike the others' where it is so many times theirs, or a part of it.
UNLIKE_NOISE = 1.5


def test_remarks(test: DetectionTest, located: Located, periods: tuple[float, float]) -> Iterator[Remark]:
    """Whether there is a template at all, and whether it is where the fit says.

    Periods are after how many rows and columns a place is the same, infinite where windows do not go round the edges.
    """
    p_value, agreement = float(test.p_value), float(test.agreement)
    if p_value > LARGEST_P_VALUE:
        yield warning(
            "no-template",
            f"Nothing says that there is a template: one found in some of the frames explains the others no better "
            f"than their mirror images (p = {p_value:.2g}). There may be none of this size, or too few frames.",
            p_value,
        )
    elif agreement < LEAST_AGREEMENT:
        yield note(
            "parts-disagree",
            f"There is something that repeats in the frames (p = {p_value:.2g}), but templates fitted to parts of them "
            f"agree on the place in {100 * agreement:.0f} % only. More frames would help, unless a frame shows it more "
            f"than once.",
            agreement,
        )
    else:
        share = _share_confirmed(test, located, periods)
        if share < LEAST_CONFIRMED:
            yield warning(
                "test-disagrees",
                f"There is a template (p = {p_value:.2g}), but not where this one is: fits to parts of the frames, "
                f"with the noise of all pixels made alike, agree with each other, and with these places in "
                f"{100 * share:.0f} % only. Pixels that are much noisier than others may have drawn the template: give "
                f"weights of one over each pixel's variance, or leave them out.",
                share,
            )


def _share_confirmed(test: DetectionTest, located: Located, periods: tuple[float, float]) -> float:
    """In how many images a fit puts the template where the test does, but for one shift of each part; NaN: unknown.

    One image of each part always is, and is not counted. Of several templates and transforms nothing is known.
    """
    if located.template is not None or located.transform is not None:
        return math.nan
    shown = np.ones(len(test.parts), bool) if located.present is None else np.asarray(located.present)
    confirmed, counted = 0, 0
    for part in range(int(np.max(test.parts)) + 1):
        inside = shown & (np.asarray(test.parts) == part)
        shifts = (np.asarray(located.corners) - np.asarray(test.corners))[inside]
        shifts = np.where(np.isfinite(periods), np.mod(shifts, periods), shifts)
        confirmed += max(np.unique(shifts, axis=0, return_counts=True)[1], default=1) - 1
        counted += max(len(shifts) - 1, 0)
    return confirmed / counted if counted else math.nan


def place_remarks(located: Located, counted: np.ndarray) -> Iterator[Remark]:
    """Whether the places can be believed."""
    confidence = of_counted(located, counted, np.asarray(located.confidence))
    if confidence.size and confidence.mean() < LEAST_CONFIDENCE:
        yield warning(
            "uncertain-places",
            f"The frames hardly tell where the template is: the mean confidence of its places is "
            f"{confidence.mean():.2f}.",
            float(confidence.mean()),
        )


def difference_remarks(fitted: np.ndarray, located: Located, counted: np.ndarray) -> Iterator[Remark]:
    """Which images the fit has where the other images do not see the template: by their own noise, it may be."""
    if located.present is not None:
        counted = counted & np.asarray(located.present)
    numbers = np.flatnonzero(counted & (np.asarray(fitted) != np.asarray(located.corners)).any(axis=1))
    if len(numbers):
        yield note(
            "places-differ",
            f"In {plural(len(numbers), 'frame')} of {counted.sum()} "
            f"({listed([str(number) for number in numbers], MOST_LISTED)}) the other frames put the template elsewhere "
            f"than the fit does, which has seen these frames' own noise; the places that are reported are the others'.",
            len(numbers) / counted.sum(),
        )


def contrast_remarks(found: float, num_positions: int, num_images: int) -> Iterator[Remark]:
    """Whether the template stands out of the noise, its own noise left out."""
    least = 2 * math.log(num_positions)
    if found < least_relative_contrast(num_images) * least:
        yield warning(
            "low-contrast",
            f"The template hardly stands out of the noise: its contrast is {found:.3g}, what chance finds among "
            f"{num_positions} places has {least:.3g}, and it takes about {3 * least:.3g} to find it reliably.",
            found,
        )
    else:
        yield from (remark._replace(grade=Grade.NOTE) for remark in recoverability_remarks(found, num_positions))


def residual_remarks(residuals: ResidualStatistics, template_shape: tuple[int, ...]) -> Iterator[Remark]:
    """How the noise differs from white Gaussian noise of one strength, and what that does to the result."""
    count = float(residuals.num_pixels)
    down, along = float(residuals.correlation_down), float(residuals.correlation_along)
    largest = max(down, along, key=abs)
    chance = CHANCE / math.sqrt(count)
    if abs(largest) > max(CORRELATION[0], chance):
        both = min(abs(down), abs(along)) > abs(largest) / 2
        where = "in both directions" if both else "down the columns" if largest == down else "along the rows"
        yield _graded(
            "correlated-noise",
            abs(largest),
            CORRELATION,
            f"The noise of neighbouring pixels is correlated {where} ({largest:+.2f}), as by blur, compression or "
            f"interpolation: the same is counted as evidence more than once, and confidence and contrast are too high. "
            f"Means over blocks of pixels have less of it.",
        )
    following = float(residuals.correlation_next)
    if abs(following) > max(REPETITION[0], chance):
        yield _graded(
            "repeating-noise",
            abs(following),
            REPETITION,
            f"The noise of a frame is also in the next ({following:+.2f}), as in frames that were averaged, compressed "
            f"or copied: they count as more evidence than they are. Take every second frame or fewer.",
        )
    kurtosis, skewness = float(residuals.kurtosis), float(residuals.skewness)
    if kurtosis > max(KURTOSIS[0], chance * math.sqrt(24)):
        yield _graded(
            "heavy-tails",
            kurtosis,
            KURTOSIS,
            f"The noise has more extreme pixels than a normal distribution (excess kurtosis {kurtosis:.3g}): they "
            f"weigh too much in the template and in the places. Mask hot pixels, or clip what is extreme.",
        )
    if abs(skewness) > max(SKEWNESS[0], chance * math.sqrt(6)):
        yield _graded(
            "skewed-noise",
            abs(skewness),
            SKEWNESS,
            f"The noise is skewed ({skewness:+.2f}), as where few photons are counted: the root of the pixels, or "
            f"their logarithm, has noise that is more nearly normal.",
        )
    yield from _spread_remarks(residuals, max(kurtosis, 0), max(down, 0), max(along, 0))


def _spread_remarks(residuals: ResidualStatistics, kurtosis: float, down: float, along: float) -> Iterator[Remark]:
    by_pixel, by_image = np.ravel(residuals.by_pixel), np.asarray(residuals.by_image)
    counted = np.isfinite(by_image)
    by_pixel, num_images = by_pixel[np.isfinite(by_pixel)], int(counted.sum())
    expected = (2 + kurtosis) / num_images
    spread = math.sqrt(max(0.0, float(by_pixel.var()) - expected))
    if num_images > 3 and by_pixel.var() > 2 * expected and spread > PIXEL_SPREAD[0]:
        yield _graded(
            "noise-by-pixel",
            spread,
            PIXEL_SPREAD,
            f"Some pixels are noisier than others (their variances spread by {spread:.2g} of the mean): quiet ones "
            f"count too little, loud ones too much. Weights of one over each pixel's variance mend that.",
        )
    # Correlated pixels say less than as many others: by about this factor.
    repeats = (1 + down) * (1 + along) / max((1 - down) * (1 - along), 0.01)
    pixels = float(residuals.num_pixels) / num_images
    offsets = np.asarray(residuals.offsets)[counted]
    by_chance = math.sqrt(repeats / pixels)
    spread = math.sqrt(max(0.0, float(offsets.var()) - by_chance**2))
    if num_images > 3 and offsets.std() > 1.5 * by_chance and spread > OFFSET_SPREAD[0]:
        following = float(np.corrcoef(offsets[1:], offsets[:-1])[0, 1])
        drifts = following > CHANCE / math.sqrt(num_images)
        what = "drifts" if drifts else "flickers"
        yield _graded(
            "drifting-brightness" if drifts else "flickering-brightness",
            spread,
            OFFSET_SPREAD,
            f"The brightness of whole frames {what} (by {spread:.2g} of a pixel's noise): what is darker looks more "
            f"like a dark template. Subtract each frame's median"
            + ("; the detection test cannot bear drift." if drifts else "."),
        )
    spread = math.sqrt(max(0.0, float(np.nanvar(by_image)) - (2 + kurtosis) * repeats / pixels)) / max(
        np.nanmean(by_image), 1e-9
    )
    if num_images > 3 and spread > NOISE_SPREAD[0]:
        typical = np.nanmedian(by_image)
        unlike = np.flatnonzero((by_image > UNLIKE_NOISE**2 * typical) | (by_image < typical / UNLIKE_NOISE**2))
        named = f" ({listed([str(number) for number in unlike], MOST_LISTED)})" if unlike.size else ""
        yield _graded(
            "noise-by-frame",
            spread,
            NOISE_SPREAD,
            f"Some frames are noisier than others: {plural(len(unlike), 'frame')} of {num_images}{named} by more than "
            f"half. Noisy ones count too much; weights of one over each frame's variance mend that.",
        )


def evidence_remarks(located: Located, residuals: ResidualStatistics) -> Iterator[Remark]:
    """Frames that the model explains much worse than the rest, and structure that it explains in none of them."""
    counted = np.isfinite(residuals.by_image)
    edges = float(np.nanmedian(residuals.edges))
    if edges > WORST_WINDOW[0]:
        yield _graded(
            "unexplained-structure",
            edges,
            WORST_WINDOW,
            f"In a typical frame there is a window of the template's size in which the model leaves far more than "
            f"noise ({edges:.3g} standard deviations): the template may be elsewhere, larger, or not the only thing "
            f"that moves.",
        )
    evidence = np.asarray(located.log_evidence, np.float64)[counted]
    lowest = np.flatnonzero(counted)[outliers(evidence, residuals.by_pixel.size)]
    if len(lowest):
        named = listed([str(number) for number in lowest], MOST_LISTED)
        yield note(
            "unlike-frames",
            f"The model explains {plural(len(lowest), 'frame')} of {len(evidence)} much worse than the rest: {named}.",
            len(lowest) / len(evidence),
        )


def of_counted(located: Located, counted: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values of the frames that count and show a template."""
    return values[counted if located.present is None else counted & np.asarray(located.present)]


def _graded(code: str, effect: float, sizes: tuple[float, float], text: str) -> Remark:
    return (warning if effect > sizes[1] else note)(code, text, effect)
