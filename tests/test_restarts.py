"""Starting points, many runs at once, and the choice among them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import random_params, sample

import jaxem
from jaxem.search.choosing import best_run


def planted(num_images=150):
    rng = np.random.default_rng(41)
    truth = random_params(rng, (16, 19), (5, 6), noise_scale=0.5)._replace(prior=np.full((12, 14), 1 / 168))
    images, corners = sample(rng, truth, num_images)
    return truth, images, corners


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["widest"], indirect=True)
@pytest.mark.parametrize(("options", "num_runs"), [({}, 2), ({"search": None}, 10)])
def test_the_best_finds_a_planted_template(dtype, options, num_runs):
    truth, images, corners = planted()
    found = jaxem.fit_restarts(jax.random.key(0), images.astype(dtype), (5, 6), **options)
    assert found.runs.elbo.shape == (num_runs,)
    assert found.warnings() == []
    known = np.mean([x[i : i + 5, j : j + 6] for x, (i, j) in zip(images, corners, strict=True)], axis=0)
    np.testing.assert_allclose(found.best.params.template, known, atol=0.02)
    np.testing.assert_allclose(found.best.params.background, truth.background, atol=0.3)
    np.testing.assert_allclose(found.best.params.noise_scale, truth.noise_scale, rtol=0.05)
    assert (np.asarray(jaxem.e_step(images.astype(dtype), found.best.params, hard=True).corners) == corners).all()


@pytest.mark.parametrize("dtype", ["widest"], indirect=True)
def test_a_lane_is_the_run_it_says(dtype):
    _, images, _ = planted(40)
    images = images.astype(dtype)
    key = jax.random.key(3)
    found = jaxem.fit_restarts(key, images, (5, 6), num_restarts=3, max_iterations=4, search=None)
    one = jax.random.split(key, 3)[1]
    alone = jaxem.fit(images, jaxem.random_params(one, images, (5, 6)), max_iterations=4)
    rtol = 2e-3 if dtype == np.float32 else 1e-9
    for lane, single in zip(jax.tree.leaves(found.runs), jax.tree.leaves(alone), strict=True):
        np.testing.assert_allclose(lane[1], single, rtol=rtol, atol=rtol)


def test_the_best_is_the_highest_finite_objective():
    runs = jaxem.Fit(
        jaxem.Params(*(jnp.arange(4.0),) * 4),
        jnp.array([-3.0, jnp.nan, -1.0, jnp.inf]),
        jnp.zeros((4, 2)),
        jnp.zeros(4, jnp.int32),
        jnp.array([1, 4, 2, 4]),
        jnp.zeros(4, jnp.int32),
        jnp.zeros(4),
        jnp.zeros((4, 3, 2), jnp.int32),
    )
    assert best_run(runs) == 2
    assert best_run(runs._replace(elbo=jnp.full(4, jnp.nan))) == 0


def test_random_starts_scale_with_the_data(dtype):
    key = jax.random.key(5)
    images = np.linspace(0, 1, 20 * 11 * 13).reshape(20, 11, 13).astype(dtype)
    start = jaxem.random_params(key, images, (3, 4))
    pixels = np.concatenate([start.template.ravel(), start.background.ravel()])
    assert -1e-3 < pixels.min() < 0.05  # evenly spread data in [0, 1] give the paper's U[0, 1]
    assert 0.95 < pixels.max() < 1 + 1e-3
    np.testing.assert_allclose(start.prior, 1 / 90, rtol=1e-6)
    assert not np.isin(start.template, start.background).any()  # drawn apart
    other = jaxem.random_params(key, 200 * images - 50, (3, 4))
    tolerance = {"rtol": 1e-4, "atol": 1e-4}
    np.testing.assert_allclose(other.template, 200 * start.template - 50, **tolerance)
    np.testing.assert_allclose(other.background, 200 * start.background - 50, **tolerance)
    np.testing.assert_allclose(other.noise_scale, 200 * start.noise_scale, **tolerance)
    assert not np.array_equal(start.template, jaxem.random_params(jax.random.key(6), images, (3, 4)).template)


def test_simulated_images_have_the_models_moments():
    rng = np.random.default_rng(42)
    truth = random_params(rng, (5, 7), (2, 3), noise_scale=0.4)
    images, corners = jaxem.simulate(jax.random.key(8), truth, 20_000)
    counts = np.zeros((4, 5))
    np.add.at(counts, tuple(np.asarray(corners).T), 1)
    assert np.abs(counts / 20_000 - truth.prior).max() < 0.02
    clean = np.repeat(truth.background[None], 20_000, axis=0)
    for image, (i, j) in zip(clean, np.asarray(corners), strict=True):
        image[i : i + 2, j : j + 3] = truth.template
    noise = np.asarray(images) - clean
    assert abs(noise.mean()) < 0.003
    assert abs(noise.std() - 0.4) < 0.003
    assert np.abs(noise.mean(axis=0)).max() < 0.02


@pytest.mark.slow
def test_a_search_keeps_the_transforms_of_the_stack_and_little_else():
    images = jax.ShapeDtypeStruct((600, 48, 48), np.float32)
    compiled = jax.jit(partial(jaxem.fit_restarts, template_shape=(9, 9))).lower(jax.random.key(0), images).compile()
    stack_bytes = 600 * 48 * 48 * 4
    assert 1 <= compiled.memory_analysis().temp_size_in_bytes / stack_bytes < 1.6


@pytest.mark.parametrize("dtype", ["widest"], indirect=True)
def test_a_known_picture_of_the_template_is_where_the_first_start_begins(dtype):
    truth, images, _ = planted(20)
    images = images.astype(dtype)
    picture = np.asarray(truth.template, dtype)
    options = {"num_restarts": 2, "search": None, "max_iterations": 2, "tolerance": -np.inf}
    key = jax.random.key(2)
    plain = jaxem.fit_restarts(key, images, (5, 6), **options)
    begun = jaxem.fit_restarts(key, images, (5, 6), **options, init=picture)
    start = jaxem.init_from_variance(images, (5, 6))._replace(template=jnp.asarray(picture))
    expected = jaxem.fit(images, start, max_iterations=2, tolerance=-np.inf)
    np.testing.assert_allclose(begun.runs.elbo[0], expected.elbo, rtol=1e-6)
    np.testing.assert_allclose(begun.runs.params.template[0], expected.params.template, atol=1e-4)
    np.testing.assert_allclose(begun.runs.elbo[1], plain.runs.elbo[1], rtol=1e-6)
    assert begun.best.elbo > plain.best.elbo + 10

    search = jaxem.Search(annealing_steps=6, prior_annealing_steps=0, num_trials=0, num_recentrings=0)
    found = jaxem.fit_restarts(key, images, (5, 6), num_restarts=1, search=search, init=picture)
    after_six = jaxem.fit(images, start, schedule=jaxem.annealing(6, start=1, prior_steps=0), max_iterations=0)
    np.testing.assert_allclose(found.stages.elbo[0], after_six.elbo, rtol=1e-6)


def test_what_is_no_picture_of_the_template():
    _, images, _ = planted(5)
    find = partial(jaxem.fit_restarts, jax.random.key(0), images, (5, 6))
    with pytest.raises(ValueError, match=r"init must have the template's shape \(5, 6\), but has \(6, 5\)"):
        find(init=np.zeros((6, 5)))
    with pytest.raises(ValueError, match="init must be finite"):
        find(init=np.full((5, 6), np.nan))
    with pytest.raises(ValueError, match="init starts from a template, but `fixed` holds the template itself"):
        find(init=np.zeros((5, 6)), fixed={"template": np.zeros((5, 6))})
    with pytest.raises(TypeError, match="init must be"):
        find(init="face.png")
