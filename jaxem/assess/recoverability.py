"""Whether a template can be recovered at all: the contrast that it needs, and how many frames give it how precisely.

Nothing here looks at frames, or is compiled. Imports nothing slow. Source: ``docs/statistics.md``, *Recoverability*.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np

from jaxem.runtime.arguments import as_count, as_positive, as_template_shape
from jaxem.runtime.errors import ArgumentTypeError
from jaxem.runtime.remarks import Remark, note, warning

# Contrast in units of ln(number of positions): what chance finds, and what nearly all searches succeed with.
CHANCE_FACTOR, NEEDED_FACTOR = 2.0, 6.0
# By bench/recoverability.py: half of the searches succeed at MIDDLE times what chance finds, and their odds rise with
# the contrast to the power of STEEPNESS.
MIDDLE, STEEPNESS = 1.5, 10.0


class Verdict(StrEnum):
    """What to expect of a search."""

    RECOVERABLE = "recoverable"  # nearly all searches find the template
    DOUBTFUL = "doubtful"  # some do, and not all that they find is right
    HOPELESS = "hopeless"  # the template cannot be told from what chance finds


class Recoverability(NamedTuple):
    """What a template of some contrast will give.

    ==================  =======================================================================================
    field               meaning, unit
    ==================  =======================================================================================
    contrast            E, the sum over the template of its squared differences from the background, in units of
                        the noise variance
    chance_contrast     2 ln(number of positions), what chance finds
    needed_contrast     6 ln(number of positions), with which nearly all searches succeed
    probability         that a search finds the template
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
        return _verdict(self.contrast, self.chance_contrast)


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
        num_images: K, for the standard error of the template.
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
        >>> jaxem.expect_recovery((100, 120), (20, 20), contrast=100, precision=0.05).num_images
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
    chance, needed = (factor * math.log(num_positions) for factor in (CHANCE_FACTOR, NEEDED_FACTOR))
    inflation = _inflation(contrast, num_positions)
    if num_images is not None:
        num_images = as_count("num_images", num_images, at_least=1)
    wanted = None if precision is None else as_positive("precision", precision)
    return Recoverability(
        contrast,
        chance,
        needed,
        probability_of_success(contrast, num_positions),
        share_of_right_places(contrast, num_positions),
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
        template_size: pixels of the template times channels: even at known places their noise adds `template_size` /
            `num_images` to the contrast; zero where that has been taken off.
        num_images: K.

    Returns:
        At most one remark, whose effect is the contrast.

    Example:
        >>> from jaxem.assess.recoverability import recoverability_remarks
        >>> [remark.code for remark in recoverability_remarks(25.0, 441)], recoverability_remarks(50.0, 441)
        (['contrast-doubtful'], [])
    """
    corrected = contrast - (template_size / num_images if num_images else 0.0)
    chance, needed = (factor * math.log(max(num_positions, 1)) for factor in (CHANCE_FACTOR, NEEDED_FACTOR))
    verdict = _verdict(corrected, chance)
    if verdict == Verdict.RECOVERABLE or not math.isfinite(contrast):
        return []
    own_noise = f", of which {contrast - corrected:.3g} is noise" if corrected < contrast else ""
    said = f"The template's contrast is {contrast:.3g}{own_noise}"
    if verdict == Verdict.HOPELESS:
        text = (
            f"{said}; chance finds {chance:.3g} among {num_positions} positions, so it cannot be told from what a "
            f"search finds in noise. About {needed:.3g} is needed: less noise, or a larger template."
        )
        return [warning("contrast-hopeless", text, contrast)]
    success, right = probability_of_success(corrected, num_positions), share_of_right_places(corrected, num_positions)
    text = (
        f"{said}, and {needed:.3g} is needed to be sure among {num_positions} positions: about {100 * success:.0f} % "
        f"of searches find such a template, and then {100 * right:.0f} % of the places are right at best."
    )
    return [(warning if success < 0.5 else note)("contrast-doubtful", text, contrast)]


def probability_of_success(contrast: float, num_positions: float) -> float:
    """How often searches find a template of such a contrast among so many positions: measured, a logistic curve."""
    if num_positions <= 1:
        return 1.0
    if not contrast > 0:
        return 0.0
    relative = contrast / (CHANCE_FACTOR * math.log(num_positions))
    return 1 / (1 + (MIDDLE / relative) ** STEEPNESS)


def share_of_right_places(contrast: float, num_positions: float) -> float:
    """How often the right one of so many positions has the highest evidence where the template is known.

    Its log odds are E / 2 + sqrt(E) z_0, those of the others - E / 2 + sqrt(E) z_i, with independent normal z:
    the integral of phi(z) Phi(z + sqrt(E))^(PQ - 1).
    """
    if not contrast > 0:
        return 1 / num_positions
    z = np.linspace(-8, 8, 1601)
    density = np.exp(-(z**2) / 2)
    below = np.array([math.erfc(-(value + math.sqrt(contrast)) / math.sqrt(2)) / 2 for value in z.tolist()])
    return float((density * below ** (num_positions - 1)).sum() / density.sum())


def _verdict(contrast: float, chance_contrast: float) -> Verdict:
    if contrast >= chance_contrast * NEEDED_FACTOR / CHANCE_FACTOR:
        return Verdict.RECOVERABLE
    return Verdict.DOUBTFUL if contrast >= chance_contrast else Verdict.HOPELESS


def _inflation(contrast: float, num_positions: int) -> float:
    """The standard error of a template's pixel over that at known places: frames whose place is lost tell nothing."""
    right = share_of_right_places(contrast, num_positions)
    return 1 / math.sqrt(right) if right > 0 else math.inf


def _whole(count: float) -> float:
    return float(math.ceil(count - 1e-9)) if math.isfinite(count) else count
