"""Weak scaling: frames a second of one process on one core, and of two processes with a core and as many frames each.

    python bench/scaling.py [--frames 20000] [--rounds 3]

Frames of 64 x 64 with a 16 x 16 template, read from memory in passes (`jaxem.stream.fit`), two iterations a fit.
Processes are pinned to a core each; the second fit of each is timed, so that nothing is compiled in it. Rounds go in
turn.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time

SIZE, TEMPLATE, DISTINCT, ITERATIONS = 64, 16, 500, 2


def work(port: int, count: int, number: int, num_frames: int) -> None:
    """One process of so many."""
    os.sched_setaffinity(0, {number})
    import jax
    import numpy as np

    import jaxem

    if count > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"localhost:{port}", count, number)
    template = jax.random.normal(jax.random.key(0), (TEMPLATE, TEMPLATE))
    positions = SIZE - TEMPLATE + 1
    prior = jax.numpy.full((positions, positions), 1 / positions**2)
    truth = jaxem.Params(template, jax.numpy.zeros((SIZE, SIZE)), jax.numpy.array(1.0), prior)
    some = np.asarray(jaxem.simulate(jax.random.key(1), truth, DISTINCT)[0])

    class Repeated:
        shape, dtype = (count * num_frames, SIZE, SIZE), some.dtype

        def read(self, start: int, stop: int) -> np.ndarray:
            return some[np.arange(start, stop) % DISTINCT]

    def fit() -> float:
        before = time.perf_counter()
        jaxem.stream.fit(Repeated(), truth, max_iterations=ITERATIONS, tolerance=-np.inf)
        return time.perf_counter() - before

    fit()
    seconds = fit()
    if number == 0:
        print(count * num_frames * (ITERATIONS + 2) / seconds)


def frames_a_second(count: int, num_frames: int) -> float:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    commands = [
        [sys.executable, __file__, "--work", str(port), str(count), str(number), str(num_frames)]
        for number in range(count)
    ]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for command in commands]
    said = [process.communicate()[0] for process in processes]
    return float(said[0].split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--work", type=int, nargs=4)
    options = parser.parse_args()
    if options.work:
        work(*options.work)
        return
    for _ in range(options.rounds):
        one, two = (frames_a_second(count, options.frames) for count in (1, 2))
        print(f"one process {one:9.0f} frames a second and pass, two {two:9.0f}, {two / one:.2f} times")


if __name__ == "__main__":
    main()
