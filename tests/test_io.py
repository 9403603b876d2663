"""Frames in: what is read is what was stored, and what cannot be is said in one line."""

import subprocess
import sys
from functools import partial
from pathlib import Path

import av
import h5py
import imageio.v3 as imageio
import mrcfile
import numpy as np
import pytest
import tifffile
import zarr
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


FLOATS = RNG.normal(size=(12, 5, 7)).astype(np.float32)


def in_npz(folder, frames):
    np.savez_compressed(folder / "a.npz", frames)
    return folder / "a.npz"


def in_named_npz(folder, frames):
    np.savez(folder / "a.npz", other=frames + 1, stack=np.asfortranarray(frames))
    return f"{folder}/a.npz::stack"


def in_npy(folder, frames):
    np.save(folder / "a.npy", frames)
    return folder / "a.npy"


def in_folder(folder, frames, suffix="png", write=imageio.imwrite):
    return folder_of(folder / "frames", frames, suffix, write)


def in_glob(folder, frames):
    return in_folder(folder, frames, "tif", tifffile.imwrite) / "frame*.tif"


def in_pages(folder, frames, **options):
    tifffile.imwrite(folder / "pages.tif", frames, photometric="minisblack", **options)
    return folder / "pages.tif"


def in_one_imagej_page(folder, frames):
    """As ImageJ writes stacks above 4 GB: the pixels of all frames behind a single page."""
    with tifffile.TiffWriter(folder / "big.tif", byteorder=">") as tiff:
        description = f"ImageJ=1.53\nimages={len(frames)}\nslices={len(frames)}\n"
        tiff.write(frames[0], photometric="minisblack", description=description, metadata=None)
    with tifffile.TiffFile(folder / "big.tif") as tiff:
        start = tiff.pages[0].dataoffsets[0]
    with open(folder / "big.tif", "r+b") as file:
        file.seek(start)
        file.write(frames.astype(frames.dtype.newbyteorder(">")).tobytes())
    return folder / "big.tif"


def in_mrc(folder, frames):
    with mrcfile.new(folder / "a.mrcs") as mrc:
        mrc.set_data(frames.astype(np.uint16) if frames.dtype == np.uint8 else frames)
    return folder / "a.mrcs"


def in_h5(folder, frames, name="", **options):
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("run/stack", data=frames, **options)
        file["table"] = np.zeros((3, 4))
        file["short"] = h5py.SoftLink("/run")
    return f"{folder}/a.h5{name}"


def in_zarr(folder, frames, version=3, name="", **options):
    root = zarr.open_group(folder / "a.zarr", mode="w", zarr_format=version)
    array = root.create_array("run/stack", shape=frames.shape, dtype=frames.dtype, chunks=(5, 4, 7), **options)
    array[:] = frames
    root.create_array("table", shape=(3, 4), dtype="f4")
    return f"{folder}/a.zarr{name}"


def in_zarr_array(folder, frames):
    zarr.save_array(folder / "array.zarr", frames)
    return folder / "array.zarr"


def in_video(folder, frames, name="a.mkv", codec="ffv1", pixels=None, **options):
    pixels = pixels or {np.dtype(np.uint8): "gray", np.dtype(np.uint16): "gray16le"}[frames.dtype]
    with av.open(folder / name, "w") as file:
        stream = file.add_stream(codec, rate=10, options=options)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        for frame in frames:
            source = "rgb24" if frame.ndim == 3 else pixels if pixels.startswith("gray") else "gray"
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format=source)))
        file.mux(stream.encode(None))
    return folder / name


