"""Does this machine compute rightly? Every path that a fit takes, beside the reference in float64 NumPy.

Compilers err: XLA for CPU (seen with jaxlib 0.10.2) compiles a padded axis of length one under a cumulative sum
wrongly. The library avoids what is known; here is how to find out, on other versions and devices, what is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Context, Decimal, localcontext
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from jaxem.assess import reference
from jaxem.model import whole_stack
from jaxem.model.params import Params, Positions, Posterior
from jaxem.ops import double_word, fourier, windows
from jaxem.ops.double_word import DoubleWord
from jaxem.ops.windows import Shape, positions_shape
from jaxem.runtime.resources import available_cores
from jaxem.solvers import single_run

# (K, H, W), (h, w). An odd number of images leaves one without its pair, and makes the last batch of two overlap.
ORDINARY = ((3, 5, 8), (2, 3))
HIGH = ((4, 6, 4), (6, 1))  # as high as the image, one wide
WIDE = ((3, 4, 7), (1, 7))  # as wide as the image, one high
WHOLE = ((2, 4, 6), (4, 6))
MANY_STAGES = ((3, 40, 50), (17, 23))
SMOOTHING, NUM_ITERATIONS = 0.5, 2
ALLOWED = {np.dtype("float32"): 1e-4, np.dtype("float64"): 1e-9}


class Check(NamedTuple):
    """How far one function is from the reference.

    =======  ==================================================================================
    field    meaning
    =======  ==================================================================================
    name     the function and its precision
    error    its largest error over all shapes tried, relative to the largest value expected
    allowed  the error that rounding explains
    =======  ==================================================================================
    """

    name: str
    error: float
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether the function is right; NaN never is."""
        return bool(np.isfinite(self.error) and self.error <= self.allowed)


def selfcheck() -> tuple[Check, ...]:
    """Compare all that a fit computes with a plain reference, as this machine's versions and device compute it.

    Every function runs on small images of awkward shapes, in single precision and, where it is switched on, in double.
    Takes ten seconds or more for each, nearly all of them the compiler's.

    Args:
        None.

    Returns:
        One `Check` for each function and precision; do not believe a machine where one of them has not ``passed``.

    Raises:
        RuntimeError: the device cannot run what it is given at all.

    Example:
        >>> import jaxem
        >>> [check.name for check in jaxem.selfcheck() if not check.passed]
        []

    Source: ``docs/numerics.md``, *Operators*.
    """
    dtypes = dict.fromkeys(jax.dtypes.canonicalize_dtype(wide) for wide in (np.float32, np.float64))
    return tuple(check for dtype in dtypes for check in _checks(dtype))


class _Trial(NamedTuple):
    """Something to compile and run, and what it should give: a dictionary with a tree of arrays for each name."""

    function: Callable[..., dict[str, Any]]
    arrays: tuple[Any, ...]
    expected: dict[str, Any]


def _checks(dtype: np.dtype) -> Iterator[Check]:
    trials = list(_trials(dtype))
    # Only the compiler, which takes nearly all the time, is left to threads: devices and precisions that a caller has
    # chosen with a context manager hold in the caller's thread alone.
    lowered = [jax.jit(lambda *given, f=trial.function: f(*given)).lower(*trial.arrays) for trial in trials]
    with ThreadPoolExecutor(available_cores()) as pool:
        compiled = list(pool.map(lambda one: one.compile(), lowered))
    worst: dict[str, float] = {}
    for trial, program in zip(trials, compiled, strict=True):
        found = program(*trial.arrays)
        for name, expected in trial.expected.items():
            worst[name] = float(np.maximum(worst.get(name, 0.0), _error(found[name], expected)))  # which keeps NaN
    yield from (Check(f"{name}, {dtype}", error, ALLOWED[dtype]) for name, error in worst.items())
    yield from _double_word_checks(dtype)


