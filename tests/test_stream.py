"""Frames that are read a few at a time give the fit that they give in memory, and nothing is left over when it ends."""

import functools
import os
import signal
import threading
import time

import general_problems
import jax
import numpy as np
import pytest
from problems import random_params, sample

import jaxem
from jaxem.model.frames import as_frames, pixel_moments
from jaxem.runtime.read_ahead import ReadAhead
from jaxem.search import subsampling
from jaxem.stream import centring, passes, restarts, sources

FEW = {"max_iterations": 3, "tolerance": -np.inf}
TOLERANCE = {np.dtype("float32"): 1e-5, np.dtype("float64"): 1e-10}


class Source:
    """Counts what is read."""

    def __init__(self, images):
        self.images, self.shape, self.dtype, self.asked = images, images.shape, images.dtype, []

    def read(self, start, stop):
        self.asked.append((start, stop))
        return self.images[start:stop]


def planted(num_images=31, dtype="float32", noise_scale=1.2, seed=3):
    rng = np.random.default_rng(seed)
    truth = random_params(rng, (9, 11), (3, 4), noise_scale)
    images, _ = sample(rng, truth, num_images)
    start = truth._replace(template=truth.template + 0.5 * rng.normal(size=truth.template.shape))
    return images.astype(dtype), jax.tree.map(lambda leaf: np.asarray(leaf, dtype), start)


def small_chunks(monkeypatch, images, num_frames):
    """Chunks of so many frames, or of one batch where that has more."""
    itemsize = np.dtype(jax.dtypes.canonicalize_dtype(images.dtype)).itemsize
    monkeypatch.setattr(sources, "CHUNK_BYTES", num_frames * images[0].size * itemsize)


def expect_same(found, expected, dtype):
    """The same run to rounding."""
    assert int(found.status) == int(expected.status)
    assert int(found.num_iterations) == int(expected.num_iterations)
    assert int(found.num_scheduled) == int(expected.num_scheduled)
    tolerance = TOLERANCE[np.dtype(dtype)]
    np.testing.assert_allclose(found.history, expected.history, rtol=tolerance)
    np.testing.assert_allclose(found.entropy, expected.entropy, rtol=100 * tolerance, atol=100 * tolerance)
    assert found.params.template.dtype == expected.params.template.dtype
    for name, leaf in found.params._asdict().items():
        if leaf is not None:
            other = np.asarray(getattr(expected.params, name))
            size = max(1, np.abs(other[np.isfinite(other)]).max())
            np.testing.assert_allclose(leaf, other, rtol=tolerance, atol=3 * tolerance * size, err_msg=name)
    for name in ("corners", "best_template", "best_transform", "present", "transforms"):
        left, right = getattr(found, name), getattr(expected, name)
        assert (left is None) == (right is None), name
        if left is not None:
            np.testing.assert_array_equal(left, right, err_msg=name)


CASES = {
    "shared": {"weights": "shared", "support": True, "channels": "2 noises"},
    "own": {"weights": "own", "channels": "2", "wrap": "rows", "frames": "counts"},
    "mask": {"weights": "mask", "templates": "2", "absent": True},
    "turned": {"transforms": 3, "support": True, "wrap": "both", "absent": True, "frames": "some zero"},
}
NOTHING = {
    "weights": "none", "frames": "none", "support": False, "channels": "none", "wrap": "none", "absent": False,
    "templates": "none", "transforms": 0,
}  # fmt: skip


def general(name, dtype, num_images=13):
    """Images of the general model, more than a draw has, and the options for them."""
    problem = general_problems.as_dtype(general_problems.draw(8, **(NOTHING | CASES[name])), dtype)
    rng = np.random.default_rng(1)
    which = rng.integers(len(problem.images), size=num_images)
    images = problem.images[which]
    images = (images + 0.3 * rng.normal(size=images.shape)).astype(dtype)
    weights = problem.weights
    if weights is not None and weights.ndim == 3:
        weights = (rng.uniform(0.2, 3, images.shape[:3]) * (rng.random(images.shape[:3]) < 0.8)).astype(dtype)
        images = np.where(np.isfinite(images) & (abs(images) < 9), images, problem.params.background)
        images[weights == 0] = np.nan
    return (
        images,
        problem.params,
        {
            "weights": weights,
            "frame_weights": None if problem.frame_weights is None else problem.frame_weights[which],
            "transforms": problem.transforms,
        },
    )


