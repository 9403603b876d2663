"""The command line: errors, exit codes, and which commands there are (extra ``app``).

Exit codes: 0; 1 when this machine computes wrongly; 2 for a user's error, in one line; 3 when no run converged (the
best is still written); 130 when interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

import jaxem
from jaxem.commands.fitting import demo_command, fit_command
from jaxem.commands.frames import info_command, simulate_command
from jaxem.commands.long_work import InterruptedWithSavingError
from jaxem.commands.options import UserError, console
from jaxem.commands.using import locate_command, plot_command, restore_command
from jaxem.doctor import describe_checks, describe_machine
from jaxem.io import FramesError
from jaxem.journal import CheckpointError
from jaxem.output import OutputError
from jaxem.selfcheck import selfcheck

app = typer.Typer(pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]})

INTERRUPTED = 130  # as shells say it


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    try:
        code = app(args=list(arguments) or ["--help"], prog_name="jaxem", standalone_mode=False)
    except FramesError as error:
        return _complain(f"FRAMES: {error}")
    except OutputError as error:
        return _complain(f"--out: {error}")
    except CheckpointError as error:
        return _complain(f"--checkpoint: {error}")
    except UserError as error:
        return _complain(str(error))
    except typer.TyperException as error:
        return _complain(f"{error.format_message()} (jaxem --help, or jaxem fit --help, shows what is expected)")
    except OSError as error:
        return _complain(f"cannot write what was found to the screen or file given for it: {error.strerror or error}")
    except InterruptedWithSavingError as interruption:
        return _interrupted(str(interruption))
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:
        return _interrupted("interrupted; nothing was written")
    return code if isinstance(code, int) else 0


def _complain(message: str) -> int:
    print("jaxem: " + " ".join(message.split()), file=sys.stderr)
    return 2


def _interrupted(message: str) -> int:
    print(f"jaxem: {message}", file=sys.stderr)
    return INTERRUPTED


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"jaxem {jaxem.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Recover an unknown template, its background and its places from a stack of noisy images."""


app.command("demo")(demo_command)
app.command("info")(info_command)
app.command("fit")(fit_command)
app.command("locate")(locate_command)
app.command("restore")(restore_command)
app.command("simulate")(simulate_command)
app.command("plot")(plot_command)


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
