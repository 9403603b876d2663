"""``jaxem`` and ``python -m jaxem``: the command line, which needs the ``app`` extra."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

from jaxem.cli.text import INTERRUPTED


class Interruption:
    """Lets both ways of asking to stop end in a `KeyboardInterrupt`, and remembers that there was one.

    Compiled modules that are interrupted while they are imported raise something else in its place.
    """

    def __init__(self) -> None:
        self.was_asked_for = False
        signal.signal(signal.SIGTERM, self)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # shells let jobs in the background ignore it
            signal.signal(signal.SIGINT, self)

    def __call__(self, number: int, frame: Any) -> None:
        self.was_asked_for = True
        raise KeyboardInterrupt


def main() -> None:
    """Run the command line; say in one line what to install where the extra is missing."""
    interruption = Interruption()
    try:
        from jaxem.cli.app import run

        code = run(sys.argv[1:])
    except (Exception, KeyboardInterrupt) as error:
        if interruption.was_asked_for or isinstance(error, KeyboardInterrupt):
            message, code = "interrupted; nothing was written", INTERRUPTED
        elif isinstance(error, ModuleNotFoundError):
            message, code = f"the command line needs {error.name}; install it with: pip install 'jaxem[app]'", 2
        else:
            raise
        print(f"jaxem: {message}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    if code == INTERRUPTED:
        os._exit(code)  # runs still under way in other threads cannot be asked to stop
    sys.exit(code)


if __name__ == "__main__":
    main()