IN_EITHER = [("shared", "float32"), ("own", "widest"), ("mask", "widest"), ("turned", "widest")]


@pytest.mark.parametrize(("name", "dtype"), IN_EITHER, indirect=["dtype"])
def test_it_is_the_fit_in_memory(name, dtype, monkeypatch):
    images, params, given = general(name, dtype)
    small_chunks(monkeypatch, images, 4)
    options = given | {"max_iterations": 3, "batch_size": 2, "tolerance": -np.inf}
    expected = jaxem.fit(images, params, **options)
    expect_same(jaxem.stream.fit(Source(images), params, **options), expected, dtype)


RELEASE = jaxem.annealing(3, start=0.3, prior_steps=2)
OPTIONS = {
    "hard": {"hard": True, "schedule": RELEASE},
    "schedule": {
        "schedule": RELEASE,
        "prior_smoothing": 3.0,
        "fixed": ("background", "noise_scale"),
        "tolerance": -np.inf,
    },
    "accelerated": {"accelerate": True, "max_iterations": 15, "tolerance": 0.0},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_means_the_same(name, monkeypatch):
    dtype = np.dtype(jax.dtypes.canonicalize_dtype("float64"))
    images, start = planted(dtype=dtype)
    small_chunks(monkeypatch, images, 6)
    options = {"max_iterations": 5, "batch_size": 4} | OPTIONS[name]
    expected = jaxem.fit(images, start, **options)
    expect_same(jaxem.stream.fit(images, start, **options), expected, dtype)
    assert int(expected.num_iterations) > 1
    if name == "accelerated":
        assert np.any(np.diff(expected.history) == 0), "nothing was extrapolated, or all of it kept"


@pytest.mark.parametrize(("num_images", "frames", "batch_size"), [(31, 1, 4), (1, 9, None)])
def test_any_number_of_frames_in_chunks_of_any_size(num_images, frames, batch_size, monkeypatch):
    images, start = planted(num_images)
    small_chunks(monkeypatch, images, frames)
    expected = jaxem.fit(images, start, **FEW)
    found = jaxem.stream.fit(images, start, **FEW, batch_size=batch_size)
    expect_same(found, expected, images.dtype)


def same_bits(found, expected):
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    before = set(threading.enumerate())
    yield
    end = time.monotonic() + 20
    while time.monotonic() < end and not set(threading.enumerate()) <= before:
        time.sleep(0.02)
    assert set(threading.enumerate()) <= before


def test_each_frame_is_read_once_a_pass_a_few_at_a_time(monkeypatch):
    images, start = planted(30)
    small_chunks(monkeypatch, images, 8)
    source = Source(images)
    found = jaxem.stream.fit(source, start, **FEW, batch_size=4)
    num_passes = 1 + 1 + int(found.num_iterations)  # to centre them, at the start, and one an iteration
    assert source.asked == num_passes * [(0, 8), (8, 16), (16, 24), (24, 30)]


def test_cores_and_devices_share_the_work(monkeypatch):
    images, start = planted()
    small_chunks(monkeypatch, images, 4)
    found = []
    for cores in (1, 3):
        monkeypatch.setattr(passes, "available_cores", lambda cores=cores: cores)
        found.append(jaxem.stream.fit(images, start, **FEW, batch_size=4))
    same_bits(*found)
    device = jax.local_devices()[0]
    shared = jaxem.stream.fit(images, start, **FEW, batch_size=4, devices=[device] * 3)
    expect_same(shared, found[0], images.dtype)


def broken(monkeypatch, images, **changes):
    small_chunks(monkeypatch, images, 8)
    return type("Broken", (Source,), changes)(images)


def test_a_source_that_gives_something_else_is_an_error(monkeypatch):
    images, start = planted(30)
    cases = [
        (lambda self, a, b: self.images[a:b, 1:], ValueError, r"gives something else .* frames 0 to 7 .*\(8, 8, 11\)"),
        (lambda self, a, b: self.images[a : min(b, 20)], ValueError, r"fewer frames .* frames 16 to 23 .*\(4, 9, 11\)"),
        (lambda self, a, b: self.images[a:b].astype("f8"), TypeError, "frames 0 to 7 came float64, not float32"),
    ]
    for read, kind, words in cases:
        with pytest.raises(kind, match=words):
            jaxem.stream.fit(broken(monkeypatch, images, read=read), start, **FEW, batch_size=4)


def test_what_a_source_raises_comes_out_with_the_frames(monkeypatch):
    images, start = planted(30)

    def read(self, first, stop):
        self.asked.append(first)
        if len(self.asked) == 7:  # in the second pass
            raise OSError("the disk is gone")
        return self.images[first:stop]

    with pytest.raises(OSError, match="the disk is gone") as raised:
        jaxem.stream.fit(broken(monkeypatch, images, read=read), start, **FEW, batch_size=4)
    assert raised.value.__notes__ == ["This came while frames 16 to 23 of 30 were read."]


def test_pixels_that_cannot_be_are_named(monkeypatch):
    images, start = planted(30)
    small_chunks(monkeypatch, images, 8)
    images[13, 2, 3] = np.nan
    with pytest.raises(ValueError, match=r"source holds NaN or infinity, first in frame 13: .* weight zero"):
        jaxem.stream.fit(images, start, **FEW, batch_size=4)
    counts = np.ones(30)
    counts[13] = 0
    assert np.isfinite(jaxem.stream.fit(images, start, **FEW, batch_size=4, frame_weights=counts).elbo)
    weights = np.ones(images.shape)
    weights[13, 2, 3], weights[21, 0, 0] = 0, -1
    with pytest.raises(ValueError, match="weights must be finite and not negative, as in frame 21"):
        jaxem.stream.fit(images, start, **FEW, batch_size=4, weights=weights)


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        ([[1.0]], {}, "source must have shape, dtype and read"),
        (np.zeros((3, 9, 11), complex), {}, "source must hold real numbers"),
        (np.zeros((9, 11)), {}, r"source must have shape \(K, H, W\)"),
        (np.zeros((0, 9, 11)), {}, "at least one frame"),
        (np.ma.masked_array(np.zeros((3, 9, 11))), {}, "must not be masked"),
        (np.zeros((3, 9, 11)), {"weights": np.ones((3, 9, 10))}, "weights must have shape"),
        (np.zeros((3, 9, 11)), {"weights": Source(np.ones((2, 9, 11)))}, "weights must have shape"),
        (np.zeros((3, 9, 11)), {"frame_weights": np.ones(2)}, "frame_weights must have shape"),
        (np.zeros((3, 9, 11)), {"frame_weights": np.zeros(3)}, "must not all be zero"),
        (np.zeros((3, 9, 11)), {"devices": ["cpu"]}, "devices must be devices"),
        (np.zeros((3, 9, 10)), {}, "params.background must have shape"),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_read(source, options, words):
    with pytest.raises((ValueError, TypeError), match=words):
        jaxem.stream.fit(source, planted(3)[1], **options)


def test_an_interruption_ends_it_soon(monkeypatch):
    images, start = planted(30)

    def read(self, first, stop):
        self.asked.append(first)
        if len(self.asked) == 6:
            threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        time.sleep(0.05 if len(self.asked) > 5 else 0)
        return self.images[first:stop]

    source = broken(monkeypatch, images, read=read)
    with pytest.raises(KeyboardInterrupt):
        jaxem.stream.fit(source, start, max_iterations=100, tolerance=-np.inf, batch_size=4)
    num_asked = len(source.asked)
    time.sleep(0.3)
    assert len(source.asked) == num_asked < 60


def test_it_is_taken_up_again_to_the_bit(monkeypatch, tmp_path):
    images, start = planted()
    small_chunks(monkeypatch, images, 8)
    options = {"schedule": RELEASE, "max_iterations": 3, "tolerance": 0.0, "batch_size": 4}
    told = []
    expected = jaxem.stream.fit(images, start, **options, callback=told.append)
    assert [progress.ended for progress in told] == [False] * (len(told) - 1) + [True]
    assert told[-1].status == jaxem.Status(int(expected.status))
    assert told[-1].num_steps == int(expected.num_scheduled + expected.num_iterations) + 1

    interrupted = []

    def stop_later(progress):
        interrupted.append(progress.num_steps)
        if progress.num_steps >= 3:
            raise RuntimeError("enough")

    checkpointer = jaxem.Checkpointer(tmp_path, interval=0.0)
    with pytest.raises(RuntimeError, match="enough"):
        jaxem.stream.fit(images, start, **options, checkpointer=checkpointer, callback=stop_later)
    again = jaxem.Checkpointer(tmp_path)
    assert again.read() is not None
    source = Source(images)
    same_bits(jaxem.stream.fit(source, start, **options, checkpointer=again), expected)
    num_left = told[-1].num_steps - interrupted[-1]
    assert len(source.asked) == 4 * num_left > 0


@pytest.mark.parametrize("dtype", ["f2", ">u2", "f8"])
def test_pixels_of_any_dtype(dtype, monkeypatch):
    images, start = planted(12)
    images = (20 * images + 100).clip(0, 255).astype(dtype)
    start = start._replace(template=20 * start.template + 100, background=20 * start.background + 100)
    small_chunks(monkeypatch, images, 4)
    dtype = np.dtype(jax.dtypes.canonicalize_dtype("float64")) if dtype in (">u2", "f8") else np.dtype("float32")
    once = {"max_iterations": 0, "batch_size": 4}
    same_bits(jaxem.stream.fit(images, start, **once), jaxem.stream.fit(images.astype(dtype), start, **once))


def test_mapped_files_and_hdf5(monkeypatch, tmp_path):
    images, start = planted(12)
    small_chunks(monkeypatch, images, 4)
    once = {"max_iterations": 0, "batch_size": 4}
    expected = jaxem.stream.fit(images, start, **once)
    np.save(tmp_path / "frames.npy", images)
    for mode in ("r", "r+", "c"):
        mapped = np.load(tmp_path / "frames.npy", mmap_mode=mode)
        if mode == "c":
            mapped[3] += 1  # private, and not to be given back
        found = jaxem.stream.fit(mapped, start, **once)
        if mode == "c":
            assert found.elbo != expected.elbo
            assert mapped[3, 0, 0] == images[3, 0, 0] + 1
        else:
            same_bits(found, expected)
    same_bits(jaxem.stream.fit(np.load(tmp_path / "frames.npy", mmap_mode="r")[::1], start, **once), expected)
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "frames.h5", "w") as file:
        same_bits(jaxem.stream.fit(file.create_dataset("frames", data=images), start, **once), expected)


