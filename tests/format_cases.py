"""Files of unusual kinds, each written anew, with the frames that are in it or what must be said of it."""

import gzip
import io
import json
import struct
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import av
import h5py
import mrcfile
import numpy as np
import tifffile
import zarr
from PIL import Image

RNG = np.random.default_rng(19)
GREY = RNG.integers(0, 256, (6, 8, 10), np.uint8)
DEEP = RNG.integers(0, 65536, (6, 8, 10)).astype(np.uint16)
OTHER = RNG.integers(0, 65536, (6, 8, 10)).astype(np.uint16)
COLOUR = RNG.integers(0, 256, (6, 8, 10, 3), np.uint8)
SMOOTH = (
    128 + 90 * np.sin(np.arange(48)[:, None] / 7 + np.arange(9)[:, None, None]) * np.cos(np.arange(64) / 9)
).astype(np.uint8)
REDUCED, MASK = 1, 4


class Case(NamedTuple):
    """A file, and what is right.

    Args:
        kind: what it stands for.
        name: of the neighbour.
        path: what to read.
        expected: the frames, or a pattern of what is said where they are refused.
        options: of `read_frames`.
        note: a pattern of what else is said; None where nothing is.
        loss: how far pixels may be off.
    """

    kind: str
    name: str
    path: Path
    expected: Any
    options: Mapping[str, Any] = MappingProxyType({})
    note: str | None = None
    loss: float = 0


def cases(folder: Path) -> Iterator[Case]:
    """Write the files, and say what is right."""
    for kind in (
        planes,
        axes,
        channels,
        animations,
        mrc,
        last_axis,
        one_picture,
        cut,
        zarr_stores,
        turned,
        pictures,
        named,
    ):
        here = folder / kind.__name__
        here.mkdir()
        for case in kind(here):
            yield case._replace(kind=kind.__name__)


