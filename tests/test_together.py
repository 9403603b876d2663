"""`jaxem fit` by several processes that are killed, and go on as others."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from test_sharding import FAST, free_port

SECONDS_TO_END = 60
ENVIRONMENT = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1", "XLA_FLAGS": FAST}
# A template that hardly stands out, to which EM converges slowly, and iterations to the last digit.
OPTIONS = ["--template-shape", "5", "4", "--sample", "100", "--restarts", "1", "--no-test", "--json"]
OPTIONS += ["--tolerance", "0", "--max-iterations", "40"]


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    rng = np.random.default_rng(0)
    background, template = rng.normal(0, 1, (24, 24)), rng.normal(0, 1.5, (5, 4))
    frames = np.repeat(background[None], 1203, axis=0)
    for frame, (row, column) in zip(frames, rng.integers(0, (20, 21), (1203, 2)), strict=True):
        frame[row : row + 5, column : column + 4] = template
    path = tmp_path_factory.mktemp("frames") / "stack.npy"
    np.save(path, frames + rng.normal(0, 1.4, frames.shape))
    return path


def start(stack, folder, count, *more):
    """So many processes, the first of which is given checkpoints."""
    port = free_port()
    together = ["--coordinator", f"localhost:{port}", "--processes", str(count)]
    command = [sys.executable, "-m", "jaxem", "fit", str(stack), *OPTIONS, *together]
    kept = ["--out", str(folder / "out"), "--checkpoint", str(folder / "saved"), *more]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": ENVIRONMENT}
    return [subprocess.Popen([*command, "--process", str(number), *kept], **pipes) for number in range(count)]


def wait_for_passes(first, num_passes):
    """Until so many passes over all frames were made."""
    for line in first.stdout:
        event = json.loads(line)
        if event["event"] == "progress" and event["stage"] == "EM" and event["num_steps"] >= num_passes:
            return
    raise AssertionError(first.stderr.read())


def worker_of(process):
    """The process that works, which another one watches."""
    children = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True, check=False)
    return int(children.stdout.split()[0])


def ends(running, seconds=SECONDS_TO_END):
    """Exit codes and lines on stderr of processes that must end by themselves."""
    by_then = time.monotonic() + seconds
    found = []
    try:
        for process in running:
            error = process.communicate(timeout=max(1, by_then - time.monotonic()))[1]
            found.append((process.returncode, error.splitlines()))
    finally:
        for process in running:
            process.kill()
    return found


def killed(running, victim, num_passes):
    """How processes end, one of which is killed after so many passes."""
    try:
        wait_for_passes(running[0], num_passes)
        os.kill(worker_of(running[victim]), signal.SIGKILL)
        return ends(running)
    finally:
        for process in running:
            process.kill()


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process watches over another one here")
def test_killed_processes_end_the_others_and_any_number_goes_on(stack, tmp_path):
    found = killed(start(stack, tmp_path, 4), 2, 4)
    assert found[2][0] not in (0, 5)
    for code, lines in (found[0], found[1], found[3]):
        assert code == 5, lines
        assert len(lines) == 1, lines
        assert lines[0].startswith("jaxem: ")
    assert "go on with --resume" in found[0][1][0]

    (first, _), (code, lines) = killed(start(stack, tmp_path, 2, "--resume"), 0, 8)
    assert first not in (0, 5)
    assert code == 5, lines
    assert len(lines) == 1, lines

    alone = tmp_path / "alone"
    alone.mkdir()
    for folder, count, *more in ((tmp_path, 2, "--resume"), (alone, 3)):
        found = ends(start(stack, folder, count, *more), 600)
        assert {code for code, _ in found} == {3}, found  # the iterations have run out
    results = [dict(np.load(folder / "out" / "result.npz")) for folder in (tmp_path, alone)]
    assert results[0].keys() == results[1].keys()
    for name in ("template", "background", "prior", "history", "noise_scale"):
        largest = np.nanmax(np.abs(results[1][name]))
        np.testing.assert_allclose(results[0][name], results[1][name], rtol=0, atol=1e-10 * largest, err_msg=name)
    np.testing.assert_array_equal(results[0]["corners"], results[1]["corners"])
    tables = [(folder / "out" / "positions.csv").read_text() for folder in (tmp_path, alone)]
    assert [table.count("\n") for table in tables] == [1204, 1204]
