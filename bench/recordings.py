"""Recordings of a round object that is sometimes absent, of several templates, of turned ones: are they found?

    python bench/recordings.py [--seeds 10] [NAME ...]

Each line is one planted recording, searched by default options: how far the template is from the average at the known
places (root mean square inside the object, a share of the range), the area under the ROC curve of presence, the share
of frames that are assigned the right template or turn.
"""

from __future__ import annotations

import argparse
import itertools
import time
from typing import NamedTuple

import jax
import numpy as np
from skimage import color, data, transform

import jaxem
from jaxem.cli.demo import IMAGE_SHAPE, TEMPLATE_SHAPE
from jaxem.model.appearances import MIRRORED_AND_TURNED
from jaxem.model.params import disc_support
from jaxem.model.sampling import simulate_positions

NOISE_OF_DEMO = 0.2  # of the range
TURNS = tuple(MIRRORED_AND_TURNED)


class Recording(NamedTuple):
    """Frames (K, H, W) from 0 to 1, what they were drawn from, and what is to be told to the search."""

    frames: np.ndarray
    truth: jaxem.Params
    positions: jaxem.Positions
    options: dict


def round_object(seed):
    """A coin of 24 pixels over a photograph, absent from 30 % of 400 frames; 5 % of the pixels are dead."""
    rng = np.random.default_rng(seed)
    shape, support = (24, 24), disc_support((24, 24)).astype("float32")
    coins = transform.resize(data.coins()[29:77, 20:68] / 255, shape, anti_aliasing=True)
    photograph = transform.resize(color.rgb2gray(data.coffee()), (80, 104), anti_aliasing=True)
    truth = _truth(coins, photograph, 0.15, absent=0.3, opacity=support)
    images, positions = simulate_positions(jax.random.key(seed), truth, 400)
    dead = rng.random(photograph.shape) < 0.05
    frames = np.where(dead, rng.random(photograph.shape).round(), np.clip(images, 0, 1)).astype("float32")
    options = {"support": "disc", "absent": True, "weights": (~dead).astype("float32")}
    return Recording(frames, truth, jax.device_get(positions), options)


def three_templates(seed):
    """Three faces, the same share of 600 frames each, with the size and the noise of the demonstration."""
    boxes = [
        (data.astronaut(), 22, 152, 170, 136),
        (data.chelsea(), 60, 130, 150, 120),
        (data.camera(), 80, 180, 150, 120),
    ]
    faces = np.stack([_cut(*box, TEMPLATE_SHAPE) for box in boxes])
    truth = _truth(faces, _photograph(), NOISE_OF_DEMO)
    images, positions = simulate_positions(jax.random.key(seed), truth, 600)
    return Recording(np.clip(images, 0, 1), truth, jax.device_get(positions), {"num_templates": 3})


def eight_turns(seed):
    """A square face, turned by quarter turns and mirrored, in 300 frames, with the noise of the demonstration."""
    face = _cut(data.astronaut(), 22, 152, 136, 136, (24, 24))
    truth = _truth(face, _photograph(), NOISE_OF_DEMO, num_transforms=8)
    images, positions = simulate_positions(jax.random.key(seed), truth, 300, transforms=TURNS)
    return Recording(np.clip(images, 0, 1), truth, jax.device_get(positions), {"transforms": TURNS})


RECORDINGS = {"round": round_object, "three": three_templates, "turns": eight_turns}


def _cut(picture, row, column, height, width, shape):
    grey = color.rgb2gray(picture) if picture.ndim == 3 else picture / 255
    return transform.resize(grey[row : row + height, column : column + width], shape, anti_aliasing=True)


def _photograph():
    return transform.resize(color.rgb2gray(data.coffee()), IMAGE_SHAPE, anti_aliasing=True)


def _truth(templates, background, noise_scale, absent=None, opacity=None, num_transforms=1):
    stacked = templates.shape[:-2]
    positions = tuple(n - m + 1 for n, m in zip(background.shape, templates.shape[-2:], strict=True))
    shape = (*stacked, *(num_transforms,) * (num_transforms > 1), *positions)
    prior = np.full(shape, (1 - (absent or 0)) / np.prod(shape))
    truth = jaxem.Params(templates, background, np.array(noise_scale), prior, absent and np.array(absent), opacity)
    return jax.tree.map(lambda leaf: np.asarray(leaf, "float32"), truth)


