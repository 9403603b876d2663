"""One of several templates that is empty, or nearly a copy of another, begun anew: as half of one that stands for two.

Source: ``docs/search.md``, *Several templates*; N. Ueda et al., SMEM algorithm for mixture models, 2000.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxem.model.appearances import appearances_of, geometry_of, turned_back
from jaxem.model.images import CenteredImages
from jaxem.model.likelihood import Hypotheses, channel_variances
from jaxem.model.params import Params, to_internal_units, to_pixel_values, with_uniform_prior
from jaxem.ops.batching import over_images

NUM_POWER_ITERATIONS = 10


def reseeded(
    images: CenteredImages, params: Params, best: Hypotheses, attempt: jax.Array, transforms: tuple[str, ...]
) -> Params:
    """Parameters in which one template makes way, and another is split along what varies most in its images.

    A template that stands for two is their mean, and the images that show it differ from it by more than noise, all in
    one direction: up to a factor, by the difference of the two. The template whose images would lose least if they had
    to show another makes way.

    Args:
        images: the images.
        params: several templates, pixel values.
        best: the best hypothesis of each image.
        attempt: which pair, from 0: with the template that is needed least the one that varies most is split, then
            the next one, and so on; then another makes way.
        transforms: that templates may be under (static).

    Returns:
        The parameters with two templates replaced, and a uniform prior.
    """
    internal = to_internal_units(params, images)
    num_templates = len(internal.template)
    directions, variances, counts = principal_directions(images, internal, best, transforms)
    spare_rank, split_rank = jnp.divmod(attempt, num_templates - 1)
    spare = jnp.argsort(counts * distances(internal, transforms))[spare_rank % num_templates]
    excess = counts * (variances - jnp.mean(channel_variances(internal)))
    is_spare = jnp.arange(num_templates) == spare
    split = jnp.argsort(-jnp.where(is_spare, -jnp.inf, excess))[split_rank]
    half = jnp.sqrt(variances[split]) * directions[split]
    template = internal.template.at[spare].set(internal.template[split] + half).at[split].add(-half)
    found = to_pixel_values(internal._replace(template=template), images, params)
    return with_uniform_prior(params._replace(template=found.template))


def distances(internal: Params, transforms: tuple[str, ...]) -> jax.Array:
    """Sum of squares between each template and the most like it of all appearances of others, (M,)."""
    num_templates = len(internal.template)
    appearances = appearances_of(internal, transforms).templates

    def nearest(number: jax.Array) -> jax.Array:
        squares = (appearances - internal.template[number][None]) ** 2
        if internal.opacity is not None:
            squares = internal.opacity[number][None] * squares
        sums = jnp.sum(squares, axis=(1, 2, 3)).reshape(num_templates, -1)
        is_other = jnp.arange(num_templates) != number
        return jnp.min(jnp.where(is_other[:, None], sums, jnp.inf))

    return lax.map(nearest, jnp.arange(num_templates))


def principal_directions(
    images: CenteredImages, internal: Params, best: Hypotheses, transforms: tuple[str, ...]
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """In which direction the windows of each template vary most, of length one; by how much; and how many there are.

    (M, C, h, w), (M,), (M,), by power iterations on the covariance of the best windows, each turned back.
    """
    geometry, templates = geometry_of(internal), internal.template

    def one_pass(directions: jax.Array) -> tuple[jax.Array, jax.Array]:
        def one_image(inputs: Any) -> tuple[tuple[jax.Array, jax.Array], None]:
            own, where = jax.tree.map(lambda leaf: leaf[None], inputs)
            one = images._replace(frames=images.frames.batch(own))
            number, transform = jnp.divmod(where.appearance[0], len(transforms))
            window, weights = one.pixels_at(where.corners, geometry)[0], one.weights_at(where.corners, geometry)
            counted = jnp.ones_like(window[:1]) if weights is None else (weights[0] > 0).astype(window.dtype)
            window, counted = (turned_back(array, transform, transforms) for array in (window, counted))
            if internal.opacity is not None:
                counted = counted * internal.opacity[number]
            count = where.where_present(one.frames.counts(jnp.ones(1, window.dtype)))[0]
            residual = counted * (window - templates[number])
            product = count * jnp.sum(residual * directions[number]) * residual
            products = jnp.zeros(templates.shape, templates.dtype).at[number].set(jnp.where(count > 0, product, 0))
            return (products, jnp.zeros(len(templates), templates.dtype).at[number].set(count)), None

        own = images.frames.own, best
        (products, counts), _ = over_images(one_image, own, shards=images.frames.shards)
        return products / jnp.where(counts > 0, counts, 1)[:, None, None, None], counts

    def norms(arrays: jax.Array) -> jax.Array:
        return jnp.sqrt(jnp.sum(arrays**2, axis=(1, 2, 3), keepdims=True))

    def iterate(_: Any, state: Any) -> Any:
        directions = state[0]
        products, counts = one_pass(directions)
        lengths = norms(products)
        return jnp.where(lengths > 0, products / jnp.where(lengths > 0, lengths, 1), 0), lengths[:, 0, 0, 0], counts

    drawn = jax.random.normal(jax.random.key(0), templates.shape, templates.dtype)
    nothing = jnp.zeros(len(templates), templates.dtype)
    found = lax.fori_loop(0, NUM_POWER_ITERATIONS, iterate, (drawn / norms(drawn), nothing, nothing))
    return found[0], found[1], found[2]
