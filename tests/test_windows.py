"""Every operator against its definition, and every operator against its adjoint, jitted, over awkward shapes."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import close
from problems import CASES

from jaxem.assess import reference as oracle
from jaxem.ops import fourier, windows

cases = pytest.mark.parametrize(("stack_shape", "template_shape", "dtype"), CASES, indirect=["dtype"])


@cases
def test_operators_match_their_definitions(stack_shape, template_shape, dtype):
    rng = np.random.default_rng(1)
    image_shape, positions = stack_shape[1:], oracle.positions_shape(stack_shape[1:], template_shape)
    images = 3 + rng.normal(size=stack_shape)
    maps = 1 + rng.normal(size=(stack_shape[0], *positions))
    template = 2 + rng.normal(size=template_shape)
    corners = rng.integers(0, positions, size=(stack_shape[0], 2))

    correlation, sums, spread, back = np.zeros(maps.shape), np.zeros(maps.shape), np.zeros(stack_shape), 0
    for k, d in itertools.product(range(stack_shape[0]), oracle.corners_of(image_shape, template_shape)):
        here = oracle.window(d, template_shape)
        correlation[(k, *d)] = (images[k][here] * template).sum()
        sums[(k, *d)] = images[k][here].sum()
        spread[k][here] += maps[(k, *d)]
        back = back + maps[(k, *d)] * images[k][here]
    cut = np.stack([image[oracle.window(d, template_shape)] for image, d in zip(images, corners, strict=True)])
    pasted = np.zeros(image_shape)
    for one, d in zip(cut, corners, strict=True):
        pasted[oracle.window(d, template_shape)] += one

    @jax.jit  # together, since compiling is what takes the time
    def everything(images, maps, template, cut, corners):
        return (
            windows.correlate(images, template),
            windows.backproject(images, maps),
            windows.window_sums(images, template_shape),
            windows.coverage(maps, template_shape),
            windows.gather(images[:, None], corners, template_shape)[:, 0],
            windows.gather(images[:1], corners[:1], template_shape)[:, 0],
            windows.paste(cut[:, None], corners, image_shape)[0],
            windows.window_sums_in_stages(images, template_shape),
            windows.coverage_in_stages(maps, template_shape),
            kept_correlate(images, template),
            kept_backproject(images, maps, template_shape),
        )

    found = everything(*(jnp.asarray(a, dtype) for a in (images, maps, template, cut)), corners)
    wanted = (correlation, back, sums, spread, cut, cut[:1], pasted, sums, spread, correlation, back)
    for actual, expected in zip(found, wanted, strict=True):
        close(actual, expected, dtype)


def kept_correlate(images, template):
    image_shape = images.shape[1:]
    pairs = fourier.transform_pairs(images[:, None], image_shape)
    prepared = fourier.transform_template(template[None, None], image_shape)
    positions = oracle.positions_shape(image_shape, template.shape)
    return fourier.pairs_of(fourier.correlate_pairs(pairs, prepared), positions)[: len(images), 0]


def kept_backproject(images, maps, template_shape):
    pairs, spectra = (fourier.transform_pairs(stack[:, None], images.shape[1:]) for stack in (images, maps))
    return fourier.template_of(fourier.backproject_pairs(pairs, spectra), template_shape)[0, 0]


@cases
def test_adjoints(stack_shape, template_shape, dtype):
    rng = np.random.default_rng(2)
    image_shape, positions = stack_shape[1:], oracle.positions_shape(stack_shape[1:], template_shape)
    images, maps, template, image, cut = (
        jnp.asarray(rng.normal(size=shape), dtype)
        for shape in (stack_shape, (stack_shape[0], *positions), template_shape, image_shape, (9, *template_shape))
    )
    corners = rng.integers(0, positions, size=(9, 2))

    @jax.jit
    def both_sides(images, maps, template, image, cut):
        return [
            (windows.correlate(images, template), maps, template, windows.backproject(images, maps)),
            (windows.window_sums(images, template_shape), maps, images, windows.coverage(maps, template_shape)),
            (
                windows.gather(image[None], corners, template_shape)[:, 0],
                cut,
                image,
                windows.paste(cut[:, None], corners, image_shape)[0],
            ),
            (
                windows.window_sums_in_stages(images, template_shape),
                maps,
                images,
                windows.coverage_in_stages(maps, template_shape),
            ),
            (kept_correlate(images, template), maps, template, kept_backproject(images, maps, template_shape)),
        ]

    for forward, out, inside, backward in both_sides(images, maps, template, image, cut):
        left, right = np.vdot(forward, out), np.vdot(inside, backward)
        size = np.linalg.norm(forward.ravel()) * np.linalg.norm(out.ravel())
        assert abs(left - right) <= 30 * np.finfo(dtype).eps * size


def test_window_sums_stay_exact_where_one_cumulative_sum_does_not():
    rng = np.random.default_rng(3)
    image = rng.integers(0, 256, size=(1, 700, 900)).astype("float32")
    sums = windows.window_sums(jnp.asarray(image), (64, 48))
    exact = np.lib.stride_tricks.sliding_window_view(image[0].astype("float64"), (64, 48)).sum(axis=(2, 3))
    assert np.abs(np.asarray(sums[0]) - exact).max() / exact.max() < 2e-6


def test_stages_are_cumulative_sums(dtype):
    """Window lengths of one stage, of several, and primes that leave rests; pixels that float32 adds exactly."""
    rng = np.random.default_rng(4)
    images = jnp.asarray(rng.integers(0, 9, size=(2, 131, 67)), dtype)
    shapes = [(2, 16), (17, 60), (59, 61), (97, 67), (128, 1)]
    maps = [images[:, : 131 - h + 1, : 67 - w + 1] for h, w in shapes]

    @jax.jit
    def both(images, maps):
        return [
            (
                (windows.window_sums_in_stages(images, shape), windows.window_sums(images, shape)),
                (windows.coverage_in_stages(each, shape), windows.coverage(each, shape)),
            )
            for shape, each in zip(shapes, maps, strict=True)
        ]

    for pairs in both(images, maps):
        for found, expected in pairs:
            np.testing.assert_array_equal(found, expected)


def test_pairs_keep_their_images_apart():
    """Neighbours share a transform, yet what one holds does not show in the other's correlation."""
    rng = np.random.default_rng(5)
    images = rng.normal(size=(3, 9, 12)).astype("float32")
    other = images.copy()
    other[1] = 5 * rng.normal(size=(9, 12))
    template = jnp.asarray(rng.normal(size=(4, 5)), "float32")
    before, after = (np.asarray(jax.jit(kept_correlate)(each, template)) for each in (images, other))
    np.testing.assert_allclose(before[[0, 2]], after[[0, 2]], atol=2e-5)
    assert np.abs(before[1] - after[1]).min() > 1e-3
