"""Long work in chunks: each a fraction of a second's steps, after which it can be watched, saved and stopped.

The steps are those of one uninterrupted loop: how many a chunk has is a number that the compiled program is given.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxem.runtime.checkpoint import Checkpointer
from jaxem.runtime.errors import StoppedError

CHUNK_SECONDS = 0.2
CHUNK_GROWTH = 4  # times as many steps as before, at most


class Task(NamedTuple):
    """Work that can be done in chunks.

    =========  =========================================================================================
    field      meaning
    =========  =========================================================================================
    name       by which the checkpoints know it
    begin      () -> state, a pytree
    has_more   state -> whether there are steps left
    advance    (state, number of steps) -> state
    finish     state -> result, a pytree
    on_start   called with the state it begins with, or None where its result is known already
    on_chunk   called with the state after each chunk
    =========  =========================================================================================
    """

    name: str
    begin: Callable[[], Any]
    has_more: Callable[[Any], bool]
    advance: Callable[[Any, jax.Array], Any]
    finish: Callable[[Any], Any]
    on_start: Callable[[Any | None], None]
    on_chunk: Callable[[Any], None]


class Executor:
    """Runs tasks, some side by side, each in chunks.

    Args:
        num_threads: tasks at a time.
        checkpointer: what was done before, and where to save what is done.
    """

    def __init__(self, num_threads: int, checkpointer: Checkpointer):
        self.num_threads, self.checkpointer = num_threads, checkpointer
        self._stopped, self._saving = False, threading.Lock()

    def run(self, tasks: Sequence[Task]) -> list[Any]:
        """What the tasks give, in their order. An exception, an interruption too, stops all of them."""
        pool = ThreadPoolExecutor(self.num_threads)
        try:
            futures = [pool.submit(self._run_one, task) for task in tasks]
            for future in as_completed(futures):
                future.result()
            return [future.result() for future in futures]
        except BaseException:
            with self._saving:
                self._stopped = True
            raise
        finally:
            pool.shutdown(wait=False, cancel_futures=True)  # an interruption does not wait for what is being compiled

    def _run_one(self, task: Task) -> Any:
        def state_like() -> Any:
            return jax.eval_shape(task.begin)

        result = self.checkpointer.result(task.name, lambda: jax.eval_shape(task.finish, state_like()))
        if result is not None:
            task.on_start(None)
            return result
        state = self.checkpointer.state(task.name, state_like)
        result = task.finish(self._advance(task, task.begin() if state is None else state))
        self._save(self.checkpointer.save_result, task, result)
        return result

    def _advance(self, task: Task, state: Any) -> Any:
        size = 1
        task.on_start(state)
        while task.has_more(state):
            before = time.perf_counter()
            state = jax.block_until_ready(task.advance(state, jnp.int32(size)))
            seconds = time.perf_counter() - before
            size = max(1, min(CHUNK_GROWTH * size, round(size * CHUNK_SECONDS / max(seconds, 1e-6))))
            self._save(self.checkpointer.save_state, task, state)
            task.on_chunk(state)
        return state

    def _save(self, save: Callable[[str, Any], None], task: Task, what: Any) -> None:
        """Save, unless all is to stop: what comes later, others may have gone on from the checkpoint already."""
        with self._saving:
            if self._stopped:
                raise StoppedError
            save(task.name, what)
