"""``jaxem`` and ``python -m jaxem``: the command line, which needs the ``app`` extra."""

from __future__ import annotations

import os
import signal
import sys


def main() -> None:
    """Run the command line; say in one line what to install where the extra is missing."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both ways of asking to stop clean up behind them
    try:
        from jaxem.cache import keep_compiled_programs
        from jaxem.cli import run

        keep_compiled_programs()
        code = run(sys.argv[1:])
    except ModuleNotFoundError as error:
        print(f"jaxem: the command line needs {error.name}; install it with: pip install 'jaxem[app]'", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        code = 130
    sys.stdout.flush()
    sys.stderr.flush()
    if code == 130:
        os._exit(code)  # runs still under way in other threads cannot be asked to stop
    sys.exit(code)


if __name__ == "__main__":
    main()
