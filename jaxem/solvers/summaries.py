"""What a person wants to know of a run, and of several, in a few lines."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from jaxem.model.params import Params
from jaxem.runtime.text import plural


def agreement_line(num_runs: int, diagnostics: Any) -> str:
    """Of several runs: how many found what the best did."""
    num_agreeing, gap = int(diagnostics.num_agreeing), float(diagnostics.gap)
    next_best = f"; the next best is {gap:.4g} nats lower" if math.isfinite(gap) else ""
    alone = "one start alone" if num_runs == 1 else f"{num_agreeing} of {num_runs} starts found this template"
    num_steps, on_sample = plural(int(diagnostics.num_steps), "E-step"), diagnostics.num_sample_steps
    in_steps = num_steps if on_sample is None else f"{plural(int(on_sample), 'E-step')} on the sample, then {num_steps}"
    return f"{alone}{next_best}, in {in_steps}"


def warning_lines(warnings: Iterable[str]) -> list[str]:
    """Reasons not to trust a result, one each, or that there are none."""
    return [f"warning: {sentence}" for sentence in warnings] or ["no warnings"]


def model_line(params: Params, contrast: float = math.nan) -> str:
    """Sizes, contrast and noise."""
    stacked = np.ndim(params.template) - np.ndim(params.background)
    height, width = np.shape(params.template)[stacked:][:2]
    image = " x ".join(str(size) for size in np.shape(params.background)[:2])
    several = f"{len(params.template)} templates" if stacked else "template"
    scales = ", ".join(f"{scale:.4g}" for scale in np.atleast_1d(np.asarray(params.noise_scale)))
    stands_out = f", contrast {contrast:.4g}" if math.isfinite(contrast) else ""
    absent = "" if params.absent is None else f", none in {100 * float(params.absent):.3g} % of the frames"
    return f"{several} of {height} x {width} in frames of {image}{stands_out}, noise {scales}{absent}"
