"""A bar that shows how far a search is, in terminals and in notebooks, by whatever is there to draw one.

tqdm where it is installed; else rich, on terminals (in notebooks it would need ipywidgets); else a line of our own on
standard error. None of them is needed by the package, so they are named to `importlib` and not imported.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any, Protocol

from jaxem.runtime.text import clock
from jaxem.search.progress import Progress

SECONDS_BETWEEN_DRAWINGS, SECONDS_BETWEEN_LINES = 0.2, 10.0
WIDTH = 30  # of our own bar, characters


class Drawing(Protocol):
    """What shows a bar."""

    def update(self, num_done: int, num_total: int, text: str) -> None:
        """Show so many of so many steps, and what is being done."""

    def close(self) -> None:
        """Show nothing more."""


class ProgressBar:
    """Adds up the steps of all runs, each of which tells its own; to be used in a ``with`` statement, which closes it.

    Steps that a search turns out not to need are taken off the total. Threads that still run when it is closed, after
    an error or an interruption, change nothing any more. What cannot be drawn is not: no search ends for that.

    Args:
        make: makes the drawing; by default the best that is there.
    """

    def __init__(self, make: Callable[[], Drawing] | None = None) -> None:
        self._make = best_drawing if make is None else make
        self._drawing: Drawing | None = None
        self._num_done, self._last = 0, dict[tuple[int, str], int]()
        self._lock = threading.Lock()

    def __enter__(self) -> ProgressBar:
        with suppress(Exception):
            self._drawing = self._make()
        with self._lock:
            self._show(0, "compiling")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._lock:
            if kind is None:
                self._show(0, "done")
            drawing, self._drawing = self._drawing, None
        if drawing is not None:
            with suppress(Exception):
                drawing.close()

    def __call__(self, progress: Progress) -> None:
        """Take in what a run tells; a callback of `fit_restarts_parallel`."""
        with self._lock:
            run = progress.start, progress.stage
            self._num_done += progress.num_steps - self._last.pop(run, 0)
            if not progress.ended:
                self._last[run] = progress.num_steps
            self._show(progress.num_left, f"start {progress.start + 1}: {progress.stage}, {progress.elbo:.7g} nats")

    def _show(self, num_left: int, text: str) -> None:
        if self._drawing is not None:
            try:
                self._drawing.update(self._num_done, self._num_done + num_left, text)
            except Exception:
                self._drawing = None


@contextmanager
def watched(
    callback: Callable[[Progress], None] | None, shows_bar: bool
) -> Iterator[Callable[[Progress], None] | None]:
    """Whom to tell how far a search is: the callback, a bar that is there meanwhile, both, or nobody."""
    if not shows_bar:
        yield callback
        return
    with ProgressBar() as bar:

        def tell_both(progress: Progress) -> None:
            bar(progress)
            if callback is not None:
                callback(progress)

        yield tell_both


def best_drawing() -> Drawing:
    """By what is installed here, and what it is shown on."""
    if _is_installed("tqdm"):
        return TqdmDrawing()
    if _is_installed("rich") and sys.stderr.isatty() and not is_notebook():
        return RichDrawing()
    return PlainDrawing()


def _is_installed(name: str) -> bool:
    return name in sys.modules or importlib.util.find_spec(name) is not None


def is_notebook() -> bool:
    """Whether output goes to a notebook, which draws over a line but is no terminal."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


class TqdmDrawing:
    """By tqdm, which finds out by itself whether this is a notebook."""

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it warns where a notebook has no ipywidgets, and then draws text
            auto = importlib.import_module("tqdm.auto")
            self._bar: Any = auto.tqdm(total=0, unit="step", leave=True)

    def update(self, num_done: int, num_total: int, text: str) -> None:
        self._bar.total, self._bar.n = num_total, num_done
        self._bar.set_description(text, refresh=True)

    def close(self) -> None:
        self._bar.close()


class RichDrawing:
    """By rich, on a terminal."""

    def __init__(self) -> None:
        rich, console = importlib.import_module("rich.progress"), importlib.import_module("rich.console")
        self._bar: Any = rich.Progress(console=console.Console(stderr=True))
        self._task = self._bar.add_task("compiling", total=None)
        self._bar.start()

    def update(self, num_done: int, num_total: int, text: str) -> None:
        escape = importlib.import_module("rich.markup").escape
        self._bar.update(self._task, completed=num_done, total=num_total or None, description=escape(text))

    def close(self) -> None:
        self._bar.stop()


class PlainDrawing:
    """By a line that is written over where that can be, and a line now and then elsewhere."""

    def __init__(self) -> None:
        self._writes_over = sys.stderr.isatty() or is_notebook()
        self._between = SECONDS_BETWEEN_DRAWINGS if self._writes_over else SECONDS_BETWEEN_LINES
        self._begun = time.monotonic()
        self._drawn, self._line, self._length = -float("inf"), "", 0

    def update(self, num_done: int, num_total: int, text: str) -> None:
        now = time.monotonic()
        filled = WIDTH * num_done // max(num_total, 1)
        bar = f"[{'#' * filled}{'.' * (WIDTH - filled)}] {num_done}/{num_total} steps, {clock(now - self._begun)}"
        self._line = f"{bar}, {text}"
        if now - self._drawn >= self._between:
            self._drawn = now
            self._write(self._line)

    def close(self) -> None:
        if self._line:
            self._write(self._line)
        if self._writes_over:
            sys.stderr.write("\n")
        sys.stderr.flush()

    def _write(self, line: str) -> None:
        if self._writes_over:
            sys.stderr.write("\r" + line.ljust(self._length))
        else:
            sys.stderr.write(line + "\n")
        self._length, self._line = len(line), ""
        sys.stderr.flush()
