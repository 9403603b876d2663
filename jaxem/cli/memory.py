"""What commands will need of memory, told before they need it. Imports no JAX."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

# Measured by ``bench/forecast.py``: Python, JAX and the compiled programs, and how often the stack is held in the
# precision of the fit, beside its own bytes.
BASE_BYTES, STACK_COPIES = 440e6, 2.0
# Of frames that are read a few at a time: those that are read, worked on and waiting.
STREAM_BYTES = 200e6
# Of images while they are drawn: templates pasted, noise, and their sum.
DRAWING_BYTES_PER_PIXEL = 20
TRUE = ("y", "yes", "t", "true", "on", "1")  # as JAX reads it from the environment


def fit_memory(shape: tuple[int, ...], dtype: np.dtype[Any]) -> float:
    """Peak of the process of ``jaxem fit`` with frames (K, H, W) or (K, H, W, C) in memory, bytes."""
    return BASE_BYTES + math.prod(shape) * _bytes_of_pixel(dtype)


def frames_in_memory(memory: float, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """How many frames (H, W) or (H, W, C) may be in memory, where others are read a few at a time beside them."""
    return max(0, int((memory - BASE_BYTES - STREAM_BYTES) / (math.prod(shape) * _bytes_of_pixel(dtype))))


def drawing_memory(num_images: int, image_shape: tuple[int, ...]) -> int:
    """What drawing so many images takes, bytes."""
    return DRAWING_BYTES_PER_PIXEL * num_images * math.prod(image_shape)


def _bytes_of_pixel(dtype: np.dtype[Any]) -> float:
    return dtype.itemsize + STACK_COPIES * _fit_itemsize(dtype)


def _fit_itemsize(dtype: np.dtype[Any]) -> int:
    """Bytes of a pixel in the precision of a fit: double where JAX is told to know it and the frames are no less."""
    in_double = os.environ.get("JAX_ENABLE_X64", "").lower() in TRUE
    return 8 if in_double and (dtype.kind != "f" or dtype.itemsize >= 8) else 4
