"""How often the truth lies within 1.96 standard errors: of template, background and noise.

    python bench/coverage.py [--problems 40] [--json FILE]

Textured problems, 24 x 24 / 8 x 8, fitted from the truth. Of the noise it is one number a problem.
"""

from __future__ import annotations

import common
import jax.numpy as jnp
import numpy as np
import planted

import jaxem
from jaxem.assess.evaluation import evaluate


def main():
    """A row for each contrast and number of images."""
    options = common.parser(__doc__)
    options.add_argument("--problems", type=int, default=40)
    arguments = options.parse_args()
    figures = {}
    print("     E    K   template  background  noise")
    for contrast in (300, 100, 50, 30):
        for count in (100, 400):
            covered = []
            for seed in range(arguments.problems):
                problem = planted.make(planted.Case("texture", contrast, count, (24, 24), (8, 8), seed=seed))
                images = jnp.asarray(problem.images)
                fit = jaxem.fit(images, problem.truth, max_iterations=100)
                found = evaluate(images, fit.params)
                errors = found.standard_errors
                estimates = (fit.params.template, fit.params.background, found.noise_scale)
                widths = (errors.template, errors.background, errors.noise_scale)
                truths = (problem.truth.template, problem.truth.background, problem.truth.noise_scale)
                within = [
                    np.abs(np.asarray(estimate) - np.asarray(truth)) < 1.96 * np.asarray(width)
                    for estimate, truth, width in zip(estimates, truths, widths, strict=True)
                ]
                known = [np.isfinite(np.asarray(width)) for width in widths]
                covered.append([inside[there].mean() for inside, there in zip(within, known, strict=True)])
            row = np.mean(covered, axis=0)
            figures[f"{contrast} {count}"] = row.tolist()
            print(f"{contrast:6} {count:4}   {row[0]:8.3f}  {row[1]:10.3f}  {row[2]:5.3f}", flush=True)
    common.write(arguments.json, figures)


if __name__ == "__main__":
    main()
