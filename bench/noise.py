"""How often `jaxem.noise_check` finds a template: in noise alone, and where there is one.

    python bench/noise.py [--stacks N] [--planted N] [--contrast E] [--json FILE]

Stacks of 100 images of 32 x 32, template 12 x 12; the backgrounds are those of the planted problems, in turn.
"""

from __future__ import annotations

import common
import jax
import jax.numpy as jnp
import numpy as np
import planted

import jaxem

LEVEL, TEMPLATE_SHAPE = 0.05, (12, 12)


def rejects(images, seed):
    """Whether the check says that these images hold a template."""
    check = jaxem.noise_check(jax.random.key(seed), images, TEMPLATE_SHAPE)
    return float(check.p_value) <= LEVEL * (1 + 1e-6)


def main():
    """Both rates."""
    options = common.parser(__doc__)
    options.add_argument("--stacks", type=int, default=200, help="of noise alone")
    options.add_argument("--planted", type=int, default=50, help="with a template")
    options.add_argument("--contrast", type=float, default=50.0, help="of that template")
    arguments = options.parse_args()
    rates = {}
    for name, count in (("noise alone", arguments.stacks), (f"contrast {arguments.contrast:g}", arguments.planted)):
        found = []
        for seed in range(count):
            picture = list(planted.PICTURES)[seed % len(planted.PICTURES)]
            problem = planted.make(planted.Case(picture, arguments.contrast, seed=seed))
            images = jnp.asarray(problem.images)
            if name == "noise alone":
                noise = np.random.default_rng(seed).normal(size=images.shape)
                images = jnp.asarray(problem.truth.background + problem.truth.noise_scale * noise, jnp.float32)
            found.append(rejects(images, seed))
        rates[name] = (sum(found), count)
        print(f"{name:14} {sum(found):4} of {count} rejected, {100 * np.mean(found):.1f} %", flush=True)
    common.write(arguments.json, {"rates": rates})


if __name__ == "__main__":
    main()
