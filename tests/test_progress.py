"""What is shown while a search runs: each start, its stages, and what became of them."""

import io
import json
import re

import pytest
from rich.console import Console

from jaxem import Progress, Status
from jaxem.cli import progress as plain
from jaxem.cli.live_table import AFTERWARDS, LiveDisplay
from jaxem.cli.progress import JsonDisplay, PlainDisplay
from jaxem.search.progress import ALL_STAGE, HARD_STAGE, PLAIN_STAGE, PRIOR_STAGE, STAGE_NAMES

NAN = float("nan")


def told(start, stage, num_steps, elbo, ended, is_better=None, status=Status.RUNNING, gain=2.0):
    return Progress(start, stage, num_steps, 100, elbo, gain, ended, status, is_better)


SEARCH = [
    told(0, "annealing", 1, -4000.0, False, gain=NAN),
    told(1, "annealing", 7, -3500.0, True, True),
    told(0, "annealing", 12, -3300.0, True, True),
    told(2, "annealing", 1, -9900.0, True, True),
    told(0, "trial start", 1, -3400.0, True, False),
    told(0, "trial start", 1, -3450.0, True, False),
    told(0, "reinitializing", 9, -3290.0, True, True),
    told(0, "recentring", 4, -3250.0, True, True),
    told(0, "recentring", 4, -3270.0, True, False),
    told(0, "converging", 7, -3200.0, True, True, Status.CONVERGED),
]
LINES = """\
  start  2:      -350.00 nats an image, annealing ended after 7 steps: best so far
  start  1:      -330.00 nats an image, annealing ended after 12 steps: best so far
  start  3:      -990.00 nats an image, annealing ended after 1 step: not the best
  annealing has lost the template; trial starts from single frames follow
  start  1:      -329.00 nats an image, reinitializing ended after 9 steps: best so far
  start  1:      -325.00 nats an image, first recentring ended after 4 steps: best so far
  start  1:      -327.00 nats an image, second recentring ended after 4 steps: no better, dropped
  start  1:      -320.00 nats an image, converging ended after 7 steps: converged
"""


def test_plain_lines_tell_what_became_of_each_stage(capfd):
    display = PlainDisplay(10)
    for progress in SEARCH:
        display.progress(progress)
    assert capfd.readouterr().out == LINES


def test_after_a_resumption_recentrings_are_not_counted(capfd):
    display = PlainDisplay(10)
    display.note("resumed", "going on from \x1b[31mthere")
    display.progress(SEARCH[-2])
    out = capfd.readouterr().out
    assert out.startswith("going on from ?[31mthere\n")
    assert "nats an image, recentring ended after 4 steps: no better, dropped" in out


def test_long_stages_give_signs_of_life(capfd, monkeypatch):
    display = PlainDisplay(10)
    display.progress(SEARCH[0])
    assert capfd.readouterr().out == ""
    monkeypatch.setattr(plain, "SECONDS_BETWEEN_SIGNS", 0)
    display.progress(SEARCH[0])
    assert capfd.readouterr().out == "  start  1:      -400.00 nats an image, annealing, 1 step so far\n"


@pytest.mark.parametrize("stage", [HARD_STAGE, PLAIN_STAGE])
@pytest.mark.parametrize(
    ("status", "words"), [(Status.MAX_ITERATIONS, "max iterations"), (Status.NONFINITE, "nonfinite")]
)
def test_runs_by_themselves_end_with_a_status(capfd, stage, status, words):
    PlainDisplay(10).progress(told(0, stage, 50, -3200.0, True, None, status))
    assert capfd.readouterr().out.endswith(f" nats an image, {stage} ended after 50 steps: {words}\n")


def test_json_lines_hold_everything(capfd):
    display = JsonDisplay(10)
    display.note("wrote", "wrote it", paths=["a", "b"])
    display.progress(SEARCH[0])
    first, second = map(json.loads, capfd.readouterr().out.splitlines())
    assert first == {"event": "wrote", "text": "wrote it", "paths": ["a", "b"]}
    assert second.pop("seconds") >= 0
    assert second == {
        "event": "progress", "start": 1, "stage": "annealing", "num_steps": 1, "num_left": 100, "elbo": -4000.0,
        "gain": None, "ended": False, "status": "RUNNING", "is_better": None, "num_images": None,
    }  # fmt: skip


def shown(display):
    console = Console(file=io.StringIO(), width=110)
    console.print(display.render())
    *rows, footer = console.file.getvalue().splitlines()
    return [re.split(r" {2,}", row.strip()) for row in rows[1:]], footer


def test_the_live_table_says_for_each_start_where_it_is_and_what_became_of_it():
    screen = Console(file=io.StringIO(), force_terminal=True, width=110)
    with LiveDisplay(10, screen) as display:
        assert shown(display)[1].startswith("compiling, 0:0")
        display.note("frames", "9 frames [bold] of :cat:")
        steps = iter(SEARCH)
        display.progress(next(steps))
        rows, footer = shown(display)
        assert rows == [["1", "annealing", "1", "-400.000"]]
        assert footer.startswith("1 start under way, ")
        for progress in (next(steps), next(steps), next(steps)):
            display.progress(progress)
        rows, footer = shown(display)
        assert [row[-1] for row in rows] == ["best so far", "not the best", "not the best"]
        assert footer.startswith("choosing the best start, ")
        for progress in steps:
            display.progress(progress)
        rows, footer = shown(display)
        assert rows[0] == ["1", "converging", "7", "-320.000", "+0.2", "converged"]
        assert footer.startswith("finishing, ")
    text = screen.file.getvalue()
    assert "9 frames [bold] of :cat:" in text
    for line in LINES.splitlines():
        assert line in text


def test_of_every_stage_it_is_known_what_comes_next():
    assert set(AFTERWARDS) == {*STAGE_NAMES.values(), PRIOR_STAGE, HARD_STAGE, PLAIN_STAGE, ALL_STAGE}


def test_of_many_starts_the_table_shows_the_last():
    display = LiveDisplay(10, Console(file=io.StringIO()))
    for start in range(30):
        display.progress(told(start, "EM", 3, -4000.0, False))
    rows, footer = shown(display)
    assert [row[0] for row in rows] == [str(number) for number in range(19, 31)]
    assert footer.startswith("30 starts under way")
