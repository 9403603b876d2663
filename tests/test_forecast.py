"""What a fit will need is foretold from a trial; how well, `bench/forecast.py` measures."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from jaxem import cache, forecast, quality
from jaxem.forecast import Trial


def test_a_trial_tells_how_long_a_step_and_compiling_take(monkeypatch):
    # The first call takes 10 s by this clock, the second 2 s.
    moments = iter([0.0, 10.0, 20.0, 22.0])
    monkeypatch.setattr(forecast, "time", SimpleNamespace(perf_counter=lambda: next(moments)))
    frames = np.random.default_rng(0).integers(0, 256, (60, 20, 24), np.uint8)
    trial = forecast.try_out(frames, (7, 6))
    assert trial.num_images == 60
    assert trial.seconds_compiling == 8
    num_steps = trial.num_annealing + forecast.TRIAL_ITERATIONS + 1
    assert trial.seconds_a_step == pytest.approx(2 / num_steps)
    assert 1 <= trial.num_annealing <= forecast.TRIAL_STEPS


def test_frames_and_steps_take_their_time(monkeypatch):
    monkeypatch.setattr(forecast, "available_cores", lambda: 1)
    frames = np.zeros((1000, 20, 24), np.uint8)
    told = {}
    for steps in (3, 20):
        trial = Trial(100, 2.0, 0.5, steps)
        monkeypatch.setattr(forecast, "try_out", lambda *_, trial=trial: trial)
        told[steps] = forecast.forecast(frames, (7, 6), seconds_to_read=4)
        expected = 10 * told[steps].num_steps * 0.5
        assert told[steps].seconds_climbing == pytest.approx(expected)
        assert told[steps].seconds - expected == pytest.approx(4 + forecast.AROUND + 2 * forecast.PROGRAMS)
    assert told[3].num_steps < 20 < 60 < told[20].num_steps
    assert "soon" in told[3].reason
    assert "long" in told[20].reason
    # The bytes of a pixel: as it came, and several times in the precision of the fit.
    precision = jax.dtypes.canonicalize_dtype(float).itemsize
    more = forecast.forecast_memory(np.zeros((2000, 20, 24), np.uint8)) - forecast.forecast_memory(frames)
    assert more == pytest.approx(1000 * 480 * (1 + precision * forecast.STACKS))


def test_compiling_as_if_for_the_first_time(tmp_path, compilations):
    before = jax.config.values["jax_compilation_cache_dir"], jax.config.values["jax_enable_compilation_cache"]
    with cache.without_compiled_programs():
        assert not jax.config.values["jax_enable_compilation_cache"]
        jax.jit(lambda x: x + 1)(np.ones(3, "float32"))
    after = jax.config.values["jax_compilation_cache_dir"], jax.config.values["jax_enable_compilation_cache"]
    assert after == before
    assert compilations


def test_looking_at_frames_block_by_block(monkeypatch):
    frames = np.random.default_rng(0).normal(50, 5, (30, 9, 11)).astype("float32")
    frames[20] = frames[4]
    frames[7] = frames[13] = 3
    whole = quality.look_at(frames)
    monkeypatch.setattr(quality, "BLOCK", 4 * 99)
    blocks = quality.look_at(frames)
    np.testing.assert_allclose(blocks.brightness, whole.brightness)
    assert blocks._replace(brightness=None) == whole._replace(brightness=None)
    assert whole.duplicates == [(4, 20)]
    assert whole.constant == [7, 13]
    assert whole.limits is None
    monkeypatch.setattr(quality, "SAMPLE", 8 * 99)
    assert quality.estimate_noise(frames)[0] == pytest.approx(5, rel=0.15)
    flickering = frames + 40 * (np.arange(30) % 2)[:, None, None]
    assert quality.estimate_noise(flickering)[0] == pytest.approx(5, rel=0.15)
    assert np.isnan(quality.estimate_noise(frames[:, :2])[1])


def test_what_few_pixels_show_is_no_reason_to_doubt():
    rng = np.random.default_rng(0)
    few, many = rng.normal(50, 5, (4, 3, 3)), rng.normal(50, 5, (4, 100, 100))
    few[:2], many[0, 0] = few.min(), many.max()
    seen = quality.look_at(few)
    assert not list(quality._clipping(seen, few.size))
    assert not list(quality._clipping(quality.look_at(many), many.size))
    wandering = seen._replace(noise=5.0, brightness=np.array([50.0, 50, 54, 54]))
    assert quality._drift(wandering, 9) is None
    assert "drifts by +4" in quality._drift(wandering, 10**4)
    assert quality._drift(wandering._replace(noise=0.0), 10**4) is None
