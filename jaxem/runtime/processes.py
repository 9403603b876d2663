"""Processes that work together, by JAX's distributed runtime: how they find each other, and what they tell each other.

Source: ``docs/scaling.md``, *Processes*.
"""

from __future__ import annotations

import inspect
import zlib
from typing import Any

import jax
import numpy as np

from jaxem.runtime.errors import ProcessesError
from jaxem.runtime.text import one_line

SECONDS_TO_MEET, SECONDS_OF_SILENCE = 120, 30
LONGEST_REASON = 300  # characters of what JAX says


def connect(
    coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None, *, timeout: int = 0
) -> None:
    """Meet the other processes, before anything is computed.

    Args:
        coordinator: host:port of the first process; None for what SLURM, MPI or Kubernetes tell by themselves.
        num_processes: how many there are.
        process_id: the number of this one.
        timeout: seconds to wait for the others; 0 for two minutes.

    Raises:
        ProcessesError: they cannot be found.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    options: dict[str, int] = {"initialization_timeout": timeout or SECONDS_TO_MEET}
    if "heartbeat_timeout_seconds" in inspect.signature(jax.distributed.initialize).parameters:
        options["heartbeat_timeout_seconds"] = SECONDS_OF_SILENCE
    try:
        jax.distributed.initialize(coordinator, num_processes, process_id, **options)  # type: ignore[arg-type]
    except (RuntimeError, ValueError, OSError) as error:
        reason = one_line(str(error), LONGEST_REASON).rstrip(".")
        raise ProcessesError(f"the processes cannot meet ({reason}).") from error


def own_share(num_entries: int) -> range:
    """Which of so many entries are this process's own: as many as the others have, or one more."""
    count, number = jax.process_count(), jax.process_index()
    return range(num_entries * number // count, num_entries * (number + 1) // count)


def gather(tree: Any) -> list[Any]:
    """The trees of all processes in their order, of NumPy arrays; shapes and dtypes are everywhere the same.

    Raises:
        ProcessesError: another process has ended.
    """
    leaves, structure = jax.tree.flatten(jax.device_get(tree))
    arrays = [np.asarray(leaf) for leaf in leaves]
    if jax.process_count() == 1:
        return [jax.tree.unflatten(structure, arrays)]
    from jax.experimental import multihost_utils

    # As bytes, since numbers would be cast to what JAX computes in.
    whole = np.frombuffer(b"".join(array.tobytes() for array in arrays), np.uint8)
    try:
        rows = np.asarray(multihost_utils.process_allgather(whole))
    except (RuntimeError, ValueError) as error:
        reason = one_line(str(error), LONGEST_REASON).rstrip(".")
        raise ProcessesError(f"another process has ended, or cannot be reached ({reason}).") from error
    ends = np.cumsum([array.nbytes for array in arrays])[:-1]
    return [
        jax.tree.unflatten(
            structure,
            [
                np.frombuffer(part.tobytes(), array.dtype).reshape(array.shape)
                for part, array in zip(np.split(row, ends), arrays, strict=True)
            ],
        )
        for row in rows
    ]


def fingerprint(tree: Any) -> int:
    """A number that differs where the arrays of two trees do."""
    whole = 0
    for leaf in jax.tree.leaves(jax.device_get(tree)):
        whole = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), whole)
    return whole


def agree(number: int, *, has_failed: bool = False) -> None:
    """Tell the others where one is, before sums are added up that must be of the same.

    Args:
        number: what must be the same in all processes.
        has_failed: whether this one cannot go on; an error of its own follows.

    Raises:
        ProcessesError: another process has failed or has ended, or is somewhere else.
    """
    found = np.array(gather(np.array([has_failed, number], np.int64)))
    if has_failed:
        return
    if found[:, 0].any():
        raise ProcessesError(f"process {int(found[:, 0].argmax())} has failed; it says why.")
    if (found[:, 1] != number).any():
        raise ProcessesError(
            "the processes are not at the same step: they were given different parameters, or took up different "
            "checkpoints; give the same to all."
        )


def gather_entries(entries: Any, num_entries: int) -> Any:
    """All entries, where each process has its `own_share` of them, along the first axis of each array of a tree."""
    count = jax.process_count()
    most = -(-num_entries // count)

    def padded(array: np.ndarray) -> np.ndarray:
        return np.concatenate([array, np.zeros((most - len(array), *array.shape[1:]), array.dtype)])

    found = gather(jax.tree.map(padded, jax.device_get(entries)))
    sizes = [num_entries * (number + 1) // count - num_entries * number // count for number in range(count)]
    cut = [jax.tree.map(lambda array, size=size: array[:size], one) for one, size in zip(found, sizes, strict=True)]
    return jax.tree.map(lambda *parts: np.concatenate(parts), *cut)
