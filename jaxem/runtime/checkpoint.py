"""What long work has done so far, kept in a folder so that it can be ended at any moment and taken up again.

Work is made of tasks, each known by a name. Of a task under way the checkpointer keeps the state, of an ended one the
result. A checkpoint is one ``.npz`` file whose name holds the digest of its bytes: what was cut short or changed is
never read. Each replaces the last but one, and nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.runtime.errors import CheckpointError
from jaxem.runtime.files import write_atomically
from jaxem.runtime.processes import bytes_from_first, is_first, num_processes

FORMAT = 4
NAME = re.compile(r"checkpoint-(\d{9})-([0-9a-f]{16})\.npz")
KEPT = 2


class Checkpointer:
    """What was done, in memory, and in a folder if there is one.

    Args:
        folder: where checkpoints are written, or None.
        fingerprint: what the work is, by name, in strings: checkpoints of other work are refused.
        interval: seconds between checkpoints, at least.
    """

    def __init__(self, folder: Path | None = None, fingerprint: Mapping[str, str] | None = None, interval: float = 5.0):
        self.folder, self.fingerprint, self.interval = folder, dict(fingerprint or {}), interval
        self.entries: dict[str, tuple[bool, Any]] = {}  # by task: whether it has ended, and a tree of arrays
        self.damaged: list[Path] = []
        self._number = 0
        self._written = time.monotonic()
        self._entries_lock, self._file_lock = threading.Lock(), threading.Lock()

    def result(self, name: str, like: Callable[[], Any]) -> Any:
        """What a task gave, in the structure of `like()` (a tree of shapes), or None if it has not ended."""
        return self._get(name, True, like)

    def state(self, name: str, like: Callable[[], Any]) -> Any:
        """Where a task under way was last, or None."""
        return self._get(name, False, like)

    def save_state(self, name: str, state: Any) -> None:
        """Note where a task is; from time to time this writes a checkpoint."""
        with self._entries_lock:
            self.entries[name] = False, state
        self._write_if_due()

    def save_result(self, name: str, result: Any, *superseded: str) -> None:
        """Note what a task gave; the tasks superseded by it are forgotten."""
        with self._entries_lock:
            self.entries[name] = True, result
            for other in superseded:
                self.entries.pop(other, None)
        self._write_if_due()

    def write(self) -> Path | None:
        """Write a checkpoint now.

        Raises:
            CheckpointError: the folder cannot be written.
        """
        if self.folder is None:
            return None
        with self._file_lock:
            with self._entries_lock:
                entries = dict(self.entries)
            self._number += 1
            data = _pack(entries, self.fingerprint)
            path = self.folder / f"checkpoint-{self._number:09}-{hashlib.sha256(data).hexdigest()[:16]}.npz"
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
                write_atomically(path, data)
                superseded = [old for _, _, old in _checkpoints(self.folder)[KEPT:]]
                killed = [draft for draft in self.folder.glob(".checkpoint-*") if draft.suffix != f".{os.getpid()}"]
                for old in (*superseded, *killed):
                    old.unlink(missing_ok=True)
            except OSError as error:
                raise CheckpointError(f"cannot write to {self.folder} ({error.strerror or error}).") from error
            self._written = time.monotonic()
            return path

    def is_there(self) -> bool:
        """Whether the folder holds checkpoints."""
        return self.folder is not None and bool(_checkpoints(self.folder))

    def read(self) -> Path | None:
        """Take up what the newest undamaged checkpoint says; `damaged` then lists those that were passed over.

        Returns:
            That checkpoint, or None if there is none yet.

        Raises:
            CheckpointError: all are damaged, or they are of other work.
        """
        newest = next(self._undamaged(), None)
        if newest is not None:
            number, path, header, entries = newest
            self._check_fingerprint(header, path)
            self.entries, self._number = entries, number
            return path
        if self.damaged:
            raise CheckpointError(f"every checkpoint in {self.folder} is damaged; begin anew in an empty folder.")
        return None

    def recorded(self) -> dict[str, str] | None:
        """The fingerprint of the newest undamaged checkpoint, or None if there is none."""
        return next((header.get("fingerprint") for _, _, header, _ in self._undamaged()), None)

    def _undamaged(self) -> Iterator[tuple[int, Path, dict[str, Any], dict[str, tuple[bool, Any]]]]:
        """Of each checkpoint the number of the newest, its path, and what is in it; the newest first."""
        found = [] if self.folder is None else _checkpoints(self.folder)
        self.damaged = []
        for _, digest, path in found:
            try:
                data = path.read_bytes()
                if hashlib.sha256(data).hexdigest()[:16] != digest:
                    raise ValueError("its bytes are not those that were written")
                header, entries = _unpack(data)
            except (OSError, ValueError, KeyError):
                self.damaged.append(path)
                continue
            yield found[0][0], path, header, entries

    def take_up_first(self) -> None:
        """Hold what the first of several processes holds, which alone has a folder and reads it; alone, change nothing.

        Raises:
            CheckpointError: that is of other work than this process is to do.
            ProcessesError: another process has failed or has ended.
        """
        if num_processes() == 1:
            return
        data = bytes_from_first(_pack(self.entries, self.fingerprint) if is_first() else b"")
        if not is_first():
            header, self.entries = _unpack(data)
            self._check_fingerprint(header, "what the first process goes on from")

    def _check_fingerprint(self, header: dict[str, Any], path: Path | str) -> None:
        if header.get("format") != FORMAT:
            raise CheckpointError(f"{path} is of another version of jaxem; go on with that, or begin anew.")
        for name, here in self.fingerprint.items():
            there = header["fingerprint"].get(name)
            if there != here:
                raise CheckpointError(f"{path} is of other work: its {name} is {there}, and here it is {here}.")

    def _get(self, name: str, ended: bool, like: Callable[[], Any]) -> Any:
        entry = self.entries.get(name)
        if entry is None or entry[0] != ended:
            return None
        leaves, structure = jax.tree.flatten(like())
        found = jax.tree.leaves(entry[1])
        shapes = [(leaf.shape, leaf.dtype) for leaf in leaves]
        if shapes != [(leaf.shape, leaf.dtype) for leaf in found]:
            raise CheckpointError(f"what {self.folder} holds of {name!r} does not fit this work; begin anew.")
        return jax.tree.unflatten(structure, [jnp.asarray(leaf) for leaf in found])

    def _write_if_due(self) -> None:
        if self.folder is not None and time.monotonic() - self._written >= self.interval:
            self._written = time.monotonic()
            self.write()


class PartOfWork(Checkpointer):
    """The same checkpoints under other names, for one of several pieces of work that have tasks of the same names.

    Args:
        whole: of all the work.
        prefix: of the names.
    """

    def __init__(self, whole: Checkpointer, prefix: str) -> None:
        super().__init__()
        self.whole, self.prefix = whole, prefix

    def result(self, name: str, like: Callable[[], Any]) -> Any:
        """As of the whole, like all that follow."""
        return self.whole.result(self.prefix + name, like)

    def state(self, name: str, like: Callable[[], Any]) -> Any:
        """Where a task is."""
        return self.whole.state(self.prefix + name, like)

    def save_state(self, name: str, state: Any) -> None:
        """Note where a task is."""
        self.whole.save_state(self.prefix + name, state)

    def save_result(self, name: str, result: Any, *superseded: str) -> None:
        """Note what a task gave."""
        self.whole.save_result(self.prefix + name, result, *(self.prefix + other for other in superseded))


def _checkpoints(folder: Path) -> list[tuple[int, str, Path]]:
    """Number, digest and path of the checkpoints in a folder, the newest first."""
    try:
        names = [(NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    except OSError:
        return []
    return sorted(((int(name[1]), name[2], path) for name, path in names if name), reverse=True)


def _pack(entries: Mapping[str, tuple[bool, Any]], fingerprint: Mapping[str, str]) -> bytes:
    arrays: dict[str, Any] = {}
    tasks: dict[str, dict[str, int]] = {}
    for number, (name, (ended, tree)) in enumerate(entries.items()):
        leaves = jax.device_get(jax.tree.leaves(tree))
        tasks[name] = {"number": number, "ended": ended, "arrays": len(leaves)}
        arrays |= {f"{number}.{place}": np.asarray(leaf) for place, leaf in enumerate(leaves)}
    header = json.dumps({"format": FORMAT, "fingerprint": dict(fingerprint), "tasks": tasks})
    stream = io.BytesIO()
    np.savez(stream, header=np.array(header), **arrays)
    return stream.getvalue()


def _unpack(data: bytes) -> tuple[dict[str, Any], dict[str, tuple[bool, Any]]]:
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        header = json.loads(str(archive["header"]))
        entries = {
            name: (bool(task["ended"]), [archive[f"{task['number']}.{place}"] for place in range(task["arrays"])])
            for name, task in header["tasks"].items()
        }
    return header, entries
