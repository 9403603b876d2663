"""Results as figures (extra ``app``).

Imports from `assess` and what lies below, and from matplotlib, of which it touches no global state. A figure is a
function of results, one kind a file, as in `summary`; a new one is a new file here, which `cli` may then offer.
"""

from jaxem.plots.sizes import sizes_figure
from jaxem.plots.summary import summary_figure

__all__ = ["sizes_figure", "summary_figure"]
