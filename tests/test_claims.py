"""What is claimed of a fit: places by the estimates of other images, standard errors, noise, contrast."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from general_problems import draw
from problems import random_params, sample

import jaxem
from jaxem.assess.estimates import noise_correction
from jaxem.assess.evaluation import evaluate
from jaxem.assess.leave_one_out import leave_one_out
from jaxem.assess.remarks import difference_remarks
from jaxem.assess.residuals import residual_statistics
from jaxem.assess.trust import LEAST_TRUST, calibrated, least_relative_contrast, trust
from jaxem.model.expectation import expectation
from jaxem.model.frames import as_frames
from jaxem.model.params import to_internal_units
from jaxem.model.workspace import make_workspace
from jaxem.runtime.remarks import Grade

PLAIN = {"weights": "none", "frames": "none", "support": False, "channels": "none", "wrap": "none", "absent": False,
         "templates": "none", "transforms": 0}  # fmt: skip


@partial(jax.jit, static_argnames="transforms")
def left_out(frames, params, transforms):
    """What the others say of each image, by how much the noise is inflated, and by what it is corrected."""
    workspace = make_workspace(frames, 2)
    internal = to_internal_units(params, workspace.images)
    expected = expectation(workspace, internal, hard=False, transforms=transforms)
    inflation = jnp.maximum(residual_statistics(workspace, internal, expected.best, transforms).inflation, 1)
    options = {"flat": True, "transforms": transforms, "fixed": ()}
    said, certainty = leave_one_out(workspace, internal, expected.statistics, inflation, **options)
    weights = certainty.template_weight, certainty.background_weight
    return said, inflation, noise_correction(workspace.totals, *weights, internal, ())


@pytest.fixture(scope="module")
def planted():
    rng = np.random.default_rng(31)
    truth = random_params(rng, (12, 14), (4, 5), noise_scale=0.5)
    flat = truth._replace(prior=np.full_like(truth.prior, 1 / truth.prior.size))
    images, corners = sample(rng, flat, 40)
    return images, corners, flat, jaxem.fit(images, flat, max_iterations=100)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"weights": "own", "frames": "counts"},
        {"absent": True, "support": True},
        {"templates": "2", "transforms": 1, "channels": "2 noises"},
        pytest.param({"wrap": "both", "weights": "shared mask", "frames": "counts"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_each_image_is_judged_by_what_the_others_say(options):
    problem = draw(5, **(PLAIN | options))
    chosen = {"weights": problem.weights, "frame_weights": problem.frame_weights, "transforms": problem.transforms}
    # At a fixed point the estimates without an image are those of one more M-step without it.
    fit = jaxem.fit(problem.images, problem.params, max_iterations=1000, tolerance=0, **chosen)
    params, transforms = fit.params, problem.transforms
    said, inflation, correction = left_out(
        as_frames(problem.images, problem.weights, problem.frame_weights), params, transforms
    )
    counts = np.ones(len(problem.images)) if problem.frame_weights is None else problem.frame_weights
    posterior = jaxem.e_step(problem.images, params, weights=problem.weights, transforms=transforms)
    number = int(np.argmax(counts > 0))
    others = counts * (np.arange(len(counts)) != number)
    left = jaxem.m_step(
        problem.images, posterior, params.template.shape[params.template.ndim - params.background.ndim :][:2],
        weights=problem.weights, frame_weights=others, params=params, transforms=transforms,
    )  # fmt: skip
    scale = correction * np.asarray(params.noise_scale) * np.sqrt(inflation * (1 + 1 / others.sum()))
    shares = np.sum(others.reshape(-1, *[1] * params.prior.ndim) * posterior.probs, axis=0)
    stacked = params.template.ndim - params.background.ndim
    by_template = shares.reshape(*shares.shape[:stacked], -1).mean(axis=-1)
    prior = np.ones_like(shares) * by_template.reshape(*by_template.shape, *[1] * (shares.ndim - stacked))
    absent = None
    if params.absent is None:
        prior = (prior + 1 / prior.size) / (others.sum() + 1)
    else:
        absent = (others @ np.asarray(posterior.absent) + 0.5) / (others.sum() + 1)
        prior = (1 - absent) * (prior + 0.5 / prior.size) / (prior.sum() + 0.5)
    left = left._replace(noise_scale=scale, prior=prior, absent=absent)
    own = None if problem.weights is None else np.broadcast_to(problem.weights, problem.images.shape[:3])
    one = jaxem.e_step(
        problem.images[number : number + 1], left, transforms=transforms,
        weights=None if own is None else own[number : number + 1],
    )  # fmt: skip
    best = max(float(np.max(one.probs)), 0 if one.absent is None else float(one.absent[0]))
    np.testing.assert_allclose(np.exp(-said.surprise[number, -1]), best, rtol=1e-4)


def test_places_of_fitted_images_are_right_and_standard_errors_cover(planted):
    images, corners, truth, fit = planted
    located = jaxem.locate(images, fit, fitted=True)
    assert (located.corners == corners).all(axis=1).mean() > 0.95
    errors = jaxem.standard_errors(images, fit.params)
    off = np.abs(np.asarray(fit.params.template) - truth.template) / errors.template
    assert 0.8 < np.mean(off < 1.96) <= 1
    np.testing.assert_allclose(np.median(errors.template), 0.5 / 40**0.5, rtol=0.3)
    assert np.isnan(errors.prior).all()
    assert abs(float(evaluate(images, fit.params).noise_scale) - 0.5) < 3 * float(errors.noise_scale)
    held = jaxem.standard_errors(images, fit.params, fixed=("template", "noise_scale"))
    assert np.isnan(held.template).all()
    assert np.isnan(held.noise_scale)
    assert np.isfinite(held.background).any()


def test_standard_errors_grow_where_places_are_uncertain(planted):
    hard = planted[2]._replace(noise_scale=np.array(1.6))
    images, _ = sample(np.random.default_rng(40), hard, 60)
    found = evaluate(images, jaxem.fit(images, hard, max_iterations=100).params)
    at_known_places = float(found.noise_scale) / 60**0.5
    assert 1.05 < float(np.median(found.standard_errors.template)) / at_known_places < 1.5


def test_correlated_noise_counts_as_more_noise(planted):
    clean, _ = sample(np.random.default_rng(41), planted[2]._replace(noise_scale=np.array(0.01)), 40)
    noise = np.random.default_rng(42).normal(size=clean.shape)
    blurred = sum(np.roll(noise, shift, axis=(1, 2)) for shift in [(0, 0), (0, 1), (1, 0), (1, 1)]) / 2

    def seen(noise):
        images = clean + 0.8 * noise
        start = planted[2]._replace(noise_scale=np.array(0.8))
        return evaluate(images, jaxem.fit(images, start, max_iterations=100).params)

    white, correlated = seen(noise), seen(blurred)
    np.testing.assert_allclose(white.residuals.inflation, 1, atol=0.1)
    assert float(correlated.residuals.inflation) > 1.8
    assert float(correlated.contrast) < 0.6 * float(white.contrast)


def test_a_fit_to_noise_is_sure_of_itself_and_the_others_are_not():
    images = np.random.default_rng(3).normal(size=(30, 12, 14)).astype(np.float32)
    fit = jaxem.fit_restarts(jax.random.key(0), images, (6, 6)).best
    own = np.asarray(jaxem.e_step(images, fit.params).probs).reshape(30, -1).max(axis=1)
    assert own.mean() > 0.7
    assert jaxem.locate(images, fit, fitted=True).confidence.mean() < 0.3


def test_new_images_may_have_their_template_where_no_other_had():
    rng = np.random.default_rng(32)
    truth = random_params(rng, (10, 12), (3, 4), noise_scale=0.2)
    prior = np.full_like(truth.prior, 1e-38)
    prior[:4, :4] = 1 / 16
    images, corners = sample(rng, truth._replace(prior=np.full_like(prior, 1 / prior.size)), 30)
    model = truth._replace(prior=prior / prior.sum())
    assert (jaxem.locate(images, model).corners == corners).all()
    assert (jaxem.locate(images, model, prior="learned").corners == corners).all()
    with pytest.raises(ValueError, match='prior must be "flat" or "learned"'):
        jaxem.locate(images, model, prior="even")
    with pytest.raises(ValueError, match="frame_weights are of the fit"):
        jaxem.locate(images, model, frame_weights=np.ones(30))
    with pytest.raises(TypeError, match="model must be"):
        jaxem.locate(images, images)


def test_contrast_has_no_noise_of_its_own_and_does_not_cancel():
    images = np.random.default_rng(0).normal(size=(17, 40, 40)).astype(np.float32)
    found = jaxem.fit_restarts(jax.random.key(0), images, (20, 20))
    claims = jaxem.assess_fit(images, found)
    chance = 2 * np.log(441)
    assert float(found.diagnostics.contrast) > 4 * chance
    assert float(claims.contrast) < least_relative_contrast(17) * chance
    assert "low-contrast" in [remark.code for remark in jaxem.Report(found, claims).remarks()]
    assert np.mean(claims.located.confidence) < 0.5


def test_a_good_fit_has_no_warning(planted):
    images, _, _, fit = planted
    claims = jaxem.assess_fit(images, fit)
    assert [str(remark) for remark in claims.remarks() if remark.grade == Grade.WARNING] == []
    assert float(claims.contrast) > least_relative_contrast(len(images)) * 2 * np.log(90)


NOISES = {
    "correlated-noise": lambda noise, rng: (noise + np.roll(noise, 1, axis=2)) / 2**0.5,
    "heavy-tails": lambda noise, rng: rng.standard_t(3, size=noise.shape) / 3**0.5,
    "skewed-noise": lambda noise, rng: (rng.gamma(2, size=noise.shape) - 2) / 2**0.5,
    "repeating-noise": lambda noise, rng: np.repeat(noise[::2], 2, axis=0),
    "noise-by-pixel": lambda noise, rng: noise * np.exp(0.5 * rng.normal(size=noise.shape[1:])),
    "flickering-brightness": lambda noise, rng: noise + 0.4 * rng.normal(size=(len(noise), 1, 1)),
    "drifting-brightness": lambda noise, rng: noise + np.linspace(-0.6, 0.6, len(noise))[:, None, None],
    "noise-by-frame": lambda noise, rng: noise * np.exp(0.4 * rng.normal(size=(len(noise), 1, 1))),
}


@pytest.mark.parametrize("code", NOISES)
def test_noise_that_is_not_what_the_model_says_is_named(code, planted):
    _, corners, truth, _ = planted
    rng = np.random.default_rng(33)
    clean = np.repeat(np.asarray(truth.background)[None], 40, axis=0)
    for image, (row, column) in zip(clean, corners, strict=True):
        image[row : row + 4, column : column + 5] = truth.template
    images = (clean + 0.3 * NOISES[code](rng.normal(size=clean.shape), rng)).astype(np.float32)
    remarks = jaxem.assess_fit(images, jaxem.fit(images, truth)).remarks()
    codes = {remark.code for remark in remarks}
    json.dumps([remark.facts() for remark in remarks], allow_nan=False)
    assert code in codes
    assert not (codes & set(NOISES)) - {code, "heavy-tails", "skewed-noise", "correlated-noise", "noise-by-frame"}


def test_confidence_is_trusted_the_more_the_more_contrast_and_images_there_are():
    relative, confidence = (
        one.ravel() for one in np.meshgrid(np.linspace(0.5, 4, 30), [0.3, 0.8, 0.99], indexing="ij")
    )
    by_count = [np.asarray(calibrated(confidence, relative, np.float64(count))) for count in (20, 100, 400)]
    for stated in by_count:
        assert (np.diff(stated.reshape(30, 3), axis=0) > 0).all()
        assert (stated < confidence).all()
        np.testing.assert_allclose(stated[-3:], confidence[-3:], atol=0.1)
        assert (stated[relative < 0.8] < 0.1).all()
    above_chance = relative > 1.15
    assert (np.diff(by_count, axis=0)[:, above_chance] >= 0).all()
    for count in (5, 20, 100, 400):
        np.testing.assert_allclose(trust(np.float64(least_relative_contrast(count)), np.float64(count)), LEAST_TRUST)
    assert least_relative_contrast(10**6) == least_relative_contrast(400)


def test_places_that_the_others_do_not_confirm_are_named(planted):
    images, _, _, fit = planted
    claims = jax.device_get(jaxem.assess_fit(images, fit))
    counted = np.ones(len(images), bool)
    assert list(difference_remarks(claims.located.corners, claims.located, counted)) == []
    moved = np.array(claims.located.corners)
    moved[[3, 5, 7]] += 1
    counted[5] = False
    (remark,) = difference_remarks(moved, claims.located, counted)
    assert (remark.code, remark.grade) == ("places-differ", Grade.NOTE)
    assert f"In 2 frames of {len(images) - 1} (3, 7) the other frames" in remark.text
    assert remark.effect == pytest.approx(2 / (len(images) - 1))
    (remark,) = difference_remarks(moved, claims.located._replace(present=np.arange(len(images)) != 3), counted)
    assert "In 1 frame of" in remark.text
    found = jaxem.fit_restarts(jax.random.key(0), images, (4, 5), num_restarts=1)
    report = jaxem.Report(found._replace(best=found.best._replace(corners=moved)), claims)
    assert "places-differ" in [one.code for one in report.remarks()]
