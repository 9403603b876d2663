"""A search on a random sample of the frames finds what a search on all finds, and says what it is of."""

from functools import partial
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from planted_results import planted as by_hand
from test_general_search import truth_of

import jaxem
from jaxem import Checkpointer, Status
from jaxem.cli import fitting, writing
from jaxem.cli.progress import Story
from jaxem.cli.requests import FitRequest, parse_sample
from jaxem.model.frames import as_frames
from jaxem.model.sampling import simulate_positions
from jaxem.runtime.executor import Executor
from jaxem.search import parallel, subsampling
from jaxem.search.arguments import as_task
from jaxem.search.progress import ALL_STAGE, Reporter
from jaxem.search.restarts import DEFAULT_SEARCH
from jaxem.search.structure import as_structure
from jaxem.search.subsampling import draw_sample, larger_sample, sample_size, stands_out, usual_size

KEY = jax.random.key(3)
IMAGE, TEMPLATE, COUNT, SIZE = (15, 17), (6, 5), 400, 90
DTYPE = "float64" if jax.config.jax_enable_x64 else "float32"
WEIGHTS = np.asarray(np.random.default_rng(0).random(IMAGE) < 0.95, DTYPE)
FRAME_WEIGHTS = np.asarray(np.arange(COUNT) % 4 > 0, DTYPE)
NATS = 2.0 if jax.config.jax_enable_x64 else 20.0  # within which objectives are the same


def draw(seed, *, flat=False, count=COUNT, noise=1.0, **parts):
    """Frames, the truth, and where the templates are."""
    truth = truth_of(np.random.default_rng(seed), IMAGE, TEMPLATE, **parts)
    truth = truth._replace(noise_scale=np.float32(noise))
    if flat:
        truth = truth._replace(background=np.full_like(truth.background, 4.0))
    images, positions = simulate_positions(jax.random.key(seed), truth, count)
    return np.array(images, DTYPE), truth, jax.device_get(positions)


def from_truth(images, truth, **options):
    """The objective that the truth leads to."""
    cast = jax.tree.map(lambda leaf: jnp.asarray(leaf, DTYPE), truth)
    return jaxem.fit(images, cast, schedule=jaxem.annealing(0, prior_steps=20), **options)


KINDS = {
    "textured": ({}, {}),
    "flat": ({"flat": True}, {}),
    "several, some absent, some pixels and frames not counted": (
        {"lead": (2,), "absent": 0.2},
        {"num_templates": 2, "absent": True, "weights": WEIGHTS, "frame_weights": FRAME_WEIGHTS},
    ),
    "hard": ({"noise": 0.6}, {"hard": True}),
}


@pytest.fixture(scope="module")
def textured():
    """A search on a sample, what was told of it, and the frames."""
    images, truth, positions = draw(0)
    told = []
    found = jaxem.fit_restarts_parallel(KEY, images, TEMPLATE, sample=SIZE, callback=told.append)
    return images, truth, positions, found, told


