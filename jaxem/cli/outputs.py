"""Where results may go, where nothing is replaced unless that was asked for; and what they say they are of."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxem.cli.parameters import spelling
from jaxem.runtime.errors import ArgumentValueError
from jaxem.runtime.files import check_output

if TYPE_CHECKING:
    from jaxem.cli.claims import FittedFrames


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


def about_frames(frames: FittedFrames) -> dict[str, Any]:
    """What the result is of: the frames by number and name, what was left out of them, and what was asked for."""
    about = {
        "source": _shown(frames.source),
        "frame_numbers": np.array(frames.numbers),
        "excluded": frames.excluded,
        "options": json.dumps({spelling(name): value for name, value in asdict(frames.request).items()}),
    }
    return about if frames.names is None else about | {"frame_names": [_shown(name) for name in frames.names]}


def _shown(text: str) -> str:
    """Names of files may hold what is no text."""
    return text.encode("utf-8", "backslashreplace").decode()
