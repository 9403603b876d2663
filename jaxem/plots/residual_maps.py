"""What the model leaves of the images, pixel by pixel."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from matplotlib.axes import Axes

from jaxem.model.predict import reconstruct
from jaxem.plots.contents import Contents, Result, contents_of
from jaxem.plots.lines import is_row, line
from jaxem.plots.panels import GREY, axes_or_new, heat

MOST_IMAGES = 200  # looked at, evenly spread, where no assessment has looked at all of them
SURELY_CHANCE = 3.0  # standard deviations of a pixel's rms by chance, which the colours reach at least


def residuals(result: Result, images: Any = None, *, axes: Axes | None = None) -> Axes:
    """The root mean square of what is left at each pixel, in units of the noise: one is as the model says.

    More than one where the images do something that is not in the model: objects that move, flicker, wrong edges. Less
    where template or background have fitted noise.

    Args:
        result: what was found. A `jaxem.Report` knows the residuals.
        images: (K, H, W) or (K, H, W, C), those of the fit, NaN where nothing was observed; only for other results.
        axes: where to draw; by default in a figure of its own.

    Returns:
        The axes; of pixels with channels the root of the mean square over these.

    Raises:
        ValueError, TypeError: no such result, or one without an assessment and no images.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> images, _ = jaxem.simulate(jax.random.key(0), truth, 100)
        >>> jaxem.plots.residuals(jaxem.fit(images, truth), images).get_title()
        'residuals, rms: 1 is as the model says'
    """
    contents = contents_of(result)
    if contents.assessment is not None:
        variances = np.asarray(contents.assessment.residuals.by_pixel)
        variances = variances if variances.ndim == 2 else variances.mean(axis=-1)
        count = contents.num_images
    else:
        if images is None or len(images) != contents.num_images:
            raise ValueError("images must be those of the fit where the result is no jaxem.Report.")
        variances, count = _variances(images, contents)
    axes, sizes = axes_or_new(axes), np.sqrt(variances)
    off = np.abs(sizes[np.isfinite(sizes)] - 1)
    by_chance = SURELY_CHANCE / np.sqrt(2 * count * (contents.num_channels or 1))
    reach = max(by_chance, float(np.quantile(off, 0.995)) if off.size else 0.0)
    if contents.is_line:
        axes.axhline(1, color=GREY, linewidth=1)
        line(axes, sizes, row=is_row(sizes.shape))
        axes.set_ylim(max(0.0, 1 - 1.2 * reach), 1 + 1.2 * reach)
        axes.set_ylabel("rms residual, noise scales")
    else:
        heat(axes, sizes, "rms residual, noise scales", cmap="PuOr_r", vmin=1 - reach, vmax=1 + reach)
    axes.set_title("residuals, rms: 1 is as the model says")
    return axes


def _variances(images: Any, contents: Contents) -> tuple[np.ndarray, int]:
    """Mean squares over so many of the images in units of the noise, (H, W)."""
    numbers = np.unique(np.linspace(0, contents.num_images - 1, min(contents.num_images, MOST_IMAGES)).astype(int))
    some = jax.tree.map(lambda part: part[numbers], contents.best.positions)
    total, counts = np.zeros(contents.background.shape), np.zeros(contents.background.shape)
    for number, clean in zip(numbers, reconstruct(some, contents.params, contents.transforms), strict=True):
        squares = ((np.asarray(images[number], np.float64) - clean) / contents.params.noise_scale) ** 2
        seen = np.isfinite(squares)
        total, counts = total + np.where(seen, squares, 0), counts + seen
    found = np.where(counts > 0, total / np.maximum(counts, 1), np.nan)
    return found if found.ndim == 2 else found.mean(axis=-1), len(numbers)
