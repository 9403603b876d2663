"""The work of ``jaxem locate``, ``jaxem restore`` and ``jaxem plot``: a saved result applied to frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from jaxem.assess.assessment import Report
from jaxem.assess.frame_stats import outliers
from jaxem.assess.locating import expect_prior
from jaxem.cli.applied import AppliedFrames, open_for
from jaxem.cli.display import lines_or_json
from jaxem.cli.findings import describe_findings
from jaxem.cli.frame_files import check_frame_names, check_frames_output, picture_names, restored_names
from jaxem.cli.outputs import check_folder, expect_new
from jaxem.cli.overlay import overlay
from jaxem.cli.requests import FRAMES_PER_SECOND, FrameChoice
from jaxem.cli.saved_results import Model, load_model, load_result, model_of
from jaxem.cli.tables import write_located, write_star
from jaxem.cli.text import say, warn
from jaxem.io.readers.source import FramesError
from jaxem.io.writers import Pixels, is_single_file, pixels_for, write_frames
from jaxem.model.params import Params
from jaxem.model.predict import Located, reconstruct
from jaxem.plots import summary, write_figure
from jaxem.runtime.compilation_cache import cache_compiled_programs
from jaxem.runtime.errors import ArgumentValueError
from jaxem.runtime.files import check_output_file, output_file, output_folder
from jaxem.runtime.text import listed, plural
from jaxem.search.restarts import Restarts
from jaxem.solvers.result import Fit

SURE_CONFIDENCE = 0.9
MOST_LISTED = 10  # frames named in a warning
MOST_FRAMES_PER_SECOND = 1000
PICTURES = (".png", ".pdf", ".svg")
TABLE_FILES = ("positions.csv", "positions.npz")
STAR_FILE = "positions.star"


def locate(
    choice: FrameChoice,
    model_path: Path,
    out: Path,
    prior: str,
    fitted: bool,
    *,
    overwrite: bool = False,
    star: bool = False,
    drawn: Path | None = None,
    fps: float = FRAMES_PER_SECOND,
    memory: int | None = None,
    as_json: bool = False,
) -> int:
    """Write what is in each of the frames and where, and how surely."""
    expect_prior(prior)
    files = TABLE_FILES + (STAR_FILE,) * star
    check_folder(out, files, overwrite)
    _check_speed(fps)
    if drawn is not None:
        check_frames_output(drawn, choice.path, overwrite=overwrite, argument="drawn")
    cache_compiled_programs()
    model, display = load_model(model_path), lines_or_json(as_json)
    with open_for(model, choice, model_path, memory) as frames:
        numbers, names = frames.numbers, frames.names
        if drawn is not None:
            check_frame_names(drawn, restored_names(numbers, names), overwrite, "drawn")
        frames.note(display)
        found = frames.locate(model, prior, fitted=fitted)
        with output_folder(out) as folder:
            write_located(folder, numbers, names, found, model.transforms)
            if star:
                called = picture_names(numbers, names, choice)
                write_star(folder / STAR_FILE, called, found, model.transforms, model.template_shape)
        paths = [str(out / name) for name in files]
        if drawn is not None:
            paths.append(str(drawn))
            _write_drawn(drawn, frames, found, model, fps)
    sure = float((found.confidence > SURE_CONFIDENCE).mean())
    confidence, evidence = float(np.median(found.confidence)), float(np.median(found.log_evidence))
    lines, facts = describe_findings(found.positions, model.params, model.transforms)
    display.note(
        "places",
        f"median confidence {confidence:.3g}, above {SURE_CONFIDENCE} in {100 * sure:.3g} % of the "
        f"frames; log evidence {evidence:.6g} nats a frame (median)",
        *lines,
        median_confidence=confidence,
        share_sure=sure,
        median_log_evidence=evidence,
        **facts,
    )
    log_evidence = found.log_evidence + _typical_cost(frames, model)
    _warn_of_outliers(log_evidence, math.prod(frames.shape[1:]), numbers)
    display.note("wrote", f"wrote {', '.join(paths[:-1])} and {paths[-1]}", paths=paths)
    return 0


def restore(
    choice: FrameChoice,
    model_path: Path,
    out: Path,
    fps: float,
    *,
    overwrite: bool = False,
    memory: int | None = None,
    as_json: bool = False,
) -> int:
    """Write the frames without their noise."""
    _check_speed(fps)
    cache_compiled_programs()
    params, transforms, _ = model = load_model(model_path)
    check_frames_output(out, choice.path, model.num_channels, overwrite=overwrite)
    display = lines_or_json(as_json)
    with open_for(model, choice, model_path, memory) as frames:
        shape, names = frames.shape, restored_names(frames.numbers, frames.names)
        check_frame_names(out, names, overwrite)
        frames.note(display)
        positions = frames.locate(model).positions
        pixels = pixels_for(out, shape, frames.dtype, _range(params), frames.extremes)
    with output_file(out) if is_single_file(out) else output_folder(out) as place:
        write_frames(place, reconstruct(positions, params, transforms), pixels, shape, names, fps)
    words = f"wrote {plural(shape[0], 'frame')} to {out}, {pixels.describe()}"
    display.note("wrote", words, paths=[str(out)], low=pixels.low, high=pixels.high)
    return 0


def plot(result: Path, out: Path, choice: FrameChoice | None, *, overwrite: bool = False) -> int:
    """Draw the summary figure of a saved result, with the one frame that was chosen."""
    if out.suffix.lower() not in PICTURES:
        raise ArgumentValueError("out", f"must end in {', '.join(PICTURES)}, but is {out}.")
    cache_compiled_programs()
    found = load_result(result, Report, Restarts, Fit, argument="result")
    best = found if isinstance(found, Fit) else found.best
    model = model_of(best, result, "result")
    check_output_file(out)
    expect_new([out], overwrite)
    frame = None if choice is None else _read_shown(model, choice, result)
    figure = summary(found, frame)
    with output_file(out) as path:
        write_figure(figure, path)
    say(f"wrote {out}")
    return 0


def _write_drawn(out: Path, frames: AppliedFrames, found: Located, model: Model, fps: float) -> None:
    """The frames with a box around what was found in each."""
    names = restored_names(frames.numbers, frames.names)
    pictures, shape = overlay(frames, found.positions, found.confidence, model.template_shape)
    with output_file(out) if is_single_file(out) else output_folder(out) as place:
        write_frames(place, pictures, Pixels(np.dtype(np.uint8)), shape, names, fps)


def _check_speed(fps: float) -> None:
    if not 0 < fps <= MOST_FRAMES_PER_SECOND:
        raise ArgumentValueError("fps", f"must be above 0 and at most {MOST_FRAMES_PER_SECOND}, but is {fps:g}.")


def _read_shown(model: Model, choice: FrameChoice, result: Path) -> np.ndarray:
    """The one frame that was chosen, by its number."""
    try:
        with open_for(model, replace(choice, nan_missing=True), result) as frames:
            return frames.frame(0)
    except FramesError as error:
        if error.argument != "frames":
            raise
        raise ArgumentValueError("number", error.problem) from error


def _range(params: Params) -> tuple[float, float]:
    """The lowest and the highest pixel value that a frame without noise can have."""
    has_channels = np.ndim(params.background) == 3
    template = np.asarray(params.template)
    opacity = np.ones(()) if params.opacity is None else np.asarray(params.opacity)
    opacity = opacity[..., None] if has_channels and opacity.ndim else opacity
    shown = template[np.broadcast_to(opacity, template.shape) > 0]
    values = np.concatenate([shown, np.ravel(params.background)])
    return float(values.min()), float(values.max())


def _typical_cost(frames: AppliedFrames, model: Model) -> np.ndarray:
    """What the noise costs a frame that is explained well, nats: more where more of it was observed."""
    num_observed = frames.num_observed()
    if num_observed is None:
        return np.zeros(frames.shape[0])
    variances = np.broadcast_to(np.square(model.params.noise_scale, dtype=np.float64), model.num_channels or 1)
    return np.log(2 * np.pi * np.e * variances).sum() / 2 * num_observed


def _warn_of_outliers(log_evidence: np.ndarray, image_size: int, numbers: Sequence[int]) -> None:
    lowest = [str(numbers[place]) for place in outliers(log_evidence, image_size)]
    if lowest:
        frames = plural(len(lowest), "frame")
        warn(f"the model explains {frames} much worse than the rest: {listed(lowest, MOST_LISTED)}")
