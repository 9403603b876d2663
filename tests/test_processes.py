"""What processes tell each other, and how they end when one of them does."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from test_sharding import FAST, free_port

import jaxem
from jaxem.cli.requests import Together, parse_together
from jaxem.runtime import processes
from jaxem.runtime.errors import ArgumentValueError

SCRIPT = Path(__file__).parent / "process_shares.py"
PLAIN_CODE = "--xla_cpu_max_isa=SSE4_2"  # as another model of processor would run


@contextmanager
def started(tmp_path, how, numbers, count=None, flags=()):
    """Processes with these numbers, and the files they write to."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "0"}
    port, count = free_port(), count or len(numbers)
    paths, running = [tmp_path / f"{place}.json" for place in range(len(numbers))], []
    try:
        for place, (number, path) in enumerate(zip(numbers, paths, strict=True)):
            command = [sys.executable, SCRIPT, *map(str, (port, count, number)), path, how]
            own = environment | {"XLA_FLAGS": f"{FAST} {flags[place] if flags else ''}"}
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            running.append(subprocess.Popen(command, env=own, **pipes))
        yield list(running), paths
    finally:
        for process in running:
            process.kill()
            process.communicate()


def ended(process, seconds):
    """Its exit code and the lines on its stderr."""
    error = process.communicate(timeout=seconds)[1]
    return process.returncode, error.splitlines()


def test_all_hold_what_the_first_one_found_though_their_processors_differ(tmp_path):
    with started(tmp_path, "shares", [0, 1], flags=["", PLAIN_CODE]) as (running, paths):
        for process in running:
            code, lines = ended(process, 600)
            assert code == 0, lines
        first, *others = (json.loads(path.read_text()) for path in paths)
    assert first["first"] == {"sent": (np.arange(5) * np.pi).tolist(), "odd": [0, 2**62], "jax": 0}
    assert first["bytes"] == (bytes(range(256)) * 3).hex()
    assert first["entries"].keys() == {"one", "two"}
    assert first["share of one"] == 10
    assert first["is first"]
    np.testing.assert_allclose(first["elbo of one"], first["elbo"], rtol=1e-5)
    for other in others:
        for name in ("first", "bytes", "entries", "fit", "elbo"):
            assert other[name] == first[name], name
    assert first["share"] + sum(other["share"] for other in others) == 10


def has_met(paths):
    end = time.monotonic() + 200
    while not all(path.exists() and path.read_text() == "met" for path in paths):
        assert time.monotonic() < end
        time.sleep(0.1)
    time.sleep(1)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
@pytest.mark.parametrize("victim", [0, 2])
def test_whichever_is_killed_the_others_end_with_one_line_each(tmp_path, victim):
    with started(tmp_path, "waits", [0, 1, 2, 3]) as (running, paths):
        has_met(paths)
        killed = running.pop(victim)
        killed.send_signal(signal.SIGKILL)
        for process in running:
            code, lines = ended(process, 60)
            assert code == 5, lines
            assert len(lines) == 1, lines
            assert "another process has ended, or cannot be reached" in lines[0]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
@pytest.mark.parametrize(
    ("how", "numbers", "count", "codes", "words"),
    [
        ("alone", [1], 2, [5], ["not met in time"]),
        ("miscounted", [0, 1], 2, [5, 5], ["told that they are 2 and 3, and 2 have met"] * 2),
        ("broken", [0, 1], 2, [5, 2], ["process 1 has failed; it says why", "path does not exist"]),
    ],
)
def test_what_keeps_processes_from_working_together_is_said_in_one_line(tmp_path, how, numbers, count, codes, words):
    with started(tmp_path, how, numbers, count) as (running, _):
        for process, code, said in zip(running, codes, words, strict=True):
            found, lines = ended(process, 100)
            assert found == code, lines
            assert len(lines) == 1, lines
            assert said in lines[0]


