"""Figures as files that say what is in them."""

from __future__ import annotations

import os
import re
from pathlib import Path

from matplotlib.figure import Figure

DOTS_PER_INCH = 110  # at which figures are made to be read
SAYS = {".png": "Description", ".svg": "Description", ".pdf": "Subject"}  # the name of a description in each format


def write_figure(figure: Figure, path: str | os.PathLike[str], *, dots_per_inch: int = DOTS_PER_INCH) -> None:
    """Write a figure; in its metadata are the titles of all its panels, for those who cannot see it.

    Args:
        figure: what to write.
        path: whose end says which format.
        dots_per_inch: of pictures made of pixels.

    Raises:
        OSError: it cannot be written.
    """
    name = SAYS.get(Path(path).suffix.lower())
    figure.savefig(path, dpi=dots_per_inch, metadata=None if name is None else {name: described(figure)})


def described(figure: Figure) -> str:
    """The titles of the panels, in their order."""
    return "; ".join(re.sub(r"\s+", " ", axes.get_title()) for axes in figure.axes if axes.get_title())