def known_average(recording):
    """The mean of the observed pixels at the true places, each window turned back, (M, h, w)."""
    frames, positions = recording.frames, recording.positions
    template = np.asarray(recording.truth.template)
    height, width = template.shape[-2:]
    several = template.reshape(-1, height, width)
    total, count = np.zeros_like(several), np.zeros_like(several)
    weights = recording.options.get("weights", np.ones(frames.shape[1:]))
    for k, (row, column) in enumerate(positions.corners):
        if positions.present is None or positions.present[k]:
            window, seen = (array[row : row + height, column : column + width] for array in (frames[k], weights))
            if positions.transform is not None:
                is_mirrored, turns = MIRRORED_AND_TURNED[TURNS[positions.transform[k]]]
                window, seen = (np.rot90(array, -turns) for array in (window, seen))
                window, seen = (array[:, ::-1] if is_mirrored else array for array in (window, seen))
            number = 0 if positions.template is None else positions.template[k]
            total[number] += seen * window
            count[number] += seen
    return total / count


def errors(recording, found):
    """Root mean square of the template found less the known-position average, for each planted template."""
    support = recording.truth.opacity
    support = np.ones(recording.truth.template.shape[-2:]) if support is None else support
    several = np.asarray(found.params.template).reshape(-1, *support.shape)
    candidates = (
        several
        if recording.positions.transform is None
        else np.stack(
            [
                np.rot90(one[:, ::-1] if is_mirrored else one, turns)
                for one in several
                for is_mirrored, turns in MIRRORED_AND_TURNED.values()
            ]
        )
    )
    return [
        min(np.sqrt((support * (one - known) ** 2).sum() / support.sum()) for one in candidates)
        for known in known_average(recording)
    ]


def roc_area(score, truth):
    """The probability that a frame with the object scores higher than one without."""
    order = score.argsort(kind="stable").argsort() + 1
    positives, negatives = truth.sum(), (~truth).sum()
    return (order[truth].sum() - positives * (positives + 1) / 2) / (positives * negatives)


def share_right(found, planted):
    """How many agree, under the best way to name what was found."""
    size = int(planted.max()) + 1
    table = np.zeros((size, size), int)
    np.add.at(table, (found, planted), 1)
    if size > 4:  # a turn of the whole template renames all turns at once, one to one
        return table.max(axis=1).sum() / len(found)
    return max(sum(table[i, j] for i, j in enumerate(names)) for names in itertools.permutations(range(size))) / len(
        found
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=list(RECORDINGS), metavar="NAME", help=", ".join(RECORDINGS))
    parser.add_argument("--seeds", type=int, default=10)
    args = parser.parse_args()
    for name in args.names:
        for seed in range(args.seeds):
            recording = RECORDINGS[name](seed)
            positions, before = recording.positions, time.perf_counter()
            shape = recording.truth.template.shape[-2:]
            result = jax.device_get(
                jaxem.fit_restarts(jax.random.key(seed), recording.frames, shape, **recording.options)
            )
            found = result.best
            words = [f"template {max(errors(recording, found)):.4f}"]
            if positions.present is not None:
                e_step = jaxem.e_step(recording.frames, found.params, weights=recording.options["weights"])
                score = -np.asarray(e_step.absent, float)
                words += [f"presence AUC {roc_area(score, positions.present):.5f}"]
            if positions.template is not None:
                words += [f"assigned {share_right(found.best_template, positions.template):.4f}"]
            if positions.transform is not None:
                words += [f"turns {share_right(found.best_transform, positions.transform):.4f}"]
            there = slice(None) if positions.present is None else positions.present
            right = (found.corners == positions.corners).all(axis=1)[there].mean()
            words += [f"places {right:.4f}", f"steps {int(result.diagnostics.num_steps)}"]
            print(f"{name} {seed}: {', '.join(words)}, {time.perf_counter() - before:.1f} s", flush=True)


if __name__ == "__main__":
    main()
