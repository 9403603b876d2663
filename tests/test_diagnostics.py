"""What a result says of itself is so."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import TOLERANCE
from problems import cast, random_params, random_problem, sample

import jaxem
from jaxem.assess import reference as oracle
from jaxem.model.appearances import IDENTITY
from jaxem.model.frames import Frames
from jaxem.model.likelihood import Hypotheses
from jaxem.model.params import to_internal_units
from jaxem.model.workspace import center, make_workspace
from jaxem.solvers.diagnostics import contrast, covered_always, diagnose


def described(images, best, runs, prior_smoothing=0.0):
    dtype = images.dtype
    best, runs = (jax.tree.map(lambda leaf: np.asarray(leaf), fit) for fit in (best, runs))
    return diagnose(
        make_workspace(Frames(jnp.asarray(images)), 4), best, runs, np.int32(7), np.asarray(prior_smoothing, dtype)
    )


def stacked(*fits):
    return jax.tree.map(lambda *leaves: np.stack(leaves), *fits)


@pytest.fixture
def fitted():
    rng = np.random.default_rng(71)
    truth = random_params(rng, (10, 12), (3, 4), noise_scale=0.4)
    images, corners = sample(rng, truth, 30)
    images = images.astype("float32")
    return images, corners, jaxem.fit(images, cast(truth, np.float32))


def test_the_entropy_is_that_of_the_posteriors(dtype):
    images, params = random_problem(np.random.default_rng(72), (7, 8, 9), (3, 4))
    images = images.astype(dtype)
    found = jaxem.fit(images, cast(params._replace(noise_scale=4.0 * params.noise_scale), dtype), max_iterations=0)
    probs = np.asarray(jaxem.e_step(images, found.params).probs, np.float64)
    entropy = -np.sum(np.where(probs > 0, probs * np.log(np.where(probs > 0, probs, 1)), 0)) / 7
    assert entropy > 0.1
    np.testing.assert_allclose(found.entropy, entropy, rtol=10 * TOLERANCE[dtype])
    hard = jaxem.fit(images, cast(params, dtype), max_iterations=2, hard=True)
    np.testing.assert_allclose(hard.entropy, 0, atol=10 * TOLERANCE[dtype])


@pytest.mark.parametrize(("level", "noise_scale"), [(0.0, 0.5), (1e4, 2.0)])
def test_the_contrast_is_that_of_the_windows_whatever_the_range_of_the_background(level, noise_scale):
    rng = np.random.default_rng(73)
    images, params = random_problem(rng, (6, 8, 9), (3, 4))
    background = np.float32(params.background + level * (np.arange(9) > 4))
    template = np.float32(background[2:5, 4:8] + 0.01 * rng.normal(size=(3, 4)))
    corners = np.tile(np.int32([[2, 4]]), (6, 1))
    centered = center(Frames(jnp.asarray(images + level * (np.arange(9) > 4), jnp.float32)))
    given = params._replace(template=template, background=background, noise_scale=np.float32(noise_scale))
    internal = to_internal_units(jax.tree.map(jnp.asarray, cast(given, np.float32)), centered)
    found = contrast(centered, internal, Hypotheses(jnp.asarray(corners)), IDENTITY)
    exact = np.sum((template.astype(float) - background[2:5, 4:8]) ** 2) / noise_scale**2
    # The pixels themselves are known to 1e-7 of their size alone.
    np.testing.assert_allclose(found, exact, rtol=1e-4 if level == 0 else 0.2)


def test_runs_agree_where_their_templates_do_and_the_gap_is_to_the_others(fitted):
    images, _, best = fitted
    error = float(best.params.noise_scale) / 30**0.5

    def lower(elbo, shift):
        params = best.params._replace(template=best.params.template + shift)
        return best._replace(params=params, elbo=np.float32(elbo))

    alike, other, lowest, broken = (
        lower(best.elbo - 1, 0.9 * error), lower(best.elbo - 5, 1.1 * error), lower(-1e9, 1.0), lower(np.nan, 0.0),
    )  # fmt: skip
    found = described(images, best, stacked(lowest, alike, other, best))
    assert found.num_agreeing == 2
    np.testing.assert_allclose(found.gap, 5, rtol=1e-3)
    assert found.num_steps == 7
    assert described(images, best, stacked(best, alike)).gap == np.inf
    assert described(images, best, stacked(best, broken._replace(params=lowest.params))).gap == np.inf


@pytest.mark.parametrize("prior_smoothing", [0.0, 9.0])
def test_what_was_never_seen_of_the_background(fitted, prior_smoothing):
    images, _, found = fitted
    corners = np.random.default_rng(62).integers(0, [2, 2], size=(30, 2))
    params = jaxem.m_step(images, jaxem.Positions(corners), (3, 4), prior_smoothing=prior_smoothing)
    seen = np.full((10, 12), 30)
    for corner in corners:
        seen[oracle.window(corner, (3, 4))] -= 1
    assert (seen == 0).sum() > 0
    found = found._replace(params=params)
    described_now = described(images, found, stacked(found), prior_smoothing)
    assert described_now.num_hidden == int((seen == 0).sum())
    np.testing.assert_array_equal(described_now.unseen, seen == 0)
    if not prior_smoothing:
        np.testing.assert_array_equal(covered_always(params, 30), seen == 0)


def test_a_good_fit_is_not_doubted_and_each_doubt_has_its_sentence(fitted):
    images, _, best = fitted
    diagnostics = described(images, best, stacked(best))

    def words(status=jaxem.Status.CONVERGED, num_runs=1, **changed):
        values = {name: np.asarray(value) for name, value in changed.items()}
        doubted = best._replace(status=np.int32(status))
        runs = stacked(*[doubted] * num_runs)
        return jaxem.Restarts(doubted, runs, diagnostics._replace(**values)).warnings()

    sure = {"contrast": 100.0, "num_hidden": 0, "effective_positions": 1.1, "at_noise_floor": False}
    assert words(**sure) == []
    for changed, sentence in [
        ({"status": jaxem.Status.MAX_ITERATIONS}, "did not converge. The iterations ran out"),
        ({"status": jaxem.Status.NONFINITE}, "NaN or infinity"),
        (
            {"contrast": 3.0},
            "is 3, of which 0.4 is noise of its own.* 72 positions has 8.55. jaxem.detection_test",
        ),
        ({"num_hidden": 1}, "covers 1 background pixel in every frame"),
        ({"effective_positions": 40.0}, "each leaves 40 of 72 positions open"),
        ({"at_noise_floor": True}, "below what the pixels' numbers resolve"),
        ({"num_runs": 3, "num_agreeing": 1, "gap": 12.0}, "Only one of 3 runs found the best; .* 12 nats lower"),
    ]:
        (found,) = words(**(sure | changed))
        assert re.search(sentence, found), found


def test_one_image_many_times_is_at_the_noise_floor():
    image = np.random.default_rng(74).normal(size=(9, 11)).astype("float32")
    found = jaxem.fit_restarts(jax.random.key(0), np.repeat(image[None], 8, axis=0), (3, 4))
    assert found.diagnostics.at_noise_floor
    assert any("noise is below" in words for words in found.warnings())
