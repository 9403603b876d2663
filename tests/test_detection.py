"""The detection test: what it finds, what it does not take for a template, and the parts it is made of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import random_params, sample

import jaxem
from jaxem.assess.detection import _count_alike, nothing_tested
from jaxem.assess.normal_scores import normal_scores
from jaxem.assess.remarks import test_remarks as remarks_of_test
from jaxem.model.frames import Frames
from jaxem.model.likelihood import Hypotheses
from jaxem.runtime.remarks import Grade

SHAPE, TEMPLATE = (24, 12, 14), (5, 5)


def detect(images, **options):
    return jaxem.detection_test(jax.random.key(2), images.astype(np.float32), TEMPLATE, **options)


def test_a_template_is_found_and_correlated_or_skewed_noise_is_none():
    rng = np.random.default_rng(5)
    truth = random_params(rng, SHAPE[1:], TEMPLATE, noise_scale=0.5)
    planted, _ = sample(rng, truth._replace(prior=np.full((8, 10), 1 / 80)), SHAPE[0])
    found = detect(planted)
    assert float(found.p_value) < 0.01
    assert float(found.agreement) > 0.9
    assert np.isfinite(found.gains).all()
    noise = rng.normal(size=(*SHAPE, 2))
    blurred = noise[..., 0] + np.roll(noise[..., 0], 1, axis=1) + np.roll(noise[..., 0], 1, axis=2)
    skewed = rng.gamma(0.3, size=SHAPE)  # a template to whoever takes it for noise as likely as its negative
    p_values = [float(detect(stack).p_value) for stack in (blurred, noise[..., 1] ** 3, skewed)]
    assert min(p_values) > 0.05
    assert float(detect(blurred).agreement) < 0.5


def test_every_option_of_the_search_is_taken():
    images = np.random.default_rng(6).normal(size=SHAPE)
    weights = np.ones(SHAPE)
    weights[:, :, 0] = 0
    dirty = np.where(weights > 0, images, np.nan)
    options = {"weights": weights, "absent": True, "num_templates": 2, "support": "disc", "block_size": 2}
    assert 0 < float(detect(dirty, **options).p_value) <= 1


def test_too_few_images_are_refused():
    with pytest.raises(ValueError, match="images must be 8 at least, for parts to be compared, but are 7"):
        detect(np.zeros((7, 12, 14)))


def test_normal_scores_keep_order_mean_and_scale_and_what_never_changes():
    rng = np.random.default_rng(7)
    images = rng.gamma(1, size=(40, 3, 4)).astype(np.float32)
    images[:, 0, 0], images[:20, 0, 1], images[20:, 0, 1] = 7, 1, 2
    scores = np.asarray(normal_scores(Frames(jnp.asarray(images))))
    assert (scores[:, 0, 0] == 7).all()
    assert len(np.unique(scores[:, 0, 1])) == 2
    np.testing.assert_array_equal(np.argsort(scores[:, 1, 2]), np.argsort(images[:, 1, 2]))
    np.testing.assert_allclose(scores.mean(axis=0), images.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(scores[:, 1:].std(axis=0), scores[:, 1, 1].std(), rtol=1e-4)


def test_agreement_counts_one_shift_for_all_that_the_first_model_says_alike():
    corners = jnp.array([[0, 0], [1, 1], [2, 2], [3, 3], [4, 4]], jnp.int32)
    shifted = corners + jnp.array([[1, 0], [1, 0], [1, 0], [0, 3], [2, 2]], jnp.int32)
    prior = jnp.zeros((2, 9, 9))
    alike, counted = _count_alike(Hypotheses(corners), Hypotheses(shifted), prior)
    assert (int(alike), int(counted)) == (2, 4)  # three of five, of which one always does
    numbers = jnp.array([0, 0, 1, 1, 1], jnp.int32)
    first, second = Hypotheses(corners, numbers), Hypotheses(corners, 1 - numbers)
    alike, counted = _count_alike(first, second, jnp.zeros((2, 2, 9, 9)))
    assert (int(alike), int(counted)) == (3, 3)


def test_a_template_that_noisy_pixels_have_drawn_is_not_where_the_test_finds_one():
    rng = np.random.default_rng(8)
    truth = random_params(rng, (24, 24), (8, 8), noise_scale=1.0)
    truth = truth._replace(template=1.2 * rng.normal(size=(8, 8)), background=np.zeros((24, 24)))
    truth = truth._replace(prior=np.full((17, 17), 1 / 289))
    images, corners = sample(rng, truth, 80)
    for spoilt in (False, True):
        stack = images.copy()
        if spoilt:
            stack[:, :10, :10] += rng.normal(size=(80, 10, 10)) * 4
        stack = stack.astype(np.float32)
        found = jaxem.fit_restarts(jax.random.key(0), stack, (8, 8))
        test = jaxem.detection_test(jax.random.key(1), stack, (8, 8))
        shift = np.asarray(test.corners) - corners
        for part in range(4):
            _, counts = np.unique(shift[np.asarray(test.parts) == part], axis=0, return_counts=True)
            assert counts.max() >= 15  # of 20
        claims = jaxem.assess_fit(stack, found, test=test)
        codes = {remark.code for remark in claims.remarks() if remark.grade == Grade.WARNING}
        assert ("test-disagrees" in codes) == spoilt
        assert (np.mean((np.asarray(found.best.corners) == corners).all(axis=1)) > 0.9) != spoilt
    corners = np.tile([[0, 0], [0, 12], [12, 0], [12, 12]], (20, 1)).astype(np.int32)
    test = test._replace(corners=corners, parts=np.zeros(80, np.int32))
    opposite = claims.located._replace(corners=(corners + 12) % 24)
    (remark,) = remarks_of_test(test, opposite, (np.inf, np.inf))  # four shifts, where there is but one round the edges
    assert remark.code == "test-disagrees"
    assert list(remarks_of_test(test, opposite, (24, 24))) == []
    round_edges = claims.standard_errors._replace(prior=np.zeros((24, 24)))
    for errors, disagrees in ((claims.standard_errors, True), (round_edges, False)):
        said = claims._replace(test=test, located=opposite, standard_errors=errors).remarks()
        assert ("test-disagrees" in [remark.code for remark in said]) == disagrees
    untold = claims._replace(test=nothing_tested(80, np.float32))
    assert not {"test-disagrees", "no-template"} & {remark.code for remark in untold.remarks()}
