"""Figures: every kind of result can be drawn, nothing is in the way of anything, and what is drawn is so."""

import itertools
import re
from pathlib import Path

import jax
import numpy as np
import pytest
from matplotlib import _pylab_helpers
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
from PIL import Image
from planted_results import COUNT, planted
from problems import random_params, sample

import jaxem
from jaxem import plots
from jaxem.plots.contents import contents_of
from jaxem.plots.pictures import as_picture
from jaxem.plots.searches import stage_points
from jaxem.plots.writing import described
from jaxem.search.stages import StageKind

DOCS = Path(__file__).parent.parent / "docs"
TURNS = ("identity", "rot90", "rot180", "rot270")
CASES = {
    "grey": ((9, 11), (3, 4), {}),
    "one channel": ((9, 11), (3, 4), {"channels": 1}),
    "two channels": ((9, 11), (3, 4), {"channels": 2}),
    "three channels": ((9, 11), (3, 4), {"channels": 3}),
    "five channels": ((9, 11), (3, 4), {"channels": 5}),
    "several": ((9, 11), (3, 4), {"templates": 3}),
    "many": ((9, 11), (3, 4), {"templates": 14}),
    "turned": ((9, 11), (3, 3), {"transforms": TURNS}),
    "absent": ((9, 11), (3, 4), {"absent": True}),
    "wrap": ((9, 11), (3, 4), {"wrap": True}),
    "all at once": ((9, 11), (3, 3), {
        "channels": 3, "templates": 2, "transforms": TURNS, "absent": True, "wrap": True, "opacity": np.eye(3),
    }),
    "wide": ((6, 40), (2, 5), {}),
    "very wide": ((4, 90), (2, 6), {}),
    "tall": ((40, 6), (5, 2), {}),
    "very tall": ((90, 4), (6, 2), {}),
    "row": ((1, 40), (1, 7), {}),
    "column": ((40, 1), (7, 1), {}),
    "row in colour": ((1, 40), (1, 7), {"channels": 3}),
    "row of several": ((1, 40), (1, 7), {"templates": 3, "wrap": True, "absent": True}),
    "a pixel": ((1, 1), (1, 1), {}),
    "all template": ((5, 6), (5, 6), {"unseen": np.ones((5, 6), bool)}),
}  # fmt: skip


@pytest.fixture(scope="module")
def grey():
    return planted((9, 11), (3, 4))


@pytest.fixture(scope="module")
def signal():
    return planted((1, 40), (1, 7), channels=2)


def titles_of(figure):
    return [axes.get_title().replace("\n", " ") for axes in figure.axes]


def expect_nothing_in_the_way(figure):
    """No panel, with all that belongs to it, is over another, and none leaves the figure."""
    figure.draw_without_rendering()
    boxes = {axes.get_title(): axes.get_tightbbox() for axes in figure.axes}
    assert len(boxes) == len(figure.axes), "every panel has a title of its own"
    for (one, box), (other, another) in itertools.combinations(boxes.items(), 2):
        shared = Bbox.intersection(box, another)
        assert shared is None or min(shared.width, shared.height) < 1, f"{one!r} is over {other!r}"
    whole = figure.bbox.padded(1)
    for title, box in boxes.items():
        assert whole.x0 <= box.x0 <= box.x1 <= whole.x1, f"{title!r} leaves the figure"
        assert whole.y0 <= box.y0 <= box.y1 <= whole.y1, f"{title!r} leaves the figure"
    above = figure._suptitle.get_window_extent()
    assert not any(box.overlaps(above.padded(-1)) for box in boxes.values()), "the title of the figure is in the way"
    for axes in figure.axes:
        assert axes.get_window_extent().width > 5, axes.get_title()
        assert axes.get_window_extent().height > 5, axes.get_title()


