"""``jaxem simulate`` and ``jaxem info``: frames made, and frames looked at before the work."""

from __future__ import annotations

import csv
import time
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import typer

from jaxem import checks
from jaxem.commands.options import (
    ChosenOption,
    CropOption,
    EveryOption,
    FramesArgument,
    GreyOption,
    SeedOption,
    UserError,
    console,
    read_chosen,
    shape,
    whole,
)
from jaxem.commands.using import FPS, check_frames_output, load_params
from jaxem.demo import IMAGE_SHAPE, demo_frames
from jaxem.display import clock
from jaxem.forecast import forecast
from jaxem.formats.source import in_words
from jaxem.frame_writers import is_single_file, pixels_for, write_frames
from jaxem.memory import available_memory
from jaxem.model import simulate
from jaxem.output import output_folder
from jaxem.quality import describe_quality, doubts, look_at
from jaxem.report import describe_frames

BYTES_A_PIXEL = 20  # of images while they are drawn: positions pasted, noise, and their sum


def simulate_command(
    out: Annotated[
        Path, typer.Option(metavar="OUT", help="Folder for PNG files, or an .npy, .tif, .mp4, .avi, .mkv or .gif file.")
    ],
    model: Annotated[
        Path | None,
        typer.Option(metavar="RESULT", help="The result.npz to draw from; the demonstration's truth if none is given."),
    ] = None,
    num_images: Annotated[int, typer.Option(metavar="N", parser=whole, help="How many frames.")] = 300,
    seed: SeedOption = 0,
) -> int:
    """Draw noisy frames from a result, or a face hidden in noise where there is none.

    The true corners go to corners.csv in the folder, or to a file of the same name with -corners.csv beside the one
    file. The same seed gives the same frames: those of jaxem.simulate with jax.random.key(seed).

    Example: jaxem simulate --model found/result.npz --num-images 500 --out stack.npy
    """
    try:
        checks.as_count("num_images", num_images, at_least=1, at_most=10**8)
        checks.as_count("seed", seed, at_least=0, at_most=2**32 - 1)
    except ValueError as error:
        name, _, rest = str(error).partition(" ")
        raise UserError(f"--{name.replace('_', '-')} {rest}") from error
    params = None if model is None else load_params(model)
    size = IMAGE_SHAPE if params is None else np.shape(params.background)
    needed = BYTES_A_PIXEL * num_images * size[0] * size[1]
    if needed > available_memory():
        raise UserError(f"--num-images {num_images} needs {in_words(needed)} of memory, more than is free.")
    check_frames_output(out, range(num_images))
    if params is None:
        images, _, corners = demo_frames(seed, num_images)
    else:
        images, corners = map(np.asarray, simulate(jax.random.key(seed), params, num_images))
    pixels = pixels_for(out, images, float(images.min()), float(images.max()))
    single = is_single_file(out)
    table = out.with_name(f"{out.stem}-corners.csv") if single else out / "corners.csv"
    with output_folder(table.parent) as folder:
        place = folder / out.name if single else folder
        write_frames(place, images, pixels, images.shape, range(num_images), FPS)
        with (folder / table.name).open("w", newline="") as stream:
            rows = csv.writer(stream)
            rows.writerow(["frame", "row", "column"])
            rows.writerows([number, row, column] for number, (row, column) in enumerate(corners.tolist()))
    console.print(f"wrote {describe_frames(images)} to {out}, {pixels.describe()}, and {table}")
    return 0


def info_command(
    frames: FramesArgument,
    template_shape: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="H W", help="Height and width of the template; by default a quarter of the frame's."),
    ] = None,
    crop: CropOption = None,
    chosen: ChosenOption = None,
    every: EveryOption = 1,
    grey: GreyOption = "luma",
) -> int:
    """Look at FRAMES before the work: what they are, what is wrong with them, and what a fit will need.

    Example: jaxem info frames/ --template-shape 60 40
    """
    height_and_width = None if template_shape is None else shape(template_shape)
    before = time.monotonic()
    images = read_chosen(frames, crop, chosen, every, grey)
    seconds_to_read = time.monotonic() - before
    size = images.shape[1:]
    assumed = height_and_width is None
    try:
        height_and_width = checks.as_template_shape(height_and_width or tuple(max(1, side // 4) for side in size), size)
    except ValueError as error:
        raise UserError(f"--template-shape {str(error).partition(' ')[2]}") from error
    quality = look_at(images)
    console.print(f"frames     {describe_frames(images)}, {in_words(images.nbytes)}, from {frames}")
    for line in describe_quality(images, quality):
        console.print(line)
    found = doubts(images, quality)
    for doubt in found:
        console.print(f"warning: {doubt}")
    expected = forecast(images, height_and_width, seconds_to_read)
    height, width = height_and_width
    why = ", a quarter of the frame's sides; --template-shape H W gives another" if assumed else ""
    console.print(f"template   {height} x {width}{why}")
    available = available_memory()
    console.print(
        f"a fit      about {in_words(expected.memory)} of memory, of which {in_words(available)} are free; about "
        f"{clock(expected.seconds)}, {clock(expected.seconds - expected.seconds_climbing)} of it before and after the "
        f"search itself; {expected.reason}"
    )
    if expected.memory > available:
        console.print("warning: That is more memory than is free; take fewer frames with --every, or cut with --crop.")
    return 0
