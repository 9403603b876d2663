"""Frames that lie along several axes, such as times, depths and channels: which of them are taken.

Source: the order of planes in OME-TIFF, ImageJ's hyperstacks, and labelled axes of HDF5 and Zarr.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaxem.io.readers.source import PLAIN, About, Axis, FramesError, Source

WORDS = {
    "Y": ("y", "row", "rows", "height", "h"),
    "X": ("x", "column", "columns", "col", "cols", "width", "w"),
    "T": ("t", "time", "times", "frame", "frames", "n", "k", "image", "images", "index"),
    "Z": ("z", "depth", "plane", "planes", "slice", "slices"),
    "C": ("c", "channel", "channels", "ch", "colour", "color", "band"),
    "S": ("s", "sample", "samples", "rgb", "rgba"),
}
UNKNOWN = "QRUVWMNO"  # letters of axes that are called something else
NAMES = {"T": "times", "Z": "depths", "C": "channels", "P": "positions", "A": "angles", "S": "samples"}


def axes_of(sizes: Iterable[tuple[str, int]], num_planes: int) -> tuple[tuple[Axis, ...], str | None]:
    """The axes of so many planes.

    Args:
        sizes: letter and size of each by what the file tells, the slowest first; 0 for as many as there are.
        num_planes: that the file holds.

    Returns:
        Those of more than one, the slowest as long as it takes; and what is to be said where it was told otherwise.
    """
    told = [(letter, size) for letter, size in sizes if size != 1]
    total = int(np.prod([size for _, size in told], dtype=object))
    if not told or total == num_planes:
        return tuple(Axis(letter, size) for letter, size in told), None
    axes, left = [], num_planes
    for letter, size in reversed(told[1:]):
        axes.append(Axis(letter, min(size, left)))
        left = -(-left // size)
    axes.append(Axis(told[0][0], left))
    odd = f"it tells of {total} planes and holds {num_planes}" if total else None
    return tuple(axis for axis in reversed(axes) if axis.size > 1), odd


def labels_of(names: Sequence[Any]) -> str | None:
    """A letter for each axis by its name in a file; None where it does not tell rows and columns."""
    labels = ""
    for name in names:
        word = str(name.decode() if isinstance(name, bytes) else name).strip().lower()
        known = [letter for letter, words in WORDS.items() if word in words and letter not in labels]
        labels += known[0] if known else next(letter for letter in UNKNOWN if letter not in labels)
    return labels if {"Y", "X"} <= set(labels) else None


def in_words(axes: Sequence[Axis]) -> str:
    """As in 40 times x 2 channels."""
    return " x ".join(f"{axis.size} {NAMES.get(axis.letter, f'along axis {axis.letter}')}" for axis in axes)


def with_channels(source: Source, path: Path, channel: int | None, colour: bool) -> Source:
    """The frames of one channel, or with all channels along a last axis, as they were asked for.

    Raises:
        FramesError: there is no such channel.
    """
    axes, shape = source.about.axes, source.shape
    places = [place for place, axis in enumerate(axes) if axis.letter == "C"]
    if places and len(axes) > 1 and (channel is not None or colour):
        size = axes[places[0]].size
        _check_channel(path, channel, size)
        if colour and len(shape) == 4:
            raise FramesError(f"{path} has {shape[3]} colours a pixel and {in_words(axes)}; take one with --channel.")
        told = [axis.size for axis in axes]
        numbers = np.arange(int(np.prod(told))).reshape(told)
        numbers = np.moveaxis(numbers, places[0], -1).reshape(-1, size)
        numbers = numbers[(numbers < shape[0]).all(axis=1)]
        whole = source.about.num_whole
        rest = tuple(axis for axis in axes if axis.letter != "C")
        num_whole = None if whole is None else int((numbers < whole).all(axis=1).sum())
        about = source.about._replace(axes=rest, is_colour=False, num_whole=num_whole)
        return _Planes(source, numbers if channel is None else numbers[:, channel], about)
    if channel is None:
        return source
    if len(shape) == 4:
        _check_channel(path, channel, shape[3])
        return _OneChannel(source, channel)
    if channel != 0:
        raise FramesError(f"is {channel}, but {path} holds one channel alone, number 0.", "channel")
    return source


def check_axes(source: Source, path: Path, numbers: range, colour: bool) -> None:
    """Refuse frames of which nobody can say what follows what.

    Raises:
        FramesError: they lie along several axes, or have channels of which one must be chosen.
    """
    about, shape = source.about, source.shape
    if not colour and len(shape) == 4 and shape[3] > 1 and not (about.is_colour and shape[3] in (3, 4)):
        raise FramesError(f"{path} holds {shape[3]} channels a pixel that are no colours; {_choices(shape[3])}.")
    axes = about.axes
    places = np.unravel_index(np.asarray(numbers), [axis.size for axis in axes]) if axes else ()
    varying = [axis for axis, place in zip(axes, places, strict=True) if (place != place[:1]).any()]
    for axis in varying:
        if axis.letter == "C" and len(axes) > 1:  # channels alone can but be frames that somebody called so
            raise FramesError(
                f"{path} alternates between {in_words([axis])} ({in_words(axes)}); {_choices(axis.size)}."
            )
    if len(varying) > 1:
        slow, fast = axes[0], axes[-1]
        raise FramesError(
            f"{path} holds {in_words(axes)}, and frames must lie along one of these; --every {fast.size} takes one of "
            f"each of the {NAMES.get(slow.letter, slow.letter)}, --frames A:B says which."
        )


def axis_note(source: Source, numbers: range) -> str | None:
    """Along which axis frames lie that were chosen, in words; None if the file does not say."""
    axes = source.about.axes
    if not axes or len(numbers) < 2 or not (len(axes) > 1 or _says(axes)):
        return None
    places = np.unravel_index(np.asarray(numbers), [axis.size for axis in axes])
    names = [
        NAMES.get(axis.letter, f"axis {axis.letter}")
        for axis, place in zip(axes, places, strict=True)
        if (place != place[0]).any()
    ]
    return f"the frames are the {names[0]} of the file" if names else None


def _check_channel(path: Path, channel: int | None, size: int) -> None:
    if channel is not None and not 0 <= channel < size:
        raise FramesError(f"must be from 0 to {size - 1}, the channels of {path}, but is {channel}.", "channel")


def _choices(size: int) -> str:
    one = "0 or 1" if size == 2 else f"0 to {size - 1}"
    return f"take one with --channel {one}, or keep all with --colour"


@dataclass
class _PartOf:
    """What is taken of a source."""

    source: Source

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.source.dtype

    @property
    def stored_bytes(self) -> int | None:
        return self.source.stored_bytes


@dataclass
class _Planes(_PartOf):
    """Some of the planes of a source as frames, or several of them as the channels of one."""

    numbers: np.ndarray  # (K,) or (K, C), of planes
    about: About

    @property
    def shape(self) -> tuple[int, ...]:
        return (*self.numbers.shape[:1], *self.source.shape[1:3], *self.numbers.shape[1:])

    def read(self, numbers: range, rows: slice, columns: slice) -> np.ndarray:
        chosen = self.numbers[numbers.start : numbers.stop : numbers.step]
        found = [self._read(group, rows, columns) for group in (chosen[:, None] if chosen.ndim == 1 else chosen).T]
        return found[0] if chosen.ndim == 1 else np.stack(found, axis=-1)

    def _read(self, planes: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
        return np.concatenate([self.source.read(run, rows, columns) for run in runs(planes)])


def runs(numbers: np.ndarray) -> list[range]:
    """Increasing numbers as few ranges."""
    found: list[range] = []
    first = 0
    while first < len(numbers):
        step = int(numbers[first + 1] - numbers[first]) if first + 1 < len(numbers) else 1
        last = first + 1
        while last < len(numbers) and numbers[last] - numbers[last - 1] == step:
            last += 1
        found.append(range(int(numbers[first]), int(numbers[last - 1]) + 1, step))
        first = last
    return found


@dataclass
class _OneChannel(_PartOf):
    """One of the channels of frames that have several in each pixel."""

    channel: int

    @property
    def about(self) -> About:
        return self.source.about

    @property
    def shape(self) -> tuple[int, ...]:
        return self.source.shape[:3]

    def read(self, numbers: range, rows: slice, columns: slice) -> np.ndarray:
        block = self.source.read(numbers, rows, columns)
        return block[..., self.channel] if block.ndim == 4 else block  # grey frames among those in colour


@dataclass(frozen=True)
class LabelledSource:
    """Frames in an array whose axes have names, in any order.

    Args:
        array: anything that is sliced like a NumPy array.
        labels: of its axes, a letter each: Y and X for rows and columns of a frame, S for its samples if there are
            any; along all others lie the frames.
        stored_bytes: see `Source`.
        about: what else is known of them.
    """

    array: Any
    labels: str
    stored_bytes: int | None
    about: About = PLAIN

    @classmethod
    def of(cls, array: Any, labels: str, stored_bytes: int | None, *notes: str) -> LabelledSource:
        """With the axes that its labels tell of."""
        planes = [(label, int(size)) for label, size in zip(labels, array.shape, strict=True) if label not in "YXS"]
        axes = tuple(Axis(label, size) for label, size in planes if size > 1)
        return cls(array, labels, stored_bytes, About(axes, None, True, notes))

    @property
    def shape(self) -> tuple[int, ...]:
        sizes = dict(zip(self.labels, (int(size) for size in self.array.shape), strict=True))
        planes = (int(np.prod(self._sizes(), dtype=object)),) if self._sizes() else ()
        samples = (sizes["S"],) if "S" in sizes else ()
        return (*planes, sizes["Y"], sizes["X"], *samples)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.array.dtype)

    def _sizes(self) -> list[int]:
        return [int(size) for label, size in zip(self.labels, self.array.shape, strict=True) if label not in "YXS"]

    def whole(self) -> np.ndarray:
        """All of it, rows and columns last but for samples."""
        return np.asarray(self.array[()]).transpose(self._order())

    def _order(self) -> list[int]:
        planes = [place for place, label in enumerate(self.labels) if label not in "YXS"]
        return planes + [self.labels.index(label) for label in "YXS" if label in self.labels]

    def read(self, numbers: range, rows: slice, columns: slice) -> np.ndarray:
        sizes = self._sizes()
        if len(sizes) == 1:
            return self._cut((slice(numbers.start, numbers.stop, numbers.step),), rows, columns)
        frames = [
            self._cut(tuple(slice(int(place), int(place) + 1) for place in places), rows, columns)
            for places in zip(*np.unravel_index(np.asarray(numbers), sizes), strict=True)
        ]
        return np.concatenate(frames)

    def _cut(self, planes: tuple[slice, ...], rows: slice, columns: slice) -> np.ndarray:
        left = list(planes)
        wanted = {"Y": rows, "X": columns, "S": slice(None)}
        cut = np.asarray(self.array[tuple(wanted[label] if label in wanted else left.pop(0) for label in self.labels)])
        cut = cut.transpose(self._order())
        return cut.reshape(-1, *cut.shape[len(planes) :])


def _says(axes: Sequence[Axis]) -> bool:
    """Whether a single axis tells anything: one that is called T or is unknown is what everybody expects."""
    return bool(axes) and axes[0].letter not in ("T", *UNKNOWN)
