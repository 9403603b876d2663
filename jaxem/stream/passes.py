"""One pass over all frames: a few are read while the ones before are worked on, and what they add is added up.

The frames go in chunks, all of one size, so that there is one compiled program. On a CPU several chunks are worked on
at a time, one a core, since a program keeps to batches that stay in one core's cache; other devices get them in turn.
What chunks add is added up in their order, so that the sums are the same to the bit however many cores there are.
"""

from __future__ import annotations

import functools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from jaxem.ops.double_word import add_trees
from jaxem.runtime.compilation import jit
from jaxem.runtime.errors import ArgumentTypeError, ArgumentValueError, StoppedError
from jaxem.runtime.processes import agree_on, gather, gather_entries, num_processes, own_share, together
from jaxem.runtime.read_ahead import ReadAhead
from jaxem.runtime.resources import CHUNKS_AHEAD, available_cores
from jaxem.stream.sources import Chunk, FrameStream

CHUNKS_ON_DEVICE = 2  # of a device that is no CPU: one is worked on while the next one is brought there


class Passes:
    """Goes through all frames, as often as wanted; of several processes each through its share of them.

    Args:
        stream: the frames.
        batch_size: frames of a batch; a chunk is a number of these.
        devices: who works on them, in turn.

    Attributes:
        num_passes: how many passes were begun.
    """

    def __init__(self, stream: FrameStream, batch_size: int, devices: Sequence[jax.Device]) -> None:
        self.stream, self.devices, self.share = stream, list(devices), own_share(stream.num_images)
        if stream.num_images < num_processes():
            problem = f"must hold a frame for each of {num_processes()} processes, but holds {stream.num_images}."
            raise ArgumentValueError("source", problem)
        self.chunk_size, self.num_passes = stream.chunk_size(batch_size), 0
        on_cpu = all(device.platform == "cpu" for device in self.devices)
        self._num_threads = (
            max(len(self.devices), available_cores()) if on_cpu else CHUNKS_ON_DEVICE * len(self.devices)
        )
        self._is_stopped = False
        self._reader: ReadAhead[Chunk] | None = None
        self._changing, self._going = threading.Lock(), threading.Lock()
        self._compiled: set[Any] = set()

    def run(
        self,
        work: Callable[[Any, Any, jax.Array], tuple[Any, Any]],
        shared: Any,
        add: Callable[[Any, Any], Any],
        each: Any = None,
        *,
        beside: Any = None,
        look: bool = False,
    ) -> Any:
        """Sums over all frames.

        Args:
            work: (shared, own, counts) -> what a chunk adds, and something for each of its frames, by compiled
                programs. `own` and `counts` are those of a `Chunk`.
            shared: a tree of arrays that all chunks need.
            add: (what some chunks add, what another adds) -> what they add together.
            each: a tree of NumPy arrays (K, ...) that is filled with what there is for each frame, or None.
            beside: such a tree that is known of the frames already, or None; if there is one, `work` gets
                (`own` of the chunk, entries of its frames) as `own`.
            look: whether to look for pixels that cannot be.

        Raises:
            Exception: whatever the source raises, and what `FrameStream.chunk` does.
            ProcessesError: another process has failed or has ended, or is at another step.
        """
        with together():
            total = self._run_share(work, shared, add, each, beside, look)
        if num_processes() == 1:
            return total
        agree_on(shared)
        return self._of_all_processes(total, add, each)

    def _run_share(
        self, work: Any, shared: Any, add: Callable[[Any, Any], Any], each: Any, beside: Any, look: bool
    ) -> Any:
        """`run` for the frames of this process."""
        with self._going:
            self.num_passes += 1
            totals: list[Any] = [None] * len(self.devices)
            copies = [jax.device_put(shared, device) for device in self.devices]
            pending: deque[tuple[int, int, int, Future[Any]]] = deque()

            def collect() -> None:
                start, count, place, future = pending.popleft()
                part, found = future.result()
                totals[place] = part if totals[place] is None else add(totals[place], part)
                if each is not None:
                    for whole, piece in zip(jax.tree.leaves(each), jax.tree.leaves(found), strict=True):
                        whole[start : start + count] = piece[:count]

            pool = ThreadPoolExecutor(self._num_threads, thread_name_prefix="jaxem-pass")
            try:
                with self._read(look) as chunks:
                    for number, chunk in enumerate(chunks):
                        place = number % len(self.devices)
                        device, copy = self.devices[place], copies[place]
                        own = chunk.own if beside is None else (chunk.own, _entries_of(chunk, beside))
                        future = pool.submit(_work_on, work, copy, own, chunk.counts, device)
                        pending.append((chunk.start, chunk.num_frames, place, future))
                        del chunk, own  # its pixels are held by who works on them, and no longer
                        # Threads that ask for a program that is not there yet would all compile it.
                        most = self._num_threads if work in self._compiled else 0
                        self._compiled.add(work)
                        while len(pending) > most:
                            collect()
                    while pending:
                        collect()
            finally:
                pool.shutdown(wait=True, cancel_futures=True)
                with self._changing:
                    self._reader = None
            there = [_brought_to(self.devices[0], total) for total in totals if total is not None]
            return functools.reduce(add, there)

    def _of_all_processes(self, total: Any, add: Callable[[Any, Any], Any], each: Any) -> Any:
        """Sums of all processes in their order, the same to the bit in each of them; and what each frame has."""
        if each is not None:
            own = jax.tree.map(lambda whole: whole[self.share.start : self.share.stop], each)
            whole = gather_entries(own, self.stream.num_images)
            for array, found in zip(jax.tree.leaves(each), jax.tree.leaves(whole), strict=True):
                array[:] = found
        return functools.reduce(add, gather(total))

    def stop(self) -> None:
        """End what is under way, and wait until it has ended; who waits for its sums gets a `StoppedError`."""
        with self._changing:
            self._is_stopped = True
            if self._reader is not None:
                self._reader.stop()
        with self._going:
            pass

    def _read(self, look: bool) -> ReadAhead[Chunk]:
        with self._changing:
            if self._is_stopped:
                raise StoppedError
            self._reader = ReadAhead(self.stream.chunks(self.share, self.chunk_size, look=look), CHUNKS_AHEAD)
            return self._reader


