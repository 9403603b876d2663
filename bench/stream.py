"""Frames that are read a few at a time: what reading costs beside computing, and how much memory there is in use.

    python bench/stream.py [made] [file] [memory] [--gigabytes 20] [--steps 1] [--json FILE]

`made`: frames are made while they are read, of so many gigabytes. `file`: a .npy file of 3 GB, mapped. `memory`: 0.25
GB, streamed and in memory. Each in a process of its own, whose peak resident memory is told. *Busy* is the share of the
time of a pass that the threads which compute are computing.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time

import common
import jax
import jax.numpy as jnp
import numpy as np

import jaxem
from jaxem.stream import passes

IMAGE, TEMPLATE, POOL = (128, 128), (24, 24), 512


class Made:
    """A template at a random place in each frame, and noise that is cut from a pool, which takes little time."""

    def __init__(self, num_frames: int):
        rng = np.random.default_rng(0)
        self.template = rng.normal(size=TEMPLATE).astype(np.float32)
        self.pool = rng.normal(size=(POOL, *IMAGE)).astype(np.float32)
        self.shape, self.dtype, self.seconds = (num_frames, *IMAGE), np.dtype(np.float32), 0.0

    def read(self, start, stop):
        """The same frames whenever they are asked for."""
        before = time.perf_counter()
        frames = self.pool[np.arange(start, stop) * 37 % POOL]
        (height, width), rng = TEMPLATE, np.random.default_rng(start)
        corners = rng.integers(0, np.subtract(IMAGE, TEMPLATE) + 1, (stop - start, 2))
        for frame, (row, column) in zip(frames, corners, strict=True):
            frame[row : row + height, column : column + width] += self.template
        self.seconds += time.perf_counter() - before
        return frames

    @property
    def start(self):
        """Near the truth."""
        positions = tuple(n - m + 1 for n, m in zip(IMAGE, TEMPLATE, strict=True))
        prior = np.full(positions, 1 / np.prod(positions), np.float32)
        return jaxem.Params(0.8 * self.template, np.zeros(IMAGE, np.float32), np.float32(1.2), prior)


class Watch:
    """Notes how long each pass takes, and how long its threads compute."""

    def __init__(self):
        self.passes, self.computing, self._lock = [], 0.0, threading.Lock()
        work, run = passes._work_on, passes.Passes.run

        def timed_work(*args):
            before = time.perf_counter()
            found = work(*args)
            with self._lock:
                self.computing += time.perf_counter() - before
            return found

        def timed_run(here, *args, **options):
            before, computed = time.perf_counter(), self.computing
            found = run(here, *args, **options)
            seconds = time.perf_counter() - before
            busy = (self.computing - computed) / seconds / here._num_threads
            self.passes.append({"seconds": seconds, "busy": busy})
            return found

        passes._work_on, passes.Passes.run = timed_work, timed_run


def peak_megabytes():
    """The most that was ever resident in this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def streamed(source, start, num_steps):
    """A fit of so many E-steps, and what it took."""
    watch, before = Watch(), peak_megabytes()
    found = jaxem.stream.fit(source, start, max_iterations=num_steps - 1, tolerance=-np.inf)
    gigabytes = np.prod(source.shape) * source.dtype.itemsize / 1e9
    last = watch.passes[-1]
    return {
        "gigabytes": gigabytes,
        "seconds of passes": [one["seconds"] for one in watch.passes],
        "busy": [one["busy"] for one in watch.passes],
        "gigabytes a second": gigabytes / last["seconds"],
        "megabytes before": before,
        "peak megabytes": peak_megabytes(),
        "noise": float(found.params.noise_scale),
    }


def made(arguments):
    """Frames that are made on the fly."""
    source = Made(int(arguments.gigabytes * 1e9 / (4 * np.prod(IMAGE))))
    figures = streamed(source, source.start, arguments.steps)
    seconds = sum(figures["seconds of passes"])
    return figures | {"share of the time that the reader works": source.seconds / seconds}


def file(arguments):
    """A mapped file, which was written by another process."""
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "frames.npy")
        code = (
            "import sys, numpy as np, stream; source = stream.Made(int(3e9 / (4 * np.prod(stream.IMAGE))));"
            "file = np.lib.format.open_memmap(sys.argv[1], 'w+', source.dtype, source.shape);"
            "parts = [(i, min(i + 512, len(file))) for i in range(0, len(file), 512)];"
            "[file.__setitem__(slice(*part), source.read(*part)) for part in parts]"
        )
        subprocess.run([sys.executable, "-c", code, path], check=True, cwd=os.path.dirname(__file__))
        return streamed(np.load(path, mmap_mode="r"), Made(1).start, arguments.steps)


def memory(arguments):
    """One E-step and one M-step more, of a stack that is in memory, on one core and on all."""
    source = Made(int(0.25e9 / (4 * np.prod(IMAGE))))
    images = source.read(0, source.shape[0])
    on_device, start = jax.device_put(jnp.asarray(images)), source.start

    def seconds_a_step(fit, *args):
        times = []
        for num_steps in (1, 4):
            fit(*args, start, max_iterations=num_steps - 1, tolerance=-np.inf)
            before = time.perf_counter()
            jax.block_until_ready(fit(*args, start, max_iterations=num_steps - 1, tolerance=-np.inf))
            times.append(time.perf_counter() - before)
        return (times[1] - times[0]) / 3

    figures = {"in memory, one core": seconds_a_step(jaxem.fit, on_device)}
    figures["streamed, all cores"] = seconds_a_step(jaxem.stream.fit, images)
    passes.available_cores = lambda: 1
    return figures | {"streamed, one core": seconds_a_step(jaxem.stream.fit, images)}


MEASURED = {"made": made, "file": file, "memory": memory}


def main():
    """Each measurement in a process of its own."""
    options = common.parser(__doc__)
    options.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(MEASURED)}; by default all")
    options.add_argument("--gigabytes", type=float, default=20.0)
    options.add_argument("--steps", type=int, default=1)
    options.add_argument("--alone", action="store_true", help="in this process")
    arguments = options.parse_args()
    if arguments.alone:
        print(json.dumps(MEASURED[arguments.names[0]](arguments)))
        return
    figures = {}
    for name in arguments.names or MEASURED:
        sizes = ["--gigabytes", str(arguments.gigabytes), "--steps", str(arguments.steps)]
        command = [sys.executable, __file__, name, "--alone", *sizes]
        figures[name] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
        print(name, json.dumps(figures[name], indent=1), flush=True)
    common.write(arguments.json, figures)


if __name__ == "__main__":
    main()
