"""All that is claimed of a fit: made by one pass over its images, and by the detection test.

Source: ``docs/statistics.md``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.assess.detection import DetectionTest, nothing_tested
from jaxem.assess.evaluation import Evaluation, evaluate
from jaxem.assess.remarks import (
    contrast_remarks,
    difference_remarks,
    evidence_remarks,
    place_remarks,
    residual_remarks,
    test_remarks,
)
from jaxem.assess.residuals import ResidualStatistics
from jaxem.assess.summaries import assessment_lines
from jaxem.model.params import Params
from jaxem.model.predict import Located
from jaxem.ops.printing import html_repr, short_repr, summarized
from jaxem.runtime.remarks import Grade, Remark
from jaxem.search.restarts import Restarts, restarts_lines
from jaxem.solvers.diagnostics import Diagnostics
from jaxem.solvers.result import Fit
from jaxem.solvers.summaries import warning_lines


class Assessment(NamedTuple):
    """What may be claimed of a fit.

    ===============  ====================  ====================================================================
    field            shape                 meaning, unit
    ===============  ====================  ====================================================================
    located          `Located`             where the template is in each image, by the estimates of all others
    contrast         ()                    |F - B under it|^2 / s^2, without what the template has fitted of the
                                           noise
    noise_scale      () or (C,)            noise, corrected for what template and background have fitted of it,
                                           pixel value
    standard_errors  `Params`              standard errors, pixel value; NaN where there is none
    residuals        `ResidualStatistics`  of what the fit leaves of the images
    test             `DetectionTest`       whether there is a template at all; all NaN if it was not run
    num_positions    () int32              between how many hypotheses each image decides
    ===============  ====================  ====================================================================
    """

    located: Located
    contrast: jax.Array
    noise_scale: jax.Array
    standard_errors: Params
    residuals: ResidualStatistics
    test: DetectionTest
    num_positions: jax.Array

    def __repr__(self) -> str:
        return short_repr(self)

    def summary(self) -> str:
        """What a person wants to know of it, in a few lines."""
        return summarized(self, self.contrast, assessment_lines)

    def remarks(self) -> list[Remark]:
        """What there is to know of the result, and reasons not to believe it; of a finished one, not while tracing."""
        counted = np.isfinite(self.residuals.by_image)
        return [
            *test_remarks(self.test, self.located, self._periods),
            *place_remarks(self.located, counted),
            *contrast_remarks(float(self.contrast), int(self.num_positions), int(counted.sum())),
            *residual_remarks(self.residuals, self.standard_errors.template.shape),
            *evidence_remarks(self.located, self.residuals),
        ]

    @property
    def _periods(self) -> tuple[float, float]:
        """After how many rows and columns a place is the same, where windows go round the edges."""
        errors = self.standard_errors
        image = np.shape(errors.background)[:2]
        rows, columns = (
            size if size == positions else np.inf
            for size, positions in zip(image, np.shape(errors.prior)[-2:], strict=True)
        )
        return rows, columns


class Report(NamedTuple):
    """A result and what may be claimed of it, as ``jaxem fit`` writes it.

    ==========  ============  ======================================================
    field       type          meaning
    ==========  ============  ======================================================
    found       `Restarts`    what was found; its fields are also those of the report
    assessment  `Assessment`  what may be claimed of it
    ==========  ============  ======================================================
    """

    found: Restarts
    assessment: Assessment

    def __repr__(self) -> str:
        return short_repr(self)

    def summary(self) -> str:
        """What a person wants to know of it, in a few lines; `warnings()` included."""
        return summarized(self, self.best.elbo, _report_lines)

    def _repr_html_(self) -> str | None:
        return html_repr(self, lambda: self.best.elbo)

    @property
    def best(self) -> Fit:
        """The best run."""
        return self.found.best

    @property
    def runs(self) -> Fit:
        """All of them, stacked."""
        return self.found.runs

    @property
    def diagnostics(self) -> Diagnostics:
        """What the runs say about each other."""
        return self.found.diagnostics

    def remarks(self) -> list[Remark]:
        """All that there is to know and to doubt, each once."""
        located, counted = self.assessment.located, np.isfinite(self.assessment.residuals.by_image)
        differences = difference_remarks(np.asarray(self.best.corners), located, counted)
        every = [*self.found.remarks(), *self.assessment.remarks(), *differences]
        by_code = {remark.code: remark for remark in every}
        return sorted(by_code.values(), key=lambda remark: remark.grade != Grade.WARNING)

    def warnings(self) -> list[str]:
        """The reasons not to trust it alone, a sentence each."""
        return [str(remark) for remark in self.remarks() if remark.grade == Grade.WARNING]


def _report_lines(report: Report) -> list[str]:
    claims = assessment_lines(report.assessment)
    return [*restarts_lines(report.found, np.nan), *claims, *warning_lines(report.warnings())]


def assess_fit(
    images: Any,
    found: Fit | Restarts | Report,
    *,
    test: DetectionTest | None = None,
    weights: Any = None,
    frame_weights: Any = None,
    fixed: Any = (),
    batch_size: int | None = None,
) -> Assessment:
    """What may be claimed of a fit, by the images that it was fitted to.

    Costs about as much as ten iterations.

    Args:
        images: (K, H, W) or (K, H, W, C), pixel values, those of the fit.
        found: the result, of which the best counts.
        test: the `detection_test` of the same images, if there is one.
        weights: as for the fit, like all that follow.
        frame_weights: of the images.
        fixed: names of the fields that were known, or a mapping of them.
        batch_size: images worked on at a time (static).

    Returns:
        `Assessment`; its `remarks()` say in words what there is to know and to doubt.

    Raises:
        ValueError, TypeError: shapes, dtypes or options that do not fit.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> images, _ = jaxem.simulate(jax.random.key(0), truth, 100)
        >>> claims = jaxem.assess_fit(images, jaxem.fit(images, truth))
        >>> [remark.code for remark in claims.remarks() if remark.grade == "warning"]
        []

    Source: ``docs/statistics.md``.
    """
    best = best_of(found)
    evaluation = evaluate(
        images,
        best.params,
        weights=weights,
        frame_weights=frame_weights,
        transforms=best.transforms,
        fixed=tuple(fixed),
        batch_size=batch_size,
    )
    return assessment_of(evaluation, best.params, test)


def best_of(found: Fit | Restarts | Report) -> Fit:
    """The fit of a result."""
    return found if isinstance(found, Fit) else found.best


def assessment_of(evaluation: Evaluation, params: Params, test: DetectionTest | None) -> Assessment:
    """All that is claimed, with a test if there was one."""
    if test is None:
        test = nothing_tested(len(evaluation.located.corners), evaluation.contrast.dtype)
    size = np.prod(params.prior.shape, dtype=int) + (params.absent is not None)
    return Assessment(*evaluation, test, jnp.int32(size))
