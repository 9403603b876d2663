"""What a person asks for, checked for its form alone and carried as one object each. Imports nothing slow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxem.runtime.errors import ArgumentValueError

FIXABLE = ("background", "template", "prior", "noise_scale", "absent")  # fields of `Params` that may be given
FRAMES_PER_SECOND = 10.0  # of a video


@dataclass(frozen=True)
class FrameChoice:
    """Which frames, by the arguments of `jaxem.io.read_frames`, and which of their pixels were observed."""

    path: Path
    crop: tuple[int, ...] | None = None
    frames: tuple[int | None, int | None] | None = None
    every: int = 1
    grey: str | None = None
    colour: bool = False
    nan_missing: bool = False
    mask: Path | None = None

    def __post_init__(self) -> None:
        if self.colour and self.grey is not None:
            raise ArgumentValueError("colour", "and --grey exclude each other; choose one.")

    def numbers(self, count: int) -> list[int]:
        """Numbers of so many chosen frames in their file, or among the chosen where those are counted from the end."""
        first = 0 if self.frames is None else self.frames[0] or 0
        return [first + self.every * place for place in range(count)] if first >= 0 else list(range(count))


@dataclass(frozen=True)
class FitRequest:
    """What a search takes besides the images, nearly by the arguments of `jaxem.fit_restarts_parallel`.

    A plain one is of independent runs, without a search. Checkpoints are of one request: a new field makes those that
    were saved before useless.
    """

    template_shape: tuple[int, int]
    num_restarts: int | None = None
    seed: int = 0
    hard: bool = False
    prior_smoothing: float = 0.0
    max_iterations: int = 50
    tolerance: float = 1e-3
    plain: bool = False
    num_templates: int = 1
    absent: bool = False
    turns: bool = False
    mirrors: bool = False
    wrap: bool = False
    support: str | None = None  # "disc" or a file
    fixed: tuple[tuple[str, str], ...] = ()  # a field of `Params`, and a file or a number
    exclude_odd: bool = False
    mask_hot: bool = False
    test: bool = True  # whether there is a template at all


@dataclass(frozen=True)
class SizeRequest:
    """What a search for the template's size takes besides the images, by the arguments of `jaxem.choose_shape`."""

    smallest: tuple[int, int]
    largest: tuple[int, int]
    num_restarts: int | None = None
    seed: int = 0
    absent: bool = False


@dataclass(frozen=True)
class Reporting:
    """How long work is shown, and how it survives being ended.

    Raises:
        ArgumentValueError: two that exclude each other, or one that needs another.
    """

    quiet: bool = False
    json: bool = False
    checkpoint: Path | None = None
    resume: bool = False

    def __post_init__(self) -> None:
        if self.quiet and self.json:
            raise ArgumentValueError("quiet", "and --json exclude each other; choose one.")
        if self.resume and self.checkpoint is None:
            raise ArgumentValueError("resume", "needs --checkpoint DIR, the folder to go on from.")


def parse_shape(words: tuple[str, str], argument: str = "template_shape") -> tuple[int, int]:
    """Height and width, as a command line spells them."""
    try:
        return int(words[0]), int(words[1])
    except ValueError:
        given = " ".join(words)
        problem = f"must be two whole numbers as in 60 40, but is {given!r}."
        raise ArgumentValueError(argument, problem) from None


def choose_frames(
    path: Path,
    crop: tuple[str, str, str, str] | None,
    frames: str | None,
    every: int,
    grey: str | None,
    *,
    colour: bool = False,
    nan_missing: bool = False,
    mask: Path | None = None,
) -> FrameChoice:
    """Which frames, as a command line spells it."""
    return FrameChoice(
        path,
        None if crop is None else _parse_crop(crop),
        None if frames is None else _parse_range(frames),
        every,
        grey,
        colour,
        nan_missing,
        mask,
    )


def parse_fixed(words: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """FIELD=VALUE, once for each field."""
    fixed: dict[str, str] = {}
    for word in words:
        field, equals, value = word.partition("=")
        if field not in FIXABLE or not equals or not value:
            known = ", ".join(f"{name}=FILE" for name in FIXABLE)
            problem = f"must be one of {known}, the last two with a number, too, but is {word!r}."
            raise ArgumentValueError("fixed", problem)
        if field in fixed:
            raise ArgumentValueError("fixed", f"names {field} twice; give it once.")
        fixed[field] = value
    return tuple(fixed.items())


def _parse_crop(words: tuple[str, str, str, str]) -> tuple[int, ...]:
    try:
        return tuple(int(word) for word in words)
    except ValueError:
        given = " ".join(words)
        problem = f"must be four whole numbers as in 10 20 100 120, but is {given!r}."
        raise ArgumentValueError("crop", problem) from None


def _parse_range(text: str) -> tuple[int | None, int | None]:
    """FIRST:LAST, each of which may be left out."""
    try:
        first, last = (int(end) if end.strip() else None for end in text.split(":"))
    except ValueError:
        raise ArgumentValueError("frames", f"must be FIRST:LAST as in 10:200, but is {text!r}.") from None
    return first, last
