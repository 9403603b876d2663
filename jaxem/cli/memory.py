"""What commands will need of memory, told before they need it. Imports no JAX."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np

# Measured by ``bench/forecast.py``: Python, JAX and the compiled programs, and how often the stack is held in the
# precision of the fit, beside its own bytes.
BASE_BYTES, STACK_COPIES = 440e6, 2.0
# Of images while they are drawn: templates pasted, noise, and their sum.
DRAWING_BYTES_PER_PIXEL = 20
TRUE = ("y", "yes", "t", "true", "on", "1")  # as JAX reads it from the environment


def fit_memory(images: np.ndarray) -> float:
    """Peak of the process of ``jaxem fit`` with these frames, bytes."""
    return BASE_BYTES + images.nbytes + STACK_COPIES * images.size * _fit_itemsize(images.dtype)


def drawing_memory(num_images: int, image_shape: tuple[int, ...]) -> int:
    """What drawing so many images takes, bytes."""
    return DRAWING_BYTES_PER_PIXEL * num_images * math.prod(image_shape)


def _fit_itemsize(dtype: np.dtype[Any]) -> int:
    """Bytes of a pixel in the precision of a fit: double where JAX is told to know it and the frames are no less."""
    in_double = os.environ.get("JAX_ENABLE_X64", "").lower() in TRUE
    return 8 if in_double and (dtype.kind != "f" or dtype.itemsize >= 8) else 4
