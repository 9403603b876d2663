"""Odd frames and pixels are named and left out, and a template, however bright, small or rare, is none of them."""

import csv
import json
import re

import numpy as np
import pytest

import jaxem
from jaxem.assess.drift import drift_remarks
from jaxem.assess.frame_remarks import noise_remarks, pixel_noise
from jaxem.assess.odd_remarks import Names
from jaxem.assess.robust import step_of
from jaxem.cli import app
from jaxem.runtime.remarks import Grade

SIGMA = 6.0


def stack(count=120, shape=(30, 36), template=(7, 6), contrast=10.0, seed=0, share=1.0):
    """Frames of a smooth background with a checkered template at places drawn by chance, and the places."""
    rng = np.random.default_rng(seed)
    rows, columns = np.arange(shape[0])[:, None], np.arange(shape[1])[None]
    background = 100 + 10 * np.sin(rows / 5) + 8 * np.cos(columns / 7)
    face = 100 + contrast * rng.choice([-1, 1], template)
    frames = np.repeat(background[None], count, 0)
    corners = rng.integers(0, np.subtract(shape, template) + 1, (count, 2))
    for frame, (i, j) in zip(frames, corners, strict=True):
        if rng.random() < share:
            frame[i : i + template[0], j : j + template[1]] = face
    return frames + SIGMA * rng.normal(size=frames.shape), corners


def codes(found):
    return [remark.code for remark in found.remarks]


def dark(x, rng):
    x[3:9] = 3 + rng.normal(size=x[3:9].shape)


def bright(x, rng):
    x[50] += 40


def flash(x, rng):
    x[[30, 60]] += 400 * np.exp(-np.square(np.linspace(-2, 2, x.shape[2])))


def other(x, rng):
    x[7] = 100 + 30 * np.sin(np.arange(x.shape[2])) + SIGMA * rng.normal(size=x[0].shape)


def noisy(x, rng):
    x[100:103] += 60 * rng.normal(size=(3, *x.shape[1:]))


def quiet(x, rng):
    x[40] = np.median(x, axis=0)


def empty(x, rng):
    x[[1, 2]] = 100


def copied(x, rng):
    x[11:14] = x[10]


@pytest.mark.parametrize(
    ("spoil", "code", "numbers"),
    [
        (dark, "dark-frames", [3, 4, 5, 6, 7, 8]),
        (bright, "bright-frames", [50]),
        (flash, "bright-frames unlike-frames", [30, 60]),
        (other, "unlike-frames noisy-frames", [7]),
        (noisy, "noisy-frames", [100, 101, 102]),
        (quiet, "quiet-frames", [40]),
        (empty, "empty-frames", [1, 2]),
        (copied, "copied-frames", [11, 12, 13]),
    ],
)
def test_odd_frames_are_named_by_kind(spoil, code, numbers):
    images, _ = stack()
    spoil(images, np.random.default_rng(1))
    found = jaxem.odd_frames(images, template_shape=(7, 6))
    assert found.excluded.tolist() == numbers
    assert found.weights is None
    (remark,) = found.remarks
    assert remark.code in code.split()
    assert remark.effect == len(numbers) / len(images)
    assert str(numbers[0]) in remark.text
    assert "--exclude-odd" in remark.text


def test_a_frame_of_a_moved_camera_is_called_that():
    images, _ = stack(contrast=0)
    texture = np.random.default_rng(5).normal(0, 30, images[0].shape)
    images += texture
    images[20] += np.roll(texture, (3, -5), (0, 1)) - texture
    (remark,) = jaxem.odd_frames(images, template_shape=(7, 6)).remarks
    assert remark.code == "moved-frames"
    assert "displaced by +3 rows and -5 columns" in remark.text


