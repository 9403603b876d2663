"""The demonstration: a face pasted at random places over another photograph, in noise (extra ``app``)."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np
from skimage import color, data, transform

from jaxem.model.params import Params
from jaxem.model.sampling import simulate
from jaxem.ops.windows import positions_shape

IMAGE_SHAPE, TEMPLATE_SHAPE = (60, 84), (30, 24)
WHITE = 255


class Demo(NamedTuple):
    """Frames and the truth they were made from.

    =======  ==================  ====================================================
    field    shape               meaning, unit
    =======  ==================  ====================================================
    frames   (K, 60, 84) uint8   noisy frames, 0 to 255
    truth    `Params`            face, photograph, noise and prior, pixel value
    corners  (K, 2) int32        where the face was pasted, pixels
    =======  ==================  ====================================================
    """

    frames: np.ndarray
    truth: Params
    corners: np.ndarray


def demo_frames(seed: int = 0, num_images: int = 300, noise: float = 0.2) -> Demo:
    """Make frames of a hidden face from two photographs that ship inside scikit-image.

    The face of an astronaut covers a photograph of a cup of coffee, mostly towards the lower left; noise is added and
    the result cut to 8 bits, so that the model holds nearly but not quite.

    Args:
        seed: of the places and the noise.
        num_images: how many frames.
        noise: standard deviation of the noise as a share of the full range.

    Returns:
        `Demo`.

    Raises:
        ValueError, TypeError: fewer than one frame.

    Example:
        >>> from jaxem.cli.demo import demo_frames
        >>> demo_frames(num_images=5).frames.shape
        (5, 60, 84)
    """
    face = _scaled(color.rgb2gray(data.astronaut())[22:192, 152:288], TEMPLATE_SHAPE)
    photograph = _scaled(color.rgb2gray(data.coffee()), IMAGE_SHAPE)
    rows, columns = positions_shape(IMAGE_SHAPE, TEMPLATE_SHAPE)
    row, column = np.ogrid[:rows, :columns]
    favoured = np.exp(-(((row - 0.65 * rows) / (0.3 * rows)) ** 2) - ((column - 0.35 * columns) / (0.3 * columns)) ** 2)
    prior = 0.2 / favoured.size + 0.8 * favoured / favoured.sum()
    truth = Params(*(jax.device_put(leaf) for leaf in (face, photograph, np.float64(noise * WHITE), prior)))
    images, corners = simulate(jax.random.key(seed), truth, num_images)
    frames = np.clip(np.rint(np.asarray(images)), 0, WHITE).astype(np.uint8)
    return Demo(frames, truth, np.asarray(corners))


def compare_with_truth(demo: Demo, params: Params, corners: np.ndarray) -> list[str]:
    """How far a fit of the frames is from what they were made of, a line each."""
    every = np.lib.stride_tricks.sliding_window_view(demo.frames, TEMPLATE_SHAPE, axis=(1, 2))
    windows = every[np.arange(len(demo.frames)), *demo.corners.T]

    def error(found: Any, true: Any) -> str:
        rms = np.sqrt(np.mean((np.asarray(found) - np.asarray(true)) ** 2))
        return f"{100 * rms / WHITE:5.2f} % of the range (rms)"

    return [
        f"template    off by {error(params.template, demo.truth.template)}",
        f"            off by {error(params.template, windows.mean(axis=0))} from the mean at the true places",
        f"background  off by {error(params.background, demo.truth.background)}",
        f"noise       {params.noise_scale:.1f}, was {float(demo.truth.noise_scale):.1f} before the cut to 8 bits",
        f"places      {100 * (corners == demo.corners).all(axis=1).mean():.1f} % exactly right",
    ]


def _scaled(picture: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    return WHITE * transform.resize(picture, shape, anti_aliasing=True)
