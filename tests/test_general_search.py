"""The search for what is more than one rectangle: all of it at once, its parts, what it refuses and what it says."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxem
from jaxem.model.appearances import IDENTITY
from jaxem.model.frames import Frames, as_frames
from jaxem.model.likelihood import Hypotheses, hypotheses_of
from jaxem.model.params import disc_support
from jaxem.model.sampling import simulate_positions
from jaxem.model.workspace import center, make_workspace
from jaxem.search import restarts
from jaxem.search.reseeding import distances, reseeded
from jaxem.solvers.diagnostics import contrast, largest_difference, remarks

KEY = jax.random.key(7)


def truth_of(rng, image_shape, template_shape, *, lead=(), channels=(), absent=None, opacity=None, goes_round=False):
    """Templates that stand out of a background, in float32."""
    positions = image_shape
    if not goes_round:
        positions = tuple(n - m + 1 for n, m in zip(image_shape, template_shape, strict=True))
    shape = (*lead, *positions)
    stacked = lead[: len(lead) and lead[0] > 0]
    shares = np.arange(len(stacked) and stacked[0], 0, -1) if stacked else np.ones(1)
    prior = np.broadcast_to(shares.reshape(-1, *[1] * (len(shape) - 1)) if stacked else 1.0, shape)
    params = jaxem.Params(
        5 + rng.normal(size=(*stacked, *template_shape, *channels)),
        5 + rng.normal(size=(*image_shape, *channels)),
        np.array(0.5),
        prior / prior.sum() * (1 - (absent or 0)),
        None if absent is None else np.array(absent),
        opacity,
    )
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), params)


@pytest.fixture(scope="module")
def everything():
    """Two round coloured templates, turned or not, absent at times, some pixels of each frame missing."""
    rng = np.random.default_rng(1)
    transforms, support = ("identity", "rot90"), disc_support((6, 6)).astype(np.float32)
    truth = truth_of(rng, (15, 17), (6, 6), lead=(2, 2), channels=(3,), absent=0.25, opacity=support)
    weights = (rng.random((150, 15, 17)) < 0.95).astype(np.float32)
    images, positions = simulate_positions(KEY, truth, 150, transforms=transforms, weights=weights)
    options = {"num_templates": 2, "absent": True, "support": "disc", "transforms": transforms, "weights": weights}
    found = jaxem.fit_restarts_parallel(KEY, images, (6, 6), **options)
    return images, truth, jax.device_get(positions), options, found


def test_everything_at_once_is_found(everything):
    _, truth, positions, _, found = everything
    best, present = found.best, positions.present
    assert jaxem.Status(int(best.status)) == jaxem.Status.CONVERGED
    np.testing.assert_array_equal(best.present, present)
    np.testing.assert_array_equal(best.corners[present], positions.corners[present])
    np.testing.assert_array_equal(best.best_template[present], positions.template[present])  # by shares
    turned = best.best_transform[present] != positions.transform[present]
    for number in range(2):  # which turn is called the identity is open for each template
        assert len(set(turned[positions.template[present] == number])) == 1
    np.testing.assert_allclose(best.params.absent, 1 - present.mean(), atol=1e-3)
    background = np.abs(best.params.background - truth.background)
    assert np.sqrt((background**2).mean()) < 3 * 0.5 / np.sqrt(len(present))
    assert found.warnings() == []
    assert best.transforms.tolist() == [0, 1]


def test_threads_find_what_one_program_finds(everything):
    images, _, _, options, found = everything
    same = jaxem.fit_restarts(KEY, images, (6, 6), **options)
    np.testing.assert_array_equal(same.best.corners, found.best.corners)
    np.testing.assert_allclose(same.runs.elbo, found.runs.elbo, rtol=1e-5)
    np.testing.assert_allclose(same.best.params.template, found.best.params.template, rtol=1e-3, atol=1e-3)


def test_a_general_result_is_saved_and_loaded(everything, tmp_path):
    found = everything[-1]
    jaxem.save(tmp_path / "found.npz", found)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(jaxem.load(tmp_path / "found.npz")), strict=True):
        np.testing.assert_array_equal(one, other)


def test_round_the_edges_with_a_known_background_and_frames_that_do_not_count():
    rng = np.random.default_rng(2)
    truth = truth_of(rng, (12, 14), (5, 4), goes_round=True)
    images, positions = simulate_positions(KEY, truth, 90)
    images, corners = np.array(images), np.asarray(positions.corners)
    frame_weights = np.repeat([1.0, 0.0], [60, 30]).astype(np.float32)
    images[60:] = 100 * rng.random((30, 12, 14))

    def search(**options):
        fixed = {"background": truth.background}
        return jaxem.fit_restarts(KEY, images, (5, 4), boundary="wrap", fixed=fixed, hard=True, **options).best

    found = search(frame_weights=frame_weights)
    np.testing.assert_array_equal(found.params.background, truth.background)
    np.testing.assert_array_equal(found.corners[:60], corners[:60])
    assert (corners > [7, 10]).any(axis=1).sum() > 30  # of those some go round
    assert np.abs(found.params.template - truth.template).max() < 4 * 0.5 / np.sqrt(60)
    compiled = len(_programs())
    other = search(frame_weights=np.roll(frame_weights, -30) * 0 + np.repeat([0.0, 2.0, 0.0], 30).astype(np.float32))
    assert len(_programs()) == compiled
    np.testing.assert_array_equal(other.corners[30:60], corners[30:60])
    half = jaxem.fit(images[30:60], other.params, hard=True, fixed="background")
    np.testing.assert_allclose(half.params.noise_scale, other.params.noise_scale, rtol=1e-4)


def _programs():
    """What `fit_restarts` is compiled for."""
    alone = restarts._fit_restarts.__closure__
    jitted = next(cell.cell_contents for cell in alone if hasattr(cell.cell_contents, "cache_info"))()
    return range(jitted._cache_size())


def test_a_template_that_stands_for_two_is_split_and_a_copy_makes_way():
    rng = np.random.default_rng(3)
    truth = truth_of(rng, (12, 13), (4, 5), lead=(3,))._replace(noise_scale=np.float32(1.0))
    images, positions = simulate_positions(KEY, truth, 300)
    first, second, third = truth.template
    poor = truth._replace(template=np.stack([first, (second + third) / 2, first + np.float32(0.05)]))
    workspace = make_workspace(as_frames(images), 50)
    where = positions._replace(template=np.where(positions.template == 0, 0, 1).astype(np.int32))
    found = reseeded(workspace.images, poor, hypotheses_of(where, 1), np.int32(0), ("identity",))
    np.testing.assert_array_equal(found.template[0], first)
    np.testing.assert_allclose(found.prior, 1 / found.prior.size, rtol=1e-5)
    errors = [
        max(np.abs(found.template[1] - one).max(), np.abs(found.template[2] - other).max())
        for one, other in itertools.permutations((second, third))
    ]
    assert min(errors) < 0.5, errors
    apart = distances(_with_axes(poor), ("identity",))
    np.testing.assert_allclose(apart[np.array([0, 2])], 20 * 0.05**2, rtol=1e-3)


def _with_axes(params):
    return jaxem.model.params.with_all_axes(jax.tree.map(jax.numpy.asarray, params))


@pytest.mark.parametrize("goes_round", [False, True])
def test_recentring_shifts_each_template(goes_round):
    rng = np.random.default_rng(4)
    transforms = ("identity", "rot180")
    shapes = {"lead": (2, 2), "channels": (2,), "absent": 0.2, "goes_round": goes_round}
    truth = truth_of(rng, (16, 18), (5, 6), **shapes)._replace(noise_scale=np.float32(0.2))
    weights = (rng.random((16, 18)) < 0.9).astype(np.float32)
    images, _ = simulate_positions(KEY, truth, 200, transforms=transforms, weights=weights)
    shifted = np.stack([np.roll(truth.template[0], 1, axis=1), truth.template[1]])
    shifted[0, :, 0] = truth.background.mean(axis=(0, 1))
    start = truth._replace(template=shifted)
    found = jaxem.recentre(images, start, weights=weights, transforms=transforms)
    assert np.abs(found.template[0] - truth.template[0]).max() < 0.4
    assert np.abs(found.template[1] - truth.template[1]).max() < 0.4
    np.testing.assert_allclose(found.prior.sum(), 0.8, rtol=1e-5)
    again = jaxem.recentre(images, truth, weights=weights, transforms=transforms)
    np.testing.assert_array_equal(again.template, truth.template)
    np.testing.assert_array_equal(again.prior, truth.prior)


def test_agreement_knows_no_names():
    rng = np.random.default_rng(5)
    params = _with_axes(truth_of(rng, (9, 10), (4, 4), lead=(2, 2)))
    renamed = params._replace(template=np.rot90(params.template[::-1], 2, axes=(-2, -1)))
    transforms = ("identity", "rot180")
    np.testing.assert_allclose(largest_difference(params, renamed, transforms), 0, atol=1e-12)
    assert (
        largest_difference(params, renamed._replace(template=params.template[:1].repeat(2, axis=0)), transforms) > 0.2
    )


def test_random_starts_have_what_is_asked_for():
    images = np.random.default_rng(6).random((4, 9, 10, 3), np.float32)
    start = jaxem.random_params(
        KEY,
        images,
        (3, 3),
        num_templates=2,
        absent=True,
        support="disc",
        boundary="wrap",
        transforms=("identity", "flip"),
    )
    shapes = [None if leaf is None else leaf.shape for leaf in start]
    assert shapes == [(2, 3, 3, 3), (9, 10, 3), (), (2, 2, 9, 10), (), (3, 3)]
    np.testing.assert_allclose(start.prior.sum() + start.absent, 1, rtol=1e-5)
    fitted = jaxem.fit(images, start, transforms=("identity", "flip"), max_iterations=1)
    assert np.isfinite(fitted.elbo)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_templates": 0}, "num_templates"),
        ({"support": "square"}, "disc"),
        ({"support": np.ones((2, 2))}, "support must have the template's shape"),
        ({"support": np.full((3, 4), 0.5)}, "support must be 0 or 1"),
        ({"support": np.zeros((3, 4))}, "support must not be zero"),
        ({"boundary": "reflect"}, "inside"),
        ({"transforms": ("identity", "rot90")}, "square"),
        ({"transforms": "turn"}, "transforms"),
        ({"weights": np.ones((2, 2))}, "weights"),
        ({"weights": -np.ones((8, 9))}, "weights"),
        ({"frame_weights": np.zeros(5)}, "frame_weights"),
        ({"fixed": ("background",)}, "mapping"),
        ({"fixed": {"colour": 1}}, "fields of jaxem.Params"),
        ({"fixed": {"background": np.ones((8, 8))}}, r"fixed\['background'\] must have shape \(8, 9\)"),
        ({"fixed": {"template": np.ones((3, 5))}}, r"fixed\['template'\]"),
        ({"fixed": {"absent": 0.1}}, "absent=True"),
        ({"fixed": {"prior": np.full((6, 6), 1 / 36)}, "absent": True}, "sums to one"),
        ({"fixed": {"opacity": np.ones((3, 4))}}, "support"),
        ({"fixed": {"noise_scale": -1.0}}, "above zero"),
        ({"fixed": {"background": np.full((8, 9), np.nan)}}, "finite"),
        ({"fixed": {"absent": 1.0}, "absent": True}, "below 1"),
        ({"fixed": {"prior": np.full((6, 6), 1 / 6)}}, "sum to one"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_sentence(options, words):
    with pytest.raises((ValueError, TypeError), match=words):
        jaxem.fit_restarts(KEY, np.ones((5, 8, 9), np.float32), (3, 4), **options)


def test_empty_templates_and_absent_ones_are_told(everything):
    best, diagnostics = everything[-1].best, everything[-1].diagnostics
    params = best.params
    empty = params._replace(prior=params.prior * np.array([1, 1e-6], np.float32)[:, None, None, None])
    assert any("Template 1" in str(remark) for remark in remarks(best._replace(params=empty), diagnostics, 2))
    nothing = params._replace(absent=np.float32(0.999), prior=params.prior * np.float32(1e-3))
    assert any("Hardly any frame" in str(remark) for remark in remarks(best._replace(params=nothing), diagnostics, 2))


def test_a_small_object_is_put_in_the_middle_of_its_template():
    rng = np.random.default_rng(9)
    background, template = np.full((16, 18), 5.0), np.full((7, 7), 5.0)
    template[2:5, 2:5] += 2 * rng.normal(size=(3, 3))
    prior = np.pad(np.full((6, 8), 1 / 48), 2)
    truth = jax.tree.map(np.float32, jaxem.Params(template, background, np.array(0.3), prior))
    images, _ = jaxem.simulate(KEY, truth, 150)
    shifted = truth._replace(template=np.roll(truth.template, 2, axis=1))
    found = jaxem.recentre(images, jaxem.recentre(images, shifted))  # by half a template at most
    np.testing.assert_allclose(found.template, truth.template, atol=0.2)


def test_contrast_counts_what_was_observed_and_the_weakest_template():
    rng = np.random.default_rng(10)
    truth = _with_axes(truth_of(rng, (9, 10), (3, 4), lead=(2,), opacity=disc_support((3, 4))))
    corners, numbers = np.int32(rng.integers(0, 6, size=(6, 2))), np.int32([0, 1, 1, 0, 1, 0])

    def found(where, weights=None):
        pixels = jnp.asarray(rng.normal(size=(len(where.corners), 9, 10)), jnp.float32)
        return contrast(center(Frames(pixels, shared_weights=weights)), truth, where, IDENTITY)

    whole = found(Hypotheses(corners, numbers))
    observed = found(Hypotheses(corners, numbers), jnp.full((9, 10), 0.25, jnp.float32))
    np.testing.assert_allclose(observed, 0.25 * whole, rtol=1e-5)
    alone = [found(Hypotheses(corners[numbers == number], numbers[numbers == number])) for number in range(2)]
    np.testing.assert_allclose(whole, min(alone), rtol=1e-5)