@pytest.mark.parametrize("dtype", ["uint16", "float64"])
def test_rays_lost_lines_and_bad_pixels_are_masked_where_they_are(dtype):
    images, _ = stack()
    rng = np.random.default_rng(2)
    odd = np.zeros(images.shape, bool)
    for number in range(0, 120, 4):
        place = number, rng.integers(2, 12), rng.integers(36)
        images[place], odd[place] = rng.integers(500, 20000), True
    for number in range(0, 120, 3):
        images[number, 20 + number % 9], odd[number, 20 + number % 9] = 0, True
    images[5, :, 30], odd[5, :, 30] = 0, True
    images[:, 14, 3], odd[:, 14, 3] = 4000, True  # stuck
    images[:, 15, 20] += 2000 + 5 * rng.normal(size=120)
    images[:, 16, 25] += 600 * rng.exponential(size=120) * (rng.random(120) < 0.3)
    odd[:, 15, 20] = odd[:, 16, 25] = True
    found = jaxem.odd_frames(images.clip(0, 65535).astype(dtype), template_shape=(7, 6))
    assert found.excluded.size == 0
    np.testing.assert_array_equal(found.weights == 0, odd)
    expected = {"single-pixels", "lost-rows", "lost-columns", "stuck-pixels", "hot-pixels", "flickering-pixels"}
    assert set(codes(found)) == expected


def test_constant_bands_are_to_be_cut_off():
    images, _ = stack()
    images[:, :5] = images[:, -4:] = 0
    names = Names(row=10, column=2)
    found = jaxem.odd_frames(images, template_shape=(7, 6), names=names)
    (remark,) = found.remarks
    assert remark.code == "constant-border"
    assert "--crop 15 2 21 36" in remark.text
    assert remark.effect == pytest.approx(9 / 30)
    np.testing.assert_array_equal((found.weights == 0).all(axis=1), [True] * 5 + [False] * 21 + [True] * 4)


ORDINARY = {
    "weak": {},
    "strong": {"contrast": 60},
    "very bright": {"contrast": 3000},
    "2 x 2": {"template": (2, 2), "contrast": 500},
    "2 x 2 in few frames": {"template": (2, 2), "contrast": 500, "share": 0.03},
    "in few frames": {"contrast": 100, "share": 0.03},
    "half of the frame": {"template": (21, 25), "contrast": 60},
    "few frames": {"count": 5, "contrast": 60},
    "tiny frames": {"shape": (5, 6), "template": (2, 3), "contrast": 60},
    "signals": {"shape": (1, 90), "template": (1, 12), "contrast": 60},
}


@pytest.mark.parametrize("kind", ORDINARY)
def test_nothing_is_odd_in_ordinary_frames(kind):
    for seed in range(6):
        images, _ = stack(seed=seed, **ORDINARY[kind])
        for frames in (images, images.round().clip(0, 255).astype("uint8")):
            if kind == "very bright" and frames.dtype == np.uint8:
                continue
            template = ORDINARY[kind].get("template", (7, 6))
            for shape in (None, template):
                found = jaxem.odd_frames(frames, template_shape=shape)
                assert [code for code in codes(found) if code != "copied-frames"] == []
                assert found.weights is None


def test_one_bright_pixel_that_moves_is_a_template():
    for share in (1.0, 0.2):
        images, corners = stack(template=(1, 1), contrast=300, share=share, seed=3)
        assert jaxem.odd_frames(images, template_shape=(5, 5)).remarks == []
        images[50] = stack(seed=9)[0][50]
        images[50, 3, 3] = 9000  # and this is a ray
        found = jaxem.odd_frames(images, template_shape=(5, 5))
        assert np.argwhere(found.weights == 0).tolist() == [[50, 3, 3]]
    assert len(corners) == 120


def test_photons_and_channels_and_missing_pixels():
    rng = np.random.default_rng(0)
    for rate in (0.1, 0.6, 3.0, 200.0):
        images = rng.poisson(rate, (60, 20, 24)).astype("uint16")
        assert jaxem.odd_frames(images, template_shape=(5, 5)).remarks == []
    colour = np.stack([stack(seed=seed)[0] for seed in range(3)], axis=-1)
    colour[4, :, :, 1] += 60
    colour[9, 2, 3, 2] = 5000
    found = jaxem.odd_frames(colour, template_shape=(7, 6))
    assert found.excluded.tolist() == [4]
    assert np.argwhere(found.weights == 0).tolist() == [[9, 2, 3]]
    grey = colour[..., 2].copy()
    given = np.ones(grey.shape)
    given[9], given[:, 6] = 0, 0
    grey[::3, 8] = np.nan
    found = jaxem.odd_frames(grey, given, template_shape=(7, 6))
    assert found.remarks == []
    np.testing.assert_array_equal(found.weights, given)


