"""Frames in: what is read is what was stored, and what cannot be is said in one line."""

from functools import partial

import imageio.v3 as imageio
import numpy as np
import pytest
import tifffile
from PIL import Image

from jaxem.io import FramesError, read_frames

RNG = np.random.default_rng(51)
GREY8 = RNG.integers(0, 256, (12, 5, 7), np.uint8)
GREY16 = RNG.integers(0, 65536, (12, 5, 7)).astype(np.uint16)
COLOUR8 = RNG.integers(0, 256, (12, 5, 7, 3), np.uint8)
WEIGHTS = [0.299, 0.587, 0.114]


def folder_of(folder, frames, suffix, write):
    folder.mkdir(exist_ok=True)
    for number, frame in enumerate(frames):
        write(folder / f"frame{number}.{suffix}", frame)  # unpadded: 2 must come before 10
    return folder


@pytest.mark.parametrize(("suffix", "write"), [("png", imageio.imwrite), ("tif", tifffile.imwrite)])
@pytest.mark.parametrize("frames", [GREY8, GREY16], ids=["8 bit", "16 bit"])
def test_grey_integers_keep_type_scale_and_order(tmp_path, suffix, write, frames):
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "notes.txt").write_text("not a frame")
    (tmp_path / "frames" / "._frame0.png").write_text("nor is this")
    found = read_frames(folder_of(tmp_path / "frames", frames, suffix, write))
    assert found.dtype == frames.dtype
    np.testing.assert_array_equal(found, frames)


def test_colour_becomes_grey_on_the_same_scale(tmp_path):
    expected = COLOUR8 @ np.array(WEIGHTS)
    alpha = np.concatenate([COLOUR8, np.full((12, 5, 7, 1), 77, np.uint8)], axis=-1)
    for name, frames, suffix, write in [
        ("png", COLOUR8, "png", imageio.imwrite),
        ("alpha", alpha, "png", imageio.imwrite),
        ("tiff", COLOUR8, "TIFF", lambda file, frame: tifffile.imwrite(file, frame, photometric="rgb")),
    ]:
        found = read_frames(folder_of(tmp_path / name, frames, suffix, write))
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, expected, rtol=1e-5)

    wide = COLOUR8.astype(np.uint16) * 257
    planes = folder_of(
        tmp_path / "planes",
        np.moveaxis(wide, -1, 1),
        "tif",
        lambda file, frame: tifffile.imwrite(file, frame, photometric="rgb", planarconfig="separate"),
    )
    np.testing.assert_allclose(read_frames(planes), expected * 257, rtol=1e-5)
    np.save(tmp_path / "colour.npy", COLOUR8)
    np.testing.assert_allclose(read_frames(tmp_path / "colour.npy"), expected, rtol=1e-5)


def test_palette_tiff(tmp_path):
    palette = np.zeros((3, 256), np.uint16)
    palette[0], palette[1] = np.arange(256) * 200, 7 * np.arange(256)
    write = partial(tifffile.imwrite, photometric="palette", colormap=palette)
    found = read_frames(folder_of(tmp_path / "palette", GREY8, "tif", write))
    np.testing.assert_allclose(found, (WEIGHTS[0] * 200 + WEIGHTS[1] * 7) * GREY8.astype(float), rtol=1e-5)


def test_compressed_tiff(tmp_path):
    lzw = folder_of(
        tmp_path / "lzw", GREY16, "tif", lambda file, frame: Image.fromarray(frame).save(file, compression="tiff_lzw")
    )
    np.testing.assert_array_equal(read_frames(lzw), GREY16)


def test_floating_tiff_and_bilevel_png(tmp_path):
    floats = RNG.normal(size=(3, 5, 7)).astype(np.float32)
    found = read_frames(folder_of(tmp_path / "floats", floats, "tif", tifffile.imwrite))
    np.testing.assert_array_equal(found, floats)
    bits = folder_of(tmp_path / "bits", GREY8[:3] > 100, "png", lambda f, x: Image.fromarray(x).save(f))
    np.testing.assert_array_equal(read_frames(bits) > 0, GREY8[:3] > 100)


