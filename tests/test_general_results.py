"""Results of the general model applied, written and drawn."""

import csv
import re

import imageio.v3 as imageio
import numpy as np
import pytest
from general_results import COUNT, IMAGE, TURNS, drawn, pasted, restarts, truth

import jaxem
from jaxem.assess.locating import with_mixed_prior
from jaxem.cli import app
from jaxem.io import read_frames
from jaxem.model import predict
from jaxem.plots import summary
from jaxem.plots.pictures import Palette, as_picture


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    """Programs compiled in this process are not kept: for the tests after these its configuration stays as it was."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/dev/null/nowhere")


@pytest.fixture(scope="module")
def params():
    return truth()


@pytest.fixture(scope="module")
def problem(params):
    return drawn(params)


@pytest.fixture
def files(tmp_path, params, problem):
    jaxem.save(tmp_path / "result.npz", restarts(params, problem[1], TURNS))
    np.save(tmp_path / "frames.npy", problem[0])
    return tmp_path


def run(*arguments):
    return app.run([str(argument) for argument in arguments])


def table(path):
    with path.open() as stream:
        return list(csv.DictReader(stream))


def test_locate_tells_template_transform_and_presence(files, params, problem, capfd, monkeypatch):
    monkeypatch.setattr(predict, "PIXELS_PER_BATCH", 10 * params.prior.size)
    images, true = problem
    frames, model = files / "frames.npy", files / "result.npz"
    assert run("locate", frames, "--model", model, "--out", files / "out", "--frames", "1:") == 0
    captured = capfd.readouterr()
    assert captured.err == ""
    assert f"23 frames of 11 x 13 uint8 in 3 channels from {frames}\n" in captured.out
    rows = table(files / "out" / "positions.csv")
    more = ["presence", "template", "transform", "present"]
    assert list(rows[0]) == ["frame", "row", "column", "log_evidence", "confidence", *more]
    posterior = jaxem.e_step(images[1:].astype("float32"), params, transforms=TURNS)
    with np.load(files / "out" / "positions.npz", allow_pickle=False) as file:
        found = dict(file)
    np.testing.assert_array_equal(found["present"], true.present[1:])
    there = true.present[1:]
    for name in ("corners", "template"):
        np.testing.assert_array_equal(found[name][there], getattr(true, name)[1:][there], err_msg=name)
    np.testing.assert_array_equal(found["transform"][there], np.array(TURNS)[true.transform[1:]][there])
    np.testing.assert_allclose(found["presence"], 1 - posterior.absent, atol=1e-5)
    best = np.maximum(np.max(posterior.probs, axis=(1, 2, 3, 4)), posterior.absent)
    np.testing.assert_allclose(found["confidence"], best, rtol=1e-4)
    for row, name, present in zip(rows, found["transform"], found["present"], strict=True):
        assert (row["transform"], row["present"]) == (name, str(int(present)))
    shares = [100 * np.mean((found["template"] == number) & there) for number in (0, 1)]
    assert f"template 0 in {shares[0]:.3g} %, template 1 in {shares[1]:.3g} % of the frames\n" in captured.out
    assert f"nothing in {100 * np.mean(~there):.3g} % of the frames ({(~there).sum()} of 23)\n" in captured.out
    assert 0 < there.sum() < 23


@pytest.mark.parametrize("suffix", ["", ".tif", ".npy"])
def test_restore_shows_what_is_there(files, params, problem, suffix, monkeypatch):
    monkeypatch.setattr(predict, "PIXELS_PER_BATCH", 10 * params.prior.size)
    out = files / f"clean{suffix}"
    assert run("restore", files / "frames.npy", "--model", files / "result.npz", "--out", out) == 0
    found = read_frames(out, colour=True)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.rint(pasted(params, problem[1])))


def test_simulate_draws_all_of_it(files, params):
    arguments = ["--model", files / "result.npz", "--num-images", COUNT, "--seed", 3]
    assert run("simulate", *arguments, "--out", files / "drawn.npy") == 0
    images, true = drawn(params)
    np.testing.assert_array_equal(np.clip(np.rint(np.load(files / "drawn.npy")), 0, 255), images)
    rows = table(files / "drawn-corners.csv")
    assert list(rows[0]) == ["frame", "row", "column", "template", "transform", "present"]
    assert [int(row["template"]) for row in rows] == true.template.tolist()
    assert [row["transform"] for row in rows] == [TURNS[number] for number in true.transform]
    assert [int(row["present"]) for row in rows] == true.present.astype(int).tolist()


def test_what_was_not_observed_tells_nothing(files, params, problem, capfd):
    images = problem[0].astype(np.float32)
    mask = np.ones((COUNT, *IMAGE), np.uint8)
    mask[:, :2] = 0
    mask[4:20, :, 3:] = 0
    images[mask == 0] = np.nan
    np.save(files / "holes.npy", images)
    np.save(files / "mask.npy", mask)
    np.save(files / "dirty.npy", np.where(np.isnan(images), 7e4, images))
    model = ["--model", files / "result.npz", "--out"]
    assert run("locate", files / "holes.npy", *model, files / "a", "--nan-missing") == 0
    assert run("locate", files / "dirty.npy", *model, files / "b", "--mask", files / "mask.npy") == 0
    assert table(files / "a" / "positions.csv") == table(files / "b" / "positions.csv")
    captured = capfd.readouterr()
    assert captured.err == ""  # frames of which less was observed are no worse explained
    assert f"holes.npy; {100 * mask.mean():.3g} % of their pixels count\n" in captured.out
    with np.load(files / "a" / "positions.npz") as found:
        flat = with_mixed_prior(params, 1.0)
        expected = jaxem.log_likelihood(np.nan_to_num(images), flat, weights=mask, transforms=TURNS)
        np.testing.assert_allclose(found["log_evidence"], expected, rtol=1e-5)
    assert run("restore", files / "holes.npy", *model, files / "clean.npy", "--nan-missing") == 0
    assert np.isfinite(np.load(files / "clean.npy")).all()


def test_the_figure_shows_it(files, problem):
    jaxem.save(files / "fit.npz", restarts(truth(), problem[1], TURNS).best)
    absent = int(np.argmin(problem[1].present))
    frames = ["--images", files / "frames.npy", "--frame"]
    for name, more in {"a.png": [], "b.png": [*frames, 0], "c.png": [*frames, absent]}.items():
        assert run("plot", files / "fit.npz", "--out", files / name, *more) == 0
        picture = imageio.imread(files / name)[..., :3].astype(int)
        assert (np.ptp(picture, axis=-1) > 40).mean() > 0.1, "it is in colour"


@pytest.mark.parametrize(("count", "shown"), [(1, 1), (2, 2), (3, 3), (5, 5), (15, 12)])
def test_the_figure_has_a_panel_for_each_template(params, problem, count, shown):
    several = params._replace(
        template=np.resize(params.template, (count, *params.template.shape[1:])),
        prior=np.resize(params.prior, (count, *params.prior.shape[1:])) / count,
    )
    best = restarts(several, problem[1]._replace(template=problem[1].template % count), TURNS).best
    figure = summary(best)
    titles = [axis.get_title().replace("\n", " ") for axis in figure.axes]
    assert len(figure.axes) == 3 + 2 * shown
    assert f"background, alone in {100 * 0.25:.3g} % of the frames" in titles
    if count > 1:
        share = 100 * float(several.prior[-1 if count == shown else 11].sum())
        assert f"template {shown - 1}: {share:.3g} %{', and 3 more' if count == 15 else ''}" in titles
        assert f"corner of template {shown - 1}" in titles
    assert "rot270" in figure.get_suptitle()


def test_pictures_are_blank_where_there_is_nothing():
    grey = np.array([[0.0, 5, np.nan]])
    np.testing.assert_allclose(as_picture(grey, Palette(0, 10))[0], [[0, 0, 0, 1], [0.5, 0.5, 0.5, 1], [0, 0, 0, 0]])
    colour = np.array([[[0.0, 5, 20], [1, 2, 3]]])
    found = as_picture(colour, Palette(0, 10), np.array([[True, False]]))
    np.testing.assert_allclose(found, [[[0, 0.5, 1, 1], [0, 0, 0, 0]]])
    assert as_picture(np.ones((2, 3, 2)), Palette(0, 1))[0, 0].tolist() == [1, 1, 1, 1]
    one_channel = np.array([[[1.0, 0], [0, 1]]])
    assert as_picture(one_channel, Palette(0, 1))[0, :, :3].tolist() == [[1, 0.5, 0], [0, 0.5, 1]]
    assert as_picture(np.ones((2, 3, 5)), Palette(0, 2))[0, 0].tolist() == [0.5, 0.5, 0.5, 1]
    assert Palette.of([grey, colour, np.full((2, 2), np.nan)]) == (0, 20)
    assert Palette.of([np.full((2, 2), np.nan)]) == (0, 1)
    assert Palette.of([np.arange(101.0), np.array([50.0])], cut=0.1) == (10, 90)


def wrong(files, name):
    model, frames = files / "result.npz", files / "frames.npy"
    result = jaxem.load(model)
    jaxem.save(files / "params.npz", (params := result.best.params))
    grey = params._replace(
        template=params.template[..., 0], background=params.background[..., 0], noise_scale=params.noise_scale[0]
    )
    jaxem.save(files / "grey.npz", grey)
    jaxem.save(files / "many.npz", result.runs)
    five = params._replace(
        template=np.repeat(params.template, 2, -1)[..., :5],
        background=np.repeat(params.background, 2, -1)[..., :5],
        noise_scale=np.float32(9),
    )
    jaxem.save(files / "five.npz", result.best._replace(params=five))
    np.save(files / "five.npy", np.zeros((3, *IMAGE, 5), np.uint8))
    np.save(files / "grey.npy", np.zeros((3, *IMAGE), np.uint8))
    np.save(files / "small.npy", np.ones((4, 4)))
    locate = ["locate", frames, "--out", files / "out", "--model"]
    return {
        "grey frames": (
            ["locate", files / "grey.npy", *locate[2:], model],
            "FRAMES: .*grey.npy is grey, but .*result.npz was found in frames of 3 channels",
        ),
        "grey asked for": ([*locate, model, "--grey", "red"], "--grey is of no use here: .*found in colour"),
        "other channels": (
            ["locate", files / "five.npy", *locate[2:], model],
            "FRAMES: .* has 5 channels, but .*result.npz was found in frames of 3",
        ),
        "many": ([*locate, files / "many.npz"], "--model: .*many.npz holds many results along a leading axis"),
        "no transforms": ([*locate, files / "grey.npz"], "--model: .*grey.npz does not say how its templates may be"),
        "mask": (
            [*locate, model, "--mask", files / "small.npy"],
            "--mask takes pictures as large as the frames, 11 x 13, but",
        ),
        "no room for channels": (
            ["restore", files / "five.npy", "--model", files / "five.npz", "--out", files / "x.png.d" / "y"],
            "--out: .*cannot hold 5 channels; choose an .npy file",
        ),
    }[name]


@pytest.mark.parametrize(
    "name", ["grey frames", "grey asked for", "other channels", "many", "no transforms", "mask", "no room for channels"]
)
def test_a_mistake_gets_one_line_and_exit_code_2(files, capfd, name):
    arguments, pattern = wrong(files, name)
    before = sorted(files.rglob("*"))
    assert run(*arguments) == 2
    error = capfd.readouterr().err
    assert re.fullmatch(f"jaxem: .*{pattern}.*\n", error), error
    assert sorted(files.rglob("*")) == before
