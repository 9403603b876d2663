"""The loop of `solvers.em`, with an E-step that goes through the frames in a pass.

Several processes all go the same way: each makes every step for itself, and then takes what the first one has found.
Source: ``docs/stream.md``, *Passes*.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.model.appearances import appearances_of, geometry_of
from jaxem.model.likelihood import Hypotheses, SharedTerms, shared_terms
from jaxem.model.params import Params
from jaxem.model.statistics import Expectation
from jaxem.model.steps import finalize
from jaxem.model.workspace import ImageTotals, Workspace
from jaxem.runtime.compilation import jit
from jaxem.runtime.executor import Executor, Task
from jaxem.runtime.processes import from_first
from jaxem.search.progress import Reporter
from jaxem.solvers.em import EM, EMState
from jaxem.solvers.options import EMOptions
from jaxem.solvers.result import Fit
from jaxem.solvers.schedule import Schedule
from jaxem.stream.chunks import Sums, accumulate_chunk, count_chunk
from jaxem.stream.passes import Passes, add


class StreamedState(NamedTuple):
    """Where a run is.

    ==========  ===========  ============================================================
    field       shape        meaning
    ==========  ===========  ============================================================
    em          `EMState`    where the loop is
    totals      as in        of all frames
                `Workspace`
    has_totals  () bool      whether they are known, which the first E-step sees to
    ==========  ===========  ============================================================
    """

    em: EMState
    totals: ImageTotals
    has_totals: jax.Array


@dataclass(frozen=True)
class StreamedEM:
    """`solvers.em.EM` with an E-step in passes over a source.

    Args:
        passes: goes through the frames.
        options: those of `fit`.
        schedule: steps before the iterations.
        has_iterations: whether there are any after those.
        start: number of the starting point that the run belongs to.
    """

    passes: Passes
    options: EMOptions
    schedule: Schedule | None = None
    has_iterations: bool = True
    start: int = 0

    def run(
        self, executor: Executor, reporter: Reporter, workspace: Workspace, params: Params, stage: str
    ) -> tuple[Fit, Workspace]:
        """All of it, and the workspace with the totals, which are known after it."""
        begin = self._begin(workspace, params)
        most_steps = (0 if self.schedule is None else self.schedule.num_steps) + self._limit + 1
        reporter.expect({stage: most_steps})

        def on_start(state: StreamedState | None) -> None:
            if state is None:
                reporter.drop(stage)
            else:
                reporter.resume(stage, state.em)

        def told(state: StreamedState) -> None:
            num_images, ended = self.passes.stream.num_images, not self._is_running(workspace, state)
            reporter.tell(stage, self.start, stage, state.em, ended=ended, num_images=num_images)

        task = Task(
            name=stage,
            begin=lambda: begin,
            has_more=lambda state: self._is_running(workspace, state),
            advance=lambda state, num_steps: self._advance(workspace, state, int(num_steps)),
            finish=lambda state: (self._finish(workspace._replace(totals=state.totals), state.em), state.totals),
            on_start=on_start,
            on_chunk=told,
        )
        found, totals = executor.run([task])[0]
        return found, workspace._replace(totals=totals)

    @property
    def _limit(self) -> int:
        return self.options.max_iterations if self.has_iterations else 0

    def _begin(self, workspace: Workspace, params: Params) -> StreamedState:
        em = _init(workspace, params, self.schedule, self.options)
        found = jax.tree.map(
            lambda leaf: jnp.zeros((self.passes.stream.num_images, *leaf.shape[1:]), leaf.dtype), em.expected.best
        )
        em = _with_best(from_first(_with_best(em, None)), found)
        return StreamedState(em, workspace.totals, workspace.totals.num_images > 0)

    def _is_running(self, workspace: Workspace, state: StreamedState) -> bool:
        status, num_evaluated = jax.device_get((state.em.status, state.em.num_evaluated))
        em = EM(workspace, self.options, limit=jnp.int32(self._limit))
        return bool(em.is_running(state.em._replace(status=status, num_evaluated=num_evaluated)))

    def _advance(self, workspace: Workspace, state: StreamedState, num_steps: int) -> StreamedState:
        for _ in range(num_steps):
            if self._is_running(workspace, state):
                state = self._step(workspace, state)
        return state

    def _step(self, workspace: Workspace, state: StreamedState) -> StreamedState:
        """A step of the loop; the first counts the totals as well, so that nothing is read for them alone."""
        em, totals, options = state.em, state.totals, self.options
        proposed = _propose(workspace._replace(totals=totals), em, self.schedule, options)
        params, tempered, terms = from_first(proposed)
        best = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), em.expected.best)
        work = _sums_of_chunk if bool(state.has_totals) else _sums_and_totals_of_chunk
        sums, counted = self.passes.run(work, (workspace.images, tempered, terms, options), add, best)
        totals = totals if counted is None else counted
        em = _receive(workspace._replace(totals=totals), em, params, sums, best, self.schedule, options)
        em, totals = from_first((_with_best(em, None), totals))
        return StreamedState(jax.block_until_ready(_with_best(em, best)), totals, jnp.bool_(True))

    def _finish(self, workspace: Workspace, state: EMState) -> Fit:
        return _finish(workspace, state, self.options)


def _with_best(state: EMState, best: Any) -> EMState:
    """The state with these hypotheses of the frames, which are many, and the same in all processes."""
    return state._replace(expected=state.expected._replace(best=best))


def _sums_of_chunk(shared: Any, own: Any, counts: jax.Array) -> tuple[tuple[Sums, ImageTotals | None], Hypotheses]:
    images, params, terms, options = shared
    sums, best = accumulate_chunk(images, params, terms, options, own, counts)
    return (sums, None), best


def _sums_and_totals_of_chunk(shared: Any, own: Any, counts: jax.Array) -> tuple[tuple[Sums, ImageTotals], Hypotheses]:
    images, params, terms, options = shared
    sums, best = accumulate_chunk(images, params, terms, options, own, counts)
    return (sums, count_chunk(images, options, own, counts)), best


@partial(jit, is_small=True)
def _init(workspace: Workspace, params: Params, schedule: Schedule | None, options: EMOptions) -> EMState:
    return EM(workspace, options, schedule).init(params)


@partial(jit, is_small=True)
def _propose(
    workspace: Workspace, state: EMState, schedule: Schedule | None, options: EMOptions
) -> tuple[Params, Params, SharedTerms]:
    """The parameters of the next step, those to make its E-step at, and what these give for all frames."""
    params, tempered = EM(workspace, options, schedule).propose(state)
    return params, tempered, shared_terms(workspace.images, tempered, options.transforms)


@partial(jit, is_small=True)
def _receive(
    workspace: Workspace,
    state: EMState,
    params: Params,
    sums: Sums,
    best: Hypotheses,
    schedule: Schedule | None,
    options: EMOptions,
) -> EMState:
    """The state after a step, from the sums over all frames."""
    supports = appearances_of(params, options.transforms).supports
    statistics = finalize(
        workspace.images,
        sums[0],
        geometry_of(params),
        supports,
        hard=options.hard,
        transforms=options.transforms,
    )
    return EM(workspace, options, schedule).receive(state, params, Expectation(statistics, sums[1], best))


@partial(jit, is_small=True)
def _finish(workspace: Workspace, state: EMState, options: EMOptions) -> Fit:
    return EM(workspace, options).finish(state)
