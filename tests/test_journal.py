"""Work that is cut short goes on as if it had not been; a checkpoint is read whole or not at all."""

import jax
import numpy as np
import pytest
from problems import random_params, sample

import jaxem
from jaxem.journal import CheckpointError, Journal

IDENTITY = {"frames": "abc", "--seed": "0"}
SHAPE = (4, 5)
SEARCHES = {
    "search": {"num_restarts": 2, "search": jaxem.Search(annealing_steps=4, release_steps=3, tries=3)},
    "plain": {"num_restarts": 3, "search": None},
}


class KilledError(Exception):
    pass


@pytest.fixture(scope="module")
def images():
    """Over a flat background, where annealing loses the template, so that every leg is gone."""
    rng = np.random.default_rng(72)
    truth = random_params(rng, (14, 17), SHAPE, noise_scale=1.0)
    truth = truth._replace(background=np.full((14, 17), 1.0), prior=np.full((11, 13), 1 / 143))
    return sample(rng, truth, 60)[0].astype(np.float32)


@pytest.mark.parametrize("hard", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SEARCHES)
def test_killed_anywhere_it_comes_to_the_same_bits(images, tmp_path, name, hard):
    options = {**SEARCHES[name], "max_iterations": 6, "hard": hard}

    def search(folder=None, dies_after=None):
        journal = Journal(folder, IDENTITY, interval=0)
        journal.read()
        told = []

        def watch(progress):
            told.append(progress)
            if len(told) == dies_after:
                raise KilledError

        found = jaxem.fit_restarts_parallel(
            jax.random.key(0), images, SHAPE, **options, num_threads=2, watch=watch, journal=journal
        )
        return found, told

    undisturbed, told = search()
    if name == "search":
        assert {progress.stage for progress in told} >= {"annealing", "trying", "rescuing", "climbing"}
    lives = 0
    while True:
        lives += 1
        try:
            found, _ = search(tmp_path, dies_after=1 + lives % 4)
            break
        except KilledError:
            continue
    assert lives > 3
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(undisturbed), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(list(tmp_path.iterdir())) == 2
    again, told = search(tmp_path)
    assert told == []
    np.testing.assert_array_equal(again.best.history, undisturbed.best.history)


def written(folder, count=3):
    journal = Journal(folder, IDENTITY)
    for number in range(count):
        journal.keep("one", {"x": np.arange(4.0) + number})
        journal.finish("two", {"y": np.int32(number)})
        journal.write()
    return sorted(folder.iterdir())


def like_one():
    return {"x": np.zeros(4)}


def test_the_last_two_checkpoints_are_kept_and_the_newest_is_read(tmp_path):
    files = written(tmp_path, 4)
    assert len(files) == 2
    (tmp_path / ".checkpoint-draft.npz.0").touch()
    journal = Journal(tmp_path, IDENTITY)
    assert journal.is_there()
    assert journal.read() == files[1]
    np.testing.assert_array_equal(journal.state("one", like_one)["x"], np.arange(4.0) + 3)
    assert journal.result("one", like_one) is None
    assert journal.result("two", lambda: {"y": np.int32(0)})["y"] == 3
    assert journal.write().name.startswith("checkpoint-000000005")
    assert len(list(tmp_path.iterdir())) == 2  # a draft left behind is gone, too


def test_damage_is_noticed_and_the_one_before_used(tmp_path):
    before, newest = written(tmp_path)
    whole = newest.read_bytes()
    rng = np.random.default_rng(0)
    for number in range(40):
        data = bytearray(whole)
        if number % 2:
            data[rng.integers(len(data))] ^= 1 << rng.integers(8)
        else:
            del data[rng.integers(len(data)) :]
        newest.write_bytes(data)
        journal = Journal(tmp_path, IDENTITY)
        assert journal.read() == before
        assert journal.damaged == [newest]
        np.testing.assert_array_equal(journal.state("one", like_one)["x"], np.arange(4.0) + 1)
    before.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"every checkpoint in .* is damaged"):
        Journal(tmp_path, IDENTITY).read()


def test_other_work_is_refused(tmp_path):
    written(tmp_path)
    with pytest.raises(CheckpointError, match="its --seed is 0, and here it is 1"):
        Journal(tmp_path, {**IDENTITY, "--seed": "1"}).read()
    journal = Journal(tmp_path, IDENTITY)
    journal.read()
    with pytest.raises(CheckpointError, match="'one' does not fit"):
        journal.state("one", lambda: {"x": np.zeros(5)})


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    assert Journal(tmp_path / "nothing", IDENTITY).read() is None
    assert not Journal(tmp_path / "nothing", IDENTITY).is_there()
    assert Journal().write() is None
    with pytest.raises(CheckpointError, match=r"cannot write to .*file"):
        Journal(tmp_path / "file", IDENTITY).write()
