"""What contrast a template needs: the share of searches that find it, against E / (2 ln PQ).

    python bench/recoverability.py [--seeds 10] [--json FILE] [--figure FILE]

A search has found the template where more than half of its places are right, counted from the shift that most of them
share. Of those: the share of frames whose place is right, and the root mean square error of the template over that at
known places. At the end logistic curves in ln E, fitted to all searches over each kind of background.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from typing import NamedTuple

import common
import jax
import numpy as np
import planted
from scipy import optimize

import jaxem
from jaxem.assess.recoverability import probability_of_success, share_of_right_places

RELATIVE = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)  # contrasts in units of 2 ln PQ
# image, template, numbers of images; 2 ln PQ is 7.2, 12.2, 14.4, 14.7 and 17.4
SIZES = [
    ((12, 11), (7, 6), (20, 100, 400)),
    ((28, 28), (8, 8), (20, 100, 400)),
    ((60, 60), (24, 24), (40, 100)),
    ((50, 52), (11, 14), (20, 100)),
    ((96, 80), (12, 9), (40,)),
]
BACKGROUNDS = {"texture": False, "flat": True}


class Search(NamedTuple):
    """What became of one search."""

    relative: float
    num_images: int
    two_ln: float
    num_pixels: int
    background: str
    found: bool
    right: float
    expected: float
    error: float


def search(image_shape, template_shape, num_images, relative, background, seed):
    """Search one planted problem."""
    two_ln = 2 * math.log(math.prod(n - m + 1 for n, m in zip(image_shape, template_shape, strict=True)))
    contrast = relative * two_ln
    case = planted.Case("texture", contrast, num_images, image_shape, template_shape, flat=BACKGROUNDS[background])
    problem = planted.make(case._replace(seed=seed))
    found = jaxem.fit_restarts(jax.random.key(seed), problem.images, template_shape)
    shifts = map(tuple, (np.asarray(found.best.corners) - problem.corners).tolist())
    shift, count = Counter(shifts).most_common(1)[0]
    right = count / num_images if max(map(abs, shift)) <= 2 else 0.0
    expected = share_of_right_places(contrast, round(math.exp(two_ln / 2)))
    error = planted.template_error(problem, found.best.params.template)
    error = error if shift == (0, 0) else math.nan
    num_pixels = math.prod(template_shape)
    return Search(relative, num_images, two_ln, num_pixels, background, right > 0.5, right, expected, error)


def fit_logistic(searches):
    """Of 1 / (1 + (M / E)^steepness) with M = share * 2 ln PQ + added * h w / K: share, added, steepness."""
    contrast = np.array([one.relative * one.two_ln for one in searches])
    two_ln = np.array([one.two_ln for one in searches])
    per_image = np.array([one.num_pixels / one.num_images for one in searches])
    found = np.array([one.found for one in searches])

    def cost(logs):
        share, added, steepness = np.exp(logs)
        x = steepness * np.log(contrast / (share * two_ln + added * per_image))
        return np.logaddexp(0, np.where(found, -x, x)).sum()

    return np.exp(optimize.minimize(cost, np.log([1.0, 1.0, 8.0]), method="Nelder-Mead").x).tolist()


def draw(searches, path):
    """Shares found against the contrast, a line a size, and the curve that `jaxem.expect_recovery` uses."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    for two_ln in sorted({one.two_ln for one in searches}):
        shares = [
            np.mean([one.found for one in searches if (one.relative, one.two_ln) == (x, two_ln)]) for x in RELATIVE
        ]
        axis.plot(RELATIVE, shares, marker="o", linewidth=1, label=f"2 ln PQ = {two_ln:.3g}")
    fine = np.linspace(RELATIVE[0], RELATIVE[-1], 200)
    axis.plot(
        fine, [probability_of_success(2 * x * 5, math.exp(5)) for x in fine], color="black", label="logistic curve"
    )
    axis.axvline(3, color="0.6", linestyle=":")
    axis.annotate("6 ln PQ", (3, 0.05), xytext=(4, 0), textcoords="offset points", color="0.4")
    axis.set_xlabel("contrast E / (2 ln PQ)")
    axis.set_ylabel("share of searches that find the template")
    axis.legend(frameon=False)
    figure.savefig(path, dpi=110)


def main():
    """A row for each contrast, then the curve."""
    options = common.parser(__doc__)
    options.add_argument("--seeds", type=int, default=10)
    options.add_argument("--figure", help="draw the shares here")
    arguments = options.parse_args()
    searches = []
    for image_shape, template_shape, counts in SIZES:
        for num_images, background in itertools.product(counts, BACKGROUNDS):
            some = [
                search(image_shape, template_shape, num_images, relative, background, seed)
                for relative in RELATIVE
                for seed in range(arguments.seeds)
            ]
            searches += some
            shares = " | ".join(f"{np.mean([s.found for s in some if s.relative == x]):.2f}" for x in RELATIVE)
            print(f"| {some[0].two_ln:.3g} | {num_images} | {background} | {shares} |", flush=True)
    for name, choose in (
        ("found", None),
        ("right places", "right"),
        ("expected", "expected"),
        ("template error", "error"),
    ):
        cells = []
        for relative in RELATIVE:
            group = [one for one in searches if one.relative == relative]
            if choose is None:
                cells.append(f"{np.mean([one.found for one in group]):.2f}")
            else:
                values = [getattr(one, choose) for one in group if one.found]
                cells.append(f"{np.nanmean(values):.3f}" if values else "")
        print(f"| all | | {name} | {' | '.join(cells)} |")
    curves = {}
    for background in BACKGROUNDS:
        curves[background] = fit_logistic([one for one in searches if one.background == background])
        share, added, steepness = curves[background]
        print(f"{background}: M = {share:.2f} x 2 ln PQ + {added:.2f} h w / K, steepness {steepness:.1f}")
    if arguments.figure:
        draw(searches, arguments.figure)
    common.write(arguments.json, {"searches": [one._asdict() for one in searches], "curves": curves})


if __name__ == "__main__":
    main()
