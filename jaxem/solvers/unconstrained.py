"""Parameters that may be any numbers, for steps that know no constraints."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxem.model.params import Params


class Unconstrained(NamedTuple):
    """F, B, ln s, and the square roots of A and A_0 times any factor; the opacity comes along as it is.

    Square roots of a distribution lie on a sphere, on which equal lengths are equal amounts of Fisher information.
    """

    template: jax.Array
    background: jax.Array
    log_noise_scale: jax.Array
    prior_root: jax.Array
    absent_root: jax.Array | None = None


def to_unconstrained(params: Params) -> Unconstrained:
    """The parameters without their constraints."""
    template, background, noise_scale, prior, absent, _ = params
    absent_root = None if absent is None else jnp.sqrt(absent)
    return Unconstrained(template, background, jnp.log(noise_scale), jnp.sqrt(prior), absent_root)


def from_unconstrained(free: Unconstrained, opacity: jax.Array | None = None) -> Params:
    """Back: a positive noise scale, and a prior that sums to one."""
    squares, absent = free.prior_root**2, None
    total = jnp.sum(squares)
    if free.absent_root is not None:
        total = total + free.absent_root**2
        absent = free.absent_root**2 / total
    return Params(free.template, free.background, jnp.exp(free.log_noise_scale), squares / total, absent, opacity)
