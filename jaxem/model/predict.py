"""A model at work on new images: where the template is in each, how surely, and what each shows without its noise.

Nothing here is learned, and nothing but a batch of images is held beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import jax
import numpy as np

from jaxem.model.checks import expect_one_rectangle
from jaxem.model.params import Params
from jaxem.model.whole_stack import e_step

PIXELS_PER_BATCH = 2**22


class Predictions(NamedTuple):
    """Where the template is in each image.

    ============  ============  ===================================================================
    field         shape         meaning, unit
    ============  ============  ===================================================================
    corners       (K, 2) int32  the most probable row and column of the window's upper left pixel
    log_evidence  (K,)          log density of each image, nats
    confidence    (K,)          posterior probability of that corner
    ============  ============  ===================================================================
    """

    corners: np.ndarray
    log_evidence: np.ndarray
    confidence: np.ndarray


def predict(images: np.ndarray, params: Params) -> Predictions:
    """The posterior of each image in short, a few million pixels at a time.

    Args:
        images: (K, H, W), pixel values; integers are promoted.
        params: the model.

    Returns:
        `Predictions`.

    Raises:
        ValueError, TypeError: shapes that do not fit each other.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> from jaxem.model.predict import predict
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> images, corners = jaxem.simulate(jax.random.key(0), truth, 10)
        >>> bool((predict(images, truth).corners == corners).all())
        True
    """
    expect_one_rectangle(params)
    step = min(len(images), max(1, PIXELS_PER_BATCH // images[0].size))
    params = jax.tree.map(np.asarray, params)
    found = []
    for start in range(0, len(images), step):
        # The last batch overlaps the one before, so that all are of one size and compiled once.
        begin = min(start, len(images) - step)
        probs, log_evidence, _ = jax.device_get(e_step(images[begin : begin + step], params))
        flat = probs.reshape(step, -1)
        best = flat.argmax(axis=1)
        corners = np.stack(np.unravel_index(best, probs.shape[1:]), axis=1).astype(np.int32)
        confidence = np.take_along_axis(flat, best[:, None], axis=1)[:, 0]
        found.append(tuple(part[start - begin :] for part in (corners, log_evidence, confidence)))
    return Predictions(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def reconstruct(corners: np.ndarray, params: Params) -> Iterator[np.ndarray]:
    """For each corner the background with the template pasted there, (H, W), pixel values.

    Args:
        corners: (K, 2), row and column.
        params: the model.
    """
    expect_one_rectangle(params)
    template, background = np.asarray(params.template), np.asarray(params.background)
    height, width = template.shape
    for row, column in corners:
        clean = background.copy()
        clean[row : row + height, column : column + width] = template
        yield clean
