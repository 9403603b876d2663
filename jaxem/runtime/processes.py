"""Processes that work together, by JAX's distributed runtime: how they find each other, and what they tell each other.

What one tells all is told by all at the same place of the program, and begins with an `agree`. So a process that cannot
go on tells the others there, and nobody waits for it. Source: ``docs/scaling.md``, *Processes*.
"""

from __future__ import annotations

import inspect
import threading
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.runtime.errors import ProcessesError, StoppedError
from jaxem.runtime.text import one_line

Tree = TypeVar("Tree")

SECONDS_TO_MEET, SECONDS_OF_SILENCE = 120, 30
LONGEST_REASON = 300  # characters of what JAX says

_parted = False  # whether the others have gone their own ways


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
        ProcessesError: they cannot be found, or were told of different numbers of processes. Where the first one cannot
            be reached in time, JAX ends the process instead; see `supervision`.
    """
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    options: dict[str, int] = {"initialization_timeout": timeout or SECONDS_TO_MEET}
    if "heartbeat_timeout_seconds" in inspect.signature(jax.distributed.initialize).parameters:
        options["heartbeat_timeout_seconds"] = SECONDS_OF_SILENCE
    try:
        _interruptibly(lambda: jax.distributed.initialize(coordinator, num_processes, process_id, **options))  # type: ignore[arg-type]
        jax.devices()  # tells all of the devices of all
    except (RuntimeError, ValueError, OSError) as error:
        if coordinator is None and isinstance(error, ValueError):
            problem = "nothing says which processes there are: neither SLURM, MPI nor Kubernetes has started this one."
            raise ProcessesError(problem) from error
        reason = one_line(str(error), LONGEST_REASON).rstrip(".")
        raise ProcessesError(f"the processes cannot meet ({reason}).") from error
    told = {int(number) for number in gather(np.array(num_processes or jax.process_count()))}
    if told != {jax.process_count()}:
        numbers = " and ".join(map(str, sorted(told)))
        raise ProcessesError(f"the processes were told that they are {numbers}, and {jax.process_count()} have met.")


def part() -> None:
    """Leave the others, when all have what they need: each goes on by itself, as if it were alone.

    Raises:
        ProcessesError: another process has failed or has ended.
    """
    global _parted
    if num_processes() > 1:
        agree(0)
        _parted = True
        with suppress(RuntimeError):  # of another that has ended meanwhile; nobody needs it any more
            jax.distributed.shutdown()


def num_processes() -> int:
    """How many processes work together. Where they have not met, no device is looked for."""
    has_met = getattr(jax.distributed, "is_initialized", lambda: True)
    return jax.process_count() if has_met() and not _parted else 1


def is_first() -> bool:
    """Whether this is the process that writes and speaks for all; any is that works alone."""
    return num_processes() == 1 or jax.process_index() == 0


def own_share(num_entries: int) -> range:
    """Which of so many entries are this process's own: as many as the others have, or one more."""
    count = num_processes()
    number = jax.process_index() if count > 1 else 0
    return range(num_entries * number // count, num_entries * (number + 1) // count)


def gather(tree: Any) -> list[Any]:
    """The trees of all processes in their order, of NumPy arrays; shapes and dtypes are everywhere the same.

    Raises:
        ProcessesError: another process has ended.
    """
    leaves, structure = jax.tree.flatten(jax.device_get(tree))
    arrays = [np.asarray(leaf) for leaf in leaves]
    if num_processes() == 1:
        return [jax.tree.unflatten(structure, arrays)]
    from jax.experimental import multihost_utils

    with _lost_if_it_fails():
        rows = np.asarray(multihost_utils.process_allgather(_as_bytes(arrays)))
    return [jax.tree.unflatten(structure, _from_bytes(row, arrays)) for row in rows]


def from_first(tree: Tree) -> Tree:
    """The arrays of the first process, to the bit, in all of them; alone, the tree itself.

    What each process computes for itself from the same numbers is not always the same: another model of processor may
    add and multiply in one step, or in another order.

    Args:
        tree: of JAX or NumPy arrays, the same shapes and dtypes in all processes.

    Raises:
        ProcessesError: another process has failed or has ended, or has other shapes.
    """
    if num_processes() == 1:
        return tree
    leaves, structure = jax.tree.flatten(tree)
    arrays = [np.asarray(leaf) for leaf in jax.device_get(leaves)]
    agree(zlib.crc32(repr([(array.shape, array.dtype.str) for array in arrays]).encode()))
    found = _from_bytes(_of_first(_as_bytes(arrays)), arrays)
    kinds = (jnp.asarray if isinstance(leaf, jax.Array) else np.asarray for leaf in leaves)
    whole: Tree = jax.tree.unflatten(structure, [kind(array) for kind, array in zip(kinds, found, strict=True)])
    return whole


def bytes_from_first(data: bytes) -> bytes:
    """The bytes of the first process, however many, in all of them; what the others give is not looked at.

    Raises:
        ProcessesError: another process has failed or has ended.
    """
    if num_processes() == 1:
        return data
    size = int(from_first(np.array(len(data))))
    own = np.frombuffer(data, np.uint8) if is_first() else np.zeros(size, np.uint8)
    return _of_first(own).tobytes()


def fingerprint(tree: Any) -> int:
    """A number that differs where the arrays of two trees do."""
    whole = 0
    for leaf in jax.tree.leaves(jax.device_get(tree)):
        whole = zlib.crc32(np.ascontiguousarray(leaf).tobytes(), whole)
    return whole


def agree_on(tree: Any) -> None:
    """`agree` that arrays are the same; nothing where there are no others."""
    if num_processes() > 1:
        agree(fingerprint(tree))


def agree(number: int, *, has_failed: bool = False) -> None:
    """Tell the others where one is, before anything is told that must be of the same.

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


@contextmanager
def together() -> Iterator[None]:
    """What each process does for itself: if it fails, the others are told so where they `agree` next.

    An interruption is not told, since it may come while something else is; the others hear of the end of the process.
    """
    try:
        yield
    except Exception as error:
        is_known = isinstance(error, ProcessesError | StoppedError) or getattr(error, "is_told", False)
        if num_processes() > 1 and not is_known:
            with suppress(AttributeError):
                error.is_told = True  # type: ignore[attr-defined]
            with suppress(ProcessesError):
                agree(0, has_failed=True)
        raise


def gather_entries(entries: Any, num_entries: int) -> Any:
    """All entries, where each process has its `own_share` of them, along the first axis of each array of a tree."""
    count = num_processes()
    most = -(-num_entries // count)

    def padded(array: np.ndarray) -> np.ndarray:
        return np.concatenate([array, np.zeros((most - len(array), *array.shape[1:]), array.dtype)])

    found = gather(jax.tree.map(padded, jax.device_get(entries)))
    sizes = [num_entries * (number + 1) // count - num_entries * number // count for number in range(count)]
    cut = [jax.tree.map(lambda array, size=size: array[:size], one) for one, size in zip(found, sizes, strict=True)]
    return jax.tree.map(lambda *parts: np.concatenate(parts), *cut)


def _as_bytes(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """All of them, since numbers would be cast to what JAX computes in."""
    return np.frombuffer(b"".join(array.tobytes() for array in arrays), np.uint8)


def _from_bytes(row: np.ndarray, like: Sequence[np.ndarray]) -> list[np.ndarray]:
    ends = np.cumsum([array.nbytes for array in like])[:-1]
    parts = zip(np.split(row, ends), like, strict=True)
    return [np.frombuffer(part.tobytes(), array.dtype).reshape(array.shape) for part, array in parts]


def _of_first(row: np.ndarray) -> np.ndarray:
    """The bytes of the first process, as many as this one has."""
    from jax.experimental import multihost_utils

    with _lost_if_it_fails():
        return np.asarray(multihost_utils.broadcast_one_to_all(row)) if len(row) else row


def _interruptibly(wait: Callable[[], None]) -> None:
    """What waits in native code, where a request to stop would not be heard."""
    done: Future[None] = Future()

    def run() -> None:
        try:
            wait()
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    threading.Thread(target=run, daemon=True).start()
    done.result()


@contextmanager
def _lost_if_it_fails() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError) as error:
        reason = one_line(str(error), LONGEST_REASON).rstrip(".")
        raise ProcessesError(f"another process has ended, or cannot be reached ({reason}).") from error
