"""The command line: ``jaxem demo`` and ``jaxem fit`` (extra ``app``).

Exit codes: 0; 2 for a user's error, in one line; 3 when no run converged (the best is still written); 130 when
interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from jaxem import checks
from jaxem.demo import IMAGE_SHAPE, TEMPLATE_SHAPE, demo_frames
from jaxem.figures import summary_figure
from jaxem.io import FramesError, OutputError, output_folder, read_frames, write_results
from jaxem.loop import Fit, Status
from jaxem.report import compare_with_truth, describe_frames, describe_run, doubts
from jaxem.restarts import Restarts, best_run
from jaxem.runner import Options, locate, run_restarts

app = typer.Typer(
    help="Recover an unknown template, its background and its places from a stack of noisy images.",
    pretty_exceptions_enable=False,
)
console = Console(highlight=False, soft_wrap=True)

INTERRUPTED = 130  # as shells say it
DEFAULT = Options(template_shape=TEMPLATE_SHAPE)
FramesArgument = Annotated[
    Path, typer.Argument(metavar="FRAMES", help="An .npy or .npz stack (K, H, W), or a folder of PNG or TIFF frames.")
]
RestartsOption = Annotated[int, typer.Option(help="Runs from random starts; the best is kept.")]
SeedOption = Annotated[int, typer.Option(help="Seed of the random starts.")]
HardOption = Annotated[bool, typer.Option("--hard", help="Hard EM: one corner an image instead of probabilities.")]
SmoothingOption = Annotated[float, typer.Option(metavar="A", help="Pseudo-counts spread evenly over all corners.")]
IterationsOption = Annotated[int, typer.Option(metavar="N", help="Iterations of a run at most.")]
ToleranceOption = Annotated[float, typer.Option(metavar="T", help="Least gain that counts, nats per image.")]


class UserError(Exception):
    """A mistake of the person at the keyboard; the text is the one line that they see."""


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    try:
        code = app(args=list(arguments) or ["--help"], prog_name="jaxem", standalone_mode=False)
    except FramesError as error:
        return _complain(f"FRAMES: {error}")
    except OutputError as error:
        return _complain(f"--out: {error}")
    except UserError as error:
        return _complain(str(error))
    except typer.TyperException as error:
        return _complain(error.format_message())
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:
        print("jaxem: interrupted; nothing was written", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _complain(message: str) -> int:
    print("jaxem: " + " ".join(message.split()), file=sys.stderr)
    return 2


@app.command("demo")
def demo_command(
    out: Annotated[Path, typer.Option(help="Folder for result.npz and figure.png.")] = Path("jaxem-demo"),
    seed: SeedOption = DEFAULT.seed,
) -> int:
    """Hide a face in noisy photographs, find it again, and compare with the truth.

    Example: jaxem demo
    """
    options = Options(TEMPLATE_SHAPE, seed=seed)
    _check(options, IMAGE_SHAPE)
    demo = demo_frames(seed)
    console.print(f"{describe_frames(demo.frames)}, in each of them the same face hidden in noise")
    found, corners = _search(demo.frames, options, out)
    console.print("against the truth:")
    for line in compare_with_truth(demo, found.best.params, corners):
        console.print(f"  {line}")
    return _exit_code(found)


@app.command("fit")
def fit_command(
    frames: FramesArgument,
    template_shape: Annotated[tuple[int, int], typer.Option(metavar="H W", help="Height and width of the template.")],
    out: Annotated[Path, typer.Option(help="Folder for result.npz and figure.png.")],
    restarts: RestartsOption = DEFAULT.restarts,
    seed: SeedOption = DEFAULT.seed,
    hard: HardOption = DEFAULT.hard,
    prior_smoothing: SmoothingOption = DEFAULT.prior_smoothing,
    max_iterations: IterationsOption = DEFAULT.max_iterations,
    tolerance: ToleranceOption = DEFAULT.tolerance,
) -> int:
    """Find the template hidden in FRAMES.

    Example: jaxem fit frames/ --template-shape 60 40 --out found
    """
    images = read_frames(frames)
    options = Options(template_shape, restarts, seed, hard, prior_smoothing, max_iterations, tolerance)
    _check(options, images.shape[1:])
    console.print(f"{describe_frames(images)} from {frames}")
    found, _ = _search(images, options, out)
    return _exit_code(found)


def _check(options: Options, image_shape: tuple[int, ...]) -> None:
    """The library's own checks, its complaints in the command line's spelling."""
    try:
        checks.as_template_shape(options.template_shape, image_shape)
        checks.as_count("restarts", options.restarts, at_least=1)
        checks.as_count("seed", options.seed, at_least=0)
        checks.as_count("max_iterations", options.max_iterations, at_least=1)
        checks.as_number("prior_smoothing", options.prior_smoothing, np.float32, at_least=0)
        checks.as_number("tolerance", options.tolerance, np.float32, at_least=0)
        if options.seed >= 2**32:
            raise ValueError(f"seed must be below 2**32, but is {options.seed}.")
    except ValueError as error:
        name, _, rest = str(error).partition(" ")
        raise UserError(f"--{name.replace('_', '-')} {rest}") from error


def _search(images: np.ndarray, options: Options, out: Path) -> tuple[Restarts, np.ndarray]:
    """Run, show, write; return what was found and the corner in each image."""
    columns = (TextColumn("restarts"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with output_folder(out) as folder:
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.add_task("restarts", total=options.restarts)

            def report(number: int, ended: Fit) -> None:
                progress.console.print(f"  {describe_run(number, ended, len(images))}")
                progress.advance(bar)

            found = run_restarts(images, options, report)
        best, runs = found
        corners = locate(images, best.params)
        arrays: dict[str, Any] = {
            **best.params._asdict(),
            "corners": corners,
            "elbo": best.elbo,
            "history": best.history,
            "elbos": runs.elbo,
            "statuses": runs.status,
        }
        winner = int(best_run(runs))
        write_results(folder, arrays, summary_figure(images[0], corners[0], best.params, runs, winner))
    console.print(f"best: restart {winner + 1}, noise {float(best.params.noise_scale):.4g}")
    for doubt in doubts(images, best, options.prior_smoothing):
        console.print(f"[yellow]warning:[/] {doubt}")
    console.print(f"wrote {out / 'result.npz'} and {out / 'figure.png'}")
    return found, corners


def _exit_code(found: Restarts) -> int:
    if (found.runs.status == Status.CONVERGED).any():
        return 0
    print("jaxem: no run converged; the best of them was written all the same", file=sys.stderr)
    return 3
