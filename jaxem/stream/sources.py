"""What frames can be read from, and what comes of it, checked a few frames at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.model.frames import Frames, as_pixel_weights
from jaxem.ops.validation import as_weights, count_bad_pixels, expect_shape, floating
from jaxem.ops.windows import Shape
from jaxem.runtime.errors import ArgumentTypeError, ArgumentValueError
from jaxem.runtime.mapping import give_back
from jaxem.runtime.resources import CHUNK_BYTES


@runtime_checkable
class FrameSource(Protocol):
    """Frames that are read when they are needed, in any order and as often as they are.

    ==============  ==============================================================================================
    what            meaning
    ==============  ==============================================================================================
    ``shape``       (K, H, W) or, with channels, (K, H, W, C)
    ``dtype``       of the pixels
    ``read(a, b)``  frames a to b - 1, an array (b - a, H, W) or (b - a, H, W, C) of that dtype, which the source does
                    not write to later; called in a thread, one call at a time
    ==============  ==============================================================================================
    """

    @property
    def shape(self) -> tuple[int, ...]:
        """(K, H, W) or (K, H, W, C)."""

    @property
    def dtype(self) -> Any:
        """Of the pixels."""

    def read(self, start: int, stop: int) -> np.ndarray:
        """Some of the frames."""


class SlicedSource:
    """Anything that is sliced as an array is: of NumPy, in a mapped file, of h5py, of zarr."""

    def __init__(self, array: Any):
        self.array, self.shape, self.dtype = array, tuple(array.shape), np.dtype(array.dtype)

    def read(self, start: int, stop: int) -> np.ndarray:
        """Some of the frames; of a mapped file a copy, so that its pages need not stay in memory."""
        some = np.asarray(self.array[start:stop])
        if not isinstance(self.array, np.memmap):
            return some
        copy = np.array(some)
        give_back(some)
        return copy


class Chunk(NamedTuple):
    """Some of the frames, in arrays of NumPy that are as long for all chunks.

    ==========  =================  ==========================================================================
    field       shape              meaning
    ==========  =================  ==========================================================================
    start       int                number of the first frame
    num_frames  int                how many there are; the others fill the arrays up
    own         as `Frames.own`    pixels (n, H, W) or (n, H, W, C), weights (n, H, W), frame weights (n,)
    counts      (n,)               one for frames that are there, zero for those that fill up
    ==========  =================  ==========================================================================
    """

    start: int
    num_frames: int
    own: tuple[Any, Any, Any]
    counts: np.ndarray


@dataclass(frozen=True)
class FrameStream:
    """A source, and how much of it counts; see `Frames`, whose weights these are.

    Args:
        source: of the frames.
        weights: source of the pixels' weights (K, H, W), or None.
        frame_weights: (K,), or None.
        shared_weights: (H, W), or None.
        dtype: that is computed in.
    """

    source: FrameSource
    weights: FrameSource | None
    frame_weights: np.ndarray | None
    shared_weights: jax.Array | None
    dtype: np.dtype

    @property
    def num_images(self) -> int:
        """K."""
        return self.source.shape[0]

    @property
    def image_shape(self) -> Shape:
        """(H, W)."""
        height, width = self.source.shape[1:3]
        return height, width

    @property
    def abstract_images(self) -> Any:
        """Shape and dtype of the whole stack."""
        return jax.ShapeDtypeStruct(self.source.shape, self.dtype)

    def nothing(self) -> Frames:
        """`Frames` with what all frames share, and no frame."""
        return Frames(
            jnp.zeros((0, *self.source.shape[1:]), self.dtype),
            None if self.weights is None else jnp.zeros((0, *self.image_shape), self.dtype),
            None if self.frame_weights is None else jnp.zeros(0, self.dtype),
            self.shared_weights,
        )

    def chunk_size(self, batch_size: int) -> int:
        """Frames of a chunk: a number of batches."""
        batch_bytes = batch_size * math.prod(self.source.shape[1:]) * self.dtype.itemsize
        num_batches = -(-self.num_images // batch_size)
        return batch_size * max(1, min(num_batches, round(CHUNK_BYTES / batch_bytes)))

    def chunks(self, share: range, size: int, *, look: bool) -> Iterator[Chunk]:
        """Frames of these numbers in their order, so many at a time."""
        for start in range(share.start, share.stop, size):
            yield self.chunk(start, min(size, share.stop - start), size, look=look)

    def chunk(self, start: int, count: int, size: int, *, look: bool) -> Chunk:
        """Some of the frames.

        Args:
            start: number of the first.
            count: how many.
            size: to how many they are filled up, with copies of the first.
            look: whether to look at all pixels for values that cannot be.

        Raises:
            ValueError, TypeError: the source gives something else than it said, or what cannot be used.
        """
        stop = start + count
        pixels = as_computable(_read(self.source, "source", start, stop), self.dtype)
        weights = frame_weights = None
        if self.weights is not None:
            weights = as_computable(_read(self.weights, "weights", start, stop), self.dtype)
            weights = np.broadcast_to(weights, (count, *self.image_shape))
        if self.frame_weights is not None:
            frame_weights = self.frame_weights[start:stop]
        if look:
            _look_at(pixels, weights, frame_weights, self.shared_weights, start)
        own = tuple(None if array is None else _filled_up(array, size) for array in (pixels, weights, frame_weights))
        return Chunk(start, count, own, (np.arange(size) < count).astype(self.dtype))  # type: ignore[arg-type]


def _read(source: FrameSource, name: str, start: int, stop: int) -> np.ndarray:
    """What a source gives, if it is what it said it would give."""
    some = f"frames {start} to {stop - 1}"
    try:
        found = np.asarray(source.read(start, stop))
    except Exception as error:
        error.add_note(f"This came while {some} of {source.shape[0]} were read.")
        raise
    expected = (stop - start, *source.shape[1:])
    if found.shape != expected:
        shrunk = found.shape[1:] == expected[1:] and len(found) < expected[0]
        problem = "holds fewer frames than its shape says" if shrunk else "gives something else than its shape says"
        raise ArgumentValueError(name, f"{problem}: of {some} came shape {found.shape}, not {expected}.")
    if found.dtype.newbyteorder("=") != np.dtype(source.dtype).newbyteorder("="):
        raise ArgumentTypeError(
            name, f"gives another dtype than it says: of {some} came {found.dtype}, not {np.dtype(source.dtype)}."
        )
    return found


def as_computable(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """An array in the dtype to compute in, or in a narrower one that the device promotes by itself."""
    if array.dtype.itemsize < dtype.itemsize:
        return np.ascontiguousarray(array, array.dtype.newbyteorder("="))
    with np.errstate(over="ignore"):  # what does not fit is infinite, which is looked for
        return np.ascontiguousarray(array, dtype)


def _look_at(pixels: np.ndarray, weights: Any, frame_weights: Any, shared_weights: Any, start: int) -> None:
    """Raise where pixels that count are not finite, or weights are not or are negative."""
    if weights is not None and not (np.isfinite(weights).all() and (weights >= 0).all()):
        bad = ~(np.isfinite(weights) & (weights >= 0)).all(axis=(1, 2))
        raise ArgumentValueError("weights", f"must be finite and not negative, as in frame {start + bad.argmax()}.")
    with np.errstate(over="ignore", invalid="ignore"):
        if not np.issubdtype(pixels.dtype, np.floating) or np.isfinite(pixels.sum()):  # NaN and infinity stay in a sum
            return
    weights = shared_weights if weights is None else weights
    bad = count_bad_pixels(pixels, None if weights is None else np.asarray(weights), frame_weights)
    if bad.any():
        raise ArgumentValueError(
            "source",
            f"holds NaN or infinity, first in frame {start + int(bad.argmax())}: give pixels that are missing the "
            "weight zero.",
        )


def _filled_up(array: np.ndarray, size: int) -> np.ndarray:
    if len(array) == size:
        return array
    return np.concatenate([array, np.repeat(array[:1], size - len(array), axis=0)])


def as_source(name: str, value: Any) -> FrameSource:
    """A source as it is, and one of anything that is sliced as an array is.

    Raises:
        TypeError, ValueError: it is neither, or holds no real numbers, no frames or no pixels.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise ArgumentTypeError(name, "must not be masked: give the masked pixels the weight zero.")
    there = all(hasattr(value, field) for field in ("shape", "dtype"))
    if not (there and (hasattr(value, "read") or hasattr(value, "__getitem__"))):
        raise ArgumentTypeError(
            name,
            "must have shape, dtype and read(start, stop), or be sliced as arrays are (np.memmap, h5py.Dataset, "
            f"zarr.Array), but is {type(value).__name__}.",
        )
    source = value if hasattr(value, "read") else SlicedSource(value)
    if not any(np.issubdtype(source.dtype, kind) for kind in (np.floating, np.integer, np.bool_)):
        raise ArgumentTypeError(name, f"must hold real numbers, but has dtype {source.dtype}.")
    return source


