"""Frames to files: a folder of PNG, a TIFF of several pages, MRC, NumPy's ``.npy``, or a video (extra ``app``).

Files of whole numbers hold pixel values as they are, rounded and cut to what the type holds. Where values need not fit,
they are scaled; `pixels_for` says how.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from jaxem.io.readers.source import library

TIFF, VIDEO = (".tif", ".tiff"), (".mp4", ".avi", ".mkv", ".gif")
MRC = (".mrc", ".mrcs")
MRC_MODES = {np.dtype(np.int8): 0, np.dtype(np.int16): 1, np.dtype(np.float32): 2, np.dtype(np.uint16): 6}
LOSSLESS = {".avi": "ffv1", ".mkv": "ffv1", ".gif": "gif"}
STORED_COLOUR = {"ffv1": "bgr0", "gif": "rgb8"}
HIGH_QUALITY = {"crf": "12"}
CLASSIC_TIFF = 2**32 - 2**25  # bytes that its offsets reach


Limits = tuple[float, float]  # the lowest and the highest of some pixel values


@dataclass(frozen=True)
class Pixels:
    """How pixel values become numbers in a file: rounded, cut and stretched, or as they are.

    Args:
        dtype: of the file.
        low: the pixel value that becomes 0, where values are stretched.
        high: the pixel value that becomes the largest number of the type; None where values are not stretched.
        shade: what pixels are called.
    """

    dtype: np.dtype[Any]
    low: float = 0.0
    high: float | None = None
    shade: str = "grey"

    def __call__(self, frame: np.ndarray) -> np.ndarray:
        """A frame as the file holds it."""
        if self.dtype.kind == "f":
            return frame.astype(self.dtype)
        limits = np.iinfo(self.dtype)
        values = frame.astype(np.float64)
        if self.high is not None:
            values = (values - self.low) * (limits.max / max(self.high - self.low, np.finfo(np.float64).tiny))
        return np.clip(np.nan_to_num(np.rint(values)), limits.min, limits.max).astype(self.dtype)

    def describe(self) -> str:
        """What a reader of the file has to know of its numbers."""
        kind = f"{8 * self.dtype.itemsize}-bit"
        if self.high is None:
            return f"{self.dtype} pixel values"
        return f"{kind} {self.shade}, 0 for {self.low:.6g} and {np.iinfo(self.dtype).max} for {self.high:.6g}"


def pixels_for(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], limits: Limits, extremes: Callable[[], Limits]
) -> Pixels:
    """How pixels are kept in a file of this name.

    Args:
        path: where they shall go; its suffix tells the form.
        shape: (K, H, W) or (K, H, W, C), of them all.
        dtype: that they should have, if the file can hold it.
        limits: the lowest of the values to write, and the highest.
        extremes: gives those of the frames that they shall look like; asked only where it matters.
    """
    is_whole, has_channels = dtype.kind in "iu", len(shape) == 4
    shade = "colour" if has_channels else "grey"
    if path.suffix.lower() == ".npy" or path.suffix.lower() in TIFF:
        return Pixels(dtype if is_whole else np.dtype(np.float32))
    if path.suffix.lower() in MRC:
        known = np.dtype(np.uint16) if dtype == np.uint8 else dtype
        return Pixels(known if is_whole and known in MRC_MODES else np.dtype(np.float32))
    most = 0
    if is_whole:
        lowest, highest = (0, np.iinfo(dtype).max) if dtype in (np.uint8, np.uint16) else extremes()
        most = 2**31 if lowest < 0 else int(max(highest, 0))
    if is_whole and most < 2**8:
        return Pixels(np.dtype(np.uint8))
    if path.suffix.lower() in VIDEO or has_channels:  # what writes PNG knows no colour of 16 bits
        return Pixels(np.dtype(np.uint8), *limits, shade)
    return Pixels(np.dtype(np.uint16)) if is_whole and most < 2**16 else Pixels(np.dtype(np.uint16), *limits)


def is_single_file(path: Path) -> bool:
    """Whether frames of this name go to one file and not to a folder."""
    return path.suffix.lower() in (*TIFF, *MRC, *VIDEO, ".npy")


def can_hold(path: Path, channels: int | None) -> bool:
    """Whether a file of this name holds frames of so many channels; None: grey ones."""
    suffix = path.suffix.lower()
    return channels is None or suffix == ".npy" or (channels == 3 and suffix not in MRC)


def frame_names(numbers: Iterable[int]) -> list[str]:
    """Names of PNG files whose order is that of the numbers."""
    numbers = list(numbers)
    digits = max(4, len(str(max(numbers, default=0))))
    return [f"frame_{number:0{digits}}.png" for number in numbers]


def write_frames(
    path: Path,
    frames: Iterable[np.ndarray],
    pixels: Pixels,
    shape: tuple[int, ...],
    names: Sequence[str],
    fps: float,
) -> None:
    """Write frames one by one.

    Args:
        path: a file of a known suffix, or an empty folder.
        frames: (H, W) or (H, W, C) each, pixel values.
        pixels: how they become numbers.
        shape: (K, H, W) or (K, H, W, C) of them all.
        names: of each frame in a folder.
        fps: frames a second of a video.
    """
    converted = (pixels(frame) for frame in frames)
    suffix = path.suffix.lower()
    writers: dict[str, Callable[[], None]] = {
        **dict.fromkeys(TIFF, lambda: _write_tiff(path, converted, shape, pixels.dtype)),
        **dict.fromkeys(VIDEO, lambda: _write_video(path, converted, shape, fps)),
        ".npy": lambda: _write_npy(path, converted, shape, pixels.dtype),
        **dict.fromkeys(MRC, lambda: _write_mrc(path, converted, shape, pixels.dtype)),
    }
    writers.get(suffix, lambda: _write_folder(path, converted, names))()


def _write_folder(folder: Path, frames: Iterator[np.ndarray], names: Sequence[str]) -> None:
    image = library("PIL.Image", folder)
    for frame, name in zip(frames, names, strict=True):
        image.fromarray(frame).save(folder / name)


def _write_tiff(path: Path, frames: Iterator[np.ndarray], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    tifffile = library("tifffile", path)
    photometric = "minisblack" if len(shape) == 3 else "rgb"
    big = int(np.prod(shape, dtype=object)) * dtype.itemsize > CLASSIC_TIFF
    with tifffile.TiffWriter(path, bigtiff=big) as writer:
        for frame in frames:
            writer.write(frame, photometric=photometric, contiguous=False, metadata=None)


def _write_mrc(path: Path, frames: Iterator[np.ndarray], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    mrcfile = library("mrcfile", path)
    with mrcfile.new_mmap(path, shape, MRC_MODES[dtype], overwrite=True) as file:
        for number, frame in enumerate(frames):
            file.data[number] = frame
        file.update_header_stats()
        file.set_image_stack()


def _write_npy(path: Path, frames: Iterator[np.ndarray], shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    with path.open("wb") as stream:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        for frame in frames:
            stream.write(np.ascontiguousarray(frame).data)


def _write_video(path: Path, frames: Iterator[np.ndarray], shape: tuple[int, ...], fps: float) -> None:
    """Without loss where the container allows; in MP4 as players know it, with a loss that is hardly seen.

    A GIF holds no more than 256 colours.
    """
    av = library("av", path)
    height, width = shape[1:3]
    form, stored = ("gray", {}) if len(shape) == 3 else ("rgb24", STORED_COLOUR)
    codec = LOSSLESS.get(path.suffix.lower(), "libx264")
    with av.open(f"file:{path.absolute()}", "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1000))
        stream.width, stream.height, stream.pix_fmt = width, height, stored.get(codec, "gray")
        if codec == "libx264":
            stream.pix_fmt = "yuv420p" if height % 2 == 0 == width % 2 else "yuv444p"  # halves need even sides
            stream.options = HIGH_QUALITY
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format=form)))
        container.mux(stream.encode())
