"""Results as figures (extra ``app``).

Imports from `assess` and what lies below, and from matplotlib, of which it touches no global state. `summary` is a
whole figure; the others draw one panel of it each, on axes that are given or their own, and return them. A kind of
picture is a file; its panel comes into `summary` by `overview`.
"""

from jaxem.plots.backgrounds import background
from jaxem.plots.frames import clean_frame, frame
from jaxem.plots.overview import summary
from jaxem.plots.places import confidence, prior
from jaxem.plots.residual_maps import residuals
from jaxem.plots.searches import search_progress
from jaxem.plots.sizes import sizes_figure
from jaxem.plots.templates import template, template_error
from jaxem.plots.writing import write_figure

__all__ = [
    "background",
    "clean_frame",
    "confidence",
    "frame",
    "prior",
    "residuals",
    "search_progress",
    "sizes_figure",
    "summary",
    "template",
    "template_error",
    "write_figure",
]
