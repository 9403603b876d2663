"""Recover an unknown template, the background behind it, and where it sits in each of a stack of noisy images.

Exact EM by FFT in JAX. A newcomer reads `jaxem.model`, `jaxem.steps` and `jaxem.loop` in that order.
"""

from jaxem.coarse import coarsen, refine
from jaxem.diagnostics import Diagnostics
from jaxem.driver import Progress
from jaxem.em import e_step, elbo, log_likelihood, m_step
from jaxem.journal import CheckpointError, Journal
from jaxem.loop import Fit, Schedule, Status
from jaxem.model import Params, Positions, Posterior, simulate
from jaxem.moves import annealing, cut_params, recentre, varying_params
from jaxem.parallel import fit_restarts_parallel
from jaxem.restarts import Restarts, fit_restarts, random_params
from jaxem.results import load, save
from jaxem.runs import fit
from jaxem.search import Search
from jaxem.selfcheck import Check, selfcheck
from jaxem.significance import NoiseCheck, noise_check

__version__ = "0.1.0"

__all__ = [
    "Check",
    "CheckpointError",
    "Diagnostics",
    "Fit",
    "Journal",
    "NoiseCheck",
    "Params",
    "Positions",
    "Posterior",
    "Progress",
    "Restarts",
    "Schedule",
    "Search",
    "Status",
    "annealing",
    "coarsen",
    "cut_params",
    "e_step",
    "elbo",
    "fit",
    "fit_restarts",
    "fit_restarts_parallel",
    "load",
    "log_likelihood",
    "m_step",
    "noise_check",
    "random_params",
    "recentre",
    "refine",
    "save",
    "selfcheck",
    "simulate",
    "varying_params",
]
