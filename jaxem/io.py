"""Frames from files (extra ``app``).

A `FramesError` is a mistake of the person who chose the files; its text is one sentence made to be shown as it is.
Nothing is ever unpickled.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import tifffile

IMAGE_SUFFIXES = (".png", ".tif", ".tiff")
LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey pixel (ITU-R BT.601)."""


class FramesError(ValueError):
    """The frames cannot be used; says which and why."""


def read_frames(path: str | os.PathLike[str]) -> np.ndarray:
    """Read a stack of frames (K, H, W).

    Args:
        path: an ``.npy`` file, an ``.npz`` file with one array or one named ``images`` or ``frames``, or a folder of
            PNG and TIFF files of one frame each, taken in the natural order of their names (2 before 10).

    Returns:
        (K, H, W), in the pixel values of the files: 8- and 16-bit integers keep type and scale; colour becomes grey by
        the weights 0.299, 0.587, 0.114, as float32 on the same scale; transparency is dropped.

    Raises:
        FramesError: nothing there, not readable, not frames, or frames that do not fit together.

    Example:
        >>> import tempfile, pathlib, numpy as np
        >>> from jaxem.io import read_frames
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     stack = pathlib.Path(folder, "stack.npy")
        ...     np.save(stack, np.zeros((3, 10, 12), np.uint8))
        ...     read_frames(stack).shape
        (3, 10, 12)
    """
    path = Path(path)
    try:
        is_folder, exists = path.is_dir(), path.exists()
    except OSError as error:
        raise FramesError(f"{path} cannot be opened: {error.strerror}.") from error
    if is_folder:
        frames = _read_folder(path)
    elif not exists:
        raise FramesError(f"{path} does not exist; give an .npy or .npz file or a folder of PNG or TIFF frames.")
    elif path.suffix.lower() in (".npy", ".npz"):
        frames = _read_numpy(path)
    else:
        raise FramesError(f"{path} is neither a folder of PNG or TIFF frames nor an .npy or .npz file; convert it.")
    return _checked(frames, path)


def _read_folder(folder: Path) -> np.ndarray:
    try:
        visible = [file for file in folder.iterdir() if not file.name.startswith(".")]
    except OSError as error:
        raise FramesError(f"{folder} cannot be opened: {error.strerror}.") from error
    files = sorted((file for file in visible if file.suffix.lower() in IMAGE_SUFFIXES), key=_natural_order)
    if not files:
        raise FramesError(f"{folder} holds no PNG or TIFF files; give the folder that holds the frames themselves.")
    frames: list[np.ndarray] = []
    for file in files:
        pixels = _read_image(file)
        if not frames:
            first, size, kind = file, pixels.shape[:2], pixels.dtype
        if pixels.shape[:2] != size:
            raise FramesError(
                f"frames must be of one size, but {first.name} is {_size(size)} "
                f"and {file.name} is {_size(pixels.shape)}."
            )
        if pixels.dtype != kind:
            raise FramesError(
                f"frames must be of one kind, but {first.name} holds {kind} and {file.name} holds {pixels.dtype}."
            )
        if pixels.ndim == 3 and pixels.shape[2] > 4:
            raise FramesError(f"{file} must be grey or colour, but has {pixels.shape[2]} channels.")
        if not np.isfinite(pixels).all():
            raise FramesError(f"{file} holds NaN or infinite pixels; remove it or mend them.")
        frames.append(_to_grey(pixels) if pixels.ndim == 3 else pixels)
    return np.stack(frames)


def _read_image(file: Path) -> np.ndarray:
    try:
        pixels = _read_tiff(file) if file.suffix.lower() != ".png" else _read_png(file)
    except FramesError:
        raise
    except Exception as error:  # decoders raise whatever they like at a damaged file
        raise FramesError(f"{file} cannot be read as an image ({_first_line(error)}); remove or replace it.") from error
    return pixels.astype(np.uint8) if pixels.dtype == bool else pixels


def _read_tiff(file: Path) -> np.ndarray:
    with tifffile.TiffFile(file) as tiff:
        if len(tiff.pages) != 1:
            raise FramesError(f"{file} holds {len(tiff.pages)} pages; split it into files of one frame each.")
        page = tiff.pages.first
        pixels, axes = page.asarray(), page.axes
        if page.photometric == tifffile.PHOTOMETRIC.PALETTE:
            return np.asarray(page.colormap).T[pixels]
    return np.moveaxis(pixels, 0, -1) if axes == "SYX" else pixels


def _read_png(file: Path) -> np.ndarray:
    with file.open("rb") as stream:
        header = stream.read(26)
    depth, kind = header[24:26] if len(header) == 26 else (8, 0)
    if depth == 16 and kind != 0:  # the usual decoder would quietly keep the upper 8 bits alone
        raise FramesError(f"{file} holds 16-bit colour, which PNG readers cut to 8; save it as TIFF or as 16-bit grey.")
    return imageio.imread(file, index=0)


def _to_grey(pixels: np.ndarray) -> np.ndarray:
    """Grey of (..., 1 to 4 channels): grey, grey and alpha, RGB, RGB and alpha."""
    channels = pixels.shape[-1]
    if channels < 3:
        return pixels[..., 0]
    return pixels[..., :3].astype(np.float32) @ np.array(LUMA, np.float32)


def _read_numpy(path: Path) -> np.ndarray:
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            return loaded
        with loaded:
            names = [name for name in ("images", "frames") if name in loaded.files] or loaded.files
            if len(names) != 1:
                raise FramesError(
                    f"{path} must hold one array or one named 'images' or 'frames', "
                    f"but holds {', '.join(names) or 'none'}."
                )
            return loaded[names[0]]
    except FramesError:
        raise
    except Exception as error:  # whatever a damaged archive or header makes NumPy and zipfile raise
        raise FramesError(
            f"{path} is damaged or no array of numbers ({type(error).__name__}); save it again."
        ) from error


def _checked(frames: np.ndarray, path: Path) -> np.ndarray:
    if frames.dtype.kind not in "buif":
        raise FramesError(f"{path} must hold real numbers, but holds {frames.dtype}.")
    if frames.ndim == 4 and frames.shape[-1] in (3, 4):
        frames = _to_grey(frames)
    if frames.ndim != 3:
        remedy = " Save one frame as frame[None]." if frames.ndim == 2 else ""
        raise FramesError(f"{path} must hold a stack (K, H, W), images first, but its shape is {frames.shape}.{remedy}")
    if 0 in frames.shape:
        raise FramesError(f"{path} holds no pixels: its shape is {frames.shape}.")
    bad = ~np.isfinite(frames).all(axis=(1, 2))
    if bad.any():
        raise FramesError(f"{path}: frame {int(bad.argmax())} (counted from 0) holds NaN or infinite pixels; mend it.")
    return frames


def _natural_order(file: Path) -> list[tuple[int, int, str]]:
    parts = re.split(r"(\d+)", file.name.lower())
    return [(0, int(part), part) if part.isdecimal() else (1, 0, part) for part in parts]


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} x {shape[1]}"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0]
