"""Recover an unknown template, the background behind it, and where it sits in each of a stack of noisy images.

Exact EM by FFT in JAX. A newcomer reads `jaxem.model`, `jaxem.steps` and `jaxem.loop` in that order.
"""

from jaxem.diagnostics import Diagnostics
from jaxem.em import e_step, elbo, log_likelihood, m_step
from jaxem.loop import Fit, Schedule, Status, fit
from jaxem.model import Params, Positions, Posterior, simulate
from jaxem.moves import annealing, cut_params, recentre, varying_params
from jaxem.parallel import fit_restarts_parallel
from jaxem.restarts import Restarts, fit_restarts, random_params
from jaxem.search import Search
from jaxem.selfcheck import Check, selfcheck
from jaxem.significance import NoiseCheck, noise_check

__version__ = "0.1.0"

__all__ = [
    "Check",
    "Diagnostics",
    "Fit",
    "NoiseCheck",
    "Params",
    "Positions",
    "Posterior",
    "Restarts",
    "Schedule",
    "Search",
    "Status",
    "annealing",
    "cut_params",
    "e_step",
    "elbo",
    "fit",
    "fit_restarts",
    "fit_restarts_parallel",
    "log_likelihood",
    "m_step",
    "noise_check",
    "random_params",
    "recentre",
    "selfcheck",
    "simulate",
    "varying_params",
]
