"""Where frames are: a file and the name of an array in it, or files of one frame each."""

from __future__ import annotations

import difflib
import glob
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxem.io.readers.folder import PICTURES, frames_in, natural_order
from jaxem.io.readers.formats import ACCEPTED, is_zarr, recognise
from jaxem.io.readers.source import FramesError, cannot_open
from jaxem.runtime.text import listed

LIKE = 0.8  # how alike names are of which one may be a slip for the other, from 0 to 1
Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]


def locate(path: Paths) -> tuple[Any, str | None]:
    """A file or Zarr folder and the name of the array in it, or (place, image files)."""
    if not isinstance(path, str | os.PathLike):
        several = [Path(one) for one in path]
        return locate(several[0]) if len(several) == 1 else ((_place_of(several), _checked(several)), None)
    text = os.fspath(path)
    place = Path(text)
    name = None
    try:
        exists = place.exists()
        if not exists and not os.path.lexists(place) and "::" in text:
            text, name = text.split("::", 1)
            place = Path(text)
            exists = place.exists()
        if exists and (not place.is_dir() or is_zarr(place)):
            return place, name
        if exists:
            if name is not None:
                raise FramesError(f"{place} holds no arrays with names; leave out ::{name}.")
            files = frames_in(place)
            kinds = ", ".join(PICTURES)
            what = f"holds no pictures of one frame each ({kinds}; folders in it are not searched){_others(place)}"
        elif os.path.lexists(place):
            os.stat(place)  # says what is wrong with the link
            raise FramesError(f"{place} cannot be opened.")
        elif glob.has_magic(text):
            files, what = sorted(map(Path, glob.glob(text)), key=natural_order), "matches no files; look at the pattern"
        else:
            raise FramesError(f"{place} does not exist; {_remedy(place)}")
    except FramesError:
        raise
    except (OSError, ValueError) as error:
        raise cannot_open(place, error) from error
    if not files:
        raise FramesError(f"{place} {what}.")
    return (place, files), None


def _remedy(place: Path) -> str:
    """What to give in place of a file that is not there."""
    there = [file.name for file in place.parent.iterdir()] if place.parent.is_dir() else []
    close = difflib.get_close_matches(place.name, there, 1, LIKE)
    return f"did you mean {place.with_name(close[0])}?" if close else f"give {ACCEPTED}."


def _place_of(files: Sequence[Path]) -> Path:
    """What a list of files is called."""
    return Path(os.path.commonpath([file.absolute().parent for file in files])) if files else Path()


def _checked(files: list[Path]) -> list[Path]:
    """A list of files of one frame each, in natural order, as a pattern gives them."""
    if not files:
        raise FramesError("there must be at least one file.")
    for file in files:
        if not file.exists():
            raise FramesError(f"{file} does not exist; of several FRAMES each must be a file of one frame.")
        if file.is_dir():
            raise FramesError(f"{file} is a folder; give one folder alone, or several files of one frame each.")
    form = recognise(files[0])
    if form not in ("image", "tiff"):
        raise FramesError(
            f"{files[0]} is no picture; give one {form} file alone, or several pictures of one frame each."
        )
    return sorted(files, key=natural_order)


def _others(folder: Path) -> str:
    """What a folder without pictures holds instead."""
    kinds = Counter(file.suffix for file in folder.iterdir() if file.suffix and not file.name.startswith("."))
    return (
        "; there are " + listed([f"{count} of {suffix}" for suffix, count in kinds.most_common()], 3) if kinds else ""
    )
