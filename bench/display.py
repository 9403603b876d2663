"""What watching a search costs: the live table, JSON lines and checkpoints, against a search that nobody watches.

    python bench/display.py [--images N] [--rounds N] [--json FILE]

Processor seconds of the process, the median of rounds in turn, after compilation; the terminal is written to a buffer.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from pathlib import Path

import common
import jax
import numpy as np
from rich.console import Console

import jaxem
from jaxem.cli.live_table import LiveDisplay
from jaxem.cli.progress import Display, JsonDisplay

SHAPE = (20, 20)


def search(images, display, checkpointer):
    """Processor and wall seconds of a search of fixed length."""
    before = time.process_time(), time.perf_counter()
    with display:
        jaxem.fit_restarts_parallel(
            jax.random.key(0),
            images,
            SHAPE,
            num_restarts=4,
            max_iterations=60,
            tolerance=-np.inf,
            search=None,
            callback=display.progress,
            checkpointer=checkpointer,
        )
    return time.process_time() - before[0], time.perf_counter() - before[1]


def main():
    """A line a way of watching."""
    options = common.parser(__doc__)
    options.add_argument("--images", type=int, default=1000)
    arguments = options.parse_args()
    images, _ = common.problem((arguments.images, 60, 80), SHAPE)

    def live():
        console = Console(file=io.StringIO(), force_terminal=True, width=100)
        return LiveDisplay(len(images), console), None

    def checkpoints():
        return Display(), jaxem.Checkpointer(Path(tempfile.mkdtemp()), {}, interval=1.0)

    ways = {
        "nobody": lambda: (Display(), None),
        "live table": live,
        "JSON lines": lambda: (JsonDisplay(len(images)), None),
        "a checkpoint a second": checkpoints,
    }
    seconds = {name: [] for name in ways}
    for number in range(arguments.rounds + 1):
        for name, way in ways.items():
            with contextlib.redirect_stdout(io.StringIO()):
                taken = search(images, *way())
            if number:  # the first compiles
                seconds[name].append(taken)
    processor, wall = (
        {name: float(np.median([both[which] for both in taken])) for name, taken in seconds.items()} for which in (0, 1)
    )
    for name in ways:
        more = 100 * (processor[name] / processor["nobody"] - 1)
        print(f"{name:22} {processor[name]:7.2f} s of processor ({more:+.1f} %), {wall[name]:6.2f} s")
    common.write(arguments.json, {"processor_s": processor, "wall_s": wall})


if __name__ == "__main__":
    main()
