"""Whether `jaxem.gradient.fit` ends where EM ends: L-BFGS on all images, and Adam by mini-batches.

    python bench/gradients.py [--problems N] [--json FILE]

Each problem is climbed three times from one start, near the truth, in float64, with K pseudo-counts on the prior;
differences of the log likelihood are relative to EM's.
"""

from __future__ import annotations

import common
import jax
import jax.numpy as jnp
import numpy as np
import optax
import planted

import jaxem
from jaxem import gradient

LBFGS, PASSES, MINIBATCH = optax.lbfgs(), 400, 20
ADAM = optax.adam(optax.cosine_decay_schedule(0.02, PASSES * 5))


def compare(seed):
    """Relative differences of both from EM, and what EM came to."""
    picture = list(planted.PICTURES)[seed % len(planted.PICTURES)]
    case = planted.Case(picture, 100, image_shape=(20, 24), template_shape=(7, 8), seed=seed)
    problem = planted.make(case)
    images = np.asarray(problem.images, np.float64)
    start = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), problem.truth)
    smoothing = {"prior_smoothing": float(len(images))}
    by_em = jaxem.fit(images, start, max_iterations=5000, tolerance=1e-10, **smoothing)
    whole = gradient.fit(images, start, LBFGS, max_iterations=1000, tolerance=1e-10, **smoothing)
    parts = gradient.fit(
        images,
        start,
        ADAM,
        key=jax.random.key(seed),
        minibatch_size=MINIBATCH,
        max_iterations=PASSES,
        tolerance=-np.inf,
        **smoothing,
    )
    differences = [abs(float(found.elbo / by_em.elbo) - 1) for found in (whole, parts)]
    return picture, float(by_em.elbo), *differences, int(whole.num_iterations), int(by_em.num_iterations)


def main():
    """A line a problem."""
    options = common.parser(__doc__)
    options.add_argument("--problems", type=int, default=10)
    arguments = options.parse_args()
    jax.config.update("jax_enable_x64", True)
    rows = []
    print("picture        EM, nats   L-BFGS     Adam   iterations: L-BFGS, EM")
    for seed in range(arguments.problems):
        rows.append(compare(seed))
        print("{:9} {:13.3f} {:8.1e} {:8.1e}   {:5} {:5}".format(*rows[-1]), flush=True)
    largest = [max(column) for column in list(zip(*rows, strict=True))[2:4]]
    print("the largest differences: {:.1e} {:.1e}".format(*largest))
    common.write(arguments.json, {"rows": rows})


if __name__ == "__main__":
    main()
