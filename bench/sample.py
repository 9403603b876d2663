"""A search on a sample beside the search on all frames: what it finds, in how many passes, and in what time.

    python bench/sample.py objectives [--quick] [--json FILE]
    python bench/sample.py shell [--most K] [--untested] [--json FILE]

`objectives` prints, for planted problems, how far the objective ends above that of the search on all frames, in double
precision, and the passes over all frames that both took. `shell` takes the time of `jaxem fit` with ``--sample all``
and without, each command twice, so that the second finds compiled programs.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import common
import jax
import numpy as np
from planted import Case, make

import jaxem

IMAGE_SHAPE, TEMPLATE_SHAPE, NUM_IMAGES, TOLERANCE = (40, 40), (12, 12), 4000, 1e-3
CONTRASTS = (100, 50, 30, 15)
KINDS = {
    "grass on gravel": {"picture": "texture"},
    "grass on gravel, again": {"picture": "texture", "seed": 1},
    "white noise": {"picture": "noise"},
    "smooth": {"picture": "smooth"},
    "flat": {"picture": "noise", "flat": True},
    "flat, again": {"picture": "noise", "flat": True, "seed": 1},
    "two places": {"picture": "noise", "prior": "two places"},
    "three places": {"picture": "texture", "prior": "three places"},
    "two places, flat": {"picture": "noise", "prior": "two places", "flat": True},
    "peaked": {"picture": "texture", "prior": "peaked"},
}
STACKS = (1000, 4000, 16000, 64000)
SHELL_SHAPE, SHELL_TEMPLATE, SHELL_NOISE = (64, 64), (16, 16), 1.0
NATS = 2.0  # within which two objectives are the same, or within what the tolerance of all frames allows


def compare(contrast, kind):
    """Both searches on one problem."""
    case = Case(
        contrast=contrast,
        num_images=NUM_IMAGES,
        image_shape=IMAGE_SHAPE,
        template_shape=TEMPLATE_SHAPE,
        **KINDS[kind],
    )
    problem = make(case)
    images = np.asarray(problem.images, np.float64)
    figures = {"contrast": contrast, "kind": kind}
    elbo = {}
    for name, sample in (("all", None), ("sample", "auto")):
        before = time.perf_counter()
        found = jaxem.fit_restarts_parallel(jax.random.key(0), images, TEMPLATE_SHAPE, sample=sample)
        figures[f"{name}_seconds"] = time.perf_counter() - before
        figures[f"{name}_passes"] = int(found.diagnostics.num_steps)
        elbo[name] = float(found.best.elbo)
    return {
        **figures,
        "size": NUM_IMAGES if found.sample is None else len(found.sample),
        "gain": elbo["sample"] - elbo["all"],
    }


def objectives(quick):
    """A row a problem."""
    limit, rows = max(NATS, NUM_IMAGES * TOLERANCE), []
    for contrast in CONTRASTS[:: 3 if quick else 1]:
        for kind in list(KINDS)[:: 4 if quick else 1]:
            row = compare(contrast, kind)
            rows.append(row)
            print(
                f"E {contrast:3}, {kind:22}: {row['gain']:+10.1f} nats, {row['sample_passes']:3} passes for "
                f"{row['all_passes']:3}, sample {row['size']:5}, {row['sample_seconds']:5.1f} s for "
                f"{row['all_seconds']:5.1f}",
                flush=True,
            )
    as_high = sum(row["gain"] >= -limit for row in rows)
    print(f"{as_high} of {len(rows)} as high as the search on all frames, within {limit:g} nats, or higher")
    for contrast in CONTRASTS:
        passes = [row["sample_passes"] for row in rows if row["contrast"] == contrast]
        before = [row["all_passes"] for row in rows if row["contrast"] == contrast]
        if passes:
            print(f"E {contrast}: {np.median(passes):g} passes, {max(passes)} at most; all {np.median(before):g}")
    return rows


def run_fit(folder, frames, *options):
    """Seconds of one command, and what it says of passes."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder / "cache")}
    shape = [str(size) for size in SHELL_TEMPLATE]
    command = [sys.executable, "-m", "jaxem", "fit", str(frames), "--template-shape", *shape, "--overwrite", *options]
    before = time.perf_counter()
    ended = subprocess.run(
        [*command, "--out", str(folder / "found")], env=environment, capture_output=True, text=True, check=False
    )
    if ended.returncode not in (0, 3):
        raise SystemExit(ended.stdout + ended.stderr)
    seconds = time.perf_counter() - before
    found = jaxem.load(folder / "found" / "result.npz")
    return seconds, int(found.diagnostics.num_steps), float(found.best.elbo), re.search("searching.*", ended.stdout)


def shell(most, untested):
    """A row a stack and a way to search it, without the detection test and with it."""
    rows = []
    for count in (number for number in STACKS if number <= most):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            frames = folder / "frames.npy"
            code = f"import common, numpy; numpy.save({str(frames)!r}, common.problem({(count, *SHELL_SHAPE)}, "
            code += f"{SHELL_TEMPLATE}, {SHELL_NOISE})[0])"
            subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent)
            for options in (("--sample", "all"), ()):
                for test in (("--no-test",), ())[: 1 if untested else 2]:
                    seconds = []
                    for _ in range(2):
                        taken, passes, elbo, said = run_fit(folder, frames, *options, *test)
                        seconds.append(taken)
                    row = {"num_images": count, "options": [*options, *test], "seconds": seconds, "passes": passes}
                    rows.append({**row, "elbo": elbo})
                    words = " ".join([*options, *test]) or "as it is"
                    print(
                        f"K {count:5}, {words:26}: {seconds[0]:6.1f} s, then {seconds[1]:6.1f}; {passes:3} passes, "
                        f"{elbo:.1f} nats; {'' if said is None else said[0]}",
                        flush=True,
                    )
    return rows


def main():
    """Run what was asked for."""
    options = common.parser(__doc__)
    options.add_argument("what", choices=["objectives", "shell"])
    options.add_argument("--quick", action="store_true", help="some of the problems")
    options.add_argument("--untested", action="store_true", help="leave out the detection test")
    options.add_argument("--most", type=int, default=STACKS[-1], help="frames of the largest stack")
    arguments = options.parse_args()
    if arguments.what == "objectives":
        jax.config.update("jax_enable_x64", True)
        rows = objectives(arguments.quick)
    else:
        rows = shell(arguments.most, arguments.untested)
    common.write(arguments.json, {arguments.what: rows})


if __name__ == "__main__":
    main()
