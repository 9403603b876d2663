"""What may be claimed of a result in a few lines, by its numbers alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxem.model.predict import located_lines
from jaxem.runtime.text import plural


def test_lines(test: Any) -> list[str]:
    """Whether there is a template at all."""
    p_value = float(test.p_value)
    if np.isnan(p_value):
        return ["whether noise alone would look like this was not tested"]
    return [
        f"p = {p_value:.3g}: noise alone would look like this in {100 * p_value:.3g} of 100 cases",
        f"templates from parts of the frames agree on {100 * float(test.agreement):.3g} % of the places",
    ]


def assessment_lines(assessment: Any) -> list[str]:
    """Places and how sure, how far the template's pixels may be off, and the test."""
    errors = np.asarray(assessment.standard_errors.template)
    known = errors[np.isfinite(errors)]
    off = [f"standard error of the template's pixels {np.median(known):.3g}"] if known.size else []
    scales = ", ".join(f"{scale:.4g}" for scale in np.atleast_1d(np.asarray(assessment.noise_scale)))
    return [
        *located_lines(assessment.located)[1:],
        f"contrast {float(assessment.contrast):.4g}, noise {scales}, both corrected for what was fitted of the noise",
        *off,
        *test_lines(assessment.test),
    ]


def choice_lines(choice: Any) -> list[str]:
    """Which size, and which others will do."""
    height, width = choice.shape
    others = [f"{rows} x {columns}" for rows, columns in choice.not_excluded[1:]]
    lines = [f"template of {height} x {width}, of {plural(len(choice.bic), 'size')} that were fitted"]
    lines += [f"as good: {', '.join(others)}"] if others else []
    return [*lines, *(f"{remark.grade}: {remark}" for remark in choice.remarks())]
