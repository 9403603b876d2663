"""Frames that are read a few at a time give the fit that they give in memory, and nothing is left over when it ends."""

import threading
import time

import general_problems
import jax
import numpy as np
import pytest
from problems import random_params, sample

import jaxem
from jaxem.runtime.read_ahead import ReadAhead
from jaxem.stream import sources

TOLERANCE = {np.dtype("float32"): 1e-5, np.dtype("float64"): 1e-10}


class Source:
    """Counts what is read."""

    def __init__(self, images):
        self.images, self.shape, self.dtype, self.asked = images, images.shape, images.dtype, []

    def read(self, start, stop):
        self.asked.append((start, stop))
        return self.images[start:stop]


def planted(num_images=31, dtype="float32", noise_scale=0.7, seed=3):
    rng = np.random.default_rng(seed)
    truth = random_params(rng, (9, 11), (3, 4), noise_scale)
    images, _ = sample(rng, truth, num_images)
    start = truth._replace(template=truth.template + 0.5 * rng.normal(size=truth.template.shape))
    return images.astype(dtype), jax.tree.map(lambda leaf: np.asarray(leaf, dtype), start)


def small_chunks(monkeypatch, images, num_frames):
    """Chunks of so many frames, or of one batch where that has more."""
    itemsize = np.dtype(jax.dtypes.canonicalize_dtype(images.dtype)).itemsize
    monkeypatch.setattr(sources, "CHUNK_BYTES", num_frames * images[0].size * itemsize)


def expect_same(found, expected, dtype):
    """The same run to rounding."""
    assert int(found.status) == int(expected.status)
    assert int(found.num_iterations) == int(expected.num_iterations)
    assert int(found.num_scheduled) == int(expected.num_scheduled)
    tolerance = TOLERANCE[np.dtype(dtype)]
    np.testing.assert_allclose(found.history, expected.history, rtol=tolerance)
    np.testing.assert_allclose(found.entropy, expected.entropy, rtol=100 * tolerance, atol=100 * tolerance)
    assert found.params.template.dtype == expected.params.template.dtype
    for name, leaf in found.params._asdict().items():
        if leaf is not None:
            other = np.asarray(getattr(expected.params, name))
            size = np.abs(other[np.isfinite(other)]).max()
            np.testing.assert_allclose(leaf, other, rtol=tolerance, atol=3 * tolerance * size, err_msg=name)
    for name in ("corners", "best_template", "best_transform", "present", "transforms"):
        left, right = getattr(found, name), getattr(expected, name)
        assert (left is None) == (right is None), name
        if left is not None:
            np.testing.assert_array_equal(left, right, err_msg=name)


CASES = {
    "plain": {},
    "channels": {"channels": "2 noises"},
    "shared": {"weights": "shared", "support": True},
    "own": {"weights": "own", "channels": "2", "wrap": "rows"},
    "mask": {"weights": "mask", "templates": "2", "absent": True, "frames": "counts"},
    "counted": {"frames": "some zero", "transforms": 1},
    "turned": {"transforms": 3, "support": True, "wrap": "both", "absent": True},
}
NOTHING = {
    "weights": "none", "frames": "none", "support": False, "channels": "none", "wrap": "none", "absent": False,
    "templates": "none", "transforms": 0,
}  # fmt: skip


def general(name, dtype, num_images=13):
    """Images of the general model, more than a draw has, and the options for them."""
    problem = general_problems.as_dtype(general_problems.draw(7, **(NOTHING | CASES[name])), dtype)
    rng = np.random.default_rng(1)
    which = rng.integers(len(problem.images), size=num_images)
    images = problem.images[which]
    images = (images + 0.3 * rng.normal(size=images.shape)).astype(dtype)
    own = problem.weights is not None and problem.weights.ndim == 3
    return (
        images,
        problem.params,
        {
            "weights": problem.weights[which] if own else problem.weights,
            "frame_weights": None if problem.frame_weights is None else problem.frame_weights[which],
            "transforms": problem.transforms,
        },
    )


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("dtype", ["float32", "float64"], indirect=True)
def test_it_is_the_fit_in_memory(name, dtype, monkeypatch):
    images, params, given = general(name, dtype)
    small_chunks(monkeypatch, images, 4)
    options = given | {"max_iterations": 4, "batch_size": 2, "tolerance": 0.0}
    expected = jaxem.fit(images, params, **options)
    expect_same(jaxem.stream.fit(Source(images), params, **options), expected, dtype)


OPTIONS = {
    "hard": {"hard": True},
    "hard after a schedule": {"hard": True, "schedule": jaxem.annealing(3, start=0.3, prior_steps=2)},
    "schedule": {"schedule": jaxem.annealing(3, start=0.3, prior_steps=2), "prior_smoothing": 3.0},
    "accelerated": {"accelerate": True, "max_iterations": 12, "tolerance": 0.0},
    "fixed": {"fixed": ("background", "noise_scale")},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_means_the_same(name, monkeypatch):
    dtype = np.dtype(jax.dtypes.canonicalize_dtype("float64"))
    images, start = planted(dtype=dtype)
    small_chunks(monkeypatch, images, 6)
    options = {"max_iterations": 5} | OPTIONS[name]
    expected = jaxem.fit(images, start, **options)
    expect_same(jaxem.stream.fit(images, start, **options), expected, dtype)
    assert int(expected.num_iterations) > 1


@pytest.mark.parametrize(("num_images", "frames", "batch_size"), [(31, 1, None), (31, 7, 4), (1, 9, None), (12, 12, 5)])
def test_any_number_of_frames_in_chunks_of_any_size(num_images, frames, batch_size, monkeypatch):
    images, start = planted(num_images)
    small_chunks(monkeypatch, images, frames)
    expected = jaxem.fit(images, start, max_iterations=3, tolerance=0.0)
    found = jaxem.stream.fit(images, start, max_iterations=3, tolerance=0.0, batch_size=batch_size)
    expect_same(found, expected, images.dtype)