def _trials(dtype: np.dtype) -> Iterator[_Trial]:
    for shapes in (ORDINARY, HIGH, WIDE, WHOLE, MANY_STAGES):
        images, params, maps, corners = _problem(*shapes, dtype)
        operands = images, maps, params.template, corners, images[:, *reference.window((0, 0), params.template.shape)]
        yield _Trial(_operate, operands, _expected_of_operators(*_as_float64(operands)))
    # Steps take long to compile; fits take other ways through them. So each has shapes of its own.
    for hard, shapes in ((False, HIGH), (True, WIDE)):
        images, params, probs, corners = _problem(*shapes, dtype)
        problem = images, params, Positions(corners) if hard else Posterior(probs)
        yield _Trial(_take_steps, problem, _expected_of_steps(*_as_float64(problem)))
        start = _problem(*ORDINARY, dtype)[:2]
        yield _Trial(partial(_run_fit, hard=hard), start, _expected_of_fit(*_as_float64(start), hard=hard))


def _error(actual: Any, expected: Any) -> float:
    """The largest error of any array, each relative to the largest value expected in it."""
    errors = []
    for found, wanted in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        if np.shape(found) != np.shape(wanted):
            return np.inf
        difference = np.abs(np.asarray(found, np.float64) - wanted)
        errors.append(np.max(difference) / (np.max(np.abs(wanted)) or 1))
    return float(np.max(errors))


def _as_float64(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: np.asarray(leaf, None if leaf.dtype == np.int32 else np.float64), tree)


def _problem(stack_shape: Shape, template_shape: Shape, dtype: np.dtype) -> tuple[Any, Params, Any, Any]:
    """Images of the model, parameters not quite theirs, and a posterior of each kind that they have not led to."""
    rng = np.random.default_rng(7)
    num_images, *image_shape = stack_shape
    places = positions_shape(tuple(image_shape), template_shape)
    template, background = 2 + rng.normal(size=template_shape), rng.normal(size=image_shape)
    images = np.repeat(background[None], num_images, axis=0)
    corners = np.stack([rng.integers(0, count, num_images) for count in places], axis=1)
    for image, corner in zip(images, corners, strict=True):
        image[reference.window(corner, template_shape)] = template
    images += rng.normal(size=stack_shape)
    probs = rng.dirichlet(np.ones(places[0] * places[1]), num_images).reshape(num_images, *places)
    prior = rng.dirichlet(np.full(probs[0].size, 5.0)).reshape(places)
    numbers = images, Params(template + 0.3, background - 0.2, np.array(1.2), prior), probs  # type: ignore[arg-type]
    images, params, probs = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), numbers)
    return images, params, probs, jnp.asarray(corners[::-1], jnp.int32)


def _operate(images: Any, maps: Any, template: Any, corners: Any, pasted: Any) -> dict[str, Any]:
    image_shape, template_shape = images.shape[1:], template.shape
    pairs, spectra = (fourier.transform_pairs(stack[:, None], image_shape) for stack in (images, maps))
    correlated = fourier.correlate_pairs(pairs, fourier.transform_template(template[None, None], image_shape))
    return {
        "correlate": windows.correlate(images, template),
        "backproject": windows.backproject(images, maps),
        "window_sums": windows.window_sums(images, template_shape),
        "coverage": windows.coverage(maps, template_shape),
        "window_sums_in_stages": windows.window_sums_in_stages(images, template_shape),
        "coverage_in_stages": windows.coverage_in_stages(maps, template_shape),
        "gather": windows.gather(images[:, None], corners, template_shape)[:, 0],
        "paste": windows.paste(pasted[:, None], corners, image_shape)[0],
        "correlate_pairs": fourier.pairs_of(correlated, maps.shape[1:])[: len(images), 0],
        "backproject_pairs": fourier.template_of(fourier.backproject_pairs(pairs, spectra), template_shape)[0, 0],
    }


def _take_steps(images: Any, params: Params, posterior: Posterior | Positions) -> dict[str, Any]:
    kind = "hard " if isinstance(posterior, Positions) else ""
    return {
        f"{kind}e_step": whole_stack.e_step(images, params, hard=bool(kind)),
        f"{kind}m_step": whole_stack.m_step(images, posterior, params.template.shape, prior_smoothing=SMOOTHING),
        f"{kind}elbo": whole_stack.elbo(images, params, posterior),
    }


def _run_fit(images: Any, params: Params, *, hard: bool) -> dict[str, Any]:
    options: dict[str, Any] = {"prior_smoothing": SMOOTHING, "max_iterations": NUM_ITERATIONS, "tolerance": -np.inf}
    found = single_run.fit(images, params, hard=hard, batch_size=2, **options)
    return {"hard fit" if hard else "fit": (found.params, found.history)}


