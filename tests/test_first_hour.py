"""What somebody tries in the first hour, each in a line that works as it is written here."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxem

SHAPE = (3, 4)


@pytest.fixture(scope="module")
def truth():
    rng = np.random.default_rng(3)
    template, background = rng.normal(size=SHAPE), rng.normal(size=(9, 11))
    return jaxem.Params(
        *(jnp.asarray(part, "float32") for part in (template, background, 0.2, np.full((7, 8), 1 / 56)))
    )


@pytest.fixture(scope="module")
def drawn(truth):
    return jaxem.simulate(jax.random.key(0), truth, num_images=80)


@pytest.fixture(scope="module")
def images(drawn):
    return np.asarray(drawn[0])


@pytest.fixture(scope="module")
def found(images):
    return jaxem.fit_restarts(jax.random.key(1), images, SHAPE)


def test_print(found, capsys):
    print(found, found.best, found.summary(), *found.warnings(), found.best.params, sep="\n")
    assert "Restarts: converged" in capsys.readouterr().out


def test_plot(found, images, tmp_path):
    jaxem.plots.summary(found, images).savefig(tmp_path / "found.png")
    assert (tmp_path / "found.png").stat().st_size > 10_000


def test_locate(found, images, drawn):
    places = jaxem.locate(images[:30], found)
    assert (places.corners == drawn[1][:30]).all(axis=1).mean() > 0.9


def test_save_and_load(found, tmp_path):
    jaxem.save(tmp_path / "found.npz", found)
    back = jaxem.load(tmp_path / "found.npz")
    np.testing.assert_array_equal(back.best.params.template, found.best.params.template)


def test_progress(images, found, capfd):
    watched = jaxem.fit_restarts_parallel(jax.random.key(1), images, SHAPE, progress=True)
    assert capfd.readouterr().err
    np.testing.assert_allclose(watched.best.elbo, found.best.elbo, rtol=1e-4)


def test_own_start(images, truth, found):
    mine = jaxem.fit(images, truth._replace(template=truth.template + 0.3))
    assert jaxem.Status(int(mine.status)) == jaxem.Status.CONVERGED
    np.testing.assert_allclose(mine.elbo, found.best.elbo, rtol=1e-3)


def test_double_precision(images, truth):
    if not jax.config.jax_enable_x64:
        pytest.skip("float64 is switched off")
    assert jaxem.fit(images.astype("float64"), truth).params.template.dtype == np.float64


def test_vmap_over_noise(images, truth):
    many = jax.vmap(lambda noise: jaxem.fit(images, truth._replace(noise_scale=noise)))(jnp.array([0.1, 0.2, 0.4]))
    assert many.elbo.shape == (3,)
    assert "3 converged" in many.summary()


def test_restarts_by_number(images, found):
    more = jaxem.fit_restarts(jax.random.PRNGKey(1), images, SHAPE, num_restarts=3, search=None)
    assert len(more.runs.elbo) == 3
    assert more.best.elbo < found.best.elbo + 1


def test_frames_as_they_come(images, truth):
    """A list, in half precision, in whole numbers: nothing has to be converted."""
    expected = jaxem.fit(images, truth).params.template
    for frames in (list(images), images.astype("float16")):
        given = jaxem.fit(frames, truth).params.template
        assert given.dtype == np.float32
        np.testing.assert_allclose(given, expected, atol=0.01)
    thousandths = truth._replace(template=1000 * truth.template, background=1000 * truth.background, noise_scale=200)
    given = jaxem.fit(np.rint(1000 * images).astype("int16"), thousandths).params.template
    np.testing.assert_allclose(given / 1000, expected, atol=0.01)


def test_missing_pixels(images, found):
    broken = np.where(np.random.default_rng(0).random(images.shape) < 0.02, np.nan, images)
    given = jaxem.fit(broken, found.best.params, weights=jnp.isfinite(broken))
    np.testing.assert_allclose(given.params.template, found.best.params.template, atol=0.1)
    with pytest.raises(ValueError, match=r"weights=jnp.isfinite\(images\)"):
        jaxem.fit(broken, found.best.params)


def test_a_template_as_large_as_the_frames_is_warned_of(images):
    options = {"search": None, "num_restarts": 1, "max_iterations": 2}
    whole = jaxem.fit_restarts(jax.random.key(1), images, (9, 11), **options)
    assert "one-place" in [remark.code for remark in whole.remarks()]
    assert "hidden-background" not in [remark.code for remark in whole.remarks()]
