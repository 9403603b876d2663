"""The search for the highest objective: several starts annealed, the best recentred, and that one run to convergence.

Source: ``docs/search.md``, *Search*.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.model.workspace import Workspace
from jaxem.ops.trees import set_entry
from jaxem.ops.windows import Shape
from jaxem.runtime.arguments import as_count, as_fraction
from jaxem.search.comparison import FEW_IMAGES
from jaxem.search.stage_record import StageRecord, num_steps_of
from jaxem.search.stages import SearchState, Stage, StagedSearch, StageKind, Starts
from jaxem.solvers.em import EM
from jaxem.solvers.options import EMOptions
from jaxem.solvers.result import Fit, Status
from jaxem.solvers.schedule import Schedule, annealing

# A start read off the images would be forgotten at a lower inverse temperature, and so would a template that was only
# shifted.
COOL_INVERSE_TEMPERATURE = 0.5
# Steps of annealing for a template of 1.5 times as many pixels as there are images.
ANNEALING_STEPS, TEMPLATE_PIXELS_PER_IMAGE = 20, 1.5
LEAST_ANNEALING_FACTOR, MOST_ANNEALING_FACTOR = 0.5, 2.0
# Of what was found in a sample, in all images: pseudo-counts an image of the M-steps in which their prior is learned.
RELEASE_SMOOTHING = (1.0, 0.1)
# Steps of prior annealing for half as many images as corners, or fewer.
PRIOR_ANNEALING_STEPS, IMAGES_PER_CORNER = 60, 0.5
# So many steps show which crops lead somewhere; two show it no better.
TRIAL_STEPS = 1
# So many times more crops are tried where images are few: a crop must be at the right corner to the pixel.
FEW_IMAGES_FACTOR = 3


@dataclass(frozen=True)
class Search:
    """What `fit_restarts` does besides running EM; each part can be left out.

    Args:
        annealing_steps: from each random start, with the inverse temperature rising to 1 and the prior held uniform. By
            default 20 where the template has 1.5 times as many pixels as there are images, in proportion elsewhere, but
            at least 10 and at most 40: a template that fits noise makes posteriors certain too early.
        inverse_temperature: the first one, for random starts.
        num_trials: if annealing has lost the template, as it can over a flat background, so many templates cropped from
            single images, see `init_from_crop`, are tried for a step, and the best of them goes on.
        splits: if the images fall into two groups, as they do where the template has two or three places, four starts
            are made of the means of the two and annealed, see ``docs/search.md``; of one template and more than 16
            images.
        num_recentrings: at most so many times the best template is shifted, see `recentre`, annealed anew, and kept if
            the objective has risen; and then as often to the middle of the windows that are as good as each other.
        num_reseedings: of several templates, at most so many times the one that is needed least makes way, and another
            is split in two instead; kept if the objective has risen.
        prior_annealing_steps: of the best, while the prior is learned little by little. By default 60, and where there
            are more images than half the corners, fewer in proportion to the square root of corners per image.

    Raises:
        ValueError, TypeError: numbers outside their ranges.

    Example:
        >>> import jaxem
        >>> jaxem.Search().prior_annealing_steps_for(num_images=1000, num_corners=500)
        30

    Source: ``docs/search.md``, *Search*.
    """

    annealing_steps: int | None = None
    inverse_temperature: float = 0.1
    num_trials: int = 12
    splits: bool = True
    num_recentrings: int = 2
    num_reseedings: int = 3
    prior_annealing_steps: int | None = None

    def __post_init__(self) -> None:
        if self.annealing_steps is not None:
            as_count("annealing_steps", self.annealing_steps, at_least=1)
        as_count("num_trials", self.num_trials, at_least=0)
        as_count("num_recentrings", self.num_recentrings, at_least=0)
        as_count("num_reseedings", self.num_reseedings, at_least=0)
        if self.prior_annealing_steps is not None:
            as_count("prior_annealing_steps", self.prior_annealing_steps, at_least=0)
        as_fraction("inverse_temperature", self.inverse_temperature)

    def annealing_steps_for(self, num_images: int, template_shape: Shape) -> int:
        """Annealing steps for so many images; of the templates all pixels count, of channels and of several, too."""
        if self.annealing_steps is not None:
            return self.annealing_steps
        factor = math.prod(template_shape) / num_images / TEMPLATE_PIXELS_PER_IMAGE
        return round(ANNEALING_STEPS * min(max(factor, LEAST_ANNEALING_FACTOR), MOST_ANNEALING_FACTOR))

    def crops_each_for(self, num_images: int) -> int:
        """How many crops of each of so many images are candidates: of few images several, so that there are enough."""
        return max(1, -(-self.num_trials_for(num_images) // num_images))

    def num_trials_for(self, num_images: int) -> int:
        """How many crops are tried; of few images more, since each of them is all that tells of some places."""
        return FEW_IMAGES_FACTOR * self.num_trials if num_images <= FEW_IMAGES else self.num_trials

    def prior_annealing_steps_for(self, num_images: int, num_corners: int) -> int:
        """Steps of prior annealing for so many images and corners."""
        if self.prior_annealing_steps is not None:
            return self.prior_annealing_steps
        return round(PRIOR_ANNEALING_STEPS * min(IMAGES_PER_CORNER * num_corners / num_images, 1) ** 0.5)


def plan_stages(search: Search, num_images: int, starts: Starts, options: EMOptions) -> Stage:
    """All stages, stacked along a leading axis, in the order of their kinds."""
    params, structure = starts.params, starts.structure
    num_steps = search.annealing_steps_for(num_images, params.template.shape[1:])
    of_estimate = _cool(search, num_steps)
    of_random = annealing(num_steps, start=search.inverse_temperature, prior_steps=0)
    untempered = annealing(num_steps, start=1, prior_steps=0)
    of_trial = annealing(TRIAL_STEPS, start=1, prior_steps=0)
    of_prior = annealing(0, prior_steps=search.prior_annealing_steps_for(num_images, params.prior[0].size))
    num_trials = 0 if starts.crops is None else min(search.num_trials_for(num_images), len(starts.crops.numbers))
    num_splits = 0 if starts.split is None else len(starts.split.noise_scale)
    num_pairs = structure.num_templates * (structure.num_templates - 1)
    num_reseedings = min(search.num_reseedings, num_pairs)
    plan = [
        # The first start is read off the images, or has a template that is given, which heat would only destroy.
        (StageKind.ANNEAL, 0, of_estimate if structure.init is None else untempered, 0),
        *[(StageKind.ANNEAL, number, of_random, 0) for number in range(1, starts.num_starts)],
        *[(StageKind.TRIAL, number, of_trial, 0) for number in range(num_trials)],
        *[(StageKind.REINITIALIZE, 0, untempered, 0)] * (num_trials > 0),
        *[(StageKind.SPLIT, number, of_estimate, 0) for number in range(num_splits)],
        *[(StageKind.RESEED, number, of_estimate, 0) for number in range(num_reseedings)],
        *[(StageKind.RECENTRE, 0, of_estimate, 0)] * search.num_recentrings,
        *[(StageKind.CENTRE, 0, of_estimate, 0)] * search.num_recentrings,
        *[(StageKind.REACH, 0, of_estimate, 0)] * (search.num_recentrings > 0),
        # Hard EM has a run of its own afterwards.
        (StageKind.CONVERGE, 0, of_prior, 0 if options.hard else options.max_iterations),
    ]
    return _stacked(plan, params.noise_scale.dtype)


def plan_fit_to_all(search: Search, num_images: int, starts: Starts, options: EMOptions) -> Stage:
    """The stages in which what was found in a sample is fitted to all images, likewise.

    The one start is evaluated; where it is off by a pixel, which so few images do not always show, it is recentred; and
    the prior of all images is learned.
    """
    params = starts.params
    cool = _cool(search, search.annealing_steps_for(num_images, params.template.shape[1:]))
    plan = [
        (StageKind.ANNEAL, 0, annealing(0, prior_steps=0), 0),
        *[(StageKind.RECENTRE, 0, cool, 0)] * search.num_recentrings,
        (StageKind.CONVERGE, 0, release_of_prior(), 0 if options.hard else options.max_iterations),
    ]
    return _stacked(plan, params.noise_scale.dtype)


def release_of_prior() -> Schedule:
    """Steps in which the prior of all images is learned, after one that was uniform."""
    rows: Any = np.ones(len(RELEASE_SMOOTHING)), np.array(RELEASE_SMOOTHING)
    return Schedule(*rows)


def _cool(search: Search, num_steps: int) -> Schedule:
    """Annealing of what must not be forgotten: at the rate of so many steps from the first inverse temperature on."""
    first, cool_first = search.inverse_temperature, max(search.inverse_temperature, COOL_INVERSE_TEMPERATURE)
    share = math.log(cool_first) / math.log(first) if first < 1 else 1
    return annealing(max(1, round(share * num_steps)), start=cool_first, prior_steps=0)


def _stacked(plan: Sequence[tuple[StageKind, int, Schedule, int]], dtype: Any) -> Stage:
    """Stages along a leading axis."""
    kinds, numbers, schedules, limits = zip(*plan, strict=True)

    lengths = np.array([schedule.num_steps for schedule in schedules])
    skips = lengths.max() - lengths
    rows = [[np.pad(row, (skip, 0)) for row in schedule] for schedule, skip in zip(schedules, skips, strict=True)]
    return Stage(
        jnp.array(kinds, jnp.int32),
        jnp.array(numbers, jnp.int32),
        Schedule(*(jnp.asarray(np.stack(column), dtype) for column in zip(*rows, strict=True))),
        jnp.asarray(skips, jnp.int32),
        jnp.array(limits, jnp.int32),
    )


def run_search(
    workspace: Workspace, starts: Starts, search: Search, options: EMOptions
) -> tuple[Fit, jax.Array, StageRecord]:
    """All stages of a search, to be traced: one `Fit` for each start, the E-steps of all, and what each came to."""
    return run_stages(
        workspace, starts, plan_stages(search, workspace.images.frames.num_images, starts, options), options
    )


def run_stages(
    workspace: Workspace, starts: Starts, stages: Stage, options: EMOptions
) -> tuple[Fit, jax.Array, StageRecord]:
    """The same of stages that are planned."""
    staged = StagedSearch(workspace, starts, stages, options)
    found = staged.run(staged.nothing_found())
    return conclude(found, EM(workspace, options).run(found.best.params) if options.hard else None)


def conclude(found: SearchState, hard: Fit | None = None) -> tuple[Fit, jax.Array, StageRecord]:
    """One `Fit` for each start, the E-steps of all, and what each stage came to.

    That of the best is of its whole run, in hard EM of the hard run that followed; the others were left.
    """
    best, num_steps = found.best, found.num_steps
    if hard is not None:
        best = hard
        num_steps = num_steps + num_steps_of(best)
    failed = found.annealed.status == Status.NONFINITE
    status = jnp.where(failed, found.annealed.status, jnp.int32(Status.ABANDONED))
    return set_entry(found.annealed._replace(status=status), found.start_index, best), num_steps, found.record
