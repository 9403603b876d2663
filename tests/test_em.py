"""How a run ends, what it reports, and that it never calls a failure a success."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from problems import random_params, sample

import jaxem
from jaxem import Status
from jaxem.model.frames import Frames
from jaxem.model.workspace import make_workspace
from jaxem.solvers import em
from jaxem.solvers.options import em_options
from jaxem.solvers.squarem import extrapolate

SHAPE = (4, 5)


@pytest.fixture
def problem(dtype):
    return make_problem(dtype)


def make_problem(dtype):
    rng = np.random.default_rng(31)
    truth = random_params(rng, (12, 14), SHAPE, noise_scale=0.3)
    images, _ = sample(rng, truth._replace(prior=np.full((9, 10), 1 / 90)), 60)
    start = jaxem.random_params(jax.random.key(2), images.astype(dtype), SHAPE)
    return images.astype(dtype), start


def consistent(fit, max_iterations=50):
    """What every `Fit` promises, however it ended."""
    n = int(fit.num_iterations)
    assert fit.history.shape == (max_iterations + 1,)
    assert np.isnan(fit.history[n + 1 :]).all()
    np.testing.assert_array_equal(fit.history[n], fit.elbo)
    assert fit.status != Status.RUNNING
    if fit.status in (Status.CONVERGED, Status.MAX_ITERATIONS):
        assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(fit.params))
        assert np.isfinite(fit.elbo)
    return Status(int(fit.status))


def test_a_run_converges_and_reports_the_objective_of_what_it_returns(problem, dtype):
    images, start = problem
    fit = jaxem.fit(images, start)
    assert consistent(fit) == Status.CONVERGED
    rtol = 1e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(fit.elbo, jaxem.log_likelihood(images, fit.params).sum(), rtol=rtol)
    np.testing.assert_allclose(fit.history[0], jaxem.log_likelihood(images, start).sum(), rtol=rtol)
    gains = np.diff(fit.history[: int(fit.num_iterations) + 1])
    assert gains[-1] < 1e-3 * len(images)
    assert (gains[:-1] >= 1e-3 * len(images)).all()


@pytest.mark.parametrize("dtype", ["widest"], indirect=True)
def test_the_tolerance_is_a_gain_per_image(problem):
    images, start = problem
    counts = [int(jaxem.fit(images, start, tolerance=t).num_iterations) for t in (100, 1, 1e-3, 1e-6)]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


@pytest.mark.parametrize("dtype", ["widest"], indirect=True)
def test_iterations_run_out(problem):
    images, start = problem
    fit = jaxem.fit(images, start, max_iterations=2)
    assert consistent(fit, 2) == Status.MAX_ITERATIONS
    none = jaxem.fit(images, start, max_iterations=0)
    assert consistent(none, 0) == Status.MAX_ITERATIONS
    for kept, given in zip(*map(jax.tree.leaves, (none.params, start)), strict=True):
        np.testing.assert_array_equal(kept, given)


def test_batches_change_nothing_but_rounding(problem, dtype):
    images, start = problem
    rtol = 1e-4 if dtype == np.float32 else 1e-10
    whole = jaxem.fit(images, start, batch_size=60, max_iterations=5)
    batched = jaxem.fit(images, start, batch_size=7, max_iterations=5)
    for a, b in zip(jax.tree.leaves(batched), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


def run_untraced(images, start, tolerance, hard=False):
    """`fit` without its compiled cache, for what is broken on purpose."""
    options = em_options(
        images, hard=hard, prior_smoothing=0.0, max_iterations=20, tolerance=tolerance, batch_size=None
    )
    return em.EM(make_workspace(Frames(jnp.asarray(images)), options.batch_size), options).run(start)


@pytest.mark.parametrize("dtype", ["widest"], indirect=True)
def test_a_fall_is_reported_and_not_called_converged(problem, monkeypatch):
    """A real step cannot fall, so one is broken on purpose: the third M-step forgets its template."""
    images, start = problem
    update = em.update
    monkeypatch.setattr(
        em, "update", lambda *args, **options: (p := update(*args, **options))._replace(template=p.template * 0.5)
    )
    fit = run_untraced(images, start, tolerance=-jnp.inf)
    assert consistent(fit, 20) == Status.DECREASED


@pytest.mark.parametrize("dtype", ["widest"], indirect=True)
@pytest.mark.parametrize(("field", "value", "hard"), [("background", jnp.inf, False), ("prior", 0.0, True)])
def test_a_nonfinite_step_is_rejected(problem, monkeypatch, field, value, hard):
    """An infinite background makes the objective NaN, an impossible prior minus infinity."""
    images, start = problem
    reached = 1.02 * jaxem.fit(images, start, hard=hard).params.noise_scale
    update = em.update

    def overflow(*args, **options):
        params = update(*args, **options)
        broken = jnp.where(params.noise_scale < reached, value, getattr(params, field))
        return params._replace(**{field: broken})

    monkeypatch.setattr(em, "update", overflow)
    fit = run_untraced(images, start, tolerance=1e-3, hard=hard)
    assert consistent(fit, 20) == Status.NONFINITE
    assert 0 < fit.num_iterations < 20
    assert np.isfinite(fit.elbo)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(fit.params))


@pytest.mark.parametrize("hard", [False, True])
class TestDegenerateData:
    """In single precision alone, where less is left when something degenerates."""

    @pytest.fixture
    def problem(self):
        return make_problem(np.dtype("float32"))

    def test_one_bad_pixel(self, problem, hard):
        """Under ``jit``, where nobody can look at it first."""
        images, start = problem
        run = jax.jit(lambda images: jaxem.fit(images, start, hard=hard))
        search = jax.jit(lambda images: jaxem.fit_restarts(jax.random.key(0), images, SHAPE, num_restarts=3, hard=hard))
        for bad in (np.nan, np.inf, -np.inf):
            broken = images.copy()
            broken[3, 4, 5] = bad
            fit = run(broken)
            assert consistent(fit) == Status.NONFINITE
            assert fit.num_iterations == 0
            for kept, given in zip(*map(jax.tree.leaves, (fit.params, start)), strict=True):
                np.testing.assert_array_equal(kept, given)
            found = search(broken)
            assert set(found.runs.status.tolist()) == {Status.NONFINITE}
            assert not np.isfinite(found.best.elbo)
            assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(found.best.params))

    @pytest.mark.parametrize("value", [0.0, 0.1, -7.0, 1e6])
    def test_a_constant_stack(self, problem, hard, value):
        images, _ = problem
        found = jaxem.fit_restarts(
            jax.random.key(0), np.full_like(images, value), SHAPE, num_restarts=2, hard=hard
        ).best
        consistent(found)
        eps = np.finfo(images.dtype).eps
        for part in (found.params.template, found.params.background):
            np.testing.assert_allclose(part, value, rtol=4 * eps)
        assert max(0.5 * eps * abs(value), 1e-9) < found.params.noise_scale <= max(4 * eps * abs(value), eps)

    def test_pixels_of_any_size(self, problem, hard):
        """Squares of such pixels overflow or vanish in single precision; their own size is the unit."""
        images, start = problem
        usual = jaxem.fit(images, start, hard=hard, max_iterations=5)
        for power in (-70, 70):
            factor = 2.0**power
            scaled = start._replace(
                **{n: getattr(start, n) * factor for n in ("template", "background", "noise_scale")}
            )
            fit = jaxem.fit(images * np.float32(factor), scaled, hard=hard, max_iterations=5)
            assert fit.status == usual.status
            np.testing.assert_allclose(fit.params.template / factor, usual.params.template, rtol=1e-4, atol=1e-4)
            np.testing.assert_allclose(fit.params.noise_scale / factor, usual.params.noise_scale, rtol=1e-4)
            np.testing.assert_allclose(float(fit.elbo) + images.size * power * np.log(2), usual.elbo, rtol=1e-5, atol=2)

    def test_duplicate_frames(self, problem, hard):
        images, start = problem
        again = jaxem.fit(np.concatenate([images, images]), start, hard=hard)
        assert consistent(again) == Status.CONVERGED
        np.testing.assert_allclose(
            again.params.template, jaxem.fit(images, start, hard=hard).params.template, atol=1e-3
        )
        # One frame many times: any place explains it perfectly, and the noise stops at what the numbers resolve.
        alone = jaxem.fit(np.repeat(images[:1], 20, axis=0), start, hard=hard)
        consistent(alone)
        resolved = np.sqrt(np.finfo(images.dtype).eps) * images[0].std()
        np.testing.assert_allclose(alone.params.noise_scale, resolved, rtol=0.01)

    def test_a_start_without_noise(self, problem, hard):
        images, start = problem
        warm = jaxem.fit(images, start, hard=hard).params
        fit = jaxem.fit(images, warm._replace(noise_scale=0.0), hard=hard)
        assert consistent(fit) == Status.CONVERGED
        np.testing.assert_allclose(fit.params.noise_scale, warm.noise_scale, rtol=0.05)

    def test_a_prior_row_of_zeros_stays_impossible(self, problem, hard):
        images, start = problem
        prior = np.full((9, 10), 1 / 80)
        prior[2] = 0
        fit = jaxem.fit(images, start._replace(prior=prior), hard=hard)
        assert consistent(fit) == Status.CONVERGED
        assert (fit.params.prior[2] == 0).all()
        assert (jaxem.e_step(images, fit.params, hard=True).corners[:, 0] != 2).all()

    def test_a_prior_of_zeros_or_with_nan_is_no_start(self, problem, hard):
        images, start = problem
        one_nan = np.array(start.prior)
        one_nan[3, 4] = np.nan
        for alpha in (0.0, 6.0):
            for prior in (np.zeros((9, 10)), one_nan):
                fit = jaxem.fit(images, start._replace(prior=prior), hard=hard, prior_smoothing=alpha)
                assert consistent(fit) == Status.NONFINITE


def test_pixels_never_uncovered_get_the_mean_image(problem):
    """A template as wide as the image at one of two heights covers the rows between in every image."""
    images, _ = problem
    corners = np.stack([np.arange(60) % 2, np.zeros(60, int)], axis=1)
    params = jaxem.m_step(images, jaxem.Positions(corners), (4, 14))
    np.testing.assert_allclose(params.background[1:4], images.mean(axis=0)[1:4], rtol=1e-5)
    np.testing.assert_allclose(params.background[0], images[1::2].mean(axis=0)[0], rtol=1e-5)

    # Probabilities leave rounding of what is seen there, which must not pass for a view.
    weights = np.random.default_rng(3).dirichlet([0.3, 0.7], size=60).astype(images.dtype)[:, :, None]
    soft = jaxem.m_step(images[:, :5], jaxem.Posterior(weights), (4, 14))
    np.testing.assert_allclose(soft.background[1:4], images.mean(axis=0)[1:4], rtol=1e-5)

    # One view in sixty is a view.
    corners = np.zeros((60, 2), int)
    corners[17] = [5, 0]
    once = jaxem.m_step(images, jaxem.Positions(corners), (4, 14))
    np.testing.assert_allclose(once.background[:4], images[17, :4], rtol=1e-4, atol=1e-4)


def test_single_precision_does_not_freeze_positions():
    """Large windows and little noise: far off the best corner probabilities underflow in float32, not in float64."""
    rng = np.random.default_rng(33)
    truth = random_params(rng, (40, 50), (20, 24), noise_scale=0.3)
    images, _ = sample(rng, truth._replace(prior=np.full((21, 27), 1 / 567)), 30)
    images = images.astype("float32")
    fit = jaxem.fit(images, jaxem.random_params(jax.random.key(1), images, (20, 24)), max_iterations=2)
    assert (jaxem.e_step(images, fit.params).probs == 0).any()
    assert (fit.params.prior > 0).all()


@pytest.mark.parametrize("dtype", ["widest"], indirect=True)
def test_nothing_gained_is_an_end(problem):
    images, start = problem
    assert consistent(jaxem.fit(images, start, hard=True, tolerance=0.0)) == Status.CONVERGED


@pytest.mark.parametrize("dtype", ["widest"], indirect=True)
def test_negative_smoothing_that_only_shows_when_run(problem):
    images, start = problem
    fit = jax.jit(lambda alpha: jaxem.fit(images, start, prior_smoothing=alpha))(-3.0)
    assert consistent(fit) == Status.NONFINITE
    alpha = jnp.asarray(1.0, images.dtype)
    closed_over = jax.jit(lambda x: jaxem.fit(x, start, prior_smoothing=alpha))(images)
    assert consistent(closed_over) == Status.CONVERGED


def test_every_status_explains_itself():
    names = ["RUNNING", "CONVERGED", "MAX_ITERATIONS", "DECREASED", "NONFINITE", "ABANDONED"]
    assert [status.name for status in Status] == names
    assert len({status.explanation for status in Status}) == 6


class TestAcceleration:
    def test_a_linear_map_is_solved_in_one_extrapolation(self):
        """Where every coordinate shrinks by the same factor towards a point, the extrapolation ends at that point."""
        rng = np.random.default_rng(91)
        goal, away = rng.normal(size=(2, 3, 4)), rng.normal(size=(6, 7))
        prior = rng.dirichlet(np.ones(16)).reshape(4, 4)

        def at(distance):
            return jaxem.Params(goal[0] + distance * goal[1], 1.5 + distance * away, jnp.exp(0.3 * distance), prior)

        found = extrapolate(at(1.0), at(0.8), at(0.64))
        for leaf, expected in zip(found[:4], at(0.0)[:4], strict=True):
            np.testing.assert_allclose(leaf, expected, rtol=1e-5, atol=1e-5)

    def test_the_prior_stays_a_distribution_and_the_noise_positive(self):
        rng = np.random.default_rng(92)
        steps = [random_params(rng, (8, 9), (3, 4), noise_scale=0.1 + n) for n in range(3)]
        found = extrapolate(*steps)
        assert found.noise_scale > 0
        assert (found.prior >= 0).all()
        np.testing.assert_allclose(found.prior.sum(), 1, rtol=1e-6)

    def test_the_objective_never_falls_and_ends_as_high(self):
        rng = np.random.default_rng(93)
        truth = random_params(rng, (12, 14), (4, 5), noise_scale=1.6)._replace(prior=np.full((9, 10), 1 / 90))
        images = sample(rng, truth, 80)[0].astype(np.float32)
        options = {"max_iterations": 200, "tolerance": 1e-5}
        plain = jaxem.fit(images, truth, **options)
        faster = jaxem.fit(images, truth, accelerate=True, **options)
        assert Status(int(faster.status)) == Status.CONVERGED
        history = np.asarray(faster.history[: faster.num_iterations + 1])
        assert (np.diff(history) > -0.01).all()
        assert faster.elbo > plain.elbo - 0.05
        assert int(faster.num_iterations) < 0.8 * int(plain.num_iterations)
        assert faster.elbo == faster.history[faster.num_iterations]
