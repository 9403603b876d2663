"""The work of ``jaxem size``: templates of several sizes fitted, a table of them, and the size chosen."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import jax
import numpy as np

from jaxem.assess.shape_choice import ShapeChoice, as_shapes, choose_shape, in_words
from jaxem.assess.shape_fits import SizedFit
from jaxem.cli.display import Display
from jaxem.cli.fitting import MOST_RESTARTS
from jaxem.cli.long_running import choose_display
from jaxem.cli.memory import frames_to_size
from jaxem.cli.observed import Observed, OpenedObserved, expect_several, note_frames, open_observed
from jaxem.cli.outputs import check_folder
from jaxem.cli.requests import FrameChoice, Reporting, SizeRequest
from jaxem.cli.text import warn
from jaxem.io.results import save
from jaxem.runtime.arguments import as_count, as_seed, as_template_shape
from jaxem.runtime.compilation_cache import cache_compiled_programs
from jaxem.runtime.errors import ArgumentValueError
from jaxem.runtime.files import output_folder
from jaxem.runtime.remarks import Grade
from jaxem.runtime.resources import available_memory, taken_memory

SIZE_FILES = ("sizes.csv", "sizes.npz", "sizes.png")
FEWEST_FITTED = 16  # frames, from which a size can be told
MOST_SHOWN = 10  # rows of the table on the screen


def size(
    choice: FrameChoice, request: SizeRequest, out: Path | None, reporting: Reporting, *, overwrite: bool = False
) -> int:
    """Choose a size for the frames that were chosen."""
    if request.num_restarts is not None:
        as_count("num_restarts", request.num_restarts, at_least=1, at_most=MOST_RESTARTS)
    seed = as_seed(request.seed)
    if out is not None:
        check_folder(out, SIZE_FILES, overwrite)
    with open_observed(choice) as opened:
        shapes = _as_range(request, opened.frames.shape[1:3])
        observed, num_images = read_what_fits(opened, request)
    images = observed.images
    expect_several(num_images, choice)
    cache_compiled_programs()
    with choose_display(reporting, len(images)) as display:
        note_frames(observed, choice, display)
        found = choose_shape(
            jax.random.key(seed),
            images,
            shapes,
            num_restarts=request.num_restarts,
            absent=request.absent,
            weights=observed.weights,
            callback=lambda fit, is_half: _tell(fit, is_half, len(images), display),
        )
        _conclude(found, out, display)
    return 0


def read_what_fits(opened: OpenedObserved, request: SizeRequest) -> tuple[Observed, int]:
    """The frames that were opened, or as many of them as memory holds, with a note; and how many there are."""
    shape, memory = opened.frames.shape, available_memory() + taken_memory()
    margin = request.largest[0] - request.smallest[0], request.largest[1] - request.smallest[1]
    most = frames_to_size(memory, shape[1:], opened.frames.dtype, margin, has_weights=opened.may_have_weights)
    if most < FEWEST_FITTED:  # reading all of them tells what is wrong, if that is too much
        most = shape[0]
    observed, whole = opened.read_some(most)
    if len(observed.images) == whole[0]:
        return observed, whole[0]
    note = f"they are evenly spaced among {whole[0]}, which are more than memory holds"
    part = observed.part
    return observed._replace(part=part._replace(notes=(note, *part.notes))), whole[0]


def _as_range(request: SizeRequest, image_shape: tuple[int, ...]) -> list[tuple[int, int]]:
    """All sizes from the smallest to the largest.

    Raises:
        ArgumentError: there are none, too many, or some that do not fit into the frames.
    """
    smallest, largest = request.smallest, request.largest
    for argument, shape in (("smallest", smallest), ("largest", largest)):
        try:
            as_template_shape(shape, image_shape)
        except ArgumentValueError as error:
            raise ArgumentValueError(argument, error.problem) from None
    if smallest[0] > largest[0] or smallest[1] > largest[1]:
        problem = f"must be no larger than --to, but is {in_words(smallest)}, and --to is {in_words(largest)}."
        raise ArgumentValueError("smallest", problem)
    shapes = list(itertools.product(*(range(low, high + 1) for low, high in zip(smallest, largest, strict=True))))
    try:
        return as_shapes(shapes, image_shape)
    except ArgumentValueError as error:
        raise ArgumentValueError("largest", f"is too far from --from: they {error.problem}") from None


def _tell(fit: SizedFit, is_half: bool, num_images: int, display: Display) -> None:
    """One line for a fit that has ended."""
    likelihood = float(fit.log_likelihood.sum())
    what = "fitted to one half of the frames" if is_half else f"{likelihood / num_images:.6g} nats a frame"
    display.note(
        "size",
        f"  {in_words(fit.shape):>9}: {what}",
        size=list(fit.shape),
        log_likelihood=None if is_half else likelihood,
        is_held_out=is_half,
    )


def _conclude(found: ShapeChoice, out: Path | None, display: Display) -> None:
    """Show, write and warn."""
    remarks = found.remarks()
    rows = _rows(found)
    shown = ["     size    BIC    held out (error)  at an edge (by chance)"]
    shown += [_in_line(row) for row in rows[:MOST_SHOWN]]
    notes = [remark.text for remark in remarks if remark.grade == Grade.NOTE]
    verdict = f"size: {in_words(found.shape)}" if found.has_template else "size: none can be told"
    display.note(
        "sizes",
        *shown,
        *notes,
        verdict,
        size=list(found.shape) if found.has_template else None,
        sizes=rows,
        gain=float(found.gain),
        gain_error=float(found.gain_error),
        remarks=[remark.facts() for remark in remarks],
    )
    for remark in remarks:
        if remark.grade == Grade.WARNING:
            warn(remark.text)
    if out is None:
        return
    from jaxem.plots import sizes_figure, write_figure  # imports matplotlib

    with output_folder(out) as folder:
        save(folder / "sizes.npz", found)
        with (folder / "sizes.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        write_figure(sizes_figure(found), folder / "sizes.png")
    paths = [str(out / name) for name in SIZE_FILES]
    display.note("wrote", f"wrote {', '.join(paths[:-1])} and {paths[-1]}", paths=paths)


def _rows(found: ShapeChoice) -> list[dict[str, float | int | None]]:
    """A row a size, the best first; of BIC and held-out frames the differences from it."""

    def number(value: float) -> float | None:
        return float(f"{value:.6g}") if np.isfinite(value) else None

    return [
        {
            "height": int(height),
            "width": int(width),
            "bic_above_best": number(found.bic[place] - found.bic[0]),
            "log_likelihood": number(found.log_likelihood[place]),
            "held_out_above_best": number(found.held_out[place] - found.held_out[0]),
            "held_out_error": number(found.held_out_error[place]),
            "touching": number(found.touching[place]),
            "touching_by_chance": number(found.touching_by_chance[place]),
        }
        for place, (height, width) in enumerate(found.shapes)
    ]


def _in_line(row: dict[str, float | int | None]) -> str:
    def cell(name: str, form: str) -> str:
        return "" if row[name] is None else format(row[name], form)

    held_out = f"{cell('held_out_above_best', '+.1f')} ({cell('held_out_error', '.1f')})"
    edge = f"{100 * (row['touching'] or 0):.0f} % ({100 * (row['touching_by_chance'] or 0):.0f} %)"
    judged = held_out if row["held_out_above_best"] is not None else ""
    return f"{row['height']:>5} x {row['width']:<3} {cell('bic_above_best', '+7.1f')}  {judged:>16}  {edge}"
