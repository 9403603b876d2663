"""Single pixels and single lines of single frames, and pixels that are odd in all frames.

A template may be as bright as it likes, as small as 2 x 2 pixels, and as rare as it likes: what tells it from odd
pixels is that its pixels have each other for neighbours, that it looks alike wherever it is, and that it is no wider
than it is.
"""

from __future__ import annotations

import numpy as np

from jaxem.assess.robust import Typical, as_seen, some_frames

Shape = tuple[int, int]

# A pixel of a frame is off if it lies so many standard deviations from the typical frame, and far off at so many.
# Those of a template lie about a value, so that nearer ones tell of it.
A_LITTLE_OFF, OFF, NEARLY_FAR_OFF, FAR_OFF = 2.5, 4.0, 8.0, 12.0
# What the noise does at most, and how many times as far off as all of a template, and as what is next to it,
# no pixel of it is.
OFF_BY_CHANCE, OUTSHINES, OUTSHINES_BESIDE = 5.5, 3.0, 10.0
# Of a line that was lost so large a part is off, or shifted one way by so many standard deviations.
LOST_SHARE, SHIFTED = 0.85, 2.0
SHORTEST_LINE, FEWEST_LINES = 8, 4
LONGEST_TEMPLATE = 0.75  # of a line, or it is a lost line itself
# A line next to lost ones is whole if less than this part of it is off; so many lost ones may lie side by side.
WHOLE_SHARE, MOST_SIDE_BY_SIDE = 0.5, 2
MOST_BY_CHANCE = 0.5  # of the frames have a single pixel, and none has several: chance does not do that
# Far pixels of one value, within so many standard deviations, may be a template's brightest pixel: if there are so
# many, this part of all (more where the range is wider, as photons let it be), and of those three times as near.
ALIKE, FEWEST_ALIKE, ALIKE_SHARE, MOST_ALIKE_SHARE, HEAPED_SHARE = 6.0, 3, 0.05, 0.25, 0.7
# A pixel flickers if it is far off in so large a part of the frames, or varies so many times as much as those around.
OFTEN, FLICKER_RATIO, FEWEST_TO_FLICKER = 0.02, 6.0, 20
MOST_OF_ONE_VALUE = 0.3  # of the values of a pixel that flickers, within two standard deviations of the noise
# A pixel is hot or dead if in nearly all frames it stands out of the eight around it, in units of noise and of texture.
HOT, IN_NEARLY_ALL = 10.0, 0.98
FEWEST_TO_BE_CONSTANT, FEWEST_IN_STEPS = 4, 20
AROUND = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)]


def lost_lines(ratio: np.ndarray, template_side: int) -> np.ndarray:
    """Which rows of each frame were lost, (n, H): nearly all of each is off, and no template can do that.

    Args:
        ratio: (n, H, W), pixels less the typical frame and the brightness of theirs, in standard deviations; nan where
            not observed.
        template_side: width of the template. If two of them, where it is and where it mostly is, can cover
            a line, lines count only where those beside them are whole.
    """
    count, height, width = ratio.shape
    if width < SHORTEST_LINE or height < FEWEST_LINES or template_side > LONGEST_TEMPLATE * width:
        return np.zeros((count, height), bool)
    seen = np.isfinite(ratio).sum(axis=2)
    enough = seen >= max(SHORTEST_LINE, width / 4)
    off = (np.abs(ratio) > OFF).sum(axis=2) / np.maximum(seen, 1)
    one_way = np.maximum((ratio > SHIFTED).sum(axis=2), (ratio < -SHIFTED).sum(axis=2)) / np.maximum(seen, 1)
    lost = enough & (np.maximum(off, one_way) >= LOST_SHARE)
    if 2 * template_side < LOST_SHARE * width:
        return lost
    return lost & _flanked(lost, off < WHOLE_SHARE)