def test_what_is_returned_is_of_all_frames_and_the_runs_are_of_the_sample(textured):
    images, _, positions, found, told = textured
    sample, best = found.sample, found.best
    assert (sample.shape, sample.dtype) == ((SIZE,), np.int32)
    assert (np.diff(sample) > 0).all()
    assert best.corners.shape == (COUNT, 2)
    assert found.runs.corners.shape == (2, SIZE, 2)
    assert (best.corners == positions.corners).all(axis=1).mean() > 0.9
    np.testing.assert_allclose(jaxem.log_likelihood(images, best.params).sum(), best.elbo, rtol=1e-6)
    winner = int(np.argmax(found.runs.elbo))
    params = jax.tree.map(lambda leaf: leaf[winner], found.runs.params)
    of_sample = jaxem.log_likelihood(images[sample], params).sum()
    np.testing.assert_allclose(of_sample, found.runs.elbo[winner], rtol=1e-6)

    diagnostics = found.diagnostics
    assert diagnostics.num_sample_steps == found.stages.num_steps.sum()
    of_all = [progress for progress in told if progress.num_images == COUNT]
    assert {progress.num_images for progress in told} == {SIZE, COUNT}
    assert [progress.stage for progress in of_all if progress.ended] == [ALL_STAGE, "converging"]
    assert {progress.start for progress in of_all} == {winner}
    assert diagnostics.num_steps == sum(progress.num_steps for progress in of_all if progress.ended) <= 8
    assert (told[-1].elbo, told[-1].num_left, told[-1].status) == (best.elbo, 0, best.status)
    np.testing.assert_allclose(diagnostics.effective_positions, np.exp(best.entropy))
    assert f"searched in {SIZE} of {COUNT} frames" in found.summary()
    assert f"{int(diagnostics.num_sample_steps)} E-steps on the sample" in found.summary()


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_as_high_as_the_truth_leads(textured, kind):
    parts, options = KINDS[kind]
    images, truth, positions = draw(0 if kind == "textured" else 1, **parts)
    if "weights" in options:
        images[FRAME_WEIGHTS == 0] = 1e3
        images[:, WEIGHTS == 0] = np.nan
    if kind == "textured":
        found = textured[3]
    else:
        found = jaxem.fit_restarts_parallel(KEY, images, TEMPLATE, sample=SIZE, **options)
    hard, counted = options.get("hard", False), FRAME_WEIGHTS > 0 if "weights" in options else slice(None)
    own = {name: options[name] for name in ("weights", "frame_weights", "hard") if name in options}
    assert float(found.best.elbo) > float(from_truth(images, truth, **own).elbo) - NATS
    assert found.best.status == Status.CONVERGED
    assert found.diagnostics.num_steps <= 9
    if positions.template is not None:
        assert (FRAME_WEIGHTS[found.sample] > 0).all()
        present, shown = found.best.present[counted], positions.present[counted]
        assert (present == shown).mean() > 0.97
        same = found.best.best_template == positions.template  # by shares
        assert same[counted][present & shown].mean() > 0.97
    if hard:
        best = jaxem.e_step(images, jax.tree.map(jnp.asarray, found.best.params), hard=True)
        np.testing.assert_allclose(best.log_joint.sum(), found.best.elbo, rtol=1e-6)


def test_a_template_that_is_off_by_a_pixel_is_shifted_by_all_frames(textured):
    images, _, _, found, _ = textured
    frames, structure, options = as_task(
        images, TEMPLATE, hard=False, prior_smoothing=0.0, max_iterations=50, tolerance=1e-3, batch_size=None
    )
    executor = Executor(1, Checkpointer())
    told = []
    work = parallel._Work(executor, Reporter(told.append), structure, subsampling.options_on_all(options), 2)
    template = found.best.params.template
    shifted = np.concatenate([template[:, 1:], np.full_like(template[:, :1], 5)], axis=1)
    off = found._replace(best=found.best._replace(params=found.best.params._replace(template=shifted)))
    again = work.fit_all(frames, off, jnp.asarray(found.sample), DEFAULT_SEARCH)
    assert abs(float(again.best.elbo) - float(found.best.elbo)) < NATS
    assert "recentring" in {progress.stage for progress in told}


def test_the_fit_to_all_frames_begins_with_a_prior_that_knows_nothing_but_what_is_known(textured):
    images, params = textured[0], textured[3].best.params
    for fixed, expected in (({}, np.full_like(params.prior, 1 / params.prior.size)), ({"prior": params.prior},) * 2):
        structure = as_structure(as_frames(images), TEMPLATE, fixed=fixed)
        begin = subsampling.start_on_all(params, structure).params
        np.testing.assert_allclose(begin.prior[0], expected["prior"] if fixed else expected, rtol=1e-6)
        np.testing.assert_array_equal(begin.template[0], params.template)


def test_one_program_finds_the_same_for_its_key(textured):
    images, _, _, found, _ = textured
    search = partial(jaxem.fit_restarts, template_shape=TEMPLATE, sample=SIZE)
    same = jax.jit(lambda key, images: search(key, images))(KEY, images)
    np.testing.assert_array_equal(same.sample, found.sample)
    for name in ("elbo", "num_iterations", "status"):
        np.testing.assert_allclose(getattr(same.best, name), getattr(found.best, name), rtol=1e-6)
        np.testing.assert_allclose(getattr(same.runs, name), getattr(found.runs, name), rtol=1e-5)
    np.testing.assert_array_equal(same.best.corners, found.best.corners)
    assert same.diagnostics.num_steps == found.diagnostics.num_steps
    assert same.diagnostics.num_sample_steps == found.diagnostics.num_sample_steps
    several = jax.eval_shape(jax.vmap(search, (0, None)), jax.random.split(KEY, 3), images)
    assert several.sample.shape == (3, SIZE)
    assert several.best.corners.shape == (3, COUNT, 2)


