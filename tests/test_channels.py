"""Frames in colour, frames with holes, and arrays that go with them."""

import h5py
import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile
import zarr

from jaxem.io import FramesError, read_frames
from jaxem.io.arrays import read_array
from jaxem.io.frames import read_part

RNG = np.random.default_rng(7)
COLOUR = RNG.integers(0, 256, (6, 8, 10, 3), np.uint8)
HOLES = RNG.random((6, 5, 7)).astype(np.float32)
HOLES[2, 1, 3] = np.nan


def folder_of(folder, frames, suffix, write):
    folder.mkdir()
    for number, frame in enumerate(frames):
        write(folder / f"frame{number}.{suffix}", frame)
    return folder


def in_files(place, frames):
    """The same frames in every form that holds them to the bit."""
    np.save(place / "stack.npy", frames)
    np.savez_compressed(place / "stack.npz", frames)
    with h5py.File(place / "stack.h5", "w") as file:
        file["stack"] = frames
    zarr.save_array(place / "stack.zarr", frames)
    paths = [place / f"stack.{suffix}" for suffix in ("npy", "npz", "h5", "zarr")]
    kind = {"photometric": "rgb"} if frames.ndim == 4 else {}
    tifffile.imwrite(place / "pages.tif", frames, **kind)
    single = folder_of(place / "tiffs", frames, "tif", lambda file, frame: tifffile.imwrite(file, frame, **kind))
    return [*paths, place / "pages.tif", single]


def test_channels_are_kept(tmp_path):
    paths = [*in_files(tmp_path, COLOUR), folder_of(tmp_path / "png", COLOUR, "png", imageio.imwrite)]
    for path in paths:
        found = read_frames(path, colour=True)
        assert found.dtype == np.uint8, path
        np.testing.assert_array_equal(found, COLOUR, err_msg=str(path))
        some = read_part(path, colour=True, crop=(1, 2, 3, 4), frames=(1, 6), every=2)
        np.testing.assert_array_equal(some.images, COLOUR[1:6:2, 1:4, 2:6])
        assert (some.numbers, some.total, some.size) == (range(1, 6, 2), 6, (8, 10)), path
    smooth = np.broadcast_to(np.linspace(20, 200, 10).astype(np.uint8)[:, None] * [1, 0.5, 1], (6, 8, 10, 3))
    imageio.imwrite(tmp_path / "a.mp4", smooth.astype(np.uint8), fps=5, codec="libx264")
    assert np.abs(read_frames(tmp_path / "a.mp4", colour=True) - smooth.astype(float)).mean() < 6


def test_other_channels_transparency_and_grey_among_colour(tmp_path):
    five = RNG.random((3, 4, 5, 5)).astype(np.float32)
    np.save(tmp_path / "five.npy", five)
    np.testing.assert_array_equal(read_frames(tmp_path / "five.npy", colour=True), five)
    np.save(tmp_path / "alpha.npy", np.concatenate([COLOUR, COLOUR[..., :1]], axis=-1))
    np.testing.assert_array_equal(read_frames(tmp_path / "alpha.npy", colour=True), COLOUR)
    mixed = folder_of(tmp_path / "mixed", COLOUR, "png", imageio.imwrite)
    imageio.imwrite(mixed / "frame0.png", COLOUR[0, ..., 0])
    found = read_frames(mixed, colour=True)
    np.testing.assert_array_equal(found[0], np.repeat(COLOUR[0, ..., :1], 3, axis=-1))
    np.testing.assert_array_equal(found[1:], COLOUR[1:])


def test_grey_has_no_channels_to_keep(tmp_path):
    grey = COLOUR[..., 0]
    png = folder_of(tmp_path / "png", grey, "png", imageio.imwrite)
    np.save(tmp_path / "one.npy", grey[..., None])
    for path in [*in_files(tmp_path, grey), png, tmp_path / "one.npy"]:
        with pytest.raises(FramesError, match=r"colour keeps the channels of colour, but .* is grey"):
            read_frames(path, colour=True)


def test_holes_pass_where_they_may(tmp_path):
    for path in in_files(tmp_path, HOLES):
        np.testing.assert_array_equal(read_frames(path, nan_missing=True), HOLES, err_msg=str(path))
        with pytest.raises(FramesError, match="holds NaN; --nan-missing takes such pixels for missing"):
            read_frames(path)
    endless = np.where(np.isnan(HOLES), np.inf, HOLES)
    np.save(tmp_path / "inf.npy", endless)
    single = folder_of(tmp_path / "inf", endless, "tif", tifffile.imwrite)
    for path in (tmp_path / "inf.npy", single):
        with pytest.raises(FramesError, match="holds infinite pixels; "):
            read_frames(path, nan_missing=True)


@pytest.mark.parametrize("shape", [(), (3,), (4, 5), (2, 3, 4, 5, 2)])
def test_arrays_of_any_shape(tmp_path, shape):
    array = RNG.normal(size=shape)
    np.save(tmp_path / "a.npy", np.asfortranarray(array))
    np.savez_compressed(tmp_path / "a.npz", array=array, other=array)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["array"] = array
    names = ["a.npy", "a.npz::array", "a.h5::array"]
    if shape:
        zarr.save_group(tmp_path / "a.zarr", array=array)
        names.append("a.zarr::array")
    for name in names:
        np.testing.assert_array_equal(read_array(tmp_path / name), array, err_msg=name)


def test_pictures_as_arrays_and_what_is_none(tmp_path):
    imageio.imwrite(tmp_path / "a.png", COLOUR[0])
    np.testing.assert_array_equal(read_array(tmp_path / "a.png", grey="red"), COLOUR[0, ..., 0])
    np.testing.assert_array_equal(read_array(tmp_path / "a.png", colour=True), COLOUR[0])
    tifffile.imwrite(tmp_path / "a.tif", COLOUR[..., 0])
    np.testing.assert_array_equal(read_array(tmp_path / "a.tif"), COLOUR[..., 0])
    np.save(tmp_path / "text.npy", np.array(["text"]))
    (tmp_path / "no.png").write_text("no picture")
    for name, pattern in (("text.npy", "real numbers"), ("no.png", "cannot be read"), ("none", "does not exist")):
        with pytest.raises(FramesError, match=pattern):
            read_array(tmp_path / name)
