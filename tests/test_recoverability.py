"""What contrast a template needs: closed formulas, what was measured, and what is said before and after a fit."""

import math

import numpy as np
import pytest

import jaxem
from jaxem.assess.recoverability import (
    Verdict,
    probability_of_success,
    recoverability_remarks,
    share_of_right_places,
)
from jaxem.cli import app
from jaxem.runtime.remarks import Grade


def test_the_contrast_is_that_of_the_diagnostics():
    found = jaxem.expect_recovery((28, 31), (8, 6), difference=3.0, noise_scale=2.0)
    assert found.contrast == pytest.approx(48 * 2.25)
    assert found.chance_contrast == pytest.approx(2 * math.log(21 * 26))
    assert found.needed_contrast == pytest.approx(3 * found.chance_contrast)
    assert found.difference == pytest.approx(3.0)
    needed = jaxem.expect_recovery((28, 31), (8, 6), difference=found.needed_difference, noise_scale=2.0)
    assert needed.contrast == pytest.approx(found.needed_contrast)
    assert math.isnan(found.standard_error)
    assert math.isnan(found.num_images)
    coloured = jaxem.expect_recovery((28, 31, 3), (8, 6), difference=3.0, noise_scale=2.0)
    assert coloured.contrast == pytest.approx(3 * found.contrast)


def test_verdicts():
    image, template = (28, 28), (8, 8)
    limit = 2 * math.log(441)
    verdicts = [jaxem.expect_recovery(image, template, contrast=x * limit).verdict for x in (0.9, 1.1, 2.9, 3.1)]
    assert verdicts == [Verdict.HOPELESS, Verdict.DOUBTFUL, Verdict.DOUBTFUL, Verdict.RECOVERABLE]
    assert jaxem.expect_recovery((8, 8), (8, 8), contrast=0.1).verdict == Verdict.RECOVERABLE  # one place only
    assert jaxem.expect_recovery((8, 8), (8, 8), contrast=0.1).probability == 1


def test_the_share_of_right_places_is_what_simulation_gives():
    rng = np.random.default_rng(0)
    for contrast, count in ((4.0, 10), (16.0, 300), (30.0, 300)):
        noise = rng.normal(size=(4000, count))
        right = noise[:, 0] + contrast**0.5 > noise[:, 1:].max(axis=1)
        assert share_of_right_places(contrast, count) == pytest.approx(right.mean(), abs=0.02)
    assert share_of_right_places(0.0, 4) == 0.25
    assert share_of_right_places(5.0, 1) == pytest.approx(1)


def test_searches_succeed_as_measured():
    """Half of them between 1.3 and 1.9 times what chance finds, nearly all at three times that."""
    limit = 2 * math.log(441)
    assert probability_of_success(limit, 441) < 0.2
    assert probability_of_success(1.3 * limit, 441) < 0.5 < probability_of_success(1.9 * limit, 441)
    assert probability_of_success(3 * limit, 441) > 0.97
    assert probability_of_success(0.0, 441) == 0
    chances = [probability_of_success(x, 441) for x in range(1, 90)]
    assert chances == sorted(chances)


def test_frames_for_a_precision():
    found = jaxem.expect_recovery((60, 60), (20, 20), contrast=400, noise_scale=5.0, num_images=100, precision=0.25)
    assert found.standard_error == pytest.approx(0.5, rel=0.01)
    assert found.num_images == pytest.approx(400, rel=0.01)
    near = jaxem.expect_recovery((60, 60), (20, 20), contrast=20, noise_scale=5.0, num_images=100, precision=0.25)
    assert near.standard_error > found.standard_error
    assert near.num_images > found.num_images


@pytest.mark.parametrize(
    ("contrast", "options", "codes", "grade"),
    [
        (5.0, {}, ["contrast-hopeless"], Grade.WARNING),
        (14.0, {}, ["contrast-doubtful"], Grade.WARNING),
        (30.0, {}, ["contrast-doubtful"], Grade.NOTE),
        (40.0, {}, [], None),
        (40.0, {"template_size": 900, "num_images": 30}, ["contrast-hopeless"], Grade.WARNING),
        (math.nan, {}, [], None),
    ],
)
def test_what_is_said_after_a_fit(contrast, options, codes, grade):
    found = recoverability_remarks(contrast, 441, **options)
    assert [remark.code for remark in found] == codes
    for remark in found:
        assert (remark.grade, remark.effect) == (grade, contrast)
    assert recoverability_remarks(0.5, 1) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((10, 10), (11, 3), {"contrast": 3}), "larger than the images"),
        (((10, 10), (3, 3), {}), "contrast must be given"),
        (((10, 10), (3, 3), {"contrast": 3, "difference": 3}), "and not both"),
        (((10, 10), (3, 3), {"contrast": 0}), "contrast must be a finite number above 0"),
        (((10, 10), (3, 3), {"difference": math.nan}), "difference must be a finite number above 0"),
        (((10, 10), (3, 3), {"contrast": 3, "noise_scale": -1}), "noise_scale must be"),
        (((10, 10), (3, 3), {"contrast": 3, "precision": "x"}), "precision must be"),
        (((10, 10), (3, 3), {"contrast": 3, "num_images": 0}), "num_images must be at least 1"),
    ],
)
def test_wrong_questions_are_refused(arguments, message):
    image_shape, template_shape, options = arguments
    with pytest.raises((ValueError, TypeError), match=message):
        jaxem.expect_recovery(image_shape, template_shape, **options)


def test_info_says_whether_a_template_can_be_had(tmp_path, capfd):
    path = tmp_path / "stack.npy"
    np.save(path, 2 * np.random.default_rng(0).normal(size=(200, 30, 40)))
    words = ["info", str(path), "--template-shape", "10", "10", "--contrast"]
    for contrast, verdict in (("2", "finds such a template"), ("1.1", "of 100 cases"), ("0.3", "cannot tell it")):
        assert app.run([*words, contrast]) == 0
        assert verdict in capfd.readouterr().out
    assert app.run([*words, "2"]) == 0
    said = capfd.readouterr().out
    assert "contrast   100: " in said or "contrast   99" in said or "contrast   101: " in said
    assert "200 frames give its pixels to 0.14" in said
    for wrong, message in (("-1", "--contrast must be a finite number above 0"), ("x", "'x' is not a number")):
        assert app.run([*words, wrong]) == 2
        assert message in capfd.readouterr().err
    assert app.run(["info", str(path), "--contrast", "3"]) == 2
    assert "--contrast needs --template-shape" in capfd.readouterr().err
    np.save(path, np.zeros((5, 30, 40)))
    assert app.run([*words, "2"]) == 0
    assert "tell no noise" in capfd.readouterr().out