def test_a_sample_is_drawn_by_its_key_without_repetition():
    weights = np.ones(50, "float32")
    weights[::5] = 0
    frames = as_frames(np.arange(50.0, dtype="float32").reshape(50, 1, 1), frame_weights=weights)
    some, numbers = draw_sample(KEY, frames, 12)
    np.testing.assert_array_equal(some.pixels[:, 0, 0], numbers)
    np.testing.assert_array_equal(some.frame_weights, 1)
    assert (np.diff(numbers) > 0).all()
    np.testing.assert_array_equal(draw_sample(KEY, frames, 12)[1], numbers)
    assert set(numbers.tolist()) < set(draw_sample(KEY, frames, 24)[1].tolist())
    assert (draw_sample(KEY, frames, 40)[1] % 5 > 0).all()  # all that count
    keys = jax.random.split(KEY, 400)
    often = np.bincount(jax.vmap(lambda key: draw_sample(key, frames, 12)[1])(keys).ravel(), minlength=50)
    assert (often[::5] == 0).all()
    assert abs(often[weights > 0] / 400 - 12 / 40).max() < 0.12


def test_how_large_it_is():
    fewest, ratio = subsampling.FEWEST_IMAGES, subsampling.LEAST_RATIO
    assert usual_size(ratio * fewest, (9, 9)) == fewest
    assert usual_size(ratio * fewest - 1, (9, 9)) is None
    assert usual_size(10**6, (60, 40)) == 4800
    assert usual_size(10**6, (60, 40), num_channels=3) == 14400
    assert usual_size(10**6, (9, 9), num_templates=3) == 3 * fewest
    assert usual_size(10**6, (9, 9), has_absent=True) == 2 * fewest

    frames = as_frames(np.zeros((30, 6, 7), "float32"), frame_weights=np.repeat([1.0, 0.0], 15).astype("float32"))
    structure = as_structure(frames, (2, 3))
    size = partial(sample_size, frames=frames, structure=structure)
    assert (size(None), size("auto"), size(14), size(15), size(16)) == (None, None, 14, None, None)

    def searched(count, **options):
        images = jax.ShapeDtypeStruct((count, 6, 7), np.float32)
        search = partial(jaxem.fit_restarts, KEY, template_shape=(2, 3), **options)
        return jax.eval_shape(lambda images: search(images=images), images).sample

    assert searched(ratio * fewest).shape == (fewest,)
    assert searched(30, sample=29, search=None) is None


def test_of_few_frames_all_are_searched_as_before():
    images = jax.ShapeDtypeStruct((40, 6, 7), np.float32)

    def program(**options):
        return str(jax.make_jaxpr(lambda images: jaxem.fit_restarts(KEY, images, (2, 3), **options))(images))

    assert program() == program(sample=None)


@pytest.mark.parametrize("search", [jaxem.fit_restarts, jaxem.fit_restarts_parallel, jaxem.detection_test])
@pytest.mark.parametrize(
    ("sample", "error", "words"),
    [
        ("all", ValueError, "sample must be \"auto\", a number of images or None, but is 'all'"),
        (0, ValueError, "sample must be at least 1, but is 0"),
        (2.5, TypeError, "sample must be a whole number known before tracing, but is 2.5"),
    ],
)
def test_what_is_no_sample(search, sample, error, words):
    with pytest.raises(error, match=words):
        search(KEY, np.zeros((30, 6, 7), "float32"), (2, 3), sample=sample)


def test_killed_in_the_fit_to_all_frames_it_comes_to_the_same_bits(textured, tmp_path):
    images, _, _, undisturbed, _ = textured

    class KilledError(Exception):
        pass

    def search(dies):
        checkpointer = Checkpointer(tmp_path, {"frames": "abc"}, interval=0)
        checkpointer.read()
        told = []

        def watch(progress):
            told.append(progress)
            if dies and progress.stage == ALL_STAGE:
                raise KilledError

        options = {"sample": SIZE, "checkpointer": checkpointer, "callback": watch}
        return jaxem.fit_restarts_parallel(KEY, images, TEMPLATE, **options), told

    with pytest.raises(KilledError):
        search(dies=True)
    found, told = search(dies=False)
    assert {(progress.num_images, progress.stage) for progress in told} == {(COUNT, "converging")}
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(undisturbed), strict=True):
        np.testing.assert_array_equal(one, other)


