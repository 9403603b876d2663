"""What is claimed of frames that are read a few at a time is what is claimed of them in memory."""

import jax
import numpy as np
import pytest
from problems import random_params, sample
from test_stream import IN_EITHER, Source, general, small_chunks

import jaxem
from jaxem.assess.detection import nothing_tested
from jaxem.stream import passes

TOLERANCE = {np.dtype("float32"): 1e-5, np.dtype("float64"): 1e-11}
KNOWN = {"shared": ("noise_scale",), "own": ("background",), "mask": ("absent",), "turned": ("template", "prior")}


def expect_same(found, expected, dtype, but=()):
    """The same claims to rounding, of which all that can be is finite and not zero."""
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    left, right = (dict(jax.tree_util.tree_flatten_with_path(claims)[0]) for claims in (found, expected))
    for path, array in right.items():
        name, array, other = jax.tree_util.keystr(path), np.asarray(array), np.asarray(left[path])
        assert (other.dtype, other.shape) == (array.dtype, array.shape), name
        if array.dtype.kind in "ib":
            np.testing.assert_array_equal(other, array, err_msg=name)
        elif name not in but:
            # Moments are of numbers near one, and differ by what these are rounded by.
            size = max(1 if name.startswith(".residuals") else 0, np.abs(array[np.isfinite(array)]).max(initial=0))
            np.testing.assert_allclose(other, array, rtol=0, atol=TOLERANCE[dtype] * size, err_msg=name)
    assert np.isfinite(expected.contrast)
    assert expected.contrast > 0
    assert np.count_nonzero(np.nan_to_num(expected.residuals.edges)) >= 5


def without(given, *names):
    return {name: value for name, value in given.items() if name not in names}


@pytest.mark.parametrize(("name", "dtype"), IN_EITHER, indirect=["dtype"])
def test_it_is_what_is_claimed_in_memory(name, dtype, monkeypatch):
    images, params, given = general(name, dtype, num_images=14)
    small_chunks(monkeypatch, images, 4)  # so that of the last chunk half is there
    fitted = jaxem.fit(images, params, max_iterations=2, **given)
    options = without(given, "transforms") | {"batch_size": 2, "fixed": KNOWN[name]}
    expected = jaxem.assess_fit(images, fitted, **options)
    source = Source(images)
    found = jaxem.stream.assess_fit(source, fitted, **options)
    expect_same(found, expected, dtype)
    assert source.asked == 3 * [(0, 4), (4, 8), (8, 12), (12, 14)]
    assert [str(remark) for remark in found.remarks()] == [str(remark) for remark in expected.remarks()]


def planted(num_images):
    """Images whose places are not sure, and a fit to them."""
    rng = np.random.default_rng(3)
    truth = random_params(rng, (9, 11), (3, 4), noise_scale=1.6)
    images, _ = sample(rng, truth, num_images)
    dtype = np.dtype(jax.dtypes.canonicalize_dtype("float64"))
    truth = jax.tree.map(lambda leaf: np.asarray(leaf, dtype), truth)
    return images.astype(dtype), jaxem.fit(images.astype(dtype), truth, max_iterations=3)


def in_pairs(images, fitted, batch_size):
    """Correlation of a pixel's residual with that in the next frame of a batch, as it is written down."""
    params, (height, width) = fitted.params, fitted.params.template.shape
    errors = images - np.asarray(params.background)
    for error, image, (row, column) in zip(errors, images, np.asarray(fitted.corners), strict=True):
        window = (slice(row, row + height), slice(column, column + width))
        error[window] = image[window] - np.asarray(params.template)
    errors /= float(params.noise_scale)
    first = np.array([number for number in range(len(images) - 1) if (number + 1) % batch_size])
    offsets = errors.mean(axis=(1, 2))
    products = np.mean(errors[first] * errors[first + 1]) - np.mean(offsets[1:] * offsets[:-1])
    return products / np.mean(errors**2)


def test_any_number_of_frames_and_pairs_within_batches(monkeypatch):
    images, fitted = planted(13)
    small_chunks(monkeypatch, images, 8)
    expected = jaxem.assess_fit(images, fitted, batch_size=4)
    found = jaxem.stream.assess_fit(images, fitted, batch_size=4)
    expect_same(found, expected, images.dtype, but=(".residuals.correlation_next",))
    tolerance = 100 * TOLERANCE[images.dtype]
    np.testing.assert_allclose(found.residuals.correlation_next, in_pairs(images, fitted, 4), rtol=tolerance)
    assert abs(found.residuals.correlation_next - expected.residuals.correlation_next) > tolerance


def test_frames_that_count_for_nothing_may_hold_anything(monkeypatch):
    images, _ = planted(14)
    counts = np.where(np.arange(14) % 12 == 0, 0.0, 2.0)
    images[counts == 0] = np.nan  # the first one of all, and the one that fills up the last chunk
    start = planted(14)[1].params
    small_chunks(monkeypatch, images, 4)
    fitted = jaxem.fit(images, start, frame_weights=counts, max_iterations=1)
    options = {"frame_weights": counts, "batch_size": 2}
    expected = jaxem.assess_fit(images, fitted, **options)
    found = jaxem.stream.assess_fit(images, fitted, **options)
    expect_same(found, expected, images.dtype)
    np.testing.assert_array_equal(np.isnan(found.residuals.by_image), counts == 0)


def test_cores_and_devices_share_the_work(monkeypatch):
    images, fitted = planted(14)
    small_chunks(monkeypatch, images, 4)
    found = []
    for cores in (1, 3):
        monkeypatch.setattr(passes, "available_cores", lambda cores=cores: cores)
        found.append(jaxem.stream.assess_fit(images, fitted, batch_size=2))
    jax.tree.map(np.testing.assert_array_equal, *found)
    device = jax.local_devices()[0]
    expect_same(jaxem.stream.assess_fit(images, fitted, batch_size=2, devices=[device] * 3), found[0], images.dtype)


def test_a_second_call_compiles_nothing(compilations):
    images, fitted = planted(14)
    jaxem.stream.assess_fit(images, fitted, batch_size=2)
    before = len(compilations)
    jaxem.stream.assess_fit(images + 1, fitted, batch_size=2)
    assert len(compilations) == before


def test_a_test_that_was_made_is_told_with_it():
    images, fitted = planted(14)
    test = nothing_tested(14, images.dtype)._replace(p_value=np.float64(0.25))
    claims = jaxem.stream.assess_fit(images, fitted, test=test, batch_size=2)
    assert claims.test is test
    assert "p = 0.25" in claims.summary()


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        (np.zeros((3, 9, 10)), {}, "params.background must have shape"),
        (np.zeros((3, 9, 11)), {"frame_weights": np.zeros(3)}, "must not all be zero"),
        (np.zeros((3, 9, 11)), {"fixed": ("templates",)}, "fixed"),
        (np.zeros((3, 9, 11)), {"batch_size": 0}, "batch_size must be"),
        (np.full((3, 9, 11), np.nan), {}, "source holds NaN or infinity, first in frame 0"),
    ],
)
def test_what_does_not_fit_is_said(source, options, words):
    with pytest.raises((ValueError, TypeError), match=words):
        jaxem.stream.assess_fit(source, planted(3)[1], **options)
