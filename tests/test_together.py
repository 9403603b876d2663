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
OPTIONS = [
    "--template-shape",
    "5",
    "4",
    "--sample",
    "100",
    "--restarts",
    "1",
    "--tolerance",
    "0",
    "--no-test",
    "--json",
]
OPTIONS += ["--max-iterations", "40"]


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


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no process watches over another one here")
def test_killed_processes_end_the_others_and_any_number_goes_on(stack, tmp_path):
    four = start(stack, tmp_path, 4)
    try:
        wait_for_passes(four[0], 4)
        os.kill(worker_of(four[2]), signal.SIGKILL)
        found = ends(four)
    finally:
        for process in four:
            process.kill()
    assert all(code != 0 for code, _ in found)
    for number in (0, 1, 3):
        code, (line,) = found[number]
        assert code == 5, line
        assert line.startswith("jaxem: ")
    assert "go on with --resume" in found[0][1][0]

    two = start(stack, tmp_path, 2, "--resume")
    try:
        wait_for_passes(two[0], 8)
        os.kill(worker_of(two[0]), signal.SIGKILL)
        found = ends(two)
    finally:
        for process in two:
            process.kill()
    for code, lines in found[1:]:
        assert code == 5, lines
        assert len(lines) == 1, lines

    found = ends(start(stack, tmp_path, 2, "--resume"), 600)
    assert [code for code, _ in found] in ([0, 0], [3, 3]), found  # the iterations may have run out
    alone = tmp_path / "alone"
    alone.mkdir()
    (code, lines), _ = ends(start(stack, alone, 2), 600)
    assert code in (0, 3), lines
    results = [dict(np.load(folder / "out" / "result.npz")) for folder in (tmp_path, alone)]
    assert results[0].keys() == results[1].keys()
    for name in ("template", "background", "prior", "history", "noise_scale"):
        np.testing.assert_allclose(results[0][name], results[1][name], rtol=1e-6, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(results[0]["corners"], results[1]["corners"])
    tables = [(folder / "out" / "positions.csv").read_text().count("\n") for folder in (tmp_path, alone)]
    assert tables == [1204, 1204]
