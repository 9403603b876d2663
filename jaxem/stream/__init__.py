"""Data that do not fit into memory, or come once: frames are read a few at a time, and sums over them are kept.

Imports from `assess` and what lies below. `sources` says what can be read and checks what comes, `passes` goes through
all of it once, reading ahead; `out_of_core` is `fit`, by the loop of `solvers.em` in `streamed_em`, `restarts` the
search on a sample before it, `assessing` what may be claimed of it, `locating` where the template is in other frames,
and `online` EM in a single pass. Not a formula is written here twice: all sums are those of `model` and `assess`.
"""

from jaxem.stream.assessing import assess_fit
from jaxem.stream.locating import locate
from jaxem.stream.online import OnlineFit, fit_online
from jaxem.stream.out_of_core import fit
from jaxem.stream.restarts import fit_restarts
from jaxem.stream.sources import FrameSource

__all__ = ["FrameSource", "OnlineFit", "assess_fit", "fit", "fit_online", "fit_restarts", "locate"]
