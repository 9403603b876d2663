"""What the descriptions in a Zarr store say, read without the library, which would believe them."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any

DESCRIPTIONS = ("zarr.json", ".zarray", ".zgroup")
LONGEST_DESCRIPTION = 2**24  # bytes


def describe(folder: Path) -> dict[str, Any] | None:
    """What the array in a folder says of itself; None if it is a group."""
    for name in DESCRIPTIONS[:2]:
        described = _read(folder / name)
        if described is None:
            continue
        if name == "zarr.json" and described.get("node_type") == "group":
            return None
        described["zarr_format"] = 3 if name == "zarr.json" else 2
        return described
    return None


def levels_of(group: Path) -> tuple[list[str], list[Any]]:
    """Of OME-Zarr the arrays of its resolutions, the finest first, and the names of their axes."""
    attributes = _attributes(group)
    inside = attributes.get("ome")
    several = (inside if isinstance(inside, dict) else attributes).get("multiscales")
    first = several[0] if isinstance(several, list) and several and isinstance(several[0], dict) else {}
    datasets, axes = first.get("datasets") or [], first.get("axes") or []
    paths = [str(dataset.get("path")) for dataset in datasets if isinstance(dataset, dict)]
    return paths, [axis.get("name") if isinstance(axis, dict) else axis for axis in axes]


def own_names(folder: Path, described: dict[str, Any]) -> list[Any]:
    """What an array's axes are called by itself."""
    names = described.get("dimension_names") or _attributes(folder).get("_ARRAY_DIMENSIONS")
    return names if isinstance(names, list) else []


def _attributes(folder: Path) -> dict[str, Any]:
    """What people have written beside an array or group."""
    told = _read(folder / ".zattrs")
    if told is not None:
        return told
    told = (_read(folder / "zarr.json") or {}).get("attributes")
    return told if isinstance(told, dict) else {}


def _read(file: Path) -> dict[str, Any] | None:
    """A description; None where there is none.

    Raises:
        ValueError: it is none.
    """
    if not os.path.lexists(file):
        return None
    status = file.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > LONGEST_DESCRIPTION:
        raise ValueError(f"{file.name} is not a file of reasonable length")
    told = json.loads(file.read_bytes())
    if not isinstance(told, dict):
        raise ValueError(f"{file.name} describes nothing")
    return told
