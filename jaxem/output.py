"""Results to files: whole or not at all (extra ``app``).

An `OutputError` is a mistake of the person who chose the place; its text is one sentence made to be shown as it is.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure


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


def write_results(folder: Path, arrays: Mapping[str, Any], figure: Figure) -> None:
    """Write ``result.npz`` (loads without pickle) and ``figure.png``."""
    plain: dict[str, Any] = {name: np.asarray(array) for name, array in arrays.items()}
    np.savez_compressed(folder / "result.npz", **plain)
    figure.savefig(folder / "figure.png", dpi=110)
