"""A result in one figure, as ``jaxem fit`` writes it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from jaxem.assess.locating import locate
from jaxem.model.params import Positions
from jaxem.plots.backgrounds import background
from jaxem.plots.contents import Contents, Result, contents_of
from jaxem.plots.frames import clean_frame, frame
from jaxem.plots.layouts import Panel, figure_of
from jaxem.plots.places import confidence, prior
from jaxem.plots.residual_maps import residuals
from jaxem.plots.searches import search_progress
from jaxem.plots.templates import template, template_error
from jaxem.runtime.text import plural

MOST_SHOWN = 12  # templates
ALL_ALIKE = 1.25  # times the smallest standard error that the largest may be


def summary(result: Result, images: Any = None, *, number: int | None = None) -> Figure:
    """Everything that was found, in one figure; what the result does not know is left out.

    Args:
        result: what was found, one of them and not many along a leading axis.
        images: (K, H, W) or (K, H, W, C), pixel value, NaN where nothing was observed, of which one is shown: those of
            the fit, or others, in which it is looked for. Or that one alone, (H, W) or (H, W, C).
        number: of the image that is shown; by default of the first in which there is a template. Of one alone its
            number in the fit; without a number it is looked at anew.

    Returns:
        A figure of an image with the window that was found in it, the same without noise, what is left of the images,
        the background, the templates and their standard errors, where they are and how surely, and how the search went.
        Images that are three times as wide as high, or as high as wide, and those of one row or one column have layouts
        of their own.

    Raises:
        ValueError, TypeError: no such result, or images that are not of its size.
        IndexError: no such image.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> images, _ = jaxem.simulate(jax.random.key(0), truth, 100)
        >>> figure = jaxem.plots.summary(jaxem.fit(images, truth), images)
        >>> [axes.get_title() for axes in figure.axes][:2]
        ['frame 0 as observed', 'frame 0 without noise']
    """
    contents = contents_of(result)
    image, position = _shown(contents, images, number)
    is_stack = images is not None and np.ndim(images) > contents.background.ndim
    own_images = images if is_stack and len(images) == contents.num_images else None
    panels = [*_panels(result, contents, image, position, own_images)]
    return figure_of(panels, contents.background.shape[:2], _title(contents))


def _shown(contents: Contents, images: Any, number: int | None) -> tuple[np.ndarray | None, int | Positions]:
    """The image to show, and what was found in it."""
    if images is None:
        return None, contents.number_shown() if number is None else number
    is_stack = np.ndim(images) > contents.background.ndim
    if is_stack and len(images) == contents.num_images:
        number = contents.number_shown() if number is None else number
        return np.asarray(images[number]), number
    image = np.asarray(images[number or 0] if is_stack else images)
    if number is not None and not is_stack:
        return image, number
    return image, _found_anew(contents, image)


def _found_anew(contents: Contents, image: np.ndarray) -> Positions:
    expected = contents.background.shape
    if image.shape != expected:
        raise ValueError(f"images must be of the shape {expected}, but are of {image.shape}.")
    seen = np.isfinite(image)
    weights = (seen if image.ndim == 2 else seen.all(axis=-1)).astype(contents.background.dtype)
    known = np.where(seen, image, 0).astype(contents.background.dtype)
    return locate(known[None], contents.best, weights=None if seen.all() else weights[None]).positions


def _panels(
    result: Result, contents: Contents, image: np.ndarray | None, position: int | Positions, images: Any
) -> Iterator[Panel]:
    shape = contents.background.shape[:2]
    corners = contents.priors.shape[1:]
    count = min(len(contents.templates), MOST_SHOWN)
    palette, errors = contents.palette, contents.template_errors()

    def draw_signal(axes: Any, _: int) -> None:
        if image is not None:
            frame(image, result, position, axes=axes)
        clean_frame(result, position, axes=axes)
        if image is not None:
            axes.set_title(axes.get_title().replace("without noise", "as observed and without noise"))

    def draw_template(axes: Any, number: int) -> None:
        template(result, number, axes=axes, palette=palette, bar=count == 1)
        hidden = len(contents.templates) - count
        if hidden and number == count - 1:
            axes.set_title(f"{axes.get_title()}, and {hidden} more")

    if contents.is_line:
        yield Panel("signal", draw_signal)
    else:
        if image is not None:
            yield Panel("frame", lambda axes, _: frame(image, result, position, axes=axes), shape)
        yield Panel("clean", lambda axes, _: clean_frame(result, position, axes=axes, palette=palette), shape)
    if contents.assessment is not None or images is not None:
        yield Panel("residuals", lambda axes, _: residuals(result, images, axes=axes), shape)
    yield Panel("background", lambda axes, _: background(result, axes=axes, palette=palette), shape)
    template_shape = None if contents.is_line else contents.templates.shape[1:3]
    yield Panel("template", draw_template, template_shape, count)
    if errors is not None and not contents.is_line and _vary(errors):
        draw = partial(_draw_error, result, count)
        yield Panel("template error", draw, template_shape, count)
    if corners != (1, 1):
        yield Panel("prior", partial(_draw_prior, result, count), None if 1 in corners else corners, count)
    if contents.assessment is not None:
        yield Panel("confidence", lambda axes, _: confidence(result, axes=axes))
    yield Panel("search", lambda axes, _: search_progress(result, axes=axes))


def _vary(errors: np.ndarray) -> bool:
    """Whether standard errors are worth a picture; of those that are all alike the template's title has one."""
    return float(np.nanmax(errors)) > ALL_ALIKE * float(np.nanmin(errors))


def _draw_error(result: Result, count: int, axes: Any, number: int) -> None:
    template_error(result, number, axes=axes, bar=number == count - 1)


def _draw_prior(result: Result, count: int, axes: Any, number: int) -> None:
    prior(result, number, axes=axes, bar=number == count - 1)


def _title(contents: Contents) -> str:
    """What was fitted, in a line; of transforms a second."""
    size = " x ".join(map(str, contents.background.shape[:2]))
    channels = "" if contents.num_channels is None else f" in {plural(contents.num_channels, 'channel')}"
    noise = ", ".join(f"{number:.4g}" for number in np.ravel(contents.params.noise_scale))
    words = f"{plural(contents.num_images, 'frame')} of {size} pixels{channels}; noise {noise} pixel values"
    if contents.assessment is not None:
        contrast = float(contents.assessment.contrast)
        words += f"; contrast {contrast:.3g}" if contrast < 1000 else f"; contrast {contrast:.0f}"
        p_value = float(contents.assessment.test.p_value)
        words += "" if np.isnan(p_value) else f"; p = {p_value:.2g}"
    errors = contents.template_errors()
    if errors is not None and len(errors) > 1:
        words += f"; standard error of a template's pixel {np.nanmedian(errors):.2g} (median)"
    if len(contents.transforms) == 1:
        return words
    by_transform = np.asarray(contents.params.prior).reshape(-1, len(contents.transforms), contents.priors[0].size)
    shares = zip(contents.transforms, by_transform.sum(axis=(0, 2)), strict=True)
    turned = ", ".join(f"{name} {100 * share:.3g} %" for name, share in shares)
    return f"{words}\ntemplates as found and turned: {turned}"
