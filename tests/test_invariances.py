"""jit, vmap, grad; dtypes; and what compiles when."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import cast, random_problem, random_probs

import jaxem

STACK, TEMPLATE = (6, 5, 8), (2, 3)


@pytest.fixture
def problem(dtype):
    images, params = random_problem(np.random.default_rng(21), STACK, TEMPLATE)
    return jnp.asarray(images, dtype), jax.tree.map(jnp.asarray, cast(params, dtype))


def functions(images, params):
    """Every public function of arrays, as functions of (images, params) alone."""
    probs = random_probs(np.random.default_rng(22), len(images), params.prior.shape)
    soft = jaxem.Posterior(jnp.asarray(probs, images.dtype))
    hard = jaxem.Positions(jnp.zeros((len(images), 2), jnp.int32) + 1)
    return {
        "e_step": jaxem.e_step,
        "hard e_step": functools.partial(jaxem.e_step, hard=True),
        "m_step": lambda x, p: jaxem.m_step(x, soft, TEMPLATE, prior_smoothing=1.0),
        "hard m_step": lambda x, p: jaxem.m_step(x, hard, TEMPLATE),
        "elbo": lambda x, p: jaxem.elbo(x, p, soft),
        "hard elbo": lambda x, p: jaxem.elbo(x, p, hard),
        "log_likelihood": jaxem.log_likelihood,
        "fit": functools.partial(jaxem.fit, max_iterations=3),
        "hard fit": functools.partial(jaxem.fit, max_iterations=3, hard=True, prior_smoothing=1.0),
        "fit_restarts": lambda x, p: jaxem.fit_restarts(
            jax.random.key(0), x, TEMPLATE, num_restarts=2, max_iterations=3, search=None
        ),
        "searching fit_restarts": lambda x, p: jaxem.fit_restarts(
            jax.random.key(0),
            x,
            TEMPLATE,
            max_iterations=3,
            search=jaxem.Search(annealing_steps=3, prior_annealing_steps=2),
        ),
        "random_params": lambda x, p: jaxem.random_params(jax.random.key(0), x, TEMPLATE),
        "simulate": lambda x, p: jaxem.simulate(jax.random.key(0), p, 4),
    }


NAMES = list(functions(jnp.zeros(STACK), jaxem.Params(*(jnp.ones((4, 6)),) * 4)))


def same(one, other, rtol):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


@pytest.mark.parametrize("name", NAMES)
def test_dtypes_follow_the_images_and_jit_and_vmap_change_nothing(problem, dtype, name):
    if dtype == np.float64 and "fit" in name:
        pytest.skip("compiles for long, and test_oracle has it")
    images, params = problem
    function = functions(images, params)[name]
    plain = function(images, params)
    for leaf in jax.tree.leaves(plain):
        assert leaf.dtype in (dtype, np.dtype("int32"), np.dtype("bool"))
    jax.jit(function).lower(images, params)  # traces; what it computes is compared below
    if dtype == np.float32:
        doubled = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), (images, params))
        lanes = jax.jit(jax.vmap(function))(*doubled)
        for lane in range(2):
            same(jax.tree.map(lambda leaf, lane=lane: leaf[lane], lanes), plain, 2e-4)


@pytest.mark.parametrize("dtype", ["widest"], indirect=True)
def test_vmap_over_starts_alone(problem, dtype):
    images, params = problem
    starts = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf * 0.9]), params)
    lanes = jax.vmap(jaxem.fit, in_axes=(None, 0))(images, starts)
    single = jaxem.fit(images, jax.tree.map(lambda leaf: leaf[1], starts))
    same(jax.tree.map(lambda leaf: leaf[1], lanes), single, 1e-3 if dtype == np.float32 else 1e-9)


@pytest.mark.parametrize("name", ["log_likelihood", "elbo", "hard elbo"])
def test_gradients_are_those_of_finite_differences(name):
    if not jax.config.jax_enable_x64:
        pytest.skip("float64 is switched off")
    images, params = random_problem(np.random.default_rng(23), STACK, TEMPLATE)
    params = jax.tree.map(jnp.asarray, params)
    function = functions(images, params)[name]
    total = jax.jit(lambda theta: jnp.sum(function(images, theta)))
    gradient = jax.grad(total)(params)
    rng = np.random.default_rng(24)
    direction = jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), params)
    slope = sum(jnp.vdot(a, b) for a, b in zip(*map(jax.tree.leaves, (gradient, direction)), strict=True))
    step = 1e-6
    ahead, behind = (
        total(jax.tree.map(lambda p, d, sign=sign: p + sign * step * d, params, direction)) for sign in (1, -1)
    )
    np.testing.assert_allclose((ahead - behind) / (2 * step), slope, rtol=1e-6)


def test_gradients_are_finite_where_the_prior_and_the_posterior_are_zero(problem):
    images, params = problem
    params = params._replace(prior=params.prior.at[1].set(0.0))
    posterior = jaxem.e_step(images, params)
    assert (posterior.probs[:, 1] == 0).all()
    evidence = jaxem.log_likelihood(images, params).sum()
    np.testing.assert_allclose(jaxem.elbo(images, params, posterior), evidence, rtol=1e-5)
    for function in (
        lambda p: jaxem.log_likelihood(images, p).sum(),
        lambda p: jaxem.elbo(images, p, posterior),
    ):
        assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(jax.grad(function)(params)))


def test_the_second_call_compiles_nothing(problem, compilations):
    images, params = problem
    jaxem.fit(images, params)
    jaxem.fit_restarts(jax.random.key(0), images, TEMPLATE, num_restarts=2)
    jaxem.m_step(images, jaxem.e_step(images, params), TEMPLATE)
    assert compilations
    before = len(compilations)
    jaxem.fit(images, params, tolerance=0.25, prior_smoothing=3)
    jaxem.fit(images, params, tolerance=1e-3, prior_smoothing=np.float32(1.5))
    jaxem.fit_restarts(jax.random.key(7), images, TEMPLATE, num_restarts=2, tolerance=0, prior_smoothing=1.0)
    jaxem.m_step(images, jaxem.e_step(images, params), list(TEMPLATE), prior_smoothing=np.array(2))
    assert len(compilations) == before


def test_importing_changes_no_configuration_and_needs_no_extra():
    import subprocess
    import sys

    code = (
        "import sys, jax; before = dict(jax.config.values); import jaxem; assert before == dict(jax.config.values)\n"
        "extras = {'matplotlib', 'imageio', 'tifffile', 'typer', 'rich', 'skimage', 'scipy'} & set(sys.modules)\n"
        "assert not extras - {'scipy'}, extras"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
