"""A run from the shell that is killed again and again, and one that is interrupted, come to the undisturbed result."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

KILLS = int(os.environ.get("JAXEM_KILLS", "3"))
OPTIONS = ["--template-shape", "9", "10", "--tolerance", "0", "--plain", "--restarts", "4", "--no-test"]


def start(stack, out, *more, iterations=150):
    command = [sys.executable, "-m", "jaxem", "fit", str(stack), "--out", str(out), *OPTIONS, *map(str, more)]
    command += ["--max-iterations", str(iterations)]
    environment = {name: value for name, value in os.environ.items() if name != "XLA_FLAGS"}  # it computes for long
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def load(out):
    with np.load(out / "result.npz", allow_pickle=False) as result:
        return dict(result)


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """Noise, in which runs wander for long."""
    path = tmp_path_factory.mktemp("frames") / "stack.npy"
    np.save(path, np.random.default_rng(0).normal(size=(500, 40, 44)).astype("float32"))
    return path


@pytest.fixture(scope="module")
def undisturbed(stack, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole")
    began = time.monotonic()
    with start(stack, out) as process:
        _, error = process.communicate(timeout=300)
    assert process.returncode in (0, 3), error
    began = time.monotonic()  # once more, with what was compiled
    with start(stack, out) as process:
        process.communicate(timeout=300)
    return load(out), time.monotonic() - began


@pytest.mark.slow
def test_killed_at_random_moments(stack, undisturbed, tmp_path):
    expected, seconds = undisturbed
    chance, kills, resumed, saved = random.Random(1), 0, 0, tmp_path / "saved"
    while True:
        with start(stack, tmp_path / "out", "--checkpoint", saved, "--resume") as process:
            if kills < KILLS:
                while kills == 0 and process.poll() is None and not list(saved.glob("checkpoint-*")):
                    time.sleep(0.1)
                time.sleep(chance.uniform(0, 0.5) * seconds)
                process.kill()
                kills += 1
            output, error = process.communicate(timeout=300)
        resumed += "going on from" in output
        if process.returncode != -signal.SIGKILL:
            break
    assert process.returncode in (0, 3), error
    assert resumed > 0
    found = load(tmp_path / "out")
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.slow
def test_an_interruption_saves_what_is_done(stack, undisturbed, tmp_path):
    expected, _ = undisturbed
    for request in (signal.SIGINT, signal.SIGTERM):
        out = tmp_path / request.name
        with start(stack, out, "--json") as process:
            under_way = (json.loads(line).get("num_steps", 0) >= 20 for line in process.stdout)
            assert any(under_way)
            process.send_signal(request)
            _, error = process.communicate(timeout=60)
        saved = out / "checkpoint"
        assert process.returncode == 130
        assert error == (
            f"jaxem: interrupted; what was done is saved in {saved}; go on with --checkpoint {saved} --resume\n"
        )
        assert not (out / "result.npz").exists()
    with start(stack, out, "--checkpoint", saved) as process:
        _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert error == f"jaxem: --checkpoint {saved} holds checkpoints; add --resume or choose an empty folder.\n"
    with start(stack, out, "--checkpoint", saved, "--resume", iterations=151) as process:
        _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert error.endswith("is of other work: its --max-iterations is 150, and here it is 151.\n")
    newest = max(saved.iterdir())
    newest.write_bytes(newest.read_bytes()[:-7])
    if len(list(saved.iterdir())) > 1:
        with start(stack, out, "--checkpoint", saved, "--resume") as process:
            _, error = process.communicate(timeout=300)
        assert f"jaxem: warning: {newest} is damaged and was passed over" in error
        np.testing.assert_array_equal(load(out)["history"], expected["history"])
