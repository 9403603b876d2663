"""How exact single precision is: the log likelihood of large frames beside the same in float64.

    JAX_ENABLE_X64=1 python bench/precision.py [--json FILE]

Frames of 1024 x 1024 pixels, 0 to 255, smooth pictures and a template of 128 x 128. Prints for each noise the worst
relative error of `jaxem.log_likelihood` over the frames, and that of the objective of a fit, an image each.
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


def main():
    """A line for each noise."""
    arguments = common.parser(__doc__).parse_args()
    if not jax.config.jax_enable_x64:
        raise SystemExit("set JAX_ENABLE_X64=1")
    figures = {}
    for noise_scale in (25.0, 5.0):
        errors = []
        for seed in range(3):
            images, params = problem(noise_scale, seed)
            single = np.asarray(jaxem.log_likelihood(images, params), np.float64)
            wide = jax.tree.map(np.float64, params)
            double = np.asarray(jaxem.log_likelihood(images.astype(np.float64), wide))
            fitted = (
                jaxem.fit(images, params, max_iterations=0).elbo,
                jaxem.fit(np.float64(images), wide, max_iterations=0),
            )
            fit_error = abs(float(fitted[0]) - float(fitted[1].elbo)) / abs(float(fitted[1].elbo))
            errors.append((np.max(np.abs(single - double) / np.abs(double)), fit_error))
        worst, fit_error = np.max(errors, axis=0)
        figures[f"s = {noise_scale:g}"] = {"log_likelihood": worst, "fit": fit_error}
        print(f"s = {noise_scale:4.0f}   log_likelihood {worst:.1e}   objective of a fit {fit_error:.1e}", flush=True)
    common.write(arguments.json, figures)


if __name__ == "__main__":
    main()
