"""Strategies on the bank of planted problems: whether they find the optimum, how good the template is, their cost.

    python bench/bank.py [STRATEGY ...] [--seeds N] [--rows REGEX] [--warned] [--json FILE]

`--rows regime` chooses rows that are not among the others: few places, slow walks, edges that stand still, few images.

A row is a kind of problem and a contrast, with so many seeds. For each strategy it prints

    optimum   share of problems within 2 nats of the highest objective known: that of any strategy of this run, of EM
              from the truth, and of EM from the truth with the prior held uniform and learned over 150 steps
    gap       to it, the largest, nats
    template  root mean square error over that of the known-position average, the worst of the row, and their mean
    places    share of images whose best corner is the true one
    steps     E-steps of all runs, those of annealing, recentring and prior annealing included; on fewer pixels they
              count in proportion
    seconds   median, compilation left out

With `--warned`, for the strategy `search`, how many it has lost and how many of those carry no warning.
"""

from __future__ import annotations

import re
import time

import common
import jax
import jax.numpy as jnp
import numpy as np
import planted
from planted import Case

import jaxem
from jaxem.assess.detection import FEWEST_IMAGES

TOLERANCE, KEY = 2.0, 7


def rows():
    """Cases without their seeds, by name."""
    found = {}
    for contrast in (300, 100, 50, 35, 30, 25, 18, 12):
        found |= {f"{picture} {contrast}": Case(picture, contrast) for picture in planted.PICTURES}
    found |= {f"swap {picture} 300": Case(picture, 300, prior="swap") for picture in planted.PICTURES}
    found |= {f"peaked {picture} 50": Case(picture, 50, prior="peaked") for picture in planted.PICTURES}
    for contrast in (300, 100, 50, 35):
        found |= {f"flat {picture} {contrast}": Case(picture, contrast, flat=True) for picture in planted.PICTURES}
        small = Case("noise", contrast, template_shape=(5, 6), flat=True)
        tiny = Case("noise", contrast, num_images=300, image_shape=(20, 30), template_shape=(2, 3), flat=True)
        found |= {f"flat small {contrast}": small, f"flat tiny {contrast}": tiny}
    for picture in ("face", "texture"):
        for contrast in (100, 35):
            found |= {
                f"few {picture} {contrast}": Case(picture, contrast, num_images=50),
                f"many {picture} {contrast}": Case(picture, contrast, num_images=2000),
                f"wide {picture} {contrast}": Case(picture, contrast, image_shape=(24, 44), template_shape=(8, 17)),
                f"tall {picture} {contrast}": Case(picture, contrast, image_shape=(41, 27), template_shape=(19, 7)),
                f"small {picture} {contrast}": Case(picture, contrast, template_shape=(5, 6)),
                f"large {picture} {contrast}": Case(picture, contrast, template_shape=(22, 20)),
            }
    return found


def regimes():
    """Cases in which the search once lost the template, and some unlike them, by name."""
    square = {"image_shape": (32, 32), "template_shape": (10, 10)}
    wide = {"num_images": 300, "image_shape": (40, 48), "template_shape": (9, 7)}
    found = {}
    for contrast in (50, 100):
        for picture in ("noise", "texture"):
            for prior in ("two places", "three places", "walk"):
                found[f"{prior} {picture} {contrast}"] = Case(picture, contrast, prior=prior, **square)
        for prior in ("two places", "walk"):
            found[f"{prior} flat {contrast}"] = Case("noise", contrast, prior=prior, flat=True, **square)
        found[f"margin flat {contrast}"] = Case("noise", contrast, prior="margin", flat=True, **square)
        found[f"island flat {contrast}"] = Case("island", contrast, flat=True, **square)
        found[f"blocks noise {contrast}"] = Case("noise", contrast, prior="blocks", **square)
        for scene in ("step", "corner", "spot", "ramp"):
            found[f"{scene} noise {contrast}"] = Case("noise", contrast, scene=scene, **square)
            found[f"{scene} flat {contrast}"] = Case("noise", contrast, scene=scene, flat=True, **square)
        for scene in ("letterbox", "circle", "small circle"):
            found[f"{scene} relief {contrast}"] = Case("relief", contrast, scene=scene, **wide)
            found[f"{scene} flat {contrast}"] = Case("noise", contrast, scene=scene, flat=True, **wide)
    for num_images in (2, 3, 5, 10):
        for picture, flat in (("noise", False), ("texture", False), ("noise", True)):
            name = f"{num_images} {'flat' if flat else picture} 100"
            found[name] = Case(picture, 100, num_images=num_images, flat=flat, **square)
    return {f"regime {name}": case for name, case in found.items()}


