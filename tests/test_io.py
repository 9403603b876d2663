"""Frames in: what is read is what was stored, and what cannot be is said in one line."""

import logging
import pickle
import subprocess
import sys
import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import av
import h5py
import imageio.v3 as imageio
import mrcfile
import numcodecs
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from jaxem.cli import parameters
from jaxem.io import FramesError, open_frames, read_frames
from jaxem.io import frames as reading
from jaxem.io.readers import numpy_files
from jaxem.io.readers.formats import recognise
from jaxem.io.readers.pictures import jpeg_size
from jaxem.runtime.errors import ArgumentError

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


def in_big_endian_mrc(folder, frames):
    """With words between its header and its pixels."""
    swapped = frames.astype(np.uint16 if frames.dtype == np.uint8 else frames.dtype)
    with mrcfile.new(folder / "a.mrcs") as mrc:
        with warnings.catch_warnings():  # mrcfile writes headers in a way that NumPy 2.5 deprecates
            warnings.simplefilter("ignore", DeprecationWarning)
            mrc.set_data(swapped.astype(swapped.dtype.newbyteorder(">")))
        mrc.set_extended_header(np.arange(300, dtype=np.uint8))
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


def in_video(folder, frames, name="a.mkv", codec="ffv1", pixels=None, rate=10, **options):
    pixels = pixels or {np.dtype(np.uint8): "gray", np.dtype(np.uint16): "gray16le"}[frames.dtype]
    with av.open(folder / name, "w") as file:
        stream = file.add_stream(codec, rate=rate, options=options)
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
    "big-endian MRC": in_big_endian_mrc,
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


@pytest.mark.parametrize("form", [*(EVERY_FORM | OF_INTEGERS).values()], ids=[*(EVERY_FORM | OF_INTEGERS)])
def test_blocks_of_frames_join(tmp_path, monkeypatch, form):
    path = form(tmp_path, GREY16)
    monkeypatch.setattr(reading, "BLOCK", 4 * GREY16[0].nbytes)
    np.testing.assert_array_equal(read_frames(path, frames=(1, None), every=2), GREY16[1::2])


