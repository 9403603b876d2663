"""What is kept of the stages of a search is what they did, and is saved with the result."""

import jax
import numpy as np
import pytest
from problems import random_params, sample

import jaxem
from jaxem.search.stage_record import StageRecord
from jaxem.search.stages import StageKind

SEARCH = jaxem.Search(annealing_steps=3, prior_annealing_steps=2, num_trials=2, num_recentrings=1)


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(7)
    return sample(rng, random_params(rng, (7, 8), (2, 3), 0.5), 20)[0].astype("float32")


@pytest.fixture(scope="module")
def found(images):
    return jaxem.fit_restarts(jax.random.key(2), images, (2, 3), num_restarts=3, max_iterations=5, search=SEARCH)


def test_every_stage_is_in_the_record(found):
    record = StageRecord(*map(np.asarray, found.stages))
    is_start = record.kind == StageKind.ANNEAL
    assert record.number[is_start].tolist() == [0, 1, 2]
    assert set(record.kind) == set(StageKind) - {StageKind.RESEED}
    assert record.num_steps.sum() == int(found.diagnostics.num_steps)
    did_something = record.num_steps > 0
    assert 3 < did_something.sum() < len(did_something)
    np.testing.assert_array_equal(np.isfinite(record.elbo), did_something)
    winner = int(np.argmax(found.runs.elbo))
    others = np.arange(3) != winner
    np.testing.assert_array_equal(record.elbo[is_start][others], np.asarray(found.runs.elbo)[others])
    assert record.elbo[-1] == found.best.elbo
    rising = np.maximum.accumulate(record.elbo[is_start])
    np.testing.assert_array_equal(record.is_best[is_start], np.diff(rising, prepend=-np.inf) > 0)
    assert record.is_best[-1]
    assert not record.is_best[~did_something].any()


def test_plain_restarts_have_none(images):
    options = {"search": None, "num_restarts": 2, "max_iterations": 2}
    assert jaxem.fit_restarts(jax.random.key(2), images, (2, 3), **options).stages is None


def test_searches_side_by_side_have_a_record_each(images, found):
    def search(key):
        return jaxem.fit_restarts(key, images, (2, 3), num_restarts=3, max_iterations=5, search=SEARCH)

    both = jax.vmap(search)(jax.numpy.stack([jax.random.key(2), jax.random.key(3)]))
    assert both.stages.elbo.shape == (2, len(found.stages.kind))
    np.testing.assert_allclose(both.stages.elbo[0], found.stages.elbo, rtol=1e-4)


def test_a_record_is_saved_and_one_in_part_refused(found, tmp_path):
    path = tmp_path / "found.npz"
    jaxem.save(path, found)
    loaded = jaxem.load(path).stages
    for name, kept in zip(StageRecord._fields, loaded, strict=True):
        np.testing.assert_array_equal(kept, getattr(found.stages, name), err_msg=name)
    jaxem.save(tmp_path / "record.npz", found.stages)
    assert isinstance(jaxem.load(tmp_path / "record.npz"), StageRecord)
    jaxem.save(tmp_path / "none.npz", found._replace(stages=None))
    assert jaxem.load(tmp_path / "none.npz").stages is None
    with np.load(path) as file:
        arrays = dict(file)
    for change, pattern in (
        (lambda a: a.pop("stages.elbo"), "lacks 'stages.elbo'"),
        (lambda a: a.update({"stages.elbo": np.ones(2)}), "stages.elbo does not fit"),
        (lambda a: a.update({"stages.kind": a["stages.kind"] + 50}), "stages.kind holds numbers"),
        (lambda a: a.update({"stages.is_best": a["stages.elbo"]}), "stages.is_best holds float"),
    ):
        changed = dict(arrays)
        change(changed)
        np.savez(path, **changed)
        with pytest.raises(ValueError, match=pattern):
            jaxem.load(path)
    with pytest.raises(TypeError, match="stages must be a StageRecord, but is tuple"):
        jaxem.save(path, found._replace(stages=(1, 2)))
