"""What is said of odd frames and pixels: which they are, how odd, what they do to a result, and what to do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxem.assess.drift import drift_remarks
from jaxem.assess.odd_findings import Findings
from jaxem.runtime.remarks import Remark, note, warning
from jaxem.runtime.text import listed, plural

MOST_LISTED = 5
EXCLUDE, MASK = "Leave them out with --exclude-odd", "Leave them out with --mask-hot"
LEFT_OUT = "They are left out"
TOO_MANY = "They are too many to leave out; choose frames that are alike with --frames"
SPOILS = "A few such frames can hide the template and raise the noise."
# By kind of frame: what it is, in what unit its effect is said, and whether a fit suffers.
FRAMES = {
    "empty": ("Empty, with all pixels alike", "", True),
    "dark": ("Darker than the rest", "by {:.3g} times the noise of a pixel", True),
    "bright": ("Brighter than the rest", "by {:.3g} times the noise of a pixel", True),
    "moved": ("Displaced or turned against the rest", "{why}", True),
    "noisy": ("Noisier than the rest", "{:.2g} times as noisy", True),
    "unlike": ("Unlike the rest", "in {:.2%} of the pixels that no template covers", True),
    "quiet": ("With less noise than the rest", "{:.2g} times as noisy", False),
}
FIXED = {
    "flickering": ("Flickering", "pixels vary much more than those around them, or jump now and then"),
    "hot": ("Hot or dead", "pixels stand out of those around them in all frames, and nothing ever hides them"),
    "constant": ("Stuck", "pixels never change, whatever passes in front of them"),
}


class Names(NamedTuple):
    """How frames and pixels are called: as in their file, where the stack is a part of it.

    =========  ================  ===========================================================================
    field      type              meaning
    =========  ================  ===========================================================================
    numbers    sequence or None  number of each frame; None: counted from 0
    row        int               row of the upper left pixel in the file's frames
    column     int               its column
    excludes   bool              whether odd frames are left out
    masks      bool              whether odd pixels are
    =========  ================  ===========================================================================
    """

    numbers: Sequence[int] | None = None
    row: int = 0
    column: int = 0
    excludes: bool = False
    masks: bool = False

    @property
    def exclude(self) -> str:
        """What to do about odd frames, or what is done."""
        return LEFT_OUT if self.excludes else EXCLUDE

    @property
    def mask(self) -> str:
        """What to do about odd pixels, or what is done."""
        return LEFT_OUT if self.masks else MASK

    def frame(self, number: Any) -> str:
        """A frame's number."""
        return str(int(number) if self.numbers is None else self.numbers[int(number)])

    def pixel(self, row: Any, column: Any) -> str:
        """Row and column of a pixel."""
        return f"({int(row) + self.row}, {int(column) + self.column})"


def describe(findings: Findings, shape: tuple[int, int, int], names: Names, *, excluded: bool) -> list[Remark]:
    """Remarks on all that was found in images (K, H, W); whether odd frames would be left out, or are too many."""
    means, shifts = findings.brightness
    return [
        *_of_frames(findings, shape[0], names, excluded=excluded),
        *_of_copies(findings, shape[0], names),
        *_of_single(findings, shape, names),
        *_of_lines(findings, shape, names),
        *_of_fixed(findings, shape, names),
        *drift_remarks(means, shifts, findings.noise, shape[1] * shape[2], names.numbers),
    ]


def _of_frames(findings: Findings, count: int, names: Names, *, excluded: bool) -> Iterator[Remark]:
    for kind, (what, how, spoils) in FRAMES.items():
        odd = findings.frames.get(kind, {})
        if not odd:
            continue
        effects = np.array(list(odd.values()))
        order = sorted(odd)
        named = listed(_ranges([int(names.frame(number)) for number in order]), MOST_LISTED)
        words = how.format(float(np.median(np.abs(effects))), why=_reasons(findings.why, order))
        remedy = f"{names.exclude if excluded else TOO_MANY}."
        text = f"{what}: {plural(len(odd), 'frame')} of {count} ({named}){', ' * bool(words)}{words}. "
        text += f"{SPOILS} {remedy}" if spoils else remedy
        yield (warning if spoils and not (excluded and names.excludes) else note)(
            f"{kind}-frames", text, len(odd) / count
        )


def _reasons(why: dict[int, str], order: list[int]) -> str:
    reasons = list(dict.fromkeys(why[number] for number in order if number in why))
    return listed(reasons, 2)


