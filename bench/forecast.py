"""How well `jaxem info --estimate` forecasts the memory and time of `jaxem fit`.

    python bench/forecast.py [--json FILE] [--quick]

Each command runs in a process of its own with nothing compiled before; forecast and truth are measured one after the
other, so that both see the same machine. Prints the ratio of forecast to truth.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common
import numpy as np

from jaxem.cli.demo import demo_frames

# (K, H, W), (h, w), noise of the stack beside pixels of 0 to 1, or None for the demonstration.
POINTS = [
    ((100, 32, 32), (12, 12), 0.3),
    ((300, 60, 84), (30, 24), None),
    ((300, 60, 84), (30, 24), 1.5),
    ((1000, 100, 100), (30, 30), 0.3),
    ((3000, 64, 64), (16, 16), 1.0),
    ((2000, 200, 200), (50, 50), 0.3),
    ((6000, 100, 100), (30, 30), 1.5),
]
UNITS = {"kB": 1e3, "MB": 1e6, "GB": 1e9}


def make(path, stack_shape, template_shape, noise):
    """Write the frames of one point."""
    np.save(path, demo_frames().frames if noise is None else common.problem(stack_shape, template_shape, noise)[0])


def run(folder, *arguments):
    """Output, seconds and peak bytes of a command that finds nothing compiled."""
    environment = {**os.environ, "XDG_CACHE_HOME": tempfile.mkdtemp(dir=folder)}
    before = time.perf_counter()
    command = [sys.executable, "-m", "jaxem", *arguments]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        output = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 3):
        raise SystemExit(output)
    return output, time.perf_counter() - before, used.ru_maxrss * 1024


def measure(folder, point):
    """Forecast and truth of one point."""
    frames, shape = str(Path(folder) / "frames.npy"), [str(size) for size in point[1]]
    subprocess.run([sys.executable, __file__, "--make", json.dumps([frames, *point])], check=True)
    output, info_seconds, _ = run(folder, "info", frames, "--estimate", "--template-shape", *shape)
    size, unit, minutes, seconds = re.search(r"about (\S+) (\S+) of memory.* about (\d+):(\d+),", output).groups()
    _, true_seconds, true_bytes = run(folder, "fit", frames, "--template-shape", *shape, "--out", f"{folder}/found")
    return {
        "info_seconds": info_seconds,
        "seconds": true_seconds,
        "seconds_ratio": (60 * int(minutes) + int(seconds)) / true_seconds,
        "bytes": true_bytes,
        "bytes_ratio": float(size) * UNITS[unit] / true_bytes,
    }


def main():
    """Run the points and print them."""
    options = common.parser(__doc__)
    options.add_argument("--quick", action="store_true", help="the first four points")
    options.add_argument("--make", help="write the frames of one point")
    arguments = options.parse_args()
    if arguments.make:
        make(*json.loads(arguments.make))
        return
    figures = []
    for point in POINTS[:4] if arguments.quick else POINTS:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(folder, point)
        stack_shape, template_shape, noise = point
        print(f"{stack_shape} / {template_shape}, noise {noise}: {found['seconds']:6.1f} s,", end=" ")
        print(f"forecast {found['seconds_ratio']:.2f} of it; {found['bytes'] / 1e6:6.0f} MB,", end=" ")
        print(f"forecast {found['bytes_ratio']:.2f} of it; info took {found['info_seconds']:.1f} s", flush=True)
        figures.append({"stack": stack_shape, "template": template_shape, "noise": noise, **found})
    common.write(arguments.json, {"points": figures})


if __name__ == "__main__":
    main()
