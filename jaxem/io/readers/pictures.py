"""Single frames in PNG and JPEG, and what the header of a JPEG says."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np

from jaxem.io.readers.source import FramesError, check_claim, check_memory, library, regular_size

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
JPEG_MAGIC = b"\xff\xd8\xff"
GREY_MODES = ("1", "L", "I", "F", "I;16", "I;16B", "I;16L", "LA", "La")
COLOUR_MODES = ("RGB", "RGBA", "RGBX", "RGBa", "P", "PA")


def read_png(path: Path) -> np.ndarray:
    """The pixels of a PNG file: (H, W), or (H, W, 3) in colour."""
    data = _whole_file(path)
    depth, kind = data[24:26] if len(data) >= 26 else (8, 0)
    if depth == 16 and kind not in (0, 3):  # the usual decoder would quietly keep the upper 8 bits alone
        raise FramesError(f"{path} holds 16-bit colour, which PNG readers cut to 8; save it as TIFF or as 16-bit grey.")
    width, height = int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")
    _check_pixels(path, height, width, 8, len(data))
    _check_png_sums(data)
    return _decode(path, data, "PNG")


def read_jpeg(path: Path) -> np.ndarray:
    """The pixels of a JPEG file: (H, W), or (H, W, 3) in colour."""
    data = _whole_file(path)
    height, width = jpeg_size(data)
    _check_pixels(path, height, width, 4, len(data))
    return _decode(path, data, "JPEG")


def jpeg_size(data: bytes) -> tuple[int, int]:
    """Height and width by the header of a JPEG stream.

    Raises:
        ValueError: there is none.
    """
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = data[place + 5 : place + 7], data[place + 7 : place + 9]
            return int.from_bytes(height, "big"), int.from_bytes(width, "big")
        has_length = marker not in (0xFF, 0x01) and not 0xD0 <= marker <= 0xD8
        place += 1 if marker == 0xFF else 2
        place += max(2, int.from_bytes(data[place : place + 2], "big")) if has_length else 0
    raise ValueError("no JPEG header")


def _whole_file(path: Path) -> bytes:
    check_memory(path, regular_size(path))
    return path.read_bytes()


def _check_pixels(path: Path, height: int, width: int, pixel_bytes: int, stored: int) -> None:
    check_claim(path, height * width * pixel_bytes, stored)
    check_memory(path, 3 * height * width * pixel_bytes)


def _check_png_sums(data: bytes) -> None:
    """Compare the checksum of every chunk, which the usual decoder leaves out for the pixels."""
    place, kind = len(PNG_MAGIC), b""
    while kind != b"IEND":
        length = int.from_bytes(data[place : place + 4], "big")
        kind, end = data[place + 4 : place + 8], place + 8 + length
        if end + 4 > len(data):
            raise ValueError("the file ends too early")
        if zlib.crc32(memoryview(data)[place + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            raise ValueError(f"wrong checksum of {kind!r}")
        place = end + 4


def _decode(path: Path, data: bytes, form: str) -> np.ndarray:
    with library("PIL.Image", path).open(io.BytesIO(data), formats=(form,)) as image:
        if image.mode not in GREY_MODES + COLOUR_MODES:
            raise FramesError(f"{path} must be grey or colour, but is {image.mode}; save it as RGB.")
        if image.mode in ("P", "PA"):
            image = image.convert("RGB")
        pixels = np.asarray(image)
    if pixels.ndim == 3:
        return pixels[..., 0] if image.mode in GREY_MODES else pixels[..., :3]
    return pixels.astype(np.uint8) if pixels.dtype == bool else pixels
