"""Is there a template at all? A test that asks little of the noise, and how far parts of the images agree.

Source: ``docs/statistics.md``, *Detection test*.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxem.assess.normal_scores import normal_scores
from jaxem.assess.summaries import test_lines
from jaxem.model.appearances import IDENTITY, geometry_of
from jaxem.model.frames import Frames
from jaxem.model.likelihood import Hypotheses, SharedTerms, shared_terms
from jaxem.model.params import Params, to_internal_units, with_uniform_prior
from jaxem.model.statistics import PosteriorSummary
from jaxem.model.steps import posterior
from jaxem.model.workspace import center, with_own_spectra, with_spectra_of_mean
from jaxem.ops.batching import over_batches, unbatch
from jaxem.ops.printing import short_repr, summarized
from jaxem.ops.validation import as_key
from jaxem.ops.windows import Shape
from jaxem.runtime.compilation import jit
from jaxem.runtime.errors import ArgumentValueError
from jaxem.search.arguments import as_num_restarts, as_task
from jaxem.search.restarts import DEFAULT_SEARCH, search_frames
from jaxem.search.strategy import Search
from jaxem.search.structure import Structure
from jaxem.search.subsampling import sample_size
from jaxem.solvers.options import EMOptions

FEWEST_IMAGES = 8  # of fewer, signs can hardly be drawn in twenty ways
# Fewer images are taken in quarters and not in halves, up to four times as many where they have so few pixels.
FEW_IMAGES, FEW_PIXELS = 64, 2**22
NUM_SIGN_FLIPS = 999
UNIFORM_SHARE = 0.1  # of the prior under which images are looked at that were not fitted


class DetectionTest(NamedTuple):
    """Whether the images hold a template.

    ===========  ============  ====================================================================================
    field        shape         meaning, unit
    ===========  ============  ====================================================================================
    p_value      ()            how often noise alone would give so large a z
    z            ()            how much likelier images are under a template from other images than their mirror
                               images, in standard errors
    agreement    ()            share of the images whose place a template from other images confirms, but for one
                               shift of all; of two halves the share for which their templates agree
    gains        (K,)          log evidence of each image less that of its mirror image, nats; NaN of one that was
                               left over
    corners      (K, 2) int32  row, column of the upper left pixel of the window where a template from other images
                               is in each; up to a shift that the images of a part share
    parts        (K,) int32    to which part of the images each belongs, -1 if it was left over
    ===========  ============  ====================================================================================
    """

    p_value: jax.Array
    z: jax.Array
    agreement: jax.Array
    gains: jax.Array
    corners: jax.Array
    parts: jax.Array

    def __repr__(self) -> str:
        return short_repr(self)

    def summary(self) -> str:
        """What a person wants to know of it, in a line."""
        return summarized(self, self.p_value, test_lines)


def nothing_tested(num_images: int, dtype: Any) -> DetectionTest:
    """What stands for a test that was not made."""
    unknown = jnp.full((), jnp.nan, dtype)
    nowhere = jnp.zeros((num_images, 2), jnp.int32)
    return DetectionTest(
        unknown, unknown, unknown, jnp.full(num_images, jnp.nan, dtype), nowhere, jnp.full(num_images, -1, jnp.int32)
    )


def detection_test(
    key: jax.Array,
    images: Any,
    template_shape: Shape,
    *,
    block_size: int = 1,
    num_restarts: int | None = None,
    hard: bool = False,
    prior_smoothing: Any = 0.0,
    max_iterations: int = 50,
    tolerance: Any = 1e-3,
    batch_size: int | None = None,
    search: Search | None = DEFAULT_SEARCH,
    sample: int | str | None = None,
    num_templates: int = 1,
    absent: bool = False,
    support: Any = None,
    boundary: str = "inside",
    weights: Any = None,
    frame_weights: Any = None,
    transforms: Any = IDENTITY,
    fixed: Mapping[str, Any] | None = None,
) -> DetectionTest:
    """Test whether the images hold a template: by fitting some, and by mirror images of the others' noise.

    Where there is no template, an image's deviation from the mean image is as likely as its negative, once each pixel's
    values have been given a normal distribution. So a template found in other images explains an image no better than
    its mirror image. Each half of the images is fitted for the other half, and where there are few images three
    quarters for each quarter. Correlation between pixels, heavy tails, and noise that is stronger in one place make no
    difference to that; drift of the brightness does, and so do images that repeat.

    Args:
        key: random key, for the parts, the searches and the signs.
        images: (K, H, W) or (K, H, W, C), pixel values, K at least 8; integers are promoted.
        template_shape: (h, w) (static).
        block_size: so many images in a row stay together, where neighbours repeat each other (static).
        num_restarts: as for `fit_restarts`, like all that follow.
        hard: one corner an image instead of probabilities.
        prior_smoothing: pseudo-counts.
        max_iterations: at most so many.
        tolerance: nats an image.
        batch_size: images worked on at a time.
        search: how to look for the highest maximum.
        sample: on how many images of a part; by default on all, since a test is for what hardly stands out.
        num_templates: M.
        absent: whether an image may show no template.
        support: where in its rectangle the template is.
        boundary: how windows meet the edges.
        weights: of the pixels.
        frame_weights: of the images.
        transforms: that a template may be under.
        fixed: what is known.

    Returns:
        `DetectionTest`.

    Raises:
        ValueError, TypeError: shapes, dtypes or options that do not fit, too few images.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> images, _ = jaxem.simulate(jax.random.key(0), truth, 100)
        >>> found = jaxem.detection_test(jax.random.key(1), images, (2, 3))
        >>> round(float(found.p_value), 3), round(float(found.agreement), 2)
        (0.001, 1.0)

    Source: ``docs/statistics.md``, *Detection test*.
    """
    key, num_restarts = as_key(key), as_num_restarts(num_restarts, search)
    frames, structure, options = as_task(
        images,
        template_shape,
        hard=hard,
        prior_smoothing=prior_smoothing,
        max_iterations=max_iterations,
        tolerance=tolerance,
        batch_size=batch_size,
        num_templates=num_templates,
        absent=absent,
        support=support,
        boundary=boundary,
        weights=weights,
        frame_weights=frame_weights,
        transforms=transforms,
        fixed=fixed,
    )
    if frames.num_images < FEWEST_IMAGES * block_size:
        at_least = f"{FEWEST_IMAGES * block_size} at least, for parts to be compared"
        raise ArgumentValueError("images", f"must be {at_least}, but are {frames.num_images}.")
    return _detection_test(
        key, frames, structure, options, block_size=block_size, num_restarts=num_restarts, search=search, sample=sample
    )


@partial(jit, static_argnames=("block_size", "num_restarts", "search", "sample"))
def _detection_test(
    key: jax.Array,
    frames: Frames,
    structure: Structure,
    options: EMOptions,
    block_size: int,
    num_restarts: int,
    search: Search | None,
    sample: int | str | None,
) -> DetectionTest:
    num_folds = _num_folds(frames, frames.num_images // block_size)
    order_key, sign_key, *keys = jax.random.split(key, 2 + num_folds)
    numbers = _folds(order_key, frames.num_images, block_size, num_folds)
    others = jnp.stack([jnp.delete(numbers, fold, axis=0).ravel() for fold in range(num_folds)])
    whole = frames._replace(pixels=normal_scores(frames))

    def some(numbers: jax.Array) -> Frames:
        return whole.batch(jax.tree.map(lambda leaf: leaf[numbers], whole.own))

    def fitted(inputs: tuple[jax.Array, jax.Array]) -> Params:
        key, numbers = inputs
        size = sample_size(sample, some(numbers), structure)
        return search_frames(key, some(numbers), structure, options, num_restarts, 1, search, size).best.params

    # In a loop, so that the search is compiled once.
    params = lax.map(fitted, (jnp.stack(keys), others))

    def looked_at(inputs: tuple[jax.Array, Params, Params]) -> tuple[jax.Array, Hypotheses]:
        numbers, held_out, other = inputs
        return _look_at(some(numbers), held_out, other, options)

    following = jax.tree.map(lambda leaf: jnp.roll(leaf, -1, axis=0), params)
    gains, best = lax.map(looked_at, (numbers, params, following))
    counts = frames.counts(jnp.ones(frames.num_images, gains.dtype))[numbers]
    z, p_value = _mirror_test(sign_key, gains, counts, block_size)
    first, second = (jax.tree.map(lambda leaf, model=model: leaf[:, model], best) for model in (0, 1))
    alike, counted = lax.map(lambda both: _count_alike(both[0], both[1], params.prior), (first, second))
    agreement = jnp.sum(alike) / jnp.maximum(jnp.sum(counted), 1)
    order, untested = numbers.ravel(), nothing_tested(frames.num_images, z.dtype)
    return DetectionTest(
        p_value,
        z,
        agreement.astype(z.dtype),
        untested.gains.at[order].set(gains.ravel()),
        untested.corners.at[order].set(first.corners.reshape(-1, 2)),
        untested.parts.at[order].set(jnp.repeat(jnp.arange(num_folds, dtype=jnp.int32), numbers.shape[1])),
    )


def _num_folds(frames: Frames, num_blocks: int) -> int:
    """Four where there are few images, of which half would often be too few; they are looked at soon, too."""
    few = num_blocks < FEW_IMAGES or (num_blocks < 4 * FEW_IMAGES and frames.pixels.size < FEW_PIXELS)
    return 4 if few else 2


def _folds(key: jax.Array, num_images: int, block_size: int, num_folds: int) -> jax.Array:
    """Numbers of the images in each of some random parts, (F, n), blocks of images in a row staying together."""
    num_blocks = num_images // block_size
    size = num_blocks // num_folds
    blocks = jax.random.permutation(key, num_blocks)[: num_folds * size].reshape(num_folds, size, 1)
    return (blocks * block_size + jnp.arange(block_size)[None, None]).reshape(num_folds, -1)


def _look_at(frames: Frames, held_out: Params, next_one: Params, options: EMOptions) -> tuple[jax.Array, Hypotheses]:
    """How images of one half look to what was fitted to the other, and where both models, stacked, put the template.

    Returns:
        ln p(B + R_k) - ln p(B - R_k) of each image under the other half's model, (K,), nats, where R_k is its deviation
        from the mean of these images; the best hypothesis of each under both models, (2, K), no place being favoured.
    """
    batch_size = min(options.batch_size, frames.num_in_shard)
    images = center(frames, batch_size)
    mixed = (1 - UNIFORM_SHARE) * held_out.prior + UNIFORM_SHARE * with_uniform_prior(held_out).prior
    other = held_out._replace(prior=mixed)
    flat = jax.tree.map(lambda *leaves: jnp.stack(leaves), *map(with_uniform_prior, (held_out, next_one)))
    # Four views of each image: as it is to both models, and it and its mirror image to the other one.
    models = jax.tree.map(lambda flat, other: jnp.concatenate([flat, other[None], other[None]]), flat, other)
    internal = jax.vmap(lambda one: to_internal_units(one, images))(models)
    by_transforms = with_spectra_of_mean(images)
    shared = lax.map(lambda one: shared_terms(by_transforms, one, options.transforms), internal)
    geometry = geometry_of(jax.tree.map(lambda leaf: leaf[0], internal))

    def one_batch(own: Any, _: jax.Array, __: None) -> tuple[None, tuple[jax.Array, Hypotheses]]:
        batch = by_transforms._replace(frames=frames.batch(own))
        residuals = batch.residuals

        def summary(view: tuple[jax.Array, jax.Array, Params, SharedTerms]) -> PosteriorSummary:
            as_it_is, sign, model, terms = view
            shown = model.background[None] + sign * residuals
            shown = jnp.where(as_it_is, batch.mean_image[None] + residuals, shown)
            pixels = batch.to_pixel_values(shown)
            pixels = jnp.moveaxis(pixels, 1, -1) if frames.pixels.ndim == 4 else pixels[:, 0]
            seen = with_own_spectra(batch._replace(frames=batch.frames._replace(pixels=pixels)))
            return posterior(seen, terms, geometry, hard=False)[1]

        kinds = (jnp.array([True, True, False, False]), jnp.array([1, 1, 1, -1], residuals.dtype))
        found = lax.map(summary, (*kinds, internal, shared))
        log_ratio = found.best_log_odds + found.log_mass
        return None, (log_ratio[2] - log_ratio[3], jax.tree.map(lambda leaf: leaf[:2], found.best))

    _, (gains, best) = over_batches(one_batch, frames.own, batch_size, shards=frames.shards)
    by_image = jax.tree.map(lambda pieces: jnp.moveaxis(pieces, 1, 2), best)
    whole = jax.tree.map(lambda pieces: unbatch(pieces, frames.num_images, frames.shards), by_image)
    return unbatch(gains, frames.num_images, frames.shards), jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), whole)


def _mirror_test(key: jax.Array, gains: jax.Array, counts: jax.Array, block_size: int) -> tuple[jax.Array, jax.Array]:
    """z of both halves' mean gains together, and how often random signs of the blocks give as much."""
    counted = jnp.where(counts > 0, gains * counts, 0)
    sums = jnp.sum(counted.reshape(len(gains), -1, block_size), axis=2)

    def statistic(sums: jax.Array) -> jax.Array:
        """(..., F, n) -> (...)."""
        mean, num = jnp.mean(sums, axis=-1), sums.shape[-1]
        spread = jnp.sqrt(jnp.sum((sums - mean[..., None]) ** 2, axis=-1) / (num - 1) / num)
        return jnp.sum(jnp.where(spread > 0, mean / jnp.where(spread > 0, spread, 1), 0), axis=-1) / len(gains) ** 0.5

    z = statistic(sums)
    signs = jax.random.rademacher(key, (NUM_SIGN_FLIPS, *sums.shape), sums.dtype)
    as_large = jnp.sum(~(statistic(signs * sums[None]) < z), dtype=z.dtype)
    return z, (1 + as_large) / (1 + NUM_SIGN_FLIPS)


