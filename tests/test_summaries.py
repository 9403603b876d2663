"""What results say of themselves: a few lines anywhere, with a picture in notebooks, and never an error there."""

import base64
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxem
from jaxem.runtime import pictures

IMAGE, TEMPLATE, COUNT = (9, 11), (3, 4), 40


@pytest.fixture(scope="module")
def found():
    """Results as a search and its assessment would give them."""
    rng = np.random.default_rng(5)
    template, background = rng.normal(size=TEMPLATE), rng.normal(size=IMAGE)
    params = jaxem.Params(*(np.asarray(part, "f4") for part in (template, background, 0.25, np.full((7, 8), 1 / 56))))
    images, corners = jaxem.simulate(jax.random.key(0), params, COUNT)
    count, nothing = np.int32(2), np.float32(0)
    history = np.array([-500, -400, -300.5, np.nan], "f4")
    status = np.int32(jaxem.Status.CONVERGED)
    best = jaxem.Fit(params, history[2], history, count, status, np.int32(7), nothing, np.asarray(corners))
    runs = jax.tree.map(lambda leaf: np.stack([leaf - 1, leaf, leaf]), best)
    runs = runs._replace(status=np.array([5, 1, 1], "i4"))
    diagnostics = jaxem.Diagnostics(np.float32(12.5), count, np.int32(33), np.float32(1), np.float32(61.5), count * 0,
                                    np.bool_(False))  # fmt: skip
    return np.asarray(images), jaxem.Restarts(best, runs, diagnostics)


@pytest.fixture(scope="module")
def report(found):
    images, restarts = found
    claims = jaxem.assess_fit(images, restarts)
    test = claims.test._replace(p_value=np.float32(0.002), z=np.float32(5), agreement=np.float32(0.9))
    return jaxem.Report(restarts, claims._replace(test=test))


def test_a_run_says_how_it_ended_and_what_it_found(found):
    _, restarts = found
    assert restarts.best.summary() == (
        "Fit: converged, 2 iterations, after 7 steps of a schedule\n"
        "  objective -300.5 nats, -7.5125 a frame\n"
        "  template of 3 x 4 in frames of 9 x 11, noise 0.25\n"
        "  40 frames, which leave 1 of 56 positions open each"
    )
    unfinished = restarts.best._replace(status=np.int32(2), num_iterations=np.int32(1), num_scheduled=np.int32(0))
    assert unfinished.summary().startswith("Fit: max iterations, 1 iteration\n  The iterations ran out while")
    assert restarts.runs.summary() == "Fit: 3 runs: 2 converged, 1 abandoned\n  objectives from -301.5 to -300.5 nats"


def test_several_runs_say_whether_they_agree_and_what_to_doubt(found):
    _, restarts = found
    lines = restarts.summary().splitlines()
    assert lines[0].startswith("Restarts: converged")
    assert "contrast 61.5, noise 0.25" in lines[2]
    assert lines[-2:] == [
        "  2 of 3 starts found this template; the next best is 12.5 nats lower, in 33 E-steps", "  no warnings",
    ]  # fmt: skip
    doubtful = restarts._replace(diagnostics=restarts.diagnostics._replace(contrast=np.float32(0.1)))
    assert "\n  warning: The template hardly stands out" in doubtful.summary()
    assert max(len(line) for line in doubtful.summary().splitlines()) <= 100


def test_a_report_says_what_may_be_claimed(report):
    words = report.summary()
    assert words.startswith("Report: converged")
    assert re.search(r"\n  mean confidence of the places (0\.9\d*|1), 0\.9 or more in \d+\n", words)
    assert re.search(r"\n  contrast \d+.*corrected.*\n  standard error of the template's pixels 0\.0\d+\n", words)
    assert "\n  p = 0.002: noise alone would look like this in 0.2 of 100 cases\n" in words
    assert words.count("contrast") == 1
    assert words.endswith("no warnings") == (not report.warnings())
    claims = report.assessment
    assert claims.summary().startswith("Assessment: mean confidence")
    assert claims.test.summary().startswith("DetectionTest: p = 0.002")
    assert claims.located.summary().startswith("Located: 40 frames\n  mean confidence")
    untested = claims._replace(test=claims.test._replace(p_value=np.float32(np.nan)))
    assert untested.summary().endswith("whether noise alone would look like this was not tested")


