"""Where results may go: nothing that is there is replaced unless that was asked for."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from jaxem.runtime.errors import ArgumentValueError
from jaxem.runtime.files import check_output


def expect_new(paths: Iterable[Path], overwrite: bool, argument: str = "out") -> None:
    """Find out before the work whether a result would replace something.

    Raises:
        ArgumentValueError: it would, and that was not asked for.
    """
    there = [path for path in paths if path.exists()]
    if there and not overwrite:
        raise ArgumentValueError(argument, f"would replace {there[0]}; add --overwrite, or choose another place.")


def check_folder(folder: Path, names: Iterable[str], overwrite: bool) -> None:
    """Find out before the work whether files of these names can be written into a folder.

    Raises:
        OutputError: they cannot.
        ArgumentValueError: they would replace others, and that was not asked for.
    """
    check_output(folder)
    expect_new((folder / name for name in names), overwrite)