def case(name, path, expected, note=None, loss=0, **options) -> Case:
    return Case("", name, path, expected, options, note, loss)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def stk(frames: np.ndarray, order: str = "<", strips: int = 1) -> bytes:
    """A MetaMorph stack: the planes of all frames behind one page, whose number a tag of its own tells."""
    count, height, width = frames.shape
    bits = 8 * frames.dtype.itemsize
    data = frames.astype(frames.dtype.newbyteorder(order)).tobytes()
    strip = height // strips * width * frames.dtype.itemsize
    page = 8 + len(data)
    tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, bits), (259, 3, 1, 1), (262, 3, 1, 1)]
    tags += [(273, 4, strips, None), (277, 3, 1, 1), (278, 4, 1, height // strips), (279, 4, strips, None)]
    tags += [(33628, 4, 1, None), (33629, 5, count, None)]
    end = page + 2 + 12 * len(tags) + 4
    places = {33629: end, 33628: end + 24 * count, 273: end + 24 * count + 8, 279: end + 24 * count + 8 + 4 * strips}
    found = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, page) + data
    found += struct.pack(order + "H", len(tags))
    for tag, kind, number, value in tags:
        value = {273: 8, 279: strip}.get(tag, places.get(tag)) if value is None and number == 1 else value
        value = places[tag] if value is None else value
        value = value << 16 if order == ">" and kind == 3 else value
        found += struct.pack(order + "HHII", tag, kind, number, value)
    found += struct.pack(order + "I", 0)
    for number in range(count):
        found += struct.pack(order + "6I", number, 1, 2459000, number * 100, 2459000, number * 100)
    found += struct.pack(order + "2I", 1, 0)
    found += struct.pack(order + f"{strips}I", *(8 + strip * number for number in range(strips)))
    return found + struct.pack(order + f"{strips}I", *[strip] * strips)


def planes(folder: Path) -> Iterator[Case]:
    """Several frames behind one page or in one picture."""
    yield case("MetaMorph STK", write(folder / "a.stk", stk(GREY)), GREY)
    yield case("STK of 16 bits, big-endian, in strips", write(folder / "b.stk", stk(DEEP, ">", 2)), DEEP)
    tifffile.imwrite(folder / "shaped.tif", GREY, photometric="minisblack", truncate=True)
    yield case("tifffile, truncated to one page", folder / "shaped.tif", GREY)
    tifffile.imwrite(folder / "rgb.tif", COLOUR, photometric="rgb", truncate=True)
    yield case("the same in colour", folder / "rgb.tif", COLOUR, colour=True)
    apart = {"photometric": "rgb", "planarconfig": "separate", "truncate": True}
    tifffile.imwrite(folder / "apart.tif", np.moveaxis(COLOUR, -1, 1), **apart)
    yield case("the same, each colour apart", folder / "apart.tif", "planes behind one page that are packed, turned or")
    turned_tag = [(274, "H", 1, 3, False)]
    tifffile.imwrite(folder / "turned.tif", GREY, photometric="minisblack", truncate=True, extratags=turned_tag)
    yield case("the same, upside down", folder / "turned.tif", "planes behind one page that are packed, turned or")
    copied = {"photometric": "minisblack", "description": "ImageJ=1.54f\nimages=80\nframes=80\n", "metadata": None}
    tifffile.imwrite(folder / "copied.tif", GREY[0], **copied)
    yield case("a description copied along", folder / "copied.tif", GREY[:1], "tells of 80 planes and holds 1")
    with tifffile.TiffWriter(folder / "thumbs.tif") as tiff:
        for frame in GREY:
            tiff.write(frame, photometric="minisblack", metadata=None)
            tiff.write(frame[::2, ::2].copy(), photometric="minisblack", metadata=None, subfiletype=REDUCED)
    yield case("thumbnails among the pages", folder / "thumbs.tif", GREY, "6 of its pages are thumbnails or masks")
    with tifffile.TiffWriter(folder / "masks.tif", byteorder=">") as tiff:
        for frame in GREY:
            tiff.write(frame, photometric="minisblack", metadata=None)
            tiff.write(frame > 9, photometric=4, metadata=None, subfiletype=MASK)
    yield case("masks among the pages, big-endian", folder / "masks.tif", GREY, "thumbnails or masks")


def ome(folder: Path, name: str, frames: np.ndarray, order: str, **sizes: int) -> Path:
    described = "".join(f' Size{letter}="{size}"' for letter, size in sizes.items())
    text = (
        f'<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" DimensionOrder="{order}" Type="uint16" SizeX="10" SizeY="8"{described}>'
        f"<TiffData/></Pixels></Image></OME>"
    )
    with tifffile.TiffWriter(folder / name) as tiff:
        for number, frame in enumerate(frames):
            tiff.write(frame, photometric="minisblack", description=text if not number else None, metadata=None)
    return folder / name


def axes(folder: Path) -> Iterator[Case]:
    """Pages that lie along several axes."""
    both = np.stack([DEEP, OTHER], axis=1)
    tifffile.imwrite(folder / "two.tif", both, imagej=True, metadata={"axes": "TCYX"})
    yield case(
        "ImageJ, two channels",
        folder / "two.tif",
        "alternates between 2 channels .6 times x 2 channels.; take one with --channel 0 or 1",
    )
    yield case("the second of them", folder / "two.tif", OTHER, channel=1)
    yield case("every second frame", folder / "two.tif", DEEP, "the frames are the times", every=2)
    yield case("both", folder / "two.tif", np.stack([DEEP, OTHER], -1), colour=True)
    yield case("a third", folder / "two.tif", "must be from 0 to 1", channel=2)
    tifffile.imwrite(folder / "depths.tif", DEEP, imagej=True, metadata={"axes": "ZYX"})
    yield case("ImageJ, depths alone", folder / "depths.tif", DEEP, "the frames are the depths")
    tifffile.imwrite(folder / "tz.tif", both, imagej=True, metadata={"axes": "TZYX"})
    yield case("times and depths", folder / "tz.tif", "6 times x 2 depths, and frames must lie along one.*--every 2")
    yield case("one depth of all times", folder / "tz.tif", OTHER, "are the times", every=2, frames=(1, None))
    yield case("all depths of a time", folder / "tz.tif", both[1], "are the depths", frames=(2, 4))
    four = np.stack([DEEP, OTHER, DEEP // 2, OTHER // 2], axis=1)
    tifffile.imwrite(folder / "four.tif", four, imagej=True, metadata={"axes": "TCYX"})
    yield case("all of four channels", folder / "four.tif", np.moveaxis(four, 1, -1), colour=True)
    tifffile.imwrite(folder / "one.tif", both[:, :1], imagej=True, metadata={"axes": "TCYX"})
    yield case("ImageJ, one channel", folder / "one.tif", DEEP)
    last = ome(folder, "last.ome.tif", np.concatenate([DEEP, OTHER]), "XYZTC", C=2, Z=1, T=6)
    yield case("OME, channel by channel", last, "alternates between 2 channels .2 channels x 6 times")
    yield case("the second of them", last, OTHER, channel=1)
    first = ome(folder, "first.ome.tif", both.reshape(12, 8, 10), "XYCZT", C=2, Z=1, T=6)
    yield case("OME, channels in turn", first, OTHER, channel=1)
    short = ome(folder, "short.ome.tif", both.reshape(12, 8, 10)[:8], "XYCZT", C=2, Z=1, T=6)
    yield case("OME that tells of more", short, OTHER[:4], "tells of 12 planes and holds 8", channel=1)
    tifffile.imwrite(folder / "shaped.tif", both, photometric="minisblack", metadata={"axes": "TCYX"})
    yield case("tifffile's own axes", folder / "shaped.tif", DEEP, channel=0)
    tifffile.imwrite(folder / "unknown.tif", both, photometric="minisblack")
    yield case("axes without names", folder / "unknown.tif", "6 along axis Q x 2 along axis R")
    with tifffile.TiffWriter(folder / "scan.tif") as tiff:
        for frame in both.reshape(12, 8, 10):
            told = "SI.LINE_FORMAT_VERSION = 1\nSI.hChannels.channelSave = [1;3]\nSI.hChannels.channelsActive = [1;3]"
            tiff.write(frame, photometric="minisblack", software=told, metadata=None)
    yield case("ScanImage, two channels", folder / "scan.tif", "alternates between 2 channels")
    yield case("the second of them", folder / "scan.tif", OTHER, channel=1)


def channels(folder: Path) -> Iterator[Case]:
    """Several numbers in a pixel that are no colours."""
    no_colours = "channels a pixel that are no colours; take one with --channel 0"
    pair = np.stack([DEEP, OTHER], axis=-1)
    tifffile.imwrite(folder / "pair.tif", pair, photometric="minisblack", planarconfig="contig", metadata=None)
    yield case("two grey channels", folder / "pair.tif", f"2 {no_colours} or 1")
    yield case("the second of them", folder / "pair.tif", OTHER, channel=1)
    yield case("both", folder / "pair.tif", pair, colour=True)
    tifffile.imwrite(
        folder / "alpha.tif", pair, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"]
    )
    yield case("grey and transparency", folder / "alpha.tif", DEEP)
    three = np.stack([DEEP, OTHER, DEEP // 2], axis=-1)
    tifffile.imwrite(folder / "three.tif", three, photometric="minisblack", planarconfig="contig", metadata=None)
    yield case("three grey channels", folder / "three.tif", f"3 {no_colours} to 2")
    yield case("the last of them", folder / "three.tif", DEEP // 2, channel=2)
    tifffile.imwrite(
        folder / "separate.tif",
        np.moveaxis(three, -1, 1),
        photometric="minisblack",
        planarconfig="separate",
        metadata=None,
    )
    yield case("three of them, each by itself", folder / "separate.tif", OTHER, channel=1)
    one_by_one = folder / "one_by_one"
    one_by_one.mkdir()
    for number, frame in enumerate(three):
        tifffile.imwrite(
            one_by_one / f"{number}.tif", frame, photometric="minisblack", planarconfig="contig", metadata=None
        )
    yield case("a folder of them", one_by_one, f"3 {no_colours} to 2")
    yield case("the first of a folder", one_by_one, DEEP, channel=0)
    np.save(folder / "pair.npy", pair)
    yield case("an array of two", folder / "pair.npy", f"2 {no_colours} or 1")
    yield case("the second of it", folder / "pair.npy", OTHER, channel=1)
    np.save(folder / "colour.npy", COLOUR)
    yield case("one of three colours", folder / "colour.npy", COLOUR[..., 2], channel=2)
    clear = np.concatenate([COLOUR, COLOUR[..., :1]], axis=-1)
    np.save(folder / "clear.npy", clear)
    left_out = "the last of four channels is taken for transparency and left out"
    yield case("colours and a fourth channel", folder / "clear.npy", COLOUR, left_out, colour=True)
    tifffile.imwrite(folder / "quad.tif", clear, photometric="minisblack", planarconfig="contig", metadata=None)
    yield case("four grey channels", folder / "quad.tif", clear, colour=True)
    with av.open(str(folder / "colour.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "bgr0"
        shades = np.stack([SMOOTH, 255 - SMOOTH, SMOOTH // 2], axis=-1)
        for frame in shades:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    yield case("the second colour of a video", folder / "colour.mkv", shades[..., 1], channel=1)
    tifffile.imwrite(
        folder / "both.tif", np.stack([COLOUR, COLOUR], 1), imagej=True, metadata={"axes": "TCYXS"}, photometric="rgb"
    )
    yield case("colours in turn", folder / "both.tif", "3 colours a pixel and 6 times x 2 channels", colour=True)
    np.save(folder / "grey.npy", GREY)
    yield case("a channel of grey frames", folder / "grey.npy", "one channel alone", channel=1)
    ramp = np.zeros((3, 256), np.uint16)
    ramp[0] = np.arange(255, -1, -1) * 257
    tifffile.imwrite(
        folder / "lut.tif",
        GREY,
        photometric="palette",
        colormap=ramp,
        description="ImageJ=1.54f\nimages=6\n",
        metadata=None,
    )
    yield case("ImageJ's colours for display", folder / "lut.tif", GREY)
    with tifffile.TiffWriter(folder / "white.tif") as tiff:
        tiff.write(GREY[0], photometric="minisblack", metadata=None)
        tiff.write(GREY[1], photometric="miniswhite", metadata=None)
    yield case("black and white exchanged", folder / "white.tif", "page 1 is stored otherwise than page 0")


def animations(folder: Path) -> Iterator[Case]:
    """Pictures that hold several."""
    pictures = [Image.fromarray(frame) for frame in GREY]
    pictures[0].save(folder / "a.png", save_all=True, append_images=pictures[1:], duration=50)
    yield case("animated PNG", folder / "a.png", GREY)
    pictures[0].save(folder / "still.png", save_all=True, append_images=pictures[1:], default_image=True)
    yield case("animated PNG with a still", folder / "still.png", GREY[1:])
    colours = [Image.fromarray(frame) for frame in COLOUR]
    colours[0].save(
        folder / "a.webp", save_all=True, append_images=colours[1:], lossless=True, quality=0, minimize_size=False
    )
    yield case("animated WebP", folder / "a.webp", COLOUR, colour=True)
    smooth = [Image.fromarray(frame) for frame in SMOOTH]
    smooth[0].save(folder / "a.mpo", save_all=True, append_images=smooth[1:3], quality=98)
    yield case("MPO", folder / "a.mpo", SMOOTH[:3], loss=6)
    smooth[0].save(folder / "b.mpo", save_all=True, append_images=[smooth[1].resize((32, 24))], quality=98)
    yield case("MPO with a thumbnail", folder / "b.mpo", SMOOTH[:1], "smaller pictures besides", loss=6)
    several = folder / "several"
    several.mkdir()
    for number in range(2):
        smooth[0].save(several / f"{number}.jpg", "MPO", save_all=True, append_images=smooth[1:3], quality=98)
    yield case("a folder of MPO", several, SMOOTH[[0, 0]], "2 frames: holds further pictures", loss=6)
    yield case("PGM that follow each other", write(folder / "a.pgm", b"".join(map(pgm, GREY))), GREY)
    yield case("the same of 16 bits", write(folder / "b.pgm", b"".join(map(pgm, DEEP))), DEEP)


def pgm(frame: np.ndarray, highest: int | None = None) -> bytes:
    height, width = frame.shape
    highest = int(np.iinfo(frame.dtype).max) if highest is None else highest
    return (
        f"P5\n# a camera\n{width} {height}\n{highest}\n".encode()
        + frame.astype(frame.dtype.newbyteorder(">")).tobytes()
    )


def changed(path: Path, **fields: tuple[int, str, Any]) -> Path:
    """With numbers written over its header: (place, format, value)."""
    data = bytearray(path.read_bytes())
    for place, form, value in fields.values():
        struct.pack_into(form, data, place, value)
    return write(path, bytes(data))


def in_mrc(path: Path, frames: np.ndarray) -> Path:
    with mrcfile.new(path, overwrite=True) as file:
        file.set_data(frames)
    return path


IMOD = (152, "<i", 1146047817)


def mrc(folder: Path) -> Iterator[Case]:
    """Headers of MRC that mean something else than they say at first."""
    path = changed(in_mrc(folder / "imod.mrc", GREY.view(np.int8)), stamp=IMOD, flags=(156, "<i", 0))
    yield case("bytes that IMOD marks as unsigned", path, GREY, "unsigned, as IMOD")
    path = changed(in_mrc(folder / "signed.mrc", GREY.view(np.int8)), stamp=IMOD, flags=(156, "<i", 1))
    yield case("bytes that IMOD marks as signed", path, GREY.view(np.int8))
    path = in_mrc(folder / "statistics.mrc", GREY.view(np.int8))
    changed(path, low=(76, "<f", 0), high=(80, "<f", 255), mean=(84, "<f", GREY.mean()))
    yield case("bytes that statistics tell are unsigned", path, GREY, "values up to 255")
    yield case("bytes of the standard", in_mrc(folder / "plain.mrc", GREY.view(np.int8)), GREY.view(np.int8))
    floats = DEEP.astype(np.float32)
    path = changed(in_mrc(folder / "nz.mrcs", floats), nz=(8, "<i", 1))
    yield case("a header that was never finished", path, floats, "tells of 1 frame, but it holds 6")
    extended = in_mrc(folder / "b.mrc", floats).read_bytes()[:1024] + bytes(4000) + floats.tobytes()
    path = write(folder / "extended.mrc", extended)
    yield case("an extended header that is not declared", path, "4000 bytes longer than its header tells")
    path = changed(write(folder / "declared.mrc", extended), length=(92, "<i", 4000))
    yield case("the same, declared", path, floats)
    path = changed(in_mrc(folder / "c.mrc", floats), mode=(12, "<i", 101))
    yield case("numbers of 4 bits", path, "numbers of 4 bits .MRC mode 101.")
    yield case("complex numbers", in_mrc(folder / "d.mrc", floats.astype(np.complex64)), "complex numbers")
    path = changed(in_mrc(folder / "axes.mrc", floats), axes=(64, "<i", 2), others=(68, "<i", 1))
    yield case("axes in another order", path, floats, "columns, rows and sections y, x, z; they are taken as")
    path = in_mrc(folder / "big.mrc", floats.astype(">f4"))
    yield case("big-endian", path, floats)
    wide = RNG.normal(size=(3, 4, 112)).astype(np.float32)  # begins as files of other programs do
    yield case("112 pixels wide", in_mrc(folder / "wide.mrc", wide), wide)
    old = changed(in_mrc(folder / "old.mrc", wide), mark=(208, "<i", 0))
    yield case("the same, of a time without marks", old, wide)
    yield case(
        "half precision", in_mrc(folder / "half.mrc", (floats / 9).astype(np.float16)), (floats / 9).astype(np.float16)
    )


def last_axis(folder: Path) -> Iterator[Case]:
    """Arrays that say themselves along which axis their frames lie."""
    with h5py.File(folder / "velox.emd", "w") as file:
        file["Version"] = np.array([json.dumps({"format": "Velox", "version": "1.11"}).encode()])
        file["Data/Image/1234/Data"] = np.moveaxis(DEEP, 0, -1)
    yield case("Velox", folder / "velox.emd", DEEP)
    with h5py.File(folder / "matlab.mat", "w", userblock_size=512) as file:
        file["stack"] = DEEP.transpose(0, 2, 1)
        file["stack"].attrs["MATLAB_class"] = np.bytes_(b"uint16")
    yield case("MATLAB 7.3", folder / "matlab.mat", DEEP)
    with h5py.File(folder / "rgb.mat", "w", userblock_size=512) as file:
        file["stack"] = COLOUR.transpose(0, 3, 2, 1)
        file["stack"].attrs["MATLAB_class"] = np.bytes_(b"uint8")
    yield case("MATLAB 7.3 in colour", folder / "rgb.mat", COLOUR, colour=True)
    with h5py.File(folder / "labels.h5", "w") as file:
        stack = file.create_dataset("stack", data=np.moveaxis(DEEP, 0, -1), chunks=(8, 10, 2))
        for dimension, label in zip(stack.dims, ("y", "x", "time"), strict=True):
            dimension.label = label
    yield case("HDF5 with labels", folder / "labels.h5", DEEP)
    with h5py.File(folder / "ilastik.h5", "w") as file:
        file["stack"] = np.stack([DEEP, OTHER], axis=-1)
        file["stack"].attrs["axistags"] = json.dumps({"axes": [{"key": key} for key in "tyxc"]})
    yield case("ilastik", folder / "ilastik.h5", "times x 2 channels")
    yield case("the second channel", folder / "ilastik.h5", OTHER, channel=1)
    group = zarr.open_group(folder / "ome.zarr", mode="w", zarr_format=2)
    group.create_array("0", data=np.stack([DEEP, OTHER], 1)[:, :, None], chunks=(1, 1, 1, 8, 10))
    group.create_array("1", data=DEEP[:, None, None, ::2, ::2])
    datasets = [{"path": "0"}, {"path": "1"}]
    group.attrs["multiscales"] = [{"axes": [{"name": name} for name in "tczyx"], "datasets": datasets}]
    yield case("OME-Zarr", folder / "ome.zarr", "6 times x 2 channels")
    yield case("its second channel", folder / "ome.zarr", OTHER, "the finest of 2 resolutions", channel=1)
    array = zarr.create_array(
        folder / "named.zarr", data=np.moveaxis(DEEP, 0, -1), dimension_names=["y", "x", "t"], zarr_format=3
    )
    assert array.shape == (8, 10, 6)
    yield case("Zarr with names", folder / "named.zarr", DEEP)


def one_picture(folder: Path) -> Iterator[Case]:
    """A picture where a stack is wanted."""
    np.save(folder / "rgb.npy", COLOUR[0])
    yield case("one colour picture", folder / "rgb.npy", "looks like one colour picture")
    np.savez(folder / "rgb.npz", COLOUR[0])
    yield case("the same in .npz", folder / "rgb.npz", "looks like one colour picture")
    with h5py.File(folder / "rgba.h5", "w") as file:
        file["picture"] = np.concatenate([COLOUR[0], COLOUR[0, ..., :1]], axis=-1)
    yield case("the same with transparency", folder / "rgba.h5", "looks like one colour picture")
    np.save(folder / "flat.npy", GREY[0])
    yield case(
        "signals, or one frame",
        folder / "flat.npy",
        r"8 signals of length 10, save x\[:, None, :\].*; one frame for locate is x\[None\]",
    )
    np.save(folder / "narrow.npy", GREY[..., :3, None])
    yield case("frames three pixels wide", folder / "narrow.npy", GREY[..., :3])


def cut(folder: Path) -> Iterator[Case]:
    """Recordings that were cut short."""
    with tifffile.TiffWriter(folder / "a.tif") as tiff:
        for frame in DEEP:
            tiff.write(frame, photometric="minisblack", contiguous=False, metadata=None)
    data = (folder / "a.tif").read_bytes()
    path = write(folder / "a.tif", data[: len(data) // 2])
    yield case("TIFF", path, "was cut short: 2 frames are whole; --frames 0:2 reads them")
    yield case("what is whole of it", path, DEEP[:2], frames=(0, 2))
    yield case("more than that", path, "was cut short", frames=(1, None))
    path = write(folder / "b.tif", data[:-3])
    yield case("TIFF without its last bytes", path, "5 frames are whole")
    np.save(folder / "a.npy", DEEP)
    path = write(folder / "a.npy", (folder / "a.npy").read_bytes()[:-200])
    yield case("NumPy", path, "4 frames are whole, of 6 that it tells of; --frames 0:4")
    yield case("what is whole of it", path, DEEP[1:4], frames=(1, 4))
    path = in_mrc(folder / "a.mrcs", DEEP.astype(np.float32))
    write(path, path.read_bytes()[:-400])
    yield case("MRC", path, "4 frames are whole, of 6")
    yield case("what is whole of it", path, DEEP[:4].astype(np.float32), frames=(0, 4))
    whole = stk(DEEP)
    head = struct.unpack("<I", whole[4:8])[0]
    moved = whole[:4] + struct.pack("<I", 8) + b"".join(_behind(whole, head, len(whole) - head))
    yield case("STK", write(folder / "a.stk", moved[:-200]), "4 frames are whole, of 6")
    video(folder / "a.avi", SMOOTH, "mjpeg", "yuvj420p")
    data = (folder / "a.avi").read_bytes()
    path = write(folder / "a.avi", data[: data.rindex(b"\xff\xd8\xff") + 99])
    yield case("AVI", path, "8 frames are whole")
    yield case("what is whole of it", path, SMOOTH[:8], frames=(0, 8), loss=12)
    video(folder / "first.mp4", SMOOTH, "libx264", "yuv420p", {"movflags": "faststart"})
    path = write(folder / "first.mp4", (folder / "first.mp4").read_bytes()[:-300])
    yield case("MP4 with its index in front", path, "was cut short: . frames are whole")
    video(folder / "last.mp4", SMOOTH, "libx264", "yuv420p")
    data = (folder / "last.mp4").read_bytes()
    path = write(folder / "last.mp4", data[: data.index(b"moov") - 4])
    yield case("MP4 that was never finished", path, "never finished: the index")


def _behind(whole: bytes, head: int, length: int) -> Iterator[bytes]:
    """The description of an STK file before its pixels, as other writers have it."""
    number = struct.unpack_from("<H", whole, head)[0]
    described = bytearray(whole[head:])
    for place in range(2, 2 + 12 * number, 12):
        tag, _, _, value = struct.unpack_from("<HHII", described, place)
        if tag == 273:
            struct.pack_into("<I", described, place + 8, 8 + length)
        elif tag in (33628, 33629):
            struct.pack_into("<I", described, place + 8, value - head + 8)
    yield bytes(described)
    yield whole[8:head]


def video(path: Path, frames: np.ndarray, codec: str, pixels: str, options: dict[str, str] | None = None) -> Path:
    container_options = {name: value for name, value in (options or {}).items() if name == "movflags"}
    with av.open(str(path), "w", options=container_options) as container:
        stream = container.add_stream(codec, rate=Fraction(10))
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pixels
        stream.options = {"crf": "4", "g": "4"} if codec == "libx264" else {"qmin": "1", "qmax": "2"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
        container.mux(stream.encode())
    return path


def zarr_stores(folder: Path) -> Iterator[Case]:
    """What other programs leave in folders."""
    for version in (2, 3):
        path = folder / f"v{version}.zarr"
        zarr.save_array(str(path), DEEP, zarr_format=version)
        for junk in (".DS_Store", "Thumbs.db", "desktop.ini", "._.zarray", "README.txt"):
            (path / junk).write_bytes(b"\0\0\0\1Bud1" + bytes(6000))
        yield case(f"files of other programs, version {version}", path, DEEP)
    array = zarr.create_array(
        folder / "nested.zarr", shape=DEEP.shape, dtype=DEEP.dtype, chunks=(1, 8, 10), zarr_format=3
    )
    array[:] = DEEP
    for place in ("c", "c/0", "c/0/0"):
        (folder / "nested.zarr" / place / ".DS_Store").write_bytes(bytes(6000))
    yield case("deep inside", folder / "nested.zarr", DEEP)
    some = zarr.create_array(folder / "some.zarr", shape=DEEP.shape, dtype=DEEP.dtype, chunks=(2, 8, 10), fill_value=7)
    some[:4] = DEEP[:4]
    filled = np.concatenate([DEEP[:4], np.full_like(DEEP[:2], 7)])
    yield case("chunks that were never written", folder / "some.zarr", filled, "1 of its 3 chunks were never written")
    with h5py.File(folder / "some.h5", "w") as file:
        file.create_dataset("stack", DEEP.shape, DEEP.dtype, chunks=(2, 8, 10), fillvalue=7)[:4] = DEEP[:4]
    yield case("the same in HDF5", folder / "some.h5", filled, "1 of its 3 chunks were never written and read as 7")
    v2 = zarr.open_group(folder / "group.zarr", mode="w", zarr_format=2)
    v2.create_array("stack", data=DEEP)
    (folder / "group.zarr" / "notes").mkdir()
    (folder / "group.zarr" / "notes" / "1.txt").write_text("none of it")
    yield case("a folder of notes in a group", folder / "group.zarr", DEEP)


def turned(folder: Path) -> Iterator[Case]:
    """Frames that lie on their side, by what the file says."""
    exif = Image.Exif()
    shapes = {1: SMOOTH, 3: SMOOTH[:, ::-1, ::-1], 6: np.rot90(SMOOTH, -1, (1, 2)), 8: np.rot90(SMOOTH, 1, (1, 2))}
    for orientation, expected in shapes.items():
        here = folder / f"jpeg{orientation}"
        here.mkdir()
        exif[274] = orientation
        for number, frame in enumerate(SMOOTH[:2]):
            Image.fromarray(frame).save(here / f"{number}.jpg", quality=98, exif=exif)
        note = "2 frames: turned as EXIF says" if orientation > 1 else None
        yield case(f"JPEG, orientation {orientation}", here, expected[:2], note, loss=6)
    mixed = folder / "mixed"
    mixed.mkdir()
    for number, frame in enumerate(SMOOTH[:4]):
        exif[274] = 3 if number % 2 else 1
        Image.fromarray(frame[::-1, ::-1] if number % 2 else frame).save(mixed / f"{number}.jpg", quality=98, exif=exif)
    yield case("half of them upside down", mixed, SMOOTH[:4], "2 frames: turned", loss=6)
    exif[274] = 6
    Image.fromarray(GREY[0]).save(folder / "a.png", exif=exif)
    yield case("PNG", folder / "a.png", np.rot90(GREY[:1], -1, (1, 2)), "turned as EXIF says")
    Image.fromarray(COLOUR[0]).save(folder / "a.webp", exif=exif, lossless=True)
    yield case("WebP", folder / "a.webp", np.rot90(COLOUR[:1], -1, (1, 2)), "turned as EXIF says", colour=True)
    for orientation, expected in {3: DEEP[:, ::-1, ::-1], 4: DEEP[:, ::-1], 5: DEEP.swapaxes(1, 2)}.items():
        path = folder / f"{orientation}.tif"
        tifffile.imwrite(
            path, DEEP, photometric="minisblack", metadata=None, extratags=[(274, "H", 1, orientation, False)]
        )
        yield case(f"TIFF, orientation {orientation}", path, expected, "turned as it says")
    path = video(folder / "phone.mp4", SMOOTH, "libx264", "yuv420p")
    data = bytearray(path.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # 90 degrees clockwise, as of a telephone held upright
    data[matrix : matrix + 36] = struct.pack(">9i", 0, 65536, 0, -65536, 0, 0, 48 << 16, 0, 1 << 30)
    with av.open(str(folder / "odd.mp4"), "w") as container:
        streams = [container.add_stream("libx264", rate=10) for _ in range(2)]
        for stream, width in zip(streams, (64, 32), strict=True):
            stream.height, stream.width, stream.pix_fmt, stream.options = 48, width, "yuv420p", {"crf": "4"}
            stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for stream in streams:
            for pixels in SMOOTH[:, :, : stream.width]:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels.copy(), format="gray")))
            container.mux(stream.encode())
    odd = "2 videos, of which the first is taken; its pixels are not square .4:3."
    yield case("two videos, of pixels that are not square", folder / "odd.mp4", SMOOTH, odd, loss=12)
    yield case("video", write(path, bytes(data)), np.rot90(SMOOTH, -1, (1, 2)), "turned by -90 degrees", loss=12)


def pictures(folder: Path) -> Iterator[Case]:
    """Folders of pictures of other kinds."""

    def several(name, suffix, frames, save):
        here = folder / name
        here.mkdir()
        for number, frame in enumerate(frames):
            save(here / f"frame{number}.{suffix}", frame)
        return here

    def save(path, frame):
        Image.fromarray(frame).save(path, **({"lossless": True} if path.suffix == ".webp" else {}))

    yield case("BMP", several("bmp", "bmp", GREY, save), GREY)
    yield case("BMP in colour", several("colours", "bmp", COLOUR, save), COLOUR, colour=True)
    yield case("WebP", several("webp", "webp", COLOUR, save), COLOUR, colour=True)
    yield case("PGM", several("pgm", "pgm", GREY, lambda path, frame: write(path, pgm(frame))), GREY)
    ten = DEEP // 64
    yield case("PGM of 10 bits", several("ten", "pgm", ten, lambda path, frame: write(path, pgm(frame, 1023))), ten)
    yield case(
        "PGM of 7 bits", several("seven", "pgm", GREY // 2, lambda path, frame: write(path, pgm(frame, 127))), GREY // 2
    )

    def in_words(path, frame):
        write(path, f"P2 {frame.shape[1]} {frame.shape[0]} 255\n{' '.join(map(str, frame.ravel()))}\n".encode())

    yield case("PGM in words", several("words", "pgm", GREY, in_words), GREY)
    yield case("PPM", several("ppm", "ppm", COLOUR, save), COLOUR, colour=True)
    clear = np.concatenate([COLOUR, np.where(COLOUR[..., :1] > 99, 255, 0)], axis=-1).astype(np.uint8)
    masked = several("masked", "png", clear, save)
    yield case("PNG with transparent parts", masked, COLOUR, "6 frames: transparency is left out", colour=True)


def named(folder: Path) -> Iterator[Case]:
    """What is not read, named for what it is."""
    np.save(folder / "a.npy", GREY)
    yield case(
        "gzip", write(folder / "a.npy.gz", gzip.compress((folder / "a.npy").read_bytes())), "packed with gzip.*gunzip"
    )
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 123456\n"
    yield case("a pointer of Git LFS", write(folder / "lfs.tif", pointer), "pointer of Git LFS.*git lfs pull")
    yield case("the same of HDF5", write(folder / "lfs.h5", pointer), "pointer of Git LFS")
    in_folder = folder / "pointers"
    in_folder.mkdir()
    for number in range(3):
        write(in_folder / f"{number}.png", pointer)
    yield case("a folder of pointers", in_folder, "0.png is a pointer of Git LFS")
    yield case("a web page", write(folder / "page.tif", b"\n<!DOCTYPE html><html>404</html>"), "a web page")
    yield case("MATLAB 5", write(folder / "a.mat", b"MATLAB 5.0 MAT-file, Platform: PCWIN64".ljust(200)), "-v7.3")
    yield case("DICOM", write(folder / "a.dcm", bytes(128) + b"DICM" + bytes(99)), "a DICOM file")
    yield case("FITS", write(folder / "a.fits", b"SIMPLE  =                    T".ljust(2880)), "a FITS file")
    yield case("JPEG 2000", write(folder / "a.jp2", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99)), "a JPEG 2000 picture")
    yield case("HEIF", write(folder / "a.heic", b"\0\0\0\x18ftypheic" + bytes(99)), "an HEIF picture")
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        filters = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        filters.set_chunk(GREY.shape)
        filters.set_filter(32008, h5py.h5z.FLAG_OPTIONAL, ())
        space = h5py.h5s.create_simple(GREY.shape)
        h5py.h5d.create(file.id, b"stack", h5py.h5t.NATIVE_UINT8, space, filters)
    path = write(folder / "bitshuffle.h5", stream.getvalue())
    yield case("a filter that HDF5 lacks", path, "packed with bitshuffle.*pip install hdf5plugin")
    arrays = folder / "arrays"
    arrays.mkdir()
    for number, frame in enumerate(GREY):
        np.save(arrays / f"{number}.npy", frame)
    yield case("a folder of arrays", arrays, "no pictures of one frame each.*; there are 6 of .npy")
