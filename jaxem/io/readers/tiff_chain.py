"""The chain of pages of a TIFF file, followed before a decoder follows it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from jaxem.io.readers.source import FramesError

TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
SMALLEST_PAGE = 2 + 3 * 12 + 4  # bytes: height, width, place
DESCRIPTION_TAG = 270
KIND_TAG, REDUCED, MASK = 254, 1, 4  # what a page is, and its bits for thumbnails and masks of others


@dataclass(frozen=True)
class Chain:
    """What the pages of a file are, before any of them is decoded.

    Args:
        kinds: of each page the bits of what it is: 0 for a picture.
        described: bytes that describe them.
        is_cut: whether the chain or a description leads out of the file, as where writing was interrupted.
    """

    kinds: tuple[int, ...]
    described: int
    is_cut: bool

    @property
    def pictures(self) -> list[int]:
        """The numbers of the pages that are no thumbnails or masks of others."""
        return [number for number, kind in enumerate(self.kinds) if not kind & (REDUCED | MASK)]


def follow(path: Path, size: int) -> Chain:
    """Follow the chain of pages.

    Raises:
        FramesError: it is a circle, begins outside the file, or holds what cannot be there.
    """
    seen: set[int] = set()
    kinds: list[int] = []
    described, is_cut = 0, False
    with path.open("rb") as stream:
        head = stream.read(16)
        order = "<" if head[:2] == b"II" else ">"
        is_big = struct.unpack(order + "H", head[2:4])[0] == 43
        count_format, tag_format, next_format = ("Q", "HHQQ", "Q") if is_big else ("H", "HHII", "I")
        inline = 8 if is_big else 4
        tag_size, count_size = struct.calcsize("=" + tag_format), struct.calcsize(count_format)
        place = struct.unpack_from(order + next_format, head, 8 if is_big else 4)[0]
        while place:
            if place in seen or len(seen) > size // SMALLEST_PAGE:
                raise FramesError(f"{path} cannot be read as an image (its pages form a circle); replace it.")
            seen.add(place)
            stream.seek(place)
            start = stream.read(count_size)
            number = struct.unpack(order + count_format, start)[0] if len(start) == count_size else 0
            if not 1 <= number <= 4096 and len(start) == count_size:
                raise FramesError(f"{path} cannot be read as an image (a page has {number} tags); replace it.")
            rest = stream.read(number * tag_size + inline)
            if not number or len(rest) < number * tag_size + inline:
                is_cut = True
                break
            tags, end = rest[: number * tag_size], rest[number * tag_size :]
            described += len(tags)
            kind, is_described = _read_tags(path, tags, order, tag_format, size)
            kinds.append(kind)
            is_cut = is_cut or not is_described
            place = struct.unpack(order + next_format, end)[0]
    if not kinds:
        why = "it ends before its first page" if is_cut else "it has no pages"
        raise FramesError(f"{path} cannot be read as an image ({why}); remove or replace it.")
    return Chain(tuple(kinds), described, is_cut)


def _read_tags(path: Path, tags: bytes, order: str, tag_format: str, size: int) -> tuple[int, bool]:
    """What a page is, and whether its description is in the file; refuses tags that cannot be there."""
    kind, is_described = 0, True
    inline = struct.calcsize("=" + tag_format[-1])
    for tag, type_number, count, value in struct.iter_unpack(order + tag_format, tags):
        length = TYPE_SIZES.get(type_number, 1) * count
        if length > max(size, inline):
            raise FramesError(f"{path} cannot be read as an image (tag {tag} is too long); replace it.")
        if tag == DESCRIPTION_TAG and length > inline:  # written last by some, and tells the axes
            is_described = value + length <= size
        if tag == KIND_TAG and count == 1:  # numbers stand at the front of their place
            kind = value >> 8 * (inline - TYPE_SIZES.get(type_number, inline)) if order == ">" else value
    return kind & 0xFF, is_described