def _flanked(lost: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Which of the lost lines lie in groups of one or two with a whole line on either side."""
    found = np.zeros_like(lost)
    edge = ((0, 0), (1, 1))
    whole_around = np.pad(whole, edge, constant_values=True)
    for size in range(1, MOST_SIDE_BY_SIDE + 1):
        last = lost.shape[1] - size + 1
        group = np.all([lost[:, first : first + last] for first in range(size)], axis=0)
        group &= whole_around[:, :last] & whole_around[:, size + 1 : size + 1 + last]
        for first in range(size):
            found[:, first : first + last] |= group
    return found


def isolated(ratio: np.ndarray, shape: Shape, most_beside: int = 0) -> np.ndarray:
    """Frame, row and column of pixels far off while the eight around are not, (n, 3).

    Where something else is off within a template's size, the pixel may be a part of a template, unless it is far
    brighter than that.

    Args:
        ratio: (n, H, W), as for `lost_lines`.
        shape: (h, w) of the template.
        most_beside: how many of the eight may be off, too.
    """
    far = np.argwhere(np.abs(ratio) > NEARLY_FAR_OFF)
    if not len(far):
        return far
    height, width = ratio.shape[1:]
    beside, size = np.zeros(len(far), int), np.abs(ratio[tuple(far.T)])
    for down, right in AROUND:
        row, column = far[:, 1] + down, far[:, 2] + right
        inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        near = ratio[far[:, 0], row.clip(0, height - 1), column.clip(0, width - 1)]
        beside += inside & (np.abs(near) > np.maximum(OFF, size / OUTSHINES_BESIDE))
    far = far[beside <= most_beside]
    frames = np.unique(far[:, 0])
    rest = np.abs(np.nan_to_num(ratio[frames]))
    places = np.searchsorted(frames, far[:, 0]), far[:, 1], far[:, 2]
    sizes = rest[places]
    rest[places] = 0
    kept = np.ones(len(far), bool)
    for number, (frame, row, column) in enumerate(zip(*places, strict=True)):
        rows, columns = (slice(max(0, at - side + 1), at + side) for at, side in zip((row, column), shape, strict=True))
        brightest = rest[frame, rows, columns].max()
        kept[number] = brightest <= OFF_BY_CHANCE or sizes[number] > OUTSHINES * brightest
    return far[kept]


def without_templates(
    places: np.ndarray, values: np.ndarray, far: np.ndarray, shape: Shape, *, of_frames: bool = True
) -> np.ndarray:
    """Which of the isolated pixels are far off and can be no pixel of a template, (n,).

    A template that has one bright pixel, or a few, shows the same values wherever it is, all within its size. So pixels
    whose value many others have are spared, unless those of one frame lie farther apart than a template is large.

    Args:
        places: (n, 3), frame, row and column.
        values: (n,), in standard deviations of the noise.
        far: (n,), how far they lie from the typical frame, in the same unit.
        shape: (h, w) of the template.
        of_frames: whether templates are still there: they may be rare, and what is brighter may have more noise.
    """
    odd = np.ones(len(places), bool)
    left = np.argsort(values)
    all_ordered = values[left]
    widening = np.sqrt(np.maximum(1, np.abs(far) / NEARLY_FAR_OFF)) if of_frames else np.ones(len(far))
    shares = np.minimum(ALIKE_SHARE * widening, MOST_ALIKE_SHARE) if of_frames else np.full(len(far), MOST_ALIKE_SHARE)
    fewest = np.maximum(FEWEST_ALIKE, len(places) * shares)
    while len(left):
        ordered, width = values[left], ALIKE * widening[left]
        last = np.searchsorted(ordered, ordered + width, side="right")
        alike = last - np.arange(len(left))
        first = int(np.argmax(alike / fewest[left]))
        if alike[first] < fewest[left[first]]:
            break
        some = left[first : last[first]]
        ends = ordered[first] + width[first] * np.array([-1.0, 2.0])
        below, above = np.searchsorted(all_ordered, ends)
        ended = slice(first, last[first])
        if len(some) >= HEAPED_SHARE * (above - below) and not _too_far_apart(places[some], shape):
            ended = slice(*np.searchsorted(ordered, ends))  # with what lies in the tails
            odd[left[ended]] = False
        left = np.delete(left, ended)
    return odd & (np.abs(far) > FAR_OFF)


def one_a_frame(places: np.ndarray, num_frames: int, shape: Shape) -> bool:
    """Whether most frames have an isolated pixel and hardly one has two far apart: a template does that."""
    frames = len(np.unique(places[:, 0]))
    return frames > MOST_BY_CHANCE * num_frames and not _too_far_apart(places, shape)


def _too_far_apart(places: np.ndarray, shape: Shape) -> bool:
    frames, where, counts = np.unique(places[:, 0], return_inverse=True, return_counts=True)
    reach = np.zeros((len(frames), 2), int)
    for axis in (0, 1):
        highest, lowest = np.full(len(frames), -1), np.full(len(frames), 2**62)
        np.maximum.at(highest, where, places[:, 1 + axis])
        np.minimum.at(lowest, where, places[:, 1 + axis])
        reach[:, axis] = highest - lowest + 1
    several = counts > 1
    return bool(several.sum() >= 3 and (reach[several] > shape).any(axis=1).mean() > 0.5)


def often_off(places: np.ndarray, num_frames: int, typical: Typical) -> np.ndarray:
    """Pixels that are far off in many frames, (H, W)."""
    found = np.zeros(typical.level.shape, bool)
    if len(places):
        pixels, counts = np.unique(places[:, 1:], axis=0, return_counts=True)
        often = pixels[counts >= max(4, OFTEN * num_frames)]
        found[often[:, 0], often[:, 1]] = True
    return found


def restless(images: np.ndarray, weights: np.ndarray | None, typical: Typical, leave_out: np.ndarray) -> np.ndarray:
    """Pixels that vary much more than all around them, and not between two values as a template makes them, (H, W)."""
    found = np.zeros(typical.level.shape, bool)
    numbers = np.flatnonzero(~leave_out)
    if len(numbers) < FEWEST_TO_FLICKER:
        return found
    numbers = numbers[some_frames(len(numbers))]
    around = _around(typical.spread, -np.inf).max(axis=0)
    for row, column in np.argwhere(typical.spread > FLICKER_RATIO * np.maximum(around, typical.unit)):
        own = weights if weights is None or weights.ndim == 2 else weights[numbers]
        values = as_seen(images[numbers, row, column], None if own is None else own[..., row, column])
        near = np.abs(values - typical.level[row, column]) < 2 * typical.unit
        found[row, column] = near.mean() < MOST_OF_ONE_VALUE
    return found


def hot_or_dead(images: np.ndarray, weights: np.ndarray | None, typical: Typical, leave_out: np.ndarray) -> np.ndarray:
    """Pixels that in nearly all frames stand out of the eight around them, (H, W).

    A bright place of the background is no such pixel where a template hides it now and then.
    """
    level = typical.level
    found = np.zeros(level.shape, bool)
    if min(level.shape) < 3:
        return found
    around = _around(level, np.nan)
    rest = np.sort(around, axis=0)  # nan come last
    over, under = level - np.fmax.reduce(around), np.fmin.reduce(around) - level
    texture = np.nanmedian(np.abs(level - rest[3])) if np.isfinite(rest[3]).any() else 0.0
    least = HOT * max(typical.unit, 1.4826 * float(texture))
    numbers = np.flatnonzero(~leave_out)
    numbers = numbers[some_frames(len(numbers))]
    for row, column in np.argwhere((over > least) | (under > least)):
        part = slice(max(0, row - 1), row + 2), slice(max(0, column - 1), column + 2)
        own = weights if weights is None else weights[part] if weights.ndim == 2 else weights[numbers][:, *part]
        window = as_seen(images[numbers][:, *part], own)
        pixel = window[:, row - part[0].start, column - part[1].start].copy()
        window[:, row - part[0].start, column - part[1].start] = np.nan
        others = window.reshape(len(window), -1)
        with np.errstate(invalid="ignore"):
            stands = pixel > np.fmax.reduce(others, axis=1) if over[row, column] > 0 else None
            stands = pixel < np.fmin.reduce(others, axis=1) if stands is None else stands
        found[row, column] = stands.mean() >= IN_NEARLY_ALL
    return found


def _around(picture: np.ndarray, edge: float) -> np.ndarray:
    """The eight neighbours of each pixel, (8, H, W)."""
    height, width = picture.shape
    padded = np.pad(np.where(np.isfinite(picture), picture, edge), 1, constant_values=edge)
    return np.stack([padded[1 + i : 1 + i + height, 1 + j : 1 + j + width] for i, j in AROUND])


def is_constant(low: np.ndarray, high: np.ndarray, num_frames: int, noise: float, step: float) -> np.ndarray:
    """Pixels that never change although noise would let them, (H, W).

    Args:
        low: (H, W), the lowest value of each pixel.
        high: the highest.
        num_frames: K.
        noise: standard deviation of a pixel, pixel value.
        step: of the numbers.
    """
    fewest = FEWEST_IN_STEPS if step and noise < 3 * step else FEWEST_TO_BE_CONSTANT
    if num_frames < fewest or not noise > 0 or noise < step:
        return np.zeros(low.shape, bool)
    same: np.ndarray = low == high
    return same


def border(constant: np.ndarray) -> tuple[int, int, int, int] | None:
    """Row, column, height and width of what lies within constant bands at the edges; None where there are none."""
    rows, columns = np.any(~constant, axis=1), np.any(~constant, axis=0)
    if (rows.all() and columns.all()) or not rows.any():
        return None
    top, bottom = int(rows.argmax()), len(rows) - int(rows[::-1].argmax())
    left, right = int(columns.argmax()), len(columns) - int(columns[::-1].argmax())
    if (top, left) == (0, 0) and (bottom, right) == constant.shape:
        return None
    return top, left, bottom - top, right - left


def clipped_parts(constant: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Which of the constant pixels (H, W) lie together at an end of the range, where the sensor ends."""
    some = np.isfinite(low) & np.isfinite(high)
    if not constant.any() or not some.any():
        return np.zeros_like(constant)
    at_end = constant & ((low == low[some].min()) | (high == high[some].max()))
    return at_end & (_around(at_end.astype(float), 0.0).sum(axis=0) >= 3)
