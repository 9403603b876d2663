"""What a person asks for, checked for its form alone and carried as one object each. Imports nothing slow."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxem.runtime.errors import ArgumentValueError

FIXABLE = ("background", "template", "prior", "noise_scale", "absent")  # fields of `Params` that may be given
NUMBERS = ("noise_scale", "absent")  # of these what may be given as a number
FRAMES_PER_SECOND = 10.0  # of a video
MOST_PORTS = 2**16


@dataclass(frozen=True)
class FrameChoice:
    """Which frames, by the arguments of `jaxem.io.read_frames`, and which of their pixels were observed."""

    path: Path | tuple[Path, ...]
    crop: tuple[int, ...] | None = None
    frames: tuple[int | None, int | None] | None = None
    every: int = 1
    grey: str | None = None
    colour: bool = False
    channel: int | None = None
    nan_missing: bool = False
    mask: Path | None = None

    def __post_init__(self) -> None:
        if self.channel is not None and (self.colour or self.grey is not None):
            other = "--colour" if self.colour else "--grey"
            raise ArgumentValueError("channel", f"and {other} exclude each other; choose one.")
        if self.colour and self.grey is not None:
            raise ArgumentValueError("colour", "and --grey exclude each other; choose one.")

    @property
    def source(self) -> str:
        """Where they are, in words."""
        if isinstance(self.path, Path):
            return str(self.path)
        return f"{len(self.path)} files, {self.path[0]} among them"


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
    init: str | None = None  # a file
    exclude_odd: bool = False
    mask_hot: bool = False
    test: bool = True  # whether there is a template at all
    sample: int | str = "auto"  # or "all"


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


@dataclass(frozen=True)
class Together:
    """Processes that work together, of which this is one: as it is told, or as SLURM, MPI or Kubernetes say.

    Raises:
        ArgumentValueError: what is told is not enough, or cannot be.
    """

    coordinator: str | None = None  # HOST:PORT of process 0
    processes: int | None = None
    process: int | None = None

    def __post_init__(self) -> None:
        if self.coordinator is None:
            for argument, value in (("processes", self.processes), ("process", self.process)):
                if value is not None:
                    raise ArgumentValueError(argument, "needs --coordinator HOST:PORT, where process 0 can be reached.")
            return
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdecimal() or not 0 < int(port) < MOST_PORTS:
            problem = f"must be HOST:PORT of process 0, as in node1:4321, but is {self.coordinator!r}."
            raise ArgumentValueError("coordinator", problem)
        if self.processes is None or self.process is None:
            problem = "needs --processes N, how many there are, and --process I, which of them this is, from 0 on."
            raise ArgumentValueError("coordinator", problem)
        if self.processes < 1:
            raise ArgumentValueError("processes", f"must be at least 1, but is {self.processes}.")
        if not 0 <= self.process < self.processes:
            problem = f"must be from 0 to {self.processes - 1}, one less than --processes, but is {self.process}."
            raise ArgumentValueError("process", problem)


def parse_together(
    distributed: bool, coordinator: str | None, processes: int | None, process: int | None
) -> Together | None:
    """With which other processes; None for none.

    Raises:
        ArgumentValueError: two that exclude each other, or as for `Together`.
    """
    told = Together(coordinator, processes, process)
    if distributed and coordinator is not None:
        raise ArgumentValueError("distributed", "and --coordinator exclude each other; choose one.")
    return told if distributed or coordinator is not None else None


def parse_shape(words: tuple[str, str], argument: str = "template_shape") -> tuple[int, int]:
    """Height and width, as a command line spells them."""
    try:
        return int(words[0]), int(words[1])
    except ValueError:
        given = " ".join(words)
        problem = f"must be two whole numbers, height and width, as in 60 40, but is {given!r}."
        raise ArgumentValueError(argument, problem) from None


def parse_memory(text: str | None) -> int | None:
    """A number of bytes, as a command line spells it: with a unit such as MB, G or GiB."""
    if text is None:
        return None
    found = re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)\s*([kMGT]?)(i?)B?", text.strip(), re.IGNORECASE)
    if found is None or not float(found[1]):
        raise ArgumentValueError("memory", f"must be a size such as 500MB, 8GB or 1.5GiB, but is {text!r}.")
    power = " kmgt".index(found[2].lower() or " ")
    return round(float(found[1]) * (1024 if found[3] else 1000) ** power)


def parse_sample(text: str) -> int | str:
    """On how many frames to search: auto, all, or a number, as a command line spells it."""
    if text in ("auto", "all"):
        return text
    try:
        return int(text)
    except ValueError:
        problem = f"must be auto, all or a whole number of frames, but is {text!r}."
        raise ArgumentValueError("sample", problem) from None


def choose_frames(
    paths: Path | Sequence[Path],
    crop: tuple[str, str, str, str] | None,
    frames: str | None,
    every: int,
    grey: str | None,
    *,
    colour: bool = False,
    channel: int | None = None,
    nan_missing: bool = False,
    mask: Path | None = None,
) -> FrameChoice:
    """Which frames, as a command line spells it: one path, or many where a shell has spelled out a pattern."""
    several = (paths,) if isinstance(paths, Path) else tuple(paths)
    return FrameChoice(
        several[0] if len(several) == 1 else several,
        None if crop is None else _parse_crop(crop),
        None if frames is None else _parse_range(frames),
        every,
        grey,
        colour,
        channel,
        nan_missing,
        mask,
    )


def shown_frame(
    path: Path | None, number: int | None, crop: tuple[str, str, str, str] | None, grey: str | None, channel: int | None
) -> FrameChoice | None:
    """The one frame that a figure shows; None for none.

    Raises:
        ArgumentValueError: something is said of it, but not where it is.
    """
    if path is None:
        said = {"number": number, "crop": crop, "grey": grey, "channel": channel}
        for argument, value in said.items():
            if value is not None:
                raise ArgumentValueError(argument, "needs --images FRAMES, the frames of which one is shown.")
        return None
    number = number or 0
    only = (number, number + 1 if number != -1 else None)
    return FrameChoice(path, None if crop is None else _parse_crop(crop), only, 1, grey, channel=channel)


def parse_fixed(words: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """FIELD=VALUE, once for each field."""
    fixed: dict[str, str] = {}
    for word in words:
        field, equals, value = word.partition("=")
        if field not in FIXABLE or not equals or not value:
            values = {name: "FILE or NUMBER" if name in NUMBERS else "FILE" for name in FIXABLE}
            known = ", ".join(f"{name}={what}" for name, what in values.items())
            raise ArgumentValueError("fixed", f"must be one of {known}, but is {word!r}.")
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
    """FIRST:STOP, each of which may be left out."""
    try:
        first, last = (int(end) if end.strip() else None for end in text.split(":"))
    except ValueError:
        raise ArgumentValueError(
            "frames", f"must be FIRST:STOP, one past the last, as in 10:21 for frames 10 to 20, but is {text!r}."
        ) from None
    return first, last
