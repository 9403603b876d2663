"""Frames and pixels that are unlike the rest, found by medians alone, without a model.

Source: ``docs/statistics.md``, *Odd frames and pixels*.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxem.assess import odd_pixels, odd_whole
from jaxem.assess.frame_stats import estimate_noise
from jaxem.assess.odd_remarks import Names, describe
from jaxem.assess.robust import Typical, frame_blocks, typical_frame
from jaxem.runtime.remarks import Remark

Shape = tuple[int, int]

MOST_EXCLUDED = 1 / 3  # of the frames: where more are odd there is no rest that they are unlike
MOST_LOST = 0.3  # of the lines of a frame; where more are lost, the frame is odd
MOST_FAR_OFF = 0.5  # of the pixels of a frame, among which no single ones are looked for
MOST_CONSTANT = 0.5  # of the pixels; where more never change, frames are like that
FEWEST_FRAMES = 4


class Findings(NamedTuple):
    """What is odd, by number and place.

    ==========  =================================================================================================
    field       meaning
    ==========  =================================================================================================
    frames      by kind, the numbers of odd frames and how odd each is
    why         what explains a frame, by its number
    copies      pairs of frames that are the same to the bit, the first such frame first
    pixels      (n, 3), frame, row and column of single pixels
    how_far     (n,), how far they are off, standard deviations
    rows        (n, 2), frame and row of lost ones
    columns     (n, 2), frame and column
    fixed       by kind, pixels that are odd in all frames, (H, W)
    inside      row, column, height and width of what lies within constant bands at the edges, or None
    ==========  =================================================================================================
    """

    frames: dict[str, dict[int, float]]
    why: dict[int, str]
    copies: list[tuple[int, int]]
    pixels: np.ndarray
    how_far: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    fixed: dict[str, np.ndarray]
    inside: tuple[int, int, int, int] | None


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
    flicker, are hot or dead, or never change. The time is linear in the number of pixels, which may be a file mapped into
    memory; nothing is compiled.

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
    height, width = images.shape[1:3]
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


def look(
    images: np.ndarray, weights: np.ndarray | None, template_shape: Shape | None, *, wrap: bool, leave_out: np.ndarray | None = None
) -> Findings:
    """What is odd in images (K, H, W).

    Args:
        images: pixel values, or what a model leaves of them.
        weights: (H, W) or (K, H, W), zero where a pixel does not count, or None.
        template_shape: (h, w), or None if it is not known.
        wrap: whether its windows go round the edges.
        leave_out: (K,), true for frames that are odd already, or None.
    """
    count, height, width = images.shape
    shape = template_shape or (max(1, height // 2), max(1, width // 2))
    none = np.zeros(count, bool) if leave_out is None else leave_out
    noise = estimate_noise(images)[0]
    typical = typical_frame(images, weights, noise, leave_out)
    constant, copies = odd_whole.repeated(images, typical.noise, typical.step)
    copies = [pair for pair in copies if not none[pair[1]]]
    out = none.copy()
    out[constant] = True
    brightness, roughness, apart = np.zeros((count, 3)), np.ones((count, 2)), np.zeros(count)
    pixels, values, rows, columns = [], [], [], []
    low, high = np.full((height, width), np.inf), np.full((height, width), -np.inf)
    if count >= FEWEST_FRAMES and typical.unit > 0:
        for start, block in frame_blocks(images, weights):
            some = slice(start, start + len(block))
            ratio = block - typical.level
            brightness[some], roughness[some] = odd_whole.measure(ratio / typical.unit, ratio / typical.scale)
            ratio -= np.nan_to_num(typical.unit * odd_whole.common_shift(brightness[some]))[:, None, None]
            ratio /= typical.scale
            off = np.abs(ratio) > odd_pixels.OFF
            lost_rows = odd_pixels.lost_lines(ratio, shape[1])
            lost_columns = odd_pixels.lost_lines(ratio.swapaxes(1, 2), shape[0])
            torn = (lost_rows.mean(axis=1) > MOST_LOST) | (lost_columns.mean(axis=1) > MOST_LOST)
            lost_rows[torn], lost_columns[torn] = False, False
            lost = lost_rows[:, :, None] | lost_columns[:, None, :]
            ratio[lost], off[lost] = np.nan, False
            crowded = off.mean(axis=(1, 2)) > MOST_FAR_OFF
            far = odd_pixels.isolated(np.where(crowded[:, None, None], 0, ratio), shape)
            seen = np.isfinite(ratio)
            off[tuple(far.T)] = seen[tuple(far.T)] = False
            apart[some] = odd_whole.unexplained(off, seen, shape, wrap=wrap)
            pixels.append(far + [start, 0, 0])
            values.append(np.stack([block[tuple(far.T)] / typical.unit, ratio[tuple(far.T)]], axis=1))
            rows.append(np.argwhere(lost_rows) + [start, 0])
            columns.append(np.argwhere(lost_columns) + [start, 0])
            kept = block[~out[some]]
            if len(kept):
                low, high = np.fmin(low, np.fmin.reduce(kept)), np.fmax(high, np.fmax.reduce(kept))
    measures = odd_whole.Measures(*(np.where(out.reshape(-1, *[1] * (m.ndim - 1)), np.nan, m) for m in (brightness, roughness, apart)))
    kinds = odd_whole.odd_by_measures(measures, height * width, known_shape=template_shape is not None, in_steps=typical.noise < 2 * typical.step)
    frames, why = _one_kind_each(kinds, images, weights, typical)
    frames["empty"] = dict.fromkeys(constant, 1.0)
    for numbers in frames.values():
        out[list(numbers)] = True
    pixels_found, far_found, blinking = _single_pixels(pixels, values, out, typical, shape)
    fixed, inside = _fixed_pixels(images, weights, typical, out, (low, high), blinking)
    some_fixed = np.any(list(fixed.values()), axis=0)
    single = ~some_fixed[tuple(pixels_found[:, 1:].T)]
    return Findings(
        frames,
        why,
        copies,
        pixels_found[single],
        far_found[single],
        *(_of_frames(np.concatenate(lines) if lines else np.zeros((0, 2), int), ~out) for lines in (rows, columns)),
        fixed,
        inside,
    )


def _of_frames(places: np.ndarray, kept: np.ndarray) -> np.ndarray:
    return places[kept[places[:, 0]]]


def _one_kind_each(
    kinds: dict[str, dict[int, float]], images: np.ndarray, weights: np.ndarray | None, typical: Typical
) -> tuple[dict[str, dict[int, float]], dict[int, str]]:
    """A frame is called dark or bright rather than unlike, displaced rather than noisy, noisy rather than unlike."""
    why: dict[int, str] = {}
    taken = {*kinds["dark"], *kinds["bright"]}
    for number in kinds["unlike"]:
        if number in taken:
            continue
        own = weights if weights is None or weights.ndim == 2 else weights[number : number + 1]
        frame = next(frame_blocks(images[number : number + 1], own))[1][0]
        reason = odd_whole.explain(frame, typical)
        if reason:
            why[number] = reason
    moved = {number: kinds["unlike"][number] for number in why}
    left = dict(kinds, moved=moved)
    found: dict[str, dict[int, float]] = {}
    taken = set()
    for kind in ("dark", "bright", "moved", "noisy", "unlike", "quiet"):
        found[kind] = {number: effect for number, effect in left[kind].items() if number not in taken}
        taken |= set(found[kind])
    return found, why


def _single_pixels(
    pixels: list[np.ndarray], values: list[np.ndarray], out: np.ndarray, typical: Typical, shape: Shape
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Single pixels of the frames that are kept, how far they are off, and pixels (H, W) that are among them often."""
    if not pixels:
        return np.zeros((0, 3), int), np.zeros(0), odd_pixels.often_off(np.zeros((0, 3), int), len(out), typical)
    places, numbers = np.concatenate(pixels), np.concatenate(values)
    kept = ~out[places[:, 0]]
    places, numbers = places[kept], numbers[kept]
    odd = odd_pixels.without_templates(places, *numbers.T, shape)
    places, far = places[odd], numbers[odd, 1]
    return places, far, odd_pixels.often_off(places, int((~out).sum()), typical)


