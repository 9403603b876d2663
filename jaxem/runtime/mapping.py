"""Files that are mapped into memory."""

from __future__ import annotations

import mmap

import numpy as np


def give_back(some: np.ndarray) -> None:
    """Tell the system that the pages of the mapped file that an array is in need not stay.

    They count as memory of this process, though they can be read again. Of any other array nothing is given back.
    """
    mapped = some
    while isinstance(mapped, np.ndarray) and not isinstance(mapped, np.memmap):
        mapped = mapped.base  # type: ignore[assignment]
    file = getattr(mapped, "_mmap", None)
    if not (isinstance(file, mmap.mmap) and mapped.mode in ("r", "r+") and hasattr(mmap, "MADV_DONTNEED")):
        return  # what is changed in private copies of pages would be lost
    file.madvise(mmap.MADV_DONTNEED)  # of all of it, since the system brings in more than was asked for
