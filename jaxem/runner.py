"""What a search from the command line takes, and finding the template in the images afterwards."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxem.em import e_step
from jaxem.model import Params

LOCATE_PIXELS = 2**22


class Options(NamedTuple):
    """What a search takes besides the images; as for `jaxem.fit_restarts_parallel`."""

    template_shape: tuple[int, int]
    restarts: int | None = None
    seed: int = 0
    hard: bool = False
    prior_smoothing: float = 0.0
    max_iterations: int = 50
    tolerance: float = 1e-3
    plain: bool = False


def locate(images: np.ndarray, params: Params) -> np.ndarray:
    """The most probable corner of each image, (K, 2), a few million pixels at a time."""
    step = max(1, LOCATE_PIXELS // images[0].size)
    batches = (images[start : start + step] for start in range(0, len(images), step))
    return np.concatenate([np.asarray(e_step(batch, params, hard=True).corners) for batch in batches])
