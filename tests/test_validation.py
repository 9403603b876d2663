"""Every wrong argument ends in one sentence that names it, what came, and what would do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxem
from jaxem.ops import validation

IMAGES = np.random.default_rng(0).random((4, 6, 8))
PARAMS = jaxem.Params(np.zeros((2, 3)), np.zeros((6, 8)), 1.0, np.full((5, 6), 1 / 30))
PROBS = np.full((4, 5, 6), 1 / 30)
CORNERS = np.zeros((4, 2), int)
KEY = jax.random.key(0)

CASES = {
    "a single image": (lambda: jaxem.e_step(IMAGES[0], PARAMS), ValueError, r"images.*\(6, 8\).*images\[None\]"),
    "no image": (lambda: jaxem.fit(IMAGES[:0], PARAMS), ValueError, r"images.*at least one.*\(0, 6, 8\)"),
    "five axes": (lambda: jaxem.recentre(IMAGES[None, None], PARAMS), ValueError, r"images.*\(1, 1, 4, 6, 8\)"),
    "complex images": (lambda: jaxem.fit(IMAGES * 1j, PARAMS), TypeError, "images.*real.*complex128"),
    "text images": (lambda: jaxem.fit(IMAGES.astype(str), PARAMS), TypeError, "images.*real.*<U"),
    "objects": (lambda: jaxem.e_step(None, PARAMS), TypeError, "images.*real.*object"),
    "a tuple for params": (lambda: jaxem.e_step(IMAGES, (1, 2)), TypeError, "params.*jaxem.Params.*tuple"),
    "another background": (
        lambda: jaxem.e_step(IMAGES, PARAMS._replace(background=np.zeros((6, 7)))),
        ValueError,
        r"params.background.*\(6, 8\).*\(6, 7\)",
    ),
    "a flat template": (
        lambda: jaxem.e_step(IMAGES, PARAMS._replace(template=np.zeros(6))),
        ValueError,
        r"params.template.*\(h, w\).*\(6,\)",
    ),
    "a large template": (
        lambda: jaxem.e_step(IMAGES, PARAMS._replace(template=np.zeros((7, 3)))),
        ValueError,
        r"template_shape \(7, 3\) is larger than the images \(6, 8\).*h <= 6",
    ),
    "a noise map": (
        lambda: jaxem.e_step(IMAGES, PARAMS._replace(noise_scale=np.ones((6, 8)))),
        ValueError,
        r"params.noise_scale.*scalar.*\(6, 8\)",
    ),
    "a prior of pixels": (
        lambda: jaxem.fit(IMAGES, PARAMS._replace(prior=np.ones((6, 9)))),
        ValueError,
        r"params.prior.*\(5, 6\).*\(6, 9\)",
    ),
    "a complex template": (
        lambda: jaxem.e_step(IMAGES, PARAMS._replace(template=np.zeros((2, 3), complex))),
        TypeError,
        "params.template.*complex128",
    ),
    "a template shape that is one number": (
        lambda: jaxem.random_params(KEY, IMAGES, 3),
        TypeError,
        "template_shape.*3",
    ),
    "a fractional template shape": (
        lambda: jaxem.fit_restarts(KEY, IMAGES, (2.5, 3)),
        TypeError,
        r"template_shape.*integers.*\(2.5, 3\)",
    ),
    "an empty template": (lambda: jaxem.fit_restarts(KEY, IMAGES, (0, 3)), ValueError, r"template_shape.*\(0, 3\)"),
    "a wide template": (lambda: jaxem.fit_restarts(KEY, IMAGES, (2, 9)), ValueError, r"\(2, 9\) is larger.*w <= 8"),
    "probabilities of other images": (
        lambda: jaxem.m_step(IMAGES, jaxem.Posterior(PROBS[:3]), (2, 3)),
        ValueError,
        r"posterior.probs.*\(4, 5, 6\).*\(3, 5, 6\)",
    ),
    "probabilities without a name": (lambda: jaxem.m_step(IMAGES, PROBS, (2, 3)), TypeError, "posterior.*ndarray"),
    "fractional corners": (
        lambda: jaxem.elbo(IMAGES, PARAMS, jaxem.Positions(CORNERS + 0.5)),
        TypeError,
        "positions.corners.*integers.*float64",
    ),
    "corners outside": (
        lambda: jaxem.m_step(IMAGES, jaxem.Positions(CORNERS + np.array([5, 0])), (2, 3)),
        ValueError,
        r"positions.corners.*\(4, 5\).*image 0 has \(5, 0\)",
    ),
    "negative corners": (
        lambda: jaxem.m_step(IMAGES, jaxem.Positions(CORNERS - np.array([0, 1])), (2, 3)),
        ValueError,
        r"positions.corners.*image 0 has \(0, -1\)",
    ),
    "many old-style keys": (
        lambda: jaxem.random_params(jax.random.split(jax.random.PRNGKey(0)), IMAGES, (2, 3)),
        TypeError,
        r"one random key.*\(2, 2\)",
    ),
    "corners of other images": (
        lambda: jaxem.m_step(IMAGES, jaxem.Positions(CORNERS[:2]), (2, 3)),
        ValueError,
        r"positions.corners.*\(4, 2\).*\(2, 2\)",
    ),
    "negative smoothing": (lambda: jaxem.fit(IMAGES, PARAMS, prior_smoothing=-1), ValueError, "prior_smoothing.*0.*-1"),
    "smoothing that is no number": (
        lambda: jaxem.m_step(IMAGES, jaxem.Posterior(PROBS), (2, 3), prior_smoothing=np.nan),
        ValueError,
        "prior_smoothing.*nan",
    ),
    "a tolerance per image": (
        lambda: jaxem.fit(IMAGES, PARAMS, tolerance=np.ones(4)),
        ValueError,
        r"tolerance.*\(4,\)",
    ),
    "negative iterations": (lambda: jaxem.fit(IMAGES, PARAMS, max_iterations=-1), ValueError, "max_iterations.*-1"),
    "half an iteration": (lambda: jaxem.fit(IMAGES, PARAMS, max_iterations=2.5), TypeError, "max_iterations.*2.5"),
    "empty batches": (lambda: jaxem.fit(IMAGES, PARAMS, batch_size=0), ValueError, "batch_size.*0"),
    "no restart": (lambda: jaxem.fit_restarts(KEY, IMAGES, (2, 3), num_restarts=0), ValueError, "num_restarts.*1.*0"),
    "a seed for a key": (lambda: jaxem.fit_restarts(0, IMAGES, (2, 3)), TypeError, r"key.*jax.random.key\(0\).*0"),
    "many keys": (lambda: jaxem.random_params(jax.random.split(KEY), IMAGES, (2, 3)), TypeError, "one random key"),
    "images for a key": (
        lambda: jaxem.fit_restarts(IMAGES, KEY, (2, 3)),
        TypeError,
        r"^key .*\(4, 6, 8\).*a key comes before the images",
    ),
    "a key for images": (lambda: jaxem.e_step(KEY, PARAMS), TypeError, "^images .*a random key: a key comes before"),
    "params for images": (lambda: jaxem.fit(PARAMS, IMAGES), TypeError, "^images .*Params: images come before params"),
    "images for params": (lambda: jaxem.fit(IMAGES, IMAGES), TypeError, "^params .*images come before params"),
    "params for a model": (lambda: jaxem.locate(PARAMS, IMAGES), TypeError, "^model .*images come before the model"),
    "a result for params": (
        lambda: jaxem.fit(IMAGES, jaxem.fit(IMAGES, PARAMS, max_iterations=1)),
        TypeError,
        r"^params .*Fit.*\.params",
    ),
    "rows of pixels": (
        lambda: jaxem.fit_restarts(KEY, IMAGES[:, 0], (1, 3)),
        ValueError,
        r"^images .*\(4, 8\).*images\[None\].*one alone.*images\[:, None, :\]",
    ),
    "images of several shapes": (
        lambda: jaxem.fit([*IMAGES, IMAGES[0, :3]], PARAMS),
        TypeError,
        "^images .*one array.*list.*different shapes",
    ),
    "masked images": (
        lambda: jaxem.fit(np.ma.masked_greater(IMAGES, 0.9), PARAMS),
        TypeError,
        r"^images must not be masked.*weights=~images\.mask",
    ),
    "a side for a template shape": (
        lambda: jaxem.fit_restarts(KEY, IMAGES, 3),
        TypeError,
        r"^template_shape .*\(h, w\).*a square is \(3, 3\)",
    ),
    "negative noise": (
        lambda: jaxem.fit(IMAGES, PARAMS._replace(noise_scale=-0.5)),
        ValueError,
        "^params.noise_scale must not be negative.*-0.5",
    ),
    "negative probabilities": (
        lambda: jaxem.e_step(IMAGES, PARAMS._replace(prior=PARAMS.prior - 0.5)),
        ValueError,
        "^params.prior must not be negative.*-0.466667",
    ),
    "a negative tolerance": (
        lambda: jaxem.fit_restarts(KEY, IMAGES, (2, 3), tolerance=-0.5),
        ValueError,
        "^tolerance must be at least 0, or minus infinity.*-0.5",
    ),
    "a tolerance that is no number": (
        lambda: jaxem.fit(IMAGES, PARAMS, tolerance=np.nan),
        ValueError,
        "tolerance.*NaN",
    ),
    "weights of images": (
        lambda: jaxem.fit(IMAGES, PARAMS, weights=np.ones(4)),
        ValueError,
        r"^weights .*\(4,\).*frame_weights",
    ),
    "frame weights of others": (
        lambda: jaxem.fit(IMAGES, PARAMS, frame_weights=np.ones(3)),
        ValueError,
        r"^frame_weights .*\(4,\).*\(3,\)",
    ),
    "weights that are no numbers": (
        lambda: jaxem.fit(IMAGES, PARAMS, weights=np.full((6, 8), np.nan)),
        ValueError,
        "^weights must be finite",
    ),
    "no images to draw": (lambda: jaxem.simulate(KEY, PARAMS, 0), ValueError, "num_images.*0"),
}


@pytest.mark.parametrize("name", CASES)
def test_one_sentence(name):
    call, error, pattern = CASES[name]
    with pytest.raises(error, match=pattern) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_the_same_while_tracing():
    with pytest.raises(ValueError, match="images must have shape"):
        jax.jit(jaxem.log_likelihood)(jnp.zeros((6, 8)), PARAMS)
    with pytest.raises(TypeError, match="known before tracing"):
        jax.jit(lambda n: jaxem.fit(IMAGES, PARAMS, max_iterations=n))(3)


def test_both_styles_of_keys_are_one_program(compilations):
    def draw(key):
        return np.asarray(jaxem.random_params(key, IMAGES, (2, 3)).template)

    expected, old = draw(KEY), jax.random.PRNGKey(0)
    before = len(compilations)
    np.testing.assert_array_equal(draw(old), expected)
    assert len(compilations) == before > 0
    with pytest.raises(TypeError, match=r"one random key.*\(3,\) and dtype uint32"):
        draw(jnp.zeros(3, jnp.uint32))
    np.testing.assert_array_equal(jax.jit(draw_traced)(old), expected)


def draw_traced(key):
    return jaxem.random_params(key, IMAGES, (2, 3)).template


def with_pixel(value, dtype=np.float32):
    images = IMAGES.astype(dtype)
    images[2, 3, 4] = value
    return images


MISSING = {
    "fit": lambda images, **options: jaxem.fit(images, PARAMS, **options),
    "fit_restarts": lambda images, **options: jaxem.fit_restarts(KEY, images, (2, 3), **options),
    "fit_restarts_parallel": lambda images, **options: jaxem.fit_restarts_parallel(KEY, images, (2, 3), **options),
    "e_step": lambda images, **options: jaxem.e_step(images, PARAMS, **options),
    "elbo": lambda images, **options: jaxem.elbo(images, PARAMS, jaxem.Posterior(PROBS), **options),
    "log_likelihood": lambda images, **options: jaxem.log_likelihood(images, PARAMS, **options),
    "locate": lambda images, **options: jaxem.locate(images, PARAMS, **options),
    "standard_errors": lambda images, **options: jaxem.standard_errors(images, PARAMS, **options),
    "detection_test": lambda images, **options: jaxem.detection_test(KEY, images, (2, 3), **options),
}


@pytest.mark.parametrize("name", MISSING)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_that_are_no_numbers_are_named_with_the_remedy(name, value):
    for images in (with_pixel(value), jnp.asarray(with_pixel(value))):
        with pytest.raises(ValueError, match=r"^images hold NaN.* 1 pixel, first in image 2: .*weights=jnp.isfinite"):
            MISSING[name](images)


def test_pixels_that_are_no_numbers_may_stand_where_nothing_counts():
    images = with_pixel(np.nan)
    seen = jnp.isfinite(images)
    expected = jaxem.fit(np.nan_to_num(images), PARAMS, weights=seen)
    for given in (images, jnp.asarray(images)):
        np.testing.assert_array_equal(jaxem.fit(given, PARAMS, weights=seen).elbo, expected.elbo)
        assert np.isfinite(jaxem.fit(given, PARAMS, frame_weights=[1, 1, 0, 1]).elbo)
        assert np.isfinite(jaxem.e_step(given, PARAMS, weights=seen.all(axis=0)).log_evidence).all()
        for counted in ({"weights": seen.at[2, 3, 4].set(True)}, {"frame_weights": [0, 0, 1, 1]}):
            with pytest.raises(ValueError, match="1 pixel, first in image 2"):
                jaxem.fit(given, PARAMS, **counted)


def test_pixels_beyond_single_precision_are_infinite_in_it(monkeypatch):
    monkeypatch.setattr(validation, "floating", lambda dtype: np.dtype("float32"))
    with pytest.raises(ValueError, match="NaN or infinity in 1 pixel"):
        jaxem.fit(with_pixel(1e300, np.float64), PARAMS)


def test_in_colour_the_remedy_has_no_channels():
    images = np.stack([with_pixel(np.nan)] * 3, axis=-1)
    with pytest.raises(ValueError, match=r" 1 pixel, .*weights=jnp.isfinite\(images\).all\(axis=-1\)"):
        jaxem.fit_restarts(KEY, images, (2, 3))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_under_jit_they_show_in_the_result(value):
    images = with_pixel(value)
    run = jax.jit(lambda images: jaxem.fit(images, PARAMS))(images)
    assert jaxem.Status(int(run.status)) == jaxem.Status.NONFINITE
    assert np.isnan(run.elbo)
    assert not np.isfinite(jax.jit(lambda images: jaxem.log_likelihood(images, PARAMS))(images)[2])


def test_what_is_on_a_device_is_looked_at_there(monkeypatch):
    monkeypatch.setattr(validation, "_is_host_memory", lambda array: False)
    images = jnp.asarray(with_pixel(np.nan))
    with pytest.raises(ValueError, match="1 pixel, first in image 2"):
        jaxem.log_likelihood(images, PARAMS)
    assert np.isfinite(jaxem.log_likelihood(images, PARAMS, weights=jnp.isfinite(images))).all()
    jax.jit(lambda params: jaxem.log_likelihood(jnp.asarray(IMAGES), params))(PARAMS)  # a constant of what is traced
