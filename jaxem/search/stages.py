"""The stages that a search is made of: where each begins, how it goes on, and what is known after it.

A stage is an EM run with something before it. `StagedSearch` goes through a range of stages, and can be stopped after
any step. Source: ``docs/search.md``, *Search*.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxem.model.appearances import numbers_of
from jaxem.model.likelihood import positions_of
from jaxem.model.params import Params, with_all_axes, with_mean_outside
from jaxem.model.statistics import nothing_found
from jaxem.model.workspace import Workspace
from jaxem.ops.trees import entry, set_entry
from jaxem.search.comparison import hypotheses_at, is_higher, needs_trials
from jaxem.search.crops import Crops, crop_params
from jaxem.search.recentring import TIE_SPREADS, recentred
from jaxem.search.reseeding import reseeded
from jaxem.search.stage_record import StageRecord, num_steps_of
from jaxem.search.structure import Structure
from jaxem.solvers.em import EM, EMState
from jaxem.solvers.options import EMOptions
from jaxem.solvers.result import Fit
from jaxem.solvers.schedule import Schedule


class StageKind(IntEnum):
    """What a stage of a search is for."""

    ANNEAL = 0  # anneal one of the starts
    TRIAL = 1  # a step from one of the crops, if annealing has lost the template
    REINITIALIZE = 2  # go on from the best of those
    SPLIT = 3  # anneal what two halves of the images suggest, if they fall into two groups
    RESEED = 4  # of several templates begin the one that is needed least anew
    RECENTRE = 5  # shift the best so far to where it belongs, and anneal it anew
    CENTRE = 6  # the same, but where windows are as good as each other to the middle of them
    REACH = 7  # the same, to where an object smaller than the template reaches all places that it is seen at
    CONVERGE = 8  # anneal the prior of the best and run it to convergence


class Stage(NamedTuple):
    """A part of a search: what it begins with, a schedule without its first steps, then iterations.

    ========  ==========  ==================================================================
    field     shape       meaning
    ========  ==========  ==================================================================
    kind      () int32    a `StageKind`
    number    () int32    of the start or the crop it begins with, or which attempt it is
    schedule  `Schedule`  as long in every stage, so that one program does for all of them
    skip      () int32    steps of it left out, from the first
    limit     () int32    iterations after it, at most
    ========  ==========  ==================================================================
    """

    kind: jax.Array
    number: jax.Array
    schedule: Schedule
    skip: jax.Array
    limit: jax.Array


class Starts(NamedTuple):
    """Where a search begins.

    =========  ===========  ===================================================================
    field      shape        meaning
    =========  ===========  ===================================================================
    params     `Params`     the starting points, along a leading axis
    structure  `Structure`  what they are made of, and what is known of them
    crops      `Crops`      where to look for more if those lead nowhere; plain restarts do not
               or None
    split      or None      more of them from two groups of images, along a leading axis
    is_split   () bool      whether the images fall into two groups, so that those are tried
    =========  ===========  ===================================================================
    """

    params: Params
    structure: Structure
    crops: Crops | None = None
    split: Params | None = None
    is_split: jax.Array | None = None

    @property
    def num_starts(self) -> int:
        """How many starting points."""
        return len(self.params.noise_scale)


class SearchState(NamedTuple):
    """What a search has found.

    =================  =============  ==========================================================
    field              shape          meaning
    =================  =============  ==========================================================
    best               `Fit`          the highest of all stages but trials
    trial              `Fit`          the highest of the trials
    annealed           `Fit`          of each start after its annealing, along a leading axis
    start_index        () int32       the start that led to the best
    num_steps          () int32       E-steps of all stages
    recentring_failed  () bool        whether recentring the best was tried and did not raise it
    record             `StageRecord`  what each stage came to
    =================  =============  ==========================================================
    """

    best: Fit
    trial: Fit
    annealed: Fit
    start_index: jax.Array
    num_steps: jax.Array
    recentring_failed: jax.Array
    record: StageRecord


class SearchProgress(NamedTuple):
    """Where a search is, in a range of its stages.

    =========  =============  ==================================================================
    field      shape          meaning
    =========  =============  ==================================================================
    found      `SearchState`  what the stages before have found
    em         `EMState`      where the run of the stage is; of the last one, once all have ended
    stage      () int32       the stage
    end        () int32       the first stage that is not part of the range
    is_new     () bool        whether the stage is still to begin
    active     () bool        whether the last stage begun does anything; trials often do not
    is_better  () bool        whether the last stage ended has changed the best
    =========  =============  ==================================================================
    """

    found: SearchState
    em: EMState
    stage: jax.Array
    end: jax.Array
    is_new: jax.Array
    active: jax.Array
    is_better: jax.Array


@dataclass(frozen=True)
class StagedSearch:
    """Goes through stages, stacked along a leading axis, one after the other; to be traced.

    Args:
        workspace: the images.
        starts: where to begin.
        stages: what to do.
        options: those of the runs, which are soft.
    """

    workspace: Workspace
    starts: Starts
    stages: Stage
    options: EMOptions

    def nothing_found(self) -> SearchState:
        """Before the first stage."""
        starts = self.starts
        length = self.options.max_iterations + 1
        params = entry(starts.params, 0)
        zero, unknown = jnp.int32(0), jnp.full((), jnp.nan, params.noise_scale.dtype)
        history, transforms = jnp.full(length, unknown), self.options.transforms
        internal = with_all_axes(params)
        where = positions_of(nothing_found(self.workspace.images, internal), None, params, transforms)
        nowhere = Fit(
            params,
            unknown,
            history,
            zero,
            zero,
            zero,
            unknown,
            where.corners,
            where.template,
            where.transform,
            where.present,
            numbers_of(transforms),
        )
        annealed = jax.tree.map(lambda leaf: jnp.broadcast_to(leaf[None], (starts.num_starts, *leaf.shape)), nowhere)
        record = StageRecord.blank(self.stages.kind, self.stages.number, unknown.dtype)
        return SearchState(nowhere, nowhere, annealed, zero, zero, jnp.bool_(False), record)

    def begin(self, found: SearchState, first: int, end: int) -> SearchProgress:
        """Before the first stage of a range, after what was found before it."""
        start = self._em(entry(self.stages, 0)).init(found.best.params)
        return SearchProgress(
            found, start, jnp.int32(first), jnp.int32(end), jnp.bool_(True), jnp.bool_(True), jnp.bool_(False)
        )

    def run(self, found: SearchState) -> SearchState:
        """All stages."""
        progress = self.begin(found, 0, len(self.stages.kind))
        return lax.while_loop(self.is_running, self.advance, progress).found

    def is_running(self, progress: SearchProgress) -> jax.Array:
        """Whether there is a stage to go through."""
        return progress.stage < progress.end

    def advance(self, progress: SearchProgress, num_steps: jax.Array | None = None) -> SearchProgress:
        """Go on to the end of the stage, or by so many steps of it at most."""
        stage = entry(self.stages, progress.stage)
        em = self._em(stage)
        state, active = lax.cond(
            progress.is_new,
            lambda: self._begin_stage(progress.found, stage),
            lambda: (progress.em, progress.active),
        )
        state = lax.cond(active, lambda: em.advance(state, num_steps), lambda: state)
        ended = ~(active & em.is_running(state))
        found, is_better = lax.cond(
            ended & active,
            lambda: _after(progress.found, stage, em.finish(state), progress.stage),
            lambda: (_unchanged(progress.found, stage, ended), jnp.bool_(False)),
        )
        number = progress.stage + ended.astype(jnp.int32)
        return SearchProgress(found, state, number, progress.end, ended, active, is_better)

    def _em(self, stage: Stage) -> EM:
        return EM(self.workspace, self.options.soft, stage.schedule, stage.skip, stage.limit)

    def _begin_stage(self, found: SearchState, stage: Stage) -> tuple[EMState, jax.Array]:
        """Where a stage begins, and whether it does anything."""
        best, kind = found.best, stage.kind
        is_recentring = kind == StageKind.RECENTRE

        def recentred() -> Params:
            is_vain = is_recentring & found.recentring_failed
            tie_spreads = jnp.where(is_recentring, 0, TIE_SPREADS).astype(best.elbo.dtype)
            to_reach = kind == StageKind.REACH
            return lax.cond(is_vain, lambda: best.params, lambda: self._recentred(best, tie_spreads, to_reach))

        begin_of = {
            StageKind.ANNEAL: lambda: entry(self.starts.params, stage.number),
            StageKind.TRIAL: lambda: self._crop(stage.number),
            StageKind.REINITIALIZE: lambda: found.trial.params,
            StageKind.SPLIT: lambda: entry(self.starts.split or self.starts.params, stage.number),
            StageKind.RESEED: lambda: self._reseeded(best, stage.number),
            StageKind.RECENTRE: recentred,
            StageKind.CENTRE: recentred,
            StageKind.REACH: recentred,
            StageKind.CONVERGE: lambda: best.params,
        }
        # All shifts are one branch, so that it is compiled once.
        branches = list(dict.fromkeys(begin_of[kind] for kind in StageKind))
        branch_of = jnp.array([branches.index(begin_of[kind]) for kind in StageKind], jnp.int32)
        begin = lax.switch(branch_of[kind], branches)
        needs_loss = (kind == StageKind.TRIAL) | (kind == StageKind.REINITIALIZE)
        is_split = jnp.bool_(False) if self.starts.is_split is None else self.starts.is_split
        is_changed = jnp.any(begin.template != best.params.template)
        needs_change = (kind >= StageKind.RESEED) & (kind < StageKind.CONVERGE)
        active = (~needs_loss | needs_trials(best, self.workspace.images.scale, self.workspace.totals)) & (
            (kind != StageKind.SPLIT) | is_split
        )
        active = active & (~needs_change | is_changed)
        return self._em(stage).init(begin), active

    def _recentred(self, found: Fit, tie_spreads: jax.Array, to_reach: jax.Array) -> Params:
        transforms = self.options.transforms
        images, where = self.workspace.images, hypotheses_at(found)
        shifted = recentred(images, found.params, where, transforms, tie_spreads=tie_spreads, to_reach=to_reach)
        return self.starts.structure.with_known(shifted)

    def _reseeded(self, found: Fit, attempt: jax.Array) -> Params:
        structure, images = self.starts.structure, self.workspace.images
        if structure.num_templates == 1:
            return found.params
        split = reseeded(images, found.params, hypotheses_at(found), attempt, self.options.transforms)
        return structure.with_known(split)

    def _crop(self, number: jax.Array) -> Params:
        structure, crops = self.starts.structure, self.starts.crops
        start = entry(self.starts.params, 0)
        if crops is None:
            return start
        images, totals = self.workspace.images, self.workspace.totals
        # Of several templates each is cut from another image.
        step = max(1, len(crops.numbers) // structure.num_templates)
        ranks = number + step * jnp.arange(structure.num_templates, dtype=jnp.int32)
        blank = structure.blank(images.frames.pixels)
        return structure.with_known(with_mean_outside(crop_params(images, totals, crops, ranks, blank), images))


def _after(found: SearchState, stage: Stage, fit: Fit, place: jax.Array) -> tuple[SearchState, jax.Array]:
    """What is known after the stage at a place, and whether it is better than before."""
    kind = stage.kind
    is_start, is_trial = kind == StageKind.ANNEAL, kind == StageKind.TRIAL
    # What is centred fits other noise, half a nat a pixel of it by chance.
    handicap = jnp.where(kind == StageKind.CENTRE, fit.params.template.size / 2, 0).astype(fit.elbo.dtype)
    rises = is_higher(fit._replace(elbo=fit.elbo - handicap), found.best)
    # The last stage may lower the objective by a nat of rounding; it is the only one that ends with a status.
    is_better = ~is_trial & ((kind == StageKind.CONVERGE) | rises)
    # By `lax.cond`, which compiles faster than a select of every array.
    after = SearchState(
        best=lax.cond(is_better, lambda: fit, lambda: found.best),
        trial=lax.cond(is_trial & is_higher(fit, found.trial), lambda: fit, lambda: found.trial),
        annealed=lax.cond(is_start, lambda: set_entry(found.annealed, stage.number, fit), lambda: found.annealed),
        start_index=jnp.where(is_start & is_better, stage.number, found.start_index),
        num_steps=found.num_steps + num_steps_of(fit),
        recentring_failed=(kind == StageKind.RECENTRE) & ~is_better,
        record=found.record.after(place, fit, is_better),
    )
    return after, is_better


def _unchanged(found: SearchState, stage: Stage, ended: jax.Array) -> SearchState:
    """What is known while a stage is under way, and after one that has nothing to do: no shift means none later."""
    return found._replace(recentring_failed=found.recentring_failed | (ended & (stage.kind == StageKind.RECENTRE)))
