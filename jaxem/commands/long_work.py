"""What commands that work long share: how they show it, and how they survive being ended."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import typer

import jaxem
from jaxem.commands.options import Options, UserError, console
from jaxem.display import Display, JsonDisplay, LiveDisplay, PlainDisplay
from jaxem.journal import CheckpointError, Journal

CheckpointOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Save every few seconds, in this folder, all that is needed to go on."),
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Go on from what --checkpoint saved; the result is that of one whole run.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but warnings and errors.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line instead of words.")]


class InterruptedWithSavingError(Exception):
    """An interruption after which what was done is on disk; the text says where."""


def choose_display(quiet: bool, as_json: bool, num_images: int) -> Display:
    """The display that was asked for, live only on a terminal.

    Raises:
        UserError: two at once.
    """
    if quiet and as_json:
        raise UserError("--quiet and --json exclude each other; choose one.")
    if quiet:
        return Display(num_images)
    if as_json:
        return JsonDisplay(num_images)
    return LiveDisplay(console, num_images) if console.is_terminal else PlainDisplay(console, num_images)


def identity_of(images: np.ndarray, options: Options) -> dict[str, str]:
    """What makes two runs the same: frames, options, and what computes them."""
    digest = hashlib.sha256(np.ascontiguousarray(images).data).hexdigest()[:16]
    size = " x ".join(map(str, images.shape))
    given = {f"--{name.replace('_', '-')}": _plainly(value) for name, value in options._asdict().items()}
    versions = {
        "version of jaxem": jaxem.__version__,
        "version of jax": f"{jax.__version__} on {jax.default_backend()}",
    }
    return {"stack of frames": f"{size} {images.dtype} with digest {digest}", **given, **versions}


def open_journal(folder: Path | None, resume: bool, identity: dict[str, str], display: Display) -> Journal:
    """The journal to write to, with what it held if that is to be gone on from.

    Raises:
        UserError: there is nothing to go on from, or something that would be overwritten.
        CheckpointError: what is there cannot be used.
    """
    if folder is None:
        if resume:
            raise UserError("--resume needs --checkpoint DIR, the folder to go on from.")
        return Journal()
    journal = Journal(folder, identity)
    if not resume:
        if journal.is_there():
            raise UserError(f"--checkpoint {folder} holds checkpoints; add --resume or choose an empty folder.")
        journal.write()  # finds out before the work whether it can be written
        return journal
    found = journal.read()
    for path in journal.damaged:
        print(f"jaxem: warning: {path} is damaged and was passed over", file=sys.stderr)
    source = f"going on from {found}" if found else f"nothing in {folder} yet; beginning"
    display.note("resumed", source, path=str(found) if found else None)
    return journal


def save_interrupted(journal: Journal, identity: dict[str, str], out: Path) -> InterruptedWithSavingError:
    """Save what is done, in the folder of the results if no other was given, and say where."""
    flags = "--resume"
    if journal.folder is None:
        if not journal.entries:
            raise KeyboardInterrupt
        journal.folder, journal.identity = out / "checkpoint", identity
        flags = f"--checkpoint {journal.folder} --resume"
    try:
        journal.write()
    except CheckpointError as error:
        raise UserError(f"interrupted, and what was done could not be saved: {error}") from error
    return InterruptedWithSavingError(f"interrupted; what was done is saved in {journal.folder}; go on with {flags}")


def _plainly(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
