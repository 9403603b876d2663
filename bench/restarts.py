"""Several restarts beside one on one core, and all cores beside one.

    python bench/restarts.py [--json FILE]

Ten iterations a restart, on the shapes of ``iteration.py``; each process is bound to the cores it may use. Prints the
minimum of several rounds and ratios.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

ITERATIONS, MANY, PARALLEL = 10, 16, 4


def measure(shape, cores, rounds):
    """Milliseconds of one shape in this process, bound to so many cores before JAX starts its threads."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    import common
    import jax
    import numpy as np

    import jaxem

    stack_shape, template_shape = shape
    images = jax.numpy.asarray(common.problem(stack_shape, template_shape)[0])
    options = {"max_iterations": ITERATIONS, "tolerance": -np.inf}

    def restarts(function, count):
        found = function(jax.random.key(0), images, tuple(template_shape), num_restarts=count, **options)
        return jax.block_until_ready(found)

    runs = {"threads": lambda: restarts(jaxem.fit_restarts_parallel, PARALLEL)}
    if cores == 1:
        runs |= {"one": lambda: restarts(jaxem.fit_restarts, 1), "many": lambda: restarts(jaxem.fit_restarts, MANY)}
    return common.minimum(runs, rounds)


def main():
    """Every shape on one core and on all."""
    import common
    import iteration

    options = common.parser(__doc__)
    options.add_argument("--point", help="a shape and a number of cores, for a process of its own")
    arguments = options.parse_args()
    if arguments.point:
        print(json.dumps(measure(*json.loads(arguments.point), arguments.rounds)))
        return
    all_cores = len(os.sched_getaffinity(0))
    figures = []
    for shape in iteration.SHAPES:
        found = {}
        for cores in {1, all_cores}:
            command = [
                sys.executable,
                __file__,
                "--rounds",
                str(arguments.rounds),
                "--point",
                json.dumps([shape, cores]),
            ]
            found[cores] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        one, many, threads = found[1]["one"], found[1]["many"], found[1]["threads"]
        print(f"{shape}: {MANY} restarts / one on one core {many:.0f} / {one:.0f} ms = {many / one:.2f};", end=" ")
        print(f"{PARALLEL} restarts on one core / {all_cores}: {threads / found[all_cores]['threads']:.2f}", flush=True)
        figures.append({"shape": shape, "ms": found})
    common.write(arguments.json, {"shapes": figures})


if __name__ == "__main__":
    main()