def _work_on(work: Any, shared: Any, own: Any, counts: np.ndarray, device: jax.Device) -> tuple[Any, Any]:
    sums, found = work(shared, *jax.device_put((own, counts), device))
    return jax.block_until_ready(sums), jax.device_get(found)


def _entries_of(chunk: Chunk, arrays: Any) -> Any:
    """Those of a chunk's frames, filled up as these are."""
    numbers = chunk.start + np.arange(len(chunk.counts)) % chunk.num_frames
    return jax.tree.map(lambda array: array[numbers], arrays)


def _brought_to(device: jax.Device, sums: Any) -> Any:
    """Sums on a device; what is on the host stays there."""
    return jax.tree.map(lambda leaf: jax.device_put(leaf, device) if isinstance(leaf, jax.Array) else leaf, sums)


def nothing_for_each(passes: Passes, work: Callable[..., Any], shared: Any, *beside: Any) -> Any:
    """Room for what a pass finds for each frame."""
    stream, size = passes.stream, passes.chunk_size

    def of_chunk(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((size, *leaf.shape[1:]), leaf.dtype)

    own, counts = jax.tree.map(of_chunk, stream.nothing().own), jax.ShapeDtypeStruct((size,), stream.dtype)
    given = (own, *jax.tree.map(of_chunk, beside)) if beside else own
    _, found = jax.eval_shape(work, shared, given, counts)
    return jax.tree.map(lambda leaf: np.zeros((stream.num_images, *leaf.shape[1:]), leaf.dtype), found)


@jit
def add(sums: Any, part: Any) -> Any:
    """Both together, double words in twice the precision."""
    return add_trees(sums, part)


def as_devices(devices: Any) -> list[jax.Device]:
    """Who works on the chunks: by default the first device where that is a CPU, whose cores share out the work among
    them, or all local ones.

    Raises:
        TypeError: these are no devices.
    """
    if devices is None:
        local = jax.local_devices()
        return local[:1] if local[0].platform == "cpu" else local
    devices = [devices] if isinstance(devices, jax.Device) or not isinstance(devices, Iterable) else list(devices)
    if not devices or not all(isinstance(device, jax.Device) for device in devices):
        raise ArgumentTypeError("devices", f"must be devices such as those of jax.local_devices(), but is {devices!r}.")
    return devices
