"""Random problems, off-centre and asymmetric on purpose: no zero means, no square shapes unless asked for."""

import numpy as np
import pytest

import jaxem
from jaxem.assess import reference as oracle

# (K, H, W), (h, w): general, then all that is thin, full, single or odd.
SHAPES = [
    ((3, 5, 8), (2, 3)),
    ((4, 7, 5), (4, 2)),
    ((1, 5, 6), (2, 2)),
    ((3, 5, 7), (5, 3)),
    ((3, 5, 7), (2, 7)),
    ((2, 4, 6), (4, 6)),
    ((3, 4, 5), (1, 1)),
    ((3, 6, 4), (6, 1)),
    ((3, 4, 6), (1, 6)),
    ((2, 5, 7), (1, 3)),
    ((2, 7, 5), (3, 1)),
    ((2, 1, 6), (1, 2)),
    ((2, 6, 1), (3, 1)),
    ((2, 1, 1), (1, 1)),
]

# Every shape in one precision, the first few in both, since shapes and precisions go wrong apart; each compiles anew.
CASES = [(*shapes, precision) for precision in ("widest", "float32") for shapes in SHAPES[:3]]
CASES += [pytest.param(*shapes, "widest", marks=pytest.mark.slow) for shapes in SHAPES[3:]]


def random_params(rng, image_shape, template_shape, noise_scale=0.6):
    positions = oracle.positions_shape(image_shape, template_shape)
    return jaxem.Params(
        2.3 + rng.normal(size=template_shape),
        1.4 + rng.normal(size=image_shape),
        np.array(noise_scale),
        rng.dirichlet(np.full(positions, 0.7).ravel()).reshape(positions),
    )


def random_probs(rng, num_images, positions):
    return np.stack([rng.dirichlet(np.full(positions, 0.5).ravel()).reshape(positions) for _ in range(num_images)])


def sample(rng, params, num_images):
    """Images and corners drawn from the model, in NumPy."""
    shape = params.prior.shape
    flat = rng.choice(params.prior.size, size=num_images, p=params.prior.ravel() / params.prior.sum())
    corners = np.stack(np.unravel_index(flat, shape), axis=1)
    clean = np.stack([oracle.scene_at(params, tuple(corner)) for corner in corners])
    return clean + params.noise_scale * rng.normal(size=clean.shape), corners


def random_problem(rng, stack_shape, template_shape):
    """Images that the parameters explain moderately well: drawn from perturbed ones."""
    params = random_params(rng, stack_shape[1:], template_shape)
    images, _ = sample(rng, params._replace(template=params.template + 0.3), stack_shape[0])
    return images, params


def cast(tree, dtype):
    return type(tree)(*(None if leaf is None else np.asarray(leaf, dtype) for leaf in tree))
