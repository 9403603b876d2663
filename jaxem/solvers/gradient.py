"""Gradient ascent on the same log likelihood, with any optimiser of optax: a check of EM, and a place for other terms.

EM is faster where it applies. This is for terms that EM's M-step has no formula for (`penalty`), and it reaches EM's
answer by automatic differentiation alone. Source: ``docs/search.md``, *Gradients*.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxem.model.appearances import IDENTITY, as_transforms, geometry_of, numbers_of
from jaxem.model.checks import as_fixed, as_params
from jaxem.model.frames import Frames, as_frames
from jaxem.model.images import CenteredImages
from jaxem.model.likelihood import shared_terms
from jaxem.model.objective import log_smoothing
from jaxem.model.params import Params, hold, to_internal_units, to_pixel_values
from jaxem.model.steps import log_evidence, posterior
from jaxem.model.workspace import center
from jaxem.ops.batching import over_batches
from jaxem.ops.trees import select
from jaxem.ops.validation import as_key, as_number
from jaxem.runtime.arguments import as_count
from jaxem.runtime.compilation import jit
from jaxem.runtime.errors import ArgumentTypeError, ArgumentValueError
from jaxem.solvers.result import Fit, Status
from jaxem.solvers.unconstrained import Unconstrained, from_unconstrained, to_unconstrained

# Images of which the derivatives of all positions are held at a time.
BATCH_SIZE = 32


def fit(
    images: Any,
    params: Params,
    optimizer: optax.GradientTransformation,
    *,
    penalty: Callable[[Params], jax.Array] | None = None,
    prior_smoothing: Any = 0.0,
    key: jax.Array | None = None,
    minibatch_size: int | None = None,
    max_iterations: int = 100,
    tolerance: Any = 1e-6,
    weights: Any = None,
    frame_weights: Any = None,
    transforms: Any = IDENTITY,
    fixed: Sequence[str] = (),
) -> Fit:
    """Raise the log likelihood by gradients.

        sum_k ln sum_d A(d) p(X_k | d)  +  (alpha / PQ) sum_d ln A(d)  -  penalty(params)

    over F, B, ln s and square roots of A, in units in which the images' pixels have unit spread. An iteration is one
    pass over the images: one step on all of them, or one on each of the mini-batches, drawn without replacement.

    Args:
        images: (K, H, W) or (K, H, W, C), pixel values; integers are promoted. Use float64 for more than five digits.
        params: where to start; a prior of zero counts as the smallest number above.
        optimizer: as `optax.lbfgs()` for whole passes or `optax.adam(0.01)` for mini-batches (static; keep the object,
            since each new one compiles anew).
        penalty: a function from `Params` to nats, to be differentiated, or none (static).
        prior_smoothing: alpha >= 0, pseudo-counts, spread evenly over all corners; half of them are for absence where
            an image may be without a template (traced).
        key: random key of the mini-batches.
        minibatch_size: images a step, or none for all of them (static).
        max_iterations: at most so many passes (static).
        tolerance: the smallest gain of a pass that counts as progress, nats per image (traced). A pass of mini-batches
            may fall; that ends nothing.
        weights: as for `jaxem.fit`.
        frame_weights: as for `jaxem.fit`.
        transforms: as for `jaxem.fit`.
        fixed: as for `jaxem.fit`.

    Returns:
        `Fit`. Its objective is the one above, of all images, also with mini-batches; entropy and corners are left out
        (NaN, -1).

    Raises:
        ValueError, TypeError: shapes, dtypes or options that do not fit, values as for `jaxem.fit`.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem, optax
        >>> from jaxem import gradient
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> images, _ = jaxem.simulate(jax.random.key(0), truth, 50)
        >>> result = gradient.fit(images, truth, optax.lbfgs(), max_iterations=5)
        >>> bool(result.elbo > result.history[0])
        True

    Source: ``docs/search.md``, *Gradients*.
    """
    frames, transforms = as_frames(images, weights, frame_weights), as_transforms(transforms)
    dtype = frames.pixels.dtype
    params = as_params(params, frames.pixels.shape[1:], dtype, transforms)
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise ArgumentTypeError("optimizer", f"must be one of optax, such as optax.lbfgs(), but is {optimizer!r}.")
    if minibatch_size is not None:
        minibatch_size = as_count("minibatch_size", minibatch_size, at_least=1, at_most=frames.num_images)
        if key is None:
            raise ArgumentValueError("key", "is needed to draw mini-batches; give one, such as jax.random.key(0).")
        key = as_key(key)
    return _fit(
        frames,
        params,
        key,
        as_number("prior_smoothing", prior_smoothing, dtype, at_least=0),
        as_number("tolerance", tolerance, dtype),
        optimizer=optimizer,
        penalty=penalty,
        minibatch_size=minibatch_size,
        max_iterations=as_count("max_iterations", max_iterations, at_least=0),
        transforms=transforms,
        fixed=as_fixed(fixed),
    )


class _Carry(NamedTuple):
    free: Unconstrained
    state: Any
    objective: jax.Array
    gradient: Unconstrained
    history: jax.Array
    num_iterations: jax.Array
    status: jax.Array


@partial(jit, static_argnames=("optimizer", "penalty", "minibatch_size", "max_iterations", "transforms", "fixed"))
def _fit(
    frames: Frames,
    params: Params,
    key: jax.Array | None,
    prior_smoothing: jax.Array,
    tolerance: jax.Array,
    optimizer: optax.GradientTransformation,
    penalty: Callable[[Params], jax.Array] | None,
    minibatch_size: int | None,
    max_iterations: int,
    transforms: tuple[str, ...],
    fixed: tuple[str, ...],
) -> Fit:
    num_images = frames.num_images
    centered = center(frames, min(BATCH_SIZE, num_images))
    start = to_internal_units(params, centered)
    total_count = jnp.sum(frames.counts(jnp.ones(num_images, frames.pixels.dtype)))
    ascend = optax.with_extra_args_support(optimizer)

    def negative(free: Unconstrained, part: CenteredImages) -> jax.Array:
        """What the optimiser minimises, from a part of the images, for the whole."""
        internal = _to_internal(free, centered, start, fixed)
        likelihood = _log_likelihood(part, internal, transforms) * (num_images / part.frames.num_images)
        extra = 0 if penalty is None else penalty(to_pixel_values(internal, centered, params))
        return extra - likelihood - log_smoothing(internal, prior_smoothing)

    def whole_step(carry: _Carry) -> tuple[Unconstrained, Any]:
        def value(free: Unconstrained) -> jax.Array:
            return negative(free, centered)

        extra = {"value": carry.objective, "grad": carry.gradient, "value_fn": value}
        updates, state = ascend.update(carry.gradient, carry.state, carry.free, **extra)
        return optax.apply_updates(carry.free, updates), state

    def minibatch_steps(carry: _Carry, key: jax.Array, size: int) -> tuple[Unconstrained, Any]:
        num_steps = num_images // size
        order = jax.random.permutation(jax.random.fold_in(key, carry.num_iterations), num_images)

        def one_step(so_far: tuple[Unconstrained, Any], which: jax.Array) -> tuple[tuple[Unconstrained, Any], None]:
            free, state = so_far
            part = centered._replace(frames=frames.batch(jax.tree.map(lambda leaf: leaf[which], frames.own)))

            def value(free: Unconstrained) -> jax.Array:
                return negative(free, part)

            loss, gradient = jax.value_and_grad(value)(free)
            updates, state = ascend.update(gradient, state, free, value=loss, grad=gradient, value_fn=value)
            return (optax.apply_updates(free, updates), state), None

        parts = order[: num_steps * size].reshape(num_steps, size)
        return lax.scan(one_step, (carry.free, carry.state), parts)[0]

    def step(carry: _Carry) -> _Carry:
        if key is None or minibatch_size is None:
            free, state = whole_step(carry)
        else:
            free, state = minibatch_steps(carry, key, minibatch_size)
        objective, gradient = jax.value_and_grad(negative)(free, centered)
        gain = carry.objective - objective
        still = (gain >= 0) & ((gain < tolerance * total_count) | (gain == 0) & (tolerance >= 0))
        status = jnp.where(still, Status.CONVERGED, Status.RUNNING).astype(jnp.int32)
        num_iterations = carry.num_iterations + 1
        history = carry.history.at[num_iterations].set(-objective)
        new = _Carry(free, state, objective, gradient, history, num_iterations, status)
        rejected = carry._replace(status=jnp.int32(Status.NONFINITE))
        sound = jnp.all(
            jnp.array([jnp.all(jnp.isfinite(leaf)) for leaf in jax.tree.leaves((objective, gradient, free))])
        )
        return select(sound, new, rejected)

    def unfinished(carry: _Carry) -> jax.Array:
        return (carry.status == Status.RUNNING) & (carry.num_iterations < max_iterations)

    free = _to_free(start)
    objective, gradient = jax.value_and_grad(negative)(free, centered)
    history = jnp.full(max_iterations + 1, jnp.nan, objective.dtype).at[0].set(-objective)
    status = jnp.where(jnp.isfinite(objective), Status.RUNNING, Status.NONFINITE).astype(jnp.int32)
    begin = _Carry(free, ascend.init(free), objective, gradient, history, jnp.int32(0), status)
    end = lax.while_loop(unfinished, step, begin)
    status = jnp.where(end.status == Status.RUNNING, Status.MAX_ITERATIONS, end.status).astype(jnp.int32)
    reached = to_pixel_values(_to_internal(end.free, centered, start, fixed), centered, params)
    found = select(end.num_iterations > 0, reached, params)
    unknown, nowhere = jnp.full_like(end.objective, jnp.nan), jnp.full((num_images, 2), -1, jnp.int32)
    return Fit(
        params=found,
        elbo=-end.objective,
        history=end.history,
        num_iterations=end.num_iterations,
        status=status,
        num_scheduled=jnp.int32(0),
        entropy=unknown,
        corners=nowhere,
        transforms=numbers_of(transforms),
    )


def _to_free(internal: Params) -> Unconstrained:
    """With roots of A that never vanish, since their gradients would vanish with them."""
    smallest = jnp.finfo(internal.prior.dtype).eps / internal.prior.size
    absent = None if internal.absent is None else jnp.maximum(internal.absent, smallest)
    return to_unconstrained(internal._replace(prior=jnp.maximum(internal.prior, smallest), absent=absent))


def _to_internal(free: Unconstrained, images: CenteredImages, start: Params, fixed: tuple[str, ...]) -> Params:
    params = from_unconstrained(free, start.opacity)
    noise_scale = jnp.sqrt(jnp.maximum(params.noise_scale**2, images.least_variance(params.noise_scale)))
    return hold(params._replace(noise_scale=noise_scale), start, fixed)


def _log_likelihood(images: CenteredImages, params: Params, transforms: tuple[str, ...]) -> jax.Array:
    """Of all the images, in batches whose derivatives are made anew and not kept."""
    frames, geometry = images.frames, geometry_of(params)

    @jax.checkpoint
    def one_batch(own: Any, weights: jax.Array, _: None) -> tuple[jax.Array, None]:
        batch = images._replace(frames=frames.batch(own))
        summary = posterior(batch, shared_terms(batch, params, transforms), geometry, hard=False)[1]
        return jnp.sum(batch.frames.counts(weights) * log_evidence(batch, params, summary, transforms)), None

    return over_batches(one_batch, frames.own, min(BATCH_SIZE, frames.num_in_shard), shards=frames.shards)[0]
