"""Files that are whole or not there at all, whatever ends the program.

An `OutputError` is a mistake of the person who chose the place; its text is one sentence made to be shown as it is.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jaxem.runtime.errors import OutputError


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file so that after a crash it is whole or not there."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(data)
        publish(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def publish(draft: Path, path: Path) -> None:
    """Put a finished file in its place, so that both its content and its name outlast a crash."""
    _sync(draft)
    draft.replace(path)
    if hasattr(os, "O_DIRECTORY"):
        _sync(path.parent)


def _sync(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


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
                publish(file, folder / file.name)
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
