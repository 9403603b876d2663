"""Files that are not read here, known by their first bytes: what they are, and what to do with them."""

from __future__ import annotations

from typing import NamedTuple


class Elsewhere(NamedTuple):
    """A kind of file.

    ======  =============================================
    field   meaning
    ======  =============================================
    magic   what such files hold
    place   at which byte
    advice  what they are, and what to do, after the path
    ======  =============================================
    """

    magic: bytes
    place: int
    advice: str


def _packed(by: str, unpack: str) -> str:
    return f"is packed with {by}; unpack it first, with {unpack}."


def _convert(what: str, into: str = "TIFF or .npy") -> str:
    return f"is {what}, which is not read here; save its frames as {into}."


KINDS = (
    Elsewhere(
        b"version https://git-lfs",
        0,
        "is a pointer of Git LFS and not the file itself; run git lfs pull where it comes from.",
    ),
    Elsewhere(b"\x1f\x8b\x08", 0, _packed("gzip", "gunzip")),
    Elsewhere(b"BZh", 0, _packed("bzip2", "bunzip2")),
    Elsewhere(b"\xfd7zXZ\0", 0, _packed("xz", "unxz")),
    Elsewhere(b"\x28\xb5\x2f\xfd", 0, _packed("zstd", "unzstd")),
    Elsewhere(b"7z\xbc\xaf\x27\x1c", 0, _packed("7-Zip", "7z x")),
    Elsewhere(b"Rar!\x1a\x07", 0, _packed("RAR", "unrar x")),
    Elsewhere(b"ustar", 257, _packed("tar", "tar -xf")),
    Elsewhere(b"DICM", 128, _convert("a DICOM file")),
    Elsewhere(b"SIMPLE  =", 0, _convert("a FITS file")),
    Elsewhere(b"MATLAB 5.0", 0, "is a MATLAB file of an old version; save it in MATLAB with save(..., '-v7.3')."),
    Elsewhere(b"n+1\0", 344, _convert("a NIfTI file")),
    Elsewhere(b"n+2\0", 4, _convert("a NIfTI file")),
    Elsewhere(b"NRRD000", 0, _convert("an NRRD file")),
    Elsewhere(b"\xda\xce\xbe\x0a", 0, _convert("a Nikon ND2 file", "OME-TIFF")),
    Elsewhere(b"ZISRAWFILE", 0, _convert("a Zeiss CZI file", "OME-TIFF")),
    Elsewhere(b"Andor Technology Multi-Channel File", 0, _convert("an Andor SIF file")),
    Elsewhere(b"LUCAM-RECORDER", 0, _convert("an SER video")),
    Elsewhere(b"Norpix seq", 4, _convert("a NorPix sequence")),
    Elsewhere(b"CI\x2c\0", 0, _convert("a Phantom CINE video")),
    Elsewhere(b"\0\0\0\x0cjP  \r\n\x87\n", 0, _convert("a JPEG 2000 picture", "TIFF or PNG")),
    Elsewhere(b"ftypheic", 4, _convert("an HEIF picture", "PNG or JPEG")),
    Elsewhere(b"ftypheix", 4, _convert("an HEIF picture", "PNG or JPEG")),
    Elsewhere(b"ftypmif1", 4, _convert("an HEIF picture", "PNG or JPEG")),
    Elsewhere(b"ftypavif", 4, _convert("an AVIF picture", "PNG or JPEG")),
    Elsewhere(b"\0\0\0\x0cJXL \r\n\x87\n", 0, _convert("a JPEG XL picture", "PNG or TIFF")),
    Elsewhere(b"v/1\x01", 0, _convert("an OpenEXR picture", "TIFF")),
    Elsewhere(b"8BPS", 0, _convert("a Photoshop file", "TIFF or PNG")),
    Elsewhere(b"%PDF", 0, _convert("a PDF document", "PNG or TIFF")),
    Elsewhere(b"P7\n", 0, _convert("a PAM picture", "PNG or TIFF")),
    Elsewhere(b"PAR1", 0, _convert("a Parquet table", ".npy")),
    Elsewhere(b"ARROW1", 0, _convert("an Arrow table", ".npy")),
    Elsewhere(b"\x80\x04\x95", 0, "is a Python pickle, which is never opened here; save the array with numpy.save."),
    Elsewhere(b"\x80\x05\x95", 0, "is a Python pickle, which is never opened here; save the array with numpy.save."),
    Elsewhere(b"<!DOCTYPE html", 0, "is a web page and no file of frames; download the file itself."),
    Elsewhere(b"<!doctype html", 0, "is a web page and no file of frames; download the file itself."),
    Elsewhere(b"<html", 0, "is a web page and no file of frames; download the file itself."),
    Elsewhere(b"data_", 0, "is a STAR table and holds no pixels; give the .mrcs stack that it names."),
)


def name_of(start: bytes) -> str | None:
    """What a file that begins like this is and what to do, in words that follow its path; None if it is not known."""
    text = start.lstrip()
    for kind in KINDS:
        if start[kind.place : kind.place + len(kind.magic)] == kind.magic:
            return kind.advice
        if kind.place == 0 and kind.magic[:1] in b"<d" and text.startswith(kind.magic):
            return kind.advice
    return None
