"""Fits of templates of many sizes by one compiled program, and how well each explains the frames.

All sizes are supports inside one window of the largest size. So that a smaller rectangle reaches all corners that it
would have as a template of its own, the frames are continued by pixels that were not observed, and the prior is held:
uniform on those corners, zero elsewhere. Source: ``docs/statistics.md``, *Size of the template*.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxem.model.frames import Frames, as_frames
from jaxem.model.params import Params
from jaxem.model.whole_stack import log_likelihood
from jaxem.ops.windows import Shape, positions_shape
from jaxem.search.parallel import fit_restarts_parallel
from jaxem.search.restarts import Restarts

PIXELS_PER_BATCH = 2**22


class SizedFit(NamedTuple):
    """How a template of one size explains the frames.

    ==============  ======  ====================================================================================
    field           shape   meaning, unit
    ==============  ======  ====================================================================================
    shape           (2,)    height and width
    log_likelihood  (K,)    of each frame, also of those that were not fitted, with one prior probability for all
                            corners of all sizes, nats
    touching        ()      share of the fitted frames in which the template is at an edge of the frame
    ==============  ======  ====================================================================================
    """

    shape: Shape
    log_likelihood: np.ndarray
    touching: float


class SizedFits:
    """Fits of templates up to a size to the same frames; not to be traced.

    Args:
        key: random key; every fit begins from it.
        images: (K, H, W) or (K, H, W, C), pixel values.
        smallest: height and width that no template is below.
        largest: and that none is above.
        weights: of the pixels, as for `jaxem.fit_restarts`.
        absent: whether a frame may show no template.
        num_restarts: as for `jaxem.fit_restarts`.

    Raises:
        ValueError, TypeError: shapes or dtypes that do not fit.
    """

    def __init__(
        self,
        key: jax.Array,
        images: Any,
        smallest: Shape,
        largest: Shape,
        *,
        weights: Any = None,
        absent: bool = False,
        num_restarts: int | None = None,
    ) -> None:
        frames = as_frames(images, weights)
        self.key, self.largest, self.num_restarts = key, largest, num_restarts
        self.image_shape, self.num_images = frames.image_shape, frames.num_images
        self.num_corners = np.prod(positions_shape(self.image_shape, smallest))
        self.absent = self._share_absent(frames) if absent else None
        self.images, self.weights = _continue(frames, (largest[0] - smallest[0], largest[1] - smallest[1]))

    def fit(self, shape: Shape, fitted: np.ndarray | None = None) -> SizedFit:
        """Fit a template of one size to all frames, or to those that are chosen, (K,) bool."""
        counted = np.ones(self.num_images, self.images.dtype) if fitted is None else fitted.astype(self.images.dtype)
        found = self._search(shape, counted)
        rows, columns = positions_shape(self.image_shape, shape)
        # A prior for as many corners as the smallest size has: else frames in which the template keeps to few places
        # would favour large templates, which have fewer corners to choose from.
        charge = np.log(rows * columns / self.num_corners) * (1 if self.absent is None else 1 - self.absent)
        best, likelihoods = found.best, self._log_likelihood(found.best.params) + charge
        present = counted > 0 if best.present is None else (counted > 0) & np.asarray(best.present)
        row, column = np.asarray(best.corners)[present].T
        touches = (row == 0) | (row == rows - 1) | (column == 0) | (column == columns - 1)
        return SizedFit(shape, likelihoods, float(touches.mean()) if touches.size else 0.0)

    def touching_by_chance(self, shape: Shape) -> float:
        """The share of corners at the edges of the range that they have."""
        rows, columns = positions_shape(self.image_shape, shape)
        return 1 - max(rows - 2, 0) * max(columns - 2, 0) / (rows * columns)

    def log_likelihood_without_template(self, fitted: np.ndarray) -> np.ndarray:
        """Of each frame, (K,), where the frames that are chosen tell background and noise, nats."""
        return _without_template(self.images, self.weights, fitted)

    def _search(self, shape: Shape, counted: np.ndarray) -> Restarts:
        support = np.zeros(self.largest, self.images.dtype)
        support[: shape[0], : shape[1]] = 1
        rows, columns = positions_shape(self.image_shape, shape)
        prior = np.zeros(positions_shape(self.images.shape[1:3], self.largest))
        prior[:rows, :columns] = (1 if self.absent is None else 1 - self.absent) / (rows * columns)
        fixed = {"prior": prior} if self.absent is None else {"prior": prior, "absent": np.array(self.absent)}
        return fit_restarts_parallel(
            self.key,
            self.images,
            self.largest,
            num_restarts=self.num_restarts,
            absent=self.absent is not None,
            support=support,
            weights=self.weights,
            frame_weights=counted,
            fixed=fixed,
        )

    def _share_absent(self, frames: Frames) -> float:
        """How many frames show no template, by a fit of the largest one."""
        weights = frames.weights if frames.shared_weights is None else frames.shared_weights
        found = fit_restarts_parallel(
            self.key, frames.pixels, self.largest, num_restarts=self.num_restarts, absent=True, weights=weights
        )
        return float(
            np.clip(np.asarray(found.best.params.absent), 1 / (2 * self.num_images), 1 - 1 / (2 * self.num_images))
        )

    def _log_likelihood(self, params: Params) -> np.ndarray:
        """Of each frame, so many at a time; the last ones go with some before them, so that one program serves all."""
        step = min(self.num_images, max(1, PIXELS_PER_BATCH // self.images[0].size))
        found = np.empty(self.num_images)
        for start in range(0, self.num_images, step):
            some = slice(min(start, self.num_images - step), min(start, self.num_images - step) + step)
            weights = self.weights if self.weights.ndim == 2 else self.weights[some]
            found[some] = log_likelihood(self.images[some], params, weights=weights)
        return found


def _continue(frames: Frames, margin: Shape) -> tuple[np.ndarray, np.ndarray]:
    """Images with more rows and columns, and weights that are zero there."""
    pixels = np.asarray(frames.pixels)
    given = frames.weights if frames.shared_weights is None else frames.shared_weights
    weights = np.ones(pixels.shape[1:3], pixels.dtype) if given is None else np.asarray(given)
    down, right = ((0, extra) for extra in margin)
    channels = ((0, 0),) * (pixels.ndim - 3)
    return np.pad(pixels, ((0, 0), down, right, *channels)), np.pad(
        weights, ((0, 0),) * (weights.ndim - 2) + (down, right)
    )


def _without_template(images: np.ndarray, weights: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """The log density of each image, (K,), of background and noise that are likeliest for those that are fitted."""
    pixels = images if images.ndim == 4 else images[..., None]
    whole = np.broadcast_to(weights, images.shape[:3])[..., None]
    total, count = np.zeros(pixels.shape[1:]), np.zeros(whole.shape[1:])
    for image, weight in zip(pixels[fitted], whole[fitted], strict=True):
        total += np.where(weight > 0, weight * image, 0)
        count += weight
    background = total / np.where(count > 0, count, 1)
    errors = np.array([_weighted_squares(*pair, background) for pair in zip(pixels, whole, strict=True)])
    num_seen = (whole > 0).sum(axis=(1, 2, 3)) * pixels.shape[-1]
    variance = max(errors[fitted].sum() / num_seen[fitted].sum(), np.finfo(np.float64).tiny)
    log_weights = pixels.shape[-1] * np.log(np.where(whole > 0, whole, 1)).sum(axis=(1, 2, 3), dtype=np.float64)
    return -(num_seen * np.log(2 * np.pi * variance) - log_weights + errors / variance) / 2


def _weighted_squares(image: np.ndarray, weight: np.ndarray, background: np.ndarray) -> float:
    return float(np.where(weight > 0, weight * (image - background) ** 2, 0).sum())
