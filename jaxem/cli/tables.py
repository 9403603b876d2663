"""Positions as tables: CSV for people and spreadsheets, npz for NumPy."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxem.model.params import Positions
from jaxem.model.predict import Located


def write_located(
    folder: Path, numbers: Sequence[int], names: Sequence[str] | None, found: Located, transforms: tuple[str, ...]
) -> None:
    """``positions.csv`` and ``positions.npz``: what is in each frame, and how surely."""
    write_positions(folder / "positions.csv", numbers, names, found, transforms)
    more, said = _how_surely(found), _what_is_said(found.positions, transforms)
    called = {} if names is None else {"name": np.array(names)}
    arrays: dict[str, Any] = {"frame": np.array(numbers), **called, "corners": found.corners, **more, **said}
    np.savez_compressed(folder / "positions.npz", **arrays)


def write_positions(
    path: Path,
    numbers: Sequence[int],
    names: Sequence[str] | None,
    found: Located,
    transforms: tuple[str, ...],
    excluded: np.ndarray | None = None,
) -> None:
    """What is in each frame, and how surely, a row each; and whether it was left out of the fit, (K,)."""
    more = _how_surely(found)
    if excluded is not None:
        more["excluded"] = excluded.astype(int)
    write_table(path, numbers, found.positions, transforms, more, names)


def _how_surely(found: Located) -> dict[str, np.ndarray]:
    more = {"log_evidence": found.log_evidence, "confidence": found.confidence}
    return more if found.presence is None else more | {"presence": found.presence}


def write_table(
    path: Path,
    numbers: Sequence[int],
    positions: Positions,
    transforms: tuple[str, ...],
    more: Mapping[str, np.ndarray] | None = None,
    names: Sequence[str] | None = None,
) -> None:
    """A row a frame: its number, its name if it has one, the corner, numbers about it, what else the model says."""
    rows, columns = np.asarray(positions.corners).T.tolist()
    called = {} if names is None else {"name": names}
    table: dict[str, Sequence[Any]] = {"frame": numbers, **called, "row": rows, "column": columns}
    table |= {name: [f"{value:.9g}" for value in values] for name, values in (more or {}).items()}
    said = _what_is_said(positions, transforms)
    table |= {name: (values.astype(int) if values.dtype == bool else values).tolist() for name, values in said.items()}
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as stream:
        writer = csv.writer(stream)
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))


def write_star(
    path: Path,
    pictures: Sequence[str],
    found: Located,
    transforms: tuple[str, ...],
    template_shape: tuple[int, int],
) -> None:
    """A row a template that was found, as RELION lists particles: the middle of its window, from the first pixel on.

    Args:
        path: the file.
        pictures: what each frame is called there.
        found: what was found in each.
        transforms: that templates may be under, names.
        template_shape: (h, w).
    """
    positions = found.positions
    corners = np.asarray(positions.corners)
    middles = corners + (np.array(template_shape) - 1) / 2
    columns = {
        "_rlnMicrographName": [_in_star(name) for name in pictures],
        "_rlnCoordinateX": [f"{x:.2f}" for x in middles[:, 1]],
        "_rlnCoordinateY": [f"{y:.2f}" for y in middles[:, 0]],
        "_rlnAutopickFigureOfMerit": [f"{value:.6g}" for value in np.asarray(found.confidence)],
    }
    if positions.template is not None:
        columns["_rlnClassNumber"] = [str(number + 1) for number in np.asarray(positions.template).tolist()]
    if positions.transform is not None:
        columns["_jaxemTransform"] = [transforms[number] for number in np.asarray(positions.transform).tolist()]
    present: np.ndarray = np.asarray((corners >= 0).all(axis=1))
    if positions.present is not None:
        present = present & np.asarray(positions.present)
    rows = [
        " ".join(row) for row, is_there in zip(zip(*columns.values(), strict=True), present, strict=True) if is_there
    ]
    names = [f"{name} #{number}" for number, name in enumerate(columns, 1)]
    text = "\n".join(["", "data_particles", "", "loop_", *names, *rows, "", ""])
    path.write_text(text, encoding="utf-8", errors="backslashreplace")


def _in_star(name: str) -> str:
    """A name as one word."""
    return f'"{name}"' if any(letter.isspace() for letter in name) else name


def _what_is_said(positions: Positions, transforms: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Template by number, transform by name, presence: as far as the model knows them."""
    found = {}
    if positions.template is not None:
        found["template"] = np.asarray(positions.template)
    if positions.transform is not None:
        found["transform"] = np.array(transforms)[np.asarray(positions.transform)]
    if positions.present is not None:
        found["present"] = np.asarray(positions.present)
    return found
