"""Images shared out over devices: the same results as on one, whatever the number of devices."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh
from process_results import MANY

import jaxem
from jaxem.ops.sharding import Shards, as_shards

HERE = Path(__file__).parent
FAST = "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"  # to compile; nothing is large here
TOLERANCES = {"x32": 1e-5, "x64": 1e-10}


@pytest.fixture(scope="module", params=sorted(TOLERANCES))
def results(request, tmp_path_factory):
    """The arrays of all fits by name, number of devices (zero: without a mesh) and field; and the precision."""
    path = tmp_path_factory.mktemp("sharded") / f"{request.param}.npz"
    environment = os.environ | {"XLA_FLAGS": FAST, "JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "0"}
    command = [sys.executable, HERE / "sharded_results.py", path, request.param]
    subprocess.run(command, env=environment, check=True, timeout=900)
    found = {}
    with np.load(path) as archive:
        for key, array in archive.items():
            name, count, field = key.split("/")
            found.setdefault(name, {}).setdefault(int(count), {})[field] = array
    return request.param, found


def free_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def of_processes(tmp_path_factory):
    """The arrays of the fits of one, two and four processes by number, name and field."""
    folder = tmp_path_factory.mktemp("processes")
    environment = os.environ | {"XLA_FLAGS": FAST, "JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu"}
    found = {}
    for count in (1, 2, 4):
        port = free_port()
        path = folder / f"{count}.npz"
        commands = [
            [sys.executable, HERE / "process_results.py", *map(str, (port, count, number)), path, "x64"]
            for number in range(count)
        ]
        processes = [subprocess.Popen(command, env=environment) for command in commands]
        assert [process.wait(timeout=600) for process in processes] == [0] * count
        with np.load(path) as archive:
            found[count] = dict(archive.items())
    return found


def test_any_number_of_processes_finds_the_same(of_processes):
    alone = of_processes[1]
    streamed = {"stream", "stream, weighted", "stream, search"}
    assert {key.split("/")[0] for key in alone} == {"plain", "missing pixels", "search", "claims"} | streamed
    alone.pop("claims/.residuals.correlation_next")  # of pairs in batches, and a share has its own
    for count in (2, 4):
        found = {key: array for key, array in alone.items() if count < MANY or not key.startswith("claims/")}
        assert found.keys() == of_processes[count].keys() - {"claims/.residuals.correlation_next"}
        for key, array in found.items():
            most = 0 if array.dtype.kind in "ib" else 1e-10 * np.abs(array[np.isfinite(array)]).max(initial=0)
            shared = of_processes[count][key]
            np.testing.assert_allclose(shared, array, rtol=0, atol=most, err_msg=f"{key} of {count} processes")


def started(tmp_path, count, how):
    """So many processes that share a fit, and what they write."""
    environment = os.environ | {"XLA_FLAGS": FAST, "JAX_PLATFORMS": "cpu", "PYTHONUNBUFFERED": "1"}
    port, processes, logs = free_port(), [], [tmp_path / f"{number}.log" for number in range(count)]
    for number, log in enumerate(logs):
        command = [sys.executable, HERE / "process_that_dies.py", *map(str, (port, count, number)), how]
        with log.open("w") as stream:
            processes.append(subprocess.Popen(command, env=environment, stdout=stream, stderr=stream))
    return processes, logs


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("broken", ["ProcessesError: process 1 has failed", "OSError: the disk is gone"]),
        ("elsewhere", ["ProcessesError: the processes are not at the same step"] * 2),
    ],
)
def test_processes_that_cannot_go_on_together_say_so(tmp_path, how, words):
    processes, logs = started(tmp_path, 2, how)
    try:
        for process, log, words_of_it in zip(processes, logs, words, strict=True):
            assert process.wait(timeout=300) != 0
            assert words_of_it in log.read_text()
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_a_process_that_is_killed_ends_the_others(tmp_path):
    processes, logs = started(tmp_path, 3, "killed")
    try:
        end = time.monotonic() + 300
        while logs[1].read_text().count("step") < 2:
            assert time.monotonic() < end, logs[1].read_text()
            assert all(process.poll() is None for process in processes), logs[0].read_text()
            time.sleep(0.1)
        processes[1].kill()
        for number in (0, 2):
            assert processes[number].wait(timeout=60) != 0
            assert "ProcessesError: another process has ended" in logs[number].read_text()
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_any_number_of_devices_finds_the_same(results):
    precision, found = results
    found = {name: dict(counts) for name, counts in found.items() if name not in ("gathered", "claims")}
    assert {len(counts) - 1 for counts in found.values()} >= {1, 4}
    for name, counts in found.items():
        alone = counts.pop(0)
        assert np.isin(alone["status"], [jaxem.Status.CONVERGED, jaxem.Status.MAX_ITERATIONS]).all(), name
        assert (alone["num_iterations"] >= 2).all(), name
        for count, shared in counts.items():
            where = f"{name} on {count} devices, {precision}"
            assert alone.keys() == shared.keys(), where
            for field, array in alone.items():
                if array.dtype.kind in "ib":
                    np.testing.assert_array_equal(shared[field], array, err_msg=f"{where}: {field}")
                else:
                    most = TOLERANCES[precision] * np.abs(array).max()
                    np.testing.assert_allclose(shared[field], array, rtol=0, atol=most, err_msg=f"{where}: {field}")
                    assert array.dtype == {"x32": "float32", "x64": "float64"}[precision]


def test_frames_that_are_shared_out_are_assessed_alike(results):
    precision, found = results
    if precision == "x64":
        alone, shared = (found["claims"][count] for count in (0, 4))
        assert alone.keys() == shared.keys()
        assert alone[".contrast"] > 0
        for name, array in alone.items():
            most = TOLERANCES[precision] * max(1, np.abs(array[np.isfinite(array)]).max(initial=0))
            np.testing.assert_allclose(shared[name], array, rtol=0, atol=most, err_msg=name)


def test_no_device_gets_all_frames(results):
    precision, found = results
    if precision == "x64":
        assert 0 < found["gathered"][4]["numbers"] < 48 * 13 * 17 / 4


def test_a_mesh_of_one_device_in_this_process():
    images = jax.random.normal(jax.random.key(0), (7, 9, 8), jnp.float32)
    start = jaxem.random_params(jax.random.key(1), images, (3, 4))
    mesh = jaxem.device_mesh()
    alone, shared = jaxem.fit(images, start), jaxem.fit(images, start, mesh=mesh)
    np.testing.assert_allclose(shared.params.template, alone.params.template, rtol=1e-5, atol=1e-5)
    assert shared.corners.shape == (7, 2)


def test_shards_are_static_and_equal():
    mesh = Mesh(np.array(jax.devices()[:1]), ("frames",))
    shards = as_shards(np.zeros((5, 2, 2)), mesh)
    assert shards == Shards(mesh, ("frames",), 0)
    assert jax.tree.leaves(shards) == []
    assert as_shards(np.zeros((5, 2, 2)), None) is None
    assert as_shards(jnp.zeros((5, 2, 2)), None) is None
    padded = Shards(mesh, ("frames",), 2).place(np.ones((3, 4), np.float32))
    assert padded.tolist() == [[1] * 4] * 3 + [[0] * 4] * 2


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"mesh": "all"}, TypeError, "mesh must be a jax.sharding.Mesh or None, but is 'all'"),
        ({"mesh": Mesh(np.array(jax.devices()[:1]), ("rows",))}, ValueError, "must have an axis 'frames'"),
    ],
)
def test_meshes_that_do_not_fit(options, error, words):
    images = np.zeros((3, 4, 5), np.float32)
    start = jaxem.random_params(jax.random.key(1), images, (2, 2))
    with pytest.raises(error, match=words):
        jaxem.fit(images, start, **options)
    with pytest.raises(error, match=words):
        jaxem.fit_restarts(jax.random.key(0), images, (2, 2), **options)


def test_groups_of_devices_that_do_not_fit():
    with pytest.raises(ValueError, match="num_starts must divide the number of devices, 1, but is 2"):
        jaxem.device_mesh(num_starts=2, devices=jax.devices()[:1])
    with pytest.raises(ValueError, match="num_starts must be at least 1"):
        jaxem.device_mesh(num_starts=0)
    with pytest.raises(ValueError, match="num_starts must divide the number of devices, 0"):
        jaxem.device_mesh(devices=[])
