"""Arguments and options that commands share, and how their names are spelled. Imports nothing slow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from jaxem.runtime.errors import ArgumentValueError

# What the library calls arguments, where that is not the option's name with underscores.
SPELLINGS = {
    "path": "FRAMES",
    "images": "FRAMES",
    "source": "FRAMES",
    "result": "RESULT",
    "params": "--model",
    "num_restarts": "--restarts",
    "weights": "--mask",
    "num_templates": "--templates",
    "transforms": "--turns",
    "boundary": "--wrap",
    "fixed": "--fix",
    "smallest": "--from",
    "largest": "--to",
    "difference": "--contrast",
    "number": "--frame",
    "shown": "--images",
    "drawn": "--overlay",
}
# Options that take a height and a width, and what the library calls them.
SIZES = {"--template-shape": "template_shape", "--from": "smallest", "--to": "largest"}
GREYS = "luma|mean|red|green|blue"  # as `jaxem.io.frames` has them, which would import NumPy


def spelling(argument: str) -> str:
    """What the command line calls an argument of the library."""
    return SPELLINGS.get(argument, f"--{argument.replace('_', '-')}")


def with_pairs(words: Sequence[str]) -> list[str]:
    """The words of a command line, with sizes such as 60x40 as two words.

    Raises:
        ArgumentValueError: a size is one number; what comes next would be taken for the other.
    """
    if "" in words[1:]:
        before = words[words.index("", 1) - 1]
        argument = before.lstrip("-").replace("-", "_") if before.startswith("--") else "path"
        raise ArgumentValueError(argument, "is empty; say what is meant, such as . for this folder.")
    found: list[str] = []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        option, equals, value = word.partition("=")
        found.append(option if option in SIZES and equals else word)
        if option not in SIZES:
            continue
        if equals:
            rest.insert(0, value)
        size = re.fullmatch(r"(\d+)[xX*,\N{MULTIPLICATION SIGN}](\d+)", rest[0]) if rest else None
        if size is not None:
            found += size.groups()
            rest.pop(0)
        elif len(rest) == 1 or any(word.startswith("--") for word in rest[:2]):
            problem = f"must be two whole numbers, height and width, as in 60 40, but is {rest[0]!r}."
            raise ArgumentValueError(SIZES[option], problem)
    return found


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
    "A folder, a pattern or a list of PNG, JPEG, TIFF, WebP, BMP or PGM frames; a stack (K, H, W) in .npy, .npz, TIFF, "
    "MRC, HDF5 or Zarr, file::name where a file holds several; or a video."
)
FramesArgument = Annotated[list[Path], typer.Argument(metavar="FRAMES", help=FRAMES_HELP)]
CropOption = Annotated[
    tuple[str, str, str, str] | None,
    typer.Option(metavar="ROW COLUMN HEIGHT WIDTH", help="Take this part of each frame alone, in pixels."),
]
ChosenOption = Annotated[
    str | None,
    typer.Option(
        "--frames",
        metavar="FIRST:STOP",
        help="Take these frames alone, counted from 0, up to the one before STOP, negative from the end, as in 10:200 "
        "or -50:.",
    ),
]
EveryOption = Annotated[int, typer.Option(metavar="N", parser=whole, help="Take every N-th frame of those.")]
GreyOption = Annotated[
    str | None, typer.Option(metavar=GREYS, help="How colour becomes grey; by luma if nothing is said.")
]
ColourOption = Annotated[
    bool, typer.Option("--colour", help="Keep the channels of colour, or those of an array (K, H, W, C).")
]
ChannelOption = Annotated[
    int | None,
    typer.Option(
        "--channel", metavar="N", parser=whole, help="Of several channels take this one alone, counted from 0."
    ),
]
MaskOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Pixels that count are those where this is not zero: one picture for all frames or one a frame, of the "
        "whole frames or of the chosen ones.",
    ),
]
MissingOption = Annotated[bool, typer.Option("--nan-missing", help="NaN is a pixel that was not observed.")]
ExcludeOption = Annotated[
    bool,
    typer.Option("--exclude-odd", help="Leave out frames that are unlike the rest: dark, empty, displaced, noisy."),
]
MaskHotOption = Annotated[
    bool,
    typer.Option(
        "--mask-hot", help="Leave out pixels that are far off: hot, dead, flickering, hit by rays, lost lines."
    ),
]

TemplatesOption = Annotated[
    int, typer.Option("--templates", metavar="M", parser=whole, help="How many templates; each frame shows one.")
]
AbsentOption = Annotated[bool, typer.Option("--absent", help="A frame may show no template at all.")]
TurnsOption = Annotated[bool, typer.Option("--turns", help="A template may be turned by quarter turns.")]
MirrorsOption = Annotated[
    bool, typer.Option("--mirrors", help="A template may be mirrored; with --turns, turned and mirrored.")
]
WrapOption = Annotated[bool, typer.Option("--wrap", help="A template may go round the edges of the frame.")]
SupportOption = Annotated[
    str | None,
    typer.Option(
        metavar="disc|FILE",
        help="Where the template hides the background: in the ellipse that fits into it, or where a picture of its "
        "size is not zero.",
    ),
]
FixOption = Annotated[
    list[str] | None,
    typer.Option(
        "--fix",
        metavar="FIELD=FILE",
        help="Known beforehand: background, template or prior, from a picture or an array, such as "
        "background=found/result.npz; noise_scale or absent, from a file or a number. May be repeated.",
    ),
]
InitOption = Annotated[
    str | None,
    typer.Option(
        "--init",
        metavar="FILE",
        help="A picture of the template to start from, of its size and in the frames' pixel values, or an earlier "
        "result; other starts are tried as well.",
    ),
]

ModelOption = Annotated[
    Path, typer.Option(metavar="RESULT", help="The result.npz of jaxem fit, or what jaxem.save wrote.")
]
PriorOption = Annotated[
    str,
    typer.Option(
        metavar="flat|learned",
        help="Whether all places are equally likely, or those more that the model has seen more often.",
    ),
]
FittedOption = Annotated[
    bool,
    typer.Option("--fitted", help="These are the frames that the model was fitted to: each is judged by the others."),
]
DrawnModelOption = Annotated[
    Path | None,
    typer.Option(metavar="RESULT", help="The result.npz to draw from; the demonstration's truth if none is given."),
]
ResultArgument = Annotated[Path, typer.Argument(metavar="RESULT", help="The result.npz of jaxem fit.")]

OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier run has left there.")]
OutOption = Annotated[Path, typer.Option(metavar="DIR", help="Folder for result.npz, positions.csv and figure.png.")]
SmallestOption = Annotated[
    tuple[str, str],
    typer.Option("--from", metavar="H W", help="Smallest height and width of the template, as in 20 20."),
]
LargestOption = Annotated[
    tuple[str, str], typer.Option("--to", metavar="H W", help="Largest height and width of the template, as in 40 40.")
]
SizesOutOption = Annotated[
    Path | None, typer.Option("--out", metavar="DIR", help="Folder for sizes.csv, sizes.npz and sizes.png.")
]
TablesOutOption = Annotated[Path, typer.Option(metavar="DIR", help="Folder for positions.csv and positions.npz.")]
StarOption = Annotated[bool, typer.Option("--star", help="Write positions.star as well, as RELION lists particles.")]
DrawnOption = Annotated[
    Path | None,
    typer.Option(
        "--overlay",
        metavar="OUT",
        help="Draw boxes into the frames, orange where a place is sure: a .mp4, .avi, .mkv, .gif or .tif file, or a "
        "folder for PNG files.",
    ),
]
FramesOutOption = Annotated[
    Path,
    typer.Option(metavar="OUT", help="Folder for PNG files, or a .tif, .mrc, .npy, .mp4, .avi, .mkv or .gif file."),
]
PictureOption = Annotated[Path, typer.Option(metavar="FILE", help="The picture, .png, .pdf or .svg.")]

ShapeOption = Annotated[
    tuple[str, str], typer.Option(metavar="H W", help="Height and width of the template, as in 60 40.")
]
InfoShapeOption = Annotated[
    tuple[str, str] | None,
    typer.Option(
        metavar="H W", help="Height and width of the template to estimate for; by default a quarter of the frame's."
    ),
]
ContrastOption = Annotated[
    float | None,
    typer.Option(
        "--contrast",
        metavar="X",
        parser=real,
        help="By how many pixel values (root mean square) the template may differ from its background: is it enough?",
    ),
]
EstimateOption = Annotated[
    bool, typer.Option("--estimate", help="Fit some of the frames for a moment, to tell how long a fit will take.")
]
RestartsOption = Annotated[
    int | None,
    typer.Option(
        "--restarts",
        metavar="N",
        parser=whole,
        help="Starting points, by default 2, or 10 with --plain; the best is kept.",
    ),
]
SampleOption = Annotated[
    str,
    typer.Option(
        metavar="auto|all|N",
        help="On how many frames to search; what is found is then fitted to all. By itself, as many as it takes.",
    ),
]
MemoryOption = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="Memory that may be used, such as 8GB; by default what is free. More frames than it holds are read anew "
        "in each pass.",
    ),
]
PlainOption = Annotated[
    bool,
    typer.Option("--plain", help="No search: independent EM runs from random starts, as in the literature."),
]
UntestedOption = Annotated[
    bool,
    typer.Option(
        "--no-test",
        help="Do not test whether there is a template at all, which takes one and a half to three times as long as the "
        "search.",
    ),
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

CheckpointOption = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="Save every few seconds, in this folder, all that is needed to go on."),
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Go on from what --checkpoint saved; the result is that of one whole run.")
]
DistributedOption = Annotated[
    bool,
    typer.Option(
        "--distributed", help="Share the frames with the other processes that SLURM, MPI or Kubernetes started."
    ),
]
CoordinatorOption = Annotated[
    str | None,
    typer.Option(metavar="HOST:PORT", help="Share the frames with other processes, the first of which listens there."),
]
ProcessesOption = Annotated[
    int | None, typer.Option(metavar="N", parser=whole, help="With --coordinator: how many processes there are.")
]
ProcessOption = Annotated[
    int | None, typer.Option(metavar="I", parser=whole, help="With --coordinator: which one this is, counted from 0.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but warnings and errors.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line instead of words.")]

SpeedOption = Annotated[float, typer.Option(metavar="N", parser=real, help="Frames a second of a video.")]
CountOption = Annotated[int, typer.Option(metavar="N", parser=whole, help="How many frames.")]
ShownFramesOption = Annotated[
    Path | None, typer.Option("--images", metavar="FRAMES", help=f"Show one of these. {FRAMES_HELP}")
]
ShownNumberOption = Annotated[
    int | None, typer.Option("--frame", metavar="N", parser=whole, help="Which one, counted from 0.")
]