EVERY_FORM = {
    "npy": in_npy,
    "npy in Fortran's order": lambda folder, frames: in_npy(folder, np.asfortranarray(frames)),
    "npz": in_npz,
    "npz by name": in_named_npz,
    "folder of TIFF": partial(in_folder, suffix="tif", write=tifffile.imwrite),
    "pattern": in_glob,
    "pages": in_pages,
    "packed pages": partial(in_pages, compression="deflate", rowsperstrip=2),
    "tiles": partial(in_pages, tile=(16, 16)),
    "big-endian BigTIFF": partial(in_pages, bigtiff=True, byteorder=">"),
    "OME": partial(in_pages, ome=True),
    "one page of ImageJ": in_one_imagej_page,
    "MRC": in_mrc,
    "HDF5": in_h5,
    "HDF5 by name": partial(in_h5, name="::run/stack", chunks=(2, 3, 7), compression="gzip", shuffle=True),
    "HDF5 by link": partial(in_h5, name="::/short/stack"),
    "Zarr": in_zarr_array,
    "Zarr group": in_zarr,
    "Zarr by name": partial(in_zarr, name="::run/stack"),
    "Zarr 2": partial(in_zarr, version=2, name="::run/stack"),
    "Zarr shards": partial(in_zarr, shards=(10, 8, 14)),
}
OF_INTEGERS = {
    "folder of PNG": in_folder,
    "ImageJ": lambda folder, frames: in_pages(folder, frames, imagej=True),
    "video": in_video,
}
OF_BYTES = {"LZW": lambda folder, frames: in_pages(folder, frames, compression="lzw", predictor=True)}


def form_cases():
    for frames, forms in [(FLOATS, EVERY_FORM), (GREY16, EVERY_FORM | OF_INTEGERS)]:
        yield from (pytest.param(form, frames, id=f"{name}, {frames.dtype}") for name, form in forms.items())
    forms = EVERY_FORM | OF_INTEGERS | OF_BYTES
    yield from (pytest.param(form, GREY8, id=f"{name}, uint8") for name, form in forms.items())


@pytest.mark.parametrize(("form", "frames"), [*form_cases()])
def test_every_lossless_form_gives_the_same_frames(tmp_path, form, frames):
    path = form(tmp_path, frames)
    found = read_frames(path)
    assert found.dtype == frames.dtype or "mrc" in str(path)  # which has no unsigned bytes
    assert found.dtype.isnative
    np.testing.assert_array_equal(found, frames)
    for crop, choice, every in [
        ((1, 2, 3, 4), None, 1),
        (None, (3, 9), 2),
        ((0, 6, 5, 1), (-5, None), 3),
        (None, (None, -8), 1),
        ((4, 0, 1, 7), (11, 40), 5),
    ]:
        row, column, height, width = crop or (0, 0, 5, 7)
        expected = frames[slice(*(choice or (None,)))][::every]
        expected = expected[:, row : row + height, column : column + width]
        chosen = read_frames(path, crop=crop, frames=choice, every=every)
        np.testing.assert_array_equal(chosen, expected)


@pytest.mark.parametrize("name", ["video, 1", "other.dat"])
@pytest.mark.parametrize("form", ["npy", "npz", "pages", "MRC", "HDF5", "video", "folder of PNG"])
def test_content_counts_more_than_the_suffix(tmp_path, form, name):
    path = Path((EVERY_FORM | OF_INTEGERS)[form](tmp_path, GREY8))
    if path.is_dir():
        for file in path.iterdir():
            file.rename(file.with_suffix(".TIFF"))
        (path / "frame3.TIFF").unlink()
        tifffile.imwrite(path / "frame3.png", GREY8[3])
    else:
        path = path.rename(tmp_path / f"{name}.png")
    np.testing.assert_array_equal(read_frames(path), GREY8)


def test_old_mrc_and_single_images_are_known_by_their_suffix(tmp_path):
    path = in_mrc(tmp_path, GREY16)
    data = bytearray(path.read_bytes())
    data[208:216] = bytes(8)  # neither mark nor byte order
    path.write_bytes(data)
    np.testing.assert_array_equal(read_frames(path), GREY16)
    with mrcfile.new(tmp_path / "one.mrc") as mrc:
        mrc.set_data(FLOATS[0])
    np.testing.assert_array_equal(read_frames(tmp_path / "one.mrc"), FLOATS[:1])
    imageio.imwrite(tmp_path / "one.png", GREY8[0])
    np.testing.assert_array_equal(read_frames(tmp_path / "one.png"), GREY8[:1])


