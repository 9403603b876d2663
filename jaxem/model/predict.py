"""A model at work on new images: where the templates are in each, how surely, and what each shows without its noise.

Nothing here is learned, and nothing but a batch of images is held beside them.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.model.appearances import IDENTITY, as_transforms
from jaxem.model.checks import as_params
from jaxem.model.likelihood import Hypotheses, clean_images, hypotheses_of, positions_of
from jaxem.model.params import Params, Positions, Posterior, with_all_axes
from jaxem.model.whole_stack import e_step
from jaxem.ops.printing import short_repr, summarized
from jaxem.ops.windows import Shape
from jaxem.runtime.compilation import jit
from jaxem.runtime.text import plural

PIXELS_PER_BATCH = 2**22
CONFIDENT = 0.9  # of which a summary counts the frames


class Located(NamedTuple):
    """What is most probably hidden behind each image, and how surely.

    ============  ==================  ==========================================================================
    field         shape               meaning, unit
    ============  ==================  ==========================================================================
    corners       (K, 2) int32        row and column of the window's upper left pixel, of the likeliest window also
                                      where no template is present
    log_evidence  (K,)                log density of each image, nats
    confidence    (K,)                posterior probability of all that is said of it: template, transform and
                                      corner, or that there is none
    template      (K,) int32 or None  number of the template; None: there is one
    transform     (K,) int32 or None  number of the transform among those allowed; None: there is one
    present       (K,) bool or None   whether there is a template; None: there always is
    presence      (K,) or None        posterior probability that there is one
    ============  ==================  ==========================================================================
    """

    corners: np.ndarray
    log_evidence: np.ndarray
    confidence: np.ndarray
    template: np.ndarray | None = None
    transform: np.ndarray | None = None
    present: np.ndarray | None = None
    presence: np.ndarray | None = None

    def __repr__(self) -> str:
        return short_repr(self)

    def summary(self) -> str:
        """What a person wants to know of it, in a few lines."""
        return summarized(self, self.confidence[0], located_lines)

    @property
    def positions(self) -> Positions:
        """The same without how surely."""
        return Positions(self.corners, None, self.template, self.transform, self.present)  # type: ignore[arg-type]


def located_lines(located: Located) -> list[str]:
    """How many images, and how sure the places are."""
    confidence = np.asarray(located.confidence)
    confident = int((confidence >= CONFIDENT).sum())
    empty = [] if located.present is None else [f"{int((~np.asarray(located.present)).sum())} show no template"]
    places = f"mean confidence of the places {np.nanmean(confidence):.3g}, {CONFIDENT:g} or more in {confident}"
    return [plural(len(confidence), "frame"), places, *empty]


def predict(images: np.ndarray, params: Params, *, weights: Any = None, transforms: Any = IDENTITY) -> Located:
    """The posterior of each image in short, a few million pixels at a time.

    Args:
        images: (K, H, W) or (K, H, W, C), pixel values; integers are promoted.
        params: the model.
        weights: of the pixels, (H, W) or (K, H, W), as for `e_step`.
        transforms: that a template may be under, as for `e_step`.

    Returns:
        `Located`.

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
    transforms, weights = as_transforms(transforms), None if weights is None else np.asarray(weights)
    own_weights = weights is not None and weights.ndim == 3 and len(weights) == len(images)
    step = _batch_size(len(images), params)
    params = jax.tree.map(np.asarray, params)
    found = []
    for start, begin in _batches(len(images), step):
        some = slice(begin, begin + step)
        posterior = e_step(
            images[some], params, weights=weights[some] if own_weights else weights, transforms=transforms
        )
        batch = located_by(posterior, params, transforms)
        found.append(jax.tree.map(lambda part, begin=begin, start=start: np.asarray(part)[start - begin :], batch))
    together: Located = jax.tree.map(lambda *parts: np.concatenate(parts), *found)
    return together


def located_by(posterior: Posterior, params: Params, transforms: tuple[str, ...]) -> Located:
    """What a posterior says is most probably behind each image, of whichever arrays it has."""
    best, confidence, presence = _likeliest(posterior, like=params.prior.shape[-2:])
    corners, _, template, transform, present = positions_of(best, None, params, transforms)
    parts: Any = (corners, posterior.log_evidence, confidence, template, transform, present, presence)
    return Located(*parts)


@partial(jit, static_argnames="like", is_small=True)
def _likeliest(posterior: Posterior, like: Shape) -> tuple[Hypotheses, jax.Array, jax.Array | None]:
    """The most probable hypothesis of each image, its probability, and that of a template being there."""
    probs, absent = posterior.probs, posterior.absent
    by_appearance = probs.reshape(len(probs), -1, *like)
    flat = probs.reshape(len(probs), -1)
    best, confidence = jnp.argmax(flat, axis=1), jnp.max(flat, axis=1)
    appearance, row, column = jnp.unravel_index(best, by_appearance.shape[1:])
    corners = jnp.stack([row, column], axis=1).astype(jnp.int32)
    numbers = appearance.astype(jnp.int32) if by_appearance.shape[1] > 1 else None
    if absent is None:
        return Hypotheses(corners, numbers), confidence, None
    return Hypotheses(corners, numbers, confidence >= absent), jnp.maximum(confidence, absent), 1 - absent


def reconstruct(positions: Positions, params: Params, transforms: Any = IDENTITY) -> Iterator[np.ndarray]:
    """For each position the background with its template in front, (H, W) or (H, W, C), pixel values.

    Args:
        positions: what is said of each image.
        params: the model.
        transforms: that a template may be under, as for `e_step`.

    Raises:
        ValueError, TypeError: shapes that do not fit each other.
    """
    transforms = as_transforms(transforms)
    params = as_params(params, None, transforms=transforms)
    positions = jax.tree.map(np.asarray, positions)
    step = _batch_size(len(positions.corners), params)
    for start, begin in _batches(len(positions.corners), step):
        some = jax.tree.map(lambda part, begin=begin: part[begin : begin + step], positions)
        yield from np.asarray(_without_noise(some, params, transforms=transforms))[start - begin :]


@partial(jit, static_argnames="transforms", is_small=True)
def _without_noise(positions: Positions, params: Params, transforms: tuple[str, ...]) -> jax.Array:
    clean = clean_images(with_all_axes(params), hypotheses_of(positions, len(transforms)), transforms)
    return jnp.moveaxis(clean, 1, -1) if params.background.ndim == 3 else clean[:, 0]


def _batch_size(num_images: int, params: Params) -> int:
    largest = max(np.size(params.background), np.size(params.prior))
    return min(num_images, max(1, PIXELS_PER_BATCH // largest))


def _batches(num_images: int, step: int) -> Iterator[tuple[int, int]]:
    """Where each batch begins to be new, and where it begins: all are of one size, so that they are compiled once."""
    return ((start, min(start, num_images - step)) for start in range(0, num_images, step))
