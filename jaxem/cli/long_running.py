"""What commands that work long share: how they show it, and how they survive being ended."""

from __future__ import annotations

import hashlib
import os
import socket
import sys
import zlib
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import jax
import numpy as np

import jaxem
from jaxem.cli.display import Display
from jaxem.cli.exit_codes import ExitCode
from jaxem.cli.parameters import spelling
from jaxem.cli.progress import JsonDisplay, PlainDisplay
from jaxem.cli.requests import FitRequest, Reporting, Together
from jaxem.cli.text import InterruptedRunError, warn
from jaxem.runtime.checkpoint import Checkpointer
from jaxem.runtime.errors import ArgumentValueError, CheckpointError, ProcessesError
from jaxem.runtime.processes import agree, connect, gather, is_first
from jaxem.runtime.resources import available_memory, taken_memory

DIGEST_LENGTH = 16  # hexadecimal digits
AFTERWARDS = ("test",)  # options of what is done with what was found
WITH_CONTENTS = ("weights", "support", "fixed", "init")  # options of the model that files may hold


def meet(together: Together | None, reporting: Reporting) -> Reporting:
    """Meet the other processes, if there are any, before anything is computed.

    Returns:
        What this one shows and saves: of several only the first does so, and the others say nothing but errors.

    Raises:
        ProcessesError: they cannot meet.
    """
    if together is None:
        return reporting
    connect(together.coordinator, together.processes, together.process)
    return reporting if is_first() else Reporting(quiet=True)


def choose_display(reporting: Reporting, num_images: int) -> Display:
    """The display that was asked for, live only on a terminal."""
    if reporting.quiet:
        return Display(num_images)
    if reporting.json:
        return JsonDisplay(num_images)
    if not sys.stdout.isatty() or os.environ.get("TERM") in ("dumb", "unknown"):
        return PlainDisplay(num_images)
    from jaxem.cli.live_table import LiveDisplay  # imports rich, which nothing else here needs

    return LiveDisplay(num_images)


def fingerprint_of(images: np.ndarray, request: FitRequest, model: Mapping[str, Any]) -> dict[str, str]:
    """What makes two runs the same: frames, options with what is in their files, and what computes them."""
    options = {
        spelling(field.name): _plainly(getattr(request, field.name))
        for field in fields(request)
        if field.name not in AFTERWARDS
    }
    contents = {spelling(name): _plainly(model.get(name)) for name in WITH_CONTENTS}
    versions = {
        "version of jaxem": jaxem.__version__,
        "version of jax": f"{jax.__version__} on {jax.default_backend()}",
    }
    return {"stack of frames": _plainly(images), **options, **contents, **versions}


def open_checkpointer(reporting: Reporting, fingerprint: dict[str, str], display: Display) -> Checkpointer:
    """Where to save what is done, with what was saved before if that is to be gone on from.

    Raises:
        ArgumentValueError: there is something that would be overwritten.
        CheckpointError: what is there cannot be used.
    """
    folder = reporting.checkpoint
    if folder is None:
        return Checkpointer(None, fingerprint)
    checkpointer = Checkpointer(folder, fingerprint)
    if not reporting.resume:
        if checkpointer.is_there():
            problem = f"{folder} holds checkpoints; add --resume or choose an empty folder."
            raise ArgumentValueError("checkpoint", problem)
        checkpointer.write()  # finds out before the work whether it can be written
        return checkpointer
    found = checkpointer.read()
    for path in checkpointer.damaged:
        warn(f"{path} is damaged and was passed over")
    source = f"going on from {found}" if found else f"nothing in {folder} yet; beginning"
    display.note("resumed", source, path=str(found) if found else None)
    return checkpointer


def recorded_fingerprint(reporting: Reporting) -> dict[str, str] | None:
    """What the checkpoint is of that is to be gone on from; None where there is none."""
    if not reporting.resume or reporting.checkpoint is None:
        return None
    return Checkpointer(reporting.checkpoint).recorded()


def save_interrupted(
    checkpointer: Checkpointer, fingerprint: dict[str, str], out: Path, error: KeyboardInterrupt | ProcessesError
) -> InterruptedRunError:
    """Save what is done, in the folder of the results if no other was given, and say where.

    Args:
        checkpointer: what is done.
        fingerprint: what it is of.
        out: folder for the results.
        error: what has ended the work.

    Raises:
        KeyboardInterrupt, ProcessesError: that error, where there is nothing to save.
    """
    why, code = "interrupted", ExitCode.INTERRUPTED
    if isinstance(error, ProcessesError):
        why, code = str(error).rstrip("."), ExitCode.PROCESS_LOST
    flags = "--resume"
    if checkpointer.folder is None:
        if not checkpointer.entries:
            raise error
        checkpointer.folder, checkpointer.fingerprint = out / "checkpoint", fingerprint
        flags = f"--checkpoint {checkpointer.folder} --resume"
    try:
        checkpointer.write()
    except CheckpointError as problem:
        message = f"{why}, and what was done could not be saved: {problem}"
        return InterruptedRunError(message, exit_code=ExitCode.USERS_ERROR)
    return InterruptedRunError(f"{why}; what was done is saved in {checkpointer.folder}; go on with {flags}", code)


def memory_of_each(memory: int | None) -> int:
    """Bytes that each process may use, the same for all: what was told, or its part of what is free.

    Args:
        memory: that each was told it may use, or None.
    """
    agree(0)
    host = zlib.crc32(socket.gethostname().encode())
    there = sum(int(other) == host for other in gather(np.array(host, np.int64)))
    own = available_memory() // there + taken_memory() if memory is None else memory
    return int(min(gather(np.array(own, np.int64))))


def _plainly(value: Any) -> str:
    """A value in words, an array by its digest."""
    if isinstance(value, np.ndarray):
        digest = hashlib.sha256(np.ascontiguousarray(value).data).hexdigest()[:DIGEST_LENGTH]
        return f"{' x '.join(map(str, value.shape))} {value.dtype} with digest {digest}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} of {_plainly(value[name])}" for name in sorted(value))
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
