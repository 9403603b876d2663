"""One pass is stepwise EM as it is written down, and comes near what EM finds in many."""

import threading

import jax
import numpy as np
import pytest
from problems import random_params, sample

import jaxem


def planted(num_images=30, noise_scale=0.8, seed=5):
    rng = np.random.default_rng(seed)
    truth = random_params(rng, (9, 11), (3, 4), noise_scale)
    truth = truth._replace(prior=np.full(truth.prior.shape, 1 / truth.prior.size))
    images, corners = sample(rng, truth, num_images)
    start = truth._replace(template=truth.template + 0.4 * rng.normal(size=(3, 4)))
    return images, corners, truth, start


def reference(batches, params, gammas, prior_smoothing, fixed=()):
    """The formulas, by `e_step` and an `m_step` in which frames count as the step sizes say."""
    weights, probs, history, corners = np.zeros(0), [], [], []
    for number, (batch, gamma) in enumerate(zip(batches, gammas, strict=True)):
        found = jaxem.e_step(batch, params)
        history.append(np.mean(found.log_evidence))
        probs.append(np.asarray(found.probs))
        best = probs[-1].reshape(len(batch), -1).argmax(axis=1)
        corners.append(np.stack(np.unravel_index(best, params.prior.shape), axis=1))
        weights = np.concatenate([(1 - gamma) * weights, np.full(len(batch), gamma / len(batch))])
        num_seen, images = len(weights), np.concatenate(batches[: number + 1])
        after = jaxem.m_step(
            images,
            jaxem.Posterior(np.concatenate(probs)),
            params.template.shape,
            prior_smoothing=prior_smoothing / num_seen,
            params=params,
            frame_weights=weights,
        )
        params = after._replace(**{name: getattr(params, name) for name in fixed})
    return params, np.array(history), np.concatenate(corners)


@pytest.mark.parametrize("fixed", [(), ("prior",)])
def test_it_is_the_formula(fixed):
    images, _, _, start = planted()
    batches, gammas = np.split(images, [10, 22]), [1.0, 0.4, 0.7]
    expected, history, corners = reference(batches, start, gammas, 6.0, fixed)
    found = jaxem.stream.fit_online(
        iter(batches), start, step_size=lambda n: gammas[n], prior_smoothing=6.0, fixed=fixed
    )
    dtype = found.params.template.dtype
    tolerance = 1e-4 if dtype == np.float32 else 1e-9
    for name in ("template", "background", "noise_scale", "prior"):
        left, right = getattr(found.params, name), getattr(expected, name)
        np.testing.assert_allclose(left, right, rtol=tolerance, atol=tolerance, err_msg=name)
    np.testing.assert_allclose(found.log_likelihood, history, rtol=tolerance)
    np.testing.assert_array_equal(found.positions.corners, corners)
    assert found.batch_sizes.tolist() == [10, 12, 8]


def test_hard_weighted_and_general_models_pass():
    images, _, _, start = planted()
    start = start._replace(absent=np.array(0.2), prior=0.8 * start.prior, opacity=np.ones((3, 4)))
    weights = np.ones((9, 11))
    weights[0, 0] = 0
    images[:, 0, 0] = np.nan
    found = jaxem.stream.fit_online(images, start, hard=True, batch_size=7, weights=weights)
    assert found.batch_sizes.tolist() == [7, 7, 7, 7, 2]
    assert found.positions.present.shape == (30,)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found.params))


def test_one_pass_comes_near_to_em_on_all_frames():
    images, corners, truth, start = planted(1500)
    images = images.astype("float32")
    found = jaxem.stream.fit_online(images, start)
    assert len(found.log_likelihood) == 50
    full = jaxem.fit(images, start)

    def error(params):
        return np.sqrt(np.mean((np.asarray(params.template) - truth.template) ** 2))

    assert error(found.params) < 1.1 * error(full.params) < 0.2 * error(start)
    assert found.log_likelihood[-10:].mean() > found.log_likelihood[:5].mean() + 0.5
    right = [np.all(np.asarray(where) == corners, axis=1).mean() for where in (found.positions.corners, full.corners)]
    assert right[0] > right[1] - 0.05 > 0.4
    again = jaxem.stream.fit_online((images[first : first + 30] for first in range(0, 1500, 30)), start)
    np.testing.assert_array_equal(again.params.template, found.params.template)
    early = jaxem.stream.fit_online(images, start, step_size=lambda n: (n + 2) ** -0.6)
    assert error(early.params) > error(found.params)


@pytest.mark.parametrize(
    ("batches", "options", "words"),
    [
        ([], {}, "at least one batch"),
        (7, {}, "batches must be a source of frames or an iterable"),
        ([np.zeros((2, 9, 11))], {"batch_size": 3}, "batch_size must be None"),
        ([np.zeros((2, 9, 11))], {"weights": np.ones((2, 9, 11))}, "all frames share"),
        ([np.ones((2, 9, 11)), np.ones((2, 9, 10))], {}, r"after \(9, 11\)"),
        ([np.ones((2, 9, 11))], {"step_size": lambda n: 0.0}, "step_size must be above 0"),
        ([np.full((2, 9, 11), np.nan)], {}, "holds NaN"),
    ],
)
def test_what_does_not_fit_is_said(batches, options, words):
    with pytest.raises((ValueError, TypeError), match=words):
        jaxem.stream.fit_online(batches, planted(2)[3], **options)


def test_an_error_of_the_generator_comes_out_and_leaves_no_thread():
    images, _, _, start = planted()
    before = set(threading.enumerate())

    def batches():
        yield images[:10]
        raise OSError("the camera is off")

    with pytest.raises(OSError, match="the camera is off"):
        jaxem.stream.fit_online(batches(), start)
    assert set(threading.enumerate()) <= before
