"""Files of frames that are written, and mistakes about files told before the work. Imports no JAX."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jaxem.cli.outputs import expect_new
from jaxem.cli.requests import FrameChoice
from jaxem.io.frames import FramesError
from jaxem.io.places import locate
from jaxem.io.readers.folder import frames_in
from jaxem.io.writers import VIDEO, can_hold, frame_names, is_single_file
from jaxem.runtime.errors import ArgumentValueError, OutputError
from jaxem.runtime.files import check_output, check_output_file


class FileError(ArgumentValueError):
    """A file besides the frames cannot be used; says which and why in one sentence.

    Args:
        problem: the sentence.
        argument: which one names the file.
    """

    def __init__(self, problem: str, argument: str) -> None:
        super().__init__(argument, problem)

    def __str__(self) -> str:
        return self.problem


def expect_there(path: Path | str, argument: str) -> None:
    """Find out before the frames are read whether a file that goes with them is there.

    Raises:
        FileError: it is not.
    """
    try:
        locate(path)
    except FramesError as error:
        raise FileError(error.problem, argument) from error


def check_frames_output(
    out: Path,
    frames: Path | tuple[Path, ...] = (),
    channels: int | None = None,
    *,
    overwrite: bool = False,
    argument: str = "out",
) -> None:
    """Find out before anything is read whether frames can be written there.

    Raises:
        OutputError: it cannot be written, would replace what is read, or stand among other frames.
        ArgumentValueError: it would replace what is there, and that was not asked for.
    """
    read = [frames] if isinstance(frames, Path) else [place for file in frames for place in (file, file.parent)]
    if out.exists() and any(place.exists() and out.samefile(place) for place in read):
        raise OutputError(f"{out} is where the frames are; choose another place.")
    if not can_hold(out, channels):
        raise OutputError(f"{out} cannot hold {channels} channels; choose an .npy file.")
    if is_single_file(out):
        check_output_file(out)
        expect_new([out], overwrite, argument)
        return
    if out.suffix and not out.is_dir():
        known = ", ".join((".tif", ".npy", ".mrc", *VIDEO))
        raise OutputError(f"{out} must end in {known}, or be a folder, whose name has no suffix.")
    check_output(out)


def check_frame_names(out: Path, names: Sequence[str], overwrite: bool, argument: str = "out") -> None:
    """Find out before the work whether frames of these names will mix nothing up in a folder.

    Raises:
        OutputError: there are others.
        ArgumentValueError: there are some of the same names, which they would replace, and that was not asked for.
    """
    if is_single_file(out):
        return
    others = [file.name for file in frames_in(out) if file.name not in set(names)] if out.is_dir() else []
    if others:
        raise OutputError(f"{out} holds other frames, such as {others[0]}; choose an empty folder.")
    check_output(out)
    expect_new((out / name for name in names), overwrite, argument)


def picture_names(numbers: Sequence[int], names: Sequence[str] | None, choice: FrameChoice) -> list[str]:
    """What each frame is called by programs that take pictures one by one: its file, or its number in a stack."""
    if names is not None:
        return list(names)
    stack = choice.path.name if isinstance(choice.path, Path) else ""
    return [f"{number + 1:06}@{stack}" for number in numbers]


def restored_names(numbers: Sequence[int], names: Sequence[str] | None) -> list[str]:
    """Names of PNG files for frames: those that they came with, if they had names and no two alike, else numbers."""
    stems = [Path(name).stem for name in names or ()]
    if stems and len(set(stems)) == len(stems):
        return [f"{stem}.png" for stem in stems]
    return frame_names(numbers)
