"""A bar that shows how far a search is: only where asked for, by whatever is installed, and closed however it ends."""

import io
import sys
import types

import jax
import numpy as np
import pytest
from problems import random_params, sample

import jaxem
from jaxem import Progress, Status
from jaxem.search import progress_bar
from jaxem.search.progress_bar import ProgressBar

KEY = jax.random.key(0)
OPTIONS = {"num_restarts": 2, "search": None, "max_iterations": 3, "num_threads": 1}


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(61)
    return sample(rng, random_params(rng, (7, 8), (3, 4)), 12)[0].astype("float32")


class Drawing:
    """Remembers what it was told."""

    def __init__(self):
        self.shown, self.is_closed = [], False

    def update(self, num_done, num_total, text):
        assert not self.is_closed
        self.shown.append((num_done, num_total, text))

    def close(self):
        self.is_closed = True


@pytest.fixture
def drawing(monkeypatch):
    made = Drawing()
    monkeypatch.setattr(progress_bar, "best_drawing", lambda: made)
    return made


@pytest.fixture
def nothing_installed(monkeypatch):
    monkeypatch.setattr(progress_bar, "_is_installed", lambda name: False)


def told(start, stage, num_steps, num_left, ended=False):
    return Progress(start, stage, num_steps, num_left, -123.4, 1.0, ended, Status.RUNNING, None)


def test_it_is_silent_where_nobody_asks(images, capfd):
    jaxem.fit_restarts_parallel(KEY, images, (3, 4), **OPTIONS)
    assert capfd.readouterr() == ("", "")


@pytest.mark.usefixtures("nothing_installed")
def test_it_writes_where_somebody_asks_and_changes_nothing(images, capfd):
    expected = jaxem.fit_restarts_parallel(KEY, images, (3, 4), **OPTIONS)
    found = jaxem.fit_restarts_parallel(KEY, images, (3, 4), **OPTIONS, progress=True)
    np.testing.assert_array_equal(found.runs.history, expected.runs.history)
    out, error = capfd.readouterr()
    assert out == ""
    first, *_, last = error.splitlines()
    assert first.endswith("0/0 steps, 0:00, compiling")
    assert f"] {int(found.diagnostics.num_steps)}/{int(found.diagnostics.num_steps)} steps, " in last
    assert last.endswith(", done")
    assert "#" * progress_bar.WIDTH in last


def test_a_callback_is_told_as_well(images, drawing):
    heard = []
    jaxem.fit_restarts_parallel(KEY, images, (3, 4), **OPTIONS, progress=True, callback=heard.append)
    assert heard
    assert len(drawing.shown) == len(heard) + 2
    assert drawing.is_closed
    done, total, text = drawing.shown[-1]
    assert done == total == drawing.shown[-2][0]
    assert text == "done"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_it_is_closed_when_something_goes_wrong(images, drawing, error):
    def fail(progress):
        raise error("stop")

    with pytest.raises(error, match="stop"):
        jaxem.fit_restarts_parallel(KEY, images, (3, 4), **OPTIONS, progress=True, callback=fail)
    assert drawing.is_closed
    assert drawing.shown[-1][2] != "done"


def test_steps_of_all_runs_are_added_up():
    drawing = Drawing()
    with ProgressBar(lambda: drawing) as bar:
        bar(told(0, "annealing", 3, 90))
        bar(told(1, "annealing", 2, 88))
        bar(told(0, "annealing", 5, 60, ended=True))
        bar(told(0, "recentring", 4, 50, ended=True))
        bar(told(0, "recentring", 6, 9))  # a second one, counted from nothing again
    bar(told(1, "annealing", 9, 1))  # a thread that has not heard
    assert [shown[:2] for shown in drawing.shown] == [(0, 0), (3, 93), (5, 93), (7, 67), (11, 61), (17, 26), (17, 17)]
    assert drawing.shown[1][2] == "start 1: annealing, -123.4 nats"


def test_what_cannot_be_drawn_ends_no_search():
    def fail(*_):
        raise OSError("the screen is gone")

    with ProgressBar(fail) as bar:
        bar(told(0, "EM", 1, 2))
    drawing = Drawing()
    with ProgressBar(lambda: drawing) as bar:
        drawing.update = fail
        bar(told(0, "EM", 1, 2))
        bar(told(0, "EM", 2, 1))


class Screen(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.usefixtures("nothing_installed")
def test_on_a_terminal_the_line_is_written_over(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Screen())
    monkeypatch.setattr(progress_bar, "SECONDS_BETWEEN_DRAWINGS", 0)
    with ProgressBar() as bar:
        bar(told(0, "a stage of a long name", 1, 2))
        bar(told(0, "short", 1, 2))
    text = sys.stderr.getvalue()
    assert text.count("\n") == 1
    assert text.endswith("\n")
    lines = text.rstrip("\n").split("\r")[1:]
    assert len(lines[2]) >= len(lines[1])
    assert lines[1].startswith("[##########....................] 1/3 steps, 0:00, start 1: a stage of a long name")


@pytest.mark.usefixtures("nothing_installed")
def test_in_a_log_lines_are_few(capfd):
    with ProgressBar() as bar:
        for step in range(50):
            bar(told(0, "EM", step, 50 - step))
    assert len(capfd.readouterr().err.splitlines()) == 2


def test_rich_draws_on_terminals_where_it_is_installed(monkeypatch):
    monkeypatch.setattr(progress_bar, "_is_installed", lambda name: name == "rich")
    assert isinstance(progress_bar.best_drawing(), progress_bar.PlainDrawing)
    monkeypatch.setattr(sys, "stderr", Screen())
    monkeypatch.setenv("TERM", "xterm")
    with ProgressBar() as bar:
        assert isinstance(bar._drawing, progress_bar.RichDrawing)
        bar(told(0, "EM", 2, 2))
    text = sys.stderr.getvalue()
    assert "100%" in text
    assert "done" in text
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    for shell, is_notebook in (
        (None, False),
        (types.SimpleNamespace(), False),
        (types.SimpleNamespace(kernel=1), True),
    ):
        monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda shell=shell: shell))
        assert progress_bar.is_notebook() == is_notebook
    assert isinstance(progress_bar.best_drawing(), progress_bar.PlainDrawing)
    assert progress_bar.PlainDrawing()._writes_over


def test_tqdm_draws_where_it_is_installed(monkeypatch):
    bars = []

    class Bar:
        def __init__(self, total, **_):
            self.words, self.is_closed = [], False
            bars.append(self)

        def set_description(self, text, refresh):
            self.words.append((self.n, self.total, text))

        def close(self):
            self.is_closed = True

    monkeypatch.setitem(sys.modules, "tqdm", types.ModuleType("tqdm"))
    monkeypatch.setitem(sys.modules, "tqdm.auto", types.SimpleNamespace(tqdm=Bar))
    with ProgressBar() as bar:
        bar(told(0, "EM", 2, 3))
    assert bars[0].words == [(0, 0, "compiling"), (2, 5, "start 1: EM, -123.4 nats"), (2, 2, "done")]
    assert bars[0].is_closed