def test_a_choice_of_sizes_says_which_and_what_else_will_do():
    two = np.array([1.0, 2.0])
    choice = jaxem.ShapeChoice(
        np.array([[3, 4], [3, 5]]), two, -two, -two, np.array([0.0, 9.0]), 0 * two, two, np.float64(50),
        np.float64(1), np.array([2, 2]), np.array([6, 6]), np.int64(40), np.bool_(True),
    )  # fmt: skip
    first, second, third = choice.summary().splitlines()
    assert (first, second) == ("ShapeChoice: template of 3 x 4, of 2 sizes that were fitted", "  as good: 3 x 5")
    assert third.startswith("  note: 3 x 5 may be as good")


def test_what_is_in_a_general_model_is_said(found):
    images, _ = found
    colours = np.stack([images, 2 * images], axis=-1)
    options = {"num_templates": 2, "absent": True, "max_iterations": 1, "search": None, "num_restarts": 1}
    several = jaxem.fit_restarts(jax.random.key(0), colours, TEMPLATE, **options)
    words = " ".join(several.summary().split())
    assert re.search(r"2 templates of 3 x 4 in frames of 9 x 11, contrast .*, none in \d", words)
    assert "; one start alone, in 2 E-steps" in words or " one start alone" in words
    best = several.best._replace(params=several.best.params._replace(noise_scale=np.array([0.5, 1.5])))
    assert "noise 0.5, 1.5" in " ".join(best.summary().split())


@pytest.mark.parametrize("part", ["fit", "restarts", "report"])
def test_notebooks_show_the_summary_and_the_picture(found, report, part):
    result = {"fit": found[1].best, "restarts": found[1], "report": report}[part]
    shown = result._repr_html_()
    assert shown.startswith(f"<pre>{type(result).__name__}: converged")
    (picture,) = re.findall(r'<img src="data:image/png;base64,([^"]+)"', shown)
    assert base64.b64decode(picture).startswith(b"\x89PNG")


def test_text_is_no_markup():
    odd = type("<b>", (), {"summary": lambda self: "a < b", "elbo": np.ones(3)})()
    assert jaxem.Fit._repr_html_(odd) == "<pre>a &lt; b</pre>"


def test_without_pictures_the_text_is_left(found, monkeypatch):
    def fail(result):
        raise ImportError("No module named 'matplotlib'")

    monkeypatch.setattr(pictures, "_drawers", [fail])
    assert found[1]._repr_html_() == f"<pre>{found[1].summary()}</pre>".replace("'", "&#x27;")


def test_stacked_and_traced_results_are_text_alone(found):
    _, restarts = found
    assert "<img" not in restarts.runs._repr_html_()
    many = jax.tree.map(lambda leaf: np.stack([leaf, leaf]), restarts)
    assert many._repr_html_().startswith("<pre>Restarts(best=Fit(")
    seen = []

    def look(restarts):
        for result in (restarts, restarts.best, restarts.runs):
            seen.append((result.summary(), result._repr_html_(), repr(result)))
        return restarts

    jax.jit(look)(restarts)
    for summary, shown, brief in seen:
        assert summary == brief
        assert shown.startswith("<pre>")
        assert "<img" not in shown


def test_what_holds_nonsense_shows_nothing_and_raises_nothing(found):
    nonsense = found[1].best._replace(params=None)
    assert nonsense._repr_html_() is None
    assert jaxem.Restarts(None, None, None)._repr_html_() is None
    nowhere = found[1].best._replace(corners=found[1].best.corners + 10**6)
    assert nowhere._repr_html_().startswith("<pre>Fit: converged")


def test_a_result_without_finite_numbers_can_be_summed_up(found):
    lost = found[1].best._replace(elbo=np.float32(np.nan), entropy=np.float32(np.nan), status=np.int32(4))
    assert "objective nan nats" in lost.summary()
    runs = found[1].runs._replace(elbo=np.full(3, np.nan))
    assert runs.summary().endswith("no finite objective")


def test_arrays_that_were_given_away_are_no_reason_to_raise(found):
    fit = jax.tree.map(jnp.asarray, found[1].best)
    fit.elbo.delete()
    assert fit.summary() == repr(fit)


def test_nothing_of_figures_is_imported_before_a_notebook_asks():
    code = "import sys, jaxem; jaxem.Fit; jaxem.Restarts; assert not {'matplotlib', 'jaxem.plots'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