@pytest.mark.parametrize(
    ("told", "words"),
    [
        ((False, "node1:4321", None, None), "coordinator needs --processes N"),
        ((False, "node1:4321", 2, None), "coordinator needs --processes N"),
        ((False, "node1", 2, 0), "coordinator must be HOST:PORT"),
        ((False, ":4321", 2, 0), "coordinator must be HOST:PORT"),
        ((False, "node1:70000", 2, 0), "coordinator must be HOST:PORT"),
        ((False, "node1:4321", 0, 0), "processes must be at least 1, but is 0"),
        ((False, "node1:4321", 2, 2), "process must be from 0 to 1"),
        ((False, "node1:4321", 2, -1), "process must be from 0 to 1"),
        ((True, "node1:4321", 2, 0), "distributed and --coordinator exclude each other"),
        ((True, None, 2, None), "processes needs --coordinator HOST:PORT"),
        ((False, None, None, 0), "process needs --coordinator HOST:PORT"),
    ],
)
def test_others_that_cannot_be(told, words):
    with pytest.raises(ArgumentValueError, match=words):
        parse_together(*told)


def test_others_as_they_are_told():
    assert parse_together(False, None, None, None) is None
    assert parse_together(True, None, None, None) == Together()
    assert parse_together(False, "[::1]:4321", 2, 1) == Together("[::1]:4321", 2, 1)


def test_a_cluster_that_says_nothing_is_said_in_one_line(tmp_path):
    command = [sys.executable, "-m", "jaxem", "fit", "x", "--template-shape", "4", "5", "--out", "y", "--distributed"]
    gone = ("SLURM", "OMPI", "PMI", "KUBERNETES", "JAX_COORDINATOR")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(gone)}
    found = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (found.returncode, found.stdout) == (5, "")
    assert re.fullmatch("jaxem: nothing says which processes there are: .*\n", found.stderr)


def test_alone_nothing_is_copied():
    tree = {"a": np.arange(3), "b": [np.ones(2)]}
    assert processes.from_first(tree) is tree
    assert processes.bytes_from_first(b"abc") == b"abc"
    assert processes.is_first()
    processes.part()
    assert processes.own_share(7) == range(7)
    with pytest.raises(OSError, match="gone"), processes.together():
        raise OSError("gone")
    checkpointer = jaxem.Checkpointer()
    checkpointer.take_up_first()
    assert checkpointer.entries == {}


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
def test_the_command_shares_frames_out(tmp_path):
    rng = np.random.default_rng(3)
    frames = rng.normal(100, 8, (90, 12, 13))
    for number, (row, column) in enumerate(rng.integers(0, 8, (90, 2))):
        frames[number, row : row + 5, column : column + 4] += 40
    np.save(tmp_path / "frames.npy", frames.astype("float32"))
    command = [sys.executable, "-m", "jaxem", "fit", "frames.npy", "--template-shape", "5", "4", "--sample", "40"]
    command += ["--plain", "--restarts", "1", "--checkpoint"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "0", "XLA_FLAGS": FAST}
    port, ends = free_port(), []
    others = ["--coordinator", f"localhost:{port}", "--processes", "2", "--process"]
    for name, more in (("0", [*others, "0"]), ("1", [*others, "1"]), ("alone", [])):
        own = [*command, f"{name}-saved", "--out", f"{name}-found", *more]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        ends.append(subprocess.Popen(own, cwd=tmp_path, env=environment, **pipes))
    said = [process.communicate(timeout=600) for process in ends]
    assert [process.returncode for process in ends] == [0, 0, 0], said
    assert "are read a few at a time, by 2 processes" in said[0][0]
    assert said[1] == ("", "")
    assert {path.name for path in tmp_path.iterdir()} == {
        "frames.npy", "0-saved", "0-found", "alone-saved", "alone-found",
    }  # fmt: skip
    shared, alone = (jaxem.load(tmp_path / f"{name}-found" / "result.npz") for name in ("0", "alone"))
    np.testing.assert_array_equal(shared.best.corners, alone.best.corners)
    np.testing.assert_allclose(shared.best.params.template, alone.best.params.template, rtol=1e-2)
