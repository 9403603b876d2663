"""The command line: ``jaxem demo``, ``jaxem fit`` and ``jaxem doctor`` (extra ``app``).

Exit codes: 0; 1 when this machine computes wrongly; 2 for a user's error, in one line; 3 when no run converged (the
best is still written); 130 when interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

import jaxem
from jaxem import checks
from jaxem.demo import IMAGE_SHAPE, TEMPLATE_SHAPE, demo_frames
from jaxem.doctor import describe_checks, describe_machine
from jaxem.figures import summary_figure
from jaxem.io import FramesError, read_frames
from jaxem.loop import Fit, Status
from jaxem.output import OutputError, check_output, output_folder, write_results
from jaxem.parallel import fit_restarts_parallel
from jaxem.report import compare_with_truth, describe_frames, describe_run
from jaxem.restarts import DEFAULT_SEARCH, Restarts, best_run
from jaxem.runner import Options, locate
from jaxem.selfcheck import selfcheck

app = typer.Typer(pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]})
console = Console(highlight=False, markup=False, soft_wrap=True)

INTERRUPTED = 130  # as shells say it
DEFAULT = Options(template_shape=TEMPLATE_SHAPE)
FramesArgument = Annotated[
    Path, typer.Argument(metavar="FRAMES", help="An .npy or .npz stack (K, H, W), or a folder of PNG or TIFF frames.")
]


def _whole(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a whole number.") from None


def _real(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a number.") from None


ShapeOption = Annotated[
    tuple[str, str], typer.Option(metavar="H W", help="Height and width of the template, as in 60 40.")
]
OutOption = Annotated[Path, typer.Option(metavar="DIR", help="Folder for result.npz and figure.png.")]
RestartsOption = Annotated[
    int | None,
    typer.Option(
        metavar="N", parser=_whole, help="Starting points, by default 2, or 10 with --plain; the best is kept."
    ),
]
PlainOption = Annotated[
    bool,
    typer.Option("--plain", help="No search: every run climbs by itself from a random start, as in the literature."),
]
SeedOption = Annotated[int, typer.Option(metavar="N", parser=_whole, help="Seed of all that is random.")]
HardOption = Annotated[bool, typer.Option("--hard", help="Hard EM: one corner an image instead of probabilities.")]
SmoothingOption = Annotated[
    float, typer.Option(metavar="A", parser=_real, help="Pseudo-counts spread evenly over all corners.")
]
IterationsOption = Annotated[int, typer.Option(metavar="N", parser=_whole, help="Iterations of a run at most.")]
ToleranceOption = Annotated[
    float, typer.Option(metavar="T", parser=_real, help="Least gain that counts, nats per image.")
]


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
        return _complain(f"{error.format_message()} (jaxem --help, or jaxem fit --help, shows what is expected)")
    except OSError as error:
        return _complain(f"cannot write what was found to the screen or file given for it: {error.strerror or error}")
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:
        print("jaxem: interrupted; nothing was written", file=sys.stderr)
    return code if isinstance(code, int) else 0


def _complain(message: str) -> int:
    print("jaxem: " + " ".join(message.split()), file=sys.stderr)
    return 2


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"jaxem {jaxem.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Recover an unknown template, its background and its places from a stack of noisy images."""


@app.command("demo")
def demo_command(
    out: OutOption = Path("jaxem-demo"),
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
    template_shape: ShapeOption,
    out: OutOption,
    restarts: RestartsOption = DEFAULT.restarts,
    seed: SeedOption = DEFAULT.seed,
    hard: HardOption = DEFAULT.hard,
    prior_smoothing: SmoothingOption = DEFAULT.prior_smoothing,
    max_iterations: IterationsOption = DEFAULT.max_iterations,
    tolerance: ToleranceOption = DEFAULT.tolerance,
    plain: PlainOption = DEFAULT.plain,
) -> int:
    """Find the template hidden in FRAMES.

    Example: jaxem fit frames/ --template-shape 60 40 --out found
    """
    height_and_width = _shape(template_shape)
    images = read_frames(frames)
    options = Options(height_and_width, restarts, seed, hard, prior_smoothing, max_iterations, tolerance, plain)
    _check(options, images.shape[1:])
    console.print(f"{describe_frames(images)} from {frames}")
    found, _ = _search(images, options, out)
    return _exit_code(found)


