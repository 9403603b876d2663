"""How often `jaxem.choose_shape` finds the size of planted templates, and what it says where there is none to find.

    python bench/size.py [--seeds 20] [--json FILE] [NAME ...]

Right is a size chosen that is the true one, by the BIC, and by held-out frames alone among those that they judge; near
is one row and one column off at most. Beside them the remarks that were made, and the fits and seconds they took.
"""

from __future__ import annotations

import itertools
import time
from collections import Counter
from typing import NamedTuple

import common
import jax
import numpy as np
import planted

import jaxem
from jaxem.model.params import disc_support


class Case(NamedTuple):
    """Planted frames, and the sizes to choose from: all from `lowest` to `highest`."""

    picture: str = "texture"
    contrast: float = 50.0
    flat: bool = False
    num_images: int = 100
    image_shape: tuple[int, int] = (28, 28)
    template_shape: tuple[int, int] = (8, 8)
    lowest: tuple[int, int] = (4, 4)
    highest: tuple[int, int] = (14, 14)
    share_present: float = 1.0
    edge_rows: float = 1.0  # what is left of the difference from the background in the first and the last row
    spread: float = 1.0  # the part of the range of corners, around the middle, in which they all are
    overhang: int = 0  # pixels by which the template may hang over the edges of the frame
    disc: bool = False


NINE = Case(lowest=(7, 7), highest=(9, 9))
CASES = {
    "nine sizes, textured, 50": NINE,
    "nine sizes, textured, 25": NINE._replace(contrast=25.0),
    "nine sizes, flat, 50": NINE._replace(flat=True),
    "nine sizes, flat, 25": NINE._replace(flat=True, contrast=25.0),
    "121 sizes, textured, 50": Case(),
    "121 sizes, textured, 25": Case(contrast=25.0),
    "121 sizes, face, 50": Case("face"),
    "121 sizes, flat, 25": Case(flat=True, contrast=25.0),
    "6 x 14 of 4 .. 18": Case("cat", template_shape=(6, 14), image_shape=(28, 36), highest=(18, 18)),
    "disc of 10": Case(template_shape=(10, 10), disc=True),
    "in 40 % of the frames": Case(share_present=0.4, num_images=200),
    "edge rows of 30 %": Case(flat=True, edge_rows=0.3),
    "K = 40": Case(num_images=40),
    "K = 40, 25": Case(num_images=40, contrast=25.0),
    "nine sizes, places in the middle, K = 800": NINE._replace(spread=0.2, num_images=800),
    "smaller than asked": Case(lowest=(10, 10)),
    "larger than asked": Case(template_shape=(16, 16), lowest=(6, 6)),
    "cut by the frame": Case(overhang=4),
    "noise": Case(contrast=0.0),
    "noise, flat": Case(contrast=0.0, flat=True),
}


def make(case, seed):
    """Frames (K, H, W); their positions are all equally likely."""
    rng = np.random.default_rng([seed, *map(ord, case.picture), int(case.contrast), case.num_images])
    template_of, background_of = planted.PICTURES[case.picture]
    (height, width), (rows, columns), over = case.template_shape, case.image_shape, case.overhang
    template = planted._picture(template_of, case.template_shape, rng)
    background = np.zeros(case.image_shape) if case.flat else planted._picture(background_of, case.image_shape, rng)
    if case.edge_rows != 1:
        template[[0, -1]] *= case.edge_rows
    support = disc_support(case.template_shape) > 0 if case.disc else np.ones(case.template_shape, bool)
    windows = np.lib.stride_tricks.sliding_window_view(background, case.template_shape)
    squares = (support * (windows - template) ** 2).sum(axis=(2, 3)).mean()
    noise_scale = np.sqrt(squares / case.contrast) if case.contrast else 1.0
    images = np.repeat(np.pad(background, over)[None], case.num_images, axis=0)
    shown = rng.random(case.num_images) < (case.share_present if case.contrast else 0)
    for number in np.flatnonzero(shown):
        free = np.array([rows - height, columns - width]) + 2 * over
        i, j = (free * (1 - case.spread) / 2 + rng.random(2) * (free * case.spread + 1)).astype(int)
        window = images[number, i : i + height, j : j + width]
        window[support] = template[support]
    images = images[:, over : over + rows, over : over + columns]
    return (images + noise_scale * rng.normal(size=images.shape)).astype(np.float32)


def main():
    """A row a case."""
    options = common.parser(__doc__)
    options.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(CASES)}; by default all")
    options.add_argument("--seeds", type=int, default=20)
    arguments = options.parse_args()
    table = {}
    print("| case | right | near | by held-out | fits | seconds | sizes | remarks |\n|---|---|---|---|---|---|---|---|")
    for name in arguments.names or CASES:
        case, right, near, by_held_out, fits, seconds = CASES[name], 0, 0, 0, [], []
        sizes, remarks = Counter(), Counter()
        asked = list(itertools.product(*(range(a, b + 1) for a, b in zip(case.lowest, case.highest, strict=True))))
        for seed in range(arguments.seeds):
            images, before = make(case, seed), time.perf_counter()
            held_out = 9 if len(asked) == 9 else 4
            found = jaxem.choose_shape(
                jax.random.key(seed), images, asked, num_held_out=held_out, absent=case.share_present < 1
            )
            seconds.append(time.perf_counter() - before)
            off = np.abs(np.subtract(found.shape, case.template_shape)).max()
            right, near = right + (off == 0), near + (off <= 1)
            by_held_out += tuple(found.shapes[np.nanargmax(found.held_out)]) == case.template_shape
            sizes["x".join(map(str, found.shape))] += 1
            remarks.update(remark.code for remark in found.remarks())
            fits.append(len(found.bic) + 2 * held_out)
        row = [int(right), int(near), int(by_held_out), float(np.mean(fits)), float(np.median(seconds))]
        table[name] = dict(zip(("right", "near", "by held-out", "fits", "seconds"), row, strict=True))
        table[name] |= {"sizes": dict(sizes), "remarks": dict(remarks)}
        said = ", ".join(f"{code} {count}" for code, count in remarks.most_common())
        most = ", ".join(f"{size} {count}" for size, count in sizes.most_common(4))
        print(
            f"| {name} | {right} | {near} | {by_held_out} | {row[3]:.0f} | {row[4]:.1f} | {most} | {said} |", flush=True
        )
    common.write(arguments.json, {"seeds": arguments.seeds, "sizes": table})


if __name__ == "__main__":
    main()
