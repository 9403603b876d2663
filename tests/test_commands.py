"""The commands around the search: frames looked at, made, located, restored and drawn, rightly and wrongly."""

import csv
import json
import os
import re
import struct
import subprocess
import sys

import imageio.v3 as imageio
import jax
import numpy as np
import pytest
from PIL import Image

import jaxem
from jaxem.assess import frame_stats
from jaxem.cli import app, applying, estimate, inspecting, memory, simulating
from jaxem.cli.applied import FramesInMemory
from jaxem.cli.estimate import Estimate
from jaxem.cli.observed import Observed, open_observed
from jaxem.cli.overlay import overlay
from jaxem.cli.requests import FrameChoice
from jaxem.io import read_frames
from jaxem.model import predict

IMAGE, TEMPLATE, COUNT = (20, 24), (7, 6), 12


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    """Programs compiled in this process are not kept: for the tests after these its configuration stays as it was."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/dev/null/nowhere")


@pytest.fixture(scope="module")
def truth():
    rng = np.random.default_rng(11)
    template, background = rng.uniform(20, 230, TEMPLATE), rng.uniform(20, 230, IMAGE)
    prior = np.full((14, 19), 1 / (14 * 19))
    return jaxem.Params(*(np.asarray(part, "float32") for part in (template, background, 12.0, prior)))


@pytest.fixture(scope="module")
def drawn(truth):
    images, corners = jaxem.simulate(jax.random.key(4), truth, COUNT)
    return np.clip(np.rint(images), 0, 255).astype(np.uint8), np.asarray(corners)


@pytest.fixture
def files(tmp_path, truth, drawn):
    jaxem.save(tmp_path / "model.npz", truth)
    np.save(tmp_path / "frames.npy", drawn[0])
    return tmp_path


@pytest.fixture(scope="module")
def search(truth, drawn):
    """A result as a search would give it."""
    count, nothing = np.int32(2), np.float32(0)
    history = np.array([-5e4, -4e4, -3e4, np.nan], np.float32)
    best = jaxem.Fit(truth, history[2], history, count, np.int32(jaxem.Status.CONVERGED), count, nothing, drawn[1])
    runs = jax.tree.map(lambda leaf: np.stack([leaf - 1, leaf]), best)._replace(status=np.array([5, 1], np.int32))
    return jaxem.Restarts(
        best, runs, jaxem.Diagnostics(nothing, count, count, nothing, nothing, count, np.bool_(False))
    )


def run(*arguments):
    return app.run([str(argument) for argument in arguments])


def clean(truth, corners):
    frames = np.repeat(np.asarray(truth.background)[None], len(corners), axis=0)
    for frame, (row, column) in zip(frames, corners, strict=True):
        frame[row : row + TEMPLATE[0], column : column + TEMPLATE[1]] = truth.template
    return frames


def test_locate_tells_what_the_e_step_tells(files, truth, drawn, capfd, monkeypatch):
    frames, corners = drawn
    strange = frames.copy()
    strange[7] = 255 - strange[7]
    np.save(files / "strange.npy", strange)
    monkeypatch.setattr(predict, "PIXELS_PER_BATCH", 4 * frames[0].size)
    arguments = ["locate", files / "strange.npy", "--model", files / "model.npz", "--out", files / "out"]
    assert run(*arguments, "--frames", "2:12") == 0
    captured = capfd.readouterr()
    assert "10 frames of 20 x 24 uint8" in captured.out
    assert captured.err == "jaxem: warning: the model explains 1 frame much worse than the rest: 7\n"
    with (files / "out" / "positions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["frame", "row", "column", "log_evidence", "confidence"]
    assert [int(row["frame"]) for row in rows] == list(range(2, 12))
    posterior = jaxem.e_step(strange[2:].astype("float32"), truth)
    with np.load(files / "out" / "positions.npz", allow_pickle=False) as found:
        assert f"above 0.9 in {100 * np.mean(found['confidence'] > 0.9):.3g} % of the frames" in captured.out
        others = np.arange(10) != 5
        np.testing.assert_array_equal(found["corners"][others], corners[2:][others])
        np.testing.assert_allclose(found["log_evidence"], posterior.log_evidence, rtol=1e-5)
        np.testing.assert_allclose(found["confidence"], np.max(posterior.probs, axis=(1, 2)), rtol=1e-4)
        np.testing.assert_array_equal([[int(row["row"]), int(row["column"])] for row in rows], found["corners"])
        np.testing.assert_array_equal(found["frame"], range(2, 12))
    assert sorted(file.name for file in (files / "out").iterdir()) == ["positions.csv", "positions.npz"]


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        ([-100.0], []),
        ([-100.0, -900, -101, -99, np.nan, -300, -98, -102, -100, -97], [4, 1, 5]),
        ([-100.0, -120, -90], []),
        ([-100.0, -100, -100, -129], []),
        ([-100.0, -100, -100, -131], [3]),
        ([np.nan, -1, -np.inf, np.nan], [0, 2, 3]),
    ],
)
def test_frames_far_below_the_rest(evidence, expected):
    assert frame_stats.outliers(np.array(evidence), 50).tolist() == expected


def test_many_frames_far_below_the_rest_are_counted(capfd):
    evidence = np.repeat([-100.0, -999.0], [40, 13])
    applying._warn_of_outliers(evidence, 50, range(7, 60))
    assert capfd.readouterr().err.endswith(
        "13 frames much worse than the rest: " + ", ".join(map(str, range(47, 57))) + " and 3 more\n"
    )


def test_chosen_frames_keep_their_numbers(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((12, 2, 2)))

    def numbers(**chosen):
        with open_observed(FrameChoice(tmp_path / "a.npy", **chosen)) as opened:
            return list(opened.read().part.numbers)

    assert numbers(frames=(2, 12), every=4) == [2, 6, 10]
    assert numbers(every=4) == numbers(frames=(None, 9), every=4) == [0, 4, 8]
    assert numbers(frames=(-5, None), every=3) == [7, 10]


def test_frames_keep_their_names(files, truth, drawn, capfd):
    names = ["left 3.png", "left 12.png", "x.y.png"]
    (files / "named").mkdir()
    for name, frame in zip(names, drawn[0], strict=False):
        Image.fromarray(frame).save(files / "named" / name)
    model = ["--model", files / "model.npz"]
    assert run("locate", files / "named", *model, "--out", files / "places") == 0
    with (files / "places" / "positions.csv").open() as stream:
        assert [(row["frame"], row["name"]) for row in csv.DictReader(stream)] == [*zip("012", names, strict=True)]
    with np.load(files / "places" / "positions.npz") as found:
        assert found["name"].tolist() == names
    assert run("restore", files / "named", *model, "--out", files / "clean", "--frames", "1:") == 0
    assert sorted(file.name for file in (files / "clean").iterdir()) == ["left 12.png", "x.y.png"]
    several = [files / "named" / name for name in reversed(names)]  # as a shell spells a pattern out
    capfd.readouterr()
    assert run("locate", *several, *model, "--out", files / "listed") == 0
    assert "3 files" in capfd.readouterr().out
    assert (files / "listed" / "positions.csv").read_text() == (files / "places" / "positions.csv").read_text()


def test_commands_that_are_over_soon_speak_json(files, no_trial, capfd):
    def said(*arguments):
        assert run(*arguments, "--json") == 0
        captured = capfd.readouterr()
        assert captured.err == ""
        return {line["event"]: line for line in map(json.loads, captured.out.splitlines())}

    frames, model = files / "frames.npy", ["--model", files / "model.npz"]
    told = said("info", frames, "--template-shape", "7x6", "--contrast", "50", "--estimate")
    assert told["frames"]["shape"] == [12, 20, 24]
    assert told["pixels"]["noise"] == pytest.approx(12, rel=0.3)
    assert told["fit"]["seconds"] == 75.0
    assert told["fit"]["memory"] > 10**6
    assert {"remarks", "exclude_odd", "mask_hot"} <= told["odd"].keys()
    told = said("locate", frames, *model, "--out", files / "spoken")
    assert told["places"]["median_confidence"] > 0.9
    assert told["wrote"]["paths"] == [str(files / "spoken" / name) for name in ("positions.csv", "positions.npz")]
    told = said("restore", frames, *model, "--out", files / "spoken.npy")
    assert told["wrote"]["paths"] == [str(files / "spoken.npy")]
    assert told["frames"]["dtype"] == "uint8"


def test_a_name_that_no_terminal_shows(files, drawn):
    path = files / "fr\udce9d\u00e9ric.npy"
    np.save(path, drawn[0])
    for encoding in ("ascii", "utf-8"):
        ended = subprocess.run(
            [sys.executable, "-m", "jaxem", "info", str(path)],
            env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
            capture_output=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stderr
        assert b"12 frames of 20 x 24 uint8" in ended.stdout
        assert b"ric.npy" in ended.stdout


def test_restore_to_mrc(files, truth, drawn):
    assert run("restore", files / "frames.npy", "--model", files / "model.npz", "--out", files / "clean.mrcs") == 0
    np.testing.assert_array_equal(read_frames(files / "clean.mrcs"), np.rint(clean(truth, drawn[1])).astype(np.uint16))
    header = (files / "clean.mrcs").read_bytes()[:1024]
    sections, space_group = struct.unpack_from("<i", header, 36)[0], struct.unpack_from("<i", header, 88)[0]
    assert (sections, space_group) == (1, 0)  # a stack of images and no volume
    assert struct.unpack_from("<f", header, 80)[0] == np.rint(clean(truth, drawn[1])).max()


@pytest.mark.parametrize("suffix", ["", ".tif", ".npy", ".mkv", ".avi", ".gif"])
def test_restore_puts_the_template_where_it_is(files, truth, drawn, suffix, capfd):
    out = files / f"clean{suffix}"
    assert run("restore", files / "frames.npy", "--model", files / "model.npz", "--out", out) == 0
    expected = np.rint(clean(truth, drawn[1])).astype(np.uint8)
    restored = read_frames(out)
    assert restored.dtype == np.uint8
    # A video's grey goes from 16 to 235 in some containers.
    np.testing.assert_allclose(restored.astype(float), expected, atol=1 if suffix in (".mkv", ".avi", ".gif") else 0)
    assert f"wrote 12 frames to {out}, uint8 pixel values" in capfd.readouterr().out
    if not suffix:
        assert sorted(file.name for file in out.iterdir())[:2] == ["frame_0000.png", "frame_0001.png"]
        arguments = ["--model", files / "model.npz", "--out", files / "some", "--frames", "3:", "--every", "4"]
        assert run("restore", files / "frames.npy", *arguments) == 0
        names = sorted(file.name for file in (files / "some").iterdir())
        assert names == ["frame_0003.png", "frame_0007.png", "frame_0011.png"]


def test_restored_mp4_is_close_and_keeps_its_size_and_speed(files, truth, drawn):
    expected = clean(truth, drawn[1])
    for cut, name in ((IMAGE, "even.mp4"), ((19, 23), "odd.mp4"), ((20, 23), "odd width.mp4")):
        model = truth._replace(background=truth.background[: cut[0], : cut[1]])
        prior = np.full((cut[0] - TEMPLATE[0] + 1, cut[1] - TEMPLATE[1] + 1), 1.0)
        jaxem.save(files / "cut.npz", model._replace(prior=prior / prior.size))
        arguments = ["--model", files / "cut.npz", "--out", files / name, "--fps", "25", "--crop", 0, 0, *cut]
        assert run("restore", files / "frames.npy", *arguments) == 0
        restored = read_frames(files / name)
        assert restored.shape == (COUNT, *cut)
        fits = (drawn[1] + TEMPLATE <= cut).all(axis=1)
        difference = restored[fits].astype(float) - expected[fits][:, : cut[0], : cut[1]]
        assert np.sqrt(np.mean(difference**2)) < 6
    assert imageio.immeta(files / "even.mp4", plugin="pyav")["fps"] == 25


def test_restored_pixels_of_other_types(files, truth, drawn, capfd):
    def restore(images, model, name):
        np.save(files / "other.npy", images)
        jaxem.save(files / "other.npz", model)
        arguments = ["--model", files / "other.npz", "--out", files / name]
        assert run("restore", files / "other.npy", *arguments) == 0
        return read_frames(files / name), capfd.readouterr().out

    expected = clean(truth, drawn[1])
    deep = truth._replace(
        template=100 * truth.template, background=100 * truth.background, noise_scale=100 * truth.noise_scale
    )
    found, text = restore(drawn[0].astype(np.uint16) * 100, deep, "deep")
    assert (found.dtype, "uint16 pixel values" in text) == (np.uint16, True)
    np.testing.assert_allclose(found, 100 * expected, atol=0.51)
    found, _ = restore(drawn[0].astype(np.int32), truth, "whole")
    np.testing.assert_array_equal(found, np.rint(expected).astype(np.uint8))
    found, _ = restore(drawn[0].astype(np.int32), truth, "whole.tif")
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, np.rint(expected))
    found, _ = restore(drawn[0].astype(np.float32), truth, "float.tiff")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    bright = truth._replace(template=truth.template + 300)
    expected = clean(bright, drawn[1])
    low, high = expected.min(), expected.max()
    for name, most in (("float", 65535), ("float.mkv", 255)):
        found, text = restore(expected, bright, name)
        shown = re.search(rf"bit grey, 0 for (\S+) and {most} for (\S+)\n", text)
        np.testing.assert_allclose([float(number) for number in shown.groups()], [low, high], rtol=1e-5)
        np.testing.assert_allclose(found, (expected - low) * most / (high - low), atol=0.6 if most > 255 else 1.1)


def test_simulate_draws_from_a_model_by_its_seed(files, truth, capfd):
    def draw(name, *more):
        return run("simulate", "--model", files / "model.npz", "--num-images", COUNT, "--out", files / name, *more)

    assert draw("a.npy", "--seed", "4") == 0
    assert "wrote 12 frames of 20 x 24 float32 to" in capfd.readouterr().out
    assert draw("b.tif", "--seed", "4") == draw("c", "--seed", "4") == draw("d.npy", "--seed", "5") == 0
    images, corners = jaxem.simulate(jax.random.key(4), truth, COUNT)
    np.testing.assert_array_equal(np.load(files / "a.npy"), images)
    np.testing.assert_array_equal(read_frames(files / "b.tif"), images)
    assert (np.load(files / "d.npy") != np.load(files / "a.npy")).any()
    stretched = (images - images.min()) * (65535 / (images.max() - images.min()))
    np.testing.assert_allclose(read_frames(files / "c"), stretched, atol=0.6)
    for table in ("a-corners.csv", "b-corners.csv", "c/corners.csv"):
        found = np.loadtxt(files / table, delimiter=",", skiprows=1, dtype=int)
        np.testing.assert_array_equal(found, np.column_stack([np.arange(COUNT), corners]))


def test_simulate_without_a_model_is_the_demonstration(tmp_path):
    assert run("simulate", "--out", tmp_path / "demo", "--num-images", 5) == 0
    frames = read_frames(tmp_path / "demo")
    assert (frames.shape, frames.dtype) == ((5, 60, 84), np.uint8)
    again = ["simulate", "--out", tmp_path / "demo", "--num-images", 5]
    assert run(*again) == 2  # over its own files
    assert run(*again, "--overwrite") == 0


def test_plot(files, search, truth):
    jaxem.save(files / "restarts.npz", search)
    jaxem.save(files / "fit.npz", search.best)
    sizes = {}
    for name, more in {
        "plain.png": [],
        "framed.png": ["--images", files / "frames.npy", "--frame", "-1"],
        "vector.svg": ["--images", files / "frames.npy"],
    }.items():
        assert run("plot", files / "restarts.npz", "--out", files / name, *more) == 0
        sizes[name] = (files / name).stat().st_size
    assert imageio.imread(files / "plain.png").shape == imageio.imread(files / "framed.png").shape
    assert sizes["plain.png"] != sizes["framed.png"]
    nowhere = search.best._replace(corners=np.full_like(search.best.corners, -1))
    for fit in (search.best, nowhere):
        jaxem.save(files / "fit.npz", fit)
        assert run("plot", files / "fit.npz", "--out", files / "fit.pdf", "--overwrite") == 0


@pytest.fixture
def no_trial(monkeypatch):
    """An estimate without a trial, which compiles for seconds."""
    told = []

    def estimate_time(images, template_shape, seconds_to_read, num_images):
        told.append((images.shape, template_shape))
        return Estimate(75.0, 70.0, 30.0, "for a reason")

    monkeypatch.setattr(estimate, "estimate_time", estimate_time)
    return told


def info(capfd, frames, path, *more):
    np.save(path, frames)
    assert run("info", path, *more) == 0
    captured = capfd.readouterr()
    assert captured.err == ""
    return captured.out


def test_info_says_what_frames_are(files, drawn, no_trial, capfd, monkeypatch):
    text = info(capfd, drawn[0], files / "frames.npy")
    assert "12 frames of 20 x 24 uint8, 5.76 kB" in text
    assert f"uint8, {drawn[0].min()} to {drawn[0].max()}, mean {drawn[0].mean():.6g}" in text
    needed = f"about {memory.BASE_BYTES / 1e6:.0f} MB of memory"
    assert re.search(rf"a fit +{needed} \(.* are free\); add --estimate for the time\n", text)
    assert "warning" not in text
    assert "template" not in text
    assert no_trial == []
    text = info(capfd, drawn[0], files / "frames.npy", "--estimate")
    assert "template   5 x 6, a quarter of the frame's sides; --template-shape H W gives another" in text
    assert needed in text
    assert "about 1:15, 0:05 of it before and after the search itself; for a reason" in text
    text = info(capfd, drawn[0], files / "frames.npy", "--template-shape", "7", "6", "--every", "2", "--estimate")
    assert "template   7 x 6\n" in text
    assert no_trial == [((12, 20, 24), (5, 6)), ((6, 20, 24), (7, 6))]
    for name in ("available_memory", "taken_memory"):
        monkeypatch.setattr(inspecting, name, lambda: 10**8)
    text = info(capfd, drawn[0][:, :, :2], files / "frames.npy", "--estimate")
    assert "template   5 x 1, a quarter" in text
    assert "note: That is more memory than is free; jaxem fit will read the frames anew in each pass." in text


def test_info_estimates_the_noise(files, no_trial, capfd):
    rng = np.random.default_rng(0)
    background = np.add.outer(np.arange(40.0), np.arange(50.0)) * 3
    frames = background + rng.normal(0, 7, (30, 40, 50))
    frames[:, 5:15, 5:15] += 90
    text = info(capfd, frames, files / "noisy.npy")
    found = [float(number) for number in re.search(r"noise +(\S+) by .*; (\S+) by", text).groups()]
    np.testing.assert_allclose(found, 7, rtol=0.05)
    text = info(capfd, frames[:1], files / "noisy.npy")
    assert "one frame tells none; " in text
    assert "warning: There is one frame only" in text


def test_info_warns_of_frames_that_will_not_do(files, drawn, no_trial, capfd):
    rng = np.random.default_rng(0)
    clipped = np.clip(rng.normal(128, 120, (9, 20, 24)), 0, 255).astype(np.uint8)
    text = info(capfd, clipped, files / "x.npy")
    assert re.search(r"warning: 1\d.* % of the pixels have the lowest number of the type, 0: clipped", text)
    assert re.search(r"warning: 1\d.* % of the pixels have the highest number of the type, 255: clipped", text)
    text = info(capfd, np.minimum(rng.normal(size=(9, 20, 24)), 1.0), files / "x.npy")
    assert re.search(r"warning: 1\d.* % of the pixels have the highest value there is, 1: clipped", text)

    frames = drawn[0].copy()
    frames[3], frames[8], frames[9], frames[10] = 7, frames[1], frames[2], frames[1]
    text = info(capfd, frames, files / "x.npy")
    assert "warning: Empty, with all pixels alike: 1 frame of 12 (3)." in text
    assert "warning: Copies to the bit of earlier ones: 3 frames of 12 (1 and 8, 2 and 9, 1 and 10)." in text

    drifting = drawn[0] + np.linspace(0, 60, COUNT)[:, None, None]
    assert "warning: Brightness drifts by +4" in info(capfd, drifting, files / "x.npy")
    flickering = drawn[0] + 40.0 * (np.arange(COUNT) % 2)[:, None, None]
    assert "warning: Brightness varies by " in info(capfd, flickering, files / "x.npy")
    assert "warning: All pixels of all frames are alike" in info(capfd, np.zeros((4, 9, 9)), files / "x.npy")


def wrong(files, name):
    model, frames, out = files / "model.npz", files / "frames.npy", files / "out"
    locate, restore = ["locate", frames, "--model", model, "--out", out], ["restore", frames, "--model", model]
    simulate = ["simulate", "--model", model, "--out", out]
    np.savez(files / "old.npz", template=np.ones((2, 2)))
    jaxem.save(files / "places.npz", jaxem.Positions(np.zeros((3, 2), int)))
    jaxem.save(files / "many.npz", jax.tree.map(lambda leaf: leaf[None], jaxem.load(model)))
    np.save(files / "small.npy", np.zeros((3, 10, 12), np.uint8))
    (files / "full").mkdir()
    imageio.imwrite(files / "full" / "other.png", np.zeros((4, 4), np.uint8))
    (files / "folder.npy").mkdir()
    return {
        "no model": (["locate", frames, "--model", files / "none", "--out", out], "--model: .*none cannot be opened"),
        "no result": (
            ["locate", frames, "--model", files / "old.npz", "--out", out],
            "--model: .*no array named jaxem",
        ),
        "frames as model": (
            ["locate", frames, "--model", frames, "--out", out],
            "--model: .*frames.npy is no result; give",
        ),
        "other result": (
            ["locate", frames, "--model", files / "places.npz", "--out", out],
            "--model: .*places.npz holds Positions, and what is needed is Report or Restarts or Fit or Params",
        ),
        "many results": (["locate", frames, "--model", files / "many.npz", "--out", out], "--model: .*many results"),
        "other size": (
            ["locate", files / "small.npy", "--model", model, "--out", out],
            "FRAMES: .*small.npy has frames of 10 x 12, but .*model.npz .* of 20 x 24; give frames of that size.$",
        ),
        "no frames": (["locate", files / "none", "--model", model, "--out", out], "FRAMES: .*none does not exist"),
        "no place": ([*locate[:-1], frames], "--out: cannot write to .*frames.npy"),
        "crop text": ([*locate, "--crop", "a", "0", "1", "2"], "--crop must be four whole numbers as in .*'a 0 1 2'"),
        "crop outside": ([*locate, "--crop", "0", "0", "21", "2"], "--crop must lie within the frames"),
        "half a crop": ([*locate, "--crop", "0", "0"], "--crop"),
        "frames text": (
            [*locate, "--frames", "x"],
            "--frames must be FIRST:STOP, one past the last, as in .*, but is 'x'",
        ),
        "one number": ([*locate, "--frames", "7"], "--frames must be FIRST:STOP"),
        "frames outside": (
            [*locate, "--frames", "50:"],
            "--frames 50: takes none of the 12 frames of .*, numbered 0 to 11",
        ),
        "every": ([*locate, "--every", "0"], "--every must be a whole number of at least 1, but is 0"),
        "every text": ([*locate, "--every", "x"], "--every.*'x' is not a whole number"),
        "grey": ([*locate, "--grey", "pink"], "--grey must be one of luma, .*'pink'"),
        "restore over frames": ([*restore, "--out", frames], "--out: .*frames.npy is where the frames are"),
        "restore among others": ([*restore, "--out", files / "full"], "--out: .*full holds other frames.*other.png"),
        "restore to a form": (
            [*restore, "--out", files / "x.bmp"],
            "--out: .*x.bmp must end in .tif, .* or be a folder",
        ),
        "restore to a folder": ([*restore, "--out", files / "folder.npy"], "folder.npy is a folder; give the name of"),
        "restore to a file": ([*restore, "--out", model / "x"], "--out: cannot write to .*model.npz/x"),
        "fps": ([*restore, "--out", files / "x.mp4", "--fps", "0"], "--fps must be above 0 and at most 1000, but is 0"),
        "fps nan": ([*restore, "--out", files / "x.mp4", "--fps", "nan"], "--fps must be above 0 .* is nan"),
        "fps text": ([*restore, "--out", files / "x.mp4", "--fps", "x"], "'x' is not a number"),
        "no images": ([*simulate, "--num-images", "0"], "--num-images must be at least 1, but is 0"),
        "memory": ([*simulate, "--num-images", "99999999"], "--num-images 99999999 needs .* of memory"),
        "seed": ([*simulate, "--seed", "-1"], "--seed must be at least 0, but is -1"),
        "large seed": ([*simulate, "--seed", str(2**32)], "--seed must be at most 4294967295"),
        "simulate among others": ([*simulate[:-1], files / "full"], "--out: .*full holds other frames.*other.png"),
        "plot params": (
            ["plot", model, "--out", files / "x.png"],
            "RESULT: .*holds Params, and what is needed is Report or Rest",
        ),
        "plot to a form": (["plot", model, "--out", files / "x.bmp"], "--out must end in .png, .pdf, .svg"),
        "a result as frames": (
            ["info", model],
            "FRAMES: .*model.npz is a result and holds no frames; give the frames",
        ),
        "plot a frame too many": (
            ["plot", files / "fit.npz", "--out", files / "x.png", "--images", frames, "--frame", "12"],
            "--frame is 12, but .* holds 12 frames; choose 0 to 11",
        ),
        "plot a frame of nothing": (
            ["plot", model, "--out", files / "x.png", "--frame", "3"],
            "--frame needs --images FRAMES",
        ),
        "plot without out": (["plot", model], "--out"),
        "info template": (["info", frames, "--template-shape", "30", "2"], r"--template-shape \(30, 2\) is larger"),
        "info text": (["info", frames, "--template-shape", "a", "2"], "--template-shape must be two whole numbers"),
    }[name]


WRONG = [
    "no model", "no result", "frames as model", "other result", "many results", "other size", "no frames", "no place",
    "crop text", "crop outside", "half a crop", "frames text", "one number", "frames outside", "every", "every text",
    "grey", "restore over frames", "restore among others", "restore to a form", "restore to a folder",
    "restore to a file", "fps", "fps nan", "fps text", "no images", "memory", "seed", "large seed",
    "simulate among others", "plot params", "plot to a form", "plot without out", "info template", "info text",
    "plot a frame of nothing", "plot a frame too many", "a result as frames",
]  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_gets_one_line_and_exit_code_2(files, search, capfd, name):
    jaxem.save(files / "fit.npz", search.best)
    arguments, pattern = wrong(files, name)
    before = sorted(files.rglob("*"))
    assert run(*arguments) == 2
    error = capfd.readouterr().err
    assert re.fullmatch(f"jaxem: .*{pattern}.*\n", error), error
    assert sorted(files.rglob("*")) == before


def test_an_interruption_leaves_nothing(files, search, capfd, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    jaxem.save(files / "restarts.npz", search)
    model = ["--model", files / "model.npz", "--out"]
    before = sorted(files.rglob("*"))
    for module, name, arguments in (
        (applying, "write_located", ["locate", files / "frames.npy", *model, files / "out"]),
        (applying, "write_frames", ["restore", files / "frames.npy", *model, files / "out" / "x.mp4"]),
        (simulating, "write_frames", ["simulate", *model, files / "out" / "x.tif", "--num-images", COUNT]),
        (applying, "summary", ["plot", files / "restarts.npz", "--out", files / "out" / "x.png"]),
        (inspecting, "frame_statistics", ["info", files / "frames.npy"]),
    ):
        with monkeypatch.context() as patched:
            patched.setattr(module, name, interrupt)
            assert run(*arguments) == 130
        assert capfd.readouterr().err == "jaxem: interrupted; nothing was written\n"
        assert sorted(files.rglob("*")) == before


@pytest.mark.parametrize("command", ["info", "locate", "restore", "simulate", "plot"])
def test_help_shows_an_example(command, capfd):
    assert run(command, "--help") == 0
    assert f"Example: jaxem {command} " in capfd.readouterr().out


def test_results_of_the_command_line_without_its_extras(tmp_path):
    """Saving and loading need the library alone."""
    code = """
