"""Two versions of jaxem side by side: how long the first answer takes, and an iteration once all is compiled.

    python bench/versions.py BEFORE AFTER [--only first|steady] [--pairs 30] [--json FILE]

BEFORE and AFTER are the Python interpreters of two environments, each with its version installed. First answers are
timed in fresh processes with empty caches, in turn: wall seconds and those of all processors, of children too. Steady
iterations are timed in one process for each version, which take turns: a pair is the least of a few turns of each, as
others use the machine. Printed is the median of the pairs' ratios with its 95 % interval, by bootstrap.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np

SHAPES = {
    "200 x (100, 200) / (60, 40)": ((200, 100, 200), (60, 40), 4),
    "512 x (64, 64) / (16, 16)": ((512, 64, 64), (16, 16), 8),
    "1000 x (50, 100) / (30, 20)": ((1000, 50, 100), (30, 20), 4),
    "300 x (28, 28) / (10, 10)": ((300, 28, 28), (10, 10), 60),
}
TURNS = 5

FIRST_CALL = """
import time, resource
import numpy as np, jax
images = np.load({frames!r})
def used():
    return time.perf_counter(), sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
import jaxem
before = used()
jax.block_until_ready(jaxem.fit_restarts(jax.random.key(0), images, (10, 10)))
print(*(later - earlier for earlier, later in zip(before, used())))
"""

# Waits for the number of a shape and a kind, answers with the milliseconds of an iteration.
WORKER = """
import sys, time
import numpy as np, jax, jax.numpy as jnp, jaxem
shapes = {shapes!r}
problems = []
for (count, height, width), template, iterations in shapes:
    rng = np.random.default_rng(0)
    images = jnp.asarray(rng.random((count, height, width)), jnp.float32)
    start = jaxem.random_params(jax.random.key(0), images, template)
    problems.append((images, start._replace(noise_scale=jnp.float32(0.5)), iterations))
def seconds(number, hard, iterations):
    images, start, _ = problems[number]
    before = time.perf_counter()
    jax.block_until_ready(jaxem.fit(images, start, hard=hard, max_iterations=iterations, tolerance=-jnp.inf))
    return time.perf_counter() - before
for line in sys.stdin:
    number, hard = map(int, line.split())
    iterations = problems[number][2]
    print(1e3 * seconds(number, bool(hard), iterations) / iterations, flush=True)
"""


def frames():
    """300 frames of 28 x 28 with a template of 10 x 10, as little work as a first call should be measured on."""
    rng = np.random.default_rng(0)
    template, images = 0.5 + rng.normal(size=(10, 10)), np.repeat(rng.normal(size=(1, 28, 28)), 300, axis=0)
    for image, (row, column) in zip(images, rng.integers(0, 19, (300, 2)), strict=True):
        image[row : row + 10, column : column + 10] = template
    return (images + rng.normal(size=images.shape)).astype(np.float32)


def run(command, folder):
    """Wall and processor seconds of a command, with empty caches."""
    cache = tempfile.mkdtemp(dir=folder)
    environment = {**os.environ, "XDG_CACHE_HOME": cache, "HOME": cache}
    shutil.rmtree(Path(folder) / "found", ignore_errors=True)  # which is not replaced unasked
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    ended = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode not in (0, 2, 3):
        raise SystemExit(ended.stderr)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, ended.stdout


def first(versions, rounds):
    """First answers, and what the command line takes to say anything."""
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "frames.npy")
        np.save(path, frames())
        shell = ["-m", "jaxem"]
        fit = [*shell, "fit", path, "--template-shape", "10", "10", "--out", "found"]
        commands = {
            "first fit_restarts": ["-c", FIRST_CALL.format(frames=path)],
            "jaxem fit": fit,
            "jaxem demo": [*shell, "demo"],
            "jaxem --help": [*shell, "--help"],
            "jaxem fit --mistyped": [*fit, "--mistyped"],
            "jaxem info": [*shell, "info", path],
        }
        figures = {}
        for name, arguments in commands.items():
            taken = {version: [] for version in versions}
            for _ in range(rounds):
                for version, python in versions.items():
                    wall, cpu, said = run([python, *arguments], folder)
                    taken[version].append(tuple(map(float, said.split())) if name.startswith("first") else (wall, cpu))
            middle = {version: np.median(values, axis=0) for version, values in taken.items()}
            ratio = middle["after"] / middle["before"]
            figures[name] = {version: values.tolist() for version, values in middle.items()}
            (wall, cpu), (new_wall, new_cpu) = middle["before"], middle["after"]
            print(
                f"{name:22} wall {wall:6.2f} -> {new_wall:6.2f} s ({ratio[0]:.2f})   "
                f"processors {cpu:6.2f} -> {new_cpu:6.2f} s ({ratio[1]:.2f})",
                flush=True,
            )
    return figures


def steady(versions, pairs):
    """Milliseconds an iteration in turn, and the interval of the median ratio."""
    code = WORKER.format(shapes=list(SHAPES.values()))
    workers = {
        version: subprocess.Popen([python, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for version, python in versions.items()
    }

    def ask(version, number, hard):
        print(number, hard, file=workers[version].stdin, flush=True)
        return float(workers[version].stdout.readline())

    rng, figures = np.random.default_rng(0), {}
    for number, name in enumerate(SHAPES):
        for hard in (0, 1):
            for version in versions:
                ask(version, number, hard)  # compiles
            times = np.array(
                [[[ask(version, number, hard) for version in versions] for _ in range(TURNS)] for _ in range(pairs)]
            ).min(axis=1)
            ratios = times[:, 1] / times[:, 0]
            medians = [statistics.median(rng.choice(ratios, pairs)) for _ in range(2000)]
            low, high = np.percentile(medians, [2.5, 97.5])
            kind = "hard" if hard else "soft"
            figures[f"{name} {kind}"] = {"ms": np.median(times, axis=0).tolist(), "ratio": [low, high]}
            print(
                f"{name:28} {kind}  {np.median(times[:, 0]):7.2f} -> {np.median(times[:, 1]):7.2f} ms   "
                f"ratio {np.median(ratios):.3f} [{low:.3f}, {high:.3f}]",
                flush=True,
            )
    for worker in workers.values():
        worker.stdin.close()
        worker.wait()
    return figures


def main():
    """Both tables."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("before")
    options.add_argument("after")
    options.add_argument("--only", choices=["first", "steady"])
    options.add_argument("--pairs", type=int, default=30)
    options.add_argument("--rounds", type=int, default=5, help="fresh processes of each version and command")
    options.add_argument("--json")
    arguments = options.parse_args()
    versions = {"before": os.path.abspath(arguments.before), "after": os.path.abspath(arguments.after)}
    figures = {}
    if arguments.only != "steady":
        figures["first"] = first(versions, arguments.rounds)
    if arguments.only != "first":
        figures["steady"] = steady(versions, arguments.pairs)
    if arguments.json:
        Path(arguments.json).write_text(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main()
