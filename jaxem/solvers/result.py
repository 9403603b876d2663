"""What a run gives: parameters, the objective on the way there, and how it ended."""

from __future__ import annotations

import math
from collections import Counter
from enum import IntEnum
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np

from jaxem.model.frames import Frames
from jaxem.model.params import Params, Positions
from jaxem.ops.printing import html_repr, number_of, short_repr, summarized
from jaxem.runtime.text import plural
from jaxem.solvers.summaries import model_line


class Status(IntEnum):
    """How a run ended. `Status(int(fit.status))` gives the name, `.explanation` a sentence."""

    RUNNING = 0
    CONVERGED = 1
    MAX_ITERATIONS = 2
    DECREASED = 3
    NONFINITE = 4
    ABANDONED = 5

    @property
    def explanation(self) -> str:
        """What the status means, in a sentence."""
        return _EXPLANATIONS[self]

    @property
    def in_words(self) -> str:
        """The name as people write it."""
        return self.name.lower().replace("_", " ")


_EXPLANATIONS = {
    Status.RUNNING: "The run has not ended.",
    Status.CONVERGED: "The last iteration gained less than the tolerance.",
    Status.MAX_ITERATIONS: "The iterations ran out while the objective was still rising; allow more.",
    Status.DECREASED: "The objective fell by more than rounding explains.",
    Status.NONFINITE: "An iteration gave NaN or infinity; the last finite parameters were kept.",
    Status.ABANDONED: "Another start stood higher after annealing, so this one was not run to convergence.",
}


class Fit(NamedTuple):
    """What one run found.

    ==============  =====================  ===================================================================
    field           shape                  meaning, unit
    ==============  =====================  ===================================================================
    params          `Params`               the parameters
    elbo            ()                     the objective at those parameters, nats
    history         (max_iterations + 1,)  the objective at the start and after each iteration, NaN after the end
    num_iterations  () int32               iterations kept; ``history[num_iterations] == elbo``
    status          () int32               a `Status`
    num_scheduled   () int32               steps of a `Schedule` made before
    entropy         ()                     mean entropy of the posteriors, nats; its exponential is the effective number
                                           of positions an image
    corners         (K, 2) int32           the best corner of each image: row, column of the window's upper left pixel
    best_template   (K,) int32 or None     number of the template there; None: there is one
    best_transform  (K,) int32 or None     number of the transform there; None: there is one
    present         (K,) bool or None      whether there is a template at all; None: there always is
    transforms      (G,) int32 or None     which transforms templates may be under, by their places in
                                           `appearances.MIRRORED_AND_TURNED`; None: the identity alone
    ==============  =====================  ===================================================================

    The objective is the ELBO at the exact posterior, that is the log likelihood; in hard EM the log joint of the images
    and their best corners; with prior smoothing alpha, (alpha / PQ) sum_d ln A(d) more.
    """

    params: Params
    elbo: jax.Array
    history: jax.Array
    num_iterations: jax.Array
    status: jax.Array
    num_scheduled: jax.Array
    entropy: jax.Array
    corners: jax.Array
    best_template: jax.Array | None = None
    best_transform: jax.Array | None = None
    present: jax.Array | None = None
    transforms: jax.Array | None = None

    def __repr__(self) -> str:
        return short_repr(self)

    def printed(self) -> tuple[Any, ...]:
        """The fields for people: a status by its name."""
        number = number_of(self.status)
        status: Any = Status(number) if number in list(Status) else self.status
        return self._replace(status=status)

    def summary(self) -> str:
        """What a person wants to know of it, in a few lines; of runs along a leading axis, how they ended."""
        if np.ndim(self.elbo) and hasattr(self.elbo, "__array__"):
            return summarized(self, self.elbo.reshape(-1)[0], stacked_lines)
        return summarized(self, self.elbo, _own_lines)

    def _repr_html_(self) -> str | None:
        return html_repr(self, lambda: self.elbo)

    def of_first(self, num_images: int) -> Fit:
        """The same with the corners of so many images, for where others were added that count for nothing."""
        if num_images == self.corners.shape[-2]:
            return self
        each = {name: getattr(self, name) for name in ("best_template", "best_transform", "present")}
        cut: Any = {name: None if array is None else array[..., :num_images] for name, array in each.items()}
        return self._replace(corners=self.corners[..., :num_images, :], **cut)

    @property
    def positions(self) -> Positions:
        """The best hypothesis of each image."""
        return Positions(self.corners, None, self.best_template, self.best_transform, self.present)


Result = TypeVar("Result", bound=Any)


def kept_of_shards(found: Result, frames: Frames) -> Result:
    """A result of images that are shared out, whole on every device, without what makes the shards equal."""
    if frames.shards is None:
        return found
    whole: Result = frames.shards.replicate(found.of_first(frames.num_given))
    return whole


def fit_lines(fit: Fit, contrast: float = math.nan) -> list[str]:
    """Of a run: how it ended, the objective, the template and the noise, and how far the places are known."""
    status, num_images = Status(int(fit.status)), len(fit.corners)
    before = f", after {plural(int(fit.num_scheduled), 'step')} of a schedule" if int(fit.num_scheduled) else ""
    lines = [f"{status.in_words}, {plural(int(fit.num_iterations), 'iteration')}{before}"]
    elbo, entropy = float(fit.elbo), float(fit.entropy)
    lines.append(f"objective {elbo:.9g} nats, {elbo / num_images:.6g} a frame")
    lines.append(model_line(fit.params, contrast))
    num_positions = math.prod(np.shape(fit.params.prior)[-2:])
    left = f", which leave {math.exp(entropy):.3g} of {num_positions} positions open each" if entropy >= 0 else ""
    return [*lines, f"{plural(num_images, 'frame')}{left}"]


def _own_lines(fit: Fit) -> list[str]:
    """The same with a sentence on a run that did not converge, which is a warning elsewhere."""
    first, *others = fit_lines(fit)
    status = Status(int(fit.status))
    return [first, *([] if status == Status.CONVERGED else [status.explanation]), *others]


def stacked_lines(runs: Fit) -> list[str]:
    """Of runs along a leading axis: how they ended, and between which objectives."""
    elbo, statuses = np.asarray(runs.elbo), Counter(np.asarray(runs.status).ravel().tolist())
    ended = ", ".join(f"{count} {Status(status).in_words}" for status, count in sorted(statuses.items()))
    finite = elbo[np.isfinite(elbo)]
    between = f"objectives from {finite.min():.9g} to {finite.max():.9g} nats" if finite.size else "no finite objective"
    return [f"{plural(elbo.size, 'run')}: {ended}", between]