def _of_copies(findings: Findings, count: int, names: Names) -> Iterator[Remark]:
    if findings.copies:
        named = listed([f"{names.frame(one)} and {names.frame(other)}" for one, other in findings.copies], 3)
        text = (
            f"Copies to the bit of earlier ones: {plural(len(findings.copies), 'frame')} of {count} ({named}). They "
            f"count as evidence that they are not. {names.exclude}."
        )
        yield (note if names.excludes else warning)("copied-frames", text, len(findings.copies) / count)


def _of_single(findings: Findings, shape: tuple[int, int, int], names: Names) -> Iterator[Remark]:
    number = len(findings.pixels)
    if number:
        order = np.argsort(-np.abs(findings.how_far), kind="stable")
        named = listed(
            [f"{names.pixel(i, j)} of frame {names.frame(k)}" for k, i, j in findings.pixels[order[:MOST_LISTED]]]
            + [""] * (number - MOST_LISTED),
            min(3, MOST_LISTED),
        )
        frames = len(np.unique(findings.pixels[:, 0]))
        middle, most = np.median(np.abs(findings.how_far)), np.abs(findings.how_far).max()
        text = (
            f"Single pixels of single frames are far off: {plural(number, 'pixel')} in {plural(frames, 'frame')} of "
            f"{shape[0]} ({named}), {middle:.3g} times the noise (median), the farthest {most:.3g} times. One that is "
            f"far enough off decides where the template of its frame is put. {names.mask}."
        )
        yield (note if names.masks else warning)("single-pixels", text, frames / shape[0])


def _of_lines(findings: Findings, shape: tuple[int, int, int], names: Names) -> Iterator[Remark]:
    for places, what, first in (
        (findings.rows, "row", names.row),
        (findings.columns, "column", names.column),
    ):
        if len(places):
            frames = len(np.unique(places[:, 0]))
            all_named = [f"{what} {line + first} of frame {names.frame(frame)}" for frame, line in places.tolist()]
            text = (
                f"Lost {what}s in single frames: {plural(len(places), what)} in {plural(frames, 'frame')} of "
                f"{shape[0]} ({listed(all_named, 3)}). They raise the noise and pull templates onto them. {names.mask}."
            )
            yield (note if names.masks else warning)(f"lost-{what}s", text, frames / shape[0])


def _of_fixed(findings: Findings, shape: tuple[int, int, int], names: Names) -> Iterator[Remark]:
    size = shape[1] * shape[2]
    for kind, (what, why) in FIXED.items():
        places = np.argwhere(findings.fixed[kind])
        if len(places):
            lines = _whole_lines(findings.fixed[kind], names)
            named = listed(lines or [names.pixel(*place) for place in places], MOST_LISTED)
            text = (
                f"{what} pixels: {plural(len(places), 'pixel')} of {size} ({named}). Such {why}, so that a template in "
                f"front of them seems to have a hole there. {names.mask}."
            )
            yield note(f"{kind}-pixels" if kind != "constant" else "stuck-pixels", text, len(places) / size)
    if findings.inside is not None:
        row, column, height, width = findings.inside
        crop = f"--crop {row + names.row} {column + names.column} {height} {width}"
        share = 1 - height * width / size
        text = (
            f"Constant bands at the edges, {share:.1%} of the pixels, never change: strong edges that stand still "
            f"mislead the search. {f'{LEFT_OUT}; or cut' if names.masks else 'Cut'} them off with {crop}."
        )
        yield (note if names.masks else warning)("constant-border", text, share)


def _whole_lines(odd: np.ndarray, names: Names) -> list[str]:
    """Rows and columns if nearly all that is odd lies in whole ones."""
    rows, columns = np.flatnonzero(odd.mean(axis=1) > 0.9), np.flatnonzero(odd.mean(axis=0) > 0.9)
    rest = odd.copy()
    rest[rows], rest[:, columns] = False, False
    if rest.any() or min(odd.shape) == 1:
        return []
    return [f"row {row + names.row}" for row in rows] + [f"column {column + names.column}" for column in columns]


def left_out(odd: np.ndarray, names: Names) -> str:
    """Odd frames by their numbers, in words."""
    return listed(_ranges([int(names.frame(number)) for number in odd]), MOST_LISTED)


def _ranges(numbers: list[int]) -> list[str]:
    """Numbers in ascending order, runs of three and more as 3 to 7."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][-1] + 1:
            found[-1].append(number)
        else:
            found.append([number])
    return [
        word
        for run in found
        for word in ([f"{run[0]} to {run[-1]}"] if len(run) > 2 else [str(number) for number in run])
    ]
