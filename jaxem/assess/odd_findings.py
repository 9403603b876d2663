"""What is odd in a stack, by number and place: all measures of frames and pixels taken in one pass, and put together.

Nothing here knows a model, and nothing is compiled.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxem.assess import odd_pixels, odd_whole
from jaxem.assess.frame_stats import estimate_noise
from jaxem.assess.robust import Typical, frame_blocks, mean_of, typical_frame

Shape = tuple[int, int]

MOST_LOST = 0.3  # of the lines of a frame; where more are lost, the frame is odd
MOST_FAR_OFF = 0.5  # of the pixels of a frame, among which no single ones are looked for
MOST_CONSTANT = 0.5  # of the pixels; where more never change, frames are like that
FEWEST_FRAMES = 4
FEWEST_FOR_SINGLE = 8  # frames: of fewer, medians hold parts of templates
SMALL_SIDE = 8  # pixels
MOST_BESIDE = 2  # pixels off around a single one, where templates have been taken off


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
    brightness  (2, K), how far the mean of each frame and all of it are above the typical one, pixel value; nan: odd
    noise       of a pixel, pixel value
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
    brightness: np.ndarray
    noise: float


def look(
    images: np.ndarray,
    weights: np.ndarray | None,
    template_shape: Shape | None,
    *,
    wrap: bool,
    leave_out: np.ndarray | None = None,
    residuals: bool = False,
) -> Findings:
    """What is odd in images (K, H, W).

    Args:
        images: pixel values, or what a model leaves of them.
        weights: (H, W) or (K, H, W), zero where a pixel does not count, or None.
        template_shape: (h, w), or None if it is not known.
        wrap: whether its windows go round the edges.
        leave_out: (K,), true for frames that are odd already, or None.
        residuals: whether templates have been taken off, so that single pixels may have others beside them.
    """
    count, height, width = images.shape
    shape = template_shape or (guessed_side(height), guessed_side(width))
    none = np.zeros(count, bool) if leave_out is None else leave_out
    noise = estimate_noise(images, weights)[0]
    typical = typical_frame(images, weights, noise, leave_out)
    constant, copies = odd_whole.repeated(images, typical.noise, typical.step)
    copies = [pair for pair in copies if not none[pair[1]]]
    out = none.copy()
    out[constant] = True
    seen_in = _pass_through(images, weights, typical, shape, wrap=wrap, out=out, residuals=residuals)
    measures = odd_whole.Measures(
        *(np.where(out.reshape(-1, *[1] * (one.ndim - 1)), np.nan, one) for one in seen_in.measures)
    )
    known, in_steps = template_shape is not None, typical.noise < 2 * typical.step
    kinds = odd_whole.odd_by_measures(measures, height * width, known_shape=known, in_steps=in_steps)
    frames, why = _one_kind_each(kinds, images, weights, typical)
    frames["empty"] = dict.fromkeys(constant, 1.0)
    for numbers in frames.values():
        out[list(numbers)] = True
    pixels, how_far = _single_pixels(seen_in, out, shape, residuals=residuals)
    blinking = odd_pixels.often_off(pixels, int((~out).sum()), typical)
    fixed, inside = _fixed_pixels(images, weights, typical, out, (seen_in.low, seen_in.high), blinking)
    single = ~np.any(list(fixed.values()), axis=0)[tuple(pixels[:, 1:].T)]
    rows, columns = (lines[~out[lines[:, 0]]] for lines in (seen_in.rows, seen_in.columns))
    shift = odd_whole.shift_of(measures)
    brightness = np.where(out, np.nan, typical.unit * np.stack([measures.mean, shift]))
    singles = pixels[single], how_far[single]
    return Findings(frames, why, copies, *singles, rows, columns, fixed, inside, brightness, typical.noise)


def guessed_side(size: int) -> int:
    """How large a template may be if nobody says: half of the frame, or all of a small one."""
    return max(size // 2, min(size, SMALL_SIDE))


class Seen(NamedTuple):
    """What one pass through the frames shows.

    ========  ==========  ==================================================================================
    field     shape       meaning
    ========  ==========  ==================================================================================
    measures  `Measures`  of each frame
    pixels    (n, 3)      frame, row and column of isolated pixels
    values    (n, 2)      what they are, and how far off, in standard deviations
    rows      (n, 2)      frame and row of lost ones
    columns   (n, 2)      frame and column
    low       (H, W)      lowest value of each pixel, inf where none was observed
    high      (H, W)      highest
    ========  ==========  ==================================================================================
    """

    measures: odd_whole.Measures
    pixels: np.ndarray
    values: np.ndarray
    rows: np.ndarray
    columns: np.ndarray
    low: np.ndarray
    high: np.ndarray


def _pass_through(
    images: np.ndarray,
    weights: np.ndarray | None,
    typical: Typical,
    shape: Shape,
    *,
    wrap: bool,
    out: np.ndarray,
    residuals: bool,
) -> Seen:
    count, height, width = images.shape
    measures = odd_whole.Measures(np.zeros(count), np.zeros((count, 3)), np.ones((count, 2)), np.zeros(count))
    pixels, values = [np.zeros((0, 3), int)], [np.zeros((0, 2))]
    rows, columns = [np.zeros((0, 2), int)], [np.zeros((0, 2), int)]
    low, high = np.full((height, width), np.inf), np.full((height, width), -np.inf)
    for start, block in frame_blocks(images, weights) if count >= FEWEST_FRAMES and typical.unit > 0 else ():
        some = slice(start, start + len(block))
        ratio = block - typical.level
        brightness, roughness = odd_whole.measure(ratio / typical.unit, ratio / typical.scale)
        measures.mean[some] = mean_of(ratio) / typical.unit
        measures.brightness[some], measures.roughness[some] = brightness, roughness
        ratio -= np.nan_to_num(typical.unit * odd_whole.common_shift(brightness))[:, None, None]
        ratio /= typical.scale
        lost_rows = odd_pixels.lost_lines(ratio, shape[1])
        lost_columns = odd_pixels.lost_lines(ratio.swapaxes(1, 2), shape[0])
        torn = (lost_rows.mean(axis=1) > MOST_LOST) | (lost_columns.mean(axis=1) > MOST_LOST)
        lost_rows[torn], lost_columns[torn] = False, False
        ratio[lost_rows[:, :, None] | lost_columns[:, None, :]] = np.nan
        off, seen = np.abs(ratio) > odd_pixels.A_LITTLE_OFF, np.isfinite(ratio)
        crowded = (np.abs(ratio) > odd_pixels.OFF).mean(axis=(1, 2)) > MOST_FAR_OFF
        hides = crowded | (count < FEWEST_FOR_SINGLE and not residuals)
        far = odd_pixels.isolated(np.where(hides[:, None, None], 0, ratio), shape, MOST_BESIDE if residuals else 0)
        places = tuple(far.T)
        off[places] = seen[places] = False
        measures.unexplained[some] = odd_whole.unexplained(off, seen, shape, wrap=wrap)
        values.append(np.stack([block[places] / typical.unit, ratio[places]], axis=1))
        pixels.append(far + np.array([start, 0, 0]))
        rows.append(np.argwhere(lost_rows) + np.array([start, 0]))
        columns.append(np.argwhere(lost_columns) + np.array([start, 0]))
        kept = block[~out[some]]
        if len(kept):
            low, high = np.fmin(low, np.fmin.reduce(kept)), np.fmax(high, np.fmax.reduce(kept))
    found = np.concatenate(pixels), np.concatenate(values), np.concatenate(rows), np.concatenate(columns)
    return Seen(measures, *found, low, high)


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


def _single_pixels(seen: Seen, out: np.ndarray, shape: Shape, *, residuals: bool) -> tuple[np.ndarray, np.ndarray]:
    """Single pixels of the frames that are kept, and how far they are off."""
    kept = ~out[seen.pixels[:, 0]]
    places, (values, far) = seen.pixels[kept], seen.values[kept].T
    odd = odd_pixels.without_templates(places, values, far, shape, of_frames=not residuals)
    if not residuals and odd_pixels.one_a_frame(places, int((~out).sum()), shape):
        odd &= np.abs(far) > odd_pixels.OUTSHINES * np.quantile(np.abs(far), 0.9)
    return places[odd], far[odd]


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
    blinking &= ~constant
    return {"bands": bands, "constant": constant & ~bands, "flickering": blinking, "hot": hot & ~blinking}, inside


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
    varies = [np.nan_to_num(np.nanstd(one.brightness[0]) / one.noise if one.noise else 0) for one in all_findings]
    worst = all_findings[int(np.argmax(varies))]
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
        worst.brightness,
        worst.noise,
    )
