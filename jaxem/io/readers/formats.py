"""Files of frames, whatever their form: which form it is, and one reader for each (extra ``app``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from jaxem.io.readers.elsewhere import name_of
from jaxem.io.readers.folder import COMPLAINT, TIFF_MAGIC, FolderSource
from jaxem.io.readers.hdf5 import open_hdf5
from jaxem.io.readers.mrc import open_mrc
from jaxem.io.readers.numpy_files import open_npy, open_npz
from jaxem.io.readers.pictures import FORMS, PicturesSource, open_picture
from jaxem.io.readers.pnm import MAGIC as PNM_MAGIC
from jaxem.io.readers.source import FramesError, Guarded, Source, reading, regular_size
from jaxem.io.readers.tiff import open_tiff
from jaxem.io.readers.video import open_video
from jaxem.io.readers.zarr_store import is_zarr, open_zarr

ACCEPTED = (
    "a folder or pattern of PNG, JPEG, TIFF, WebP, BMP or PGM frames, an .npy or .npz file, a TIFF, MRC, HDF5 or Zarr "
    "stack, or a video"
)
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
HDF5_PLACES = [0, *(512 << doubling for doubling in range(16))]
VIDEO_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
VIDEO_MAGIC = (b"\x1aE\xdf\xa3", b"GIF8", b"OggS", b"0&\xb2u", b"FLV", b"\0\0\1\xba", b"\0\0\1\xb3", b"YUV4MPEG2")
UNREADABLE = "cannot be read as {form} ({{}}); replace it."
NO_NUMBERS = "is damaged or no array of numbers ({}); save it again."


def _is_video(start: bytes) -> bool:
    is_riff = start[:4] == b"RIFF" and start[8:12] == b"AVI "
    is_transport = start[:1] == b"G" and start[188:189] == b"G" and start[376:377] == b"G"
    return start.startswith(VIDEO_MAGIC) or start[4:8] in VIDEO_BOXES or is_riff or is_transport


def _is_picture(start: bytes) -> bool:
    is_pnm = start.startswith(PNM_MAGIC) and start[2:3].isspace()
    return is_pnm or any(recognises(start) for _, recognises, _ in FORMS)


@contextmanager
def _open_image(path: Path, name: str | None, nan_missing: bool) -> Iterator[Source]:
    """One picture, or those of an animation."""
    picture = open_picture(path)
    if picture is None or picture.count == 1:
        yield FolderSource([path], nan_missing)
    else:
        yield PicturesSource(path, picture)


class Format(NamedTuple):
    """A format of frames.

    ===========  =================================================================================================
    field        meaning
    ===========  =================================================================================================
    opener       gets a path and the name of an array or None, and gives a context with a `Source`
    complaint    what is wrong with a file that the opener fails on, with a place for what the library says
    suffixes     by which a file is recognised whose content tells nothing
    begins_with  what its files begin with; or a function of a file's first 1024 bytes that tells
    has_names    whether a file may hold several arrays, each with a name
    ===========  =================================================================================================
    """

    opener: Callable[..., Any]
    complaint: str
    suffixes: tuple[str, ...] = ()
    begins_with: tuple[bytes, ...] | Callable[[bytes], bool] = ()
    has_names: bool = False

    def recognises(self, start: bytes) -> bool:
        """Whether a file that begins like this is one."""
        return self.begins_with(start) if callable(self.begins_with) else start.startswith(self.begins_with)


# A new format is a line here, besides its reader. People are told of it by ACCEPTED above, FRAMES_HELP of the command
# line, and README. Of two that recognise a file the first is taken.
FORMATS = {
    "npy": Format(open_npy, NO_NUMBERS, (".npy",), (b"\x93NUMPY",)),
    "npz": Format(open_npz, NO_NUMBERS, (".npz",), (b"PK\3\4", b"PK\5\6"), has_names=True),
    "image": Format(_open_image, COMPLAINT, (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".pgm", ".ppm"), _is_picture),
    "tiff": Format(open_tiff, COMPLAINT, (".tif", ".tiff", ".stk", ".lsm"), TIFF_MAGIC),
    "mrc": Format(
        open_mrc,
        UNREADABLE.format(form="an MRC stack"),
        (".mrc", ".mrcs", ".map", ".st", ".ali", ".rec"),
        lambda start: start[208:211] == b"MAP",
    ),
    "hdf5": Format(
        open_hdf5,
        UNREADABLE.format(form="HDF5"),
        (".h5", ".hdf5", ".hdf", ".nxs", ".he5"),
        has_names=True,  # its magic may stand far behind the start: see `recognise`
    ),
    "zarr": Format(open_zarr, UNREADABLE.format(form="Zarr"), has_names=True),  # a folder
    "video": Format(
        open_video,
        UNREADABLE.format(form="a video"),
        (
            *(".mp4", ".m4v", ".avi", ".mkv", ".mov", ".webm", ".gif", ".mpg", ".mpeg", ".ts", ".mts"),
            *(".wmv", ".flv", ".ogv", ".3gp", ".y4m", ".m2ts"),
        ),
        _is_video,
    ),
}


@contextmanager
def open_source(path: Path, name: str | None, *, whole_grey: bool, nan_missing: bool = False) -> Iterator[Source]:
    """Open the frames in one file, or in the folder of a Zarr array.

    Args:
        path: what to open; its form is recognised by its content, and by its suffix only where that tells nothing.
        name: which of several arrays.
        whole_grey: a video is decoded to its luma, and not to its colours.
        nan_missing: NaN in the pixels of a picture is let pass.

    Yields:
        The frames, of which nothing has been read yet but what the file says of them.

    Raises:
        FramesError: not readable, damaged, or in no form that is known; also where the frames are read.
    """
    form = "zarr" if path.is_dir() else recognise(path)
    opener, complaint, *_, has_names = FORMATS[form]
    if name is not None and not has_names:
        raise FramesError(f"{path} holds no arrays with names; leave out ::{name}.")
    options = {"video": {"whole_grey": whole_grey}, "image": {"nan_missing": nan_missing}}.get(form, {})
    opened = ExitStack()
    with reading(path, complaint):
        source = opened.enter_context(opener(path, name, **options))
    try:
        yield Guarded(source, path, complaint)
    finally:
        with reading(path, complaint):
            opened.close()


@contextmanager
def open_files(files: Sequence[Path], *, nan_missing: bool = False) -> Iterator[Source]:
    """Open image files of one frame each; the same errors."""
    with reading(files[0], COMPLAINT):
        source = FolderSource(files, nan_missing)
    yield source


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
    by_content = "hdf5" if is_hdf5 else next((form for form, one in FORMATS.items() if one.recognises(start)), None)
    if by_content in (None, "video") and (other := name_of(start)) is not None:  # some pictures begin as videos do
        raise FramesError(f"{path} {other}")
    by_suffix = (form for form, one in FORMATS.items() if path.suffix.lower() in one.suffixes)
    form = by_content or next(by_suffix, None)
    if form is None:
        raise FramesError(f"{path} is neither {ACCEPTED.replace(', or ', ', nor ')}; convert it.")
    return form


__all__ = ["ACCEPTED", "FramesError", "Source", "is_zarr", "open_files", "open_source", "recognise"]
