"""What programs write into TIFF files about the axes along which their pages lie.

Each is believed by its own mark: OME-TIFF by its XML, ImageJ by its description, tifffile by its JSON, MetaMorph by its
tags, ScanImage by the name of its software.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

from jaxem.io.readers.planes import UNKNOWN

UIC1, UIC2 = 33628, 33629  # MetaMorph's tags; the second has an entry a plane
AS_MANY_AS_THERE_ARE = 0

Sizes = list[tuple[str, int]]


def told_axes(page: Any, tiff: Any) -> Sizes:
    """Letters and sizes, the slowest first; nothing where the file tells nothing."""
    for told in (_by_ome, _by_imagej, _by_tifffile, _by_scanimage):
        sizes = told(page, tiff)
        if sizes:
            return sizes
    return []


def planes_behind(page: Any, tiff: Any) -> int:
    """How many frames lie behind a page that is alone: of MetaMorph, tifffile, and ImageJ's stacks above 4 GB."""
    if page.is_stk:
        return int(page.tags[UIC2].count) if UIC2 in page.tags else 1
    if tiff.is_imagej:
        described = tiff.imagej_metadata or {}
        return _whole(described.get("images", 1))
    return math.prod(size for _, size in _by_tifffile(page, tiff))


def _by_ome(page: Any, tiff: Any) -> Sizes:
    text = page.description if page.is_ome else ""
    pixels = re.search(r"<(?:\w+:)?Pixels\b[^>]*>", text)
    if pixels is None:
        return []
    told = dict(re.findall(r"\b(DimensionOrder|Size[CZT])\s*=\s*[\"']([^\"']*)[\"']", pixels[0]))
    order = told.get("DimensionOrder", "XYCZT")
    if sorted(order) != sorted("XYCZT"):
        return []
    samples = page.samplesperpixel  # of which OME counts each as a channel
    sizes = {letter: _whole(told.get(f"Size{letter}", 1)) for letter in "CZT"}
    sizes["C"] = max(1, sizes["C"] // samples)
    return [(letter, sizes[letter]) for letter in reversed(order) if letter in "CZT"]


def _by_imagej(page: Any, tiff: Any) -> Sizes:
    described = (tiff.imagej_metadata or {}) if tiff.is_imagej else {}
    names = {"T": "frames", "Z": "slices", "C": "channels"}  # as its hyperstacks are stored, the slowest first
    sizes = [(letter, _whole(described.get(name, 1))) for letter, name in names.items()]
    if sizes[2][1] == page.samplesperpixel:  # what each pixel has is no axis of pages
        sizes = sizes[:2]
    return sizes if any(size > 1 for _, size in sizes) else []


def _by_tifffile(page: Any, tiff: Any) -> Sizes:
    text = page.is_shaped and page.shaped_description
    if not text:
        return []
    told = json.loads(text[text.index("{") :]) if "{" in text else {}
    shape = told.get("shape")
    own = len(page.shape)
    if not isinstance(shape, list) or len(shape) <= own or not all(isinstance(size, int) for size in shape):
        return []
    axes = told.get("axes")
    labels = axes if isinstance(axes, str) and len(axes) == len(shape) else UNKNOWN[: len(shape) - own]
    return [(label, _whole(size)) for label, size in zip(labels, shape[: len(shape) - own], strict=False)]


def _by_scanimage(page: Any, tiff: Any) -> Sizes:
    text = f"{page.software}\n{page.description}" if page.is_scanimage else ""
    saved = re.search(r"SI\d?\.(?:hChannels\.channelSave|channelsSave)\s*=\s*\[?([\d;, ]+)", text)
    channels = len(re.findall(r"\d+", saved[1])) if saved else 0
    return [("T", AS_MANY_AS_THERE_ARE), ("C", channels)] if channels > 1 else []


def _whole(size: Any) -> int:
    """A number out of a file, if it is one."""
    text = str(size)
    return int(text) if text.isdecimal() and 0 < len(text) < 13 and int(text) > 0 else 1
