"""Restarts on several cores are the library's restarts, and what is said of them is true."""

import jax
import numpy as np
import pytest
from problems import random_params, sample

import jaxem


@pytest.fixture
def problem():
    rng = np.random.default_rng(61)
    truth = random_params(rng, (10, 12), (3, 4), noise_scale=0.4)
    images, _ = sample(rng, truth, 30)
    return images.astype("float32"), truth


@pytest.mark.parametrize("search", [None, jaxem.Search(annealing_steps=4, prior_annealing_steps=2)])
@pytest.mark.parametrize("hard", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_runs_are_those_of_fit_restarts_in_their_order(problem, search, hard):
    images, _ = problem
    told, key = [], jax.random.key(5)
    options = {"num_restarts": 4, "max_iterations": 4, "search": search, "hard": hard}
    if not hard:
        options["init"] = problem[1].template
    found = jaxem.fit_restarts_parallel(key, images, (3, 4), **options, num_threads=3, callback=told.append)
    expected = jaxem.fit_restarts(key, images, (3, 4), **options)
    for name in ("elbo", "status", "num_iterations", "num_scheduled"):
        np.testing.assert_allclose(getattr(found.runs, name), getattr(expected.runs, name), rtol=1e-4)
    np.testing.assert_allclose(found.best.history, expected.best.history, rtol=1e-5)
    assert found.diagnostics.num_steps == expected.diagnostics.num_steps
    assert len(set(np.round(found.runs.elbo, 2))) > 1
    assert (found.stages is None) == (expected.stages is None) == (search is None)
    if search is not None:
        for name in ("kind", "number", "num_steps", "is_best"):
            np.testing.assert_array_equal(getattr(found.stages, name), getattr(expected.stages, name), err_msg=name)
        np.testing.assert_allclose(found.stages.elbo, expected.stages.elbo, rtol=1e-5)
    assert told[-1].ended
    assert told[-1].num_left == 0

    last = {(progress.stage, progress.start): progress for progress in told}
    assert {start for _, start in last} == {0, 1, 2, 3}
    assert told[-1].stage == ("EM" if search is None else "hard EM" if hard else "converging")
    if search is None:
        assert {stage for stage, _ in last} == {"EM"}
        assert [last["EM", number].num_steps for number in range(4)] == list(found.runs.num_iterations + 1)
        assert [last["EM", number].status for number in range(4)] == list(found.runs.status)
        assert last["EM", 2].elbo == found.runs.elbo[2]
    else:
        winner = int(np.argmax(found.runs.elbo))
        final = last[told[-1].stage, winner]
        assert (final.elbo, final.status) == (found.best.elbo, found.best.status)
        assert (np.delete(found.runs.status, winner) == jaxem.Status.ABANDONED).all()
