"""Frames in files of one each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jaxem.io.readers.pictures import JPEG_MAGIC, PNG_MAGIC, read_jpeg, read_png
from jaxem.io.readers.source import FramesError, not_finite, reading, regular_size
from jaxem.io.readers.tiff import read_single_tiff

TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff")
COMPLAINT = "cannot be read as an image ({}); remove or replace it."


@dataclass
class FolderSource:
    """Image files of one frame each, opened when they are asked for."""

    files: Sequence[Path]
    nan_missing: bool = False
    first: np.ndarray = field(init=False)
    stored_bytes: int | None = None  # each file is held against its own size

    def __post_init__(self) -> None:
        self.first = read_image(self.files[0], self.nan_missing)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.files), *self.first.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.first.dtype

    def read(self, numbers: range, rows: slice, columns: slice) -> np.ndarray:
        frames = [self._read_one(number)[rows, columns] for number in numbers]
        if any(frame.ndim == 3 for frame in frames):  # grey among colour: three equal channels
            frames = [frame[..., :3] if frame.ndim == 3 else np.stack([frame] * 3, axis=-1) for frame in frames]
        return np.stack(frames)

    def _read_one(self, number: int) -> np.ndarray:
        if number == 0:
            return self.first
        file, first = self.files[number], self.files[0]
        pixels = read_image(file, self.nan_missing)
        if pixels.shape[:2] != self.first.shape[:2]:
            raise FramesError(
                f"frames must be of one size, but {first.name} is {_size(self.first.shape)} "
                f"and {file.name} is {_size(pixels.shape)}."
            )
        if pixels.dtype != self.first.dtype:
            raise FramesError(
                f"frames must be of one kind, but {first.name} holds {self.first.dtype} "
                f"and {file.name} holds {pixels.dtype}."
            )
        return pixels


def read_image(file: Path, nan_missing: bool = False) -> np.ndarray:
    """The pixels of one image file, recognised by its content: (H, W) or (H, W, 3 or 4)."""
    with reading(file, COMPLAINT):
        regular_size(file)
        with file.open("rb") as stream:
            start = stream.read(8)
        if start == PNG_MAGIC:
            pixels = read_png(file)
        elif start.startswith(JPEG_MAGIC):
            pixels = read_jpeg(file)
        elif start.startswith(TIFF_MAGIC):
            pixels = read_single_tiff(file)
        else:
            raise FramesError(f"{file} cannot be read as an image (neither PNG, JPEG nor TIFF); remove or replace it.")
        if pixels.dtype.kind == "f" and (np.isinf(pixels) if nan_missing else ~np.isfinite(pixels)).any():
            raise FramesError(f"{file} {not_finite(nan_missing)}; remove it or mend them.")
    return pixels


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
