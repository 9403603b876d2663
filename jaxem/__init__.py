"""Recover an unknown template, the background behind it, and where it sits in each of a stack of noisy images.

Exact EM by FFT in JAX. A newcomer reads `jaxem.model.likelihood`, `jaxem.model.steps` and `jaxem.solvers.em` in that
order. Names are imported when they are first used, so that a command line need not wait for JAX to say what it can do.
"""

from __future__ import annotations

import importlib
from typing import Any

from jaxem.runtime.pictures import draw_with as _draw_with

__version__ = "0.1.0"

_NAMES = {
    "assess.recoverability": ("Recoverability", "expect_recovery"),
    "assess.oddities": ("OddFrames", "odd_frames"),
    "assess.residuals": ("ResidualStatistics",),
    "assess.self_test": ("Check", "selfcheck"),
    "assess.assessment": ("Assessment", "Report", "assess_fit"),
    "assess.detection": ("DetectionTest", "detection_test"),
    "assess.evaluation": ("standard_errors",),
    "assess.locating": ("locate",),
    "assess.shape_choice": ("ShapeChoice", "choose_shape"),
    "io.results": ("load", "save"),
    "model.predict": ("Located",),
    "model.params": ("Params", "Positions", "Posterior"),
    "model.sampling": ("simulate", "simulate_positions"),
    "model.whole_stack": ("e_step", "elbo", "log_likelihood", "m_step"),
    "ops.sharding": ("device_mesh",),
    "runtime.checkpoint": ("Checkpointer",),
    "runtime.compilation_cache": ("cache_compiled_programs",),
    "runtime.errors": ("CheckpointError",),
    "runtime.remarks": ("Remark",),
    "search.crops": ("init_from_crop",),
    "search.initialization": ("init_from_variance", "random_params"),
    "search.multiscale": ("coarsen", "refine"),
    "search.parallel": ("fit_restarts_parallel",),
    "search.progress": ("Progress",),
    "search.recentring": ("recentre",),
    "search.restarts": ("Restarts", "fit_restarts"),
    "search.stage_record": ("StageRecord",),
    "search.strategy": ("Search",),
    "solvers.diagnostics": ("Diagnostics",),
    "solvers.result": ("Fit", "Status"),
    "solvers.schedule": ("Schedule", "annealing"),
    "solvers.single_run": ("fit",),
}
_MODULES = {"gradient": "solvers.gradient", "io": "io", "plots": "plots", "stream": "stream"}
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = sorted([*_HOME, *_MODULES])


def __getattr__(name: str) -> Any:
    if name in _HOME:
        value = getattr(importlib.import_module(f"jaxem.{_HOME[name]}"), name)
    elif name in _MODULES:
        value = importlib.import_module(f"jaxem.{_MODULES[name]}")
    else:
        raise AttributeError(f"module 'jaxem' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


def _summary(result: Any) -> Any:
    """The figure of a result, of which notebooks ask; until then nothing of `plots` is imported."""
    return importlib.import_module("jaxem.plots").summary(result)


_draw_with(_summary)
