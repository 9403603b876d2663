"""What a result holds that can be drawn, whichever kind of result it is."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

import jax
import numpy as np

from jaxem.assess.assessment import Assessment, Report
from jaxem.model.appearances import as_transforms
from jaxem.model.params import Params, Positions
from jaxem.model.predict import reconstruct
from jaxem.ops.trees import entry
from jaxem.plots.pictures import Palette
from jaxem.runtime.errors import ArgumentTypeError, ArgumentValueError
from jaxem.search.choosing import best_run
from jaxem.search.restarts import Restarts
from jaxem.search.stage_record import StageRecord
from jaxem.solvers.diagnostics import covered_always
from jaxem.solvers.result import Fit

Result: TypeAlias = Report | Restarts | Fit


class Contents(NamedTuple):
    """What is in a result, on the host.

    ===========  ====================  ==============================================================
    field        shape                 meaning, unit
    ===========  ====================  ==============================================================
    best         `Fit`                 the best run
    runs         `Fit`                 all of them, along a leading axis
    stages       `StageRecord` or None what the search did
    assessment   `Assessment` or None  what may be claimed
    unseen       (H, W) bool           background pixels that no image shows
    transforms   (G,) names            that templates may be under
    templates    (M, h, w[, C])        the templates, pixel value
    supports     (M, h, w)             where they are
    priors       (M, P, Q)             probability of each corner, over all transforms
    ===========  ====================  ==============================================================
    """

    best: Fit
    runs: Fit
    stages: StageRecord | None
    assessment: Assessment | None
    unseen: np.ndarray
    transforms: tuple[str, ...]
    templates: np.ndarray
    supports: np.ndarray
    priors: np.ndarray

    @property
    def params(self) -> Params:
        """What was found."""
        return self.best.params

    @property
    def background(self) -> np.ndarray:
        """(H, W) or (H, W, C), pixel value."""
        return np.asarray(self.params.background)

    @property
    def num_images(self) -> int:
        """Of the fit."""
        return len(self.best.corners)

    @property
    def searched(self) -> Fit:
        """The best run as the search left it: of a sample, where there was one."""
        is_sample = self.runs.corners.shape[1] < self.num_images
        return entry(self.runs, int(best_run(self.runs))) if is_sample else self.best

    @property
    def num_channels(self) -> int | None:
        """Of the images; None where they have no such axis."""
        return self.background.shape[2] if self.background.ndim == 3 else None

    @property
    def is_line(self) -> bool:
        """Whether images are of one row or one column, and drawn as lines."""
        return min(self.background.shape[:2]) == 1

    @property
    def palette(self) -> Palette:
        """One scale for all that is without noise: templates where they are, the background where it is seen."""
        seen = self.background[~self.unseen]
        return Palette.of([seen, *(one[there > 0] for one, there in zip(self.templates, self.supports, strict=True))])

    def template_errors(self) -> np.ndarray | None:
        """Standard errors of the templates, (M, h, w[, C]), pixel value; None where there are none."""
        if self.assessment is None:
            return None
        errors = np.asarray(self.assessment.standard_errors.template).reshape(self.templates.shape)
        return errors if np.isfinite(errors).any() else None

    def position(self, number: int) -> Positions:
        """What was found in one image of the fit, as of a stack of one; IndexError where there is no such image."""
        number = range(self.num_images)[number]
        one: Positions = jax.tree.map(lambda part: part[number : number + 1], self.best.positions)
        return one if (one.corners >= 0).all() else _likeliest(self.params)

    def number_shown(self) -> int:
        """An image that shows a template, if there is one."""
        present = self.best.present
        return 0 if present is None else int(np.argmax(present))

    def without_noise(self, position: Positions) -> np.ndarray:
        """The background with the template in front, (H, W[, C]), pixel value."""
        return next(iter(reconstruct(position, self.params, self.transforms)))


def contents_of(result: Any) -> Contents:
    """What is in a result.

    Raises:
        TypeError: it is no result of a fit.
        ValueError: it is many, along a leading axis.
    """
    if not isinstance(result, Report | Restarts | Fit):
        given = type(result).__name__
        raise ArgumentTypeError("result", f"must be a jaxem.Report, Restarts or Fit, but is {given}.")
    assessment = result.assessment if isinstance(result, Report) else None
    found = result.found if isinstance(result, Report) else result
    best = found.best if isinstance(found, Restarts) else found
    if np.ndim(best.elbo):
        raise ArgumentValueError("result", "holds many along a leading axis; draw one of them.")
    runs = found.runs if isinstance(found, Restarts) else jax.tree.map(lambda leaf: np.asarray(leaf)[None], best)
    stages = found.stages if isinstance(found, Restarts) else None
    parts: tuple[Any, ...] = (best, runs, stages, assessment)
    best, runs, stages, assessment = jax.tree.map(np.asarray, parts)
    params, transforms = best.params, as_transforms(best.transforms)
    stack = params.template if params.template.ndim > params.background.ndim else params.template[None]
    shape = stack.shape[:3]
    supports = np.broadcast_to(1.0 if params.opacity is None else params.opacity, shape)
    priors = params.prior.reshape(len(stack), -1, *params.prior.shape[-2:]).sum(axis=1)
    unseen = _unseen(found, best, assessment, transforms)
    return Contents(best, runs, stages, assessment, unseen, transforms, stack, supports, priors)


def _unseen(found: Restarts | Fit, best: Fit, assessment: Assessment | None, transforms: tuple[str, ...]) -> np.ndarray:
    """As the diagnostics have it, or else by the prior; and pixels that no image shows where it was observed."""
    known = found.diagnostics.unseen if isinstance(found, Restarts) and found.diagnostics is not None else None
    if known is None:
        known = covered_always(best.params, len(best.corners), transforms)
    unseen = np.asarray(known)
    if assessment is None:
        return unseen

    def nowhere(values: Any) -> np.ndarray:
        values = np.asarray(values)
        return np.isnan(values) if values.ndim == 2 else np.isnan(values).all(axis=-1)

    no_error = nowhere(assessment.standard_errors.background)
    return unseen | nowhere(assessment.residuals.by_pixel) | (no_error & ~no_error.all())


def _likeliest(params: Params) -> Positions:
    """Where the prior is highest."""
    place = np.unravel_index(np.argmax(params.prior), np.shape(params.prior))
    template = place[0] if np.ndim(params.template) > np.ndim(params.background) else None
    has_transforms = len(place) - 2 > (template is not None)
    parts = (place[-2:], None, template, place[-3] if has_transforms else None)
    found: Any = [None if part is None else np.array([part], np.int32) for part in parts]
    return Positions(*found)
