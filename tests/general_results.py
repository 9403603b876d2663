"""A result of everything that the model knows at once, made without a search, and what a search would be told."""

import jax
import numpy as np

import jaxem
from jaxem.model.appearances import numbers_of
from jaxem.model.params import disc_support
from jaxem.model.sampling import simulate_positions

IMAGE, SIDE, COUNT = (11, 13), 5, 24
TURNS = ("identity", "rot90", "rot180", "rot270")


def truth():
    """Two round templates in colour, turned, round the edges, in most of the frames."""
    rng = np.random.default_rng(5)
    prior = rng.dirichlet(np.full(2 * 4 * IMAGE[0] * IMAGE[1], 5.0)).reshape(2, 4, *IMAGE) * 0.75
    parts = (rng.uniform(20, 230, (2, SIDE, SIDE, 3)), rng.uniform(20, 230, (*IMAGE, 3)), [8.0, 9.0, 10.0], prior, 0.25)
    return jaxem.Params(*(np.asarray(part, "float32") for part in parts), disc_support((SIDE, SIDE)))


def drawn(params):
    """Frames of whole numbers, and what is in them."""
    images, positions = simulate_positions(jax.random.key(3), params, COUNT, transforms=TURNS)
    return np.clip(np.rint(images), 0, 255).astype(np.uint8), jax.tree.map(np.asarray, positions)


def restarts(params, positions, transforms):
    """As a search would give it."""
    count, nothing = np.int32(2), np.float32(9)
    history = np.array([-5e4, -4e4, -3e4, np.nan], np.float32)
    best = jaxem.Fit(
        params, history[2], history, count, np.int32(jaxem.Status.CONVERGED), count, nothing, positions.corners,
        positions.template, positions.transform, positions.present, numbers_of(transforms),
    )  # fmt: skip
    best = jax.tree.map(np.asarray, best)
    runs = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), best)._replace(status=np.array([5, 1], np.int32))
    diagnostics = jaxem.Diagnostics(nothing, count, count, nothing, nothing, np.int32(0), np.bool_(False))
    return jaxem.Restarts(best, runs, diagnostics)


def pasted(params, positions):
    """Each frame without its noise, pixel by pixel."""
    frames = np.repeat(params.background[None], len(positions.corners), axis=0)
    for number, frame in enumerate(frames):
        if not positions.present[number]:
            continue
        turns = int(positions.transform[number])
        template = np.rot90(params.template[positions.template[number]], turns)
        support = np.rot90(params.opacity, turns)
        row, column = positions.corners[number]
        for down, right in zip(*np.nonzero(support), strict=True):
            frame[(row + down) % IMAGE[0], (column + right) % IMAGE[1]] = template[down, right]
    return frames