@pytest.mark.parametrize("factor", [1e-20, 1.0, 1e19])
def test_moments_do_not_depend_on_what_comes_first(factor):
    images, _ = planted(40)
    images = factor * images
    images[:8] = 0
    images = images.astype("float32")
    stream = sources.as_stream(images)
    stream = stream if factor != 1 else sources.as_stream(images, None, np.linspace(0, 2, 40))
    found = functools.reduce(
        centring.merge,
        [
            centring.moments_of_chunk(stream.nothing(), part.own, part.counts, 4)[0]
            for part in stream.chunks(range(stream.num_images), 8, look=1)
        ],
    )
    _, moments = centring.centred_by(found, stream.nothing(), 40)
    frames = stream.nothing().batch((images, None, stream.frame_weights))
    expected = pixel_moments(frames, 4)
    assert 0.5 <= moments.scale / expected.scale <= 2
    np.testing.assert_allclose(moments.mean, expected.mean, rtol=1e-5)
    np.testing.assert_allclose(moments.spread, expected.spread, rtol=1e-5)
    np.testing.assert_array_equal(moments.lowest, expected.lowest)
    np.testing.assert_array_equal(moments.highest, expected.highest)


def test_a_sample_is_read_in_runs():
    images, _ = planted(60)
    source = Source(images)
    stream = sources.as_stream(source, None, np.arange(60.0))
    numbers = np.array([0, 1, 4, 30, 31, 59])
    frames = sources.read_sample(stream, numbers, 2)
    np.testing.assert_array_equal(frames.pixels, images[numbers])
    np.testing.assert_array_equal(frames.frame_weights, numbers)
    assert source.asked == [(0, 5), (30, 32), (59, 60)]


