"""Results to files: whole or not at all (extra ``app``).

An `OutputError` is a mistake of the person who chose the place; its text is one sentence made to be shown as it is.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from matplotlib.figure import Figure

from jaxem.restarts import Restarts
from jaxem.results import save

DPI = 110


class OutputError(OSError):
    """The results cannot be written; says where and why."""


@contextmanager
def output_folder(folder: Path) -> Iterator[Path]:
    """A place to write into that becomes `folder`'s content at the end, or leaves no trace.

    Yields:
        An empty folder inside `folder`. When the block ends well, its files move to `folder`, each replacing one of the
        same name; when it ends otherwise, nothing is left that was not there before.

    Raises:
        OutputError: `folder` cannot be made or written.
    """
    missing: list[Path] = []
    staging: Path | None = None
    try:
        try:
            missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
            folder.mkdir(parents=True, exist_ok=True)
            staging = Path(tempfile.mkdtemp(prefix=".jaxem-", dir=folder))
            yield staging
            files = sorted(staging.iterdir())
            for file in files:
                if (folder / file.name).is_dir():
                    raise IsADirectoryError(21, f"{file.name} there is a folder")
            for file in files:
                file.replace(folder / file.name)
        except OSError as error:
            reason = error.strerror or str(error)
            raise OutputError(f"cannot write to {folder} ({reason}); choose another folder.") from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
        for made in missing:
            if made.is_dir() and not any(made.iterdir()):
                made.rmdir()


def check_output(folder: Path) -> None:
    """Find out before the work whether `output_folder` will succeed after it; leaves no trace.

    Raises:
        OutputError: it will not.
    """
    with output_folder(folder):
        pass


@contextmanager
def output_file(path: Path) -> Iterator[Path]:
    """A place for one file that becomes `path` at the end, or leaves no trace; as `output_folder`."""
    with output_folder(path.parent) as folder:
        yield folder / path.name


def check_output_file(path: Path) -> None:
    """`check_output` for one file.

    Raises:
        OutputError: it cannot be written, or a folder is in its way.
    """
    if path.is_dir():
        raise OutputError(f"{path} is a folder; give the name of a file.")
    check_output(path.parent)


def write_results(folder: Path, found: Restarts, figure: Figure) -> None:
    """Write ``result.npz``, which `jaxem.load` reads, and ``figure.png``."""
    save(folder / "result.npz", found)
    figure.savefig(folder / "figure.png", dpi=DPI)
