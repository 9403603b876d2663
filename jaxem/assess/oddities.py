"""Frames and pixels that are unlike the rest, found by medians alone, without a model.

Source: ``docs/statistics.md``, *Odd frames and pixels*.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxem.assess.odd_findings import Findings, Shape, join, look
from jaxem.assess.odd_remarks import Names, describe
from jaxem.ops.printing import short_repr
from jaxem.runtime.remarks import Remark

MOST_EXCLUDED = 1 / 3  # of the frames: where more are odd there is no rest that they are unlike


class OddFrames(NamedTuple):
    """What of a stack should not count.

    =============  ========================  =========================================================================
    field          shape                     meaning
    =============  ========================  =========================================================================
    frame_weights  (K,) float32              zero for odd frames, else one
    weights        (H, W) or (K, H, W)       zero for odd pixels, in the frames where they are odd, else what was
                   float32, or None          given; None: nothing was given, and none is odd
    remarks        list                      what is odd, what it does to a result, and what to do
    findings       `Findings`                the same by number and place
    =============  ========================  =========================================================================
    """

    frame_weights: np.ndarray
    weights: np.ndarray | None
    remarks: list[Remark]
    findings: Findings

    def __repr__(self) -> str:
        return short_repr(self)

    @property
    def excluded(self) -> np.ndarray:
        """Numbers of the odd frames."""
        return np.flatnonzero(self.frame_weights == 0)


def odd_frames(
    images: np.ndarray,
    weights: np.ndarray | None = None,
    *,
    template_shape: Shape | None = None,
    wrap: bool = False,
    names: Names | None = None,
) -> OddFrames:
    """Find frames and pixels that are unlike the rest, and that would spoil a fit; a moving template is none of them.

    Everything is compared with the median over frames, in units of the noise. Odd are frames that are dark, bright,
    empty, copies, displaced or turned, noisier or quieter than the rest, or unlike it outside of any two windows of
    the template's size; single pixels of single frames; rows and columns lost in single frames; and pixels that
    flicker, are hot or dead, or never change. The time is linear in the number of pixels, which may be a
    file mapped into memory; nothing is compiled.

    Args:
        images: (K, H, W) or (K, H, W, C), pixel values; NaN is missing.
        weights: (H, W) or (K, H, W), zero where a pixel does not count.
        template_shape: (h, w); by default half of each side of the images, which tells less.
        wrap: whether windows may go round the edges.
        names: how frames and pixels are called in remarks; by default by their numbers.

    Returns:
        `OddFrames`; give its `frame_weights` and `weights` to `jaxem.fit_restarts`.

    Raises:
        ValueError: shapes that do not fit.

    Example:
        >>> import numpy as np, jaxem
        >>> images = 100 + np.random.default_rng(0).normal(size=(50, 20, 24))
        >>> images[7], images[30, 4, 5] = 3, 5000
        >>> found = jaxem.odd_frames(images)
        >>> found.excluded, np.argwhere(found.weights == 0)
        (array([7]), array([[30,  4,  5]]))

    Source: ``docs/statistics.md``, *Odd frames and pixels*.
    """
    images = np.asarray(images) if not isinstance(images, np.ndarray) else images
    if images.ndim not in (3, 4) or 0 in images.shape:
        raise ValueError(f"images must be (K, H, W) or (K, H, W, C), but their shape is {images.shape}.")
    weights = None if weights is None else np.asarray(weights)
    if weights is not None and weights.shape not in (images.shape[:3], images.shape[1:3]):
        raise ValueError(f"weights must be (H, W) or (K, H, W), but their shape is {weights.shape}.")
    channels = [images] if images.ndim == 3 else [images[..., channel] for channel in range(images.shape[3])]
    findings = join([look(channel, weights, template_shape, wrap=wrap) for channel in channels])
    return as_odd_frames(findings, images.shape[:3], weights, names)


def as_odd_frames(
    findings: Findings,
    shape: Sequence[int],
    weights: np.ndarray | None,
    names: Names | None = None,
) -> OddFrames:
    """What findings in images (K, H, W) mean for weights, and in words."""
    count, height, width = shape
    frame_weights = np.ones(count, np.float32)
    copied = [later for _, later in findings.copies]
    odd = sorted({number for numbers in findings.frames.values() for number in numbers})
    if len(odd) <= MOST_EXCLUDED * count:
        frame_weights[odd] = 0
    frame_weights[copied] = 0
    fixed = np.any([*findings.fixed.values(), np.zeros((height, width), bool)], axis=0)
    single = len(findings.pixels) + len(findings.rows) + len(findings.columns)
    own: np.ndarray | None = None if weights is None else weights.astype(np.float32)
    if single or fixed.any():
        own = np.ones((height, width), np.float32) if own is None else own
        own = np.broadcast_to(own, shape).copy() if single and own.ndim == 2 else own
        own[..., fixed] = 0
        if single:
            own[tuple(findings.pixels.T)] = 0
            own[findings.rows[:, 0], findings.rows[:, 1]] = 0
            own[findings.columns[:, 0], :, findings.columns[:, 1]] = 0
    excluded = len(odd) <= MOST_EXCLUDED * count
    remarks = describe(findings, (count, height, width), names or Names(), excluded=excluded)
    return OddFrames(frame_weights, own, remarks, findings)
