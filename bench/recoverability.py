"""What contrast a template needs: the share of searches that find it, against E / (2 ln PQ).

    python bench/recoverability.py [--seeds 10] [--json FILE] [--figure FILE]

A search has found the template where more than half of its places are right, counted from the shift that most of them
share. Of those: the share of frames whose place is right, and the root mean square error of the template over that at
known places. At the end logistic curves in ln E, fitted to all searches of each kind of picture.
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
from jaxem.assess.recoverability import CURVES

RELATIVE = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)  # contrasts in units of 2 ln PQ
# image, template, numbers of images; 2 ln PQ is 7.2, 12.2, 14.4, 14.7 and 17.4
SIZES = [
    ((12, 11), (7, 6), (20, 100, 400)),
    ((28, 28), (8, 8), (20, 100, 400)),
    ((60, 60), (24, 24), (40, 100)),
    ((50, 52), (11, 14), (20, 100)),
    ((96, 80), (12, 9), (40,)),
]
# What the template and what is behind it look like: a picture of `planted`, and whether the background is flat.
PICTURES = {"textured": ("texture", False), "flat": ("texture", True), "smooth": ("smooth", False)}


class Search(NamedTuple):
    """What became of one search."""

    relative: float
    num_images: int
    two_ln: float
    num_pixels: int
    picture: str
    found: bool
    right: float
    error: float


def search(image_shape, template_shape, num_images, relative, picture, seed):
    """Search one planted problem."""
    two_ln = 2 * math.log(math.prod(n - m + 1 for n, m in zip(image_shape, template_shape, strict=True)))
    contrast = relative * two_ln
    name, flat = PICTURES[picture]
    case = planted.Case(name, contrast, num_images, image_shape, template_shape, flat=flat)
    problem = planted.make(case._replace(seed=seed))
    found = jaxem.fit_restarts(jax.random.key(seed), problem.images, template_shape)
    shifts = map(tuple, (np.asarray(found.best.corners) - problem.corners).tolist())
    shift, count = Counter(shifts).most_common(1)[0]
    right = count / num_images if max(map(abs, shift)) <= 2 else 0.0
    error = planted.template_error(problem, found.best.params.template)
    error = error if shift == (0, 0) else math.nan
    num_pixels = math.prod(template_shape)
    return Search(relative, num_images, two_ln, num_pixels, picture, right > 0.5, right, error)


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
    """Shares found against the contrast in two units, over textured backgrounds; the second brings all to one curve."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    textured = [one for one in searches if one.picture == "textured"]
    share, added, steepness = CURVES[0]
    keys = sorted({(one.two_ln, one.num_pixels, one.num_images) for one in textured})
    for number, key in enumerate(keys):
        style = {"color": colormaps["turbo"](number / len(keys)), "marker": "os^"[number % 3], "markersize": 4}
        two_ln, num_pixels, num_images = key
        group = [one for one in textured if (one.two_ln, one.num_pixels, one.num_images) == key]
        relative = np.array(sorted({one.relative for one in group}))
        found = [np.mean([one.found for one in group if one.relative == x]) for x in relative]
        label = f"2 ln PQ = {two_ln:.3g}, {num_pixels} pixels, {num_images} frames"
        left.plot(relative, found, linewidth=1, **style)
        unit = share * two_ln + added * num_pixels / num_images
        right.plot(relative * two_ln / unit, found, linestyle="none", label=label, **style)
    fine = np.linspace(0.2, 2.5, 200)
    right.plot(fine, 1 / (1 + fine**-steepness), color="black", linewidth=1)
    right.set_xlim(0.2, 2.5)
    left.axvline(3, color="0.6", linestyle=":")
    left.annotate("6 ln PQ", (3, 0.3), xytext=(4, 0), textcoords="offset points", color="0.4")
    left.set_xlabel("contrast / (2 ln PQ)")
    right.set_xlabel(f"contrast / (2 ln PQ + {added:g} h w / K)")
    left.set_ylabel("share of searches that find the template")
    right.legend(frameon=False, fontsize="x-small", loc="lower right")
    figure.savefig(path, dpi=110)


def main():
    """A row for each contrast, then the curve."""
    options = common.parser(__doc__)
    options.add_argument("--seeds", type=int, default=10)
    options.add_argument("--figure", help="draw the shares here")
    arguments = options.parse_args()
    searches = []
    for image_shape, template_shape, counts in SIZES:
        for num_images, picture in itertools.product(counts, PICTURES):
            some = [
                search(image_shape, template_shape, num_images, relative, picture, seed)
                for relative in RELATIVE
                for seed in range(arguments.seeds)
            ]
            searches += some
            shares = " | ".join(f"{np.mean([s.found for s in some if s.relative == x]):.2f}" for x in RELATIVE)
            print(f"| {some[0].two_ln:.3g} | {num_images} | {picture} | {shares} |", flush=True)
    for name, choose in (
        ("found", None),
        ("right places", "right"),
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
    for picture in PICTURES:
        curves[picture] = fit_logistic([one for one in searches if one.picture == picture])
        share, added, steepness = curves[picture]
        print(f"{picture}: M = {share:.2f} x 2 ln PQ + {added:.2f} h w / K, steepness {steepness:.1f}")
    if arguments.figure:
        draw(searches, arguments.figure)
    common.write(arguments.json, {"searches": [one._asdict() for one in searches], "curves": curves})


if __name__ == "__main__":
    main()
