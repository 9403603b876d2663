"""A search, and plain runs, as tasks for the executor: in chunks, side by side where they can be.

What a stage does is in `stages`; here is which of them need not wait for each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial, reduce

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.model.params import Params
from jaxem.model.workspace import Workspace
from jaxem.ops.trees import entry
from jaxem.runtime.compilation import jit
from jaxem.runtime.executor import Executor, Task
from jaxem.search.comparison import is_higher, needs_trials
from jaxem.search.progress import ALL_STAGE, HARD_STAGE, PLAIN_STAGE, PRIOR_STAGE, STAGE_NAMES, Reporter
from jaxem.search.stages import (
    SearchProgress,
    SearchState,
    Stage,
    StagedSearch,
    StageKind,
    Starts,
)
from jaxem.solvers.em import EM, EMState
from jaxem.solvers.options import EMOptions
from jaxem.solvers.result import Fit, Status


class SearchTasks:
    """A search, its annealing side by side, and its trials; each range of stages is a task.

    Of several searches of the same work each has a prefix for the names of its tasks. One that fits all images after a
    sample says so, and which start it goes on with.
    """

    def __init__(
        self,
        executor: Executor,
        reporter: Reporter,
        workspace: Workspace,
        starts: Starts,
        stages: Stage,
        options: EMOptions,
        nothing: SearchProgress,
        prefix: str = "",
        after_sample: int | None = None,
    ):
        self.executor, self.reporter = executor, reporter
        self.prefix, self.after_sample = prefix, after_sample
        self.workspace, self.starts, self.stages, self.options = workspace, starts, stages, options
        self.nothing = nothing
        kinds, skips, limits = jax.device_get((stages.kind, stages.skip, stages.limit))
        self.kinds = [StageKind(kind) for kind in kinds]
        lengths = stages.schedule.inverse_temperature.shape[1] - skips + limits + 1
        self.reporter.expect({self._name(number): int(length) for number, length in enumerate(lengths)})

    def run(self) -> SearchState:
        """All stages."""
        found = self._merged(self._of_kind(StageKind.ANNEAL), jax.device_get(self.nothing.found))
        trials = self._of_kind(StageKind.TRIAL)
        known = jax.device_get((self.workspace.images.scale, self.workspace.totals))
        if trials and needs_trials(found.best, *known):
            found = self._try(trials, found)
        else:
            for number in trials:
                self.reporter.drop(self._name(number))
        first = len(self._of_kind(StageKind.ANNEAL)) + len(trials)
        last = self._task(f"{self.prefix}last stages", range(first, len(self.kinds)), found)
        return self.executor.run([last])[0]

    def run_hard(self, found: SearchState) -> Fit:
        """Hard EM after a search."""
        start = int(found.start_index) if self.after_sample is None else self.after_sample
        params = found.best.params
        task = _em_task(self.reporter, self.workspace, params, start, HARD_STAGE, self.options, self.prefix)
        return self.executor.run([task])[0]

    def _of_kind(self, kind: StageKind) -> list[int]:
        return [number for number, one in enumerate(self.kinds) if one == kind]

    def _merged(self, numbers: Sequence[int], found: SearchState) -> SearchState:
        """What is known after stages that go side by side."""
        before = found._replace(num_steps=jnp.zeros_like(found.num_steps))
        tasks = [self._task(self._name(number), range(number, number + 1), before) for number in numbers]
        return reduce(merge, jax.device_get(self.executor.run(tasks)), found)

    def _try(self, numbers: Sequence[int], found: SearchState) -> SearchState:
        """What is known after the trials, of which the checkpoints keep only that."""
        checkpointer = self.executor.checkpointer
        known = checkpointer.result(f"{self.prefix}trials", lambda: found)
        if known is None:
            known = self._merged(numbers, found)
            checkpointer.save_result(f"{self.prefix}trials", known, *map(self._name, numbers))
        return known

    def _task(self, name: str, numbers: range, found: SearchState) -> Task:
        """To go through a range of stages, after what was found before them."""
        begin = self.nothing._replace(found=found, stage=jnp.int32(numbers.start), end=jnp.int32(numbers.stop))

        def advance(progress: SearchProgress, num_steps: jax.Array) -> SearchProgress:
            return _advance(self.workspace, self.starts, self.stages, progress, num_steps, self.options)

        def on_start(progress: SearchProgress | None) -> None:
            if progress is None:
                for number in numbers:
                    self.reporter.drop(self._name(number))
            elif not progress.is_new:
                self.reporter.resume(self._name(int(progress.stage)), progress.em)

        return Task(
            name=name,
            begin=lambda: begin,
            has_more=lambda progress: int(progress.stage) < numbers.stop,
            advance=advance,
            finish=lambda progress: progress.found,
            on_start=on_start,
            on_chunk=self._on_chunk,
        )

    def _on_chunk(self, progress: SearchProgress) -> None:
        number = int(progress.stage) - bool(progress.is_new)  # the next stage is new where this one has ended
        if not progress.active:
            self.reporter.drop(self._name(number))
            return
        kind, ended = self.kinds[number], bool(progress.is_new)
        start = number if kind == StageKind.ANNEAL else int(progress.found.start_index)
        start = start if self.after_sample is None else self.after_sample
        stage, count = self._stage_name(kind), _num_images(self.workspace)
        # Starts are annealed side by side, so none of them knows of the others.
        is_better = bool(progress.is_better) if ended and stage != STAGE_NAMES[StageKind.ANNEAL] else None
        self.reporter.tell(
            self._name(number), start, stage, progress.em, ended=ended, is_better=is_better, num_images=count
        )

    def _name(self, number: int) -> str:
        return f"{self.prefix}stage {number}"

    def _stage_name(self, kind: StageKind) -> str:
        """In hard EM the last stage is soft and converges to nothing; a run of its own follows."""
        if kind == StageKind.ANNEAL and self.after_sample is not None:
            return ALL_STAGE
        return PRIOR_STAGE if kind == StageKind.CONVERGE and self.options.hard else STAGE_NAMES[kind]


def merge(one: SearchState, other: SearchState) -> SearchState:
    """What two searches that began alike found together, each in stages of its own; of arrays on the host."""
    other_is_higher = is_higher(other.best, one.best)
    best_of = other if other_is_higher else one
    trial_of = other if is_higher(other.trial, one.trial) else one
    ran = np.asarray(other.annealed.status != Status.RUNNING)

    def of_each_start(after: np.ndarray, before: np.ndarray) -> np.ndarray:
        return np.where(ran.reshape(-1, *[1] * (after.ndim - 1)), after, before)

    return SearchState(
        best=best_of.best,
        trial=trial_of.trial,
        annealed=jax.tree.map(of_each_start, other.annealed, one.annealed),
        start_index=best_of.start_index,
        num_steps=one.num_steps + other.num_steps,
        recentring_failed=one.recentring_failed,
        record=one.record.merged(other.record, other_is_higher),
    )


def _num_images(workspace: Workspace) -> int:
    return workspace.images.frames.num_images


def run_plain(executor: Executor, reporter: Reporter, workspace: Workspace, starts: Starts, options: EMOptions) -> Fit:
    """A run from every start, stacked along a leading axis."""
    params = jax.device_get(starts.params)
    tasks = [
        _em_task(reporter, workspace, entry(params, number), number, PLAIN_STAGE, options)
        for number in range(starts.num_starts)
    ]
    return jax.tree.map(lambda *leaves: np.stack(leaves), *jax.device_get(executor.run(tasks)))


def _em_task(
    reporter: Reporter,
    workspace: Workspace,
    params: Params,
    start: int,
    stage: str,
    options: EMOptions,
    prefix: str = "",
) -> Task:
    """A run by itself."""
    name = f"{prefix}{stage} {start}"
    reporter.expect({name: options.max_iterations + 1})

    def on_start(state: EMState | None) -> None:
        if state is None:
            reporter.drop(name)
        else:
            reporter.resume(name, state)

    def has_more(state: EMState) -> bool:
        status, num_evaluated = jax.device_get((state.status, state.num_evaluated))
        return bool(EM(workspace, options).is_running(state._replace(status=status, num_evaluated=num_evaluated)))

    def on_chunk(state: EMState) -> None:
        reporter.tell(name, start, stage, state, ended=not has_more(state), num_images=_num_images(workspace))

    return Task(
        name=name,
        begin=lambda: _init_em(workspace, params, options),
        has_more=has_more,
        advance=lambda state, num_steps: _advance_em(workspace, state, num_steps, options),
        finish=lambda state: _finish_em(workspace, state, options),
        on_start=on_start,
        on_chunk=on_chunk,
    )


@jit
def _advance(
    workspace: Workspace,
    starts: Starts,
    stages: Stage,
    progress: SearchProgress,
    num_steps: jax.Array,
    options: EMOptions,
) -> SearchProgress:
    return StagedSearch(workspace, starts, stages, options).advance(progress, num_steps)


@partial(jit, is_small=True)
def _init_em(workspace: Workspace, params: Params, options: EMOptions) -> EMState:
    return EM(workspace, options).init(params)


@jit
def _advance_em(workspace: Workspace, state: EMState, num_steps: jax.Array, options: EMOptions) -> EMState:
    return EM(workspace, options).advance(state, num_steps)


@partial(jit, is_small=True)
def _finish_em(workspace: Workspace, state: EMState, options: EMOptions) -> Fit:
    return EM(workspace, options).finish(state)
