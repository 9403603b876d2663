"""``jaxem`` and ``python -m jaxem``: the command line, which needs the ``app`` extra."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; say in one line what to install where the extra is missing."""
    try:
        from jaxem.cli import run
    except ModuleNotFoundError as error:
        print(f"jaxem: the command line needs {error.name}; install it with: pip install 'jaxem[app]'", file=sys.stderr)
        sys.exit(2)
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