def _count_alike(first: Hypotheses, second: Hypotheses, priors: jax.Array) -> tuple[jax.Array, jax.Array]:
    """How many images two models put at the same place, by how each names templates and shifts, and of how many.

    Of all images that the first model says the same of, what the second says most often counts as the same. One image
    always does, and is left out of both numbers.
    """
    rows, columns = priors.shape[-2:]
    num_appearances = priors[0].size // (rows * columns)
    ones = jnp.zeros(len(first.corners), jnp.int32)
    shift = second.corners - first.corners
    kind, other = (ones if one.appearance is None else one.appearance for one in (first, second))
    said = (other * (2 * rows) + shift[:, 0] + rows) * (2 * columns) + shift[:, 1] + columns
    both = either = jnp.ones(len(ones), bool)
    if first.present is not None and second.present is not None:
        both, either = first.present & second.present, first.present | second.present
    # Sorted by what the first says and then by what the second does, equal ones stand together.
    order = jnp.lexsort((said, kind, ~both))
    kind, said, both = kind[order], said[order], both[order]
    changes = (kind[1:] != kind[:-1]) | (said[1:] != said[:-1]) | (both[1:] != both[:-1])
    run = jnp.concatenate([ones[:1], jnp.cumsum(changes.astype(jnp.int32))])
    lengths = jax.ops.segment_sum(both.astype(jnp.int32), run, len(ones))[run]
    longest = jax.ops.segment_max(jnp.where(both, lengths, 0), kind, num_appearances)
    others = jnp.sum(jnp.maximum(longest - 1, 0))
    return others, jnp.sum(either) - jnp.sum((longest > 0).astype(jnp.int32))