def _fixed_pixels(
    images: np.ndarray,
    weights: np.ndarray | None,
    typical: Typical,
    out: np.ndarray,
    limits: tuple[np.ndarray, np.ndarray],
    blinking: np.ndarray,
) -> tuple[dict[str, np.ndarray], tuple[int, int, int, int] | None]:
    """Pixels that are odd in all frames by kind, and what lies within constant bands at the edges."""
    constant = odd_pixels.is_constant(*limits, int((~out).sum()), typical.noise, typical.step)
    if constant.mean() > MOST_CONSTANT:
        constant[:] = False
    bands, inside = np.zeros_like(constant), odd_pixels.border(constant)
    if inside is not None:
        bands = np.ones_like(constant)
        bands[inside[0] : inside[0] + inside[2], inside[1] : inside[1] + inside[3]] = False
    constant &= ~odd_pixels.clipped_parts(constant & ~bands, *limits)
    hot = np.zeros_like(constant)
    if len(images) >= FEWEST_FRAMES and typical.unit > 0 and not out.all():
        blinking |= odd_pixels.restless(images, weights, typical, out)
        hot = odd_pixels.hot_or_dead(images, weights, typical, out) & ~constant
    return {"bands": bands, "constant": constant & ~bands, "flickering": blinking & ~constant, "hot": hot & ~blinking}, inside


def join(all_findings: Sequence[Findings]) -> Findings:
    """What was found in each of several channels, together."""
    first = all_findings[0]
    if len(all_findings) == 1:
        return first
    frames: dict[str, dict[int, float]] = {kind: {} for kind in first.frames}
    taken: set[int] = set()
    for kind in frames:
        for findings in all_findings:
            for number, effect in findings.frames[kind].items():
                if number not in taken and abs(effect) > abs(frames[kind].get(number, 0)):
                    frames[kind][number] = effect
        taken |= set(frames[kind])
    places = np.concatenate([findings.pixels for findings in all_findings])
    pixels, where = np.unique(places, axis=0, return_inverse=True)
    how_far = np.zeros(len(pixels))
    np.maximum.at(how_far, where.ravel(), np.abs(np.concatenate([findings.how_far for findings in all_findings])))
    copies = [pair for pair in first.copies if all(pair in findings.copies for findings in all_findings)]
    return Findings(
        frames,
        {number: why for findings in all_findings for number, why in findings.why.items()},
        copies,
        pixels,
        how_far,
        np.unique(np.concatenate([findings.rows for findings in all_findings]), axis=0),
        np.unique(np.concatenate([findings.columns for findings in all_findings]), axis=0),
        {kind: np.any([findings.fixed[kind] for findings in all_findings], axis=0) for kind in first.fixed},
        first.inside if len({findings.inside for findings in all_findings}) == 1 else None,
    )

