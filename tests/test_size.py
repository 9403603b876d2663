"""The size of the template: the true one is chosen, wrong questions are refused, and nothing is claimed of noise."""

import csv
import json
import logging

import jax
import numpy as np
import pytest

import jaxem
from jaxem.assess.shape_choice import ShapeChoice
from jaxem.assess.shape_fits import SizedFits
from jaxem.assess.shape_search import search_shapes
from jaxem.cli import app

TRUE_SHAPE = (5, 4)
SHAPES = [(4, 4), TRUE_SHAPE, (6, 4), (5, 5)]


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    """Programs compiled by commands are not kept."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/dev/null/nowhere")


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(5)
    template, background = 2.0 + rng.normal(size=TRUE_SHAPE), 1.0 + rng.normal(size=(13, 15))
    stack = np.repeat(background[None], 60, axis=0)
    for image in stack:
        row, column = rng.integers(9), rng.integers(12)
        image[row : row + 5, column : column + 4] = template
    return (stack + 0.6 * rng.normal(size=stack.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def choice(images):
    return jaxem.choose_shape(jax.random.key(0), images, SHAPES, num_held_out=3)


def test_the_true_size_is_chosen_and_confirmed(choice):
    assert choice.shape == TRUE_SHAPE
    assert choice.has_template
    assert choice.bic[0] == choice.bic.min()
    assert np.nanargmax(choice.held_out) == 0
    assert np.isfinite(choice.held_out).sum() == 3
    expected = choice.shapes.prod(axis=1) * np.log(60) - 2 * choice.log_likelihood
    np.testing.assert_allclose(choice.bic, expected)
    assert [remark.code for remark in choice.remarks()] == ["size-at-end-of-range"]  # four columns are the fewest


def test_a_size_in_a_larger_window_is_fitted_like_a_template_of_its_own(images):
    """The same likelihood as with a flat prior on its own corners, charged for the corners of the smallest size."""
    key, shape = jax.random.key(3), (5, 4)
    found = SizedFits(key, images, (4, 4), (6, 5)).fit(shape)
    prior = np.full((9, 12), 1 / 108, np.float32)
    own = jaxem.fit_restarts(key, images, shape, fixed={"prior": prior}).best
    alone = jaxem.log_likelihood(images, own.params) + np.float32(np.log(108 / 120))
    np.testing.assert_allclose(found.log_likelihood, alone, atol=0.02)
    corners = np.asarray(own.corners)
    edge = (corners == 0).any(axis=1) | (corners == [8, 11]).any(axis=1)
    np.testing.assert_allclose(found.touching, edge.mean(), atol=1e-6)


def test_all_sizes_and_halves_run_on_one_program(images, choice, compilations):
    fits = SizedFits(jax.random.key(1), images, (4, 4), (6, 5))
    fits.fit((4, 4))
    before = len(compilations)
    fits.fit((6, 4), np.arange(60) % 2 == 0)
    assert len(compilations) == before


def test_without_a_template_background_and_noise_are_the_likeliest(images):
    weights = np.ones(images.shape[1:], np.float32)
    weights[2, 3] = 0
    fits, fitted = SizedFits(jax.random.key(0), images, (4, 4), (4, 4), weights=weights), np.arange(60) < 30
    mean = images[:30].mean(axis=0, dtype=np.float64)
    seen = weights > 0
    variance = ((images[:30] - mean) ** 2)[:, seen].mean()
    squares = ((images - mean) ** 2)[:, seen].sum(axis=1)
    expected = -(seen.sum() * np.log(2 * np.pi * variance) + squares / variance) / 2
    np.testing.assert_allclose(fits.log_likelihood_without_template(fitted), expected, rtol=1e-5)


def test_noise_has_no_size():
    noise = np.random.default_rng(2).normal(size=(60, 13, 15)).astype(np.float32)
    found = jaxem.choose_shape(jax.random.key(0), noise, SHAPES, num_held_out=2)
    assert [remark.code for remark in found.remarks()] == ["no-template-of-any-size"]


def test_absent_templates_masks_and_channels(images):
    noise = np.random.default_rng(4).normal(size=(30, *images.shape[1:]))
    background = np.median(images, axis=0)
    mixed = np.concatenate([images, (background + 0.6 * noise).astype(np.float32)])
    coloured = np.stack([mixed, 3 - mixed], axis=-1)
    coloured[:, 4, 7] = np.nan
    weights = np.ones(images.shape[1:], np.float32)
    weights[4, 7] = 0
    found = jaxem.choose_shape(jax.random.key(0), coloured, SHAPES, num_held_out=1, absent=True, weights=weights)
    assert found.shape == TRUE_SHAPE


def made_up(**fields):
    usual = {
        "shapes": np.array([(5, 4), (5, 5), (6, 4)], np.int32),
        "bic": np.array([100.0, 120.0, 150.0]),
        "log_likelihood": np.array([-10.0, -15.0, -20.0]),
        "held_out": np.array([-50.0, -80.0, np.nan]),
        "held_out_error": np.array([0.0, 9.0, np.nan]),
        "touching": np.array([0.2, 0.2, 0.2]),
        "touching_by_chance": np.array([0.2, 0.2, 0.2]),
        "gain": np.array(90.0),
        "gain_error": np.array(9.0),
        "smallest": np.array([3, 3], np.int32),
        "largest": np.array([9, 9], np.int32),
        "num_images": np.array(100, np.int32),
        "is_complete": np.array(True),
    }
    return ShapeChoice(**(usual | fields))


@pytest.mark.parametrize(
    ("fields", "codes"),
    [
        ({}, []),
        ({"gain": np.array(20.0)}, ["no-template-of-any-size"]),
        ({"gain": np.array(np.nan)}, ["no-template-of-any-size"]),
        ({"smallest": np.array([5, 3])}, ["size-at-end-of-range"]),
        ({"largest": np.array([5, 4])}, ["size-at-end-of-range"] * 2),
        ({"smallest": np.array([5, 4]), "largest": np.array([5, 4])}, []),
        ({"touching": np.array([0.5, 0.2, 0.2])}, ["size-meets-frame-edge"]),
        ({"held_out": np.array([-50.0, -20.0, np.nan])}, ["size-not-confirmed", "size-uncertain"]),
        ({"held_out": np.array([-50.0, -45.0, np.nan])}, ["size-uncertain"]),
        ({"held_out": np.array([-50.0, -60.0, np.nan])}, []),
        ({"held_out": np.array([-50.0, -60.0, np.nan]), "bic": np.array([100.0, 104, 150])}, ["size-uncertain"]),
        ({"is_complete": np.array(False)}, ["size-search-unfinished"]),
    ],
)
def test_what_is_said_of_a_choice(fields, codes):
    assert [remark.code for remark in made_up(**fields).remarks()] == codes


def test_a_choice_is_saved_and_loaded(choice, tmp_path):
    jaxem.save(tmp_path / "choice.npz", choice)
    loaded = jaxem.load(tmp_path / "choice.npz")
    assert type(loaded) is ShapeChoice
    for one, other in zip(choice, loaded, strict=True):
        np.testing.assert_array_equal(one, other)
    assert loaded.remarks() == choice.remarks()


def test_few_are_tried_of_many():
    everything = [(height, width) for height in range(20, 60) for width in range(20, 60)]
    for best in [(20, 20), (59, 59), (20, 59), (33, 41), (58, 21)]:
        tried = []

        def score(shape, best=best, tried=tried):
            tried.append(shape)
            return -abs(shape[0] - best[0]) - abs(shape[1] - best[1])

        assert search_shapes(score, everything, 25) == (best, True)
        assert len(tried) == len(set(tried)) <= 25
    assert search_shapes(score, everything, 6)[1] is False
    assert search_shapes(lambda shape: -shape[0], [(2, 3), (4, 1), (1, 9)], 2) == ((2, 3), True)


@pytest.mark.parametrize(
    ("shapes", "options", "message"),
    [
        ([], {}, "shapes must hold at least one"),
        (3, {}, "shapes must be pairs"),
        ([(3, 4, 5)], {}, "shapes must be pairs"),
        ([(0, 4)], {}, "at least"),
        ([(14, 4)], {}, "larger than the images"),
        ([(3, 3)], {"num_fits": 0}, "num_fits must be at least 1"),
        ([(3, 3)], {"num_held_out": 0}, "num_held_out must be at least 1"),
    ],
)
def test_wrong_questions_are_refused(images, shapes, options, message):
    with pytest.raises((ValueError, TypeError), match=message):
        jaxem.choose_shape(jax.random.key(0), images, shapes, **options)
    with pytest.raises(ValueError, match="at most 64"):
        jaxem.choose_shape(jax.random.key(0), np.zeros((5, 70, 5)), [(size, 1) for size in range(1, 71)])
    with pytest.raises(ValueError, match="4 at least"):
        jaxem.choose_shape(jax.random.key(0), images[:3], [(3, 3)])


def test_the_command(images, tmp_path, capfd, caplog):
    np.save(tmp_path / "stack.npy", images)
    words = ["size", str(tmp_path / "stack.npy"), "--from", "4", "4", "--to", "6", "5", "--seed", "2"]
    with caplog.at_level(logging.WARNING, "matplotlib"):
        assert app.run([*words, "--json", "--out", str(tmp_path / "out")]) == 0
    assert not caplog.records
    said = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [line["event"] for line in said] == ["frames", *["size"] * 14, "sizes", "wrote"]
    assert said[-2]["size"] == [5, 4]
    assert {remark["code"] for remark in said[-2]["remarks"]} >= {"size-at-end-of-range"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"sizes.csv", "sizes.npz", "sizes.png"}
    with (tmp_path / "out" / "sizes.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert (rows[0]["height"], rows[0]["width"], len(rows)) == ("5", "4", 6)
    assert jaxem.load(tmp_path / "out" / "sizes.npz").shape == (5, 4)
    assert app.run([*words, "--quiet"]) == 0
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "smallest that was asked for" in captured.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--from", "6", "4", "--to", "5", "5"],
            "--from must be no larger than --to, but is 6 x 4, and --to is 5 x 5.",
        ),
        (["--from", "6", "4", "--to", "50", "5"], "--to (50, 5) is larger than the images"),
        (["--from", "0", "4", "--to", "5", "5"], "--from must be at least (1, 1)"),
        (["--from", "a", "4", "--to", "5", "5"], "--from must be two whole numbers"),
        (["--from", "4", "4", "--to", "5", "5", "--quiet", "--json"], "--quiet and --json exclude each other"),
        (["--from", "4", "4", "--to", "5", "5", "--restarts", "0"], "--restarts must be at least 1"),
    ],
)
def test_wrong_commands_end_in_a_sentence(images, tmp_path, capfd, words, message):
    np.save(tmp_path / "stack.npy", images)
    assert app.run(["size", str(tmp_path / "stack.npy"), *words]) == 2
    captured = capfd.readouterr()
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_a_range_of_too_many_sizes_is_refused(tmp_path, capfd):
    np.save(tmp_path / "stack.npy", np.random.default_rng(0).random((5, 90, 80)))
    assert app.run(["size", str(tmp_path / "stack.npy"), "--from", "1", "1", "--to", "80", "80"]) == 2
    assert "--to is too far from --from: they hold 80 heights, and at most 64" in capfd.readouterr().err
