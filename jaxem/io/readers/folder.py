"""Frames in files of one each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxem.io.readers.elsewhere import name_of
from jaxem.io.readers.pictures import open_picture
from jaxem.io.readers.source import About, FramesError, not_finite, reading, regular_size
from jaxem.io.readers.tiff import read_single_tiff
from jaxem.runtime.text import plural

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", ".pgm", ".ppm", ".pnm")
PICTURES = ("PNG", "JPEG", "TIFF", "WebP", "BMP", "PGM", "PPM")
COMPLAINT = "cannot be read as an image ({}); remove or replace it."


class Image(NamedTuple):
    """The pixels in a file of one frame, (H, W) or (H, W, C), and what it says of them."""

    pixels: np.ndarray
    about: About


@dataclass
class FolderSource:
    """Image files of one frame each, opened when they are asked for."""

    files: Sequence[Path]
    nan_missing: bool = False
    first: np.ndarray = field(init=False)
    stored_bytes: int | None = None  # each file is held against its own size
    noted: dict[str, set[Path]] = field(default_factory=dict)  # what is to be said of which files
    seen: set[Path] = field(default_factory=set)
    is_colour: bool = True

    def __post_init__(self) -> None:
        self.first = self._pixels(self.files[0])

    @property
    def about(self) -> About:
        least = "" if len(self.seen) == len(self.files) else "at least "
        notes = [f"{least}{plural(len(files), 'frame')}: {note}" for note, files in self.noted.items()]
        notes = notes if len(self.files) > 1 else list(self.noted)
        return About(is_colour=self.is_colour, notes=tuple(notes))

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.files), *self.first.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.first.dtype

    def read(self, numbers: range, rows: slice, columns: slice) -> np.ndarray:
        frames = [self._read_one(number)[rows, columns] for number in numbers]
        if len({frame.shape[2:] for frame in frames}) > 1:  # grey among colour: three equal channels
            frames = [frame[..., :3] if frame.ndim == 3 else np.stack([frame] * 3, axis=-1) for frame in frames]
        return np.stack(frames)

    def _pixels(self, file: Path) -> np.ndarray:
        pixels, about = read_image(file, self.nan_missing)
        self.seen.add(file)
        for note in about.notes:
            self.noted.setdefault(note, set()).add(file)
        self.is_colour &= about.is_colour
        return pixels

    def _read_one(self, number: int) -> np.ndarray:
        if number == 0:
            return self.first
        file, first = self.files[number], self.files[0]
        pixels = self._pixels(file)
        if pixels.shape[:2] != self.first.shape[:2]:
            raise FramesError(
                f"frames must be of one size, but {first.name} is {_size(self.first.shape)} "
                f"and {file.name} is {_size(pixels.shape)}."
            )
        channels = [1 if one.ndim == 2 else one.shape[2] for one in (self.first, pixels)]
        if channels[0] != channels[1] and not {*channels} <= {1, 3, 4}:
            raise FramesError(
                f"frames must be of one kind, but {first.name} has {channels[0]} channels and {file.name} has "
                f"{channels[1]}."
            )
        if pixels.dtype != self.first.dtype:
            raise FramesError(
                f"frames must be of one kind, but {first.name} holds {self.first.dtype} "
                f"and {file.name} holds {pixels.dtype}."
            )
        return pixels


def read_image(file: Path, nan_missing: bool = False) -> Image:
    """One image file, recognised by its content.

    Raises:
        FramesError: damaged, none of the known kinds, or with pixels that are no numbers.
    """
    with reading(file, COMPLAINT):
        regular_size(file)
        with file.open("rb") as stream:
            start = stream.read(1024)
        if start.startswith(TIFF_MAGIC):
            image = Image(*read_single_tiff(file))
        else:
            picture = open_picture(file)
            if picture is None and (known := name_of(start)) is not None:
                raise FramesError(f"{file} {known}")
            if picture is None:
                what = ", ".join(PICTURES)
                raise FramesError(f"{file} cannot be read as an image (none of {what}); remove or replace it.")
            notes = picture.notes
            if picture.count > 1:
                notes = (*notes, "holds further pictures, of which the first is taken")
            image = Image(picture.pixels, About(notes=notes))
        pixels = image.pixels
        if pixels.dtype.kind == "f" and (np.isinf(pixels) if nan_missing else ~np.isfinite(pixels)).any():
            raise FramesError(f"{file} {not_finite(pixels)}, or remove the file.")
    return image


def frames_in(folder: Path) -> list[Path]:
    """The image files in a folder, in the natural order of their names (2 before 10)."""
    visible = [file for file in folder.iterdir() if not file.name.startswith(".")]
    return sorted((file for file in visible if file.suffix.lower() in SUFFIXES), key=natural_order)


def natural_order(file: Path) -> list[list[tuple[int, int, str]]]:
    """A key by which frame2 comes before frame10, and all of run2 before run10."""

    def key(name: str) -> list[tuple[int, int, str]]:
        parts = re.split(r"(\d+)", name.lower())
        return [(0, int(part), part) if part.isdecimal() and len(part) < 1000 else (1, 0, part) for part in parts]

    return [key(name) for name in file.parts]


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} x {shape[1]}"