@app.command("doctor")
def doctor_command() -> int:
    """Show versions, devices and speed, and check that this machine computes rightly.

    Example: jaxem doctor
    """
    for line in describe_machine():
        console.print(line)
    found = selfcheck()
    for line in describe_checks(found):
        console.print(line)
    wrong = [check.name for check in found if not check.passed]
    if not wrong:
        return 0
    print(f"jaxem: this combination of versions and device computes wrongly: {'; '.join(wrong)}", file=sys.stderr)
    return 1


def _shape(words: tuple[str, str]) -> tuple[int, int]:
    try:
        return int(words[0]), int(words[1])
    except ValueError:
        given = " ".join(words)
        raise UserError(f"--template-shape must be two whole numbers as in 60 40, but is {given!r}.") from None


def _check(options: Options, image_shape: tuple[int, ...]) -> None:
    """The library's own checks, its complaints in the command line's spelling."""
    try:
        checks.as_template_shape(options.template_shape, image_shape)
        if options.restarts is not None:
            checks.as_count("restarts", options.restarts, at_least=1, at_most=10**5)
        checks.as_count("seed", options.seed, at_least=0, at_most=2**32 - 1)
        checks.as_count("max_iterations", options.max_iterations, at_least=1, at_most=10**6)
        checks.as_number("prior_smoothing", options.prior_smoothing, np.float32, at_least=0)
        checks.as_number("tolerance", options.tolerance, np.float32, at_least=0)
    except ValueError as error:
        name, _, rest = str(error).partition(" ")
        raise UserError(f"--{name.replace('_', '-')} {rest}") from error


def _search(images: np.ndarray, options: Options, out: Path) -> tuple[Restarts, np.ndarray]:
    """Run, show, write; return what was found and the corner in each image."""
    columns = (TextColumn("runs"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    check_output(out)
    num_starts = options.restarts or (10 if options.plain else 2)
    num_runs = num_starts if options.plain else num_starts + 1  # and the best of them to its top
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task("runs", total=num_runs)

        def report(number: int, ended: Fit) -> None:
            progress.console.print(f"  {describe_run(number, ended, len(images))}")
            progress.advance(bar)

        found = fit_restarts_parallel(
            jax.random.key(options.seed),
            images,
            options.template_shape,
            num_restarts=num_starts,
            hard=options.hard,
            prior_smoothing=options.prior_smoothing,
            max_iterations=options.max_iterations,
            tolerance=options.tolerance,
            search=None if options.plain else DEFAULT_SEARCH,
            report=report,
        )
    best, runs = found.best, found.runs
    corners, winner = locate(images, best.params), int(best_run(runs))
    arrays: dict[str, Any] = {
        **best.params._asdict(),
        "corners": corners,
        "elbo": best.elbo,
        "history": best.history,
        "elbos": runs.elbo,
        "statuses": runs.status,
    }
    with output_folder(out) as folder:
        write_results(folder, arrays, summary_figure(images[0], corners[0], best.params, runs, winner))
    console.print(
        f"best: start {winner + 1}, noise {float(best.params.noise_scale):.4g}, contrast "
        f"{float(found.diagnostics.contrast):.3g}, {float(found.diagnostics.effective_positions):.2f} positions a frame"
    )
    for warning in found.warnings():
        print(f"jaxem: warning: {warning}", file=sys.stderr)
    console.print(f"wrote {out / 'result.npz'} and {out / 'figure.png'}")
    return found, corners


def _exit_code(found: Restarts) -> int:
    if (found.runs.status == Status.CONVERGED).any():
        return 0
    print("jaxem: no run converged; the best of them was written all the same", file=sys.stderr)
    return 3