def _double_word_checks(dtype: np.dtype) -> Iterator[Check]:
    """DoubleWords are to carry far more than their own precision does, so they are compared with decimal numbers."""
    eps = float(jnp.finfo(dtype).eps)
    terms = np.random.default_rng(9).normal(1e4, 1e4, size=999).astype(dtype)
    numbers = np.array([1e-5, 0.3, 0.999, 1.0, 1.4142, 77.0, 1e6], dtype)
    total, logs = jax.jit(lambda *given: (double_word.total(given[0]), double_word.log(given[1])))(terms, numbers)
    with localcontext(Context(prec=60, traps=[])):
        exact = [Decimal(float(term)) for term in terms]
        error = float(abs(_decimals(total)[0] - sum(exact)) / sum(map(abs, exact)))
        pairs = zip(_decimals(logs), numbers, strict=True)
        errors = [float(abs(found - Decimal(float(number)).ln())) for found, number in pairs]
    yield Check(f"double_word total, {dtype}", error, len(terms) * eps**2)
    yield Check(f"double_word log, {dtype}", float(np.max(errors)), eps / 16)


def _decimals(numbers: DoubleWord) -> list[Decimal]:
    high, low = (np.atleast_1d(np.asarray(part, np.float64)) for part in numbers)
    return [Decimal(float(upper)) + Decimal(float(lower)) for upper, lower in zip(high, low, strict=True)]


def _expected_of_operators(images: Any, maps: Any, template: Any, corners: Any, pasted: Any) -> dict[str, Any]:
    cut = sliding_window_view(images, template.shape, axis=(1, 2))
    canvas = np.zeros(images.shape[1:])
    for corner, piece in zip(corners, pasted, strict=True):
        canvas[reference.window(corner, template.shape)] += piece
    expected = {
        "correlate": np.einsum("kijuv,uv->kij", cut, template),
        "backproject": np.einsum("kij,kijuv->uv", maps, cut),
        "window_sums": cut.sum(axis=(3, 4)),
        "coverage": reference.coverage(maps, images.shape[1:], template.shape),
        "gather": cut[np.arange(len(images)), corners[:, 0], corners[:, 1]],
        "paste": canvas,
    }
    by_stages = {f"{name}_in_stages": expected[name] for name in ("window_sums", "coverage")}
    by_pairs = {f"{name}_pairs": expected[name] for name in ("correlate", "backproject")}
    return expected | by_stages | by_pairs


def _posterior(images: Any, params: Any, hard: bool) -> Any:
    if hard:
        return reference.one_hot(reference.best_corners(images, params), params.prior.shape)
    return reference.posterior(images, params)


def _updated(images: Any, probs: Any, params: Any) -> Params:
    found = reference.m_step(images, probs, params, SMOOTHING)
    leaves = found.template, found.background, found.variance[0] ** 0.5, found.prior
    return Params(*(np.asarray(leaf) for leaf in leaves))  # type: ignore[arg-type]


def _expected_of_steps(images: Any, params: Any, posterior: Any) -> dict[str, Any]:
    hard = isinstance(posterior, Positions)
    given = reference.one_hot(posterior.corners, params.prior.shape) if hard else posterior.probs
    best = _posterior(images, params, hard)
    densities = [reference.elbo(images[k : k + 1], params, best[k : k + 1]) for k in range(len(images))]
    kind = "hard " if hard else ""
    return {
        f"{kind}e_step": (np.argwhere(best)[:, 1:] if hard else best, np.array(densities)),
        f"{kind}m_step": _updated(images, given, params),
        f"{kind}elbo": np.array(reference.elbo(images, params, given)),
    }


def _expected_of_fit(images: Any, params: Any, *, hard: bool) -> dict[str, Any]:
    probs: Any = None
    history = []
    for _ in range(NUM_ITERATIONS + 1):
        params = params if probs is None else _updated(images, probs, params)
        probs = _posterior(images, params, hard)
        history.append(reference.elbo(images, params, probs) + SMOOTHING * np.log(params.prior).mean())
    return {"hard fit" if hard else "fit": (params, np.array(history))}