def test_what_is_too_much_is_not_left_out():
    images, _ = stack()
    images[:50] *= np.linspace(0.1, 0.5, 50)[:, None, None]
    images[::2] = images[::2]
    found = jaxem.odd_frames(images, template_shape=(7, 6))
    assert found.excluded.size == 0
    with pytest.raises(ValueError, match="images must be"):
        jaxem.odd_frames(np.zeros((3, 4)))
    with pytest.raises(ValueError, match="weights must be"):
        jaxem.odd_frames(images, np.ones((2, 2)))
    for few in (images[:1], images[:2], np.full((5, 4, 4), 7), np.zeros((40, 1, 1))):
        assert not set(codes(jaxem.odd_frames(few))) - {"empty-frames"}


def test_how_brightness_wanders():
    rng = np.random.default_rng(0)
    noise = 0.3 * rng.normal(size=90)

    def text(series):
        return "".join(map(str, drift_remarks(series + noise, series + noise, 5.0, 2000, range(10, 100))))

    assert text(np.zeros(90)) == ""
    assert "drifts by +" in text(np.linspace(0, 50, 90))
    assert "steadily" in text(50 * np.exp(-np.arange(90) / 40))
    assert "by a jump of +30 at frame 55" in text(30.0 * (np.arange(90) >= 45)).replace("30.1", "30").replace(
        "29.9", "30"
    )
    assert "with a period of 15 frames" in text(20 * np.sin(np.arange(90) / 15 * 2 * np.pi))
    moved = drift_remarks(50 * (np.arange(90) % 2.0), noise, 5.0, 2000)
    assert moved == []  # a template moves means, and not whole frames


def test_noise_well_above_that_of_pixels_is_told():
    images, _ = stack(contrast=40)
    assert pixel_noise(images) == pytest.approx(SIGMA, rel=0.15)
    assert noise_remarks(1.2 * SIGMA, images) == []
    (remark,) = noise_remarks(3 * SIGMA, images, remedy="Do this.")
    assert (remark.code, remark.grade) == ("noise-above-pixels", Grade.WARNING)
    assert remark.effect == pytest.approx(3, rel=0.15)
    assert remark.text.endswith("Do this.")
    rng = np.random.default_rng(0)
    white = rng.normal(size=(80, 30, 30))
    slow = np.stack([white[: number + 1][-9:].mean(axis=0) * 3 for number in range(80)])[9:]
    blurred = white + np.roll(white, 1, 1) + np.roll(white, 1, 2)
    uneven = white * np.linspace(0.2, 5, 30)
    photons = rng.poisson(0.3, white.shape).astype("uint8")
    for frames in (slow, blurred, uneven, photons, white[:4], white + np.linspace(0, 3, 80)[:, None, None]):
        rest = frames - frames.mean(axis=0)
        rest -= rest.mean(axis=(1, 2), keepdims=True)
        assert noise_remarks(rest.std(), frames) == []
    assert noise_remarks(np.array([1.0, 9.0]), np.stack([white, white], axis=-1))[0].effect == pytest.approx(9, rel=0.1)
    assert noise_remarks(5.0, white[:1]) == []


def test_the_step_of_numbers():
    assert step_of(np.array([[3, 9, 21]])) == 6
    assert step_of(np.array([[3.0, 9.0, np.nan]])) == 6
    assert step_of(np.array([[3.5, 9.0]])) == 0


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/dev/null/nowhere")


