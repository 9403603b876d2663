"""How often `jaxem.detection_test` finds a template: in noise of many kinds, and where there is one.

    python bench/detection.py [--stacks 200] [--only size|power] [--kinds white,blur] [--json FILE]

Stacks of 60 images of 24 x 24, template 8 x 8. Of noise alone the share of p-values up to .05 should be .05 or less.
"""

from __future__ import annotations

import common
import jax
import numpy as np
import planted
from scipy import ndimage

import jaxem

COUNT, IMAGE_SHAPE, TEMPLATE_SHAPE = 60, (24, 24), (8, 8)
STACK = (COUNT, *IMAGE_SHAPE)


def unit(noise):
    """With variance one."""
    return noise / noise.std()


def moving_sum(rng):
    """Noise of a rolling shutter: rows that share a part of their noise with the row above."""
    noise = rng.normal(size=STACK)
    return unit(noise + np.roll(noise, 1, axis=1))


def compressed(rng):
    """Noise of which blocks of 8 x 8 keep their coarse half alone, as JPEG does."""
    noise = rng.normal(size=STACK).reshape(COUNT, 3, 8, 3, 8)
    spectra = np.fft.rfft2(noise, axes=(2, 4))
    keeps = (np.minimum(np.arange(8), 8 - np.arange(8))[:, None] + np.arange(5)[None] < 5)[:, None, :]
    return unit(np.fft.irfft2(spectra * keeps, s=(8, 8), axes=(2, 4)).reshape(STACK))


KINDS = {
    "white": lambda rng: rng.normal(size=STACK),
    "blur .7": lambda rng: unit(ndimage.gaussian_filter(rng.normal(size=STACK), (0, 0.7, 0.7))),
    "blur 1": lambda rng: unit(ndimage.gaussian_filter(rng.normal(size=STACK), (0, 1, 1))),
    "blur 2": lambda rng: unit(ndimage.gaussian_filter(rng.normal(size=STACK), (0, 2, 2))),
    "photons": lambda rng: rng.poisson(3, size=STACK),
    "clipped": lambda rng: np.clip(rng.normal(size=STACK), -1.2, 1.2),
    "flicker": lambda rng: rng.normal(size=STACK) + 0.3 * rng.normal(size=(COUNT, 1, 1)),
    "slow drift": lambda rng: rng.normal(size=STACK) + np.linspace(-0.5, 0.5, COUNT)[:, None, None],
    "scale by pixel": lambda rng: rng.normal(size=STACK) * np.exp(0.7 * rng.normal(size=(1, *IMAGE_SHAPE))),
    "hot pixels": lambda rng: (
        rng.normal(size=STACK) + 30 * (rng.random((1, *IMAGE_SHAPE)) < 0.01) * rng.normal(size=STACK)
    ),
    "student": lambda rng: unit(rng.standard_t(4, size=STACK)),
    "stripes": lambda rng: rng.normal(size=STACK) + 0.7 * rng.normal(size=(COUNT, IMAGE_SHAPE[0], 1)),
    "rolling rows": moving_sum,
    "compressed": compressed,
    "skewed": lambda rng: rng.gamma(1, size=STACK),
    "salt": lambda rng: rng.normal(size=STACK) + 10 * (rng.random(STACK) < 0.005),
    "two bits": lambda rng: np.rint(rng.normal(size=STACK)).clip(-1, 2),
    "noisy corner": lambda rng: rng.normal(size=STACK) * (1 + 3 * np.outer(np.arange(24) > 16, np.arange(24) > 16)),
    "noise by frame": lambda rng: rng.normal(size=STACK) * np.exp(0.4 * rng.normal(size=(COUNT, 1, 1))),
}
WITH_TEMPLATE = ("white", "student", "stripes", "flicker", "photons", "blur .7")


def p_value(images, seed):
    """Of one stack."""
    found = jaxem.detection_test(jax.random.key(seed), np.asarray(images, np.float32), TEMPLATE_SHAPE)
    return float(found.p_value)


def main():
    """Both tables."""
    options = common.parser(__doc__)
    options.add_argument("--stacks", type=int, default=200, help="of each kind")
    options.add_argument("--only", choices=("size", "power"))
    options.add_argument("--kinds", help="some of them, with commas between")
    arguments = options.parse_args()
    chosen = arguments.kinds.split(",") if arguments.kinds else list(KINDS)
    figures = {}
    for number, kind in enumerate(chosen if arguments.only != "power" else ()):
        rng = np.random.default_rng([number, 77])
        found = [p_value(KINDS[kind](rng), seed) <= 0.05 for seed in range(arguments.stacks)]
        figures[f"size {kind}"] = np.mean(found)
        print(f"noise alone  {kind:15} {sum(found):4} of {arguments.stacks}", flush=True)
    for kind in WITH_TEMPLATE if arguments.only != "size" else ():
        for contrast in (18, 25, 50):
            rng, found = np.random.default_rng(78), []
            for seed in range(arguments.stacks // 5):
                case = planted.Case("texture", contrast, COUNT, IMAGE_SHAPE, TEMPLATE_SHAPE, seed=seed)
                problem = planted.make(case)
                clean = np.repeat(np.asarray(problem.truth.background)[None], COUNT, axis=0)
                for image, (row, column) in zip(clean, problem.corners, strict=True):
                    image[row : row + 8, column : column + 8] = problem.truth.template
                noise = KINDS[kind](rng)
                images = clean + float(problem.truth.noise_scale) * (noise - noise.mean()) / noise.std()
                found.append(p_value(images, seed) <= 0.05)
            figures[f"power {kind} {contrast}"] = np.mean(found)
            print(f"E = {contrast:3}  {kind:15} {sum(found):4} of {len(found)}", flush=True)
    common.write(arguments.json, figures)


if __name__ == "__main__":
    main()