@pytest.mark.parametrize("name", CASES)
def test_every_kind_of_result_can_be_drawn(name, tmp_path):
    image, template, options = CASES[name]
    report, images = planted(image, template, **options)
    images[1, 0, : image[1] // 3] = np.nan
    plain = plots.summary(report.best)
    expect_nothing_in_the_way(plain)
    figure = plots.summary(report, images, number=1)
    expect_nothing_in_the_way(figure)
    plots.write_figure(figure, tmp_path / "figure.png", dots_per_inch=40)
    shown = " ".join(titles_of(figure))
    for words in ("frame 1 as observed", "without noise", "residuals", "background", "template", "the search"):
        assert words in shown
    assert ("corner" in shown) == (name not in ("a pixel", "all template"))
    assert ("intervals" in shown) == (min(image) == 1)
    assert ("standard error of" in shown) == (min(image) > 1)


@pytest.mark.parametrize("which", ["grey", "signal"])
def test_each_function_draws_where_it_is_told(which, request):
    report, images = request.getfixturevalue(which)
    draw = {
        "frame": lambda axes: plots.frame(images[2], report, 2, axes=axes),
        "clean_frame": lambda axes: plots.clean_frame(report, 2, axes=axes),
        "template": lambda axes: plots.template(report, axes=axes),
        "template_error": lambda axes: plots.template_error(report, axes=axes),
        "background": lambda axes: plots.background(report, axes=axes),
        "prior": lambda axes: plots.prior(report, axes=axes),
        "confidence": lambda axes: plots.confidence(report, axes=axes),
        "residuals": lambda axes: plots.residuals(report, axes=axes),
        "search_progress": lambda axes: plots.search_progress(report, axes=axes),
    }
    assert set(draw) == set(plots.__all__) - {"summary", "sizes_figure", "write_figure"}
    for name, function in draw.items():
        axes, other = Figure().subplots(1, 2)
        assert function(axes) is axes, name
        assert axes.has_data(), name
        assert axes.get_title(), name
        assert not other.has_data(), name
        new = function(None)
        assert isinstance(new, Axes), name
        assert new.figure is not axes.figure, name
    assert not _pylab_helpers.Gcf.figs, "nothing is left in matplotlib's state"


def sizes_of(figure):
    figure.draw_without_rendering()
    return {title: axes.get_window_extent() for title, axes in zip(titles_of(figure), figure.axes, strict=True)}


def test_slender_frames_have_layouts_of_their_own():
    square, wide, tall = (sizes_of(plots.summary(planted(image, (2, 2))[0])) for image in ((10, 12), (6, 40), (40, 6)))
    assert square["background"].y0 < square["frame 0 without noise"].y0 + square["background"].height
    for title in ("frame 0 without noise", "background"):
        assert wide[title].width > 4 * wide[title].height
        assert wide[title].width > 1.3 * square[title].width
        assert tall[title].height > 4 * tall[title].width
    search = "the search: 2 starts, 30 E-steps"
    assert wide[search].y1 < min(wide["background"].y0, wide["frame 0 without noise"].y0), "below the pictures"
    assert tall[search].x0 > max(tall["background"].x1, tall["frame 0 without noise"].x1), "beside the pictures"
    beside = wide["residuals, rms: 1 is as the model says"]
    assert beside.y0 == pytest.approx(wide["frame 0 without noise"].y0, abs=30), "two a row"
    assert beside.x0 > wide["frame 0 without noise"].x1


def covered_by(spans, count):
    ends = [(span.get_x(), span.get_x() + span.get_width()) for span in spans]
    return [place for place in range(count) if any(left < place < right for left, right in ends)]


@pytest.mark.parametrize("is_row", [True, False])
def test_a_signal_is_lines_and_its_window_a_span(is_row):
    turn = (lambda shape: shape) if is_row else (lambda shape: shape[::-1])
    report, images = planted(turn((1, 40)), turn((1, 7)), wrap=True)
    corners = np.asarray(report.best.corners)[:, int(is_row)]
    inside, round_the_end = int(np.argmax(corners < 33)), int(np.argmax(corners > 34))
    for number, corner in ((inside, corners[inside]), (round_the_end, corners[round_the_end])):
        figure = plots.summary(report, images, number=number)
        (axes,) = (one for one in figure.axes if "as observed" in one.get_title())
        noisy, clean = axes.get_lines()
        np.testing.assert_array_equal(noisy.get_ydata(), images[number].ravel())
        expected = contents_of(report).without_noise(contents_of(report).position(number))
        np.testing.assert_array_equal(clean.get_ydata(), expected.ravel())
        covered = covered_by([patch for patch in axes.patches if patch.get_gid() == "window"], 40)
        assert covered == sorted((corner + np.arange(7)) % 40)
        assert axes.get_xlabel() == ("column, pixels" if is_row else "row, pixels")


def test_pixels_that_were_never_seen_are_hatched_and_no_others():
    unseen = np.random.default_rng(2).random((9, 11)) < 0.3
    unseen[4, 5] = False
    report, _ = planted((9, 11), (3, 4), unseen=unseen)
    nowhere = np.asarray(report.assessment.residuals.by_pixel).copy()
    nowhere[4, 5] = np.nan  # the weight is zero in every image
    residuals = report.assessment.residuals._replace(by_pixel=nowhere)
    both = report._replace(assessment=report.assessment._replace(residuals=residuals))
    more = unseen.copy()
    more[4, 5] = True
    for result, expected in ((report, unseen), (both, more), (report.found, unseen)):
        axes = plots.background(result)
        (patch,) = (one for one in axes.patches if one.get_gid() == "unseen")
        assert patch.get_hatch()
        shape = patch.get_path()
        found = [[shape.contains_point((column, row)) for column in range(11)] for row in range(9)]
        np.testing.assert_array_equal(found, expected)
        assert f"{expected.sum()} pixels never seen" in axes.get_title()
    assert not plots.background(planted((9, 11), (3, 4))[0]).patches
    (row, _), hidden = planted((1, 9), (1, 4), unseen=np.arange(9)[None] % 4 == 1), [1, 5]
    assert covered_by(plots.background(row).patches, 9) == hidden


def test_what_a_run_alone_never_saw_is_told_by_its_prior():
    report, _ = planted((9, 11), (3, 4))
    prior = np.zeros_like(report.best.params.prior)
    prior[2, 3], prior[3, 3] = 0.5, 0.5
    best = report.best._replace(params=report.best.params._replace(prior=prior))
    expected = np.zeros((9, 11), bool)
    expected[3:5, 3:7] = True
    np.testing.assert_array_equal(contents_of(best).unseen, expected)


def test_the_window_is_drawn_where_it_was_found_and_also_beyond_the_edge():
    report, images = planted((9, 11), (3, 4), wrap=True, absent=True)
    for number, (row, column) in enumerate(report.best.corners):
        boxes = [one for one in plots.frame(images[number], report, number).patches if one.get_gid() == "window"]
        expected = set()
        if report.best.present[number]:
            rows = {row, row - 9} if row > 6 else {row}
            expected = set(itertools.product(rows, {column, column - 11} if column > 7 else {column}))
        assert {(box.get_y() + 0.5, box.get_x() + 0.5) for box in boxes} == expected
        assert all((box.get_height(), box.get_width()) == (3, 4) for box in boxes)
    assert not plots.frame(images[0], report).patches
    assert "no template in it" in plots.frame(images[0], report, 0).get_title()


def test_what_is_compared_has_one_scale(grey):
    report, images = grey
    palette = contents_of(report).palette
    values = [report.best.params.template, report.best.params.background]
    assert palette == (min(map(np.min, values)), max(map(np.max, values)))
    for axes, pixels in zip(
        (plots.template(report), plots.background(report), plots.clean_frame(report, 0)),
        (*values, contents_of(report).without_noise(contents_of(report).position(0))),
        strict=True,
    ):
        np.testing.assert_allclose(axes.images[0].get_array(), as_picture(pixels, palette), atol=1e-6)
    image = images[0].copy()
    image[2, 3] = np.nan
    picture = plots.frame(image, report).images[0].get_array()
    assert picture[2, 3, 3] == 0, "nothing was observed there"
    assert (np.delete(picture[..., 3].ravel(), 2 * 11 + 3) == 1).all()


def test_the_points_of_a_search_are_its_record(grey):
    report, _ = grey
    record, points = report.found.stages, stage_points(report)
    drawn = plots.search_progress(report)
    ran = record.num_steps > 0
    assert points.kind.tolist() == record.kind[ran].tolist()
    found = {collection.get_label(): collection for collection in drawn.collections}
    assert set(found) == {"annealing (2)", "trial start", "centring", "converging"}
    steps = np.cumsum(record.num_steps)
    for label, kind in (("annealing (2)", 0), ("trial start", 1), ("centring", 6), ("converging", 8)):
        here = ran & (record.kind == kind)
        expected = np.stack([steps[here], (-490 - record.elbo[here]) / COUNT], axis=1)
        offsets = np.ma.filled(found[label].get_offsets().astype(float), np.nan)
        finite = np.isfinite(expected[:, 1])
        np.testing.assert_allclose(offsets[finite], expected[finite], err_msg=label)
        assert np.isnan(offsets[~finite]).any(axis=1).all()
        filled = (found[label].get_facecolors()[:, :3] < 1).any(axis=1)
        np.testing.assert_array_equal(filled, record.is_best[here], err_msg=label)
    path = drawn.get_lines()[1]
    np.testing.assert_allclose(path.get_xdata(), [28, 29, 30])
    np.testing.assert_allclose(path.get_ydata(), [410 / COUNT, 10 / COUNT, 0], atol=1e-6)
    assert [text.get_text() for text in drawn.texts] == ["1", "2"]
    assert (
        "before hard EM"
        in plots.search_progress(report.found._replace(best=report.best._replace(elbo=np.float32(-480)))).get_title()
    )


def test_plain_runs_are_drawn_all_along(grey):
    found = grey[0].found._replace(stages=None)
    history = np.array([[-900, -700, np.nan, np.nan], [-900, -500, -490, np.nan]], "float32")
    runs = found.runs._replace(history=history, num_iterations=np.array([1, 2]), num_scheduled=np.array([0, 0]))
    axes = plots.search_progress(found._replace(runs=runs))
    first, second = axes.get_lines()
    np.testing.assert_allclose(first.get_xdata(), [1, 2])
    np.testing.assert_allclose(first.get_ydata(), [410 / COUNT, 210 / COUNT], rtol=1e-6)
    np.testing.assert_allclose(second.get_xdata(), [3, 4, 5])
    np.testing.assert_allclose(second.get_ydata(), [410 / COUNT, 10 / COUNT, 0], atol=1e-6)
    assert (first.get_label(), second.get_label()) == ("other runs", "best run")
    assert axes.get_title() == "2 plain runs: 5 E-steps"


def test_confidence_is_that_of_the_frames_that_count():
    report, _ = planted((9, 11), (3, 4), absent=True)
    residuals = report.assessment.residuals
    counted = residuals.by_image.copy()
    counted[4] = np.nan
    assessment = report.assessment._replace(residuals=residuals._replace(by_image=counted))
    values, edges, _ = plots.confidence(report._replace(assessment=assessment)).patches[0].get_data()
    located = report.assessment.located
    kept = located.present & np.isfinite(counted)
    np.testing.assert_array_equal(values, np.sort(located.confidence[kept])[::-1])
    np.testing.assert_allclose(edges, np.linspace(0, 100, kept.sum() + 1))


def test_the_prior_is_shown_whole_by_blocks():
    report, _ = planted((70, 100), (3, 4))
    image = plots.prior(report).images[0]
    prior, block = report.best.params.prior, 3
    assert image.get_array().shape == (-(-68 // block), -(-97 // block))
    np.testing.assert_allclose(image.get_array().sum(), 1, rtol=1e-5)
    np.testing.assert_allclose(image.get_array()[1, 2], prior[3:6, 6:9].sum(), rtol=1e-5)
    report, _ = planted((1, 40), (1, 7), templates=2)
    heights = [bar.get_height() for bar in plots.prior(report, 1).patches]
    np.testing.assert_allclose(heights, report.best.params.prior[1, 0], rtol=1e-5)


def test_residuals_of_images_are_those_of_the_assessment():
    rng = np.random.default_rng(4)
    truth = random_params(rng, (8, 9), (3, 3), 0.5)
    images = sample(rng, truth, 40)[0].astype("float32")
    images[:, 2, 3] += rng.normal(size=40)
    found = jaxem.fit(images, jax.tree.map(lambda leaf: np.asarray(leaf, "float32"), truth), max_iterations=3)
    assert found.elbo.dtype == images.dtype
    restarts = planted((8, 9), (3, 3))[0].found._replace(best=found)
    report = jaxem.Report(restarts, jax.device_get(jaxem.assess_fit(images, found)))
    known, measured = plots.residuals(report), plots.residuals(found, images)
    np.testing.assert_allclose(known.images[0].get_array() ** 2, report.assessment.residuals.by_pixel, rtol=1e-4)
    np.testing.assert_allclose(measured.images[0].get_array(), known.images[0].get_array(), rtol=0.02)
    assert known.images[0].get_array()[2, 3] > 1.5


def test_images_that_were_not_fitted_are_looked_at_anew(grey):
    report, images = grey
    for new in (images[5], images[5:8]):
        titles = titles_of(plots.summary(report.best, new))
        assert titles[:2] == ["a frame as observed", "a frame without noise"]
        assert not any("residuals" in title for title in titles)
    (box,) = plots.summary(report.best, images[5]).axes[0].patches
    assert (box.get_y() + 0.5, box.get_x() + 0.5) == tuple(report.best.corners[5])
    assert titles_of(plots.summary(report, images[5], number=5))[0] == "frame 5 as observed"
    holes = np.where(np.arange(11) < 2, np.nan, images[5])
    assert plots.summary(report.best, holes).axes[0].patches


def test_mistakes_are_told(grey):
    report, images = grey
    with pytest.raises(TypeError, match=r"result must be a jaxem\.Report, Restarts or Fit, but is Params"):
        plots.summary(report.best.params)
    with pytest.raises(ValueError, match="result holds many along a leading axis"):
        plots.template(report.runs)
    with pytest.raises(ValueError, match="no standard errors"):
        plots.template_error(report.found)
    with pytest.raises(ValueError, match="how sure its places are"):
        plots.confidence(report.best)
    with pytest.raises(ValueError, match="images must be those of the fit"):
        plots.residuals(report.best, images[:3])
    with pytest.raises(ValueError, match="holds no stages"):
        stage_points(report.best)
    for wrong in (images[0, :5], images[:2, :5]):
        with pytest.raises(ValueError, match=r"must be of the shape"):
            plots.summary(report, wrong)
    with pytest.raises(IndexError):
        plots.template(report, 1)
    for wrong in (COUNT, -COUNT - 1):
        with pytest.raises(IndexError):
            plots.summary(report, number=wrong)
    last, same = (plots.frame(images[-1], report, number).patches[0].get_xy() for number in (-1, COUNT - 1))
    assert last == same


def test_files_say_what_is_in_them(grey, tmp_path):
    figure = plots.summary(grey[0])
    for suffix in ("png", "svg", "pdf"):
        path = tmp_path / f"figure.{suffix}"
        plots.write_figure(figure, path, dots_per_inch=30)
        assert (b"/Subject" if suffix == "pdf" else b"frame 0 without noise; ") in path.read_bytes()


def test_the_pictures_of_the_page_are_of_the_layout_that_is_drawn_now(grey, signal):
    page = (DOCS / "pictures.md").read_text()
    pictures = sorted((DOCS / "pictures").glob("*.png"))
    assert {f"pictures/{path.name}" for path in pictures} == set(re.findall(r"\((pictures/.*?)\)", page))
    assert len(pictures) == 5
    said = {}
    for path in pictures:
        assert path.stat().st_size < 150_000, path
        with Image.open(path) as picture:
            said[path.stem] = kinds_of(picture.info["Description"])
    expected = kinds_of(described(plots.summary(*grey)))
    assert said["folder"] | {"standard error of the template, median"} == expected
    assert said["signals"] == kinds_of(described(plots.summary(*signal)))


def kinds_of(description):
    """What panels there are, by what does not depend on the data."""
    titles = (re.sub(r"( \(.*\))|[0-9.]+( x [0-9]+)?", "#", title) for title in description.split("; "))
    return {re.sub(r"[#, ]+standard error #$|#$", "", title).strip().removesuffix(",") for title in titles}


def test_every_kind_of_stage_has_a_look_of_its_own():
    styles = plots.searches.STYLES
    assert set(styles) == set(StageKind)
    assert len(set(styles.values())) == len(styles)
