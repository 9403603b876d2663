"""``jaxem locate``, ``jaxem restore`` and ``jaxem plot``: a saved result at work."""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import typer

from jaxem.commands.options import (
    FRAMES_HELP,
    ChosenOption,
    CropOption,
    EveryOption,
    FramesArgument,
    GreyOption,
    ModelOption,
    UserError,
    console,
    first_and_last,
    load_model,
    read_chosen,
    whole,
)
from jaxem.diagnostics import plural
from jaxem.figures import summary_figure
from jaxem.formats.folder import frames_in
from jaxem.frame_writers import VIDEO, frame_names, is_single_file, pixels_for, write_frames
from jaxem.loop import Fit
from jaxem.model import Params
from jaxem.output import DPI, check_output, check_output_file, output_file, output_folder
from jaxem.places import Places, find_places, ill_explained, without_noise
from jaxem.report import describe_frames
from jaxem.restarts import Restarts, best_run

SURE = 0.9
MOST_NAMED = 10
FPS, MOST_FPS = 10.0, 1000
FIGURES = (".png", ".pdf", ".svg")


def locate_command(
    frames: FramesArgument,
    model: ModelOption,
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for positions.csv and positions.npz.")],
    crop: CropOption = None,
    chosen: ChosenOption = None,
    every: EveryOption = 1,
    grey: GreyOption = "luma",
) -> int:
    """Find where a template that was found before is in each of FRAMES.

    Writes for each frame, by its number counted from 0, row and column of the template's upper left pixel, the log
    evidence (nats), and the confidence: the probability of just that place.

    Example: jaxem locate new-frames/ --model found/result.npz --out places
    """
    params = load_params(model)
    images = read_chosen(frames, crop, chosen, every, grey)
    _check_size(images, params, model)
    check_output(out)
    console.print(f"{describe_frames(images)} from {frames}")
    places = find_places(images, params)
    numbers = frame_numbers(len(images), chosen, every)
    with output_folder(out) as folder:
        _write_table(folder / "positions.csv", numbers, places)
        np.savez_compressed(folder / "positions.npz", frame=np.array(numbers), **places._asdict())
    sure = float((places.confidence > SURE).mean())
    console.print(
        f"median confidence {np.median(places.confidence):.3g}, above {SURE} in {100 * sure:.3g} % of the frames; "
        f"log evidence {np.median(places.log_evidence):.6g} nats a frame (median)"
    )
    _warn_of_strangers(places, images[0].size, numbers)
    console.print(f"wrote {out / 'positions.csv'} and {out / 'positions.npz'}")
    return 0


def restore_command(
    frames: FramesArgument,
    model: ModelOption,
    out: Annotated[
        Path, typer.Option(metavar="OUT", help="Folder for PNG files, or a .tif, .npy, .mp4, .avi, .mkv or .gif file.")
    ],
    fps: Annotated[float, typer.Option(metavar="N", help="Frames a second of a video.")] = FPS,
    crop: CropOption = None,
    chosen: ChosenOption = None,
    every: EveryOption = 1,
    grey: GreyOption = "luma",
) -> int:
    """Write each of FRAMES without its noise: the background, and the template at its most probable place.

    Whole numbers stay on their scale, rounded; what a PNG or a video cannot hold is stretched, and the scale is said.

    Example: jaxem restore frames/ --model found/result.npz --out clean.mp4
    """
    if not 0 < fps <= MOST_FPS:
        raise UserError(f"--fps must be above 0 and at most {MOST_FPS}, but is {fps:g}.")
    params = load_params(model)
    images = read_chosen(frames, crop, chosen, every, grey)
    _check_size(images, params, model)
    numbers = frame_numbers(len(images), chosen, every)
    check_frames_output(out, numbers, frames)
    console.print(f"{describe_frames(images)} from {frames}")
    corners = find_places(images, params).corners
    values = np.concatenate([np.ravel(params.template), np.ravel(params.background)])
    pixels = pixels_for(out, images, float(values.min()), float(values.max()))
    with output_file(out) if is_single_file(out) else output_folder(out) as place:
        write_frames(place, without_noise(corners, params), pixels, images.shape, numbers, fps)
    console.print(f"wrote {plural(len(images), 'frame')} to {out}, {pixels.describe()}")
    return 0


