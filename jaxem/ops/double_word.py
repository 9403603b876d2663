"""Numbers in twice the working precision, for totals over whole stacks that one float32 cannot hold.

The log density of a stack is a number like -1e8 of which hundredths matter. Error-free transformations after Dekker
(1971), *A floating-point technique for extending the available precision*, Numer. Math. 18, and Knuth, *The Art of
Computer Programming* 2, section 4.2.2.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# As a float64 and what it leaves.
LN_2 = (0.6931471805599453, 2.3190468138462996e-17)
LN_2_PI = (1.8378770664093456, -7.756588316134483e-17)


class DoubleWord(NamedTuple):
    """high + low, where high is that sum rounded."""

    high: jax.Array
    low: jax.Array


def double_word(number: jax.Array) -> DoubleWord:
    """A number as a double word."""
    return DoubleWord(number, jnp.zeros_like(number))


def constant(parts: tuple[float, float], dtype: np.dtype) -> DoubleWord:
    """A float64 and what it leaves as a double word of a dtype."""
    high = np.asarray(parts[0], dtype)
    return DoubleWord(jnp.asarray(high), jnp.asarray((parts[0] - float(high)) + parts[1], dtype))


def add(x: DoubleWord, y: DoubleWord) -> DoubleWord:
    """x + y."""
    total = _two_sum(x.high, y.high)
    return _two_sum(total.high, total.low + (x.low + y.low))


def add_trees(x: Any, y: Any) -> Any:
    """x + y, leaf by leaf, where `DoubleWord` counts as a leaf."""

    def add_leaves(a: Any, b: Any) -> Any:
        return add(a, b) if isinstance(a, DoubleWord) else a + b

    return jax.tree.map(add_leaves, x, y, is_leaf=lambda leaf: isinstance(leaf, DoubleWord))


def subtract(x: DoubleWord, y: DoubleWord) -> DoubleWord:
    """x - y."""
    return add(x, scale(y, -1))


def scale(x: DoubleWord, factor: float) -> DoubleWord:
    """x times a power of two, which is exact."""
    return DoubleWord(x.high * factor, x.low * factor)


def multiply(x: DoubleWord, y: DoubleWord) -> DoubleWord:
    """x y."""
    product = _two_product(x.high, y.high)
    return _two_sum(product.high, product.low + (x.high * y.low + x.low * y.high))


def divide(x: DoubleWord, y: DoubleWord) -> DoubleWord:
    """x / y."""
    quotient = x.high / y.high
    back = _two_product(quotient, y.high)
    rest = ((x.high - back.high) - back.low) + (x.low - quotient * y.low)
    return _two_sum(quotient, rest / y.high)


@jax.custom_jvp
def total(terms: jax.Array) -> DoubleWord:
    """Sum of all terms along the last axis, (..., n) -> (...)."""
    zero = np.zeros((), terms.dtype)
    return DoubleWord(*lax.reduce((terms, jnp.zeros_like(terms)), (zero, zero), _add_tuples, (terms.ndim - 1,)))


@total.defjvp
def _total_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[DoubleWord, DoubleWord]:
    """JAX has no rule for a sum of pairs of which one part is constant; derivatives need no second word."""
    return total(*primals), double_word(jnp.sum(tangents[0], axis=-1))


def over_entries(numbers: DoubleWord) -> DoubleWord:
    """Sum of all entries of a double word (n,)."""
    if numbers.high.size == 1:
        return DoubleWord(numbers.high[0], numbers.low[0])
    zero = np.zeros((), numbers.high.dtype)
    return DoubleWord(*lax.reduce(tuple(numbers), (zero, zero), _add_tuples, (0,)))


def log(number: jax.Array) -> DoubleWord:
    """ln x of a positive number x = 2^e m, with ln m = 2 (t + t^3/3 + t^5/5 + ...), t = (m - 1) / (m + 1)."""
    exponent = jnp.round(jnp.log2(number))
    mantissa = jnp.ldexp(number, -exponent.astype(jnp.int32))
    t = divide(double_word(mantissa - 1), _two_sum(mantissa, jnp.ones_like(mantissa)))
    square = t.high * t.high
    series = jnp.zeros_like(square)
    for power in range(_last_power(number.dtype), 1, -2):
        series = (series + 1 / power) * square
    whole = multiply(double_word(exponent), constant(LN_2, number.dtype))
    return add(whole, DoubleWord(2 * t.high, 2 * (t.low + t.high * series)))


def _last_power(dtype: np.dtype) -> int:
    """The highest power of t that counts, where abs(t) <= 0.172."""
    return 9 if dtype == np.float32 else 25


def _two_sum(a: jax.Array, b: jax.Array) -> DoubleWord:
    high = a + b
    part = high - a
    return DoubleWord(high, (a - (high - part)) + (b - part))


def _two_product(a: jax.Array, b: jax.Array) -> DoubleWord:
    """a b, from four products that are exact, so that a compiler may fuse them with what follows as it likes.

    What rounding left of a product is lost where a compiler fuses that product into the subtraction that is to find it.
    """
    a_high, a_low = _halves(a)
    b_high, b_low = _halves(b)
    across = _two_sum(a_high * b_low, a_low * b_high)
    whole = _two_sum(a_high * b_high, across.high)
    return _two_sum(whole.high, whole.low + (across.low + a_low * b_low))


def _halves(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two numbers of half the digits with the sum a, whose products with their like are exact."""
    info = jnp.finfo(a.dtype)
    high = lax.reduce_precision(a, exponent_bits=info.nexp, mantissa_bits=(info.nmant - 1) // 2)
    return high, a - high


def _add_tuples(x: tuple[jax.Array, jax.Array], y: tuple[jax.Array, jax.Array]) -> DoubleWord:
    return add(DoubleWord(*x), DoubleWord(*y))
