"""A search on a terminal: a table of its starts, renewed while it runs (extra ``app``)."""

from __future__ import annotations

import math
import time
from types import TracebackType
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from jaxem.cli.display import Display
from jaxem.cli.progress import ANNEALING, BEST_SO_FAR, NOT_THE_BEST, RECENTRING, RESEEDING, TRIAL, Story
from jaxem.runtime.text import clock, plural, printable
from jaxem.search.progress import ALL_STAGE, HARD_STAGE, PLAIN_STAGE, PRIOR_STAGE, STAGE_NAMES, Progress
from jaxem.search.stages import StageKind

MOST_ROWS = 12
RENEWALS_PER_SECOND = 4
# The time left is told after so many seconds and E-steps.
SECONDS_BEFORE_FORECAST, STEPS_BEFORE_FORECAST = 1.0, 4
# What is going on when a stage has ended and the next has not told anything yet.
AFTERWARDS = {
    ANNEALING: "choosing the best start",
    TRIAL: "choosing the best trial start",
    STAGE_NAMES[StageKind.REINITIALIZE]: "going on with the best",
    STAGE_NAMES[StageKind.SPLIT]: "going on with the best",
    RESEEDING: "going on with the best",
    RECENTRING: "going on with the best",
    STAGE_NAMES[StageKind.CENTRE]: "going on with the best",
    STAGE_NAMES[StageKind.REACH]: "going on with the best",
    PLAIN_STAGE: "choosing the best start",
    PRIOR_STAGE: "going on with hard EM",
    ALL_STAGE: "going on with all frames",
    **dict.fromkeys((STAGE_NAMES[StageKind.CONVERGE], HARD_STAGE), "finishing"),
}
COLUMNS = ("start", "stage", "E-steps", "nats an image", "gain", "outcome")
LEFT_ALIGNED = ("stage", "outcome")

Rows = dict[int, tuple[Progress, tuple[str, ...]]]  # by start: what it told last, and that in words


class LiveDisplay(Display):
    """A table of the starts, and above it a line for each stage that has ended.

    Args:
        num_images: of which objectives are given the mean.
        console: where to show it; by default the terminal.
    """

    def __init__(self, num_images: int, console: Console | None = None) -> None:
        super().__init__(num_images)
        self.story = Story(num_images)
        self.rows: Rows = {}
        self.steps: dict[tuple[int, str], int] = {}
        self.latest: Progress | None = None
        self.first: float | None = None
        self.live = Live(
            get_renderable=self.render,
            console=console or Console(soft_wrap=True),  # what others print meanwhile is not cut into lines
            refresh_per_second=RENEWALS_PER_SECOND,
            transient=True,
        )

    def __enter__(self) -> Self:
        self.live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.live.__exit__(kind, error, trace)

    def note(self, event: str, *lines: str, **facts: Any) -> None:
        self.story.note(event)
        for line in lines:
            self._print(line)

    def progress(self, progress: Progress) -> None:
        # What came before the end of the first chunk was mostly the compiler, and tells nothing of the time left.
        self.first = time.monotonic() if self.first is None else self.first
        self.latest = progress
        # Each is replaced and not changed, as another thread draws the table.
        self.steps = {**self.steps, (progress.start, progress.stage): progress.num_steps}
        row = self._row(progress)
        before = _beaten(self.rows) if row[-1] == BEST_SO_FAR else self.rows
        self.rows = {**before, progress.start: (progress, row)}
        for line in self.story.news(progress):
            self._print(f"  {line}")

    def render(self) -> Group:
        """The table as it is now."""
        table = Table(box=None, pad_edge=False, header_style="dim")
        for title in COLUMNS:
            table.add_column(title, justify="left" if title in LEFT_ALIGNED else "right")
        for _, (_, row) in sorted(self.rows.items())[-MOST_ROWS:]:
            table.add_row(*row)
        elapsed = clock(time.monotonic() - self.began)
        return Group(table, Text(f"{self._going_on()}, {elapsed}{self._time_left()}", style="dim"))

    def _print(self, line: str) -> None:
        """Above the table, as it is: brackets in names of files are no markup."""
        self.live.console.print(Text(printable(line)), soft_wrap=True)

    def _row(self, progress: Progress) -> tuple[str, ...]:
        num_images = self.story.images_of(progress)
        gain = "" if math.isnan(progress.gain) else f"{progress.gain / num_images:+.2g}"
        elbo = f"{progress.elbo / num_images:.3f}"
        stage, outcome = self.story.stage(progress), self.story.outcome(progress)
        return str(progress.start + 1), stage, str(progress.num_steps), elbo, gain, outcome

    def _going_on(self) -> str:
        if self.latest is None:
            return "compiling"
        running = sum(not progress.ended for progress, _ in self.rows.values())
        if running:
            return f"{plural(running, 'start')} under way"
        return AFTERWARDS[self.latest.stage]

    def _time_left(self) -> str:
        if self.latest is None or self.first is None or self.latest.num_left == 0:
            return ""
        elapsed, steps = time.monotonic() - self.first, sum(self.steps.values())
        if elapsed < SECONDS_BEFORE_FORECAST or steps < STEPS_BEFORE_FORECAST:
            return ""
        return f", at most {clock(self.latest.num_left * elapsed / steps)} left"


def _beaten(rows: Rows) -> Rows:
    """The rows once there is a better one."""
    return {
        start: (progress, (*row[:-1], NOT_THE_BEST) if row[-1] == BEST_SO_FAR else row)
        for start, (progress, row) in rows.items()
    }
