"""Results out: whole or not at all."""

from pathlib import Path

import numpy as np
import pytest
import tifffile

from jaxem.io import read_frames, writers
from jaxem.io.writers import Pixels, frame_names, pixels_for, write_frames
from jaxem.runtime.errors import OutputError
from jaxem.runtime.files import output_folder


def test_results_appear_whole_or_not_at_all(tmp_path):
    target = tmp_path / "new" / "deep"
    with output_folder(target) as folder:
        (folder / "a.txt").write_text("first")
        assert not (target / "a.txt").exists()
    assert [file.name for file in target.iterdir()] == ["a.txt"]

    def fail(folder, error):
        with output_folder(folder) as inside:
            (inside / "a.txt").write_text("second")
            raise error

    with pytest.raises(KeyboardInterrupt):
        fail(target, KeyboardInterrupt())
    assert [(file.name, file.read_text()) for file in target.iterdir()] == [("a.txt", "first")]
    (target / "b.txt").mkdir()

    def write_both():
        with output_folder(target) as folder:
            (folder / "a.txt").write_text("third")
            (folder / "b.txt").write_text("third")

    with pytest.raises(OutputError, match=r"b\.txt there is a folder"):
        write_both()
    assert (target / "a.txt").read_text() == "first"
    with pytest.raises(OutputError, match="No space left"):
        fail(tmp_path / "other" / "deep", OSError(28, "No space left on device"))
    assert not (tmp_path / "other").exists()


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(OutputError, match=f"cannot write to {folder}"), output_folder(folder):
            pytest.fail("the block must not be entered")


def test_pixels_are_rounded_and_cut_to_what_their_type_holds():
    found = Pixels(np.dtype(np.uint8))(np.array([[-3.0, 0.4, 0.6], [254.6, 256, 1e9]]))
    np.testing.assert_array_equal(found, np.array([[0, 0, 1], [255, 255, 255]], np.uint8))


SHAPE = (3, 4, 5)


def never_asked():
    raise AssertionError("the type tells")


def test_whole_numbers_stay_as_they_are_where_the_file_holds_them():
    deep, stretched = np.dtype(np.uint16), Pixels(np.dtype(np.uint16), 1.0, 2.0)
    for low, high, expected in [
        (0, 255, Pixels(np.dtype(np.uint8))),
        (0, 256, Pixels(deep)),
        (0, 65535, Pixels(deep)),
        (0, 65536, stretched),
        (-1, 9, stretched),
    ]:
        found = pixels_for(
            Path("folder"), SHAPE, np.dtype(np.int32), (1.0, 2.0), lambda low=low, high=high: (low, high)
        )
        assert found == expected
    found = pixels_for(Path("a.MKV"), SHAPE, np.dtype(np.int32), (1.0, 2.0), lambda: (256, 256))
    assert found == Pixels(np.dtype(np.uint8), 1.0, 2.0)


def test_names_of_many_frames_are_of_one_length():
    assert frame_names([7, 12345]) == ["frame_00007.png", "frame_12345.png"]


def test_a_tiff_beyond_the_classic_ones_is_written_as_big(tmp_path, monkeypatch):
    frames = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    for most, is_big in [(60, False), (59, True)]:
        monkeypatch.setattr(writers, "CLASSIC_TIFF", most)
        write_frames(tmp_path / "a.tif", frames, Pixels(frames.dtype), frames.shape, range(3), 10)
        with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
            assert tiff.is_bigtiff == is_big
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), frames)


def test_frames_in_colour_are_written_in_every_form(tmp_path):
    smooth = np.linspace(10, 240, 24)[:, None] * np.array([1, 0.7, 0.4]) + np.arange(16)[:, None, None]
    frames = np.stack([smooth, smooth[::-1]])
    for name, atol in [
        ("png", 0),
        ("a.tif", 0),
        ("a.npy", 0),
        ("a.mkv", 0),
        ("a.avi", 0),
        ("a.mp4", 12),
        ("a.gif", 86),
    ]:
        path = tmp_path / name
        whole = np.rint(frames).astype(np.uint8)
        pixels = pixels_for(path, whole.shape, whole.dtype, (0.0, 1.0), never_asked)
        if name == "png":
            path.mkdir()
        write_frames(path, frames, pixels, frames.shape, ["0.png", "1.png"], 10)
        found = read_frames(path, colour=True)
        assert found.shape == (2, 16, 24, 3), name
        assert found.dtype == np.uint8
        np.testing.assert_allclose(found.astype(float), whole, atol=atol, err_msg=name)
    stretched = pixels_for(tmp_path, frames.shape, frames.dtype, (10.0, 260.0), never_asked)
    assert stretched == Pixels(np.dtype(np.uint8), 10.0, 260.0, "colour")
    assert stretched.describe() == "8-bit colour, 0 for 10 and 255 for 260"
    assert writers.can_hold(Path("a.npy"), 5)
    assert not writers.can_hold(Path("a.png"), 5)
