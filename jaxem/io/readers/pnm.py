"""Frames in the PGM and PPM formats of Netpbm, as cameras and older programs write them.

A reader of its own, because the usual decoder stretches pixel values to the full range where the file names another
maximum, as cameras of 10 or 12 bits do. Source: the format's specification, netpbm.sourceforge.net.
"""

from __future__ import annotations

import re

import numpy as np

KINDS = {b"P2": 1, b"P3": 3, b"P5": 1, b"P6": 3}  # channels of each; the first two are written in words
MAGIC = tuple(KINDS)
HEADER = re.compile(rb"(P[2356])(?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})(?:\s|#[^\n]*\n)+(\d{1,9})\s")
LONGEST_HEADER = 2**16  # bytes, most of them comments


def read_pnm(data: bytes) -> list[np.ndarray]:
    """The pictures in a file, which may follow one another: (H, W), or (H, W, 3) in colour, values as they are.

    Raises:
        ValueError: damaged, or it ends too early.
    """
    pictures, place = [], 0
    while place < len(data) and data[place : place + 1].strip():
        header = HEADER.match(data[place : place + LONGEST_HEADER])
        if header is None:
            raise ValueError("no header of PGM or PPM")
        channels = KINDS[header[1]]
        width, height, highest = (int(header[number]) for number in (2, 3, 4))
        if not (width and height and 0 < highest < 2**16):
            raise ValueError(f"{height} x {width} pixels up to {highest}")
        count, start = height * width * channels, place + header.end()
        if header[1] in (b"P2", b"P3"):
            if 2 * count - 1 > len(data) - start:
                raise ValueError("it ends too early")
            pixels = np.array(data[start:].split(maxsplit=count)[:count], np.uint16)
            if highest < 2**8:
                pixels = pixels.astype(np.uint8)
            place = len(data)
        else:
            dtype = np.dtype(np.uint8 if highest < 2**8 else ">u2")
            pixels = np.frombuffer(data, dtype, min(count, (len(data) - start) // dtype.itemsize), start)
            place = start + count * dtype.itemsize
        if pixels.size < count:
            raise ValueError("it ends too early")
        pixels = pixels.astype(pixels.dtype.newbyteorder("="))
        pictures.append(pixels.reshape((height, width) if channels == 1 else (height, width, channels)))
        while data[place : place + 1].isspace():
            place += 1
    return pictures