def test_where_nothing_stands_out_the_sample_is_doubled_up_to_all_frames(textured, monkeypatch):
    images, found, searched = np.zeros((1300, 6, 7), "float32"), textured[3], []

    def search_with(contrast, **options):
        searched.clear()

        def search(work, key, frames, search, prefix=""):
            searched.append((frames.num_images, prefix))
            return found._replace(diagnostics=found.diagnostics._replace(contrast=contrast(frames.num_images)))

        def fit_all(work, frames, found, numbers, search):
            assert work.options.tolerance == pytest.approx(subsampling.TOLERANCE_SHARE * 1e-3)
            searched.append((frames.num_images, len(numbers)))

        monkeypatch.setattr(parallel._Work, "search", search)
        monkeypatch.setattr(parallel._Work, "fit_all", fit_all)
        jaxem.fit_restarts_parallel(KEY, images, (2, 3), **options)
        return searched

    monkeypatch.setattr(subsampling, "FEWEST_IMAGES", 100)
    assert search_with(lambda _: 1.0) == [(100, "100 "), (200, "200 "), (400, "400 "), (1300, "")]
    assert search_with(lambda count: 10.0 * (count > 150) * count) == [(100, "100 "), (200, "200 "), (1300, 200)]
    assert search_with(lambda _: 1.0, sample=150) == [(150, "150 "), (1300, 150)]  # what was asked for
    assert search_with(lambda _: 1e9, sample=None) == [(1300, "")]
    assert (larger_sample(60, as_frames(images[:200])), larger_sample(30, as_frames(images[:200]))) == (None, 60)

    chance = 2 * np.log(found.best.params.prior.size)
    assert stands_out(1.2 * chance + 1, found.best.params, 30)
    assert not stands_out(0.9 * chance + 1, found.best.params, 30)
    assert not stands_out(np.nan, found.best.params, 30)

    def lines(*frames, stage="annealing"):
        story, one = Story(200), textured[4][0]
        return [
            line for count in frames for line in story.news(one._replace(num_images=count, ended=False, stage=stage))
        ]

    assert lines(30, 60, 200) == [
        "searching in 30 of 200 frames",
        "what was found hardly stands out of noise; searching in 60 of 200 frames",
        "what was found hardly stands out of noise; searching in 200 of 200 frames",
    ]
    assert lines(200, 200) == []
    assert lines(30, 200, stage=ALL_STAGE)[1:] == ["fitting all 200 frames"]


def test_results_in_files(textured, tmp_path):
    found = textured[3]
    jaxem.save(tmp_path / "found.npz", found)
    loaded = jaxem.load(tmp_path / "found.npz")
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(loaded), strict=True):
        np.testing.assert_array_equal(one, other)
    before = found._replace(sample=None, runs=jax.tree.map(lambda leaf: leaf[None], found.best))
    before = before._replace(diagnostics=found.diagnostics._replace(num_sample_steps=None))
    jaxem.save(tmp_path / "before.npz", before)
    assert "sample" not in np.load(tmp_path / "before.npz").files
    assert jaxem.load(tmp_path / "before.npz").sample is None
    for wrong in (found.sample + COUNT, found.sample[::-1], found.sample[:-1], found.sample.astype(float)):
        with pytest.raises(ValueError, match="sample"):
            jaxem.save(tmp_path / "wrong.npz", found._replace(sample=wrong))


def test_what_is_drawn_is_the_search_on_the_sample(textured):
    found = textured[3]
    plots = pytest.importorskip("jaxem.plots")
    title = plots.search_progress(found).get_title()
    assert title.startswith(f"the search on {SIZE} of {COUNT} frames: 2 starts, ")
    from jaxem.plots.searches import stage_points

    points = stage_points(found)
    assert points.below.min() == 0
    assert points.below[-1] * SIZE < 1
    assert " frames" not in plots.search_progress(by_hand((9, 10), (3, 4))[0]).get_title()


def test_the_command_line_judges_the_fit_to_all_frames(textured, capfd):
    found = textured[3]
    test = SimpleNamespace(test=SimpleNamespace(p_value=np.nan))

    def code(found):
        return writing.exit_code(SimpleNamespace(found=found, runs=found.runs, best=found.best, assessment=test))

    assert code(found) == 0
    stopped = found.best._replace(status=np.int32(Status.MAX_ITERATIONS))
    assert code(found._replace(best=stopped)) == 3
    assert code(found._replace(best=stopped, sample=None)) == 0  # another run did converge
    assert "no run converged" in capfd.readouterr().err
    assert [parse_sample(word) for word in ("auto", "all", "12")] == ["auto", "all", 12]
    with pytest.raises(ValueError, match=r"must be auto, all or a whole number of frames, but is '1\.5'"):
        parse_sample("1.5")
    with pytest.raises(ValueError, match="sample must be at least 1, but is 0"):
        fitting.check_numbers(FitRequest((2, 3), sample=0))
    fitting.check_numbers(FitRequest((2, 3), sample="all"))