def test_a_search_on_a_sample_then_a_fit_of_all():
    images, start = planted(120, noise_scale=0.4)
    options = {"search": None, "num_restarts": 1, "num_threads": 1, "init": start.template}
    key = jax.random.key(2)
    source, counts = Source(images), np.ones(120)
    counts[:40] = 0
    found = jaxem.stream.fit_restarts(key, source, (3, 4), sample=50, frame_weights=counts, **options)
    assert found.runs.corners.shape == (1, 50, 2)
    assert found.best.corners.shape == (120, 2)
    expected = jaxem.fit(images, found.best.params, frame_weights=counts, max_iterations=1)
    np.testing.assert_allclose(found.best.elbo, expected.elbo, rtol=1e-4)
    np.testing.assert_array_equal(found.best.corners, expected.corners)
    np.testing.assert_allclose(found.diagnostics.effective_positions, np.exp(found.best.entropy), rtol=1e-5)
    assert found.diagnostics.contrast > 10
    assert int(found.diagnostics.num_steps) > int(found.best.num_scheduled + found.best.num_iterations)
    assert isinstance(found.summary(), str)
    few = {"frame_weights": np.ones(50)} | options  # fewer than a sample has
    everything = jaxem.stream.fit_restarts(key, images[:50], (3, 4), **few)
    same_bits(everything, jaxem.fit_restarts_parallel(key, images[:50], (3, 4), **few))
    for size in ("all", 0, 1.5):
        with pytest.raises((ValueError, TypeError), match="sample must be"):
            jaxem.stream.fit_restarts(key, images, (3, 4), sample=size)


