"""The check of the machine: that it passes here is its own example's business (test_doctests)."""

import jax
import numpy as np
import pytest

from jaxem import Check
from jaxem.assess import self_test
from jaxem.cli import app, doctor
from jaxem.ops import double_word, windows

FLOAT32 = np.dtype("float32")


@pytest.fixture
def operators_only(monkeypatch):
    """Fits compile for long, and what is broken here would stay in their caches."""
    all_trials = self_test._trials

    def trials(dtype):
        return [trial for trial in all_trials(dtype) if trial.function is self_test._operate]

    monkeypatch.setattr(self_test, "_trials", trials)


def failed():
    return [check.name for check in self_test._checks(FLOAT32) if not check.passed]


@pytest.mark.usefixtures("operators_only")
def test_broken_functions_are_noticed_and_no_others(monkeypatch):
    coverage = windows.coverage_in_stages

    def wrong_in_one_pixel(maps, template_shape):
        return coverage(maps, template_shape).at[-1, 0, 0].add(1e-2)

    def lost_digits(terms):
        return double_word.double_word(terms.sum())

    monkeypatch.setattr(windows, "coverage_in_stages", wrong_in_one_pixel)
    monkeypatch.setattr(double_word, "total", lost_digits)
    assert failed() == ["coverage_in_stages, float32", "double_word total, float32"]


def test_every_path_is_tried():
    names = {name for trial in self_test._trials(FLOAT32) for name in trial.expected}
    steps = {f"{kind}{step}" for kind in ("", "hard ") for step in ("e_step", "m_step", "elbo", "fit")}
    operators = {"correlate", "backproject", "window_sums", "coverage", "gather", "paste"}
    faster = {"correlate_pairs", "backproject_pairs", "window_sums_in_stages", "coverage_in_stages"}
    assert names == steps | operators | faster


def test_soft_steps_are_right():
    (trial,) = [trial for trial in self_test._trials(FLOAT32) if "e_step" in trial.expected]
    found = jax.jit(trial.function)(*trial.arrays)
    for name, expected in trial.expected.items():
        assert self_test._error(found[name], expected) < 1e-5


def test_errors_that_are_no_numbers_fail():
    for error in (np.nan, np.inf, 2.0):
        assert not Check("sum", error, 1.0).passed
    assert Check("sum", 1.0, 1.0).passed
    assert np.isnan(self_test._error(np.array([np.nan, 1]), np.ones(2)))
    assert self_test._error(np.ones((1, 2)), np.ones(2)) == np.inf
    assert (
        self_test._error({"a": np.array([100.0, 1.0]), "b": np.zeros(2)}, {"a": np.ones(2) * 100, "b": 0 * np.ones(2)})
        == 0.99
    )


def test_doctor_tells_versions_and_speed(monkeypatch, capfd):
    monkeypatch.setattr(doctor, "selfcheck", lambda: (Check("coverage, float32", 1e-7, 1e-4),))
    assert app.run(["doctor"]) == 0
    captured = capfd.readouterr()
    assert captured.err == ""
    for text in (f"jax        {jax.__version__}", np.__version__, "GFlop/s", "ok     coverage, float32"):
        assert text in captured.out


def test_doctor_names_what_is_wrong_in_one_line(monkeypatch, capfd):
    found = (Check("coverage, float32", 1e-7, 1e-4), Check("fit, float32", np.nan, 1e-4), Check("paste", 0.5, 1e-4))
    monkeypatch.setattr(doctor, "selfcheck", lambda: found)
    assert app.run(["doctor"]) == 1
    captured = capfd.readouterr()
    expected = "jaxem: this combination of versions and device computes wrongly: fit, float32; paste\n"
    assert captured.err == expected
    assert captured.out.count("WRONG") == 2


def test_doctor_has_an_example(capfd):
    assert app.run(["doctor", "--help"]) == 0
    assert "Example: jaxem doctor" in capfd.readouterr().out
