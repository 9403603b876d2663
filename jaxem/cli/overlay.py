"""Frames with a box around what was found in them, to be looked at as a video or pictures."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np

from jaxem.cli.applied import AppliedFrames
from jaxem.model.params import Positions
from jaxem.plots.pictures import Palette, as_picture

SMALLEST_SIDE = 240  # pixels of the screen, to which small frames are enlarged by whole numbers
FARTHEST_SHARE = 0.002  # of the pixels at either end, which one black and one white stand for
MOST_PIXELS_LOOKED_AT, FEWEST_LOOKED_AT = 2**22, 32  # pixels of all frames together, frames
SURE, UNSURE = (230, 159, 0), (86, 180, 233)  # orange and sky blue, which everybody can tell apart
SURE_CONFIDENCE = 0.9


def overlay(
    frames: AppliedFrames, positions: Positions, confidence: np.ndarray, template_shape: tuple[int, int]
) -> tuple[Iterator[np.ndarray], tuple[int, ...]]:
    """Frames in colour, enlarged if they are small.

    Args:
        frames: to draw into.
        positions: of the template in each.
        confidence: (K,), of its place; boxes of those above `SURE_CONFIDENCE` are orange, others blue.
        template_shape: (h, w), of the boxes.

    Returns:
        An iterator over (H', W', 3) uint8, and the shape of all, (K, H', W', 3).
    """
    count, height, width = frames.shape[:3]
    scale = max(1, -(-SMALLEST_SIDE // min(height, width))) if min(height, width) > 1 else 1
    palette = _palette(frames)
    corners = np.asarray(positions.corners)

    def drawn() -> Iterator[np.ndarray]:
        for image, corner, sure in zip(frames.in_order(), corners, np.asarray(confidence), strict=True):
            shade = np.rint(255 * as_picture(image, palette)[..., :3]).astype(np.uint8)
            picture = shade.repeat(scale, axis=0).repeat(scale, axis=1)
            if (corner >= 0).all():
                _outline(picture, corner, template_shape, scale, SURE if sure > SURE_CONFIDENCE else UNSURE)
            yield picture

    return drawn(), (count, height * scale, width * scale, 3)


def _palette(frames: AppliedFrames) -> Palette:
    """From nearly the lowest to nearly the highest of some pixel values of some frames, evenly spaced."""
    size = math.prod(frames.shape[1:])
    count = min(frames.shape[0], max(FEWEST_LOOKED_AT, MOST_PIXELS_LOOKED_AT // size))
    step = max(1, count * size // MOST_PIXELS_LOOKED_AT)
    numbers = np.linspace(0, frames.shape[0] - 1, count).astype(int).tolist()
    some = np.stack([frames.frame(number).reshape(-1)[::step] for number in numbers])
    some = some[np.isfinite(some)]
    if not some.size:
        return Palette(0.0, 1.0)
    low, high = np.quantile(some, [FARTHEST_SHARE, 1 - FARTHEST_SHARE])
    return Palette(float(low), float(high))


def _outline(
    picture: np.ndarray, corner: np.ndarray, template_shape: tuple[int, int], scale: int, colour: tuple[int, int, int]
) -> None:
    """The border of a window, one of the frame's pixels wide at most, going on at the other side where it must."""
    (row, column), (height, width) = corner * scale, np.array(template_shape) * scale
    rows, columns = np.arange(row, row + height), np.arange(column, column + width)
    thick = max(1, scale // 2)
    rows, columns = rows % picture.shape[0], columns % picture.shape[1]
    for some_rows in (rows[:thick], rows[-thick:]):
        picture[np.ix_(some_rows, columns)] = colour
    for some_columns in (columns[:thick], columns[-thick:]):
        picture[np.ix_(rows, some_columns)] = colour
