"""The setting of the paper: 1000 small pictures, ten random starts of 50 iterations; and the default search beside it.

    python bench/setting.py [--seeds N] [--json FILE]

For soft and for hard EM, and for each contrast: the log likelihood that the search found less that of ten starts, the
median and the lowest of the problems, nats an image; and medians of the search's E-steps and seconds, with their shares
of those of ten starts.
"""

from __future__ import annotations

import time

import common
import jax
import jax.numpy as jnp
import numpy as np
import planted

import jaxem

NUM_IMAGES, IMAGE_SHAPE, TEMPLATE_SHAPE = 1000, (28, 28), (10, 10)
PAPER = {"num_restarts": 10, "search": None}
WAYS = {
    "soft": (PAPER, {}),
    "hard": ({**PAPER, "hard": True}, {"hard": True}),
    "hard, alpha = K/10": (
        {**PAPER, "hard": True, "prior_smoothing": NUM_IMAGES / 10},
        {"hard": True, "prior_smoothing": NUM_IMAGES / 10},
    ),
}


def take(images, options):
    """Log likelihood, E-steps and seconds of one way."""
    before = time.perf_counter()
    found = jaxem.fit_restarts(jax.random.key(7), images, TEMPLATE_SHAPE, **options)
    jax.block_until_ready(found)
    seconds = time.perf_counter() - before
    height = float(jaxem.log_likelihood(images, found.best.params).sum()) / NUM_IMAGES
    return height, int(found.diagnostics.num_steps), seconds


def main():
    """A line a way and contrast."""
    options = common.parser(__doc__)
    options.add_argument("--seeds", type=int, default=20)
    arguments = options.parse_args()
    rows = {}
    print("contrast  EM                  search less ten: median, lowest   E-steps         seconds")
    for contrast in (100, 20):
        for name, ways in WAYS.items():
            taken = []
            for seed in range(arguments.seeds):
                picture = list(planted.PICTURES)[seed % len(planted.PICTURES)]
                case = planted.Case(picture, contrast, NUM_IMAGES, IMAGE_SHAPE, TEMPLATE_SHAPE, seed=seed)
                images = jnp.asarray(planted.make(case).images)
                if seed == 0:  # compile
                    [take(images, way) for way in ways]
                taken.append([take(images, way) for way in ways])
            ten, search = np.moveaxis(np.array(taken), 1, 0)
            gains, steps, seconds = (search - ten)[:, 0], *(np.median(search, axis=0) / np.median(ten, axis=0))[1:]
            rows[f"{name}, {contrast}"] = {"gains": gains.tolist(), "steps": steps, "seconds": seconds}
            print(
                f"{contrast:8}  {name:20} {np.median(gains):+11.4f} {gains.min():+11.4f} "
                f"{np.median(search[:, 1]):8.0f} ({steps:.2f}) {np.median(search[:, 2]):8.2f} ({seconds:.2f})",
                flush=True,
            )
    common.write(arguments.json, {"rows": rows})


if __name__ == "__main__":
    main()
