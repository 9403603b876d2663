"""The options that every EM fit takes, checked once and carried as one object."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np

from jaxem.model.appearances import IDENTITY
from jaxem.ops.validation import as_number
from jaxem.runtime.arguments import as_count
from jaxem.runtime.errors import ArgumentValueError

# How many pixels a batch of images holds at most. On a CPU, what the cache of a core holds beside an iteration's other
# arrays; elsewhere enough to keep the device busy, with transforms far below the 4 GB at which batched ones fail.
PIXELS_IN_CACHE, PIXELS_ON_DEVICE = 80_000, 2**25
# Starting a batch costs as much as working on so many pixels.
BATCH_OVERHEAD_PIXELS = 7_000


@dataclass(frozen=True)
class EMOptions:
    """How to run EM; a pytree in which only the numbers are traced, so that a new value compiles nothing.

    ===============  ==========================================================================================
    field            meaning, unit
    ===============  ==========================================================================================
    prior_smoothing  alpha >= 0, pseudo-counts, see `model.params.pseudo_counts` (traced)
    tolerance        the smallest gain that counts as progress, nats an image (traced)
    hard             one corner an image instead of probabilities (static)
    max_iterations   at most so many iterations (static)
    batch_size       images worked on at a time (static)
    accelerate       extrapolate where EM is slow, see `squarem` (static)
    transforms       that templates may be under, names of `appearances.MIRRORED_AND_TURNED` (static)
    fixed            fields of `Params` that stay as they are (static)
    ===============  ==========================================================================================
    """

    prior_smoothing: jax.Array
    tolerance: jax.Array
    hard: bool
    max_iterations: int
    batch_size: int
    accelerate: bool = False
    transforms: tuple[str, ...] = IDENTITY
    fixed: tuple[str, ...] = ()

    @property
    def soft(self) -> EMOptions:
        """The same with probabilities."""
        return replace(self, hard=False)


jax.tree_util.register_dataclass(
    EMOptions,
    data_fields=["prior_smoothing", "tolerance"],
    meta_fields=["hard", "max_iterations", "batch_size", "accelerate", "transforms", "fixed"],
)


def em_options(
    images: jax.Array,
    *,
    hard: bool,
    prior_smoothing: Any,
    max_iterations: int,
    tolerance: Any,
    batch_size: int | None,
    accelerate: bool = False,
    group_size: int = 1,
    num_shards: int = 1,
    transforms: tuple[str, ...] = IDENTITY,
    fixed: tuple[str, ...] = (),
) -> EMOptions:
    """The options, checked; runs side by side under ``vmap`` share the size of a batch, shards have batches each."""
    if batch_size is None:
        batch_size = cheapest_batch_size(len(images) // num_shards, group_size * images.shape[1] * images.shape[2])
    return EMOptions(
        prior_smoothing=as_number("prior_smoothing", prior_smoothing, images.dtype, at_least=0),
        tolerance=_as_tolerance(tolerance, images.dtype),
        hard=bool(hard),
        max_iterations=as_count("max_iterations", max_iterations, at_least=0),
        batch_size=as_count("batch_size", batch_size, at_least=1),
        accelerate=bool(accelerate),
        transforms=transforms,
        fixed=fixed,
    )


def _as_tolerance(tolerance: Any, dtype: Any) -> jax.Array:
    number = as_number("tolerance", tolerance, dtype)
    if not isinstance(number, jax.core.Tracer) and -np.inf < float(number) < 0:
        raise ArgumentValueError(
            "tolerance",
            f"must be at least 0, or minus infinity so that no gain is too small, but is {float(number):g}.",
        )
    return number


def cheapest_batch_size(num_images: int, num_pixels: int) -> int:
    """The even size of a batch of images of so many pixels that leaves least to do, few images being done twice."""
    most = (PIXELS_IN_CACHE if jax.default_backend() == "cpu" else PIXELS_ON_DEVICE) // num_pixels
    sizes = range(2, max(3, min(most, num_images + 1) + 1), 2)
    return min(sizes, key=lambda size: -(-num_images // size) * (size * num_pixels + BATCH_OVERHEAD_PIXELS))
