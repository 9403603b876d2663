"""Random problems in which every option may be on, beside enumeration; and whether their fits ever fall.

    JAX_ENABLE_X64=1 python bench/combinations.py [--combinations 50] [--seed 0] [--json FILE]

Four problems of each combination, so that compiling is not most of the work, drawn as in ``tests/general_problems.py``.
Each is compared part by part with `jaxem.assess.reference`, in float64 and in float32: |actual - expected| over
1 + |expected|. Then it is fitted, soft or hard, with fields held or not, with pseudo-counts or without, and the fit is
compared with the steps of the public functions. Prints the worst error of each part, how often an objective fell, and
the largest slope that an M-step left: that of the exact bound along random changes of template, background and noise
that are not held, nats a pixel. Pixels of a fit that the posterior all but leaves out are known no better than their
share of the weight over the machine epsilon, so pixels count as wrong from a hundredth on, the objective from 1e-9.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import common
import jax
import numpy as np

import jaxem
from jaxem.assess import reference

sys.path.append(str(Path(__file__).parent.parent / "tests"))
import general_problems

ITERATIONS, PROBLEMS_EACH, TOLERANCE = 15, 4, {"float64": 1e-9, "float32": 2e-4}
FIXED = [(), (), ("background",), ("template",), ("noise_scale",), ("prior",), ("absent",)]
FIXED += [("background", "noise_scale")]
FIT_TOLERANCE = {"fit: template": 1e-2, "fit: background": 1e-2, "fit: history": 1e-9}


def gap(actual, expected):
    """The worst error, relative where numbers are large."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    return float(np.max(np.abs(actual - expected) / (1 + np.abs(expected)), initial=0))


def fitted(problem, options):
    """A fit of some iterations that does not stop early."""
    options = {**options, "weights": problem.weights, "frame_weights": problem.frame_weights}
    return jaxem.fit(problem.images, problem.params, max_iterations=ITERATIONS, tolerance=-np.inf, **options)


def compare_fit(problem, options, rng):
    """Errors of a fit in float64, and in which precisions it fell."""
    found, params = fitted(problem, options), problem.params
    given = general_problems.common(problem)
    counted = {**given, "frame_weights": problem.frame_weights}
    step_options = {name: options[name] for name in ("prior_smoothing", "fixed")}
    history, slope = [], 0.0
    for step in range(ITERATIONS + 1):
        hidden = jaxem.e_step(problem.images, params, hard=options["hard"], **given)
        history.append(float(jaxem.elbo(problem.images, params, hidden, **counted)))
        if step == ITERATIONS:
            break
        shape = general_problems.template_shape_of(problem)
        params = jaxem.m_step(problem.images, hidden, shape, params=params, **step_options, **counted)
        if step == 0 and not options["hard"]:
            slope = slope_left(problem, params, hidden, options["fixed"], rng)
    errors = {"slope": slope}
    for name, one, other in zip(params._fields, found.params, params, strict=True):
        if one is not None:
            errors[f"fit: {name}"] = gap(one, other)
    if not options["prior_smoothing"]:
        errors["fit: history"] = gap(found.history, history)
    for name in options["fixed"]:
        if getattr(problem.params, name) is not None:
            errors[f"held: {name}"] = gap(getattr(found.params, name), getattr(problem.params, name))
    rises = np.diff(found.history)
    single = fitted(general_problems.as_dtype(problem, np.float32), options)
    fell = {
        "float64": bool(np.any(rises < -1e-9 * np.abs(found.history[1:]))) or not np.isfinite(found.elbo),
        "float32": int(single.status) in (jaxem.Status.DECREASED, jaxem.Status.NONFINITE),
    }
    return errors, fell


def slope_left(problem, params, hidden, fixed, rng):
    """Of the exact bound after an M-step, along a random change of what is not held."""
    params = jaxem.Params(*(None if leaf is None else np.asarray(leaf) for leaf in params))
    probs, absent = (None if leaf is None else np.asarray(leaf) for leaf in (hidden.probs, hidden.absent))
    counts = 1.0 if problem.frame_weights is None else problem.frame_weights
    free = [name for name in ("template", "background", "noise_scale") if name not in fixed]
    change = {name: rng.normal(size=np.shape(getattr(params, name))) for name in free}

    def bound(step):
        moved = params._replace(**{name: getattr(params, name) + step * change[name] for name in free})
        return reference.elbo(
            problem.images, moved, probs, absent, problem.weights, counts, transforms=problem.transforms
        )

    step = 1e-5
    return abs(bound(step) - bound(-step)) / (2 * step * problem.images.size)


def fit_options(rng):
    """Those that compile anew."""
    return {
        "hard": bool(rng.integers(2)),
        "fixed": FIXED[rng.integers(len(FIXED))],
        "batch_size": int(rng.integers(1, 5)),
    }


def compare(problem, options, rng):
    """Errors of everything, each with what is allowed, and in which precisions the fit fell."""
    errors = {}
    for dtype, tolerance in TOLERANCE.items():
        for what, actual, expected in general_problems.comparisons(problem, np.dtype(dtype)):
            error = gap(actual, expected) if actual.dtype == dtype else np.inf
            errors[f"{dtype} {what}"] = error, tolerance
    of_fit, fell = compare_fit(problem, options, rng)
    return errors | {what: (error, FIT_TOLERANCE.get(what, 1e-6)) for what, error in of_fit.items()}, fell


def main():
    """All problems, then what is worst."""
    options = common.parser(__doc__)
    options.add_argument("--combinations", type=int, default=50)
    options.add_argument("--seed", type=int, default=0, help="of the first combination")
    arguments = options.parse_args()
    if not jax.config.jax_enable_x64:
        raise SystemExit("set JAX_ENABLE_X64=1")
    worst, falls, wrong = defaultdict(float), dict.fromkeys(TOLERANCE, 0), []
    for combination in range(arguments.seed, arguments.seed + arguments.combinations):
        rng = np.random.default_rng(combination)
        chosen, static = general_problems.random_options(rng), fit_options(rng)
        for number in range(PROBLEMS_EACH):
            problem = general_problems.draw(1000 * combination + number, **chosen)
            options = static | {"transforms": problem.transforms, "prior_smoothing": [0.0, 2.5][number % 2]}
            name = f"problem {number} of combination {combination}: {problem.name}, {options}"
            errors, fell = compare(problem, options, rng)
            for what, (error, tolerance) in errors.items():
                worst[what] = max(worst[what], error)
                if not error <= tolerance:
                    wrong.append(f"{what} {error:.1e}; {name}")
            for dtype, has_fallen in fell.items():
                falls[dtype] += has_fallen
                if has_fallen:
                    wrong.append(f"the objective fell in {dtype}; {name}")
        jax.clear_caches()
        if combination % 10 == 9:
            print(f"{combination + 1} combinations", file=sys.stderr, flush=True)
    for what, error in sorted(worst.items()):
        print(f"{what:36} {error:.1e}")
    number = PROBLEMS_EACH * arguments.combinations
    print(f"{number} problems; falls: {falls}; wrong: {len(wrong)}")
    print(*wrong, sep="\n")
    common.write(arguments.json, {"problems": number, "worst": worst, "falls": falls, "wrong": wrong})


if __name__ == "__main__":
    main()