def rows_of(folder):
    with open(folder / "positions.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def right(rows, corners):
    found = np.array([[int(row["row"]), int(row["column"])] for row in rows if row["excluded"] == "0"])
    truth = np.array([corners[int(row["frame"])] for row in rows if row["excluded"] == "0"])
    return np.unique(found - truth, axis=0, return_counts=True)[1].max() / len(found)


@pytest.mark.slow
def test_fit_leaves_out_what_is_odd_and_goes_on_where_it_was(tmp_path, capfd):
    images, corners = stack(contrast=20)
    rng = np.random.default_rng(1)
    dark(images, rng)
    for number in range(10, 120, 3):
        images[number, rng.integers(30), rng.integers(36)] = rng.integers(1000, 9000)
    np.save(tmp_path / "stack.npy", np.pad(images, ((5, 0), (0, 0), (2, 0))).astype(np.float32))
    fit = [
        "fit",
        str(tmp_path / "stack.npy"),
        "--template-shape",
        "7",
        "6",
        "--frames",
        "5:",
        "--crop",
        "0",
        "2",
        "30",
        "36",
    ]
    fit += ["--out", str(tmp_path / "out"), "--no-test"]
    assert app.run([*fit, "--json", "--max-iterations", "3"]) in (0, 3)
    captured = capfd.readouterr()
    remarks = [one for line in captured.out.splitlines() for one in json.loads(line).get("remarks", ())]
    codes = [one["code"] for one in remarks]
    assert codes[:2] == ["dark-frames", "single-pixels"]
    assert "noise-above-pixels" in codes
    assert "frames of 120 (8 to 13)" in remarks[0]["text"]
    assert "Leave out what is odd with --exclude-odd --mask-hot." in captured.err
    assert {row["excluded"] for row in rows_of(tmp_path / "out")} == {"0"}
    odd = ["--exclude-odd", "--mask-hot", "--checkpoint", str(tmp_path / "saved")]
    assert app.run([*fit, *odd, "--overwrite"]) == 0
    captured = capfd.readouterr()
    assert captured.err == ""
    assert "--exclude-odd leaves out 6 frames of 120 (8 to 13)" in captured.out
    assert "--mask-hot leaves out 0.0285 % of the pixels" in captured.out
    rows = rows_of(tmp_path / "out")
    assert [row["frame"] for row in rows] == [str(number) for number in range(5, 125)]
    assert [row["frame"] for row in rows if row["excluded"] == "1"] == [str(number) for number in range(8, 14)]
    assert right(rows, np.concatenate([np.zeros((5, 2)), corners])) == 1
    assert app.run([*fit, *odd, "--resume"]) == 0
    assert rows_of(tmp_path / "out") == rows
    capfd.readouterr()
    assert app.run([*fit, "--checkpoint", str(tmp_path / "saved"), "--resume"]) == 2
    assert "--exclude-odd" in capfd.readouterr().err


@pytest.mark.slow
def test_what_the_residuals_show_is_left_out_as_well(tmp_path, capfd):
    images, corners = stack(contrast=60)  # rays are no brighter than the template, on or beside it
    rng = np.random.default_rng(1)
    for number in range(0, 120, 2):
        i, j = corners[number] + [rng.integers(7), rng.integers(6)]
        images[number, i, j] += rng.uniform(100, 900)
    np.save(tmp_path / "stack.npy", images.astype(np.float32))
    fit = [
        "fit",
        str(tmp_path / "stack.npy"),
        "--template-shape",
        "7",
        "6",
        "--out",
        str(tmp_path / "out"),
        "--no-test",
    ]
    assert app.run([*fit, "--mask-hot"]) == 0
    captured = capfd.readouterr()
    counts = re.findall(r"Single pixels of single frames are far off: (\d+) pixels", captured.out)
    assert len(counts) == 2
    assert sum(map(int, counts)) == 60
    assert captured.out.count("--mask-hot leaves out") == 2
    rows = rows_of(tmp_path / "out")
    assert right(rows, corners) == 1
    assert jaxem.load(tmp_path / "out" / "result.npz").best.params.noise_scale == pytest.approx(SIGMA, rel=0.03)


def test_info_takes_missing_pixels_masks_and_colour(tmp_path, capfd):
    images, _ = stack(count=30)
    dark(images, np.random.default_rng(0))
    images[::2, 4] = np.nan
    np.save(tmp_path / "stack.npy", images)
    assert app.run(["info", str(tmp_path / "stack.npy")]) == 2
    assert "NaN" in capfd.readouterr().err
    mask = np.ones((30, 36))
    mask[:, :3] = 0
    np.save(tmp_path / "mask.npy", mask)
    options = ["--nan-missing", "--mask", str(tmp_path / "mask.npy")]
    assert app.run(["info", str(tmp_path / "stack.npy"), *options]) == 0
    text = capfd.readouterr().out
    assert "warning: Darker than the rest: 6 frames of 30 (3 to 8)" in text
    assert "--exclude-odd  leaves out 6 frames of 30 (3 to 8)" in text
    assert "nan" not in text
    np.save(tmp_path / "colour.npy", np.stack([np.nan_to_num(images, nan=100)] * 3, axis=-1))
    assert app.run(["info", str(tmp_path / "colour.npy"), "--colour"]) == 0
    assert "--exclude-odd  leaves out 6 frames of 30 (3 to 8)" in capfd.readouterr().out
