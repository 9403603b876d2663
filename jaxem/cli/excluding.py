"""Odd frames and pixels: named before a fit, left out of it where that was asked for, and looked for again after it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxem.assess.frame_remarks import noise_remarks
from jaxem.assess.odd_findings import Findings, join, look
from jaxem.assess.oddities import as_odd_frames
from jaxem.cli.display import Display
from jaxem.cli.observed import Observed
from jaxem.cli.odd_data import Looked, look_at, what_is_left_out
from jaxem.cli.requests import FitRequest
from jaxem.cli.text import warn
from jaxem.model.predict import reconstruct
from jaxem.runtime.remarks import Grade, Remark
from jaxem.search.restarts import Restarts

OF_RESIDUALS = ("noisy", "unlike")  # kinds of frames that what a model leaves can tell
LEAVE_OUT = "Leave out what is odd with --exclude-odd --mask-hot."
LOOK = "Look at the frames with jaxem info, and at the figure."


def look_before(observed: Observed, request: FitRequest, display: Display) -> Looked:
    """Look for what is odd before a fit, and say it."""
    looked = look_at(
        observed,
        request.template_shape,
        wrap=request.wrap,
        excludes=request.exclude_odd,
        masks=request.mask_hot,
    )
    tell(display, "odd", looked.odd.remarks)
    _tell_what_is_left_out(looked, display)
    return looked


def fit_again(
    looked: Looked, found: Restarts, request: FitRequest, display: Display, search: Callable[[dict[str, Any]], Restarts]
) -> tuple[Looked, Restarts]:
    """Look at what a fit leaves of the frames; where more is odd, search again without it.

    Args:
        looked: what was left out.
        found: the fit.
        request: of what.
        display: whom to tell.
        search: given what is to be left out, by arguments of `fit_restarts`, searches again.
    """
    if not looked.leaves_out:
        return looked, found
    images, weights, _ = looked.observed
    own = looked.odd.weights if looked.names.masks else weights
    findings = _odd_in_residuals(images, own, found, request, looked.odd.frame_weights == 0)
    more = as_odd_frames(findings, images.shape[:3], looked.odd.weights, looked.names)
    frames = looked.odd.frame_weights * more.frame_weights
    new_frames = looked.names.excludes and bool((frames != looked.odd.frame_weights).any())
    new_pixels = looked.names.masks and any(map(len, (findings.pixels, findings.rows, findings.columns)))
    if not (new_frames or new_pixels):
        return looked, found
    looked = looked._replace(odd=more._replace(frame_weights=frames))
    tell(display, "residuals", more.remarks)
    _tell_what_is_left_out(looked, display)
    return looked, search(looked.model({}))


def _odd_in_residuals(
    images: np.ndarray, weights: np.ndarray | None, found: Restarts, request: FitRequest, out: np.ndarray
) -> Findings:
    """What is odd in frames less what a model says of them."""
    best = found.best
    params, positions = jax.tree.map(np.asarray, best.params), jax.tree.map(np.asarray, best.positions)
    positions = positions._replace(corners=np.maximum(positions.corners, 0))
    rest: np.ndarray = np.empty(images.shape, np.float32)
    for number, clean in enumerate(reconstruct(positions, params, best.transforms)):
        rest[number] = images[number] - clean
    shape = request.template_shape
    channels = [rest] if rest.ndim == 3 else [rest[..., channel] for channel in range(rest.shape[3])]
    together = join([look(one, weights, shape, wrap=request.wrap, leave_out=out, residuals=True) for one in channels])
    frames: dict[str, dict[int, float]] = {
        kind: numbers if kind in OF_RESIDUALS else {} for kind, numbers in together.frames.items()
    }
    for numbers in frames.values():
        for number in np.flatnonzero(out).tolist():
            numbers.pop(number, None)
    nothing = {kind: np.zeros_like(places) for kind, places in together.fixed.items()}
    kept = (places[~out[places[:, 0]]] for places in (together.pixels, together.rows, together.columns))
    far = together.how_far[~out[together.pixels[:, 0]]]
    calm = np.full_like(together.brightness, np.nan)
    pixels, rows, columns = kept
    return Findings(frames, {}, [], pixels, far, rows, columns, nothing, None, calm, together.noise)


def noise_by_pixels(looked: Looked, found: Restarts, request: FitRequest) -> list[Remark]:
    """Whether the noise of a fit is more than that of single pixels."""
    if "noise_scale" in dict(request.fixed):
        return []
    images, weights, _ = looked.observed
    own = looked.odd.weights if looked.names.masks else weights
    kept = ~looked.excluded
    if not kept.all():
        images, own = images[kept], own if own is None or own.ndim == 2 else own[kept]
    remedy = LEAVE_OUT if looked.odd.remarks and not (looked.names.excludes and looked.names.masks) else LOOK
    return noise_remarks(np.asarray(found.best.params.noise_scale), images, own, remedy=remedy)


def _tell_what_is_left_out(looked: Looked, display: Display) -> None:
    lines = [f"{option} leaves out {what}" for option, what in what_is_left_out(looked)]
    if lines:
        numbers = looked.names.numbers
        assert numbers is not None
        frames = [numbers[number] for number in np.flatnonzero(looked.excluded).tolist()]
        display.note("left out", *lines, frames=frames)


def tell(display: Display, event: str, remarks: list[Remark]) -> None:
    """Say remarks: warnings beside what was asked for, notes among it, all of them for machines."""
    if remarks:
        notes = [f"note: {remark}" for remark in remarks if remark.grade is Grade.NOTE]
        display.note(event, *notes, remarks=[remark.facts() for remark in remarks])
        for remark in remarks:
            if remark.grade is Grade.WARNING:
                warn(str(remark))
