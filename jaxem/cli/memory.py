"""What commands will need of memory, told before they need it. Imports no JAX."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

from jaxem.runtime.errors import ArgumentValueError
from jaxem.runtime.resources import CHUNK_BYTES, CHUNKS_AHEAD, available_cores
from jaxem.runtime.text import bytes_in_words

# Measured by ``bench/forecast.py``: Python, JAX and the compiled programs, and how often the stack is held in the
# precision of the fit, beside its own bytes.
BASE_BYTES, STACK_COPIES = 440e6, 2.0
# Of frames that are read a few at a time, how often what each core works on and what is read ahead is held.
CHUNK_COPIES = 3.0
CONTINUED_COPIES = 3.0  # of frames continued at the edges, with their transforms
WEIGHT_BYTES = 9.0  # of a pixel whose weight is its own: whether it was observed, its weight, and a copy of that
# Of images while they are drawn: templates pasted, noise, and their sum.
DRAWING_BYTES_PER_PIXEL = 20
FOUND_BYTES = 500.0  # of what is found of each frame, with copies on the way to files
LOOKED_AT_SHARE = 0.4  # of what is free, for frames that are only looked at
TRUE = ("y", "yes", "t", "true", "on", "1")  # as JAX reads it from the environment


def fit_memory(shape: tuple[int, ...], dtype: np.dtype[Any], *, has_weights: bool = False) -> float:
    """Peak of the process of ``jaxem fit`` with frames in memory, bytes.

    Args:
        shape: (K, H, W) or (K, H, W, C).
        dtype: of the pixels.
        has_weights: whether each frame has weights of its own.
    """
    return BASE_BYTES + shape[0] * _bytes_of_frame(shape[1:], dtype, has_weights)


def passes_memory(num_images: int, shape: tuple[int, ...], dtype: np.dtype[Any], *, has_weights: bool = False) -> float:
    """The same where so many frames (H, W) or (H, W, C) are in memory, and others are read a few at a time."""
    of_two = 2 * math.prod(shape) * _fit_itemsize(dtype)  # which share a transform
    chunks = CHUNK_COPIES * (available_cores() + CHUNKS_AHEAD) * max(CHUNK_BYTES, of_two)
    return BASE_BYTES + chunks + num_images * _bytes_of_frame(shape, dtype, has_weights)


def frames_in_memory(memory: float, shape: tuple[int, ...], dtype: np.dtype[Any], *, has_weights: bool = False) -> int:
    """How many frames may be in memory then, where so many bytes may be used."""
    left = memory - passes_memory(0, shape, dtype)
    return max(0, int(left / _bytes_of_frame(shape, dtype, has_weights)))


def expect_room_for_results(memory: int, num_images: int) -> None:
    """Find out before the work whether what is found of so many frames has room, of however many a file tells.

    Raises:
        ArgumentValueError: it has not.
    """
    needed = FOUND_BYTES * num_images
    if needed > memory:
        takes = f"what is found of {num_images} frames takes {bytes_in_words(round(needed))}"
        raise ArgumentValueError("memory", f"of {bytes_in_words(memory)} is too little: {takes}; choose fewer of them.")


def expect_room_to_read(memory: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Find out before the work whether a few frames of a stack of this shape at a time have room.

    Raises:
        ArgumentValueError: they have not.
    """
    needed = passes_memory(0, shape[1:], dtype)
    if needed > memory:
        takes = f"a few frames at a time take {bytes_in_words(round(needed))}, with what JAX itself takes"
        raise ArgumentValueError("memory", f"of {bytes_in_words(memory)} is too little: {takes}.")


def frames_to_size(
    memory: float,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    margin: tuple[int, int],
    *,
    has_weights: bool = False,
) -> int:
    """How many frames (H, W) or (H, W, C) ``jaxem size`` may have in memory, where so many bytes may be used.

    Args:
        memory: bytes.
        shape: of a frame.
        dtype: of the pixels.
        margin: by how much larger the largest template is than the smallest, by which all frames are continued.
        has_weights: whether each frame has weights of its own.
    """
    itemsize, continued = _fit_itemsize(dtype), (shape[0] + margin[0], shape[1] + margin[1], *shape[2:])
    own = math.prod(shape) * (dtype.itemsize + itemsize) + math.prod(continued) * CONTINUED_COPIES * itemsize
    own += WEIGHT_BYTES * math.prod(continued[:2]) if has_weights else 0
    return max(0, int((memory - BASE_BYTES) / own))


def frames_to_look_at(memory: float, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """How many frames (H, W) or (H, W, C) may be read to be looked at, where nothing is fitted."""
    return int(LOOKED_AT_SHARE * memory / (math.prod(shape) * dtype.itemsize))


def _bytes_of_frame(shape: tuple[int, ...], dtype: np.dtype[Any], has_weights: bool) -> float:
    weights = WEIGHT_BYTES * math.prod(shape[:2]) if has_weights else 0
    return math.prod(shape) * (dtype.itemsize + STACK_COPIES * _fit_itemsize(dtype)) + weights


def drawing_memory(num_images: int, image_shape: tuple[int, ...]) -> int:
    """What drawing so many images takes, bytes."""
    return DRAWING_BYTES_PER_PIXEL * num_images * math.prod(image_shape)


def _fit_itemsize(dtype: np.dtype[Any]) -> int:
    """Bytes of a pixel in the precision of a fit: double where JAX is told to know it and the frames are no less."""
    in_double = os.environ.get("JAX_ENABLE_X64", "").lower() in TRUE
    return 8 if in_double and (dtype.kind != "f" or dtype.itemsize >= 8) else 4
