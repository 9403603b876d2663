"""Some hundred damaged and malicious files of frames, the same ones each time."""

import io
import json
import os
import pickle
import random
import struct
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import av
import h5py
import mrcfile
import numcodecs
import numpy as np
import tifffile
import zarr
from format_cases import pgm, stk
from PIL import Image

FRAMES = np.random.default_rng(7).integers(0, 256, (6, 8, 9), np.uint8)
BROKEN = FRAMES.astype(np.float32)
BROKEN[3, 2, 1] = np.nan
ENDLESS = FRAMES.astype(np.float32)
ENDLESS[5, 7, 8] = -np.inf
FLIPS = 14  # of each kind of file
GIGA = 10**9


class Hostile(NamedTuple):
    """A path to give to the reader, and whether it has to be refused."""

    path: str
    kind: str
    must_fail: bool


class _Evil:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return (open, (str(self.mark), "w"))


def hostile_files(folder: Path) -> Iterator[Hostile]:
    """Write the files into `folder`, and say what must become of each."""
    for kind in (_npy, _npz, _png, _pictures, _jpeg, _tiff, _mrc, _hdf5, _zarr, _video, _places):
        here = folder / kind.__name__[1:]
        here.mkdir()
        for path, must_fail in kind(here):
            yield Hostile(str(path), here.name, must_fail)
    for name, data in _sound(folder / "sound").items():
        yield Hostile(str(folder / "sound" / name), "sound", False)
        flipped = folder / f"flips of {name}"
        flipped.mkdir()
        generator = random.Random(name)
        for number in range(FLIPS):
            path = flipped / f"{number}{Path(name).suffix}"
            path.write_bytes(_flipped(data, generator))
            yield Hostile(str(path), flipped.name, False)
        for number in range(6):
            path = flipped / f"cut{number}{Path(name).suffix}"
            path.write_bytes(data[: len(data) * number // 6])
            yield Hostile(str(path), flipped.name, name.endswith((".npy", ".npz", ".png", ".tif", ".mrc", ".h5")))


def _flipped(data: bytes, generator: random.Random) -> bytes:
    changed = bytearray(data)
    within = min(len(changed), generator.choice([64, 300, 1100, len(changed)]))
    for _ in range(generator.choice([1, 1, 2, 8])):
        place, width = generator.randrange(within), generator.choice([1, 1, 2, 4, 8])
        value = generator.choice([0, 1, 256**width - 1, 256**width // 2, generator.getrandbits(8 * width)])
        changed[place : place + width] = value.to_bytes(width, generator.choice(["little", "big"]))
    return bytes(changed)


def _sound(folder: Path) -> dict[str, bytes]:
    """One undamaged file of each form, to be damaged."""
    folder.mkdir()
    np.save(folder / "a.npy", FRAMES)
    np.savez_compressed(folder / "a.npz", FRAMES)
    Image.fromarray(FRAMES[0]).save(folder / "a.png")
    Image.fromarray(FRAMES[0]).save(folder / "a.jpg")
    tifffile.imwrite(folder / "a.tif", FRAMES, photometric="minisblack")
    tifffile.imwrite(folder / "lzw.tif", FRAMES, photometric="minisblack", compression="lzw")
    tifffile.imwrite(folder / "jpeg.tif", FRAMES, photometric="minisblack", compression="jpeg")
    with mrcfile.new(folder / "a.mrc") as mrc:
        mrc.set_data(FRAMES.astype(np.uint16))
    with h5py.File(folder / "a.h5", "w") as file:
        file["stack"] = FRAMES
    with h5py.File(folder / "chunks.h5", "w") as file:
        file.create_dataset("stack", data=FRAMES, chunks=(2, 8, 9), compression="gzip", fletcher32=True)
    _write_video(folder / "a.mp4", "libx264", "yuv420p")
    _write_video(folder / "a.avi", "mjpeg", "yuvj420p")
    _write_video(folder / "a.mkv", "ffv1", "gray")
    images = [Image.fromarray(frame) for frame in FRAMES]
    images[0].save(folder / "a.gif", save_all=True, append_images=images[1:])
    images[0].save(folder / "moving.png", save_all=True, append_images=images[1:])
    images[0].save(folder / "moving.webp", save_all=True, append_images=images[1:], lossless=True)
    images[0].convert("RGB").save(folder / "lossy.webp")
    images[0].save(folder / "several.mpo", save_all=True, append_images=images[1:3])  # of more Pillow writes nonsense
    images[0].save(folder / "a.bmp")
    (folder / "a.pgm").write_bytes(b"".join(map(pgm, FRAMES)))
    (folder / "words.pgm").write_bytes(b"P2 9 8 255\n" + b" ".join(b"%d" % value for value in FRAMES[0].ravel()))
    (folder / "a.stk").write_bytes(stk(FRAMES, strips=2))
    tifffile.imwrite(folder / "imagej.tif", FRAMES, imagej=True, metadata={"axes": "TYX"})
    tifffile.imwrite(folder / "a.ome.tif", FRAMES, photometric="minisblack", metadata={"axes": "TYX"})
    tifffile.imwrite(folder / "shaped.tif", FRAMES, photometric="minisblack", truncate=True)
    with h5py.File(folder / "labels.h5", "w") as file:
        file["stack"] = np.moveaxis(FRAMES, 0, -1)
        file["stack"].attrs["axes"] = "yxt"
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def _write_video(path: Path, codec: str, pixels: str) -> None:
    with av.open(path, "w") as file:
        stream = file.add_stream(codec, rate=5)
        stream.width, stream.height, stream.pix_fmt = 32, 16, pixels
        for frame in FRAMES:
            image = np.ascontiguousarray(np.tile(frame, (2, 4))[:16, :32])
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="gray")))
        file.mux(stream.encode(None))


def _npy_bytes(shape: object, descr: object = "|u1", data: bytes = b"", *, text: str | None = None) -> bytes:
    header = (text or repr({"descr": descr, "fortran_order": False, "shape": shape})).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def _npy(folder: Path) -> Iterator[tuple[Path, bool]]:
    pixels = FRAMES.tobytes()
    evil = pickle.dumps(_Evil(folder / "unpickled"))
    for number, data in enumerate(
        [
            _npy_bytes((GIGA, 8, 9), data=pixels),
            _npy_bytes((2**40, 2**40, 2**40), data=pixels),
            _npy_bytes((2**63, 8, 9), data=pixels),
            _npy_bytes((2**62, 4, 4), data=pixels),
            _npy_bytes((-6, -8, 9), data=pixels),
            _npy_bytes((6.0, 8, 9), data=pixels),
            _npy_bytes((6, 8, 10), data=pixels),
            _npy_bytes((0, 2**62, 2**62), data=pixels),
            _npy_bytes((6, 8), data=pixels),
            _npy_bytes((1,) * 70, data=pixels),
            _npy_bytes((1, 6, 8, 9), data=pixels),
            _npy_bytes("six", data=pixels),
            _npy_bytes((6, 8, 9), "|O", evil),
            _npy_bytes((6, 8, 9), "<c8", bytes(8 * 432)),
            _npy_bytes((6, 8, 9), "<U1", bytes(4 * 432)),
            _npy_bytes((6, 8, 9), "<M8[s]", bytes(8 * 432)),
            _npy_bytes((6, 8, 9), [("a", "|u1")], pixels),
            _npy_bytes((6, 8, 9), [("a", "|O")], evil),
            _npy_bytes((6, 8, 9), "|V2000000000", pixels),
            _npy_bytes((6, 8, 9), "nonsense", pixels),
            _npy_bytes(0, text=f"__import__('pathlib').Path({str(folder / 'run')!r}).touch()", data=pixels),
            _npy_bytes(0, text="(" * 5000, data=pixels),
            _npy_bytes(0, text="-" * 9000 + "1", data=pixels),
            _npy_bytes(0, text="{}", data=pixels),
            b"\x93NUMPY\x09\x00" + pixels,
            b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + pixels,
            b"\x93NUMPY",
            evil,
            b"no array",
            b"",
        ]
    ):
        (folder / f"{number}.npy").write_bytes(data)
        yield folder / f"{number}.npy", True
    for name, array in [("nan", BROKEN), ("inf", ENDLESS), ("flat", FRAMES[0]), ("line", FRAMES.ravel())]:
        np.save(folder / f"{name}.npy", array)
        yield folder / f"{name}.npy", True


def _npz(folder: Path) -> Iterator[tuple[Path, bool]]:
    def archive(name: str, *members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
        with zipfile.ZipFile(folder / name, "w", method) as file:
            for member, data in members:
                file.writestr(member, data)
        return folder / name

    sound = _npy_bytes((6, 8, 9), data=FRAMES.tobytes())
    yield archive("none.npz"), True
    yield archive("text.npz", ("a.txt", b"text")), True
    yield archive("two.npz", ("a.npy", sound), ("b.npy", sound)), True
    yield archive("object.npz", ("a.npy", _npy_bytes((6, 8, 9), "|O", pickle.dumps(_Evil(folder / "unpickled"))))), True
    yield archive("huge.npz", ("a.npy", _npy_bytes((GIGA, 8, 9), data=FRAMES.tobytes()))), True
    yield archive("long.npz", ("a.npy", sound + b"more")), True
    yield archive("lzma.npz", ("a.npy", _npy_bytes((300, 1000, 1000)) + bytes(300 * 10**6)), method=14), True
    yield archive("bzip2.npz", ("a.npy", sound), method=zipfile.ZIP_BZIP2), True
    yield Path(f"{archive('named.npz', ('a.npy', sound))}::b"), True
    data = archive("sound.npz", ("images.npy", sound)).read_bytes()
    directory = data.rindex(b"PK\1\2")
    for number, (place, value) in enumerate(
        [(24, 2**32 - 2), (20, 2**31), (24, 433), (42, 2**31), (8, 1), (10, 99), (16, 0)]
    ):
        changed = bytearray(data)
        width = 2 if place in (8, 10) else 4
        changed[directory + place : directory + place + width] = value.to_bytes(width, "little")
        (folder / f"directory{number}.npz").write_bytes(changed)
        yield folder / f"directory{number}.npz", True
    for number in range(6):
        changed = bytearray(data)
        changed[len(data) // 3 + 7 * number] ^= 4  # within the packed pixels, which have a checksum
        (folder / f"flip{number}.npz").write_bytes(changed)
        yield folder / f"flip{number}.npz", True
    end = data.rindex(b"PK\5\6")
    (folder / "directory.npz").write_bytes(data[: end + 12] + (2**31).to_bytes(4, "little") + data[end + 16 :])
    yield folder / "directory.npz", True
    np.savez(folder / "nan.npz", images=BROKEN)
    yield folder / "nan.npz", True


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def _png_bytes(width: int, height: int, depth: int = 8, colour: int = 0, packed: bytes | None = None) -> bytes:
    rows = b"".join(b"\0" + row.tobytes() for row in FRAMES[0])
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = zlib.compress(rows) if packed is None else packed
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _folders(folder: Path, suffix: str, contents: list[bytes]) -> Iterator[Path]:
    """Folders of two sound frames, and a third one."""
    for number, data in enumerate(contents):
        here = folder / f"{suffix}{number}"
        here.mkdir()
        for frame in range(2):
            Image.fromarray(FRAMES[frame]).save(here / f"{frame}.png")
        (here / f"2.{suffix}").write_bytes(data)
        yield here


def _png(folder: Path) -> Iterator[tuple[Path, bool]]:
    sound = _png_bytes(9, 8)
    flips = []
    for place in range(8, len(sound), 9):
        flipped = bytearray(sound)
        flipped[place] ^= 16
        flips.append(bytes(flipped))
    deep = _npy_bytes((6, 8, 9), data=FRAMES.tobytes())
    contents = [
        _png_bytes(2**31 - 1, 2**31 - 1),
        _png_bytes(60000, 60000),
        _png_bytes(20000, 5000),
        _png_bytes(0, 8),
        _png_bytes(9, 8, depth=3),
        _png_bytes(9, 8, colour=7),
        _png_bytes(9, 8, depth=16, colour=2),
        _png_bytes(9, 8, packed=b"nothing packed"),
        _png_bytes(9, 8, packed=b""),
        _png_bytes(9, 80),
        _png_bytes(8, 9),
        sound[:8],
        sound[:40],
        sound[:-12],
        b"",
        b"text",
        deep,
        *flips,
    ]
    yield from ((path, True) for path in _folders(folder, "png", contents))
    for name, third in [("folder", Path.mkdir), ("pipe", os.mkfifo)]:
        here = next(_folders(folder, name, [b""]))
        third(here / "3.png")
        yield here, True
    for name, target in [("nowhere", "nothing.png"), ("loop", "3.png"), ("device", "/dev/zero")]:
        here = next(_folders(folder, name, [b""]))
        (here / "3.png").symlink_to(target)
        yield here, True


def _pictures(folder: Path) -> Iterator[tuple[Path, bool]]:
    """Of kinds whose headers a decoder would believe."""
    size = (2**24 - 2).to_bytes(3, "little")
    webp = b"VP8X" + struct.pack("<I", 10) + b"\x02\0\0\0" + size + size + b"ANIM" + struct.pack("<IIH", 6, 0, 0)
    bits = ((2**14 - 1) | (2**14 - 1) << 14).to_bytes(4, "little")
    moving = io.BytesIO()
    frames = [Image.fromarray(frame) for frame in FRAMES]
    frames[0].save(moving, "PNG", save_all=True, append_images=frames[1:])
    endless = bytearray(moving.getvalue())
    place = endless.index(b"acTL")
    endless[place + 4 : place + 8] = struct.pack(">I", 2**31 - 1)
    endless[place + 12 : place + 16] = struct.pack(">I", zlib.crc32(endless[place : place + 12]))
    for name, data in {
        "huge.webp": b"RIFF" + struct.pack("<I", len(webp) + 4) + b"WEBP" + webp,
        "lossless.webp": b"RIFF\x20\0\0\0WEBPVP8L\x10\0\0\0\x2f" + bits + bytes(11),
        "short.webp": b"RIFF\x04\0\0\0WEBP",
        "huge.bmp": b"BM"
        + struct.pack("<IIIIiiHHIIiiII", 60, 0, 54, 40, 2**30, 2**30, 1, 8, 0, 0, 0, 0, 0, 0)
        + bytes(9),
        "upside.bmp": b"BM"
        + struct.pack("<IIIIiiHHIIiiII", 60, 0, 54, 40, 9, -(2**31), 1, 24, 0, 0, 0, 0, 0, 0)
        + bytes(9),
        "old.bmp": b"BM" + struct.pack("<IIIIHHHH", 60, 0, 26, 12, 65535, 65535, 1, 24) + bytes(30),
        "huge.pgm": b"P5 999999999 999999999 255\n" + bytes(99),
        "words.pgm": b"P2 999999999 999999999 255\n" + b"1 " * 99,
        "none.pgm": b"P5 0 0 255\n",
        "deep.pgm": b"P5 9 8 99999\n" + bytes(99),
        "comments.pgm": b"P5 " + b"#\n" * 10**6,
        "letters.pgm": b"P2 3 3 255\n1 2 3 x 5 6 7 8 9",
        "negative.pgm": b"P2 3 3 255\n1 2 3 -4 5 6 7 8 9",
        "endless.png": bytes(endless),
    }.items():
        (folder / name).write_bytes(data)
        yield folder / name, True
    described = {
        "shaped.tif": '{"shape": [1000000000, 8, 9]}',
        "negative.tif": '{"shape": [-4, 8, 9]}',
        "deep.tif": '{"shape": ' + "[" * 10**5,
        "imagej.tif": "ImageJ=1.53\nimages=999999999999\nframes=999999999999\nchannels=2\n",
        "ome.tif": '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Pixels DimensionOrder="XYCZT" '
        'SizeC="99999999999" SizeZ="99999999999" SizeT="99999999999"></OME>',
    }
    for name, text in described.items():
        tifffile.imwrite(folder / name, FRAMES[0], photometric="minisblack", description=text, metadata=None)
        yield folder / name, True
    data = bytearray(stk(FRAMES))
    place = data.index(struct.pack("<HHI", 33629, 5, len(FRAMES)))
    data[place + 4 : place + 8] = struct.pack("<I", 2**31)
    (folder / "planes.stk").write_bytes(data)
    yield folder / "planes.stk", True


def _jpeg(folder: Path) -> Iterator[tuple[Path, bool]]:
    stream = io.BytesIO()
    Image.fromarray(FRAMES[0]).save(stream, "JPEG")
    sound = stream.getvalue()
    size = sound.index(b"\xff\xc0") + 5
    stream = io.BytesIO()
    Image.fromarray(np.zeros((8, 9, 4), np.uint8), "CMYK").save(stream, "JPEG")
    contents = [
        sound[:size] + b"\xff\xff\xff\xff" + sound[size + 4 :],
        sound[:size] + b"\0\0\0\0" + sound[size + 4 :],
        sound[: size + 20],
        sound[:4],
        b"\xff\xd8\xff" + b"\xff" * 5000,
        stream.getvalue(),
    ]
    yield from ((path, True) for path in _folders(folder, "jpg", contents))


def _tiff_bytes(*pages: dict[int, tuple[int, int, int]], order: str = "<", back_to: int | None = None) -> bytes:
    """A TIFF of these pages, each {tag: (type, count, value)}, with the frames' pixels from byte 8."""
    data = bytearray((b"II*\0" if order == "<" else b"MM\0*") + bytes(4) + FRAMES.tobytes())
    link, places = 4, []
    for tags in pages:
        places.append(len(data))
        struct.pack_into(order + "I", data, link, len(data))
        data += struct.pack(order + "H", len(tags))
        for tag, (kind, count, value) in sorted(tags.items()):
            packed = struct.pack(
                order + ("HH" if kind == 3 and count == 1 else "I"),
                *([value, 0][: 2 if kind == 3 and count == 1 else 1]),
            )
            data += struct.pack(order + "HHI", tag, kind, count) + packed
        link = len(data)
        data += bytes(4)
    if back_to is not None:
        struct.pack_into(order + "I", data, link, places[back_to])
    return bytes(data)


def _page(**changes: tuple[int, int, int]) -> dict[int, tuple[int, int, int]]:
    names = {"width": 256, "height": 257, "bits": 258, "codec": 259, "photometric": 262, "place": 273, "samples": 277}
    names |= {"rows": 278, "length": 279, "tile_width": 322, "tile_height": 323, "tile_place": 324, "tile_length": 325}
    page = {
        "width": (3, 1, 9),
        "height": (3, 1, 8),
        "bits": (3, 1, 8),
        "codec": (3, 1, 1),
        "photometric": (3, 1, 1),
        "place": (4, 1, 8),
        "rows": (3, 1, 8),
        "length": (4, 1, 72),
    }
    return {names[name]: value for name, value in (page | changes).items()}


def _tiff(folder: Path) -> Iterator[tuple[Path, bool]]:
    page, long, short = _page(), (4, 1), (3, 1)
    start = io.BytesIO()
    Image.fromarray(FRAMES[0]).save(start, "JPEG")
    bomb = io.BytesIO()
    tifffile.imwrite(bomb, np.zeros((1, 4000, 4000), np.uint8), photometric="minisblack", compression="zstd")
    contents = [
        _tiff_bytes(page, page, back_to=0),
        _tiff_bytes(page, back_to=0),
        _tiff_bytes(*[page] * 5, back_to=3, order=">"),
        _tiff_bytes(*[page] * 20_000),
        _tiff_bytes(page, _page(height=(*short, 7), length=(*long, 63))),
        _tiff_bytes(_page(width=(*long, 2**31), height=(*long, 2**31))),
        _tiff_bytes(_page(width=(*long, 2**32 - 1))),
        _tiff_bytes(_page(height=(*long, 10**6))),
        _tiff_bytes(_page(height=(*long, 10**9), codec=(*short, 5), rows=(*long, 10**9))),
        _tiff_bytes(_page(height=(*long, 10**6), width=(*long, 10**6), codec=(*short, 8), rows=(*long, 2**31))),
        _tiff_bytes(_page(height=(*short, 0))),
        _tiff_bytes(_page(width=(*short, 0))),
        _tiff_bytes(_page(bits=(*short, 7777))),
        _tiff_bytes(_page(bits=(3, 2**30, 8))),
        _tiff_bytes(_page(bits=(*short, 64))),
        _tiff_bytes(_page(codec=(*short, 34712))),
        _tiff_bytes(_page(codec=(*short, 50001))),
        _tiff_bytes(_page(codec=(*short, 65535))),
        _tiff_bytes(_page(codec=(*short, 7))),
        _tiff_bytes(_page(codec=(*short, 8))),
        _tiff_bytes(_page(codec=(*short, 50000))),
        _tiff_bytes(_page(codec=(*short, 34925))),
        _tiff_bytes(_page(place=(*long, 2**32 - 1))),
        _tiff_bytes(_page(length=(*long, 2**32 - 1))),
        _tiff_bytes(_page(length=(*long, 0))),
        _tiff_bytes(_page(place=(4, 2**31, 8))),
        _tiff_bytes(_page(samples=(*short, 5), photometric=(*short, 2))),
        _tiff_bytes(_page(samples=(*short, 60000))),
        _tiff_bytes(_page(photometric=(*short, 5), samples=(*short, 4))),
        _tiff_bytes(
            _page(tile_width=(*long, 2**31), tile_height=(*long, 2**31), tile_place=(*long, 8), tile_length=(*long, 72))
        ),
        _tiff_bytes(),
        b"II*\0" + struct.pack("<I", 2**31),
        b"II*\0\x08\0\0\0\xff\xff",
        b"II+\0\x08\0\0\0" + struct.pack("<Q", 2**63),
        b"II*\0",
    ]
    for number, data in enumerate(contents):
        (folder / f"{number}.tif").write_bytes(data)
        yield folder / f"{number}.tif", True
    huge = bytearray(start.getvalue())
    size = huge.index(b"\xff\xc0") + 5
    huge[size : size + 4] = b"\xff\xff\xff\xff"
    tags = _page(codec=(*short, 7), place=(*long, 8 + FRAMES.size), length=(*long, len(huge)))
    data = bytearray(_tiff_bytes(tags))
    shift = data[8 + FRAMES.size :]
    (folder / "jpeg.tif").write_bytes(
        data[:4] + struct.pack("<I", 8 + FRAMES.size + len(huge)) + data[8 : 8 + FRAMES.size] + huge + shift
    )
    yield folder / "jpeg.tif", True
    (folder / "bomb.tif").write_bytes(bomb.getvalue())
    yield folder / "bomb.tif", True
    for name, frames in [("nan", BROKEN), ("inf", ENDLESS), ("complex", FRAMES.astype(np.complex64))]:
        tifffile.imwrite(folder / f"{name}.tif", frames, photometric="minisblack")
        yield folder / f"{name}.tif", True
    pages = next(_folders(folder, "tif", [(folder / "nan.tif").read_bytes()]))
    yield pages, True


def _mrc(folder: Path) -> Iterator[tuple[Path, bool]]:
    with mrcfile.new(folder / "sound.mrc") as mrc:
        mrc.set_data(FRAMES.astype(np.float32))
    sound = (folder / "sound.mrc").read_bytes()
    for number, (place, value) in enumerate(
        [(0, 2**31 - 1), (0, -9), (0, 0), (4, 10**6), (8, GIGA), (8, 7), (12, 4), (12, 99), (12, -1), (92, 8)]
    ):
        data = sound[:place] + struct.pack("<i", value) + sound[place + 4 :]
        (folder / f"{number}.mrc").write_bytes(data)
        yield folder / f"{number}.mrc", True
    for number, size in enumerate([1, 500, 1024, 1025, len(sound) - 1]):
        (folder / f"cut{number}.mrc").write_bytes(sound[:size])
        yield folder / f"cut{number}.mrc", True
    for name, frames in [("nan", BROKEN), ("inf", ENDLESS), ("complex", FRAMES.astype(np.complex64))]:
        with warnings.catch_warnings(action="ignore"), mrcfile.new(folder / f"{name}.mrc") as mrc:
            mrc.set_data(frames)
        yield folder / f"{name}.mrc", True


def _hdf5(folder: Path) -> Iterator[tuple[Path, bool]]:
    def link(file: h5py.File, name: str, target: object) -> None:
        file[name] = target

    (folder / "pixels.raw").write_bytes(FRAMES.tobytes())
    with h5py.File(folder / "other.h5", "w") as file:
        file["stack"] = FRAMES
    layout = h5py.VirtualLayout(FRAMES.shape, FRAMES.dtype)
    layout[...] = h5py.VirtualSource(str(folder / "other.h5"), "stack", FRAMES.shape)
    raw = [(str(folder / "pixels.raw"), 0, FRAMES.size)]
    text = h5py.string_dtype()
    named = "stack"
    for name, make, of in [
        ("empty", lambda file: None, ""),
        ("flat", lambda file: link(file, "a", FRAMES[0]), ""),
        ("flat by name", lambda file: link(file, "stack", FRAMES[0]), named),
        ("two", lambda file: [link(file, "a", FRAMES), link(file, "b/c", FRAMES)], ""),
        ("missing", lambda file: link(file, "a", FRAMES), named),
        ("group", lambda file: file.create_group("stack"), named),
        ("soft circle", lambda file: link(file, "stack", h5py.SoftLink("/stack")), named),
        ("soft circles", lambda f: [link(f, "stack", h5py.SoftLink("b")), link(f, "b", h5py.SoftLink("stack"))], named),
        ("soft nowhere", lambda file: link(file, "stack", h5py.SoftLink("/nowhere")), named),
        ("external", lambda f: link(f, "stack", h5py.ExternalLink(str(folder / "other.h5"), "stack")), named),
        ("external alone", lambda f: link(f, "stack", h5py.ExternalLink(str(folder / "other.h5"), "stack")), ""),
        ("external group", lambda f: link(f, "g", h5py.ExternalLink(str(folder / "other.h5"), "/")), "g/stack"),
        ("raw", lambda f: f.create_dataset("stack", FRAMES.shape, "u1", external=raw), ""),
        ("virtual", lambda file: file.create_virtual_dataset("stack", layout), ""),
        ("compound", lambda f: f.create_dataset("stack", (6, 8, 9), [("a", "u1"), ("b", "f4")]), ""),
        ("text", lambda file: file.create_dataset("stack", (6, 8, 9), text), ""),
        ("references", lambda file: file.create_dataset("stack", (6, 8, 9), h5py.ref_dtype), ""),
        ("ragged", lambda file: file.create_dataset("stack", (6, 8, 9), h5py.vlen_dtype("u1")), ""),
        ("complex", lambda file: link(file, "stack", FRAMES.astype(complex)), ""),
        ("unwritten", lambda file: file.create_dataset("stack", (6, 8, 9), "u1"), ""),
        ("huge", lambda file: file.create_dataset("stack", (10**6, 10**6, 10**6), "f8"), ""),
        ("huge chunks", lambda f: f.create_dataset("stack", (10**6, 10**4, 10**4), "f4", chunks=(1, 10**4, 10**4)), ""),
        ("tiny chunks", lambda f: f.create_dataset("stack", (10**3, 10**3, 10**3), "f4", chunks=(1, 1, 1)), ""),
        ("scaled", lambda f: f.create_dataset("stack", data=FRAMES, chunks=(2, 8, 9), scaleoffset=0), ""),
        ("no frames", lambda file: file.create_dataset("stack", (0, 8, 9), "u1", maxshape=(None, 8, 9)), ""),
        ("nan", lambda file: link(file, "stack", BROKEN), ""),
        ("inf", lambda f: f.create_dataset("stack", data=ENDLESS, chunks=True, compression="gzip"), ""),
    ]:
        with h5py.File(folder / f"{name}.h5", "w") as file:
            make(file)
        yield folder / (f"{name}.h5" + (f"::{of}" if of else "")), True
    with h5py.File(folder / "sums.h5", "w") as file:
        stack = file.create_dataset("stack", data=FRAMES, chunks=(6, 8, 9), compression="gzip", fletcher32=True)
        place, length = stack.id.get_chunk_info(0).byte_offset, stack.id.get_chunk_info(0).size
    data = bytearray((folder / "sums.h5").read_bytes())
    key = data.index(struct.pack("<II", length, 0))
    (folder / "short sum.h5").write_bytes(data[:key] + struct.pack("<I", 2) + data[key + 4 :])
    yield folder / "short sum.h5", True  # HDF5 itself reads on without end here
    data[place + 40] ^= 1
    (folder / "sums.h5").write_bytes(data)
    yield folder / "sums.h5", True
    (folder / "mark.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    yield folder / "mark.h5", True


def _zarr(folder: Path) -> Iterator[tuple[Path, bool]]:
    def array(name: str, version: int = 3, frames: np.ndarray = FRAMES, **options: object) -> Path:
        found = zarr.create_array(
            folder / name, shape=frames.shape, dtype=frames.dtype, chunks=frames.shape, zarr_format=version, **options
        )
        found[:] = frames
        return folder / name

    def described(name: str, version: int = 3, **changes: object) -> Path:
        path = array(name, version)
        file = path / ("zarr.json" if version == 3 else ".zarray")
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))
        return path

    grid = {"name": "regular", "configuration": {"chunk_shape": [10**5, 10**5, 10**5]}}
    tiny = {"name": "regular", "configuration": {"chunk_shape": [1, 1, 1]}}
    yield described("codec", codecs=[{"name": "bytes"}, {"name": "unheard-of"}]), True
    yield described("pickle3", codecs=[{"name": "bytes"}, {"name": "numcodecs.pickle"}]), True
    yield described("no codecs", codecs=[]), True
    yield described("codecs", codecs=7), True
    yield described("huge", shape=[10**6, 10**6, 10**6]), True
    yield described("huge chunk", shape=[10**5] * 3, chunk_grid=grid), True
    yield described("tiny chunks", shape=[100, 100, 100], chunk_grid=tiny), True
    yield described("no chunks", chunk_grid={"name": "regular", "configuration": {"chunk_shape": [0, 0, 0]}}), True
    yield described("negative", shape=[-6, 8, 9]), True
    yield described("words", shape="many"), True
    yield described("flat", shape=[6, 72]), True
    yield described("kind", data_type="string"), True
    yield described("node", node_type="group"), True
    yield described("node?", node_type="nothing"), True
    yield described("codec2", 2, compressor={"id": "unheard-of"}), True
    yield described("huge2", 2, shape=[10**9, 8, 9]), True
    yield described("object2", 2, dtype="|O", filters=[{"id": "pickle"}]), True
    yield described("fields2", 2, dtype=[["a", "|u1"]]), True
    evil = described("pickle2", 2, filters=[{"id": "pickle"}], compressor=None)
    (evil / "0.0.0").write_bytes(pickle.dumps(_Evil(folder / "unpickled")))
    yield evil, True
    for name, text in [("text", "{"), ("list", "[]"), ("deep", "[" * 10**5), ("none", "")]:
        path = array(name)
        (path / "zarr.json").write_text(text)
        yield path, True
    for name, change in [("pipe", os.mkfifo), ("link", lambda path: path.symlink_to("/dev/zero"))]:
        path = array(name)
        (path / "c/0/0/0").unlink()
        change(path / "c/0/0/0")
        yield path, True
    path = array("json pipe")
    (path / "zarr.json").unlink()
    os.mkfifo(path / "zarr.json")
    yield path, True
    zeros = bytes(2 * 10**8)
    for name, codec in [
        ("zstd", numcodecs.Zstd(1)),
        ("blosc", numcodecs.Blosc("zstd", 1)),
        ("gzip", numcodecs.GZip(1)),
    ]:
        path = array(f"bomb {name}", 2, compressors=numcodecs.get_codec({"id": name}))
        (path / "0.0.0").write_bytes(codec.encode(zeros))
        yield path, True
    for number in range(6):
        path = array(f"flip{number}", compressors=[zarr.codecs.GzipCodec(), zarr.codecs.Crc32cCodec()])
        data = bytearray((path / "c/0/0/0").read_bytes())
        data[10 + 30 * number] ^= 1
        (path / "c/0/0/0").write_bytes(data[: 50 * number] if number > 3 else data)
        yield path, True
    yield array("nan", frames=BROKEN), True
    zarr.open_group(folder / "group", mode="w")
    yield folder / "group", True
    yield Path(f"{folder}/group::../nan"), True
    two = zarr.open_group(folder / "two", mode="w")
    for name in ("a", "b"):
        two.create_array(name, shape=FRAMES.shape, dtype=FRAMES.dtype)
    yield folder / "two", True


def _video(folder: Path) -> Iterator[tuple[Path, bool]]:
    _write_video(folder / "sound.mp4", "libx264", "yuv420p")
    _write_video(folder / "sound.avi", "mjpeg", "yuvj420p")
    sound = (folder / "sound.mp4").read_bytes()
    Image.fromarray(FRAMES[0]).save(folder / "1.png")
    texts = {
        "list.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile://{folder}/sound.mp4\n#EXT-X-ENDLIST\n",
        "concat.avi": f"ffconcat version 1.0\nfile '{folder}/sound.mp4'\n",
        "beside.avi": "ffconcat version 1.0\nfile sound.mp4\n",
        "session.mov": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
        "text.mkv": "no video",
        "text.gif": "GIF89a",
        "page.webm": "<html></html>",
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
        yield folder / name, True
    for number, share in enumerate([0.01, 0.2, 0.5, 0.7, 0.9]):
        (folder / f"cut{number}.mp4").write_bytes(sound[: int(len(sound) * share)])
        yield folder / f"cut{number}.mp4", True
    height = sound.index(b"avc1") + 28
    (folder / "huge.mp4").write_bytes(sound[:height] + b"\xff\xff\xff\xff" + sound[height + 4 :])
    yield folder / "huge.mp4", False
    gif = io.BytesIO()
    Image.fromarray(FRAMES[0]).save(gif, "GIF")
    data = gif.getvalue()
    (folder / "huge.gif").write_bytes(data[:6] + b"\xff\xff\xff\xff" + data[10:])
    yield folder / "huge.gif", True
    with av.open(folder / "sound only.mkv", "w") as file:
        stream = file.add_stream("pcm_s16le", rate=8000, layout="mono")
        tone = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        tone.sample_rate = 8000
        file.mux(stream.encode(tone))
    yield folder / "sound only.mkv", True


def _places(folder: Path) -> Iterator[tuple[Path, bool]]:
    (folder / "empty").mkdir()
    (folder / "folder.png").mkdir()
    (folder / "folder.npy").mkdir()
    os.mkfifo(folder / "pipe.npy")
    (folder / "empty.tif").touch()
    (folder / "odd.xyz").write_bytes(b"?" * 5000)
    (folder / "zeros.png").write_bytes(bytes(5000))
    (folder / "nowhere.npy").symlink_to("nothing.npy")
    (folder / "loop.npy").symlink_to("loop.npy")
    (folder / "zero.npy").symlink_to("/dev/zero")
    (folder / "words\x1b[31m\n.npy").write_bytes(b"no array")
    yield from ((path, True) for path in sorted(folder.iterdir()))
    yield from (
        (folder / name, True)
        for name in ["missing", "*.jpg", "[", "missing.h5::a", "odd.xyz::a", "x" * 300, "**", "empty::a"]
    )
