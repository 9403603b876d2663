"""A saved result applied to frames that memory does not hold gives what it gives of those in memory."""

import csv
import re
from fractions import Fraction

import av
import h5py
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jaxem
from jaxem.cli import applied, memory, overlay
from jaxem.cli.app import run
from jaxem.cli.exit_codes import ExitCode
from jaxem.io import read_frames
from jaxem.io.readers import video

COUNT, HEIGHT, WIDTH = 70, 14, 15
LITTLE, MUCH = ("--memory", "20kB"), ("--memory", "2GB")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Of memory the frames alone count, and they are read some eight at a time."""
    monkeypatch.setattr(memory, "BASE_BYTES", 0)
    monkeypatch.setattr(memory, "CHUNK_COPIES", 0)
    monkeypatch.setattr(memory, "FOUND_BYTES", 1)
    for module in ("stream.sources", "cli.applied"):
        monkeypatch.setattr(f"jaxem.{module}.CHUNK_BYTES", 8 * HEIGHT * WIDTH * 4)


def planted(*channels):
    """A model, and frames by it of which some are without a template."""
    rng = np.random.default_rng(3)
    background, template = rng.normal(100, 25, (HEIGHT, WIDTH, *channels)), rng.normal(100, 40, (5, 4, *channels))
    prior = rng.uniform(1, 9, (HEIGHT - 4, WIDTH - 3))
    frames = background + rng.normal(0, 12, (COUNT, HEIGHT, WIDTH, *channels))
    for number, (row, column) in enumerate(rng.integers(0, prior.shape, (COUNT, 2))):
        if number % 7:
            frames[number, row : row + 5, column : column + 4] += (
                template - background[row : row + 5, column : column + 4]
            )
    scale = np.full(channels, 12.0) if channels else 12.0
    parts = (template, background, scale, 0.8 * prior / prior.sum())
    params = jaxem.Params(*(jnp.asarray(part, jnp.float32) for part in parts), absent=jnp.float32(0.2))
    return params, np.clip(np.rint(frames), 0, 255).astype(np.uint8)


@pytest.fixture
def files(tmp_path):
    """A model and a stack in a folder."""
    params, frames = planted()
    jaxem.save(tmp_path / "model.npz", params)
    np.save(tmp_path / "frames.npy", frames)
    return tmp_path


def both(capfd, command, *arguments):
    """What a command says of frames in passes, and of frames in memory; each writes to a place of its own."""
    said = []
    for name, limit in (("passes", LITTLE), ("memory", MUCH)):
        places = [str(argument).replace("PLACE", name) for argument in arguments]
        assert run([command, *places, *limit]) == ExitCode.DONE, capfd.readouterr().err
        said.append(capfd.readouterr())
    assert len(re.findall("note: these are read a few at a time, since 20 kB may be used", said[0].out)) == 1
    assert "a few at a time" not in said[1].out
    assert said[0].err == said[1].err
    return said


def expect_same_tables(folder):
    """The same frames and places, and as sure."""
    tables = [(folder / name / "positions.csv").read_text().splitlines() for name in ("passes", "memory")]
    rows = [list(csv.DictReader(table)) for table in tables]
    assert len(rows[0]) == len(rows[1])
    for row, other in zip(*rows, strict=True):
        assert row.keys() == other.keys()
        for name, text in row.items():
            if name in ("log_evidence", "confidence", "presence"):
                assert float(text) == pytest.approx(float(other[name]), rel=1e-4, abs=1e-4), name
            else:
                assert text == other[name], name
    return rows[1]


@pytest.mark.parametrize("options", [(), ("--prior", "learned", "--every", "2"), ("--fitted", "--frames", "3:")])
def test_places(files, capfd, options):
    model = ("--model", files / "model.npz", "--out", files / "PLACE")
    passes, whole = both(capfd, "locate", files / "frames.npy", *model, "--star", *options)
    rows = expect_same_tables(files)
    count = {"--prior": COUNT // 2, "--fitted": COUNT - 3}.get((*options, "")[0], COUNT)
    assert len(rows) == count
    assert rows[1]["frame"] == {"--prior": "2", "--fitted": "4"}.get((*options, "")[0], "1")
    assert {row["present"] for row in rows} == {"0", "1"}
    assert passes.out.splitlines()[2:-1] == whole.out.splitlines()[1:-1]
    stars = [(files / name / "positions.star").read_text() for name in ("passes", "memory")]
    assert stars[0] == stars[1]


def test_what_was_observed_goes_with_the_frames(files, capfd):
    """Frames of which little was observed are no outliers for that, and one that the model does not know is."""
    frames = np.load(files / "frames.npy").astype(np.float32)
    rng = np.random.default_rng(0)
    frames[rng.random(frames.shape) < 0.03] = np.nan
    frames[11, 4:] = np.nan
    frames[33] = 255 - frames[33]
    mask = np.ones((COUNT, HEIGHT, WIDTH), np.uint8)
    mask[20, :, :9] = 0
    np.save(files / "frames.npy", frames)
    np.save(files / "mask.npy", mask)
    drawn = ("--overlay", files / "PLACE.npy", "--nan-missing", "--mask", files / "mask.npy")
    model = ("--model", files / "model.npz", "--out", files / "PLACE")
    passes, _ = both(capfd, "locate", files / "frames.npy", *model, *drawn)
    expect_same_tables(files)
    assert "explains 1 frame much worse than the rest: 33" in passes.err
    np.testing.assert_array_equal(np.load(files / "passes.npy"), np.load(files / "memory.npy"))
    restored = ("--out", files / "PLACE.tif", "--nan-missing", "--mask", files / "mask.npy", "--overwrite")
    both(capfd, "restore", files / "frames.npy", "--model", files / "model.npz", *restored)
    np.testing.assert_array_equal(read_frames(files / "passes.tif"), read_frames(files / "memory.tif"))


@pytest.mark.parametrize(
    ("dtype", "scale", "lone"),
    [("uint8", 1, 0), ("int32", 1, 300), ("int32", 1, -1), ("int32", 100, 0), ("int16", -3, 0), ("float32", 2, 0)],
)
def test_restored_frames_are_on_the_same_scale(files, capfd, dtype, scale, lone):
    """Also where a single pixel of a single frame decides it."""
    params, frames = planted()
    shown = params._replace(
        template=scale * params.template,
        background=scale * params.background,
        noise_scale=abs(scale) * params.noise_scale,
    )
    jaxem.save(files / "model.npz", shown)
    values = (scale * frames.astype(np.float64)).astype(dtype)
    values[40, 3, 3] = lone
    with h5py.File(files / "frames.h5", "w") as file:
        file["frames"] = values
    out = ("--model", files / "model.npz", "--out", files / "PLACE")
    passes, whole = both(capfd, "restore", files / "frames.h5", *out)
    ends = [said.out.splitlines()[-1].split(", ", 1)[1] for said in (passes, whole)]
    assert ends[0] == ends[1]
    found, expected = (read_frames(files / name) for name in ("passes", "memory"))
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_a_folder_in_colour_with_boxes(files, capfd):
    params, frames = planted(3)
    jaxem.save(files / "model.npz", params)
    (files / "named").mkdir()
    for number, frame in enumerate(frames):
        in_colour = number not in range(30, 52)  # more grey ones in a row than are read at once
        Image.fromarray(frame if in_colour else frame[..., 0]).save(files / "named" / f"cell {number:02}.png")
    options = ("--model", files / "model.npz", "--out", files / "PLACE", "--overlay", files / "PLACE boxes")
    both(capfd, "locate", files / "named", *options)
    assert expect_same_tables(files)[7]["name"] == "cell 07.png"
    pictures = [sorted((files / f"{name} boxes").iterdir()) for name in ("passes", "memory")]
    assert [path.name for path in pictures[0]] == [path.name for path in pictures[1]]
    for path, other in zip(*pictures, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(path)), np.asarray(Image.open(other)))


def in_video(path, frames):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=Fraction(10))
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "gray"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        container.mux(stream.encode())


def test_a_video_is_counted_first_and_gone_back_in(files, capfd, monkeypatch):
    """It may hold fewer frames than packets, and none of those chosen."""
    in_video(files / "frames.mkv", np.load(files / "frames.npy"))
    monkeypatch.setattr(video, "_count_packets", lambda *_: (COUNT + 30, False))
    options = ("--model", files / "model.npz", "--out", files / "PLACE", "--overwrite")
    both(capfd, "locate", files / "frames.mkv", *options, "--overlay", files / "PLACE.npy")
    assert len(expect_same_tables(files)) == COUNT
    np.testing.assert_array_equal(np.load(files / "passes.npy"), np.load(files / "memory.npy"))
    for limit in (LITTLE, MUCH):
        arguments = ["locate", files / "frames.mkv", *options, "--frames", f"{COUNT + 3}:", *limit]
        assert run([str(argument) for argument in arguments]) == ExitCode.USERS_ERROR
        text = capfd.readouterr().err
        assert re.fullmatch("jaxem: FRAMES: .*frames.mkv holds no frame of those chosen.\n", text), text


@pytest.mark.parametrize("grey", [range(25), range(30, 55)], ids=["first", "later"])
def test_grey_pictures_among_some_in_colour(files, capfd, grey):
    """More of them in a row than are read at once."""
    for channels, name in ((3, "colour"), (None, "grey")):
        params, frames = planted(*[3] * (channels is not None))
        jaxem.save(files / "model.npz", params)
        (files / name).mkdir()
        for number, frame in enumerate(frames):
            if channels is None:
                frame = frame if number in grey else np.stack([frame, frame // 2, 255 - frame], axis=-1)
            elif number in grey:
                frame = frame[..., 0]
            Image.fromarray(frame).save(files / name / f"{number:02}.png")
        options = ("--model", files / "model.npz", "--out", files / "PLACE", "--overwrite")
        if channels is None and grey[0] == 0:  # of the first one comes another type than of all
            arguments = ["locate", str(files / name), *map(str, options), *LITTLE]
            assert run(arguments) == ExitCode.USERS_ERROR
            assert "holds frames in colour among grey ones; they can be read at once alone" in capfd.readouterr().err
            continue
        both(capfd, "locate", files / name, *options, "--overlay", files / f"PLACE {name}")
        expect_same_tables(files)


def test_what_is_free_decides_where_nobody_says(files, capfd, monkeypatch):
    arguments = ["locate", str(files / "frames.npy"), "--model", str(files / "model.npz"), "--overwrite"]
    needed = memory.fit_memory((COUNT, HEIGHT, WIDTH), np.dtype(np.uint8))
    for free, taken, in_passes in [(needed - 9, 9, False), (needed - 9, 8, True)]:
        monkeypatch.setattr(applied, "available_memory", lambda free=free: free)
        monkeypatch.setattr(applied, "taken_memory", lambda taken=taken: taken)
        assert run([*arguments, "--out", str(files / "out")]) == ExitCode.DONE
        assert ("these are read a few at a time" in capfd.readouterr().out) == in_passes


def test_black_and_white_are_of_frames_all_over_the_stack(files, capfd, monkeypatch):
    """Also where a single frame has as many pixels as are looked at."""
    monkeypatch.setattr(overlay, "MOST_PIXELS_LOOKED_AT", HEIGHT * WIDTH)
    frames = np.load(files / "frames.npy")
    frames[0] = 7
    np.save(files / "frames.npy", frames)
    options = ("--model", files / "model.npz", "--out", files / "PLACE", "--overlay", files / "PLACE.npy")
    both(capfd, "locate", files / "frames.npy", *options)
    drawn = np.load(files / "passes.npy")[5]
    np.testing.assert_array_equal(drawn, np.load(files / "memory.npy")[5])
    assert len(np.unique(drawn)) > 60


def test_what_cannot_be_is_said_in_one_line(files, capfd, monkeypatch):
    frames = np.load(files / "frames.npy").astype(np.float32)
    np.save(files / "missing.npy", np.full_like(frames, np.nan))
    frames[40, 3, 3] = np.nan
    np.save(files / "nan.npy", frames)
    jaxem.save(files / "colour.npz", planted(3)[0])
    (files / "grey").mkdir()
    for number in range(40):
        Image.fromarray(frames[number].astype(np.uint8)).save(files / "grey" / f"{number}.png")
    model, out = ("--model", str(files / "model.npz")), ("--out", str(files / "out"))
    for expected, *arguments in [
        (r"FRAMES: .*nan.npy: frame 40 \(counted from 0\).*", "nan.npy", *model),
        ("FRAMES: .*missing.npy holds nothing but NaN.", "missing.npy", *model, "--nan-missing"),
        (
            "FRAMES: .*grey is grey, but .* was found in frames of 3 channels; give such.",
            "grey",
            "--model",
            "colour.npz",
        ),
        ("FRAMES: .*has frames of 5 x 6, but .*", "nan.npy", *model, "--crop", "0", "0", "5", "6"),
        ("--mask must hold 1 or 70 pictures, but .*", "frames.npy", *model, "--mask", "grey"),
    ]:
        places = [str(files / name) if (files / name).exists() else name for name in arguments]
        assert run(["locate", *places, *out, *LITTLE]) == ExitCode.USERS_ERROR
        text = capfd.readouterr().err
        assert re.fullmatch(f"jaxem: {expected}\n", text), text
    assert not (files / "out").exists()
    monkeypatch.setattr(memory, "BASE_BYTES", 10**6)
    for command, place in (("locate", "out"), ("restore", "out.npy")):
        arguments = [command, str(files / "frames.npy"), *model, "--out", str(files / place)]
        assert run([*arguments, "--memory", "30kB"]) == ExitCode.USERS_ERROR
        expected = "--memory of 30 kB is too little: a few frames at a time take 1 MB, with what JAX itself takes."
        assert capfd.readouterr().err == f"jaxem: {expected}\n"
