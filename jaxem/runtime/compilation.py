"""Programs that are compiled in half the time and run as fast.

XLA for CPU spends most of a first call on its fusion emitters and on optimisations that these programs do not need:
their time goes into transforms and passes over a cache. `jit` leaves both out where the choice is ours to make, that is
in programs of their own on a CPU; inside another program, whoever compiles that decides. Figures: ``bench/README.md``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cache, wraps
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

QUICK: dict[str, bool | int] = {"xla_cpu_use_fusion_emitters": False, "xla_backend_optimization_level": 1}

Function = TypeVar("Function", bound=Callable[..., Any])


def jit(function: Function, static_argnames: Sequence[str] = (), *, is_small: bool = False) -> Function:
    """`jax.jit` for a program that takes long to compile.

    Args:
        function: what to compile.
        static_argnames: as for `jax.jit`.
        is_small: whether it has so little to do that no optimisation pays.
    """
    inside = jax.jit(function, static_argnames=static_argnames)

    @cache
    def alone() -> Any:
        return jax.jit(function, static_argnames=static_argnames, compiler_options=_quick_options(is_small))

    @wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        return (inside if _is_traced(args, options) else alone())(*args, **options)

    return call  # type: ignore[return-value]


def _is_traced(*arguments: Any) -> bool:
    """Whether a call is part of another program, even one that hands it nothing but constants."""
    here = jnp.asarray(np.zeros((), np.float32))
    return any(isinstance(leaf, jax.core.Tracer) for leaf in (here, *jax.tree.leaves(arguments)))


@cache
def _quick_options(is_small: bool) -> dict[str, bool | int]:
    """Those of `QUICK` that this version of XLA knows, and that nobody has set in ``XLA_FLAGS``."""
    if jax.default_backend() != "cpu":
        return {}
    named = {flag.lstrip("-").partition("=")[0] for flag in os.environ.get("XLA_FLAGS", "").split()}
    options = QUICK | {"xla_backend_optimization_level": 0} if is_small and QUICK else QUICK
    return {name: value for name, value in options.items() if name not in named and _is_known(name, value)}


def _is_known(name: str, value: bool | int) -> bool:
    try:
        jax.jit(jnp.negative, compiler_options={name: value}).lower(np.float32(0)).compile()
    except Exception:  # each version of XLA has its own way to say that it does not know an option
        return False
    return True