def plot_command(
    result: Annotated[Path, typer.Argument(metavar="RESULT", help="The result.npz of jaxem fit.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The picture, .png, .pdf or .svg.")],
    frames: Annotated[Path | None, typer.Option(metavar="FRAMES", help=f"Show one of these. {FRAMES_HELP}")] = None,
    number: Annotated[int, typer.Option(metavar="N", parser=whole, help="Which one, counted from 0.")] = 0,
    crop: CropOption = None,
    grey: GreyOption = "luma",
) -> int:
    """Draw the summary figure of a saved result again, with a frame if FRAMES are given.

    Example: jaxem plot found/result.npz --out figure.png --frames frames/
    """
    if out.suffix.lower() not in FIGURES:
        raise UserError(f"--out must end in {', '.join(FIGURES)}, but is {out}.")
    found = load_model(result, Restarts, Fit, option="RESULT")
    best, runs = (found.best, found.runs) if isinstance(found, Restarts) else (found, _alone(found))
    _check_single(best.params, result, "RESULT")
    check_output_file(out)
    likeliest = np.unravel_index(np.argmax(best.params.prior), best.params.prior.shape)
    frame, corner = None, best.corners[0] if (best.corners[0] >= 0).all() else likeliest
    if frames is not None:
        images = read_chosen(frames, crop, f"{number}:{number + 1 if number != -1 else ''}", 1, grey)
        _check_size(images, best.params, result)
        frame, corner = images[0], find_places(images, best.params).corners[0]
    figure = summary_figure(frame, corner, best.params, runs, int(best_run(jax.tree.map(np.asarray, runs))))
    with output_file(out) as path:
        figure.savefig(path, dpi=DPI)
    console.print(f"wrote {out}")
    return 0


def load_params(path: Path) -> Params:
    """The parameters in a saved result."""
    model = load_model(path, Restarts, Fit, Params)
    model = model.best if isinstance(model, Restarts) else model
    params: Params = model.params if isinstance(model, Fit) else model
    _check_single(params, path, "--model")
    return params


def frame_numbers(count: int, chosen: str | None, every: int) -> list[int]:
    """Numbers of the chosen frames in their file, or among the chosen where those are counted from the end."""
    first = None if chosen is None else first_and_last(chosen)[0]
    if first is not None and first < 0:
        return list(range(count))
    return [(first or 0) + every * place for place in range(count)]


def check_frames_output(out: Path, numbers: Sequence[int], frames: Path | None = None) -> None:
    """Find out before the work whether frames can be written there, and will mix nothing up.

    Raises:
        OutputError: it cannot be written.
        UserError: it would replace what is read, or stand among other frames.
    """
    if frames is not None and out.exists() and frames.exists() and out.samefile(frames):
        raise UserError(f"--out: {out} is where the frames are; choose another place.")
    if is_single_file(out):
        check_output_file(out)
        return
    if out.suffix and not out.is_dir():
        known = ", ".join((".tif", ".npy", *VIDEO))
        raise UserError(f"--out: {out} ends in none of {known}; a folder's name has no suffix.")
    names = set(frame_names(numbers))
    others = [file.name for file in frames_in(out) if file.name not in names] if out.is_dir() else []
    if others:
        raise UserError(f"--out: {out} holds other frames, such as {others[0]}; choose an empty folder.")
    check_output(out)


def _alone(found: Fit) -> Fit:
    return jax.tree.map(lambda leaf: leaf[None], found)


def _check_single(params: Params, path: Path, option: str) -> None:
    if np.ndim(params.noise_scale):
        raise UserError(f"{option}: {path} holds many results along a leading axis; save one of them.")


def _check_size(images: np.ndarray, params: Params, path: Path) -> None:
    size, expected = images.shape[1:], np.shape(params.background)
    if size != expected:
        raise UserError(
            f"FRAMES: these are {size[0]} x {size[1]}, but {path} was found in frames of {expected[0]} x "
            f"{expected[1]}; give frames of that size, or cut them with --crop."
        )


def _warn_of_strangers(places: Places, image_size: int, numbers: Sequence[int]) -> None:
    strangers = [numbers[place] for place in ill_explained(places, image_size)]
    if strangers:
        named = ", ".join(map(str, strangers[:MOST_NAMED]))
        more = f" and {len(strangers) - MOST_NAMED} more" if len(strangers) > MOST_NAMED else ""
        print(
            f"jaxem: warning: the model explains {plural(len(strangers), 'frame')} much worse than the rest: "
            f"{named}{more}",
            file=sys.stderr,
        )


def _write_table(path: Path, numbers: Sequence[int], places: Places) -> None:
    with path.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["frame", "row", "column", "log_evidence", "confidence"])
        for number, (row, column), evidence, confidence in zip(numbers, *places, strict=True):
            table.writerow([number, row, column, f"{evidence:.9g}", f"{confidence:.9g}"])
