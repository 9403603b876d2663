"""Parameters that may be any numbers, for steps that know no constraints."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxem.model.params import Params


class Unconstrained(NamedTuple):
    """F, B, ln s, and the square roots of A times any factor.

    Square roots of a distribution lie on a sphere, on which equal lengths are equal amounts of Fisher information.
    """

    template: jax.Array
    background: jax.Array
    log_noise_scale: jax.Array
    prior_root: jax.Array


def to_unconstrained(params: Params) -> Unconstrained:
    """The parameters without their constraints."""
    template, background, noise_scale, prior = params
    return Unconstrained(template, background, jnp.log(noise_scale), jnp.sqrt(prior))


def from_unconstrained(free: Unconstrained) -> Params:
    """Back: a positive noise scale, and a prior that sums to one."""
    squares = free.prior_root**2
    return Params(free.template, free.background, jnp.exp(free.log_noise_scale), squares / jnp.sum(squares))
