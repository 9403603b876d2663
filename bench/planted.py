"""Planted problems whose difficulty is known, from photographs and from synthetic pictures.

A problem's difficulty is its contrast E = |F - B under it|^2 / s^2, averaged over the positions that its prior allows:
the log odds of the true corner lie E / 2 above nothing, those of the best of n wrong ones about ln n.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage
from skimage import color, data, transform

import jaxem

# template, background: pictures of which regions are cut at random, or made-up ones
PICTURES = {
    "face": ("astronaut", "coffee"),
    "cat": ("chelsea", "brick"),
    "texture": ("grass", "gravel"),
    "noise": ("white", "white"),
    "smooth": ("blob", "waves"),
}
MORE_PICTURES = {"relief": ("white", "waves"), "island": ("island", "white")}
SMOOTH = ("smooth",)


# how the places of a case are drawn where no prior of a whole map says so
FEW_PLACES = {"two places": 2, "three places": 3}
# edges that stand still, in standard deviations of the noise; in what is dark there is none of it
EDGE, EDGE_OF_STEP = 16.0, 12.0


class Case(NamedTuple):
    """What a problem is made from; everything random in it follows from the seed. A flat one has no background.

    `prior` is "uniform", "peaked", "swap", "two places" or "three places" (equally likely), "walk" (a step of a pixel,
    one frame in five), "margin" (never within half a template of the edges) or "blocks" (five places, one after
    the other). `scene` is what stands still: "letterbox", "circle" or "small circle" (dark outside of it), "step" (one
    half brighter), "spot" (bright pixels), "ramp" (a gradient) or "corner" (noise that is larger in one corner).
    """

    picture: str
    contrast: float
    num_images: int = 100
    image_shape: tuple[int, int] = (32, 32)
    template_shape: tuple[int, int] = (12, 12)
    prior: str = "uniform"
    flat: bool = False
    scene: str = ""
    seed: int = 0


class Problem(NamedTuple):
    """Images (K, H, W), the `jaxem.Params` and corners (K, 2) they were drawn from, and the best that can be had.

    `known` is the known-position average: the mean of the windows at the true corners.
    """

    images: np.ndarray
    truth: jaxem.Params
    corners: np.ndarray
    known: np.ndarray


def make(case: Case) -> Problem:
    """The problem of a case."""
    rng = np.random.default_rng([case.seed, *map(ord, case.picture), case.num_images, int(case.contrast)])
    template_of, background_of = (PICTURES | MORE_PICTURES)[case.picture]
    template = _picture(template_of, case.template_shape, rng)
    background = np.zeros(case.image_shape) if case.flat else _picture(background_of, case.image_shape, rng)
    prior = _prior(case, rng)
    windows = np.lib.stride_tricks.sliding_window_view(background, case.template_shape)
    squares = ((windows - template) ** 2).sum(axis=(2, 3))
    noise_scale = np.sqrt((prior * squares).sum() / case.contrast)
    noise = noise_scale
    if case.scene:
        background, noise, free = _scene(case, background, noise_scale)
        prior = prior * free / (prior * free).sum()
    truth = jaxem.Params(*(jnp.asarray(leaf, jnp.float32) for leaf in (template, background, noise_scale, prior)))
    if case.scene or case.prior in ("walk", "blocks"):
        corners = _corners(case, prior, rng)
        images = np.repeat(background[None], case.num_images, axis=0)
        for image, (row, column) in zip(images, corners, strict=True):
            image[row : row + len(template), column : column + template.shape[1]] = template
        images = (images + noise * rng.normal(size=images.shape)).astype(np.float32)
    else:
        images, corners = map(np.asarray, jaxem.simulate(jax.random.key(rng.integers(2**31)), truth, case.num_images))
    return Problem(images, truth, corners, cut(images, corners, case.template_shape).mean(axis=0))


def _scene(case, background, noise_scale):
    """The background behind what stands still, the noise of each pixel, and at which corners a template fits."""
    rows, columns = np.indices(case.image_shape)
    height, width = case.image_shape
    distance = np.hypot(rows - (height - 1) / 2, columns - (width - 1) / 2)
    dark, added, noise = np.zeros(case.image_shape, bool), np.zeros(case.image_shape), noise_scale
    if case.scene == "letterbox":
        dark = (rows < 5) | (rows >= height - 5)
    elif case.scene in ("circle", "small circle"):
        dark = distance > {"circle": 0.5, "small circle": 0.38}[case.scene] * min(case.image_shape)
    elif case.scene == "step":
        added = EDGE_OF_STEP * noise_scale * (columns > 0.4 * width)
    elif case.scene == "spot":
        added = 3 * EDGE * noise_scale * ((rows - 7) ** 2 + (columns - 20) ** 2 < 4)
    elif case.scene == "ramp":
        added = EDGE * noise_scale * (rows + columns) / (height + width)
    elif case.scene == "corner":
        noise = noise_scale * np.where((rows < 0.4 * height) & (columns < 0.4 * width), 3.0, 1.0)
    else:
        raise ValueError(case.scene)
    background = np.where(dark, background.mean() - EDGE * noise_scale, background + added)
    windows = np.lib.stride_tricks.sliding_window_view(dark, case.template_shape)
    return background, np.where(dark, 0, noise), ~windows.any(axis=(2, 3))


def _corners(case, prior, rng):
    """Corners drawn from a prior, or along a walk, (K, 2)."""
    drawn = rng.choice(prior.size, case.num_images, p=prior.ravel())
    if case.prior == "blocks":
        drawn = np.repeat(drawn[:5], -(-case.num_images // 5))[: case.num_images]
    corners = np.stack(np.unravel_index(drawn, prior.shape), axis=-1)
    if case.prior == "walk":
        for number in range(1, case.num_images):
            corners[number] = np.clip(
                corners[number - 1] + rng.integers(-1, 2, 2) * (rng.random() < 0.2), 0, np.array(prior.shape) - 1
            )
    return corners


def cut(images, corners, template_shape):
    """The windows at one corner an image, (K, h, w)."""
    windows = np.lib.stride_tricks.sliding_window_view(images, template_shape, axis=(1, 2))
    return windows[np.arange(len(images)), corners[:, 0], corners[:, 1]]


def template_error(problem: Problem, template) -> float:
    """Root mean square error of a template over that of the known-position average."""
    truth = np.asarray(problem.truth.template)
    return float(np.sqrt(np.mean((np.asarray(template) - truth) ** 2) / np.mean((problem.known - truth) ** 2)))


def _prior(case, rng):
    rows, columns = (n - m + 1 for n, m in zip(case.image_shape, case.template_shape, strict=True))
    if case.prior in ("uniform", "walk", "blocks"):
        return np.full((rows, columns), 1 / (rows * columns))
    if case.prior == "margin":
        margins = [(size // 2, size // 2) for size in case.template_shape]
        inside = np.pad(np.ones([n - 2 * m for n, (m, _) in zip((rows, columns), margins, strict=True)]), margins)
        return inside / inside.sum()
    if case.prior in FEW_PLACES:
        chosen = np.zeros(rows * columns)
        chosen[rng.choice(chosen.size, FEW_PLACES[case.prior], replace=False)] = 1
        return chosen.reshape(rows, columns) / chosen.sum()
    # Most of the templates near one place: of "swap", so many that the mean image shows the template and not what is
    # behind it.
    spread, share = {"peaked": (4.0, 0.9), "swap": (0.7, 0.9)}[case.prior]
    row, column = rng.uniform(0.2, 0.8, 2) * (rows, columns)
    i, j = np.ogrid[:rows, :columns]
    peak = np.exp(-((i - row) ** 2 + (j - column) ** 2) / (2 * spread**2))
    return share * peak / peak.sum() + (1 - share) / (rows * columns)


def _picture(name, shape, rng):
    """A picture with unit spread, or one that differs little from such, around a level of its own."""
    if name == "island":  # an object with margins of one to three pixels in which there is nothing
        margins = [tuple(rng.integers(1, 4, 2)) for _ in shape]
        return np.pad(rng.normal(size=[n - sum(m) for n, m in zip(shape, margins, strict=True)]), margins)
    if name == "white":
        picture = rng.normal(size=shape)
    elif name == "waves":
        picture = ndimage.gaussian_filter(rng.normal(size=shape), 6, mode="wrap")
    elif name == "blob":
        i, j = np.ogrid[: shape[0], : shape[1]]
        centre, width = rng.uniform(0.4, 0.6, 2) * shape, rng.uniform(0.2, 0.3, 2) * shape
        picture = np.exp(-(((i - centre[0]) / width[0]) ** 2) - ((j - centre[1]) / width[1]) ** 2)
    else:
        picture = _region(_photograph(name), shape, rng)
    return rng.uniform(-0.3, 0.3) + (picture - picture.mean()) / picture.std()


def _region(photograph, shape, rng):
    """A part of a photograph, at most half of it, scaled to a shape."""
    factor = rng.uniform(0.25, 0.5) * min(n / m for n, m in zip(photograph.shape, shape, strict=True))
    size = np.maximum(np.array(shape) * factor, 1).astype(int)
    if photograph is _photograph("astronaut"):  # the face
        size = np.array(shape) * 130 // max(shape)
        first = rng.integers((20, 150), (40, 170))
    else:
        first = [rng.integers(n - m + 1) for n, m in zip(photograph.shape, size, strict=True)]
    part = photograph[first[0] : first[0] + size[0], first[1] : first[1] + size[1]]
    return transform.resize(part, shape, anti_aliasing=True)


@cache
def _photograph(name):
    picture = getattr(data, name)()
    return color.rgb2gray(picture) if picture.ndim == 3 else picture / 255.0
