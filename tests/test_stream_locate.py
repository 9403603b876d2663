"""Where the template is in frames that are read a few at a time is where it is in memory."""

import jax
import numpy as np
import pytest
from test_stream import IN_EITHER, Source, general, small_chunks
from test_stream_assess import KNOWN, TOLERANCE, planted, without

import jaxem
from jaxem.stream import passes

PRIORS = {"shared": "learned", "own": "flat", "mask": "learned", "turned": "flat"}


def expect_same(found, expected, dtype):
    """The same places, and as sure to rounding."""
    assert type(found) is type(expected)
    for name, array in expected._asdict().items():
        other = getattr(found, name)
        if array is None:
            assert other is None, name
            continue
        array = np.asarray(array)
        assert isinstance(other, np.ndarray), name
        assert (other.dtype, other.shape) == (array.dtype, array.shape), name
        if array.dtype.kind in "ib":
            np.testing.assert_array_equal(other, array, err_msg=name)
        else:
            size = max(1, np.abs(array).max(initial=0, where=np.isfinite(array)))
            np.testing.assert_allclose(other, array, rtol=0, atol=TOLERANCE[dtype] * size, err_msg=name)


@pytest.mark.parametrize(("name", "dtype"), IN_EITHER, indirect=["dtype"])
def test_new_frames_in_one_pass(name, dtype, monkeypatch):
    images, params, given = general(name, dtype, num_images=14)
    small_chunks(monkeypatch, images, 4)
    options = without(given, "frame_weights") | {"prior": PRIORS[name]}
    expected = jaxem.locate(images, params, **options)
    source = Source(images)
    expect_same(jaxem.stream.locate(source, params, batch_size=2, **options), expected, dtype)
    assert source.asked == [(0, 4), (4, 8), (8, 12), (12, 14)]
    assert len(np.unique(np.asarray(expected.corners), axis=0)) >= 3


@pytest.mark.parametrize(("name", "dtype"), IN_EITHER, indirect=["dtype"])
def test_frames_of_the_fit_in_three(name, dtype, monkeypatch):
    images, params, given = general(name, dtype, num_images=14)
    small_chunks(monkeypatch, images, 4)
    fitted = jaxem.fit(images, params, max_iterations=2, **given)
    options = without(given, "transforms") | {"prior": PRIORS[name], "fitted": True, "fixed": KNOWN[name]}
    expected = jaxem.locate(images, fitted, **options)
    source = Source(images)
    expect_same(jaxem.stream.locate(source, fitted, batch_size=2, **options), expected, dtype)
    assert source.asked == 3 * [(0, 4), (4, 8), (8, 12), (12, 14)]
    if PRIORS[name] == "learned":
        flat = jaxem.stream.locate(images, fitted, batch_size=2, **options | {"prior": "flat"})
        assert not np.array_equal(flat.confidence, expected.confidence)


def test_the_transforms_and_the_learned_prior_are_those_of_the_result():
    images, params, given = general("turned", "float32", num_images=14)
    found = jaxem.fit(images, params, max_iterations=1, **given)
    weights = given["weights"]
    for prior in ("flat", "learned"):
        expected = jaxem.locate(images, found, weights=weights, prior=prior)
        expect_same(jaxem.stream.locate(images, found, weights=weights, prior=prior), expected, np.dtype("float32"))


def test_whole_numbers_a_single_frame_and_more_frames_than_a_batch(monkeypatch):
    images, fitted = planted(13)
    whole = np.rint(20 * images).astype(np.int16)
    params = fitted.params._replace(
        template=20 * fitted.params.template,
        background=20 * fitted.params.background,
        noise_scale=20 * fitted.params.noise_scale,
    )
    small_chunks(monkeypatch, images, 8)
    for some in (whole, whole[:1], whole[:5]):
        expected = jaxem.locate(some, params)
        for size in (None, 3, 4):
            expect_same(jaxem.stream.locate(some, params, batch_size=size), expected, expected.confidence.dtype)


def test_cores_and_devices_share_the_work_and_a_second_call_compiles_nothing(monkeypatch, compilations):
    images, fitted = planted(14)
    small_chunks(monkeypatch, images, 4)
    found = []
    for cores in (1, 3):
        monkeypatch.setattr(passes, "available_cores", lambda cores=cores: cores)
        found.append(jaxem.stream.locate(images, fitted, batch_size=2))
    before = len(compilations)
    found.append(jaxem.stream.locate(images, fitted, batch_size=2, devices=[jax.local_devices()[0]] * 3))
    assert len(compilations) == before
    for other in found[1:]:
        jax.tree.map(np.testing.assert_array_equal, found[0], other)


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        (np.zeros((3, 9, 10)), {}, "params.background must have shape"),
        (np.zeros((3, 9, 11)), {"prior": "even"}, 'prior must be "flat" or "learned"'),
        (np.zeros((3, 9, 11)), {"frame_weights": np.ones(3)}, "of no use without fitted=True"),
        (np.zeros((3, 9, 11)), {"batch_size": 0}, "batch_size must be"),
        (np.zeros((3, 9, 11)), {"fixed": ("templates",), "fitted": True}, "fixed"),
        (np.full((3, 9, 11), np.nan), {}, "source holds NaN or infinity, first in frame 0"),
    ],
)
def test_what_does_not_fit_is_said(source, options, words):
    with pytest.raises((ValueError, TypeError), match=words):
        jaxem.stream.locate(source, planted(3)[1], **options)


def test_what_is_no_model_is_said():
    with pytest.raises(TypeError, match="images come before the model"):
        jaxem.stream.locate(planted(3)[1].params, np.zeros((3, 9, 11)))