@pytest.mark.parametrize(
    ("suffix", "codec"),
    {
        "mp4": "mpeg4",
        "avi": "mjpeg",
        "mkv": "ffv1",
        "ts": "mpeg2video",
        "mpg": "mpeg2video",
        "flv": "flv",
        "gif": "gif",
    }.items(),
)
def test_videos_are_known_without_their_suffix(tmp_path, suffix, codec):
    pixels = {"gif": "gray", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
    path = in_video(tmp_path, SMOOTH, f"a.{suffix}", codec, pixels, rate=25).rename(tmp_path / "a.dat")
    assert recognise(path) == "video"
    assert read_frames(path).shape == SMOOTH.shape


def test_old_mrc_and_single_images_are_known_by_their_suffix(tmp_path):
    path = in_mrc(tmp_path, GREY16).rename(tmp_path / "OLD.MRC")
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


def test_pixels_that_jax_does_not_know(tmp_path):
    for frames, expected in [(GREY8 > 100, np.uint8), (FLOATS.astype(np.longdouble), np.float64)]:
        found = read_frames(in_npy(tmp_path, frames))
        assert found.dtype == expected
        np.testing.assert_array_equal(found, frames)


@pytest.mark.parametrize("block", [1, reading.BLOCK])
def test_grey_frames_before_colour(tmp_path, monkeypatch, block):
    monkeypatch.setattr(reading, "BLOCK", block)
    folder = in_folder(tmp_path, COLOUR8)
    imageio.imwrite(folder / "frame0.png", GREY8[0])
    expected = COLOUR8 @ np.array(WEIGHTS)
    expected[0] = GREY8[0]
    np.testing.assert_allclose(read_frames(folder), expected, rtol=1e-5)


def test_notes_of_files_that_were_not_all_read(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 3
    for number, frame in enumerate(GREY8[:3]):
        Image.fromarray(frame).save(tmp_path / f"{number}.png", exif=turned)
    with open_frames(tmp_path) as opened:
        assert opened.notes == ("at least 1 frame: turned as EXIF says",)
        for _ in range(2):
            opened.read(0, 3)
        assert opened.notes == ("3 frames: turned as EXIF says",)


def test_one_channel_two_and_a_fourth(tmp_path):
    np.testing.assert_array_equal(read_frames(in_npy(tmp_path, GREY8[..., None])), GREY8)
    two = np.stack([GREY8, 255 - GREY8], axis=-1)
    write = partial(tifffile.imwrite, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"])
    np.testing.assert_array_equal(read_frames(folder_of(tmp_path / "tiff", two, "tif", write)), GREY8)
    folder = folder_of(
        tmp_path / "png",
        two,
        "png",
        lambda file, frame: Image.merge("LA", [*map(Image.fromarray, np.moveaxis(frame, -1, 0))]).save(file),
    )
    np.testing.assert_array_equal(read_frames(folder), GREY8)
    write = partial(tifffile.imwrite, photometric="rgb")
    folder = folder_of(tmp_path / "colour", COLOUR8, "tif", write)
    alpha = np.concatenate([COLOUR8[3], np.full((5, 7, 1), 77, np.uint8)], axis=-1)
    write(folder / "frame3.tif", alpha, extrasamples=["unassalpha"])
    np.testing.assert_array_equal(read_frames(folder, grey="blue"), COLOUR8[..., 2])


def test_palette_png(tmp_path):
    def write(file, frame):
        image = Image.fromarray(frame)
        image.putpalette([value for index in range(256) for value in (255 - index, index // 2, 7)])
        image.save(file)

    folder = folder_of(tmp_path / "frames", GREY8, "png", write)
    np.testing.assert_array_equal(read_frames(folder, grey="red"), 255 - GREY8)
    np.testing.assert_array_equal(read_frames(folder, grey="green"), GREY8 // 2)


def test_hdf5_behind_a_block_of_its_user_and_by_a_relative_link(tmp_path):
    with h5py.File(tmp_path / "a.dat", "w", userblock_size=1024) as file:
        file["run/stack"], file["stack"], file["run/link"] = GREY8, GREY8 + 1, h5py.SoftLink("stack")
    np.testing.assert_array_equal(read_frames(f"{tmp_path}/a.dat::run/link"), GREY8)


def test_stacks_in_colour_are_found_without_their_names(tmp_path):
    np.testing.assert_array_equal(read_frames(in_h5(tmp_path, COLOUR8), grey="red"), COLOUR8[..., 0])
    zarr.save_group(tmp_path / "a.zarr", stack=COLOUR8, table=np.zeros((3, 4)))
    np.testing.assert_array_equal(read_frames(tmp_path / "a.zarr", grey="red"), COLOUR8[..., 0])


def test_zarr_chunks_of_megabytes(tmp_path):
    frames = RNG.integers(0, 4, (1, 1500, 2000), np.uint8)
    array = zarr.create_array(tmp_path / "a.zarr", shape=frames.shape, dtype=frames.dtype, chunks=frames.shape)
    array[:] = frames
    np.testing.assert_array_equal(read_frames(tmp_path / "a.zarr"), frames)


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


def test_tables_may_come_before_the_size_in_jpeg(tmp_path):
    imageio.imwrite(tmp_path / "a.jpg", SMOOTH[0])
    data = (tmp_path / "a.jpg").read_bytes()
    size, tables, scan = (data.index(mark) for mark in (b"\xff\xc0", b"\xff\xc4", b"\xff\xda"))
    (tmp_path / "b.jpg").write_bytes(data[:size] + data[tables:scan] + data[size:tables] + data[scan:])
    assert jpeg_size((tmp_path / "b.jpg").read_bytes()) == (64, 96)
    np.testing.assert_array_equal(read_frames(tmp_path / "b.jpg"), read_frames(tmp_path / "a.jpg"))


def packets_changed(path, change):
    """The same video with other packets: what `change` makes of each and of its number."""
    with av.open(path) as old, av.open(path.with_stem("changed"), "w") as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        for number, packet in enumerate(old.demux(video=0)):
            if packet.size:
                changed = av.Packet(change(number, bytes(packet)))
                changed.stream, changed.time_base = stream, packet.time_base
                changed.pts, changed.dts = packet.pts, packet.dts
                new.mux(changed)
    return path.with_stem("changed")


def test_packets_that_show_nothing_are_no_frames(tmp_path):
    path = packets_changed(
        in_video(tmp_path, SMOOTH, "a.mkv", "libvpx", "yuv420p"),
        lambda number, data: bytes([data[0] & ~0x10, *data[1:]]) if number == 3 else data,  # VP8's mark: to be shown
    )
    found = read_frames(path)
    assert found.shape == (7, 64, 96)
    np.testing.assert_array_equal(read_frames(path, frames=(None, -1)), found[:-1])
    np.testing.assert_array_equal(read_frames(path, frames=(-3, None)), found[-3:])


def test_numpy_files(tmp_path):
    np.save(tmp_path / "a.npy", GREY16)
    np.savez(tmp_path / "one.npz", anything=GREY16)
    np.savez(tmp_path / "two.npz", other=np.zeros(3), images=GREY16)
    np.savez(tmp_path / "frames.npz", other=np.zeros(3), frames=GREY16)
    for name in ("a.npy", "one.npz", "two.npz", "frames.npz"):
        np.testing.assert_array_equal(read_frames(tmp_path / name), GREY16)


def damaged(path, keep):
    path.write_bytes(path.read_bytes()[:keep])


def bad_frames(tmp_path):
    """Every kind of frames that cannot be used, with what must be said of it."""

    def saved(name, array):
        np.save(tmp_path / name, array, allow_pickle=True)
        return tmp_path / name

    yield tmp_path / "nowhere", "nowhere does not exist"
    yield tmp_path / "\x1b]red", r"/\?]red does not exist"
    (tmp_path / "empty").mkdir()
    yield tmp_path / "empty", "holds no pictures of one frame each .PNG,.* folders in it are not searched"
    (tmp_path / "movie.xyz").write_bytes(b"?")
    yield tmp_path / "movie.xyz", "neither a folder"
    yield saved("flat.npy", GREY8[0]), r"shape \(5, 7\).* \(K, H, W\)"
    yield saved("none.npy", GREY8[:0]), r"no pixels.*\(0, 5, 7\)"
    yield saved("complex.npy", GREY8 * 1j), "real numbers.*complex128"
    yield saved("text.npy", GREY8.astype(str)), "real numbers.*<U"
    yield saved("object.npy", np.array([[[{}]]])), "damaged or no array"
    broken = GREY8.astype(float)
    broken[4, 1, 2] = np.nan
    yield saved("nan.npy", broken), "frame 4.*NaN"
    short = saved("short.npy", GREY8)
    damaged(short, 200)
    yield short, "short.npy was cut short: 2 frames are whole, of 12"
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
    yield many, "5 channels a pixel that are no colours"
    deep = folder_of(tmp_path / "deep", GREY8[:1], "png", imageio.imwrite)
    header = bytearray((deep / "frame0.png").read_bytes())
    header[24:26] = bytes([16, 2])  # bit depth 16, colour
    (deep / "frame0.png").write_bytes(header)
    yield deep, "16-bit colour"
    for name, second in [("kinds", GREY16[1]), ("sizes", GREY8[1, :4])]:
        with tifffile.TiffWriter(tmp_path / f"{name}.tif") as tiff:
            for frame in (GREY8[0], second):
                tiff.write(frame, photometric="minisblack", metadata=None)
        yield tmp_path / f"{name}.tif", "pages must be of one size and kind, .* page 1"
    layout = h5py.VirtualLayout(GREY8.shape, GREY8.dtype)
    layout[...] = h5py.VirtualSource("other.h5", "stack", GREY8.shape)
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        file.create_virtual_dataset("stack", layout)
    yield tmp_path / "virtual.h5", "keeps its pixels in other files"
    with h5py.File(tmp_path / "sums.h5", "w") as file:
        filters = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        filters.set_chunk(GREY8.shape)
        filters.set_fletcher32()
        filters.set_deflate(1)
        space = h5py.h5s.create_simple(GREY8.shape)
        h5py.h5d.create(file.id, b"stack", h5py.h5t.NATIVE_UINT8, space, filters)
        file["stack"][:] = GREY8
    yield tmp_path / "sums.h5", "its checksums are not those of what is stored"
    yield in_video(tmp_path, SMOOTH, "other.avi", "cinepak", "rgb24"), "cinepak is no kind of video"
    cut = in_video(tmp_path, SMOOTH, "cut.avi", "mjpeg", "yuvj420p")
    damaged(cut, cut.read_bytes().rindex(b"\xff\xd8\xff") + 99)
    yield cut, "cut.avi was cut short: 7 frames are whole"


def test_what_cannot_be_used_is_said_in_one_line(tmp_path):
    for path, pattern in bad_frames(tmp_path):
        with pytest.raises(FramesError, match=pattern) as caught:
            read_frames(path)
        assert str(caught.value).isprintable()


def test_a_broken_frame_is_named_by_its_number_in_the_file(tmp_path, monkeypatch):
    broken = FLOATS.copy()
    broken[9, 1, 2] = np.inf
    monkeypatch.setattr(reading, "BLOCK", 2 * FLOATS[0].nbytes)
    with pytest.raises(FramesError, match="frame 9 "):
        read_frames(in_npy(tmp_path, broken), frames=(3, None), every=3)


def test_pictures_of_a_video_change_their_size(tmp_path):
    small = in_video(tmp_path, SMOOTH[:1, :48, :64], "small.avi", "mjpeg", "yuvj420p")
    with av.open(small) as file:
        other = next(bytes(packet) for packet in file.demux(video=0))
    path = packets_changed(
        in_video(tmp_path, SMOOTH, "a.avi", "mjpeg", "yuvj420p"), lambda number, data: other if number == 5 else data
    )
    with pytest.raises(FramesError, match="frame 0 is 64 x 96 and frame 5 is 48 x 64"):
        read_frames(path, crop=(0, 0, 40, 40))


def scratched(path):
    """Twenty bytes from the middle of the fourth picture on are others; of a small one also what follows it."""
    with av.open(path) as file:
        first = [packet.pos + packet.size // 2 for packet in file.demux(video=0) if packet.size][3]
    data = bytearray(path.read_bytes())
    data[first : first + 20] = bytes(byte ^ 0x5A for byte in data[first : first + 20])
    path.write_bytes(data)
    return path


def test_a_damaged_picture_of_a_video_is_named(tmp_path):
    path = scratched(in_video(tmp_path, SMOOTH, "a.avi", "mpeg4", "yuv420p"))
    for _ in range(20):  # each time, however threads run
        with pytest.raises(FramesError, match="frame 3, counted from 0, is damaged"):
            read_frames(path)


def test_damage_that_ends_decoding_is_no_end_of_the_video(tmp_path):
    path = scratched(in_video(tmp_path, SMOOTH, "a.mkv", "libx264", "yuv420p"))
    with pytest.raises(FramesError, match="Invalid data"):
        read_frames(path)


def test_zarr_opens_no_file_elsewhere_and_unpacks_no_more_than_a_chunk(tmp_path):
    def array(name, **options):
        zarr.create_array(tmp_path / name, shape=GREY8.shape, dtype="u1", chunks=GREY8.shape, **options)[:] = GREY8
        return tmp_path / name

    sound = array("sound")
    zarr.open_group(tmp_path / "group", mode="w")
    with pytest.raises(FramesError, match=r"holds no array \.\./sound\."):
        read_frames(f"{tmp_path}/group::../sound")
    for name, place in [("file", "c/0/0/0"), ("folder", "c")]:
        path = array(name)
        (path / place).rename(tmp_path / f"elsewhere {name}")
        (path / place).symlink_to(tmp_path / f"elsewhere {name}")
        with pytest.raises(FramesError, match="is not a file; a Zarr array must hold files alone"):
            read_frames(path)
    for form, codec in [("zstd", numcodecs.Zstd(1)), ("blosc", numcodecs.Blosc("zstd", 1)), ("gzip", numcodecs.GZip())]:
        path = array(form, zarr_format=2, compressors=numcodecs.get_codec({"id": form}))
        np.testing.assert_array_equal(read_frames(path), GREY8)
        (path / "0.0.0").write_bytes(codec.encode(bytes(2 * 10**6)))
        with pytest.raises(FramesError, match="a chunk of 420 bytes claims to unpack to 2000000"):
            read_frames(path)
    description = sound / "zarr.json"
    description.write_text(description.read_text().replace('"zstd"', '"numcodecs.pickle"'))
    with pytest.raises(FramesError, match="packed with pickle, which is not read here"):
        read_frames(sound)


def test_a_list_of_members_that_fills_memory_is_refused(tmp_path, monkeypatch):
    np.savez(tmp_path / "a.npz", **{f"a{number}": np.zeros(1) for number in range(9)}, images=GREY8)
    np.testing.assert_array_equal(read_frames(tmp_path / "a.npz"), GREY8)
    monkeypatch.setattr(numpy_files, "LARGEST_DIRECTORY", 500)
    with pytest.raises(FramesError, match="list of members is too long"):
        read_frames(tmp_path / "a.npz")


def test_patterns_over_folders_keep_each_folder_together(tmp_path):
    for number in (1, 2, 10):
        (tmp_path / f"run{number}").mkdir()
        for name, value in [("f.tif", number), ("g.tif", 100 + number)]:
            tifffile.imwrite(tmp_path / f"run{number}" / name, np.full((3, 3), value, np.uint8))
    assert read_frames(tmp_path / "run*" / "*.tif")[:, 0, 0].tolist() == [1, 101, 2, 102, 10, 110]


def test_decoders_are_silent_only_while_they_read(tmp_path):
    path, logger = in_pages(tmp_path, GREY8), logging.getLogger("tifffile")
    before = logger.propagate, logger.handlers
    read_frames(path)
    assert (logger.propagate, logger.handlers) == before


def bad_choices(tmp_path):
    """Every kind of choice that cannot be met, with what must be said of it."""
    stack = in_npy(tmp_path, GREY8)
    folder = in_folder(tmp_path, GREY8)
    for path in (stack, folder, in_video(tmp_path, GREY8)):
        yield path, {"frames": (12, None)}, "12: takes none of the 12 frames .*numbered 0 to 11"
        yield path, {"frames": (5, 5)}, "5:5 takes none of the 12 frames"
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
    yield in_h5(tmp_path, GREY8, "::table"), {}, r"shape \(3, 4\).* \(K, H, W\)"
    yield in_zarr(tmp_path, GREY8, name="::b"), {}, r"no array b; it holds run/stack \[12, 5, 7\], table"
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["a"], file["b/c"] = GREY8, GREY8
    yield tmp_path / "two.h5", {}, r"several stacks \(a, b/c\); name one as in two.h5::a"


def test_what_cannot_be_chosen_is_said_in_one_line(tmp_path):
    for path, choice, pattern in bad_choices(tmp_path):
        with pytest.raises(FramesError, match=pattern) as caught:
            read_frames(path, **choice)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("argument", "value"), [("crop", (0, 0, 9, 9)), ("crop", "x"), ("frames", "x"), ("every", 0), ("grey", "pink")]
)
def test_a_choice_that_cannot_be_met_is_named(tmp_path, argument, value):
    with pytest.raises(FramesError) as caught:
        read_frames(in_npy(tmp_path, GREY8), **{argument: value})
    error = caught.value
    assert error.argument == argument
    assert error.problem.startswith("must ")
    assert str(error) == f"{argument} {error.problem}"
    again = pickle.loads(pickle.dumps(error))
    assert (again.argument, str(again)) == (argument, str(error))


def test_other_mistakes_are_those_of_the_path(tmp_path):
    with pytest.raises(ArgumentError) as caught:
        read_frames(tmp_path / "nowhere")
    assert caught.value.argument == "path"
    assert str(caught.value) == caught.value.problem
    assert isinstance(caught.value, ValueError)


def test_the_command_line_offers_the_same_kinds_of_grey():
    assert parameters.GREYS.split("|") == list(reading.GREYS)


def test_frames_that_do_not_fit_into_memory_are_refused(tmp_path, monkeypatch):
    path = in_npy(tmp_path, GREY16)
    monkeypatch.setattr("jaxem.io.readers.source.available_memory", lambda: 2000)
    with pytest.raises(FramesError, match="too much of the 2 kB that are free; choose fewer"):
        read_frames(path)
    assert read_frames(path, frames=(0, 2), crop=(0, 0, 2, 2)).shape == (2, 2, 2)


@pytest.mark.parametrize("where", ["numpy.empty", "jaxem.io.readers.source.ArraySource.read"])
def test_memory_that_runs_out_is_said(tmp_path, monkeypatch, where):
    empty = np.empty

    def fail(shape, *rest):
        if isinstance(shape, tuple) and 0 in shape:
            return empty(shape, *rest)
        raise MemoryError

    monkeypatch.setattr(where, fail)
    with pytest.raises(FramesError, match="needs more memory than there is; choose fewer frames"):
        read_frames(in_npy(tmp_path, GREY8))


@pytest.mark.parametrize("write", [in_npy, in_h5])
def test_errors_of_whoever_reads_are_not_taken_for_damage(tmp_path, write):
    def read():
        with open_frames(write(tmp_path, GREY8)) as opened:
            opened.read(0, 1)
            warnings.warn("of the reader", stacklevel=1)
            raise ValueError("of the reader")

    with pytest.warns(UserWarning, match=r"^of the reader$"), pytest.raises(ValueError, match=r"^of the reader$"):
        read()


def test_frames_are_counted_where_the_length_is_a_claim(tmp_path):
    with open_frames(in_npy(tmp_path, GREY8), frames=(1, None), every=2) as opened:
        assert opened.counted() is opened
        claim = SimpleNamespace(shape=(100, *GREY8.shape[1:]), dtype=GREY8.dtype, count=lambda: 8)
        claimed = replace(opened, source=claim, taken=range(1, 100, 2), numbers=range(1, 100, 2), total=100)
        found = claimed.counted()
        assert (found.shape[0], list(found.numbers), found.total) == (4, [1, 3, 5, 7], 8)


def test_a_missing_library_is_named(tmp_path, monkeypatch):
    path = in_h5(tmp_path, GREY8)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(FramesError, match=r"needs h5py; install it with pip install 'jaxem\[app\]'"):
        read_frames(path)


def test_libraries_of_single_formats_are_imported_when_such_a_file_comes():
    seen = "import sys, jaxem.io; print(*{'av', 'h5py', 'zarr', 'mrcfile', 'tifffile', 'PIL'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", seen], capture_output=True, text=True, check=True)
    assert found.stdout.split() == []
