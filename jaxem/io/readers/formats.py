"""Files of frames, whatever their form: which form it is, and one reader for each (extra ``app``)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from jaxem.io.readers.folder import COMPLAINT, TIFF_MAGIC, FolderSource
from jaxem.io.readers.hdf5 import open_hdf5
from jaxem.io.readers.mrc import open_mrc
from jaxem.io.readers.numpy_files import open_npy, open_npz
from jaxem.io.readers.pictures import JPEG_MAGIC, PNG_MAGIC
from jaxem.io.readers.source import FramesError, Source, reading, regular_size
from jaxem.io.readers.tiff import open_tiff
from jaxem.io.readers.video import open_video
from jaxem.io.readers.zarr_store import is_zarr, open_zarr

ACCEPTED = (
    "a folder or pattern of PNG, JPEG or TIFF frames, an .npy or .npz file, a TIFF, MRC, HDF5 or Zarr stack, or a video"
)
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
HDF5_PLACES = [0, *(512 << doubling for doubling in range(16))]
VIDEO_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
VIDEO_MAGIC = (b"\x1aE\xdf\xa3", b"GIF8", b"OggS", b"0&\xb2u", b"FLV", b"\0\0\1\xba", b"\0\0\1\xb3", b"YUV4MPEG2")
BY_SUFFIX = {
    **dict.fromkeys((".mrc", ".mrcs", ".map", ".st", ".ali", ".rec"), "mrc"),
    **dict.fromkeys((".png", ".jpg", ".jpeg"), "image"),
    **dict.fromkeys((".tif", ".tiff"), "tiff"),
    **dict.fromkeys((".h5", ".hdf5", ".hdf", ".nxs", ".he5"), "hdf5"),
    **dict.fromkeys((".mp4", ".m4v", ".avi", ".mkv", ".mov", ".webm", ".gif", ".mpg", ".mpeg", ".ts", ".mts"), "video"),
    **dict.fromkeys((".wmv", ".flv", ".ogv", ".3gp", ".y4m", ".m2ts"), "video"),
    ".npy": "npy",
    ".npz": "npz",
}
NAMED = ("npz", "hdf5", "zarr")
"""Forms with several arrays in them, each with a name."""
COMPLAINTS = {
    "npy": "is damaged or no array of numbers ({}); save it again.",
    "npz": "is damaged or no array of numbers ({}); save it again.",
    "image": COMPLAINT,
    "tiff": COMPLAINT,
    "mrc": "cannot be read as an MRC stack ({}); replace it.",
    "hdf5": "cannot be read as HDF5 ({}); replace it.",
    "zarr": "cannot be read as Zarr ({}); replace it.",
    "video": "cannot be read as a video ({}); replace it.",
}


@contextmanager
def open_source(path: Path, name: str | None, *, whole_grey: bool) -> Iterator[Source]:
    """Open the frames in one file, or in the folder of a Zarr array.

    Args:
        path: what to open; its form is recognised by its content, and by its suffix only where that tells nothing.
        name: which of several arrays.
        whole_grey: a video is decoded to its luma, and not to its colours.

    Yields:
        The frames, of which nothing has been read yet but what the file says of them.

    Raises:
        FramesError: not readable, damaged, or in no form that is known; also for what happens inside the block.
    """
    form = "zarr" if path.is_dir() else recognise(path)
    if name is not None and form not in NAMED:
        raise FramesError(f"{path} holds no arrays with names; leave out ::{name}.")
    openers: dict[str, Any] = {
        "npy": open_npy,
        "npz": open_npz,
        "image": _open_image,
        "tiff": open_tiff,
        "mrc": open_mrc,
        "hdf5": open_hdf5,
        "zarr": open_zarr,
        "video": partial(open_video, whole_grey=whole_grey),
    }
    with reading(path, COMPLAINTS[form]), openers[form](path, name) as source:
        yield source


@contextmanager
def open_files(files: Sequence[Path]) -> Iterator[Source]:
    """Open image files of one frame each; the same errors."""
    with reading(files[0], COMPLAINT):
        yield FolderSource(files)


@contextmanager
def _open_image(path: Path, name: str | None) -> Iterator[Source]:
    yield FolderSource([path])


def recognise(path: Path) -> str:
    """The form of a file.

    Raises:
        FramesError: none that is known, or not readable.
    """
    size = regular_size(path)
    with reading(path, "cannot be opened: {}."), path.open("rb") as stream:
        start = stream.read(1024)
        places = [place for place in HDF5_PLACES if place < size]
        is_hdf5 = any(stream.seek(place) == place and stream.read(8) == HDF5_MAGIC for place in places)
    form = "hdf5" if is_hdf5 else _by_content(start) or BY_SUFFIX.get(path.suffix.lower())
    if form is None:
        raise FramesError(f"{path} is neither {ACCEPTED.replace(', or ', ', nor ')}; convert it.")
    return form


def _by_content(start: bytes) -> str | None:
    if start.startswith(b"\x93NUMPY"):
        return "npy"
    if start.startswith((b"PK\3\4", b"PK\5\6")):
        return "npz"
    if start.startswith((PNG_MAGIC, JPEG_MAGIC)):
        return "image"
    if start.startswith(TIFF_MAGIC):
        return "tiff"
    if start[208:211] == b"MAP":
        return "mrc"
    is_riff = start[:4] == b"RIFF" and start[8:12] == b"AVI "
    is_transport = start[:1] == b"G" and start[188:189] == b"G" and start[376:377] == b"G"
    if start.startswith(VIDEO_MAGIC) or start[4:8] in VIDEO_BOXES or is_riff or is_transport:
        return "video"
    return None


__all__ = ["ACCEPTED", "FramesError", "Source", "is_zarr", "open_files", "open_source"]