import sys
for name in ("typer", "rich", "matplotlib", "imageio", "tifffile", "av", "h5py", "zarr", "PIL", "skimage"):
    sys.modules[name] = None
import jaxem, numpy as np
jaxem.save(sys.argv[1], jaxem.Positions(np.zeros((3, 2), int)))
assert jaxem.load(sys.argv[1]).corners.shape == (3, 2)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "positions.npz")], check=True)


def test_nothing_that_is_there_is_replaced_unasked(files, search, truth):
    frames, model = files / "frames.npy", ["--model", files / "model.npz"]
    jaxem.save(files / "restarts.npz", search)
    (files / "places").mkdir()
    (files / "pages").mkdir()
    kept = [files / "places" / "positions.csv", files / "clean.npy", files / "pages" / "frame_0001.png"]
    kept += [files / "drawn-corners.csv", files / "figure.png"]
    for path in kept:
        path.write_text("somebody's work")
    commands = [
        ["locate", frames, *model, "--out", files / "places"],
        ["restore", frames, *model, "--out", files / "clean.npy"],
        ["restore", frames, *model, "--out", files / "pages"],
        ["simulate", *model, "--num-images", 5, "--out", files / "drawn.npy"],
        ["plot", files / "restarts.npz", "--out", files / "figure.png"],
    ]
    for command, path in zip(commands, kept, strict=True):
        assert run(*command) == 2
        assert path.read_text() == "somebody's work"
        assert run(*command, "--overwrite") == 0
        assert path.read_bytes() != b"somebody's work"