def as_stream(source: Any, weights: Any = None, frame_weights: Any = None) -> FrameStream:
    """Frames to be read, and how much of them counts, checked as far as can be without reading them."""
    source = as_source("source", source)
    shape = tuple(source.shape)
    if len(shape) not in (3, 4):
        raise ArgumentValueError(
            "source", f"must have shape (K, H, W) or, with channels, (K, H, W, C), but has shape {shape}."
        )
    if 0 in shape:
        raise ArgumentValueError(
            "source", f"must hold at least one frame of at least one pixel, but has shape {shape}."
        )
    dtype = np.dtype(floating(np.dtype(source.dtype)))
    own, shared = _as_weights(weights, jax.ShapeDtypeStruct(shape, dtype))
    if frame_weights is not None:
        frame_weights = np.asarray(as_weights("frame_weights", frame_weights, dtype))
        expect_shape("frame_weights", frame_weights, shape[:1], "(K,)")
        if not np.any(frame_weights > 0):
            raise ArgumentValueError("frame_weights", "must not all be zero.")
    return FrameStream(source, own, frame_weights, shared, dtype)


def _as_weights(weights: Any, images: jax.ShapeDtypeStruct) -> tuple[FrameSource | None, jax.Array | None]:
    """A source of each frame's own, or those that all share."""
    if weights is None:
        return None, None
    weights = weights if hasattr(weights, "shape") else np.asarray(weights)
    shape, expected = tuple(weights.shape), images.shape[:3]
    if hasattr(weights, "read") or (len(shape) == 3 and shape[0] == expected[0] > 1):
        own = as_source("weights", weights)
        try:
            fits = np.broadcast_shapes(shape, expected) == expected and len(shape) == 3 and shape[0] == expected[0]
        except ValueError:
            fits = False
        if not fits:
            raise ArgumentValueError(
                "weights", f"must have shape (K, H, W) = {expected} or (H, W), but have shape {shape}."
            )
        return own, None
    return None, jnp.asarray(as_pixel_weights(np.asarray(weights), images)[0, 0])


def read_sample(stream: FrameStream, numbers: Sequence[int] | np.ndarray, most_between: int) -> Frames:
    """Frames of these numbers, which rise, in memory.

    Neighbours are read at once, with what lies between them where that is little.

    Args:
        stream: to read from.
        numbers: which frames, in rising order.
        most_between: read as many frames for nothing rather than begin anew.
    """
    numbers = np.asarray(numbers)
    runs = np.split(numbers, np.flatnonzero(np.diff(numbers) > most_between + 1) + 1)
    most = stream.chunk_size(1)
    parts = []
    for run in runs:
        for start in range(int(run[0]), int(run[-1]) + 1, most):
            stop = min(start + most, int(run[-1]) + 1)
            wanted = run[(run >= start) & (run < stop)] - start
            if len(wanted):
                chunk = stream.chunk(start, stop - start, stop - start, look=True)
                parts.append([None if array is None else array[wanted] for array in chunk.own])
    pixels, weights, frame_weights = (
        None if column[0] is None else np.concatenate(column) for column in zip(*parts, strict=True)
    )
    return Frames(pixels, weights, frame_weights, stream.shared_weights)  # type: ignore[arg-type]
