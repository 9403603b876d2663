# What `jaxem/__init__.py` imports late, for type checkers and editors; a test holds both together.

from jaxem import io as io
from jaxem import plots as plots
from jaxem.assess.self_test import Check as Check
from jaxem.assess.self_test import selfcheck as selfcheck
from jaxem.assess.significance import NoiseCheck as NoiseCheck
from jaxem.assess.significance import noise_check as noise_check
from jaxem.io.results import load as load
from jaxem.io.results import save as save
from jaxem.model.params import Params as Params
from jaxem.model.params import Positions as Positions
from jaxem.model.params import Posterior as Posterior
from jaxem.model.sampling import simulate as simulate
from jaxem.model.sampling import simulate_positions as simulate_positions
from jaxem.model.whole_stack import e_step as e_step
from jaxem.model.whole_stack import elbo as elbo
from jaxem.model.whole_stack import log_likelihood as log_likelihood
from jaxem.model.whole_stack import m_step as m_step
from jaxem.runtime.checkpoint import Checkpointer as Checkpointer
from jaxem.runtime.compilation_cache import cache_compiled_programs as cache_compiled_programs
from jaxem.runtime.errors import CheckpointError as CheckpointError
from jaxem.search.crops import init_from_crop as init_from_crop
from jaxem.search.initialization import init_from_variance as init_from_variance
from jaxem.search.initialization import random_params as random_params
from jaxem.search.multiscale import coarsen as coarsen
from jaxem.search.multiscale import refine as refine
from jaxem.search.parallel import fit_restarts_parallel as fit_restarts_parallel
from jaxem.search.progress import Progress as Progress
from jaxem.search.recentring import recentre as recentre
from jaxem.search.restarts import Restarts as Restarts
from jaxem.search.restarts import fit_restarts as fit_restarts
from jaxem.search.strategy import Search as Search
from jaxem.solvers import gradient as gradient
from jaxem.solvers.diagnostics import Diagnostics as Diagnostics
from jaxem.solvers.result import Fit as Fit
from jaxem.solvers.result import Status as Status
from jaxem.solvers.schedule import Schedule as Schedule
from jaxem.solvers.schedule import annealing as annealing
from jaxem.solvers.single_run import fit as fit

__version__: str
