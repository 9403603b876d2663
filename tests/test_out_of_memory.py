"""`jaxem fit` of frames that memory does not hold finds what it finds of those in memory."""

import csv
import re

import jax
import numpy as np
import pytest
from PIL import Image

from jaxem.cli import fitting, inspecting, memory, sizing
from jaxem.cli.app import run
from jaxem.cli.exit_codes import ExitCode
from jaxem.runtime.checkpoint import Checkpointer
from jaxem.search import parallel, subsampling

COUNT, HEIGHT, WIDTH = 260, 14, 15
SHAPE = ("--template-shape", "5", "4")
SAMPLED = ("--sample", "80")


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    """Frames of whole numbers, with a template that is easy to find."""
    rng = np.random.default_rng(3)
    background, template = rng.normal(100, 8, (HEIGHT, WIDTH)), rng.normal(100, 14, (5, 4))
    frames = background + rng.normal(0, 8, (COUNT, HEIGHT, WIDTH))
    for number, (row, column) in enumerate(rng.integers(0, (HEIGHT - 4, WIDTH - 3), (COUNT, 2))):
        frames[number, row : row + 5, column : column + 4] += template - background[row : row + 5, column : column + 4]
    path = tmp_path_factory.mktemp("frames") / "stack.npy"
    np.save(path, np.clip(np.rint(frames), 0, 255).astype(np.uint8))
    return path


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Of memory the frames alone count, and they are read some thirty at a time."""
    monkeypatch.setattr(memory, "BASE_BYTES", 0)
    monkeypatch.setattr(memory, "CHUNK_COPIES", 0)
    monkeypatch.setattr(memory, "FOUND_BYTES", 0)
    monkeypatch.setattr("jaxem.stream.sources.CHUNK_BYTES", 32 * HEIGHT * WIDTH * 4)


def enough_for(count, channels=1, dtype="uint8"):
    """Memory for so many of the frames, as an option."""
    return "--memory", str(round(memory.fit_memory((count, HEIGHT, WIDTH, channels), np.dtype(dtype))))


def both(tmp_path, path, *options, holds=170, channels=1, dtype="uint8"):
    """What is found in passes, and in memory: tables and results."""
    found = []
    for name, most in (("passes", holds), ("memory", 10 * COUNT)):
        out, limit = tmp_path / name, enough_for(most, channels, dtype)
        code = run(
            ["fit", str(path), *SHAPE, *SAMPLED, "--restarts", "1", *map(str, options), "--out", str(out), *limit]
        )
        assert code == ExitCode.DONE
        with (out / "positions.csv").open() as table, np.load(out / "result.npz") as result:
            found.append((list(csv.DictReader(table)), {key: result[key] for key in result.files}))
    return found


def compare(passes, in_memory, places=1.0):
    """The same frames, as good as the same places and parameters; the climbs end a little apart."""
    (rows, result), (others, expected) = passes, in_memory
    assert [row["frame"] for row in rows] == [row["frame"] for row in others]
    assert [row.get("name") for row in rows] == [row.get("name") for row in others]
    same = [
        (row["row"], row["column"]) == (other["row"], other["column"]) for row, other in zip(rows, others, strict=True)
    ]
    assert np.mean(same) >= places
    assert result.keys() == expected.keys()
    for name in ("background", "template"):
        np.testing.assert_allclose(result[name], expected[name], atol=0.05)
    for key in expected:
        assert result[key].shape == expected[key].shape, key


def test_the_same_is_found_in_passes(stack, tmp_path, capfd):
    passes, in_memory = both(tmp_path, stack)
    text = capfd.readouterr().out
    assert re.search(
        r"note: these, 54\.6 kB, are read a few at a time, since .* may be used; 80 of them are searched, 160", text
    )
    assert text.count("searching in 80 of 260 frames\n") == text.count("fitting all 260 frames\n") == 2
    compare(passes, in_memory)
    tested = passes[1]["assessment.test.parts"]
    drawn = subsampling.draw_numbers(jax.random.key(0), COUNT, None, 160)
    np.testing.assert_array_equal(np.flatnonzero(tested >= 0), drawn)
    corners, found = (passes[1][name][drawn] for name in ("assessment.test.corners", "corners"))
    for part in set(tested[drawn].tolist()):  # the template of other frames is the same up to a shift
        shifts = (corners - found)[tested[drawn] == part]
        assert (shifts == np.median(shifts, axis=0)).all(axis=1).mean() > 0.9
    assert (in_memory[1]["assessment.test.parts"] >= 0).all()
    assert passes[1]["assessment.test.p_value"] < 0.01


def test_masks_and_missing_pixels_go_with_the_frames(stack, tmp_path, capfd):
    rng = np.random.default_rng(1)
    frames = np.load(stack).astype(np.float32)
    frames[rng.random(frames.shape) < 0.02] = np.nan
    mask = np.ones((COUNT, HEIGHT + 2, WIDTH + 3), np.uint8)
    mask[rng.random(mask.shape) < 0.02] = 0
    whole = np.full(mask.shape, np.nan, np.float32)
    whole[:, 1:-1, 2:-1] = frames
    np.save(tmp_path / "frames.npy", whole)
    np.save(tmp_path / "mask.npy", mask)
    chosen = ("--crop", 1, 2, HEIGHT, WIDTH, "--frames", "3:", "--every", 1, "--nan-missing")
    options = (*chosen, "--mask", tmp_path / "mask.npy", "--no-test")
    passes, in_memory = both(tmp_path, tmp_path / "frames.npy", *options, holds=200, dtype="float32")
    compare(passes, in_memory, places=0.99)
    assert passes[0][0]["frame"] == "3"


def test_a_folder_in_colour_with_one_mask(stack, tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for number, frame in enumerate(np.load(stack)):
        Image.fromarray(np.stack([frame, frame[::-1], 255 - frame], axis=-1)).save(folder / f"{number}.png")
    mask = np.ones((HEIGHT, WIDTH), np.uint8)
    mask[:, :2] = 0
    Image.fromarray(mask).save(tmp_path / "mask.png")
    options = ("--colour", "--mask", tmp_path / "mask.png", "--no-test")
    passes, in_memory = both(tmp_path, folder, *options, channels=3)
    compare(passes, in_memory, places=0.97)
    assert passes[0][7]["name"] == "7.png"


def test_where_more_is_searched_more_is_tested(stack, tmp_path, capfd, monkeypatch):
    """The test that few frames are given before the search is of no more use then."""
    monkeypatch.setattr(subsampling, "FEWEST_IMAGES", 30)
    monkeypatch.setattr(subsampling, "IMAGES_PER_PIXEL", 0)
    monkeypatch.setattr(parallel, "stands_out", lambda *_: False)
    options = ["--restarts", "1", "--out", str(tmp_path / "out"), *enough_for(170)]
    assert run(["fit", str(stack), *SHAPE, *options]) == ExitCode.DONE
    text = capfd.readouterr().out
    assert "30 of them are searched, 60 looked at and tested" in text
    assert "searching in 30 of 260 frames" in text
    assert "what was found hardly stands out of noise; searching in 110 of 260 frames" in text
    with np.load(tmp_path / "out" / "result.npz") as result:
        assert (result["assessment.test.parts"] >= 0).sum() == 108  # in quarters
        assert result["assessment.test.p_value"] < 0.01


def test_what_was_begun_in_passes_goes_on_in_passes(stack, tmp_path, capfd, monkeypatch):
    """Memory that has become free meanwhile makes no other work of it."""
    options = ["fit", str(stack), *SHAPE, "--no-test", "--restarts", "1", "--checkpoint", str(tmp_path / "saved")]
    whole = [*options, *enough_for(170)]
    writes = Checkpointer.save_state
    steps = []

    def interrupted(self, name, state):
        writes(self, name, state)
        steps.append(name)
        if steps.count("EM") == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpointer, "save_state", interrupted)
    assert run([*whole, "--out", str(tmp_path / "out")]) == ExitCode.INTERRUPTED
    assert "what was done is saved in" in capfd.readouterr().err
    monkeypatch.setattr(Checkpointer, "save_state", writes)
    assert run([*options, "--resume", "--out", str(tmp_path / "out")]) == ExitCode.DONE
    text = capfd.readouterr().out
    assert "going on from" in text
    assert "note: these, 54.6 kB, are read a few at a time, as before; 85 of them" in text
    assert "searching" not in text
    assert run([*whole[:-4], *enough_for(170), "--out", str(tmp_path / "undisturbed")]) == ExitCode.DONE
    tables = [(tmp_path / name / "positions.csv").read_text() for name in ("out", "undisturbed")]
    assert tables[0] == tables[1]


def test_info_looks_at_as_many_as_memory_holds(stack, tmp_path, capfd, monkeypatch):
    frames = np.load(stack).astype(np.float32)
    frames[:, :3] = np.nan
    frames[77] = np.nan
    np.save(tmp_path / "frames.npy", frames)
    command = ["info", str(tmp_path / "frames.npy"), "--nan-missing"]
    assert run(command) == ExitCode.DONE
    whole = capfd.readouterr().out
    monkeypatch.setattr(inspecting, "available_memory", lambda: frames[:100].nbytes / memory.LOOKED_AT_SHARE + 1)
    assert run(command) == ExitCode.DONE
    text = capfd.readouterr().out
    assert "260 frames of 14 x 15 float32, 218 kB" in text
    assert "they are more than memory holds; what follows is of 100 of them, evenly spaced\n" in text
    means = [float(re.search(r"mean (\S+)\n", said)[1]) for said in (whole, text)]
    assert means[0] != means[1]
    np.testing.assert_allclose(*means, rtol=0.01)


def test_size_fits_as_many_as_memory_holds(stack, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(sizing, "taken_memory", lambda: 1000)
    monkeypatch.setenv("JAX_ENABLE_X64", "0")
    each = HEIGHT * WIDTH * 5 + HEIGHT * (WIDTH + 1) * 12  # as read and in single precision; continued by one column
    monkeypatch.setattr(sizing, "available_memory", lambda: 100 * each - 999)
    command = ["size", str(stack), "--from", "5", "4", "--to", "5", "5", "--restarts", "1", "--out", str(tmp_path)]
    assert run(command) == ExitCode.DONE
    text = capfd.readouterr().out
    assert "100 frames of 14 x 15 uint8" in text
    assert "note: they are evenly spaced among 260, which are more than memory holds\n" in text
    assert "size: 5 x 4\n" in text


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--exclude-odd",), "--exclude-odd needs all frames in memory, and these, 54.6 kB, are read a few at a time"),
        (("--mask-hot",), "--mask-hot needs all frames in memory"),
        (("--sample", "all"), "--sample of all frames needs them in memory"),
        (("--sample", "230"), "--sample of 230 frames is more than memory holds, 170"),
        (("--memory", "30kB"), "--memory of 30 kB is too little: 32 frames in memory take (60.5|114) kB, with"),
        (("--memory", "much"), "--memory must be a size such as 500MB, 8GB or 1.5GiB, but is 'much'"),
        (("--memory", "0GB"), "--memory must be a size"),
        (("--mask", "five"), "--mask must hold 1 or 260 pictures, but .* holds 5"),
    ],
)
def test_what_cannot_be_had_in_passes_is_said(stack, tmp_path, capfd, options, expected):
    np.save(tmp_path / "five", np.ones((5, HEIGHT, WIDTH)))
    options = [str(tmp_path / "five.npy") if option == "five" else option for option in options]
    limit = () if "--memory" in options else enough_for(170)
    code = run(["fit", str(stack), *SHAPE, "--out", str(tmp_path / "out"), *limit, *options])
    text = capfd.readouterr()
    assert code == ExitCode.USERS_ERROR
    assert text.out == ""
    assert re.fullmatch(f"jaxem: {expected}.*\n", text.err)


def test_more_frames_than_their_results_have_room_for_are_refused(stack, tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(memory, "FOUND_BYTES", 10**4)
    assert run(["fit", str(stack), *SHAPE, "--out", str(tmp_path), "--memory", "100kB"]) == ExitCode.USERS_ERROR
    expected = "--memory of 100 kB is too little: what is found of 260 frames takes 2.6 MB; choose fewer of them."
    assert capfd.readouterr().err == f"jaxem: {expected}\n"


@pytest.mark.parametrize(
    ("text", "size"), [("1500", 1500), ("2k", 2000), ("1.5 GB", 1.5e9), ("3GiB", 3 * 2**30), (".5m", 5e5)]
)
def test_sizes_of_memory_are_read(text, size, monkeypatch, tmp_path):
    found = []
    monkeypatch.setattr(fitting, "fit", lambda *_, **options: found.append(options["memory"]) or 0)
    assert run(["fit", "frames.npy", *SHAPE, "--out", str(tmp_path), "--memory", text]) == 0
    assert found == [size]