def test_numpy_files(tmp_path):
    np.save(tmp_path / "a.npy", GREY16)
    np.savez(tmp_path / "one.npz", anything=GREY16)
    np.savez(tmp_path / "two.npz", other=np.zeros(3), images=GREY16)
    for name in ("a.npy", "one.npz", "two.npz"):
        np.testing.assert_array_equal(read_frames(tmp_path / name), GREY16)


def damaged(path, keep):
    path.write_bytes(path.read_bytes()[:keep])


def bad_frames(tmp_path):
    """Every kind of frames that cannot be used, with what must be said of it."""

    def saved(name, array):
        np.save(tmp_path / name, array, allow_pickle=True)
        return tmp_path / name

    yield tmp_path / "nowhere", "nowhere does not exist"
    (tmp_path / "empty").mkdir()
    yield tmp_path / "empty", "no PNG or TIFF"
    (tmp_path / "movie.xyz").write_bytes(b"?")
    yield tmp_path / "movie.xyz", "neither a folder"
    yield saved("flat.npy", GREY8[0]), r"\(K, H, W\).*\(5, 7\)"
    yield saved("none.npy", GREY8[:0]), r"no pixels.*\(0, 5, 7\)"
    yield saved("complex.npy", GREY8 * 1j), "real numbers.*complex128"
    yield saved("text.npy", GREY8.astype(str)), "real numbers.*<U"
    yield saved("object.npy", np.array([[[{}]]])), "damaged or no array"
    broken = GREY8.astype(float)
    broken[4, 1, 2] = np.nan
    yield saved("nan.npy", broken), "frame 4.*NaN"
    short = saved("short.npy", GREY8)
    damaged(short, 200)
    yield short, "short.npy is damaged"
    (tmp_path / "text.npz").write_text("not a zip file")
    yield tmp_path / "text.npz", "text.npz is damaged"
    np.savez(tmp_path / "many.npz", a=GREY8, b=GREY8)
    yield tmp_path / "many.npz", "one array or one named 'images'.*a, b"
    np.savez(tmp_path / "zero.npz")
    yield tmp_path / "zero.npz", "none"

    sizes = folder_of(tmp_path / "sizes", GREY8[:2], "png", imageio.imwrite)
    imageio.imwrite(sizes / "frame2.png", GREY8[2, :4])
    yield sizes, "one size.*frame0.png is 5 x 7 and frame2.png is 4 x 7"
    kinds = folder_of(tmp_path / "kinds", GREY8[:2], "png", imageio.imwrite)
    imageio.imwrite(kinds / "frame2.png", GREY16[2])
    yield kinds, "one kind.*uint8.*frame2.png holds uint16"
    for suffix, write in (("png", imageio.imwrite), ("tif", tifffile.imwrite)):
        cut = folder_of(tmp_path / f"cut{suffix}", GREY8[:2], suffix, write)
        damaged(cut / f"frame1.{suffix}", 60)
        yield cut, f"frame1.{suffix} cannot be read as an image"
    pages = folder_of(tmp_path / "pages", [GREY8], "tif", tifffile.imwrite)
    yield pages, "frame0.tif holds 12 pages"
    holes = folder_of(tmp_path / "holes", broken[3:6].astype("float32"), "tif", tifffile.imwrite)
    yield holes, "frame1.tif holds NaN"
    many = folder_of(
        tmp_path / "channels",
        [np.zeros((6, 7, 5), np.uint8)],
        "tif",
        partial(tifffile.imwrite, planarconfig="contig", photometric="rgb"),
    )
    yield many, "frame0.tif must be grey or colour, but has 5 channels"
    deep = folder_of(tmp_path / "deep", GREY8[:1], "png", imageio.imwrite)
    header = bytearray((deep / "frame0.png").read_bytes())
    header[24:26] = bytes([16, 2])  # bit depth 16, colour
    (deep / "frame0.png").write_bytes(header)
    yield deep, "16-bit colour"


def test_what_cannot_be_used_is_said_in_one_line(tmp_path):
    for path, pattern in bad_frames(tmp_path):
        with pytest.raises(FramesError, match=pattern) as caught:
            read_frames(path)
        assert "\n" not in str(caught.value)
