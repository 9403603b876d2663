"""The edges of the general model: what does not count may be anything; levels, weights and priors of any size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from general_problems import as_dtype, draw, template_shape_of
from test_general import OFF

import jaxem
from jaxem.assess import reference as oracle
from jaxem.model.expectation import expectation
from jaxem.model.frames import Frames, as_frames, pixel_moments
from jaxem.model.params import to_internal_units
from jaxem.model.workspace import center, make_workspace
from jaxem.search.initialization import draw_params
from jaxem.search.structure import Structure
from jaxem.solvers.diagnostics import diagnose
from jaxem.solvers.em import EM
from jaxem.solvers.options import em_options

MAX_STEPS = {"max_iterations": 3, "tolerance": -np.inf}


def same(one, other, **tolerance):
    """Two results, field by field."""
    for actual, expected in zip(*map(jax.tree.leaves, (one, other)), strict=True):
        np.testing.assert_allclose(actual, expected, **({"rtol": 1e-4, "atol": 1e-4} | tolerance))


def at_levels(problem, levels):
    """A problem whose channels lie at other levels."""
    shift = np.asarray(levels)
    params = problem.params._replace(
        template=problem.params.template + shift, background=problem.params.background + shift
    )
    return problem._replace(images=problem.images + shift, params=params)


@pytest.mark.parametrize("channels", ["2", "2 noises"])
def test_channels_of_very_different_levels_lose_nothing(channels):
    problem = draw(20, **OFF | {"channels": channels, "absent": True})
    levels = np.array([2.0**17, 0.0])
    far = at_levels(problem._replace(images=np.round(problem.images * 64) / 64), levels)
    near = far.images - levels
    single = as_dtype(far, np.float32)
    params = single.params._replace(  # pictures that single precision can hold, too
        template=(np.round(problem.params.template * 64) / 64 + levels).astype(np.float32),
        background=(np.round(problem.params.background * 64) / 64 + levels).astype(np.float32),
    )
    rounded = jaxem.Params(*(None if leaf is None else np.asarray(leaf, float) for leaf in params))
    rounded = rounded._replace(template=rounded.template - levels, background=rounded.background - levels)
    exact = oracle.log_likelihood(near, rounded)
    np.testing.assert_allclose(jaxem.log_likelihood(single.images, params), exact, rtol=1e-4)
    soft = jaxem.e_step(single.images, params)
    np.testing.assert_allclose(soft.probs, oracle.posterior(near, rounded), atol=1e-4)
    after = jaxem.m_step(single.images, soft, (3, 2), params=params)
    expected = oracle.m_step(near, np.asarray(soft.probs, float), rounded, absent=np.asarray(soft.absent, float))
    np.testing.assert_allclose(np.asarray(after.template, float) - levels, expected.template, atol=2e-2)  # 2^17 eps
    variance = expected.variance if channels == "2 noises" else expected.variance.mean()
    np.testing.assert_allclose(after.noise_scale**2, variance, rtol=1e-3)


def test_the_noise_floor_is_each_channels_own():
    problem = draw(21, **OFF | {"channels": "2 noises"})
    levels = np.array([1e6, 0.0])
    params = problem.params._replace(noise_scale=np.array([0.0, 0.0]))
    single = as_dtype(at_levels(problem._replace(params=params), levels), np.float32)
    floors = np.asarray(
        jaxem.fit(single.images, single.params, fixed="noise_scale", max_iterations=1).params.noise_scale
    )
    np.testing.assert_array_equal(floors, 0)  # held, whatever it counts as
    floor = np.sqrt(center(as_frames(single.images)).variance_floor)
    assert floor[0] > 0.05
    assert floor[1] < 1e-2


def test_random_starts_have_each_channels_mean_and_spread():
    rng = np.random.default_rng(0)
    images = (np.array([100.0, -3.0]) + np.array([10.0, 0.1]) * rng.normal(size=(9, 12, 13, 2))).astype(np.float32)
    moments = pixel_moments(as_frames(images), 4)
    np.testing.assert_allclose(moments.mean, images.mean(axis=(0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(moments.spread, images.std(axis=(0, 1, 2)), rtol=1e-4)
    blank = Structure((20, 30)).blank(jnp.zeros((1, 40, 50, 2), np.float32))
    start = draw_params(jax.random.key(0), moments, blank)
    assert start.template.shape == (20, 30, 2)
    for pixels in (start.template, start.background):
        assert (abs(pixels.mean(axis=(0, 1)) - moments.mean) < 0.2 * moments.spread).all()
        np.testing.assert_allclose(pixels.std(axis=(0, 1)), moments.spread, rtol=0.1)
    np.testing.assert_allclose(start.noise_scale, np.sqrt((moments.spread**2).mean()), rtol=1e-6)
    each = draw_params(jax.random.key(0), moments, blank._replace(noise_scale=jnp.ones(2, np.float32)))
    np.testing.assert_array_equal(each.noise_scale, moments.spread)


@pytest.mark.parametrize("chosen", [{"templates": "2"}, {"channels": "2"}, {"weights": "own", "transforms": 1}])
def test_pixels_outside_the_model_may_be_nan_and_stay_as_they_are(chosen):
    problem = draw(22, **OFF | {"support": True} | chosen)
    support = problem.params.opacity
    for axis in range(problem.params.template.ndim - support.ndim):
        support = np.expand_dims(support, -1 - axis)
    template = np.where(support > 0, problem.params.template, np.nan)
    weights = np.ones((5, 7)) if problem.weights is None else problem.weights
    weights = weights * (np.arange(35).reshape(5, 7) != 17)
    blind = (np.arange(35) == 17).reshape(5, 7, *[1] * (problem.params.background.ndim - 2))
    background = np.where(blind, np.nan, problem.params.background)
    given = {"weights": weights, "transforms": problem.transforms}
    plain = problem.params._replace(background=np.where(blind, -8.0, problem.params.background))
    with_nan = problem.params._replace(template=template, background=background)
    shape = template_shape_of(problem)
    for hard in (False, True):
        found = jaxem.fit(problem.images, with_nan, hard=hard, **given, **MAX_STEPS)
        expected = jaxem.fit(problem.images, plain, hard=hard, **given, **MAX_STEPS)
        np.testing.assert_allclose(found.history, expected.history, rtol=1e-6)
        np.testing.assert_array_equal(np.isnan(found.params.template), np.isnan(template))
        np.testing.assert_array_equal(np.isnan(found.params.background), np.broadcast_to(blind, background.shape))
        kept = np.broadcast_to(support == 0, template.shape)
        np.testing.assert_allclose(expected.params.template[kept], problem.params.template[kept], rtol=1e-6)
        np.testing.assert_array_equal(np.asarray(expected.params.background)[np.isnan(background)], -8)
        hidden = jaxem.e_step(problem.images, with_nan, hard=hard, **given)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(hidden))
        after = jaxem.m_step(problem.images, hidden, shape, params=with_nan, **given)
        np.testing.assert_array_equal(np.isnan(after.background), np.isnan(background))
        assert np.isfinite(jaxem.elbo(problem.images, with_nan, hidden, **given))


@pytest.mark.parametrize("held", [np.nan, np.inf, 1e30, -1e6])
@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_frames_that_count_for_nothing_may_hold_anything(held, hard, first):
    problem = as_dtype(draw(23, **OFF), np.float32)
    anything = np.full_like(problem.images[:1], held)
    together = (anything, problem.images) if first else (problem.images, anything)
    counts = np.array([0.0, 1, 1, 1, 1]) if first else np.array([1.0, 1, 1, 1, 0])
    alone = jaxem.fit(problem.images, problem.params, hard=hard, **MAX_STEPS)
    beside = jaxem.fit(np.concatenate(together), problem.params, hard=hard, frame_weights=counts, **MAX_STEPS)
    same(alone.params, beside.params)
    np.testing.assert_allclose(alone.history, beside.history, rtol=1e-5)
    hidden = jaxem.e_step(problem.images, problem.params, hard=hard)
    filled = jax.tree.map(lambda leaf: jnp.concatenate([leaf[:1], leaf] if first else [leaf, leaf[:1]]), hidden)
    after = jaxem.m_step(np.concatenate(together), filled, (3, 2), frame_weights=counts)
    same(after, jaxem.m_step(problem.images, hidden, (3, 2)))


def test_no_pass_over_the_pixels_copies_the_stack():
    stack, row = (jax.ShapeDtypeStruct(shape, np.float32) for shape in ((64, 32, 32), (64,)))
    for frames in (
        Frames(stack),
        Frames(stack, weights=stack),
        Frames(stack, frame_weights=row),
        Frames(stack, shared_weights=jax.ShapeDtypeStruct((32, 32), np.float32)),
    ):
        program = jax.jit(lambda frames: pixel_moments(frames, 4)).lower(frames).compile()
        assert program.memory_analysis().temp_size_in_bytes < 64 * 32 * 32 * 4 / 3


def test_what_does_not_count_is_seen_all_the_same():
    problem = draw(24, **OFF)
    found = jaxem.fit(problem.images, problem.params, frame_weights=np.array([0.0, 1, 1, 1]), max_iterations=0)
    np.testing.assert_array_equal(found.corners, jaxem.e_step(problem.images, problem.params, hard=True).corners)


@pytest.mark.parametrize("channels", ["none", "2"])
def test_pixels_never_seen_are_the_mean_where_nothing_is_known_of_them(channels):
    problem = draw(25, **OFF | {"channels": channels})
    weights = np.ones((4, 5, 7))
    weights[:, 2, 3] = 0
    images = np.where((weights > 0).reshape(4, 5, 7, *[1] * (problem.images.ndim - 3)), problem.images, np.nan)
    found = jaxem.m_step(images, jaxem.Positions(np.full((4, 2), (2, 3), int)), (3, 2), weights=weights)
    mean = np.nanmean(images, axis=(0, 1, 2))
    np.testing.assert_allclose(found.template[0, 0], mean, rtol=1e-5)
    np.testing.assert_allclose(found.background[2, 3], mean, rtol=1e-5)
    np.testing.assert_allclose(found.background[3, 3], images[:, 3, 3].mean(axis=0), rtol=1e-5)  # hidden, but observed


def test_pixels_that_nobody_observed_are_not_covered_by_the_template():
    problem = draw(26, **OFF)
    prior = np.zeros_like(problem.params.prior)
    prior[1, 2] = 1
    params, numbers = problem.params._replace(prior=prior), []
    for place in ((0, 0), (2, 3)):
        weights = np.ones((5, 7))
        weights[place] = 0
        found = jaxem.fit(problem.images, params, weights=weights, max_iterations=2)
        runs = jax.tree.map(lambda leaf: jnp.asarray(leaf)[None], found)
        workspace = make_workspace(as_frames(problem.images, weights), 2)
        diagnosed = diagnose(workspace, found, runs, jnp.int32(1), jnp.zeros_like(found.elbo))
        assert diagnosed.unseen[place]
        numbers.append((int(diagnosed.num_hidden), int(diagnosed.unseen.sum())))
    assert numbers == [(6, 7), (5, 6)]


def test_a_template_that_is_hardly_ever_there_still_learns():
    problem = as_dtype(draw(27, **OFF | {"templates": "2", "weights": "own"}), np.float32)
    probs = np.asarray(jaxem.e_step(problem.images, problem.params, weights=problem.weights).probs).copy()
    probs[:, 1] *= 1e-9
    for weights in (problem.weights, None):
        images = problem.images if weights is not None else np.nan_to_num(problem.images)
        found = jaxem.m_step(images, jaxem.Posterior(probs), (3, 2), params=problem.params, weights=weights)
        expected = oracle.m_step(np.asarray(images, float), np.asarray(probs, float), problem.params, weights=weights)
        np.testing.assert_allclose(found.template, expected.template, rtol=1e-3, atol=1e-3)
        gone = jaxem.Posterior(probs * np.array([1, 0], np.float32)[None, :, None, None])
        kept = jaxem.m_step(images, gone, (3, 2), params=problem.params, weights=weights)
        np.testing.assert_allclose(kept.template[1], problem.params.template[1], rtol=1e-6)


def numerically(function, params, name, step=1e-5):
    """The derivative of a function of parameters by one field, by central differences."""
    field = np.asarray(getattr(params, name), float)
    found = np.zeros(field.shape)
    for place in np.ndindex(*field.shape):
        ends = []
        for sign in (1, -1):
            moved = field.copy()
            moved[place] += sign * step
            ends.append(float(function(params._replace(**{name: moved}))))
        found[place] = (ends[0] - ends[1]) / (2 * step)
    return found


@pytest.mark.parametrize("ties", [False, True])
def test_gradients_where_frames_may_show_no_template(ties):
    if not jax.config.jax_enable_x64:
        pytest.skip("float64 is switched off")
    problem = draw(28, **OFF | {"absent": True, "weights": "own", "support": True})
    params, given = problem.params, {"weights": problem.weights}
    if ties:  # one pixel, one place: template and background are alike, and so is what they explain
        images = np.array([[[0.3, 0.1]], [[0.7, -0.2]]])
        params = jaxem.Params(np.zeros((1, 2)), np.zeros((1, 2)), np.array(0.5), np.full((1, 1), 0.5), np.array(0.5))
        problem, given = problem._replace(images=images, params=params), {}

    def likelihood(params):
        return jaxem.log_likelihood(problem.images, params, **given).sum()

    hidden = jaxem.e_step(problem.images, params, **given)

    def bound(params):
        return jaxem.elbo(problem.images, params, hidden, **given)

    for function in (likelihood, bound):
        gradient = jax.grad(function)(jax.tree.map(jnp.asarray, params))
        for name in ("template", "background", "noise_scale", "prior", "absent"):
            np.testing.assert_allclose(
                getattr(gradient, name), numerically(function, params, name), rtol=1e-5, atol=1e-5, err_msg=name
            )


def test_absent_counts_among_what_moves():
    problem = draw(29, **OFF | {"absent": True})
    images = jnp.asarray(problem.images)
    options = em_options(images, hard=False, prior_smoothing=0.0, max_iterations=3, tolerance=1e-3, batch_size=4)
    em = EM(make_workspace(as_frames(images), 4), options)
    params = jax.tree.map(jnp.asarray, problem.params)
    state = em.advance(em.init(params), jnp.int32(1))
    other = to_internal_units(params._replace(absent=params.absent * 3), em.workspace.images)
    proposal = em._evaluate(state, other, expectation(em.workspace, other, hard=False))
    now, before = proposal.expected.statistics, state.expected.statistics
    assert now.absent != before.absent
    moved = abs(now.counts - before.counts).sum() + abs(now.absent - before.absent)
    np.testing.assert_allclose(proposal.moved, moved, rtol=1e-6)


@pytest.mark.parametrize(("chosen", "factor"), [({}, 0.5), ({"absent": True, "templates": "2"}, 3.0)])
def test_a_prior_counts_by_its_shares(chosen, factor):
    problem = draw(30, **OFF | chosen)
    params = problem.params
    absent = None if params.absent is None else params.absent * factor
    scaled = params._replace(prior=params.prior * factor, absent=absent)
    expected = jaxem.fit(problem.images, params, **MAX_STEPS)
    for fixed in ((), ("prior",)):
        found = jaxem.fit(problem.images, scaled, max_iterations=60, fixed=fixed)
        assert jaxem.Status(int(found.status)).name in ("CONVERGED", "MAX_ITERATIONS")
        if not fixed:
            same(jaxem.fit(problem.images, scaled, **MAX_STEPS).history, expected.history, rtol=1e-6)
    nothing = jaxem.fit(problem.images, scaled, max_iterations=0)
    same(nothing.params, params, rtol=1e-12, atol=0)
    if absent is not None:
        found = jaxem.fit(problem.images, scaled._replace(absent=params.absent), max_iterations=60, fixed="absent")
        assert jaxem.Status(int(found.status)).name in ("CONVERGED", "MAX_ITERATIONS")
        np.testing.assert_allclose(found.params.prior.sum() + found.params.absent, 1, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "pattern"),
    [
        ({"weights": np.zeros(0)}, "weights must be broadcastable"),
        ({"weights": np.zeros((0, 5, 7))}, "weights must be broadcastable"),
        ({"frame_weights": np.zeros(0)}, "frame_weights must have shape"),
        ({"weights": np.full((5, 7), 1e300)}, "weights must be finite"),
        ({"transforms": 5}, "transforms must be one or more of identity"),
        ({"transforms": {}}, "transforms must be one or more of identity"),
        ({"transforms": [["identity"]]}, "transforms must be one or more of identity"),
        ({"transforms": b"identity"}, "transforms must be one or more of identity"),
        ({"fixed": None}, "fixed must be names of fields"),
        ({"fixed": 5}, "fixed must be names of fields"),
        ({"fixed": [["prior"]]}, "fixed must be names of fields"),
    ],
)
def test_what_is_no_option_is_said_in_one_sentence(options, pattern):
    problem = as_dtype(draw(31, **OFF), np.float32)
    with pytest.raises(ValueError, match=pattern):
        jaxem.fit(problem.images, problem.params, **options)


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"best_template": [0, 1, 2, 0]}, "best_template holds numbers that it cannot have"),
        ({"best_template": [0, -1, 1, 0]}, "best_template holds numbers that it cannot have"),
        ({"best_transform": [0, 1, 0, 2]}, "best_transform holds numbers that it cannot have"),
        ({"present": [1, 0, 1, 1]}, "present holds int"),
        ({"corners": [[0, 0], [1, 2], [9, 0], [0, 0]]}, "corners holds numbers that it cannot have"),
        ({"best_template": [0, 1, 0]}, "best_template does not fit the other shapes"),
        ({"opacity": np.ones((2, 4, 2))}, "opacity does not fit the other shapes"),
        ({"prior": np.ones((2, 2, 2, 2))}, "the shape of prior is not"),
    ],
)
def test_damaged_results_are_told_by_what_is_wrong_with_them(changes, pattern, tmp_path):
    options = {"templates": "2", "transforms": 1, "absent": True, "channels": "2", "support": True}
    problem = draw(32, **OFF | options)
    found = jaxem.fit(problem.images, problem.params, max_iterations=1, transforms=problem.transforms)
    jaxem.save(tmp_path / "good.npz", found)
    with np.load(tmp_path / "good.npz") as archive:
        arrays = dict(archive)
    assert set(changes) <= set(arrays)
    np.savez(tmp_path / "bad.npz", **arrays | {name: np.asarray(value) for name, value in changes.items()})
    assert jaxem.load(tmp_path / "good.npz").best_template is not None
    with pytest.raises(ValueError, match=pattern):
        jaxem.load(tmp_path / "bad.npz")


@pytest.mark.parametrize("field", ["template", "transform"])
def test_positions_number_from_zero(field, tmp_path):
    positions = jaxem.Positions(np.zeros((2, 2), "int32"), None, np.zeros(2, "int32"), np.zeros(2, "int32"))
    jaxem.save(tmp_path / "good.npz", positions)
    with pytest.raises(ValueError, match=f"{field} holds numbers"):
        jaxem.save(tmp_path / "bad.npz", positions._replace(**{field: np.array([0, -1], "int32")}))
