"""What a fit will need is foretold from a trial; how well, `bench/forecast.py` measures."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from jaxem.assess import frame_remarks, frame_stats
from jaxem.assess.drift import drift_remarks
from jaxem.assess.frame_stats import estimate_noise, frame_statistics
from jaxem.cli import estimate, memory
from jaxem.cli.estimate import Trial
from jaxem.runtime.compilation_cache import without_compiled_programs


def test_a_trial_tells_how_long_a_step_and_compiling_take(monkeypatch):
    # The first call takes 10 s by this clock, the second 2 s.
    moments = iter([0.0, 10.0, 20.0, 22.0])
    monkeypatch.setattr(estimate, "time", SimpleNamespace(perf_counter=lambda: next(moments)))
    frames = np.random.default_rng(0).integers(0, 256, (60, 20, 24), np.uint8)
    trial = estimate.run_trial(frames, (7, 6))
    assert trial.num_images == 60
    assert trial.seconds_compiling == 8
    num_steps = trial.num_annealing_steps + estimate.TRIAL_ITERATIONS + 1
    assert trial.seconds_per_step == pytest.approx(2 / num_steps)
    assert 1 <= trial.num_annealing_steps <= estimate.TRIAL_ANNEALING_STEPS


@pytest.mark.parametrize(("cores", "share"), [(1, 1.0), (2, estimate.SIDE_BY_SIDE_SHARE)])
def test_frames_and_steps_take_their_time(monkeypatch, cores, share):
    monkeypatch.setattr(estimate, "available_cores", lambda: cores)
    frames = np.zeros((1000, 20, 24), np.uint8)
    told = {}
    for steps in (3, 20):
        trial = Trial(100, 2.0, 0.5, steps)
        monkeypatch.setattr(estimate, "run_trial", lambda *_, trial=trial: trial)
        told[steps] = estimate.estimate_time(frames, (7, 6), seconds_to_read=4)
        expected = share * 10 * told[steps].num_steps * 0.5
        assert told[steps].seconds_of_steps == pytest.approx(expected)
        fixed = 4 + estimate.OVERHEAD_SECONDS + 2 * estimate.COMPILATION_FACTOR
        assert told[steps].seconds - expected == pytest.approx(fixed)
    assert told[3].num_steps < 20 < 60 < told[20].num_steps
    assert "soon" in told[3].reason
    assert "long" in told[20].reason


def test_of_many_frames_the_search_takes_as_long_as_its_sample(monkeypatch):
    monkeypatch.setattr(estimate, "available_cores", lambda: 1)
    for annealing_steps, on_all in ((3, estimate.E_STEPS_ON_ALL), (20, estimate.E_STEPS_ON_ALL_AFTER_SLOW_SEARCH)):
        trial = Trial(100, 2.0, 0.5, annealing_steps)
        monkeypatch.setattr(estimate, "run_trial", lambda *_, trial=trial: trial)
        few, many, more = (
            estimate.estimate_time(np.zeros((count, 20, 24), np.uint8), (7, 6)) for count in (1199, 2000, 4000)
        )
        assert few.seconds_of_steps == pytest.approx(11.99 * few.num_steps * 0.5)
        assert many.seconds_of_steps == pytest.approx((4 * many.num_steps + 20 * on_all) * 0.5)
        assert more.seconds_of_steps - many.seconds_of_steps == pytest.approx(20 * on_all * 0.5)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_memory_is_that_of_the_stack_as_it_came_and_in_the_precision_of_the_fit(dtype):
    few, many = np.zeros((1000, 20, 24), dtype), np.zeros((2000, 20, 24), dtype)
    is_single = dtype == "float32" or not jax.config.jax_enable_x64
    more = memory.fit_memory(many.shape, many.dtype) - memory.fit_memory(few.shape, few.dtype)
    assert more == pytest.approx(1000 * 480 * (few.itemsize + (4 if is_single else 8) * memory.STACK_COPIES))


def test_compiling_as_if_for_the_first_time(tmp_path, compilations):
    before = jax.config.values["jax_compilation_cache_dir"], jax.config.values["jax_enable_compilation_cache"]
    with without_compiled_programs():
        assert not jax.config.values["jax_enable_compilation_cache"]
        jax.jit(lambda x: x + 1)(np.ones(3, "float32"))
    after = jax.config.values["jax_compilation_cache_dir"], jax.config.values["jax_enable_compilation_cache"]
    assert after == before
    assert compilations


def test_looking_at_frames_block_by_block(monkeypatch):
    frames = np.random.default_rng(0).normal(50, 5, (30, 9, 11)).astype("float32")
    frames[20] = frames[4]
    frames[7] = frames[13] = 3
    whole = frame_statistics(frames)
    monkeypatch.setattr(frame_stats, "PIXELS_PER_BLOCK", 4 * 99)
    blocks = frame_statistics(frames)
    assert blocks == whole._replace(mean=blocks.mean)
    assert blocks.mean == pytest.approx(whole.mean)
    assert blocks.limits is None
    assert blocks.at_high == 1 / frames.size
    monkeypatch.setattr(frame_stats, "PIXELS_FOR_NOISE", 8 * 99)
    assert estimate_noise(frames)[0] == pytest.approx(5, rel=0.15)
    flickering = frames + 40 * (np.arange(30) % 2)[:, None, None]
    assert estimate_noise(flickering)[0] == pytest.approx(5, rel=0.15)
    assert np.isnan(estimate_noise(frames[:, :2])[1])


def test_what_few_pixels_show_is_no_reason_for_a_warning():
    rng = np.random.default_rng(0)
    few, many = rng.normal(50, 5, (4, 3, 3)), rng.normal(50, 5, (4, 100, 100))
    few[:2], many[0, 0] = few.min(), many.max()
    seen = frame_statistics(few)
    assert not list(frame_remarks._clipping(seen, few.size))
    assert not list(frame_remarks._clipping(frame_statistics(many), many.size))
    means = np.array([0.0, 0, 4, 4])
    assert drift_remarks(means, means, 5.0, 9) == []
    (remark,) = drift_remarks(means, means, 5.0, 10**4)
    assert "drifts by +4" in remark.text
    assert drift_remarks(means, means, 0.0, 10**4) == []
