"""Whether a template can be recovered at all: the contrast that it needs, and how many frames give it how precisely.

Nothing here looks at frames, or is compiled. Imports nothing slow. Source: ``docs/statistics.md``, *Recoverability*.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any, NamedTuple

from jaxem.runtime.arguments import as_count, as_positive, as_template_shape
from jaxem.runtime.errors import ArgumentTypeError
from jaxem.runtime.remarks import Remark, note, warning

# Contrast in units of ln(number of positions): what chance finds, and what it takes to be sure.
CHANCE_FACTOR, NEEDED_FACTOR = 2.0, 6.0


class Curve(NamedTuple):
    """A logistic curve in ln E: half of the searches succeed at share 2 ln PQ + added h w / K."""

    share: float
    added: float
    steepness: float


# Over textured and over flat backgrounds, and of smooth templates over smooth ones, by bench/recoverability.py. What it
# will be is not known before, so that the worst counts.
CURVES = (Curve(1.0, 3.1, 13.5), Curve(0.56, 10.0, 6.7), Curve(2.0, 0.57, 4.8))
SURE = 0.85  # of searches succeed at least, whatever the template looks like, where it is called recoverable
ERROR_EXPONENT = -0.85  # of the share of right places, in the error of a template over that at known places


class Verdict(StrEnum):
    """What to expect of a search."""

    RECOVERABLE = "recoverable"  # nearly all searches find the template
    DOUBTFUL = "doubtful"  # some do, and not all places that they find are right
    HOPELESS = "hopeless"  # the template cannot be told from what chance finds


class Recoverability(NamedTuple):
    """What a template of some contrast will give.

    ==================  =======================================================================================
    field               meaning, unit
    ==================  =======================================================================================
    contrast            E, the sum over the template of its squared differences from the background, in units of
                        the noise variance
    chance_contrast     2 ln(number of positions), what chance finds
    needed_contrast     with which nearly all searches succeed: 6 ln(number of positions), more of few frames
    probability         that a search finds the template, where so many frames are; where nobody said how many, of many
    right_places        share of the frames whose place will be right, if it does
    difference          root mean square difference of the template from its background, pixel value
    needed_difference   what it must be for `needed_contrast`, pixel value
    standard_error      of a pixel of the template, pixel value; NaN if nobody said how many frames
    num_images          that give the wanted precision, infinite if none do; NaN if none was wanted
    ==================  =======================================================================================
    """

    contrast: float
    chance_contrast: float
    needed_contrast: float
    probability: float
    right_places: float
    difference: float
    needed_difference: float
    standard_error: float
    num_images: float

    @property
    def verdict(self) -> Verdict:
        """What to expect of a search."""
        return _verdict(self.contrast, self.chance_contrast, self.needed_contrast)


def expect_recovery(
    image_shape: tuple[int, ...],
    template_shape: tuple[int, int],
    *,
    contrast: Any = None,
    difference: Any = None,
    noise_scale: Any = 1.0,
    num_images: int | None = None,
    precision: Any = None,
) -> Recoverability:
    """Whether a template can be recovered, before there are any frames of it.

        E = sum over the window of (F - B)^2 / s^2 = h w C difference^2 / s^2,   2 ln PQ by chance,   6 ln PQ needed

    Args:
        image_shape: (H, W), or (H, W, C) of frames with channels.
        template_shape: (h, w).
        contrast: E; or give `difference`.
        difference: root mean square difference of the template from the background behind it, pixel value.
        noise_scale: standard deviation of the noise, pixel value; by default pixel values are in units of it.
        num_images: K, for the standard error of the template; and a template of many pixels needs more contrast where
            frames are few.
        precision: a wanted standard error of a pixel of the template, pixel value, for the number of frames.

    Returns:
        `Recoverability`, of plain numbers; its `verdict` says what to expect.

    Raises:
        ValueError, TypeError: shapes that do not fit each other, numbers that are not positive, not just one of
            contrast and difference.

    Example:
        >>> import jaxem
        >>> expected = jaxem.expect_recovery((100, 120), (20, 20), difference=0.3, num_images=400)
        >>> str(expected.verdict), round(expected.contrast, 1), round(expected.needed_contrast, 1)
        ('doubtful', 36.0, 54.1)
        >>> jaxem.expect_recovery((100, 120), (20, 20), contrast=500, precision=0.05).num_images
        400.0

    Source: ``docs/statistics.md``, *Recoverability*.
    """
    height, width = as_template_shape(template_shape, image_shape)
    num_pixels = height * width * (image_shape[2] if len(image_shape) > 2 else 1)
    num_positions = (image_shape[0] - height + 1) * (image_shape[1] - width + 1)
    noise = as_positive("noise_scale", noise_scale)
    if (contrast is None) == (difference is None):
        raise ArgumentTypeError("contrast", "must be given, or difference in its place, and not both.")
    if contrast is None:
        contrast = num_pixels * (as_positive("difference", difference) / noise) ** 2
    contrast = as_positive("contrast", contrast)
    if num_images is not None:
        num_images = as_count("num_images", num_images, at_least=1)
    pixels_per_image = 0.0 if num_images is None else num_pixels / num_images
    chance, needed = _limits(num_positions, pixels_per_image)
    right = share_of_right_places(contrast, num_positions)
    inflation = right**ERROR_EXPONENT
    wanted = None if precision is None else as_positive("precision", precision)
    return Recoverability(
        contrast,
        chance,
        needed,
        probability_of_success(contrast, num_positions, pixels_per_image),
        right,
        noise * math.sqrt(contrast / num_pixels),
        noise * math.sqrt(needed / num_pixels),
        math.nan if num_images is None else inflation * noise / math.sqrt(num_images),
        math.nan if wanted is None else _whole((inflation * noise / wanted) ** 2),
    )


def recoverability_remarks(
    contrast: float, num_positions: int, *, template_size: int = 0, num_images: int | None = None
) -> list[Remark]:
    """What the contrast of a fit says of it: nothing where it is high enough.

    Args:
        contrast: of the fit, as in `jaxem.Diagnostics`.
        num_positions: hypotheses of a frame: corners, times templates and transforms.
        template_size: pixels of the template times channels. With `num_images`, what its noise adds to the contrast
            even at known places, `template_size` / `num_images`, is taken off, and more is needed of many pixels.
        num_images: K.

    Returns:
        At most one remark, whose effect is the contrast.

    Example:
        >>> from jaxem.assess.recoverability import recoverability_remarks
        >>> [remark.code for remark in recoverability_remarks(25.0, 441)], recoverability_remarks(50.0, 441)
        (['contrast-doubtful'], [])
    """
    pixels_per_image = template_size / num_images if num_images else 0.0
    chance, needed = _limits(num_positions, pixels_per_image)
    corrected = contrast - pixels_per_image
    verdict = _verdict(corrected, chance, needed)
    if verdict == Verdict.RECOVERABLE or not math.isfinite(contrast):
        return []
    of_noise = f", of which {pixels_per_image:.3g} is noise" if pixels_per_image else ""
    said = f"The template's contrast is {contrast:.3g}{of_noise}"
    if verdict == Verdict.HOPELESS:
        text = (
            f"{said}; chance finds {chance:.3g} among {num_positions} positions, so it cannot be told from what a "
            f"search finds in noise. About {needed:.3g} is needed: less noise, or a larger template."
        )
        return [warning("contrast-hopeless", text, contrast)]
    success = probability_of_success(corrected, num_positions, pixels_per_image)
    right = share_of_right_places(corrected, num_positions)
    text = (
        f"{said}, and {needed:.3g} is needed to be sure among {num_positions} positions: {100 * success:.0f} % or more "
        f"of searches find such a template, and then up to {100 * right:.0f} % of the places are right."
    )
    return [(warning if success < 0.5 else note)("contrast-doubtful", text, contrast)]


def probability_of_success(contrast: float, num_positions: float, pixels_per_image: float = 0.0) -> float:
    """How often searches find a template of such a contrast among so many positions, as measured.

    Args:
        contrast: E.
        num_positions: hypotheses of a frame.
        pixels_per_image: those of the template over the number of images.
    """
    if num_positions <= 1:
        return 1.0
    if not contrast > 0:
        return 0.0
    chance = CHANCE_FACTOR * math.log(num_positions)
    return min(
        1 / (1 + ((one.share * chance + one.added * pixels_per_image) / contrast) ** one.steepness) for one in CURVES
    )


def share_of_right_places(contrast: float, num_positions: float) -> float:
    """Of the frames, where the template was found, as measured: 1 - exp(-E / (2 ln PQ)); a smooth one has fewer."""
    if num_positions <= 1:
        return 1.0
    return max(1 / num_positions, 1 - math.exp(-max(contrast, 0.0) / (CHANCE_FACTOR * math.log(num_positions))))


def _limits(num_positions: int, pixels_per_image: float) -> tuple[float, float]:
    """The contrasts that chance finds, and that nearly all searches succeed with."""
    if num_positions <= 1:
        return 0.0, 0.0
    chance = CHANCE_FACTOR * math.log(num_positions)
    odds = SURE / (1 - SURE)
    sure = [(one.share * chance + one.added * pixels_per_image) * odds ** (1 / one.steepness) for one in CURVES]
    return chance, max(NEEDED_FACTOR / CHANCE_FACTOR * chance, *sure)


def _verdict(contrast: float, chance_contrast: float, needed_contrast: float) -> Verdict:
    if contrast >= needed_contrast:
        return Verdict.RECOVERABLE
    return Verdict.DOUBTFUL if contrast >= chance_contrast else Verdict.HOPELESS


def _whole(count: float) -> float:
    return float(math.ceil(count - 1e-9)) if math.isfinite(count) else count
