"""What ``jaxem fit`` says of a result at the end, and how it ends."""

import json

import jax
import numpy as np
import pytest
from problems import random_params, sample

import jaxem
from jaxem.cli import app
from jaxem.cli.claims import verdict
from jaxem.cli.exit_codes import ExitCode
from jaxem.runtime.remarks import note, warning


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    """Programs compiled in this process are not kept: for the tests after these its configuration stays as it was."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/dev/null/nowhere")


def fit(tmp_path, images, *options):
    np.save(tmp_path / "stack.npy", images.astype(np.float32))
    out = ["--out", str(tmp_path / "out")]
    return app.run(["fit", str(tmp_path / "stack.npy"), "--template-shape", "5", "5", *out, *options])


def test_nothing_but_noise_has_an_exit_code_and_a_warning_of_its_own(tmp_path, capfd):
    noise = np.random.default_rng(8).normal(size=(24, 12, 14))
    assert fit(tmp_path, noise, "--json") == ExitCode.NOTHING_FOUND
    events = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert events[-1]["event"] == "verdict"
    assert events[-1]["text"].startswith("Not found: ")
    (result,) = (event for event in events if event["event"] == "result")
    assert result["p_value"] > 0.05
    assert "no-template" in [remark["code"] for remark in result["remarks"] if remark["grade"] == "warning"]
    saved = jaxem.load(tmp_path / "out" / "result.npz")
    assert isinstance(saved, jaxem.Report)
    assert float(saved.assessment.test.p_value) == pytest.approx(result["p_value"])


def test_what_is_found_is_said_and_tested_only_if_asked(tmp_path, capfd):
    rng = np.random.default_rng(9)
    truth = random_params(rng, (12, 14), (5, 5), noise_scale=0.3)
    images, corners = sample(rng, truth._replace(prior=np.full((8, 10), 1 / 80)), 24)
    assert fit(tmp_path, images, "--no-test") == 0
    assert capfd.readouterr().out.splitlines()[-1] == (
        "Found in all 24 frames; about 100 of 100 places are right, if the noise is as the model says; whether noise "
        "alone would look like this was not tested."
    )
    table = np.genfromtxt(tmp_path / "out" / "positions.csv", delimiter=",", names=True)
    np.testing.assert_array_equal(np.stack([table["row"], table["column"]], axis=1), corners)
    assert table["confidence"].min() > 0.9
    assert (table["excluded"] == 0).all()
    assert np.isnan(jaxem.load(tmp_path / "out" / "result.npz").assessment.test.p_value)


def test_the_sentence_says_found_only_where_there_is_no_warning():
    rng = np.random.default_rng(10)
    truth = random_params(rng, (12, 14), (5, 5), noise_scale=0.3)
    images, _ = sample(rng, truth, 24)
    fitted = jaxem.fit(images, truth)
    claims = jax.device_get(jaxem.assess_fit(images, fitted))

    def said(p_value, *remarks, present=None):
        test = claims.test._replace(p_value=np.float32(p_value))
        located = claims.located._replace(present=present)
        report = jaxem.Report(jaxem.Restarts(fitted, None, None), claims._replace(test=test, located=located))
        return verdict(report, list(remarks))

    assert said(0.001, note("a", "A.")).startswith("Found in all 24 frames; about 100 of 100 places are right")
    assert said(0.001).endswith("noise alone would look like this in 0.1 of 100 cases.")
    assert said(0.001, present=np.arange(24) < 20).startswith("Found in 20 of 24 frames; ")
    assert said(0.001, warning("a", "A.")).startswith("Do not believe this yet, there is a warning; ")
    assert said(0.001, *[warning("a", "A.")] * 2).startswith("Do not believe this yet, there are warnings; ")
    assert said(0.3).startswith("Not found: ")
    assert said(0.06).startswith("Not shown: ")
