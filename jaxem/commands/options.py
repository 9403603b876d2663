"""Arguments and options that commands share, and how their mistakes are told."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

console = Console(highlight=False, markup=False, soft_wrap=True)


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


FramesArgument = Annotated[
    Path, typer.Argument(metavar="FRAMES", help="An .npy or .npz stack (K, H, W), or a folder of PNG or TIFF frames.")
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
