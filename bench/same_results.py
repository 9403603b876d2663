"""Do two versions find the same? Twenty fits of either, array by array.

    python bench/same_results.py write FOLDER [--slow-compiler]   # with the one version installed, then with the other
    python bench/same_results.py compare FOLDER FOLDER

Soft and hard, smoothed and plain, traced and on threads, in single and in double precision, on frames where the search
takes each of its ways. Prints for each fit which arrays of ``result.npz`` are not equal to the bit, and the largest
difference among them: of entropies in nats, since they are near zero, of others relative to the largest value of the
array. With ``--slow-compiler`` XLA compiles by its own defaults, whose rounding is another.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

PRECISIONS = ("single", "double")


def planted(seed, stack_shape, template_shape, contrast, flat=False):
    """Frames of a known template at uniform places, float32."""
    rng = np.random.default_rng(seed)
    num_images, *image_shape = stack_shape
    template = 0.4 + rng.normal(size=template_shape)
    background = np.zeros(image_shape) if flat else rng.normal(size=image_shape)
    images = np.repeat(background[None], num_images, axis=0)
    rows, columns = (rng.integers(0, n - m + 1, num_images) for n, m in zip(image_shape, template_shape, strict=True))
    for image, row, column in zip(images, rows, columns, strict=True):
        image[row : row + template_shape[0], column : column + template_shape[1]] = template
    noise = np.sqrt(template.size * (1.2 if flat else 2.2) / contrast)
    return (images + noise * rng.normal(size=images.shape)).astype(np.float32)


def stacks():
    """Frames by name, each with the template's shape."""
    textured = planted(1, (100, 28, 30), (9, 10), 100.0)
    return {
        "textured": (textured, (9, 10)),
        "faint": (planted(2, (61, 24, 44), (8, 17), 30.0), (8, 17)),
        "flat": (planted(3, (50, 26, 26), (9, 9), 60.0, flat=True), (9, 9)),
        "bytes": (np.clip(np.rint(120 + 25 * textured), 0, 255).astype(np.uint8), (9, 10)),
        "high": (planted(4, (40, 12, 30), (12, 5), 80.0), (12, 5)),
    }


def fits(precision):
    """Functions by name; each gives a result that `jaxem.save` takes."""
    import jax

    import jaxem

    key, frames = jax.random.key(5), stacks()

    def search(name, threads=False, as_double=False, **options):
        images, shape = frames[name]
        images = images.astype(np.float64) if as_double else images
        return lambda: (jaxem.fit_restarts_parallel if threads else jaxem.fit_restarts)(key, images, shape, **options)

    def alone(name, **options):
        images, shape = frames[name]
        return lambda: jaxem.fit(images, jaxem.random_params(key, images, shape), **options)

    if precision == "double":
        return {
            "double": search("textured", as_double=True),
            "double hard": search("faint", as_double=True, hard=True),
            "double plain smoothed": search("high", as_double=True, search=None, num_restarts=3, prior_smoothing=4.0),
            "double threads": search("flat", as_double=True, threads=True),
        }
    return {
        "soft": search("textured"),
        "soft faint": search("faint", num_restarts=3),
        "soft flat": search("flat"),
        "soft bytes": search("bytes"),
        "soft high": search("high"),
        "soft smoothed": search("textured", prior_smoothing=10.0),
        "hard": search("textured", hard=True),
        "hard smoothed": search("faint", hard=True, prior_smoothing=6.1),
        "plain": search("textured", search=None, num_restarts=3),
        "plain in groups": search("faint", search=None, num_restarts=4, group_size=2),
        "plain hard": search("flat", search=None, num_restarts=3, hard=True),
        "threads": search("textured", threads=True),
        "threads flat": search("flat", threads=True),
        "threads hard": search("bytes", threads=True, hard=True),
        "threads plain": search("high", threads=True, search=None, num_restarts=3),
        "fit annealed, accelerated": alone("faint", schedule=jaxem.annealing(8), accelerate=True),
    }


NEAR_ZERO = ("entropy", "gap", "effective_positions")


def write(folder, precision, slow_compiler):
    """All fits of one precision, in this process."""
    import jaxem

    if slow_compiler:
        with contextlib.suppress(ImportError):  # before, there was no other
            from jaxem.runtime import compilation

            compilation.QUICK.clear()
    folder.mkdir(parents=True, exist_ok=True)
    for name, find in fits(precision).items():
        jaxem.save(folder / f"{name}.npz", find())
        print(f"wrote {name}", flush=True)


def difference(name, before, after):
    """How far two arrays are from each other; zero if they are equal to the bit."""
    first, second = np.asarray(before, np.float64), np.asarray(after, np.float64)
    if np.array_equal(first, second, equal_nan=True):
        return 0.0
    if first.shape != second.shape or (np.isfinite(first) != np.isfinite(second)).any():
        return np.inf
    finite = np.isfinite(first)
    size = 1 if name.rpartition(".")[2] in NEAR_ZERO else np.max(np.abs(first[finite])) or 1
    return float(np.max(np.abs(first - second)[finite]) / size)


def compare(one, other):
    """A line a fit."""
    equal, names = 0, sorted(path.name for path in one.glob("*.npz"))
    if names != sorted(path.name for path in other.glob("*.npz")) or not names:
        raise SystemExit(f"{one} and {other} do not hold the same fits")
    for name in names:
        with np.load(one / name) as before, np.load(other / name) as after:
            if set(before) != set(after):
                raise SystemExit(f"{name}: other arrays: {sorted(set(before) ^ set(after))}")
            found = {array: difference(array, before[array], after[array]) for array in set(before) - {"jaxem"}}
        unequal = {array: size for array, size in found.items() if size > 0}
        equal += not unequal
        worst = max(unequal, key=unequal.get, default="")
        words = f"{len(unequal)} of {len(found)} differ, most {worst} by {unequal.get(worst, 0):.0e}"
        print(f"{name.removesuffix('.npz'):28} {words if unequal else 'equal to the bit'}")
    print(f"{equal} of {len(names)} equal to the bit")


def main():
    """Write or compare; each precision in a process of its own, since JAX chooses it once."""
    slow = "--slow-compiler" in sys.argv
    match [word for word in sys.argv[1:] if word != "--slow-compiler"]:
        case ["write", folder]:
            for precision in PRECISIONS:
                environment = {**os.environ, "JAX_ENABLE_X64": str(int(precision == "double"))}
                command = [sys.executable, __file__, "write", folder, precision, *["--slow-compiler"] * slow]
                subprocess.run(command, env=environment, check=True)
        case ["write", folder, precision] if precision in PRECISIONS:
            write(Path(folder), precision, slow)
        case ["compare", one, other]:
            compare(Path(one), Path(other))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main()
