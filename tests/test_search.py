"""The parts of the search: schedules, the start read off the images, recentring; and what they reach together."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TOLERANCE
from problems import cast, random_params, random_problem, sample

import jaxem
from jaxem import Params
from jaxem.model.frames import Frames, as_frames
from jaxem.model.params import to_internal_units
from jaxem.model.workspace import make_workspace
from jaxem.search.comparison import explains_little
from jaxem.search.crops import find_crops, mean_crop_params
from jaxem.search.reach import reachable_shift
from jaxem.search.splitting import split_params
from jaxem.search.structure import Structure


def test_annealing_rises_to_one_and_anneals_the_prior():
    schedule = jaxem.annealing(4, start=0.125, prior_steps=3)
    np.testing.assert_allclose(schedule.inverse_temperature, [0.125, 0.25, 0.5, 1, 1, 1, 1])
    assert (schedule.prior_smoothing[:4] >= 1e4).all()
    assert (np.diff(schedule.prior_smoothing[3:]) < 0).all()
    for wrong in ({"num_steps": -1}, {"start": 0.0}, {"start": 1.5}, {"prior_steps": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            jaxem.annealing(**wrong)
    for wrong in (
        {"annealing_steps": 0},
        {"inverse_temperature": 2.0},
        {"num_recentrings": -1},
        {"num_trials": -1},
        {"prior_annealing_steps": -1},
    ):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            jaxem.Search(**wrong)


@pytest.mark.parametrize("dtype", ["widest"], indirect=True)
def test_a_schedule_is_tempered_e_steps_and_smoothed_m_steps(dtype):
    images, params = random_problem(np.random.default_rng(60), (6, 8, 9), (3, 4))
    images, params = images.astype(dtype), cast(params, dtype)
    schedule = jaxem.Schedule(np.array([0.3, 0.6]), np.array([2.0, 0.5]))
    found = jaxem.fit(images, params, schedule=schedule, max_iterations=1, prior_smoothing=0.1, tolerance=-np.inf)
    expected, pseudo_counts = params, (12, 3, 0.1)
    for power, smoothing in zip((0.3, 0.6, 1), pseudo_counts, strict=True):
        tempered = expected._replace(noise_scale=expected.noise_scale / power**0.5)
        posterior = jaxem.e_step(images, tempered)
        expected = jaxem.m_step(images, posterior, (3, 4), prior_smoothing=smoothing)
    for actual, wanted in zip(*map(jax.tree.leaves, (found.params, expected)), strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    assert found.num_iterations == 1
    assert found.history[1] == found.elbo
    penalty = 0.1 * np.mean(np.log(found.params.prior))
    log_likelihood = jaxem.log_likelihood(images, found.params).sum()
    np.testing.assert_allclose(found.elbo, log_likelihood + penalty, rtol=TOLERANCE[dtype])


def test_a_schedule_that_changes_nothing_is_the_first_iterations():
    images, params = random_problem(np.random.default_rng(61), (6, 8, 9), (3, 4))
    images, params = images.astype(np.float32), cast(params, np.float32)
    nothing = jaxem.Schedule(np.ones(3), np.zeros(3))
    later = jaxem.fit(images, params, schedule=nothing, max_iterations=4, tolerance=-np.inf)
    whole = jaxem.fit(images, params, max_iterations=7, tolerance=-np.inf)
    np.testing.assert_allclose(later.history, whole.history[3:], rtol=1e-6)
    np.testing.assert_allclose(later.params.template, whole.params.template, rtol=1e-5)


def test_a_schedule_is_left_when_nothing_is_in_doubt():
    rng = np.random.default_rng(67)
    truth = random_params(rng, (9, 11), (4, 5), noise_scale=0.02)
    images = sample(rng, truth, 20)[0].astype(np.float32)
    truth = cast(truth, np.float32)
    schedule = jaxem.annealing(30, start=0.2, prior_steps=30)
    found = jaxem.fit(images, truth, schedule=schedule)
    assert found.num_scheduled < 5
    np.testing.assert_allclose(found.elbo, jaxem.fit(images, truth).elbo, rtol=1e-5)
    doubtful = truth._replace(noise_scale=np.float32(50))
    assert jaxem.fit(images, doubtful, schedule=jaxem.Schedule(np.full(6, 1e-6), np.ones(6))).num_scheduled == 6


@pytest.mark.parametrize(
    ("num_images", "annealing", "prior_annealing"), [(1000, 10, 13), (72, 20, 50), (54, 27, 58), (3, 40, 60)]
)
def test_few_images_are_annealed_more_slowly(num_images, annealing, prior_annealing):
    search = jaxem.Search()
    assert search.annealing_steps_for(num_images, (12, 9)) == annealing
    assert search.prior_annealing_steps_for(num_images, 100) == prior_annealing
    search = jaxem.Search(annealing_steps=7, prior_annealing_steps=0)
    assert search.annealing_steps_for(num_images, (12, 9)) == 7
    assert search.prior_annealing_steps_for(num_images, 100) == 0


def test_a_step_of_the_schedule_that_fails_says_so():
    images, params = random_problem(np.random.default_rng(62), (6, 8, 9), (3, 4))
    images[2, 3, 3] = np.nan
    images, params = images.astype(np.float32), cast(params, np.float32)
    found = jax.jit(lambda images: jaxem.fit(images, params, schedule=jaxem.annealing(3, prior_steps=0)))(images)
    assert jaxem.Status(int(found.status)) == jaxem.Status.NONFINITE
    np.testing.assert_array_equal(found.params.template, params.template)


@pytest.mark.slow
def test_a_template_lost_over_a_flat_background_is_found_in_single_images():
    rng = np.random.default_rng(72)
    truth = random_params(rng, (14, 17), (4, 5), noise_scale=1.0)
    truth = truth._replace(background=np.full((14, 17), 1.0), prior=np.full((11, 13), 1 / 143))
    images, _ = sample(rng, truth, 150)
    images = images.astype(np.float32)
    start = jaxem.random_params(jax.random.key(0), images, (4, 5))
    hot = jaxem.fit(images, start, schedule=jaxem.annealing(20, start=0.1, prior_steps=0), max_iterations=0)
    assert float(hot.entropy) > 0.8 * np.log(143)
    lost = jaxem.fit_restarts(jax.random.key(0), images, (4, 5), search=jaxem.Search(num_trials=0)).best
    assert np.abs(np.asarray(lost.params.template) - truth.template).max() > 1
    found = jaxem.fit_restarts(jax.random.key(0), images, (4, 5)).best
    assert float(found.entropy) < 0.1 * np.log(143)
    np.testing.assert_allclose(found.params.template, truth.template, atol=0.3)


def test_a_template_that_fits_the_noise_of_few_images_is_not_taken_for_found():
    rng = np.random.default_rng(2)
    truth = random_params(rng, (24, 25), (8, 9), noise_scale=1.0)
    truth = truth._replace(background=np.zeros((24, 25)), prior=np.full((17, 17), 1 / 289))
    truth = truth._replace(template=0.9 * rng.normal(size=(8, 9)))
    images, corners = sample(rng, truth, 20)
    images = images.astype(np.float32)
    lost = jaxem.fit_restarts(jax.random.key(0), images, (8, 9), search=jaxem.Search(num_trials=0)).best
    assert float(lost.entropy) < 0.1  # so that entropy does not show it
    assert float(lost.elbo) < float(jaxem.fit(images, truth).elbo) - 100
    found = jaxem.fit_restarts(jax.random.key(0), images, (8, 9)).best
    assert (np.asarray(found.corners) == corners).all(axis=1).mean() > 0.9
    workspace = make_workspace(Frames(jnp.asarray(images)), 8)
    known = workspace.images.scale, workspace.totals
    assert bool(jax.jit(explains_little)(lost, *known))
    assert not bool(jax.jit(explains_little)(found, *known))
    assert explains_little(*jax.device_get((lost, *known)))
    many = jaxem.fit(np.concatenate([images] * 3), lost.params, max_iterations=0)
    assert not explains_little(many, *known)


def test_a_cut_is_the_window_that_stands_out():
    images = np.zeros((4, 7, 9))
    images[0] += 1e-3
    images[2, 3:5, 4:7] = 5
    images[3, 1:3, 0:3] = -3
    for rank, value, corner in [(0, 5, (3, 4)), (1, -3, (1, 0))]:
        start = jaxem.init_from_crop(images, (2, 3), rank)
        np.testing.assert_allclose(start.template, value, rtol=1e-5, err_msg=f"{corner}")
        behind = images.mean(axis=0)
        behind[corner[0] : corner[0] + 2, corner[1] : corner[1] + 3] = 1e-3 / 3  # of the three other images
        np.testing.assert_allclose(start.background, behind, atol=1e-6)
        np.testing.assert_allclose(start.noise_scale, np.sqrt(images.var(axis=0).mean()), rtol=1e-5)
        np.testing.assert_allclose(start.prior, 1 / 42)
    with pytest.raises(ValueError, match="rank must be at least 0"):
        jaxem.init_from_crop(images, (2, 3), -1)


def test_cuts_of_few_images_are_at_several_corners_and_noisy_pixels_do_not_draw_them():
    rng = np.random.default_rng(74)
    images = 0.1 * rng.normal(size=(60, 24, 25))
    images[:, :5, :5] *= 20
    corners = np.stack([rng.integers(5, 20, 60), rng.integers(5, 20, 60)], axis=1)
    for image, (row, column) in zip(images, corners, strict=True):
        image[row : row + 4, column : column + 5] += 0.5
    images = images.astype(np.float32)
    workspace = make_workspace(Frames(jnp.asarray(images)), 8)
    blank = Structure((4, 5)).blank(jnp.asarray(images))
    crops = find_crops(workspace.images, blank, 3)
    assert len(set(zip(crops.numbers.tolist(), map(tuple, crops.corners.tolist()), strict=True))) == 180
    assert (np.abs(np.asarray(crops.first) - corners).max(axis=1) <= 1).mean() > 0.8
    start = mean_crop_params(workspace.images, workspace.totals, crops, blank)
    assert np.abs(np.asarray(start.template)[1:-1, 1:-1] - 0.5).max() < 0.15
    assert np.abs(np.asarray(start.background)[5:]).max() < 0.2
    np.testing.assert_allclose(start.prior, 1 / 441, rtol=1e-5)


@pytest.mark.parametrize("prior", ["two places", "uniform"])
def test_two_places_are_two_groups_of_images(prior):
    rng = np.random.default_rng(75)
    truth = random_params(rng, (14, 15), (4, 5), noise_scale=0.5)
    places = np.zeros((11, 11))
    places[[2, 8], [1, 7]] = 0.5
    truth = truth._replace(prior=np.full((11, 11), 1 / 121) if prior == "uniform" else places)
    images, _ = sample(rng, truth, 60)
    weights = np.ones((60, 14, 15), np.float32)
    weights[::7, 5, 5], images[::7, 5, 5] = 0, np.nan
    workspace = make_workspace(as_frames(images.astype(np.float32), weights), 8)
    blank = Structure((4, 5)).blank(workspace.images.frames.pixels)
    starts, is_split = split_params(workspace.images, workspace.totals, find_crops(workspace.images, blank, 1), blank)
    assert bool(is_split) == (prior == "two places")
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(starts))
    if is_split:
        errors = np.abs(np.asarray(starts.template) - truth.template).max(axis=(1, 2))
        assert np.sort(errors)[1] < 0.4  # at each of the places one of two ways round


@pytest.mark.parametrize("margins", [((2, 0), (1, 1)), ((0, 2), (0, 2))])
def test_an_object_is_shifted_in_its_template_to_where_it_reaches_all_its_places(margins):
    rng = np.random.default_rng(76)
    template = np.pad(1 + rng.normal(size=(3, 4)), margins)
    background, prior = np.zeros((13, 15)), np.full((9, 10), 1 / 90)
    images, corners = sample(rng, Params(template, background, 0.3, prior), 100)
    images[::9, 0, 0] = np.nan
    weights = np.where(np.isnan(images), 0, 1).astype(np.float32)
    middle = np.pad(template[margins[0][0] : 5 - margins[0][1], margins[1][0] : 6 - margins[1][1]], ((1, 1), (1, 1)))
    shifted = Params(middle, background, 0.3, prior)
    images, shifted = images.astype(np.float32), cast(shifted, np.float32)
    workspace = make_workspace(as_frames(images, weights), 20)
    internal = to_internal_units(shifted, workspace.images)
    squares = 100 * jnp.asarray(middle, np.float32) ** 2 / workspace.images.scale**2
    shift = reachable_shift(workspace.images, internal, squares)
    np.testing.assert_array_equal(shift, [1 - margins[0][0], 1 - margins[1][0]])
    found = jaxem.fit_restarts(jax.random.key(0), images, (5, 6), weights=weights).best
    assert (np.asarray(found.corners) == corners).all(axis=1).mean() > 0.95


def test_wrong_schedules_are_refused():
    images, params = random_problem(np.random.default_rng(63), (6, 8, 9), (3, 4))
    for schedule, words in [
        (jaxem.Schedule(np.ones(2), np.ones(3)), "prior_smoothing must have shape"),
        (jaxem.Schedule(np.ones((2, 2)), np.ones(2)), "inverse_temperature must have shape"),
        (jaxem.Schedule(np.array([0.0]), np.ones(1)), "above 0 and at most 1"),
        (jaxem.Schedule(np.array([1.0]), np.array([-1.0])), "finite and not below 0"),
    ]:
        with pytest.raises(ValueError, match=words):
            jaxem.fit(images, params, schedule=schedule)
    with pytest.raises(TypeError, match="schedule must be"):
        jaxem.fit(images, params, schedule=5)
    with pytest.raises(TypeError, match="search must be"):
        jaxem.fit_restarts(jax.random.key(0), images, (3, 4), search="best")


def test_the_start_read_off_the_images_is_where_they_vary():
    rng = np.random.default_rng(64)
    images = 3 + 0.1 * rng.normal(size=(40, 11, 14))
    images[::2, 4:7, 6:11] += 2
    start = jaxem.init_from_variance(images, (3, 5))
    np.testing.assert_allclose(start.template, images.mean(axis=0)[4:7, 6:11], rtol=1e-5)
    assert np.abs(start.background - 3).max() < 0.1
    np.testing.assert_allclose(start.noise_scale, np.sqrt(images.var(axis=0).mean()), rtol=1e-5)
    np.testing.assert_allclose(start.prior, 1 / 90)
    whole = jaxem.init_from_variance(images, (11, 14))  # nothing is left to fill it with
    assert np.isfinite(whole.background).all()


@pytest.mark.parametrize("shift", [(-2, 0), (1, 2), (2, -3)])
def test_recentring_finds_a_shift_and_leaves_what_is_centred(shift):
    rng = np.random.default_rng(65)
    truth = random_params(rng, (20, 26), (5, 7), noise_scale=0.3)
    inside = np.zeros((16, 20))
    inside[3:-3, 3:-3] = 1 / (10 * 14)
    truth = truth._replace(prior=inside, background=1.4 + 0.2 * (truth.background - 1.4))
    images, _ = sample(rng, truth, 120)
    wide = np.full((15, 21), truth.background.mean())
    wide[5:10, 7:14] = truth.template
    shifted = wide[5 + shift[0] : 10 + shift[0], 7 + shift[1] : 14 + shift[1]]
    flat = truth._replace(prior=np.full((16, 20), 1 / 320))
    moved = jaxem.recentre(images, flat._replace(template=shifted))
    assert np.abs(moved.template - truth.template).max() < 0.5
    np.testing.assert_allclose(moved.prior, 1 / 320)
    kept = jaxem.recentre(images, truth)
    np.testing.assert_allclose(kept.template, truth.template, rtol=1e-6)
    np.testing.assert_allclose(kept.prior, truth.prior, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("hard", [False, True])
def test_the_search_escapes_a_swap(hard):
    """Nine templates of ten near one place: random starts take the template there for the background."""
    rng = np.random.default_rng(66)
    truth = random_params(rng, (22, 27), (8, 9), noise_scale=0.9)
    i, j = np.ogrid[:15, :19]
    peak = np.exp(-((i - 10) ** 2 + (j - 5) ** 2) / 1.0)
    truth = truth._replace(prior=0.9 * peak / peak.sum() + 0.1 / peak.size)
    images, corners = sample(rng, truth, 100)
    images = images.astype(np.float32)
    found = jaxem.fit_restarts(jax.random.key(0), images, (8, 9), num_restarts=2, hard=hard, search=jaxem.Search())
    known = np.mean([x[i : i + 8, j : j + 9] for x, (i, j) in zip(images, corners, strict=True)], axis=0)
    np.testing.assert_allclose(found.best.params.template, known, atol=0.05)
    assert found.runs.elbo.shape == (2,)
    assert found.best.elbo == jnp.max(found.runs.elbo)
    assert found.best.history[found.best.num_iterations] == found.best.elbo
    assert jaxem.Status(int(found.best.status)) == jaxem.Status.CONVERGED


def test_coarse_to_fine():
    rng = np.random.default_rng(73)
    smooth = np.kron(rng.normal(size=(4, 4)), np.ones((2, 2)))
    background = 0.3 * np.kron(rng.normal(size=(11, 13)), np.ones((2, 2)))
    images, _ = sample(rng, Params(smooth, background, 0.7, np.full((15, 19), 1 / 285)), 80)
    images = images.astype(np.float32)
    coarse = jaxem.coarsen(images)
    np.testing.assert_allclose(coarse[3, 2, 5], images[3, 4:6, 10:12].mean(), rtol=1e-5)
    assert jaxem.coarsen(images[:, :21, :25]).shape == (80, 10, 12)
    found = jaxem.fit_restarts(jax.random.key(0), coarse, (4, 4)).best
    start = jaxem.refine(found.params, images, (8, 8))
    np.testing.assert_allclose(start.noise_scale, 2 * found.params.noise_scale)
    found = jaxem.fit(images, start, schedule=jaxem.annealing(6, start=0.5))
    assert np.abs(np.asarray(found.params.template) - smooth).max() < 0.4
    with pytest.raises(ValueError, match="factor must be at most 22"):
        jaxem.coarsen(images, 23)
    with pytest.raises(ValueError, match="background"):
        jaxem.refine(found.params, images, (8, 8), 3)
