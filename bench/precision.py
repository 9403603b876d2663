"""How exact single precision is: the log likelihood of large frames beside the same in float64.

    JAX_ENABLE_X64=1 python bench/precision.py [--json FILE]

Frames of 1024 x 1024 pixels, 0 to 255, smooth pictures and a template of 128 x 128; all pixels seen, and each frame
with a mask of its own, a fifth of its pixels hidden. Prints for each noise the worst relative error of
`jaxem.log_likelihood` over the frames, and that of the objective of a fit, an image each.
"""

from __future__ import annotations

import common
import jax
import numpy as np

import jaxem


def picture(rng, size):
    """A few waves, 0 to 255."""
    rows, columns = np.mgrid[0:size, 0:size] / size
    waves = sum(np.sin(rng.uniform(0, 25) * rows + rng.uniform(0, 25) * columns + rng.uniform(0, 6)) for _ in range(6))
    return 255 * (waves - waves.min()) / np.ptp(waves)


def problem(noise_scale, seed, size=1024, height=128, num_images=4):
    """Frames of 8 bits, and parameters a little off the truth, float32."""
    rng = np.random.default_rng(seed)
    template, background = picture(rng, height), picture(rng, size)
    images = np.repeat(background[None], num_images, axis=0)
    for image, (row, column) in zip(images, rng.integers(0, size - height + 1, (num_images, 2)), strict=True):
        image[row : row + height, column : column + height] = template
    images = np.clip(np.rint(images + noise_scale * rng.normal(size=images.shape)), 0, 255).astype(np.float32)
    positions = size - height + 1
    guess = template + noise_scale * rng.normal(size=template.shape)
    prior = np.full((positions, positions), 1 / positions**2)
    return images, jaxem.Params(*(np.float32(leaf) for leaf in (guess, background, noise_scale, prior)))


def errors(images, params, mask):
    """Of the log likelihood and of a fit's objective in single precision, relative."""
    both = []
    for dtype in (np.float32, np.float64):
        stack, start = images.astype(dtype), jax.tree.map(dtype, params)
        weights = None if mask is None else mask.astype(dtype)
        evidence = np.asarray(jaxem.log_likelihood(stack, start, weights=weights), np.float64)
        both.append((evidence, float(jaxem.fit(stack, start, weights=weights, max_iterations=0).elbo)))
    (single, fitted), (double, fitted_double) = both
    return np.max(np.abs(single - double) / np.abs(double)), abs(fitted - fitted_double) / abs(fitted_double)


def main():
    """A line for each noise, without and with masks."""
    arguments = common.parser(__doc__).parse_args()
    if not jax.config.jax_enable_x64:
        raise SystemExit("set JAX_ENABLE_X64=1")
    figures = {}
    for noise_scale in (25.0, 5.0):
        found = {"all pixels": [], "masks": []}
        for seed in range(3):
            images, params = problem(noise_scale, seed)
            mask = np.random.default_rng([seed, 1]).random(images.shape) < 0.8
            found["all pixels"].append(errors(images, params, None))
            found["masks"].append(errors(np.where(mask, images, np.float32(np.nan)), params, mask))
        for kind, each in found.items():
            worst, fit_error = np.max(each, axis=0)
            name = f"s = {noise_scale:g}, {kind}"
            figures[name] = {"log_likelihood": worst, "fit": fit_error}
            print(f"{name:20} log_likelihood {worst:.1e}   objective of a fit {fit_error:.1e}", flush=True)
    common.write(arguments.json, figures)


if __name__ == "__main__":
    main()
