"""How time and memory grow with images, pixels, template and restarts.

    taskset -c 0 python bench/growth.py [--json FILE] [--quick]

Each point runs in a process of its own, so that its peak memory is its own. Prints milliseconds an iteration (what some
more iterations take, by the minimum of several fits) and peak resident memory.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time

import common
import jax
import numpy as np

import jaxem

BASE = {"images": 500, "size": 64, "template": 16, "restarts": 1, "hard": False}
SWEEPS = {
    "images": [100, 1000, 10_000, 30_000],
    "size": [32, 64, 128, 256],
    "template": [4, 16, 31, 48],
    "restarts": [1, 4, 16, 64],
}


def measure(images, size, template, restarts, hard):
    """One point, in this process."""
    rng = np.random.default_rng(0)
    stack = np.empty((images, size, size), np.float32)
    for image in stack:
        image[:] = rng.standard_normal((size, size), np.float32)

    def seconds(iterations, repeats):
        best = np.inf
        for _ in range(repeats + 1):
            before = time.perf_counter()
            options = {
                "hard": hard,
                "tolerance": -np.inf,
                "max_iterations": iterations,
                "num_restarts": restarts,
                "search": None,
            }
            jax.block_until_ready(jaxem.fit_restarts(jax.random.key(0), stack, (template, template), **options))
            best = min(best, time.perf_counter() - before)
        return best

    added = max(5, 10_000 // images)  # enough to be seen beside the noise of what is not repeated
    more, fewer = seconds(1 + added, 3), seconds(1, 3)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"ms": 1e3 * (more - fewer) / added, "whole_ms": 1e3 * more, "peak_bytes": peak, "stack_bytes": stack.nbytes}


def main():
    """Run the sweeps and print them."""
    options = common.parser(__doc__)
    options.add_argument("--quick", action="store_true", help="the smaller half of each sweep")
    options.add_argument("--point", help=json.dumps(BASE))
    arguments = options.parse_args()
    if arguments.point:
        print(json.dumps(measure(**json.loads(arguments.point))))
        return
    figures = []
    for name, values in SWEEPS.items():
        for value in values[: len(values) // 2] if arguments.quick else values:
            point = {**BASE, name: value}
            command = [sys.executable, __file__, "--point", json.dumps(point)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            pixels = point["images"] * point["size"] ** 2 * point["restarts"]
            memory = (found["peak_bytes"] - 700e6) / found["stack_bytes"]
            print(f"{name:9} {value:6}: {found['ms']:9.2f} ms an iteration,", end=" ")
            print(f"{1e6 * found['ms'] / pixels:6.2f} ns a pixel and restart;", end=" ")
            print(f"peak {found['peak_bytes'] / 1e6:6.0f} MB, less 700 MB {memory:6.2f} times the stack", flush=True)
            figures.append({**point, **found})
    common.write(arguments.json, {"points": figures})


if __name__ == "__main__":
    main()
