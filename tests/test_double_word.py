"""Twice the working precision: against exact rational arithmetic, jitted, as XLA compiles it."""

import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxem.ops import double_word as dw
from jaxem.ops.double_word import DoubleWord, double_word

# Relative, with a few bits to spare: half of it would be 2^-48 and 2^-106.
RESOLUTION = {np.dtype("float32"): 2.0**-44, np.dtype("float64"): 2.0**-98}
OPERATIONS = [
    (dw.add, Fraction.__add__),
    (dw.subtract, Fraction.__sub__),
    (dw.multiply, Fraction.__mul__),
    (dw.divide, Fraction.__truediv__),
]


def exact(number):
    return Fraction(float(number.high)) + Fraction(float(number.low))


def numbers(rng, count, dtype):
    return rng.lognormal(0, 6, size=count).astype(dtype) * rng.choice([-1, 1], size=count).astype(dtype)


def test_the_four_operations(dtype):
    rng = np.random.default_rng(0)
    a, b, c, d = (numbers(rng, 200, dtype) for _ in range(4))
    x, y = (
        dw.add(double_word(jnp.asarray(high)), double_word(jnp.asarray(low * 1e-6))) for high, low in ((a, b), (c, d))
    )

    found = jax.jit(lambda x, y: [operation(x, y) for operation, _ in OPERATIONS])(x, y)

    def one(number, index):
        return exact(DoubleWord(number.high[index], number.low[index]))

    for result, (_, true) in zip(found, OPERATIONS, strict=True):
        for index in range(200):
            left, right = one(x, index), one(y, index)
            size = abs(left) + abs(right) if true in (Fraction.__add__, Fraction.__sub__) else abs(true(left, right))
            assert abs(one(result, index) - true(left, right)) <= RESOLUTION[dtype] * size


def test_a_sum_whose_terms_cancel(dtype):
    rng = np.random.default_rng(1)
    large = numbers(rng, 5000, dtype)
    terms = np.concatenate([large, rng.normal(size=100).astype(dtype), -large])
    rng.shuffle(terms)
    found = exact(jax.jit(dw.total)(jnp.asarray(terms)))
    size = sum(abs(Fraction(float(term))) for term in terms)
    assert abs(found - sum(Fraction(float(term)) for term in terms)) <= 20 * RESOLUTION[dtype] * size
    assert abs(math.fsum(terms) - float(np.sum(terms))) > 0 or dtype == np.float64


@pytest.mark.parametrize("number", [1e-30, 0.0625, 0.7072, 1.0, 1.4141, 3.0, 12345.678, 1e30])
def test_logarithm(number, dtype):
    number = np.asarray(number, dtype)
    found = jax.jit(dw.log)(number)
    if dtype == np.float32:
        assert abs(float(exact(found)) - math.log(float(number))) <= 2e-9 + 1e-14 * abs(math.log(float(number)))
    else:
        assert abs(float(exact(found)) - math.log(float(number))) <= 1e-15 * max(1, abs(math.log(float(number))))


def test_constants(dtype):
    for parts, value in ((dw.LN_2, math.log(2)), (dw.LN_2_PI, math.log(2 * math.pi))):
        assert float(exact(dw.constant(parts, dtype))) == pytest.approx(value, rel=3e-15)