def test_reading_ahead_is_bounded_and_ends():
    made = []

    def items():
        for number in range(100):
            made.append(number)
            yield number

    with ReadAhead(items(), 3) as ahead:
        time.sleep(0.1)
        assert made == [0, 1, 2]
        taken = iter(ahead)
        assert [next(taken), next(taken)] == [0, 1]
        time.sleep(0.1)
        assert made == [0, 1, 2, 3, 4]
    with ReadAhead(items(), 2) as ahead:
        assert list(ahead) == list(range(100))


def test_a_sample_of_what_counts_is_searched():
    images, start = planted(60)
    frame_weights = np.arange(60) % 3
    key, shape = jax.random.key(5), start.template.shape
    stream = sources.as_stream(images, None, frame_weights)
    found = jaxem.stream.fit_restarts(key, images, shape, frame_weights=frame_weights, sample=20, num_restarts=1)
    assert (frame_weights[found.sample] > 0).all()
    held = np.asarray(subsampling.draw_numbers(key, 60, frame_weights, 40))
    some = as_frames(images[held], None, frame_weights[held])
    np.testing.assert_array_equal(found.sample, held[subsampling.draw_sample(key, some, 20)[1]])

    def size(sample, largest, stream, times=4):
        return tuple(restarts._as_size(sample, largest, times, stream, (4, 4), 1, False))

    assert size(9, None, stream) == (9, 36)
    assert size(9, 20, stream) == (9, 20)
    assert size(9, 5, stream) == (9, 9)
    assert size(9, None, stream, times=1) == (9, 9)
    assert size(39, None, stream) == (39, 40)  # so many count
    assert size(41, None, stream)[1] == 40
    assert size("auto", None, stream) == ("auto", 60)
    assert size("auto", 30, stream) == ("auto", 30)
    large = sources.as_stream(np.broadcast_to(np.float32(0), (1000, 1024, 1024)))
    assert size("auto", None, large) == ("auto", 512)  # not all of them, which need 4 GB
    many = sources.as_stream(np.broadcast_to(np.float32(0), (10**6, 20, 20)))
    assert size("auto", None, many) == ("auto", 1600)
    assert size("auto", 1000, many) == ("auto", 1000)
    assert size(None, 1000, many) == (None, 10**6)
