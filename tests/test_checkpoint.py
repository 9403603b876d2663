"""Work that is cut short goes on as if it had not been; a checkpoint is read whole or not at all."""

import jax
import numpy as np
import pytest
from problems import random_params, sample

import jaxem
from jaxem import Checkpointer, CheckpointError

FINGERPRINT = {"frames": "abc", "--seed": "0"}
SHAPE = (4, 5)
SEARCHES = {
    "search": {"num_restarts": 2, "search": jaxem.Search(annealing_steps=4, prior_annealing_steps=3, num_trials=3)},
    "plain": {"num_restarts": 3, "search": None},
}


class KilledError(Exception):
    pass


@pytest.fixture(scope="module")
def images():
    """So few that crops are tried whatever annealing finds, so that every stage does something."""
    rng = np.random.default_rng(72)
    truth = random_params(rng, (14, 17), SHAPE, noise_scale=1.0)
    truth = truth._replace(background=np.full((14, 17), 1.0), prior=np.full((11, 13), 1 / 143))
    return sample(rng, truth, 16)[0].astype(np.float32)


@pytest.mark.parametrize("hard", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", SEARCHES)
def test_killed_anywhere_it_comes_to_the_same_bits(images, tmp_path, name, hard):
    options = {**SEARCHES[name], "max_iterations": 6, "hard": hard}

    def search(folder=None, dies_after=None):
        checkpointer = Checkpointer(folder, FINGERPRINT, interval=0)
        checkpointer.read()
        told = []

        def watch(progress):
            told.append(progress)
            if len(told) == dies_after:
                raise KilledError

        found = jaxem.fit_restarts_parallel(
            jax.random.key(0), images, SHAPE, **options, num_threads=2, callback=watch, checkpointer=checkpointer
        )
        return found, told

    undisturbed, told = search()
    if name == "search":
        last = {"prior annealing", "hard EM"} if hard else {"converging"}
        assert {progress.stage for progress in told} >= {"annealing", "trial start", "reinitializing", *last}
    lives = 0
    while True:
        lives += 1
        try:
            found, _ = search(tmp_path, dies_after=1 + lives % 3)
            break
        except KilledError:
            continue
    assert lives > (3 if name == "search" else 1)  # of a stage side by side, one life may do all of the rest
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(undisturbed), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(list(tmp_path.iterdir())) == 2
    again, told = search(tmp_path)
    assert told == []
    np.testing.assert_array_equal(again.best.history, undisturbed.best.history)


def written(folder, count=3):
    checkpointer = Checkpointer(folder, FINGERPRINT)
    for number in range(count):
        checkpointer.save_state("one", {"x": np.arange(4.0) + number})
        checkpointer.save_result("two", {"y": np.int32(number)})
        checkpointer.write()
    return sorted(folder.iterdir())


def like_one():
    return {"x": np.zeros(4)}


def test_the_last_two_checkpoints_are_kept_and_the_newest_is_read(tmp_path):
    files = written(tmp_path, 4)
    assert len(files) == 2
    (tmp_path / ".checkpoint-draft.npz.0").touch()
    checkpointer = Checkpointer(tmp_path, FINGERPRINT)
    assert checkpointer.is_there()
    assert checkpointer.read() == files[1]
    np.testing.assert_array_equal(checkpointer.state("one", like_one)["x"], np.arange(4.0) + 3)
    assert checkpointer.result("one", like_one) is None
    assert checkpointer.result("two", lambda: {"y": np.int32(0)})["y"] == 3
    assert checkpointer.write().name.startswith("checkpoint-000000005")
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
        checkpointer = Checkpointer(tmp_path, FINGERPRINT)
        assert checkpointer.read() == before
        assert checkpointer.damaged == [newest]
        np.testing.assert_array_equal(checkpointer.state("one", like_one)["x"], np.arange(4.0) + 1)
    before.write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"every checkpoint in .* is damaged"):
        Checkpointer(tmp_path, FINGERPRINT).read()


def test_other_work_is_refused(tmp_path):
    written(tmp_path)
    with pytest.raises(CheckpointError, match="its --seed is 0, and here it is 1"):
        Checkpointer(tmp_path, {**FINGERPRINT, "--seed": "1"}).read()
    checkpointer = Checkpointer(tmp_path, FINGERPRINT)
    checkpointer.read()
    with pytest.raises(CheckpointError, match="'one' does not fit"):
        checkpointer.state("one", lambda: {"x": np.zeros(5)})


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    assert Checkpointer(tmp_path / "nothing", FINGERPRINT).read() is None
    assert not Checkpointer(tmp_path / "nothing", FINGERPRINT).is_there()
    assert Checkpointer().write() is None
    with pytest.raises(CheckpointError, match=r"cannot write to .*file"):
        Checkpointer(tmp_path / "file", FINGERPRINT).write()