def restarts(count):
    """The paper's: so many random starts, the prior learned from the first step."""

    def strategy(images, template_shape):
        found = jaxem.fit_restarts(jax.random.key(KEY), images, template_shape, num_restarts=count, search=None)
        return found.best, int(found.diagnostics.num_steps)

    return strategy


def search(count, **parts):
    """`jaxem.Search` with some of its parts changed."""
    chosen = jaxem.Search(**parts)

    def strategy(images, template_shape):
        found = jaxem.fit_restarts(jax.random.key(KEY), images, template_shape, num_restarts=count, search=chosen)
        return found.best, int(found.diagnostics.num_steps)

    return strategy


def annealed(**options):
    """One random start, annealed, the prior learned at once after that."""

    def strategy(images, template_shape):
        start = jaxem.random_params(jax.random.key(KEY), images, template_shape)
        found = jaxem.fit(images, start, schedule=jaxem.annealing(prior_steps=0), max_iterations=200, **options)
        return found, int(found.num_scheduled + found.num_iterations) + 1

    return strategy


def coarse_to_fine(factor):
    """The search on means over blocks, and its answer annealed and run to convergence on all pixels."""

    def strategy(images, template_shape):
        coarse = jaxem.coarsen(images, factor)
        coarse_shape = tuple(size // factor for size in template_shape)
        found = jaxem.fit_restarts(jax.random.key(KEY), coarse, coarse_shape)
        start = jaxem.refine(found.best.params, images, template_shape, factor)
        fine = jaxem.fit(images, start, schedule=jaxem.annealing(6, start=0.5, prior_steps=60))
        share = coarse[0].size / images[0].size
        return fine, round(share * int(found.diagnostics.num_steps)) + int(fine.num_scheduled + fine.num_iterations) + 1

    return strategy


STRATEGIES = {
    "ten": restarts(10),
    "annealed": annealed(),
    "accelerated": annealed(accelerate=True),
    "search": search(2),
    "no-recentring": search(2, num_recentrings=0),
    "no-prior-annealing": search(2, prior_annealing_steps=0),
    "one-start": search(1),
    "three": search(3),
    "coarse": coarse_to_fine(2),
    "slow": search(2, annealing_steps=40, prior_annealing_steps=120),
}


def highest_from_truth(problem):
    """The higher objective of two ways up from the truth."""
    uniform = jnp.full_like(problem.truth.prior, 1 / problem.truth.prior.size)
    ways = [
        jaxem.fit(problem.images, problem.truth, max_iterations=100),
        jaxem.fit(
            problem.images,
            problem.truth._replace(prior=uniform),
            schedule=jaxem.annealing(0, prior_steps=150),
            max_iterations=100,
        ),
    ]
    return max(float(way.elbo) for way in ways)


def warnings_of(problem, case):
    """Codes of what is said against the result of `search`, the detection test included."""
    found = jaxem.fit_restarts(jax.random.key(KEY), problem.images, case.template_shape)
    test = None
    if case.num_images >= FEWEST_IMAGES:
        test = jaxem.detection_test(jax.random.key(KEY), problem.images, case.template_shape)
    report = jaxem.Report(found, jaxem.assess_fit(problem.images, found, test=test))
    return [remark.code for remark in report.remarks() if remark.grade == "warning"]


def measure(case, names, seeds):
    """One row: for each strategy its columns."""
    columns = {name: {"elbo": [], "template": [], "places": [], "steps": [], "seconds": []} for name in names}
    truth = []
    for seed in range(seeds):
        problem = planted.make(case._replace(seed=seed))
        truth.append(highest_from_truth(problem))
        images = jnp.asarray(problem.images)
        for name, column in columns.items():
            if seed == 0:  # compile
                STRATEGIES[name](images, case.template_shape)
            before = time.perf_counter()
            found, steps = STRATEGIES[name](images, case.template_shape)
            column["elbo"].append(float(found.elbo))
            column["seconds"].append(time.perf_counter() - before)
            column["steps"].append(steps)
            column["template"].append(planted.template_error(problem, found.params.template))
            corners = np.asarray(jaxem.e_step(images, found.params, hard=True).corners)
            column["places"].append(float((corners == problem.corners).all(axis=1).mean()))
    highest = np.max([truth, *(column["elbo"] for column in columns.values())], axis=0)
    for column in columns.values():
        column["gap"] = (highest - column.pop("elbo")).tolist()
    return columns


def lost_without_a_word(case, gaps):
    """Of the problems that `search` has lost, how many carry no warning, and what is said of each."""
    said = {}
    for seed in np.flatnonzero(np.array(gaps) > TOLERANCE).tolist():
        said[seed] = warnings_of(planted.make(case._replace(seed=seed)), case)
    return sum(not codes for codes in said.values()), said


def main():
    """All rows that were asked for."""
    options = common.parser(__doc__)
    options.add_argument("strategies", nargs="*", metavar="STRATEGY", help=f"of {', '.join(STRATEGIES)}; default all")
    options.add_argument("--seeds", type=int, default=20, help="problems a row")
    options.add_argument("--rows", default="", help="only rows whose name this regular expression finds")
    options.add_argument("--warned", action="store_true", help="whether what search has lost carries a warning")
    arguments = options.parse_args()
    names = arguments.strategies or list(STRATEGIES)
    unknown = [name for name in names if name not in STRATEGIES]
    if unknown:
        options.error(f"no strategy {', '.join(unknown)}; there are {', '.join(STRATEGIES)}")
    if arguments.warned and "search" not in names:
        options.error("--warned looks at what the strategy search has lost.")
    known = regimes() if "regime" in arguments.rows else rows()
    chosen = {name: case for name, case in known.items() if re.search(arguments.rows, name)}
    if not chosen:
        options.error(f"no row matches {arguments.rows!r}; there are {', '.join(rows() | regimes())}")
    print(f"{'row':30} {'strategy':14} optimum      gap  template (mean)  places  steps  seconds")
    figures = {}
    for number, (row, case) in enumerate(chosen.items()):
        if number % 20 == 19:  # XLA keeps mappings for each program, and a process may have 65 530
            jax.clear_caches()
        figures[row] = measure(case, names, arguments.seeds)
        for name, column in figures[row].items():
            gap, template = np.array(column["gap"]), np.array(column["template"])
            print(
                f"{row:30} {name:14} {np.mean(gap <= TOLERANCE):7.2f} {gap.max():8.1f} {template.max():9.2f}"
                f" ({template.mean():.2f})  {np.mean(column['places']):6.3f} {np.mean(column['steps']):6.0f}"
                f" {np.median(column['seconds']):8.3f}",
                flush=True,
            )
        if arguments.warned:
            gaps = figures[row]["search"]["gap"]
            silent, figures[row]["warnings"] = lost_without_a_word(case, gaps)
            print(f"{row:30} lost {np.sum(np.array(gaps) > TOLERANCE)}, without a warning {silent}", flush=True)
    common.write(arguments.json, {"rows": figures})


if __name__ == "__main__":
    main()
