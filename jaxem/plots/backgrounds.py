"""The background, and where nothing is known of it."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from jaxem.plots.contents import Result, contents_of
from jaxem.plots.lines import is_row, line, spans
from jaxem.plots.panels import axes_or_new, hatch, picture
from jaxem.plots.pictures import Palette
from jaxem.runtime.text import plural


def background(result: Result, *, axes: Axes | None = None, palette: Palette | None = None) -> Axes:
    """The background; pixels that no image shows, since the template covers them or they count nowhere, are hatched.

    Args:
        result: what was found.
        axes: where to draw; by default in a figure of its own.
        palette: the pixel values that are black and white; by default those of all templates and the background.

    Returns:
        The axes. Of images of one row or one column the background is a line, in a band of 1.96 standard errors on
        either side where they are known.

    Raises:
        ValueError, TypeError: no such result.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> images, _ = jaxem.simulate(jax.random.key(0), truth, 100)
        >>> jaxem.plots.background(jaxem.fit(images, truth)).get_title()
        'background'
    """
    contents, axes = contents_of(result), axes_or_new(axes)
    pixels, unseen, title = contents.background, contents.unseen, "background"
    if contents.params.absent is not None:
        title += f", alone in {100 * float(contents.params.absent):.3g} % of the frames"
    if contents.is_line:
        known = contents.assessment
        errors = None if known is None else np.asarray(known.standard_errors.background)
        line(axes, pixels, errors=errors, row=is_row(pixels.shape))
        spans(axes, unseen.ravel())
        title += "" if errors is None else ", and 95 % intervals"
    else:
        picture(axes, pixels, palette or contents.palette)
        hatch(axes, unseen)
    if unseen.any():
        title += f" (hatched: {plural(int(unseen.sum()), 'pixel')} never seen)"
    axes.set_title(title)
    return axes
