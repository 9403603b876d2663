"""``jaxem`` and ``python -m jaxem``: the command line, which needs the ``app`` extra."""

from __future__ import annotations

import os
import sys
import traceback

from jaxem.cli.exit_codes import ExitCode
from jaxem.runtime.interruption import Interruption, heard
from jaxem.runtime.supervision import is_watched, last_word, split_off

WITH_OTHERS = ("--distributed", "--coordinator")  # options of a command that works together with other processes


def main() -> None:
    """Run the command line; say in one line what to install where the extra is missing."""
    interruption = Interruption()
    if any(word.split("=")[0] in WITH_OTHERS for word in sys.argv[1:]):
        split_off(ExitCode.PROCESS_LOST)
    try:
        from jaxem.cli.app import run

        code = run(sys.argv[1:])
    except (Exception, KeyboardInterrupt) as error:
        heard()
        if interruption.was_asked_for or isinstance(error, KeyboardInterrupt):
            message, code = "interrupted; nothing was written", ExitCode.INTERRUPTED
        elif isinstance(error, ModuleNotFoundError):
            message, code = f"the command line needs {error.name}; install it with: pip install 'jaxem[app]'", 2
        elif is_watched():
            traceback.print_exc()
            message, code = "", 1
        else:
            raise
        if not last_word(message and f"jaxem: {message}", code):
            print(f"jaxem: {message}", file=sys.stderr)
    heard()  # what was asked for when all was done must not end the interpreter's own clearing up
    sys.stdout.flush()
    sys.stderr.flush()
    if code == ExitCode.INTERRUPTED or is_watched():
        os._exit(code)  # runs still under way in other threads, and processes elsewhere, cannot be asked to stop
    sys.exit(code)


if __name__ == "__main__":
    main()
