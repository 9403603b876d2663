"""What a search shows while it runs: a live table, plain lines, lines for machines, or nothing (extra ``app``)."""

from __future__ import annotations

import json
import math
import sys
import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from jaxem.driver import CLIMBING, Progress
from jaxem.loop import Status

MOST_ROWS = 12
HEARTBEAT = 10.0  # seconds after which plain lines say that a stage still runs


class Display:
    """Shows nothing; the others show the same things in their own ways.

    Args:
        num_images: of which objectives are given the mean.
    """

    def __init__(self, num_images: int = 1) -> None:
        self.num_images = num_images
        self.began = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def note(self, event: str, text: str, **facts: Any) -> None:
        """Something that happened, in words and in facts."""

    def progress(self, progress: Progress) -> None:
        """How far a run is; called in its thread."""


class PlainDisplay(Display):
    """A line when a stage ends, and now and then while it goes on."""

    def __init__(self, console: Console, num_images: int) -> None:
        super().__init__(num_images)
        self.console, self.said = console, self.began

    def note(self, event: str, text: str, **facts: Any) -> None:
        self.console.print(text)

    def progress(self, progress: Progress) -> None:
        is_news = progress.ended and progress.stage != "trying"
        if not is_news and time.monotonic() - self.said < HEARTBEAT:
            return
        self.said = time.monotonic()
        self.console.print(f"  {describe(progress, self.num_images)}")


class JsonDisplay(Display):
    """A JSON object a line."""

    def note(self, event: str, text: str, **facts: Any) -> None:
        self._write({"event": event, "text": text, **facts})

    def progress(self, progress: Progress) -> None:
        facts = {**progress._asdict(), "status": progress.status.name, "start": progress.start + 1}
        self._write({"event": "progress", "seconds": round(time.monotonic() - self.began, 3), **facts})

    def _write(self, facts: dict[str, Any]) -> None:
        finite = {name: None if isinstance(x, float) and not math.isfinite(x) else x for name, x in facts.items()}
        sys.stdout.write(json.dumps(finite) + "\n")
        sys.stdout.flush()


class LiveDisplay(Display):
    """A table of the runs, renewed four times a second."""

    def __init__(self, console: Console, num_images: int) -> None:
        super().__init__(num_images)
        self.latest: dict[int, Progress] = {}
        self.steps: dict[tuple[int, str], int] = {}
        self.left = 0
        self.first: float | None = None
        self.live = Live(get_renderable=self.render, console=console, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        self.live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.__exit__(kind, error, trace)

    def note(self, event: str, text: str, **facts: Any) -> None:
        self.live.console.print(text)

    def progress(self, progress: Progress) -> None:
        # What came before the first segment's end was mostly the compiler, and tells nothing of the time left.
        self.first = time.monotonic() if self.first is None else self.first
        self.left = progress.num_left
        self.steps = {**self.steps, (progress.start, progress.stage): progress.num_steps}
        self.latest = {**self.latest, progress.start: progress}
        if progress.ended and progress.stage != "trying":
            self.live.console.print(f"  {describe(progress, self.num_images)}")

    def render(self) -> Group:
        """The table as it is now."""
        latest = sorted(self.latest.items())
        table = Table(box=None, pad_edge=False, header_style="dim")
        for title in ("start", "stage", "E-step", "nats an image", "gain", ""):
            table.add_column(title, justify="left" if title in ("stage", "") else "right")
        running = [progress for _, progress in latest if not progress.ended]
        for number, progress in latest[-MOST_ROWS:]:
            gain = "" if math.isnan(progress.gain) else f"{progress.gain / self.num_images:+.2g}"
            elbo = f"{progress.elbo / self.num_images:.3f}"
            state = words(progress.status) if not progress.ended or progress.stage == CLIMBING else "ended"
            table.add_row(str(number + 1), progress.stage, str(progress.num_steps), elbo, gain, state)
        going = f"{len(running)} of {len(latest)} runs going" if latest else "compiling"
        return Group(table, Text(f"{going}, {clock(time.monotonic() - self.began)}{self._time_left()}", style="dim"))

    def _time_left(self) -> str:
        elapsed = 0.0 if self.first is None else time.monotonic() - self.first
        steps = sum(self.steps.values())
        if elapsed < 1 or steps < 4:
            return ""
        return f", at most {clock(self.left * elapsed / steps)} left"


def describe(progress: Progress, num_images: int) -> str:
    """One line on how a stage ended, or where it is."""
    name = progress.stage
    steps = f"{progress.num_steps} step{'s' if progress.num_steps != 1 else ''}"
    state = (f", {words(progress.status)}" if name == CLIMBING else ", ended") if progress.ended else ""
    return f"start {progress.start + 1:2}: {progress.elbo / num_images:12.2f} nats an image, {name}, {steps}{state}"


def words(status: Status) -> str:
    """A status as people write it."""
    return status.name.lower().replace("_", " ")


def clock(seconds: float) -> str:
    """A time in minutes and seconds, with hours where there are some."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"
