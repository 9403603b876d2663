"""What is odd in the frames that were chosen, and what of it a fit leaves out. Imports no JAX."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from jaxem.assess.frame_remarks import frame_warnings
from jaxem.assess.frame_stats import FrameStatistics
from jaxem.assess.odd_remarks import Names, left_out
from jaxem.assess.oddities import OddFrames, odd_frames
from jaxem.cli.display import Display
from jaxem.cli.observed import Observed
from jaxem.runtime.text import plural


class Looked(NamedTuple):
    """Frames that were looked at, and what of them is odd.

    ========  ============  =====================================================
    field     type          meaning
    ========  ============  =====================================================
    observed  `Observed`    the frames
    names     `Names`       what they are called, and what of them is left out
    odd       `OddFrames`   what is odd
    ========  ============  =====================================================
    """

    observed: Observed
    names: Names
    odd: OddFrames

    @property
    def excluded(self) -> np.ndarray:
        """(K,), true for frames that are left out."""
        return (self.odd.frame_weights == 0) & self.names.excludes

    @property
    def leaves_out(self) -> bool:
        """Whether anything may be left out."""
        return self.names.excludes or self.names.masks

    def model(self, model: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of a search, with what is left out."""
        options = dict(model)
        if self.names.excludes and self.excluded.any():
            options["frame_weights"] = self.odd.frame_weights
        if self.names.masks and self.odd.weights is not None:
            options["weights"] = self.odd.weights
        return options


def look_at(
    observed: Observed,
    template_shape: tuple[int, int] | None,
    *,
    wrap: bool = False,
    excludes: bool = False,
    masks: bool = False,
) -> Looked:
    """Look for odd frames and pixels in the frames that were chosen."""
    images, weights, part = observed
    names = Names(part.numbers[: len(images)], part.rows.start, part.columns.start, excludes, masks)
    return Looked(observed, names, odd_frames(images, weights, template_shape=template_shape, wrap=wrap, names=names))


def say_what_is_odd(
    observed: Observed, template_shape: tuple[int, int] | None, statistics: FrameStatistics, display: Display
) -> None:
    """What `jaxem info` says of odd frames and pixels, and of what a fit would leave out."""
    looked = look_at(observed, template_shape)
    remarks = frame_warnings(observed.images, statistics)
    if statistics.low < statistics.high:
        remarks += looked.odd.remarks
    left: dict[str, str] = {}
    if statistics.low < statistics.high:
        left = dict(what_is_left_out(looked._replace(names=looked.names._replace(excludes=True, masks=True))))
    display.note(
        "odd",
        *(f"{remark.grade}: {remark}" for remark in remarks),
        *(f"{option:14} leaves out {what}" for option, what in left.items()),
        remarks=[remark.facts() for remark in remarks],
        exclude_odd=left.get("--exclude-odd"),
        mask_hot=left.get("--mask-hot"),
    )


def what_is_left_out(looked: Looked) -> list[tuple[str, str]]:
    """For each of the options what it leaves out, in words, if it is something."""
    found = []
    odd, names = looked.odd, looked.names
    if looked.excluded.any():
        frames = plural(int(looked.excluded.sum()), "frame")
        found.append(("--exclude-odd", f"{frames} of {len(looked.excluded)} ({left_out(odd.excluded, names)})"))
    weights = looked.observed.weights
    if names.masks and odd.weights is not None:
        before = 1.0 if weights is None else float((weights > 0).mean())
        after = float((odd.weights > 0).mean())
        if after < before:
            found.append(("--mask-hot", f"{100 * (before - after):.3g} % of the pixels"))
    return found
