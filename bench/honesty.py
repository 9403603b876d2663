"""Whether what is said of a result is true: confidence against the share that is right, warnings against errors.

    python bench/honesty.py [--problems 200] [--seed 0] [--json FILE]

Random problems, 20 to 400 images, contrasts from 8 to 250, two shapes, textured and flat. A place counts as right if it
is, up to one shift that all images share. A fit is bad if the squared error of its template is above 6 s^2 / K at the
best common shift, or fewer than half of the places are right; good if the error is below 2 s^2 / K and it is not bad.
"""

from __future__ import annotations

import itertools

import common
import jax
import numpy as np
import planted

import jaxem

SHAPES = (((24, 24), (8, 8)), ((40, 32), (9, 13)))
COUNTS = (20, 50, 100, 200, 400)
BANDS = np.array([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])


def draw_case(rng):
    """A random problem."""
    image_shape, template_shape = SHAPES[rng.integers(len(SHAPES))]
    flat = bool(rng.integers(2))
    picture = rng.choice(["face", "cat", "texture", "noise"])
    contrast = float(np.exp(rng.uniform(np.log(8), np.log(250))))
    count = int(rng.choice(COUNTS))
    seed = int(rng.integers(2**31))
    return planted.Case(picture, contrast, count, image_shape, template_shape, flat=flat, seed=seed)


def common_shift(found, true):
    """The shift that most corners have, and which have it."""
    shifts, numbers = np.unique(np.asarray(found) - true, axis=0, return_inverse=True)
    most = np.argmax(np.bincount(numbers.ravel()))
    return shifts[most], numbers.ravel() == most


def template_error(problem, template, shift):
    """Mean squared error in units of s^2 / K, where the template shows the same after the shift."""
    truth, count = np.asarray(problem.truth.template), len(problem.images)
    if any(abs(step) >= size for step, size in zip(shift, truth.shape, strict=True)):
        return np.inf
    # A template that lies so many rows lower shows the truth from there on.
    ahead = tuple(slice(max(0, step), size + min(0, step)) for step, size in zip(shift, truth.shape, strict=True))
    behind = tuple(slice(max(0, -step), size - max(0, step)) for step, size in zip(shift, truth.shape, strict=True))
    error = np.asarray(template)[behind] - truth[ahead]
    return float(np.mean(error**2) * count / float(problem.truth.noise_scale) ** 2)


def look_at(case):
    """What is found in one problem, and what is said of it."""
    problem = planted.make(case)
    found = jaxem.fit_restarts(jax.random.key(0), problem.images, case.template_shape)
    test = jaxem.detection_test(jax.random.key(1), problem.images, case.template_shape)
    report = jaxem.Report(found, jaxem.assess_fit(problem.images, found, test=test))
    assessment = report.assessment
    _, right = common_shift(assessment.located.corners, problem.corners)
    own_shift, own_right = common_shift(found.best.corners, problem.corners)
    error = template_error(problem, found.best.params.template, own_shift)
    bad = error > 6 or own_right.mean() < 0.5
    return {
        "case": case._asdict(),
        "confidence": np.asarray(assessment.located.confidence).round(4).tolist(),
        "right": right.tolist(),
        "right_share": float(own_right.mean()),
        "error": error,
        "verdict": "bad" if bad else "good" if error < 2 else "between",
        "codes": [remark.code for remark in report.remarks() if remark.grade == "warning"],
        "p_value": float(assessment.test.p_value),
        "agreement": float(assessment.test.agreement),
        "contrast": float(assessment.contrast),
        "num_positions": int(found.best.params.prior.size),
    }


def main():
    """All of them."""
    options = common.parser(__doc__)
    options.add_argument("--problems", type=int, default=200)
    options.add_argument("--seed", type=int, default=0)
    arguments = options.parse_args()
    rng = np.random.default_rng(arguments.seed)
    cases = sorted(
        (draw_case(rng) for _ in range(arguments.problems)), key=lambda case: (case.num_images, case.image_shape)
    )
    rows, last = [], None
    for case in cases:
        if last is not None and last != (case.num_images, case.image_shape):
            jax.clear_caches()  # XLA keeps mappings for each program, and a process may have 65 530
        last = (case.num_images, case.image_shape)
        rows.append(look_at(case))
    confidence = np.concatenate([row["confidence"] for row in rows])
    right = np.concatenate([row["right"] for row in rows])
    print("confidence   frames   stated   right   right - stated")
    for low, high in itertools.pairwise(BANDS):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            stated, actual = confidence[inside].mean(), right[inside].mean()
            print(f"{low:.1f} to {high:.1f} {inside.sum():9} {stated:8.3f} {actual:7.3f} {actual - stated:+9.3f}")
    for verdict in ("bad", "between", "good"):
        chosen = [row for row in rows if row["verdict"] == verdict]
        warned = sum(bool(row["codes"]) for row in chosen)
        print(f"{verdict:8} {len(chosen):4}, with a warning or a failed test {warned}")
    common.write(arguments.json, {"rows": rows})


if __name__ == "__main__":
    main()
