"""The command line: which commands there are, exit codes, and errors in one line (extra ``app``).

Exit codes: 0; 1 when this machine computes wrongly; 2 for a user's error, in one line; 3 when no run converged,
4 when the detection test found nothing (in both cases the best is still written); 5 when another of several processes
has ended or cannot be reached; 130 when interrupted.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

import jaxem
from jaxem.cli.commands import COMMANDS
from jaxem.cli.exit_codes import ExitCode
from jaxem.cli.parameters import spelling, with_pairs
from jaxem.cli.text import InterruptedRunError
from jaxem.runtime.errors import ArgumentError, ProcessesError
from jaxem.runtime.interruption import heard
from jaxem.runtime.supervision import last_word


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # names of files may hold what a terminal cannot show
            stream.reconfigure(errors="backslashreplace")
    try:
        code = app(args=with_pairs(arguments) or ["--help"], prog_name="jaxem", standalone_mode=False)
    except ArgumentError as error:
        return _end(ExitCode.USERS_ERROR, _spelled(error))
    except typer.TyperException as error:
        return _end(
            ExitCode.USERS_ERROR, f"{error.format_message()} ({_command(arguments)} --help shows what is expected)"
        )
    except OSError as error:
        problem = f"cannot write what was found to the screen or file given for it: {error.strerror or error}"
        return _end(ExitCode.USERS_ERROR, problem)
    except ProcessesError as error:
        return _end(ExitCode.PROCESS_LOST, str(error))
    except InterruptedRunError as interruption:
        return _end(interruption.exit_code, str(interruption))
    except (KeyboardInterrupt, typer.Abort):
        heard()
        code = ExitCode.INTERRUPTED
    if code == ExitCode.INTERRUPTED:
        return _end(ExitCode.INTERRUPTED, "interrupted; nothing was written")
    return code if isinstance(code, int) else 0


def _spelled(error: ArgumentError) -> str:
    """The error with its argument as the command line calls it; a problem may be a sentence of its own."""
    name = spelling(error.argument)
    return f"{name}: {error.problem}" if str(error) == error.problem else f"{name} {error.problem}"


def _command(arguments: Sequence[str]) -> str:
    """The command that was mistyped, as far as it was understood."""
    known = [command.__name__ for command in COMMANDS]
    return " ".join(["jaxem", *[word for word in arguments[:1] if word in known]])


def _end(code: int, message: str) -> int:
    line = "jaxem: " + " ".join(message.split())
    if not last_word(line, code):
        print(line, file=sys.stderr)
    return code


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"jaxem {jaxem.__version__}")
        raise typer.Exit


def _common(
    version: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show it.")] = False,
) -> None:
    """Recover an unknown template, its background and its places from a stack of noisy images."""


app = typer.Typer(pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]})
app.callback()(_common)
for command in COMMANDS:
    app.command()(command)
