"""Arrays that go with frames, such as masks, from any file that frames may be in (extra ``app``)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from jaxem.io.frames import read_frames
from jaxem.io.pixels import native
from jaxem.io.places import locate
from jaxem.io.readers.formats import FramesError, is_zarr, open_source, recognise
from jaxem.io.readers.source import check_claim, check_memory, nbytes

OF_ANY_SHAPE = ("npy", "npz", "hdf5", "zarr")


def read_array(path: str | os.PathLike[str], *, grey: str = "luma", colour: bool = False) -> np.ndarray:
    """Read an array of real numbers.

    Args:
        path: where it is, as for `read_frames`; NumPy's files, HDF5 and Zarr may hold it in any shape.
        grey: as for `read_frames`, of pictures.
        colour: as for `read_frames`, of pictures.

    Returns:
        The array as it is stored; of pictures (H, W), (H, W, 3), or of several a stack of those.

    Raises:
        FramesError: nothing there, not readable, no real numbers, or too large for memory.

    Example:
        >>> import tempfile, pathlib, numpy as np
        >>> from jaxem.io.arrays import read_array
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.savez(pathlib.Path(folder, "model.npz"), background=np.zeros((5, 7)), noise_scale=np.array(0.5))
        ...     read_array(f"{folder}/model.npz::background").shape
        (5, 7)
    """
    place, name = locate(path)
    form = "folder" if not isinstance(place, Path) else "zarr" if is_zarr(place) else recognise(place)
    if form not in OF_ANY_SHAPE:
        pixels = read_frames(path, grey=grey, colour=colour)
        return pixels[0] if len(pixels) == 1 else pixels
    with open_source(place, name, whole_grey=False) as source:
        if source.dtype.kind not in "buif":
            raise FramesError(f"{place} must hold real numbers, but holds {source.dtype}.")
        needed = nbytes(source.shape, source.dtype)
        if source.stored_bytes is not None:
            check_claim(place, needed, source.stored_bytes)
        check_memory(place, 2 * needed)
        whole: np.ndarray = source.whole()  # type: ignore[attr-defined]
        return whole.astype(native(whole.dtype))