def test_places_as_a_table_for_relion_and_as_boxes(files, drawn, capfd):
    corners = drawn[1]
    arguments = ["locate", files / "frames.npy", "--model", files / "model.npz", "--out", files / "listed", "--star"]
    assert run(*arguments, "--overlay", files / "boxes", "--frames", "3:") == 0
    lines = (files / "listed" / "positions.star").read_text().splitlines()
    names = [line.split()[0] for line in lines if line.startswith("_")]
    rows = [dict(zip(names, line.split(), strict=True)) for line in lines if "@" in line]
    assert [row["_rlnMicrographName"] for row in rows] == [f"{number:06}@frames.npy" for number in range(4, COUNT + 1)]
    middles = [[float(row["_rlnCoordinateY"]), float(row["_rlnCoordinateX"])] for row in rows]
    np.testing.assert_allclose(middles, corners[3:] + np.array([3, 2.5]))
    pictures = read_frames(files / "boxes", colour=True)
    assert pictures.shape == (COUNT - 3, 240, 288, 3)
    orange = (pictures == [230, 159, 0]).all(axis=-1)
    for picture, (row, column) in zip(orange, 12 * corners[3:], strict=True):
        rows, columns = np.nonzero(picture)
        assert (rows.min(), rows.max()) == (row, row + 12 * TEMPLATE[0] - 1)
        assert (columns.min(), columns.max()) == (column, column + 12 * TEMPLATE[1] - 1)
    assert "boxes\n" in capfd.readouterr().out
    assert run(*arguments[:-2], files / "other", "--overlay", files / "boxes") == 2
    assert "--overlay would replace " in capfd.readouterr().err


def test_boxes_go_on_at_the_other_side_and_around_nothing():
    corners = np.array([[-1, -1], [4, 6]])
    images = FramesInMemory(Observed(np.zeros((2, 6, 8)), None, None), None)
    frames, shape = overlay(images, jaxem.Positions(corners), np.array([0.5, 0.5]), (3, 4))
    nothing, wrapped = frames
    assert shape == (2, 240, 320, 3)
    assert not nothing.any()
    seen = (wrapped == [86, 180, 233]).all(axis=-1)[::40, ::40]
    np.testing.assert_array_equal(np.nonzero(seen.any(axis=1))[0], [0, 4, 5])
    np.testing.assert_array_equal(np.nonzero(seen.any(axis=0))[0], [0, 1, 6, 7])