def test_only_what_is_chosen_is_opened(tmp_path):
    folder = in_folder(tmp_path, GREY8)
    (folder / "frame5.png").write_bytes(b"damaged")
    np.testing.assert_array_equal(read_frames(folder, frames=(0, 5)), GREY8[:5])
    np.testing.assert_array_equal(read_frames(folder, every=2), GREY8[::2])


def test_a_name_that_looks_like_a_pattern(tmp_path):
    np.save(tmp_path / "a*[1].npy", GREY8)
    np.save(tmp_path / "a::b.npy", GREY8 + 1)
    np.testing.assert_array_equal(read_frames(tmp_path / "a*[1].npy"), GREY8)
    np.testing.assert_array_equal(read_frames(f"{tmp_path}/a::b.npy"), GREY8 + 1)


def test_grey_modes(tmp_path):
    np.save(tmp_path / "colour.npy", COLOUR8)
    for number, name in enumerate(["red", "green", "blue"]):
        found = read_frames(tmp_path / "colour.npy", grey=name)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, COLOUR8[..., number])
    mean = read_frames(tmp_path / "colour.npy", grey="mean")
    assert mean.dtype == np.float32
    np.testing.assert_allclose(mean, COLOUR8.mean(axis=-1), rtol=1e-6)
    luma = read_frames(tmp_path / "colour.npy", crop=(1, 1, 2, 2), every=5)
    np.testing.assert_array_equal(luma, read_frames(tmp_path / "colour.npy")[::5, 1:3, 1:3])


@pytest.mark.parametrize("grey", ["luma", "mean", "red"])
@pytest.mark.parametrize("frames", [GREY8, GREY16, FLOATS], ids=["8 bit", "16 bit", "floats"])
def test_equal_channels_are_grey_to_the_bit(tmp_path, frames, grey):
    threefold = np.stack([frames] * 3, axis=-1)
    paths = [in_npy(tmp_path, threefold)]
    tifffile.imwrite(tmp_path / "pages.tif", threefold, photometric="rgb")
    paths.append(tmp_path / "pages.tif")
    if frames.dtype == np.uint8:
        mixed = in_folder(tmp_path, threefold)
        imageio.imwrite(mixed / "frame0.png", frames[0])
        paths.append(mixed)
    for path in paths:
        np.testing.assert_array_equal(read_frames(path, grey=grey).astype(np.float32), frames.astype(np.float32))


SMOOTH = (
    127.5 + 100 * np.sin(np.arange(64)[:, None] / 9 + np.arange(8)[:, None, None] / 5) * np.cos(np.arange(96) / 13)
).astype(np.uint8)
CODECS = {
    "a.mp4": ("libx264", "yuv420p", {"crf": "2"}),
    "b.mp4": ("libx264", "yuvj420p", {"crf": "2"}),
    "a.mov": ("libx264", "yuv420p", {"crf": "2", "preset": "ultrafast"}),
    "a.avi": ("mpeg4", "yuv420p", {"qmin": "1", "qmax": "1"}),
    "b.avi": ("mjpeg", "yuvj420p", {"qmin": "1", "qmax": "1"}),
    "a.webm": ("libvpx-vp9", "yuv420p", {"crf": "2", "b": "0", "cpu-used": "8", "deadline": "realtime"}),
    "b.mkv": ("ffv1", "yuv420p", {}),
}


@pytest.mark.parametrize("name", CODECS)
def test_video_is_close(tmp_path, name):
    codec, pixels, options = CODECS[name]
    path = in_video(tmp_path, SMOOTH, name, codec, pixels, **options)
    for grey in ("luma", "mean", "green"):
        found = read_frames(path, grey=grey)
        assert found.shape == SMOOTH.shape
        assert np.abs(found - SMOOTH.astype(float)).mean() < 0.005 * 255
        np.testing.assert_array_equal(
            read_frames(path, grey=grey, crop=(3, 5, 20, 31), frames=(-6, 7), every=2), found[2:7:2, 3:23, 5:36]
        )


