"""Files of frames, read and written, and their mistakes told before the work. Imports no JAX."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jaxem.cli.requests import FrameChoice
from jaxem.io.frames import read_frames
from jaxem.io.readers.folder import frames_in
from jaxem.io.writers import VIDEO, frame_names, is_single_file
from jaxem.runtime.errors import OutputError
from jaxem.runtime.files import check_output, check_output_file


def read_chosen(choice: FrameChoice) -> np.ndarray:
    """The frames that were asked for.

    Raises:
        FramesError: the files cannot be used, or a choice cannot be met.
    """
    return read_frames(choice.path, crop=choice.crop, frames=choice.frames, every=choice.every, grey=choice.grey)


def check_frames_output(out: Path, numbers: Sequence[int], frames: Path | None = None) -> None:
    """Find out before the work whether frames can be written there, and will mix nothing up.

    Raises:
        OutputError: it cannot be written, would replace what is read, or stand among other frames.
    """
    if frames is not None and out.exists() and frames.exists() and out.samefile(frames):
        raise OutputError(f"{out} is where the frames are; choose another place.")
    if is_single_file(out):
        check_output_file(out)
        return
    if out.suffix and not out.is_dir():
        known = ", ".join((".tif", ".npy", *VIDEO))
        raise OutputError(f"{out} ends in none of {known}; a folder's name has no suffix.")
    names = set(frame_names(numbers))
    others = [file.name for file in frames_in(out) if file.name not in names] if out.is_dir() else []
    if others:
        raise OutputError(f"{out} holds other frames, such as {others[0]}; choose an empty folder.")
    check_output(out)
