"""The templates, and how far their pixels are likely to be off."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from jaxem.plots.contents import Contents, Result, contents_of
from jaxem.plots.lines import is_row, line
from jaxem.plots.panels import axes_or_new, heat, picture
from jaxem.plots.pictures import Palette


def template(
    result: Result, number: int = 0, *, axes: Axes | None = None, palette: Palette | None = None, bar: bool = True
) -> Axes:
    """One of the templates.

    Args:
        result: what was found.
        number: which of the templates.
        axes: where to draw; by default in a figure of its own.
        palette: the pixel values that are black and white; by default those of all templates and the background.
        bar: whether to draw the grey scale beside it.

    Returns:
        The axes. Pixels outside the support are blank. Of images of one row or one column the template is a line, in a
        band of 1.96 standard errors on either side where they are known.

    Raises:
        ValueError, TypeError: no such result.
        IndexError: no such template.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> images, _ = jaxem.simulate(jax.random.key(0), truth, 100)
        >>> jaxem.plots.template(jaxem.fit(images, truth)).get_title()
        'template, 2 x 3 pixels'
    """
    contents, axes = contents_of(result), axes_or_new(axes)
    pixels, there = contents.templates[number], contents.supports[number] > 0
    errors = contents.template_errors()
    if errors is not None:
        errors = errors[number]
    title = f"template, {pixels.shape[0]} x {pixels.shape[1]} pixels"
    if len(contents.templates) > 1:
        title = f"template {number}: {100 * float(contents.priors[number].sum()):.3g} %"
    if contents.is_line:
        outside = there if pixels.ndim == 2 else there[..., None]
        shown = np.where(outside, pixels, np.nan)
        line(axes, shown, errors=errors, row=is_row(contents.background.shape))
        title += "" if errors is None else ", and 95 % intervals"
    else:
        if errors is not None and len(contents.templates) == 1:
            title += f", standard error {np.nanmedian(errors):.2g}"
        picture(axes, pixels, palette or contents.palette, there, bar=bar)
    axes.set_title(title)
    return axes


def template_error(result: Result, number: int = 0, *, axes: Axes | None = None, bar: bool = True) -> Axes:
    """The standard error of each pixel of one of the templates; of pixels with channels the root of their mean square.

    Args:
        result: a `jaxem.Report`, which knows them.
        number: which of the templates.
        axes: where to draw; by default in a figure of its own.
        bar: whether to draw the colour scale beside it, which is the same for all templates.

    Returns:
        The axes.

    Raises:
        ValueError, TypeError: no such result, or one without standard errors.
        IndexError: no such template.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> images, _ = jaxem.simulate(jax.random.key(0), truth, 100)
        >>> found = jaxem.fit_restarts(jax.random.key(1), images, (2, 3))
        >>> report = jaxem.Report(found, jaxem.assess_fit(images, found))
        >>> jaxem.plots.template_error(report).get_title()
        'standard error of the template, median 0.01'
    """
    contents = contents_of(result)
    every = contents.template_errors()
    if every is None:
        raise ValueError("result holds no standard errors of the template; give a jaxem.Report of one that was fitted.")
    axes, errors = axes_or_new(axes), _over_channels(every, contents)
    top = float(np.nanmax(errors))
    if contents.is_line:
        line(axes, errors[number], row=is_row(contents.background.shape))
        axes.set_ylim(0, 1.1 * top)
    else:
        heat(axes, errors[number], "standard error, pixel value" if bar else None, cmap="viridis", vmin=0, vmax=top)
    middle = np.nanmedian(errors[number]) if np.isfinite(errors[number]).any() else np.nan
    which = f"standard error of {number}: median" if len(errors) > 1 else "standard error of the template, median"
    axes.set_title(f"{which} {middle:.2g}")
    return axes


def _over_channels(errors: np.ndarray, contents: Contents) -> np.ndarray:
    return errors if contents.num_channels is None else np.sqrt(np.mean(errors**2, axis=-1))
