"""Masks, weights, supports, channels, wrapping, absent frames, several templates and transforms, in any combination."""

import jax
import numpy as np
import pytest
from conftest import TOLERANCE
from general_problems import as_dtype, common, comparisons, draw, template_shape_of

import jaxem
from jaxem.assess import reference as oracle
from jaxem.model.appearances import as_transforms, numbers_of
from jaxem.model.params import disc_support
from jaxem.model.sampling import simulate_positions


def agree(actual, expected, dtype, what):
    assert actual.dtype == dtype, what
    tolerance = TOLERANCE[np.dtype(dtype)]
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance, err_msg=what)


def check(problem, dtype):
    """E-step, bound, log likelihood and M-step, soft and hard, against enumeration."""
    for what, actual, expected in comparisons(problem, dtype):
        agree(actual, expected, dtype, f"{what}; {problem.name}")


ALONE = [
    {"weights": "shared mask"},
    {"weights": "shared"},
    {"weights": "mask"},
    {"weights": "own"},
    {"frames": "counts"},
    {"frames": "some zero"},
    {"support": True},
    {"channels": "1"},
    {"channels": "2"},
    {"channels": "2 noises"},
    {"wrap": "rows"},
    {"wrap": "both"},
    {"absent": True},
    {"templates": "1"},
    {"templates": "2"},
    {"transforms": 1},
    {"transforms": 2},
    {"transforms": 3},
]
OFF = {
    "weights": "none",
    "frames": "none",
    "support": False,
    "channels": "none",
    "wrap": "none",
    "absent": False,
    "templates": "none",
    "transforms": 0,
}


@pytest.mark.parametrize("chosen", ALONE, ids=lambda chosen: " ".join(map(str, *chosen.items())))
def test_each_option_alone(chosen, dtype):
    check(draw(1, **OFF | chosen), dtype)


@pytest.mark.parametrize("seed", range(6))
def test_together(seed, dtype):
    check(draw(100 + seed), dtype)


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_a_fit_goes_the_steps_of_its_parts_and_never_falls(seed, hard):
    if not jax.config.jax_enable_x64:
        pytest.skip("float64 is switched off")
    problem = draw(300 + seed, weights=["own", "shared", "mask"][seed])
    params, shape = problem.params, template_shape_of(problem)
    options = {"weights": problem.weights, "frame_weights": problem.frame_weights, "transforms": problem.transforms}
    found = jaxem.fit(problem.images, params, hard=hard, max_iterations=3, tolerance=-np.inf, batch_size=2, **options)
    history = []
    for step in range(4):
        hidden = jaxem.e_step(problem.images, params, hard=hard, **common(problem))
        history.append(jaxem.elbo(problem.images, params, hidden, **options))
        if step < 3:
            params = jaxem.m_step(problem.images, hidden, shape, params=params, **options)
    np.testing.assert_allclose(found.history, history, rtol=1e-9, err_msg=problem.name)
    assert (np.diff(found.history) >= -1e-9 * abs(found.elbo)).all(), problem.name
    for actual, expected in zip(*map(jax.tree.leaves, (found.params, params)), strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-7, atol=1e-9, err_msg=problem.name)


def test_fixed_fields_stay_and_the_others_go_on():
    problem = draw(7, **OFF | {"absent": True, "templates": "2"})
    for fixed in (("background", "noise_scale"), ("template",), ("prior",), ("absent",)):
        found = jaxem.fit(problem.images, problem.params, fixed=fixed, max_iterations=4)
        for name in problem.params._fields:
            before, after = getattr(problem.params, name), getattr(found.params, name)
            if before is None:
                continue
            held = name in fixed or (name == "absent" and "prior" in fixed)
            assert np.allclose(after, before, rtol=1e-5) == held, (fixed, name)
        np.testing.assert_allclose(found.params.prior.sum() + found.params.absent, 1, rtol=1e-5)