def test_jpeg_and_gif_are_close(tmp_path):
    write = partial(imageio.imwrite, quality=98)
    for suffix in ("jpg", "JPEG"):
        found = read_frames(folder_of(tmp_path / suffix, SMOOTH, suffix, write))
        assert found.dtype == np.uint8
        assert np.abs(found - SMOOTH.astype(float)).max() < 0.005 * 255 + 1
    colour = read_frames(folder_of(tmp_path / "colour", np.stack([SMOOTH] * 3, axis=-1), "jpg", write))
    assert np.abs(colour - SMOOTH).mean() < 0.005 * 255
    imageio.imwrite(tmp_path / "a.gif", SMOOTH)
    np.testing.assert_allclose(read_frames(tmp_path / "a.gif"), SMOOTH, atol=1)


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


def bad_choices(tmp_path):
    """Every kind of choice that cannot be met, with what must be said of it."""
    stack = in_npy(tmp_path, GREY8)
    folder = in_folder(tmp_path, GREY8)
    for path in (stack, folder, in_video(tmp_path, GREY8)):
        yield path, {"frames": (12, None)}, "holds 12 frames.*12:.*between 0 and 12"
        yield path, {"frames": (5, 5)}, "holds 12 frames.*5:5"
        yield path, {"crop": (0, 0, 6, 7)}, "5 x 7, but takes 6 x 7 pixels from row 0"
    yield stack, {"crop": (-1, 0, 2, 2)}, "crop must lie within"
    yield stack, {"crop": (0, 0, 0, 2)}, "crop must lie within"
    yield stack, {"crop": (0, 0, 2)}, "four whole numbers"
    yield stack, {"crop": (0, 0, 2.5, 2)}, "four whole numbers"
    yield stack, {"frames": (0, 1, 2)}, "two whole numbers or None"
    yield stack, {"frames": "ab"}, "two whole numbers or None"
    yield stack, {"every": 0}, "every must be a whole number of at least 1, but is 0"
    yield stack, {"every": 1.5}, "every must be a whole number"
    yield stack, {"grey": "gray"}, "luma, mean, red, green, blue, but is 'gray'"
    yield f"{stack}::a", {}, "holds no arrays with names"
    yield f"{folder}::a", {}, "holds no arrays with names"
    yield tmp_path / "*.jpg", {}, "matches no files"
    yield "a\0b", {}, "does not exist|null"
    yield f"{in_npz(tmp_path, GREY8)}::b", {}, "no array b; it holds arr_0"
    yield in_h5(tmp_path, GREY8, "::run/b"), {}, "has no /run/b; beside it there is stack"
    yield in_h5(tmp_path, GREY8, "::table"), {}, r"stack \(K, H, W\).*\(3, 4\)"
    yield in_zarr(tmp_path, GREY8, name="::b"), {}, r"no array b; it holds run/stack \[12, 5, 7\], table"
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["a"], file["b/c"] = GREY8, GREY8
    yield tmp_path / "two.h5", {}, r"several stacks \(a, b/c\); name one as in two.h5::a"


def test_what_cannot_be_chosen_is_said_in_one_line(tmp_path):
    for path, choice, pattern in bad_choices(tmp_path):
        with pytest.raises(FramesError, match=pattern) as caught:
            read_frames(path, **choice)
        assert "\n" not in str(caught.value)


def test_frames_that_do_not_fit_into_memory_are_refused(tmp_path, monkeypatch):
    path = in_npy(tmp_path, GREY16)
    monkeypatch.setattr("jaxem.formats.source.available_memory", lambda: 2000)
    with pytest.raises(FramesError, match="too much of the 2 kB that are free; choose fewer"):
        read_frames(path)
    assert read_frames(path, frames=(0, 2), crop=(0, 0, 2, 2)).shape == (2, 2, 2)


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    path = in_h5(tmp_path, GREY8)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(FramesError, match=r"needs h5py; install it with pip install 'jaxem\[app\]'"):
        read_frames(path)


def test_libraries_of_single_formats_are_imported_when_such_a_file_comes():
    seen = "import sys, jaxem.io; print(*{'av', 'h5py', 'zarr', 'mrcfile', 'tifffile', 'PIL'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
