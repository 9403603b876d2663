"""Long work in segments: each a second's fraction of steps, after which it can be watched, noted and stopped.

The steps are those of one uninterrupted loop: how many a segment has is a number that the compiled program is given.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.journal import Journal
from jaxem.loop import Climbing, Status

SEGMENT = 0.2  # seconds
CLIMBING = "climbing"


class Progress(NamedTuple):
    """How far a run is; what a watcher is told after each segment.

    ===========  ==================================================================================================
    field        meaning, unit
    ===========  ==================================================================================================
    start        number of the starting point that the run belongs to, from 0
    stage        "annealing", "trying", "rescuing", "recentring" or "climbing"
    num_steps    E-steps of this stage so far
    num_left     E-steps that all stages together can still take, at most
    elbo         the objective, nats; while annealing that at the present parameters
    gain         how much it rose in a step, the mean over the segment, nats; NaN after the first
    ended        whether the stage is over
    status       `Status.RUNNING`, or how the run ended; annealing ends nothing
    ===========  ==================================================================================================
    """

    start: int
    stage: str
    num_steps: int
    num_left: int
    elbo: float
    gain: float
    ended: bool
    status: Status


class Task(NamedTuple):
    """A run that can be gone in segments.

    =========  ===========================================================================
    field      meaning
    =========  ===========================================================================
    name       by which the journal knows it
    start      number of its starting point
    stage      what it is for
    most       E-steps it can take
    begin      () -> state
    advance    (state, number of steps) -> state, whether there are more
    climbing   state -> its `Climbing`
    end        state -> what it gives
    =========  ===========================================================================
    """

    name: str
    start: int
    stage: str
    most: int
    begin: Callable[[], Any]
    advance: Callable[[Any, jax.Array], tuple[Any, jax.Array]]
    climbing: Callable[[Any], Climbing]
    end: Callable[[Any], Any]


class StoppedError(Exception):
    """Another thread asked to stop."""


class Driver:
    """Goes tasks, some side by side, each in segments.

    Args:
        num_threads: tasks at a time.
        journal: what was done before, and where to note what is done.
        watch: called after each segment, one call at a time, in the thread of its task.
    """

    def __init__(self, num_threads: int, journal: Journal | None, watch: Callable[[Progress], None] | None):
        self.num_threads, self.journal, self.watch = num_threads, journal or Journal(), watch
        self._stop, self._watching = threading.Event(), threading.Lock()
        self._left: dict[str, int] = {}

    def expect(self, tasks: Sequence[Task]) -> None:
        """Count the steps of tasks that are to come."""
        self._left |= {task.name: task.most for task in tasks}

    def go(self, tasks: Sequence[Task]) -> list[Any]:
        """What the tasks give, in their order. An exception, an interruption too, stops all of them."""
        self.expect(tasks)
        pool = ThreadPoolExecutor(self.num_threads)
        try:
            futures = [pool.submit(self._go_one, task) for task in tasks]
            for future in as_completed(futures):
                future.result()
            return [future.result() for future in futures]
        except BaseException:
            self._stop.set()
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # an interruption does not wait for what is being compiled

    def _go_one(self, task: Task) -> Any:
        def state_like() -> Any:
            return jax.eval_shape(task.begin)

        result = self.journal.result(task.name, lambda: jax.eval_shape(task.end, state_like()))
        if result is None:
            state = self.journal.state(task.name, state_like)
            result = task.end(self._climb(task, task.begin() if state is None else state))
            self.journal.finish(task.name, result)
        self._left[task.name] = 0
        return result

    def _climb(self, task: Task, state: Any) -> Any:
        more, size = True, 1
        steps, elbo = _steps_and_elbo(task.climbing(state))
        while more:
            if self._stop.is_set():
                raise StoppedError
            before = time.perf_counter()
            state, unfinished = task.advance(state, jnp.int32(size))
            more = bool(unfinished)
            seconds = time.perf_counter() - before
            size = max(1, min(4 * size, round(size * SEGMENT / max(seconds, 1e-6))))
            self.journal.keep(task.name, state)
            steps, elbo = self._tell(task, state, more, steps, elbo)
        return state

    def _tell(self, task: Task, state: Any, more: bool, steps: int, elbo: float) -> tuple[int, float]:
        climbing = task.climbing(state)
        new_steps, new_elbo = _steps_and_elbo(climbing)
        self._left[task.name] = max(0, task.most - new_steps)
        if self.watch is not None and new_steps > (steps if more else 0):
            status = Status(int(climbing.status))
            if not more and status == Status.RUNNING and task.stage == CLIMBING:
                status = Status.MAX_ITERATIONS
            gain = (new_elbo - elbo) / max(new_steps - steps, 1)
            left = sum(list(self._left.values()))
            with self._watching:
                self.watch(Progress(task.start, task.stage, new_steps, left, new_elbo, gain, not more, status))
        return new_steps, new_elbo


def _steps_and_elbo(climbing: Climbing) -> tuple[int, float]:
    """E-steps so far, the one that only looked at the start among them, and the objective."""
    elbo, scheduled, iterations = jax.device_get((climbing.elbo.high, climbing.num_scheduled, climbing.num_iterations))
    return int(scheduled) + max(int(iterations) + 1, 0), float(elbo)