def test_whole_frame_weights_are_copies_and_zero_ones_compile_nothing_new(compilations):
    problem = draw(8, **OFF | {"weights": "mask"})
    counts = np.array([1.0, 3, 0, 2])
    weighed = jaxem.fit(problem.images, problem.params, weights=problem.weights, frame_weights=counts)
    copies = np.repeat(np.arange(4), counts.astype(int))
    copied = jaxem.fit(problem.images[copies], problem.params, weights=problem.weights[copies])
    np.testing.assert_allclose(weighed.elbo, copied.elbo, rtol=1e-5)
    for one, other in zip(*map(jax.tree.leaves, (weighed.params, copied.params)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    before = len(compilations)
    jaxem.fit(problem.images, problem.params, weights=problem.weights, frame_weights=1 - counts.clip(0, 1))
    assert len(compilations) == before


def test_a_mask_of_ones_changes_nothing_and_a_masked_frame_says_nothing(dtype):
    problem = as_dtype(draw(9, **OFF), dtype)
    images, params = problem.images, problem.params
    plain = jaxem.e_step(images, params)
    masked = jaxem.e_step(images, params, weights=np.ones(images.shape, dtype))
    agree(masked.probs, plain.probs, dtype, "ones")
    agree(masked.log_evidence, plain.log_evidence, dtype, "ones")
    mask = np.ones(images.shape, dtype)
    mask[1] = 0
    found = jaxem.e_step(images, params, weights=mask)
    agree(found.probs[1], params.prior, dtype, "nothing seen")
    np.testing.assert_allclose(found.log_evidence[1], 0, atol=100 * np.finfo(dtype).eps)


@pytest.mark.parametrize("seed", range(4))
def test_results_come_back_to_the_bit(seed, tmp_path):
    problem = draw(400 + seed)
    options = {"weights": problem.weights, "transforms": problem.transforms}
    found = jaxem.fit(problem.images, problem.params, max_iterations=2, **options)
    soft = jaxem.e_step(problem.images, problem.params, **options)
    hard = jaxem.e_step(problem.images, problem.params, hard=True, **options)
    for number, result in enumerate((problem.params, found, soft, hard)):
        jaxem.save(tmp_path / f"{number}.npz", result)
        back = jaxem.load(tmp_path / f"{number}.npz")
        assert jax.tree.structure(back) == jax.tree.structure(result), problem.name
        for one, other in zip(*map(jax.tree.leaves, (back, result)), strict=True):
            np.testing.assert_array_equal(one, other, err_msg=problem.name)
    assert as_transforms(jaxem.load(tmp_path / "1.npz").transforms) == problem.transforms


def test_results_say_which_transforms_they_were_found_under(tmp_path):
    problem = draw(17, **OFF | {"transforms": 0})
    jaxem.save(tmp_path / "fit.npz", found := jaxem.fit(problem.images, problem.params, max_iterations=1))
    assert found.transforms is None
    names = ("rot180", "flip")
    assert as_transforms(numbers_of(names)) == names
    assert as_transforms(None) == as_transforms("identity") == ("identity",)
    with pytest.raises(ValueError, match="transforms must be one or more of"):
        as_transforms(np.array([0, 8]))
    with np.load(tmp_path / "fit.npz") as arrays:
        wrong = {**arrays, "transforms": np.array([8])}
    np.savez(tmp_path / "wrong.npz", **wrong)
    with pytest.raises(ValueError, match="transforms holds numbers that it cannot have"):
        jaxem.load(tmp_path / "wrong.npz")


def test_the_inscribed_disc():
    assert disc_support((1, 1)).tolist() == [[1]]
    assert disc_support((4, 6)).astype(int).tolist() == [[0, 1, 1, 1, 1, 0], [1] * 6, [1] * 6, [0, 1, 1, 1, 1, 0]]


def test_simulated_images_are_of_the_model():
    problem = draw(11, **OFF | {"absent": True, "templates": "2", "support": True, "wrap": "both", "channels": "2"})
    images, found = simulate_positions(jax.random.key(0), problem.params, 4000)
    assert images.shape == (4000, 5, 7, 2)
    absent = 1 - np.asarray(found.present)
    assert abs(absent.mean() - problem.params.absent) < 4 * (problem.params.absent / 4000) ** 0.5 + 1e-3
    shares = problem.params.prior.sum(axis=(1, 2)) / problem.params.prior.sum()
    assert abs(np.asarray(found.template)[absent == 0].mean() - shares[1]) < 0.04
    every = {one.place: oracle.scene(problem.params, one) for one in oracle.hypotheses(problem.params)}
    scenes = [
        every[(int(found.template[k]), *map(int, found.corners[k]))] if found.present[k] else problem.params.background
        for k in range(300)
    ]
    errors = (np.asarray(images[:300]) - np.stack(scenes)) / problem.params.noise_scale
    assert abs(errors.std() - 1) < 0.02
    assert abs(errors.mean()) < 0.02


@pytest.mark.parametrize(
    ("call", "pattern"),
    [
        (lambda p: jaxem.fit(p.images, p.params, weights=np.ones((2, 5, 7))), "weights must be broadcastable"),
        (lambda p: jaxem.fit(p.images, p.params, weights=-np.ones((5, 7))), "weights must be finite and not negative"),
        (lambda p: jaxem.fit(p.images, p.params, frame_weights=np.ones(3)), "frame_weights must have shape"),
        (lambda p: jaxem.fit(p.images, p.params, transforms=("rot45",)), "transforms must be one or more of identity"),
        (lambda p: jaxem.fit(p.images, p.params, transforms=("identity", "rot90")), "transforms hold quarter turns"),
        (lambda p: jaxem.fit(p.images, p.params, fixed="foreground"), "fixed must be names of fields"),
        (lambda p: jaxem.fit(p.images, p.params._replace(opacity=np.full((3, 2), 0.5))), "opacity must be 0 or 1"),
        (lambda p: jaxem.fit(p.images, p.params._replace(absent=np.ones(4))), "absent must have shape"),
        (lambda p: jaxem.m_step(p.images, jaxem.Positions(np.zeros((4, 2), int)), (3, 2), fixed="prior"), "`fixed`"),
        (
            lambda p: jaxem.elbo(p.images, p.params, jaxem.Posterior(np.ones((4, 3, 6)) / 18, None, np.zeros(4))),
            "posterior.absent must be None",
        ),
    ],
)
def test_what_does_not_fit_is_said_in_one_sentence(call, pattern):
    with pytest.raises((ValueError, TypeError), match=pattern):
        call(draw(12, **OFF))


def test_a_frame_of_weight_zero_may_hold_anything_large_and_changes_nothing():
    problem = as_dtype(draw(13, **OFF), np.float32)  # whose resolution a large pixel would spoil
    images = np.concatenate([problem.images, 1e5 + problem.images[:1]])
    alone = jaxem.fit(problem.images, problem.params, max_iterations=3, tolerance=-np.inf)
    counts = np.array([1.0, 1, 1, 1, 0])
    beside = jaxem.fit(images, problem.params, max_iterations=3, tolerance=-np.inf, frame_weights=counts)
    for one, other in zip(*map(jax.tree.leaves, (alone.params, beside.params)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fixed", ["prior", "absent", "background"])
def test_accelerated_and_gradient_fits_hold_what_is_fixed(fixed):
    optax = pytest.importorskip("optax")
    problem = draw(14, **OFF | {"absent": True})
    accelerated = jaxem.fit(problem.images, problem.params, fixed=fixed, accelerate=True, max_iterations=30)
    with jax.numpy_dtype_promotion("standard"):  # optax adds int32 to int64
        climbed = jaxem.gradient.fit(problem.images, problem.params, optax.adam(0.01), fixed=fixed, max_iterations=5)
    for found in (accelerated, climbed):
        np.testing.assert_allclose(getattr(found.params, fixed), getattr(problem.params, fixed), rtol=1e-6)
        np.testing.assert_allclose(found.params.prior.sum() + found.params.absent, 1, rtol=1e-5)
        assert np.isfinite(found.elbo)


def test_only_frames_without_a_template_leave_a_fixed_share_as_it_is():
    problem = draw(15, **OFF | {"absent": True})
    params = problem.params._replace(absent=np.array(0.99), prior=np.full((3, 6), 0.01 / 18))
    empty = params.background + 0.1 * np.random.default_rng(0).normal(size=(4, 5, 7))
    found = jaxem.fit(empty, params, hard=True, fixed="absent", max_iterations=3)
    assert not found.present.any()
    assert jaxem.Status(int(found.status)) != jaxem.Status.NONFINITE
    np.testing.assert_allclose(found.params.prior, params.prior, rtol=1e-5)


def test_a_support_for_other_templates_is_no_result(tmp_path):
    problem = draw(16, **OFF | {"templates": "2", "support": True})
    wrong = problem.params._replace(opacity=np.ones((3, *problem.params.opacity.shape[1:])))
    with pytest.raises(ValueError, match="does not fit the other shapes"):
        jaxem.save(tmp_path / "wrong.npz", wrong)
