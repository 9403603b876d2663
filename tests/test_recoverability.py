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
    few = jaxem.expect_recovery((28, 31), (20, 20), difference=3.0, noise_scale=2.0, num_images=20)
    assert few.needed_contrast > 100 > 3 * few.chance_contrast
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


def test_the_share_of_right_places_is_what_was_measured():
    """Of 1440 textured searches those that succeeded, by contrast in units of 2 ln PQ."""
    limit = 2 * math.log(441)
    for relative, measured in ((1.0, 0.60), (1.5, 0.725), (2.0, 0.86), (3.0, 0.944), (4.0, 0.982)):
        assert share_of_right_places(relative * limit, 441) == pytest.approx(measured, abs=0.06)
    assert share_of_right_places(0.0, 4) == 0.25
    assert share_of_right_places(5.0, 1) == 1


def test_searches_succeed_as_measured():
    """A template of many pixels needs more contrast where frames are few; (60, 60) / (24, 24) was not fitted to."""
    limit = 2 * math.log(441)
    assert probability_of_success(limit, 441, 64 / 100) < 0.1
    assert probability_of_success(1.4 * limit, 441, 64 / 100) < 0.5 < probability_of_success(2.3 * limit, 441, 64 / 100)
    assert probability_of_success(3 * limit, 441, 64 / 100) > 0.85
    for num_images, lost, won in ((100, 2.0, 3.0), (40, 3.0, 5.0)):
        expected = [probability_of_success(x * 2 * math.log(1369), 1369, 576 / num_images) for x in (lost, won)]
        assert expected[0] < 0.25, (num_images, expected)
    assert probability_of_success(0.0, 441) == 0
    chances = [probability_of_success(x, 441, 0.3) for x in range(1, 90)]
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
        (43.0, {"template_size": 576, "num_images": 40}, ["contrast-doubtful"], Grade.WARNING),
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
