"""The work of ``jaxem locate``, ``jaxem restore`` and ``jaxem plot``: a saved result applied to frames."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from jaxem.assess.frame_stats import outliers
from jaxem.cli.frame_files import check_frames_output, read_chosen
from jaxem.cli.requests import FrameChoice
from jaxem.cli.saved_results import expect_single, load_params, load_result
from jaxem.cli.text import describe_frames, say, warn
from jaxem.io.readers.source import FramesError
from jaxem.io.writers import is_single_file, pixels_for, write_frames
from jaxem.model.params import Params
from jaxem.model.predict import Predictions, predict, reconstruct
from jaxem.plots.summary import DOTS_PER_INCH, summary_figure
from jaxem.runtime.compilation_cache import cache_compiled_programs
from jaxem.runtime.errors import ArgumentValueError
from jaxem.runtime.files import check_output, check_output_file, output_file, output_folder
from jaxem.runtime.text import listed, plural
from jaxem.search.restarts import Restarts, best_run
from jaxem.solvers.result import Fit

SURE_CONFIDENCE = 0.9
MOST_LISTED = 10  # frames named in a warning
MOST_FRAMES_PER_SECOND = 1000
PICTURES = (".png", ".pdf", ".svg")


def locate(choice: FrameChoice, model: Path, out: Path) -> int:
    """Write where the template is in each of the frames, and how surely."""
    cache_compiled_programs()
    params = load_params(model)
    images = read_chosen(choice)
    _expect_size(images, params, model)
    check_output(out)
    say(f"{describe_frames(images)} from {choice.path}")
    found = predict(images, params)
    numbers = choice.numbers(len(images))
    with output_folder(out) as folder:
        _write_table(folder / "positions.csv", numbers, found)
        np.savez_compressed(folder / "positions.npz", frame=np.array(numbers), **found._asdict())
    sure = float((found.confidence > SURE_CONFIDENCE).mean())
    say(
        f"median confidence {np.median(found.confidence):.3g}, above {SURE_CONFIDENCE} in {100 * sure:.3g} % of the "
        f"frames; log evidence {np.median(found.log_evidence):.6g} nats a frame (median)"
    )
    _warn_of_outliers(found, images[0].size, numbers)
    say(f"wrote {out / 'positions.csv'} and {out / 'positions.npz'}")
    return 0


def restore(choice: FrameChoice, model: Path, out: Path, fps: float) -> int:
    """Write the frames without their noise."""
    if not 0 < fps <= MOST_FRAMES_PER_SECOND:
        raise ArgumentValueError("fps", f"must be above 0 and at most {MOST_FRAMES_PER_SECOND}, but is {fps:g}.")
    cache_compiled_programs()
    params = load_params(model)
    images = read_chosen(choice)
    _expect_size(images, params, model)
    numbers = choice.numbers(len(images))
    check_frames_output(out, numbers, choice.path)
    say(f"{describe_frames(images)} from {choice.path}")
    corners = predict(images, params).corners
    values = np.concatenate([np.ravel(params.template), np.ravel(params.background)])
    pixels = pixels_for(out, images, float(values.min()), float(values.max()))
    with output_file(out) if is_single_file(out) else output_folder(out) as place:
        write_frames(place, reconstruct(corners, params), pixels, images.shape, numbers, fps)
    say(f"wrote {plural(len(images), 'frame')} to {out}, {pixels.describe()}")
    return 0


def plot(result: Path, out: Path, choice: FrameChoice | None) -> int:
    """Draw the summary figure of a saved result, with the one frame that was chosen."""
    if out.suffix.lower() not in PICTURES:
        raise ArgumentValueError("out", f"must end in {', '.join(PICTURES)}, but is {out}.")
    cache_compiled_programs()
    found = load_result(result, Restarts, Fit, argument="result")
    best, runs = (found.best, found.runs) if isinstance(found, Restarts) else (found, _alone(found))
    expect_single(best.params, result, "result")
    check_output_file(out)
    likeliest = np.unravel_index(np.argmax(best.params.prior), best.params.prior.shape)
    frame, corner = None, best.corners[0] if (best.corners[0] >= 0).all() else likeliest
    if choice is not None:
        images = read_chosen(choice)
        _expect_size(images, best.params, result)
        frame, corner = images[0], predict(images, best.params).corners[0]
    figure = summary_figure(frame, corner, best.params, runs, int(best_run(jax.tree.map(np.asarray, runs))))
    with output_file(out) as path:
        figure.savefig(path, dpi=DOTS_PER_INCH)
    say(f"wrote {out}")
    return 0


def _alone(found: Fit) -> Fit:
    return jax.tree.map(lambda leaf: leaf[None], found)


def _expect_size(images: np.ndarray, params: Params, path: Path) -> None:
    size, expected = images.shape[1:], np.shape(params.background)
    if size != expected:
        raise FramesError(
            f"these are {size[0]} x {size[1]}, but {path} was found in frames of {expected[0]} x {expected[1]}; give "
            f"frames of that size, or cut them with --crop."
        )


def _warn_of_outliers(found: Predictions, image_size: int, numbers: Sequence[int]) -> None:
    lowest = [str(numbers[place]) for place in outliers(found.log_evidence, image_size)]
    if lowest:
        frames = plural(len(lowest), "frame")
        warn(f"the model explains {frames} much worse than the rest: {listed(lowest, MOST_LISTED)}")


def _write_table(path: Path, numbers: Sequence[int], found: Predictions) -> None:
    with path.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["frame", "row", "column", "log_evidence", "confidence"])
        for number, (row, column), evidence, confidence in zip(numbers, *found, strict=True):
            table.writerow([number, row, column, f"{evidence:.9g}", f"{confidence:.9g}"])
