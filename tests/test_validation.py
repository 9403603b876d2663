"""Every wrong argument ends in one sentence that names it, what came, and what would do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxem

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


def test_old_style_keys_will_do():
    assert jaxem.random_params(jax.random.PRNGKey(0), IMAGES, (2, 3)).template.shape == (2, 3)
