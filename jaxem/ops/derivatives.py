"""Results that can be differentiated forwards alone, and say so where somebody goes backwards."""

from __future__ import annotations

from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from jaxem.runtime.errors import DifferentiationError

Tree = TypeVar("Tree")


def forward_only(name: str, result: Tree) -> Tree:
    """The result as it is; going back through it raises.

    A loop whose length is not known before keeps nothing to go back on, and JAX says so in terms of the loop. Tangents
    pass through unchanged, so that forward mode stays what it is; only their transposition is refused. In a compiled
    program nothing is left of it.

    Args:
        name: of the public function that returns the result.
        result: a tree of arrays.
    """

    def pass_on(leaf: Any) -> Any:
        return _forward_only.bind(leaf, function=name) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    passed: Tree = jax.tree.map(pass_on, result)
    return passed


def _refuse(cotangent: Any, operand: Any, *, function: str) -> Any:
    raise DifferentiationError(function)


# Of JAX's own ways to say how to go back, `linear_call` has no rule for `vmap`, and so none for `jacfwd`, and
# `custom_vjp` has no forward mode.
_forward_only = Primitive("forward_only")
_forward_only.def_impl(lambda leaf, *, function: leaf)
_forward_only.def_abstract_eval(lambda leaf, *, function: leaf)
mlir.register_lowering(_forward_only, lambda context, leaf, *, function: [leaf])
batching.defvectorized(_forward_only)
ad.deflinear2(_forward_only, _refuse)
