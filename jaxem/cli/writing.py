"""What ``jaxem fit`` has found: written, and said."""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from jaxem.assess.assessment import Report
from jaxem.cli.claims import FittedFrames, TestRun, all_remarks, say_remarks, test_failed, verdict
from jaxem.cli.display import Display
from jaxem.cli.exit_codes import ExitCode
from jaxem.cli.findings import describe_findings, in_words, number_shown
from jaxem.cli.parameters import spelling
from jaxem.cli.tables import write_positions
from jaxem.cli.text import InterruptedRunError
from jaxem.io.results import save
from jaxem.model.appearances import as_transforms
from jaxem.runtime.files import output_folder
from jaxem.runtime.interruption import heard
from jaxem.runtime.text import listed
from jaxem.search.choosing import best_run
from jaxem.solvers.result import Status

RESULT_FILES = ("result.npz", "positions.csv", "figure.png")


def import_plots() -> None:
    """Begin to import what draws the figure, which takes as long as a stage of the search."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ModuleNotFoundError("the figure cannot be drawn", name="matplotlib")
    threading.Thread(target=importlib.import_module, args=("jaxem.plots",), daemon=True).start()


def write(frames: FittedFrames, report: Report, test: TestRun | None, out: Path, display: Display) -> Report:
    """Write ``result.npz``, which `jaxem.load` reads, ``positions.csv`` and ``figure.png``; say what was found.

    Args:
        frames: what was fitted, and how.
        report: what to write.
        test: the detection test that goes on.
        out: the folder.
        display: whom to tell.
    """
    from jaxem.plots import summary, write_figure  # `import_plots` has begun to

    found = report.found
    best, transforms, winner = found.best, as_transforms(found.best.transforms), int(best_run(found.runs))
    about = about_frames(frames)
    with output_folder(out) as folder:
        save(folder / "result.npz", report, about=about)
        write_positions(
            folder / "positions.csv",
            frames.numbers,
            frames.names,
            report.assessment.located,
            transforms,
            frames.excluded,
        )
        shown = number_shown(best)
        write_figure(summary(report, frames.frame(shown), number=shown), folder / "figure.png")
    if test is not None:
        try:
            tested = report.assessment._replace(test=frames.of_all(test.result()))
        except KeyboardInterrupt:
            heard()
            raise InterruptedRunError(f"interrupted; {out} holds the result, but for the detection test") from None
        report = report._replace(assessment=tested)
        with output_folder(out) as folder:
            save(folder / "result.npz", report, about=about)
    lines, facts = describe_findings(best.positions, best.params, transforms)
    assessment, diagnostics = report.assessment, found.diagnostics
    noise_scale, contrast = best.params.noise_scale, float(assessment.contrast)
    open_positions = float(diagnostics.effective_positions)
    remarks = all_remarks(report, frames)
    notes = say_remarks(remarks)
    display.note(
        "result",
        f"best: start {winner + 1}, noise {in_words(noise_scale)}, contrast {contrast:.3g}, "
        f"{open_positions:.2f} positions a frame",
        *lines,
        *notes,
        start=winner + 1,
        status=Status(int(best.status)).name,
        sample=None if found.sample is None else len(found.sample),
        elbo=float(best.elbo),
        noise_scale=np.asarray(noise_scale).tolist(),
        **facts,
        contrast=contrast,
        effective_positions=open_positions,
        p_value=float(assessment.test.p_value),
        agreement=float(assessment.test.agreement),
        remarks=[remark.facts() for remark in remarks],
    )
    paths = [str(out / name) for name in RESULT_FILES]
    display.note("wrote", f"wrote {listed(paths[:-1], len(paths))} and {paths[-1]}", paths=paths)
    display.note("verdict", verdict(report, remarks))
    return report


def about_frames(frames: FittedFrames) -> dict[str, Any]:
    """What the result is of: the frames by number and name, what was left out of them, and what was asked for."""
    about = {
        "source": _shown(frames.source),
        "frame_numbers": np.array(frames.numbers),
        "excluded": frames.excluded,
        "options": json.dumps({spelling(name): value for name, value in asdict(frames.request).items()}),
    }
    return about if frames.names is None else about | {"frame_names": [_shown(name) for name in frames.names]}


def _shown(text: str) -> str:
    """Names of files may hold what is no text."""
    return text.encode("utf-8", "backslashreplace").decode()


def exit_code(report: Report) -> int:
    """With what number the command ends."""
    if not has_converged(report):
        print("jaxem: no run converged; the best of them was written all the same", file=sys.stderr)
        return ExitCode.NOTHING_CONVERGED
    return ExitCode.NOTHING_FOUND if test_failed(report.assessment) else ExitCode.DONE


def has_converged(report: Report) -> bool:
    """Whether a run has; runs on a sample that did say nothing of the fit to all frames."""
    ended = report.runs if report.found.sample is None else report.best
    return bool(np.any(np.asarray(ended.status) == Status.CONVERGED))
