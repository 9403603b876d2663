"""Arguments and options that commands share, and how their mistakes are told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from rich.console import Console

from jaxem.io import GREYS, FramesError, read_frames
from jaxem.results import load

console = Console(highlight=False, markup=False, soft_wrap=True)


class Options(NamedTuple):
    """What a search takes besides the images; as for `jaxem.fit_restarts_parallel`."""

    template_shape: tuple[int, int]
    restarts: int | None = None
    seed: int = 0
    hard: bool = False
    prior_smoothing: float = 0.0
    max_iterations: int = 50
    tolerance: float = 1e-3
    plain: bool = False


class UserError(Exception):
    """A mistake of the person at the keyboard; the text is the one line that they see."""


def whole(text: str) -> int:
    """A whole number, as a command line spells it."""
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a whole number.") from None


def real(text: str) -> float:
    """A number, as a command line spells it."""
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a number.") from None


FRAMES_HELP = (
    "A folder or a quoted pattern of PNG, JPEG or TIFF frames; a stack (K, H, W) in .npy, .npz, TIFF, MRC, HDF5 or "
    "Zarr, file::name where a file holds several; or a video."
)
FramesArgument = Annotated[Path, typer.Argument(metavar="FRAMES", help=FRAMES_HELP)]
CropOption = Annotated[
    tuple[str, str, str, str] | None,
    typer.Option(metavar="ROW COLUMN HEIGHT WIDTH", help="Take this part of each frame alone, in pixels."),
]
ChosenOption = Annotated[
    str | None,
    typer.Option(
        "--frames",
        metavar="FIRST:LAST",
        help="Take these frames alone, counted from 0, the last left out, negative from the end, as in 10:200 or -50:.",
    ),
]
EveryOption = Annotated[int, typer.Option(metavar="N", parser=whole, help="Take every so manyth frame of those.")]
GreyOption = Annotated[str, typer.Option(metavar="|".join(GREYS), help="How colour becomes grey.")]
ModelOption = Annotated[
    Path, typer.Option(metavar="RESULT", help="The result.npz of jaxem fit, or what jaxem.save wrote.")
]

ShapeOption = Annotated[
    tuple[str, str], typer.Option(metavar="H W", help="Height and width of the template, as in 60 40.")
]
OutOption = Annotated[Path, typer.Option(metavar="DIR", help="Folder for result.npz and figure.png.")]
RestartsOption = Annotated[
    int | None,
    typer.Option(
        metavar="N", parser=whole, help="Starting points, by default 2, or 10 with --plain; the best is kept."
    ),
]
PlainOption = Annotated[
    bool,
    typer.Option("--plain", help="No search: every run climbs by itself from a random start, as in the literature."),
]
SeedOption = Annotated[int, typer.Option(metavar="N", parser=whole, help="Seed of all that is random.")]
HardOption = Annotated[bool, typer.Option("--hard", help="Hard EM: one corner an image instead of probabilities.")]
SmoothingOption = Annotated[
    float, typer.Option(metavar="A", parser=real, help="Pseudo-counts spread evenly over all corners.")
]
IterationsOption = Annotated[int, typer.Option(metavar="N", parser=whole, help="Iterations of a run at most.")]
ToleranceOption = Annotated[
    float, typer.Option(metavar="T", parser=real, help="Least gain that counts, nats per image.")
]


def shape(words: tuple[str, str]) -> tuple[int, int]:
    """Height and width, as a command line spells them."""
    try:
        return int(words[0]), int(words[1])
    except ValueError:
        given = " ".join(words)
        raise UserError(f"--template-shape must be two whole numbers as in 60 40, but is {given!r}.") from None


def read_chosen(
    path: Path, crop: tuple[str, str, str, str] | None, chosen: str | None, every: int, grey: str
) -> np.ndarray:
    """The frames that FRAMES and --crop, --frames, --every and --grey name.

    Raises:
        FramesError: the files cannot be used.
        UserError: an option is not what it must be.
    """
    part = None if crop is None else _four(crop)
    ends = None if chosen is None else first_and_last(chosen)
    try:
        return read_frames(path, crop=part, frames=ends, every=every, grey=grey)
    except FramesError as error:
        if str(error).startswith(("crop must", "every must", "grey must")):
            raise UserError(f"--{error}") from error
        raise


def first_and_last(text: str) -> tuple[int | None, int | None]:
    """FIRST:LAST, each of which may be left out."""
    try:
        first, last = (int(end) if end.strip() else None for end in text.split(":"))
    except ValueError:
        raise UserError(f"--frames must be FIRST:LAST as in 10:200, but is {text!r}.") from None
    return first, last


def load_model(path: Path, *kinds: type, option: str = "--model") -> Any:
    """A saved result of one of these kinds.

    Raises:
        UserError: there is none.
    """
    try:
        model = load(path)
    except ValueError as error:
        raise UserError(f"{option}: {error}") from error
    except OSError as error:
        raise UserError(f"{option}: {path} cannot be opened ({error.strerror or error}).") from error
    if not isinstance(model, kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise UserError(f"{option}: {path} holds {type(model).__name__}, and what is needed is {names}.")
    return model


def _four(words: tuple[str, str, str, str]) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in words)
    except ValueError:
        given = " ".join(words)
        raise UserError(f"--crop must be four whole numbers as in 10 20 100 120, but is {given!r}.") from None
