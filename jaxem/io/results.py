"""Results in files: `save` and `load`, to the bit and without pickle.

A file is an ``.npz`` archive of plain arrays, readable by NumPy alone. Each is named by the fields that lead to it,
joined by dots, without ``best`` and ``params``; so `Restarts` has ``template``, ``elbo``, ``runs.template``,
``diagnostics.gap``. One array more, ``jaxem``, says what the file holds, the version of this format, and that of the
package.
"""

from __future__ import annotations

import io
import itertools
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

import jax
import numpy as np

import jaxem
from jaxem.assess.shape_choice import ShapeChoice
from jaxem.assess.significance import NoiseCheck
from jaxem.io.npz import read_arrays
from jaxem.model.appearances import MIRRORED_AND_TURNED
from jaxem.model.params import Params, Positions, Posterior
from jaxem.runtime.files import write_atomically
from jaxem.runtime.text import listed
from jaxem.search.restarts import Restarts
from jaxem.solvers.diagnostics import Diagnostics
from jaxem.solvers.result import Fit, Status
from jaxem.solvers.schedule import Schedule

FORMAT = 1
HEADER = "jaxem"
MOST_LISTED = 5
KINDS = {
    kind.__name__: kind
    for kind in (Params, Posterior, Positions, Fit, Schedule, Restarts, Diagnostics, NoiseCheck, ShapeChoice)
}
LEFT_OUT = ("best", "params")

# The last axes of each array, in `runs` behind that of the runs; letters stand for sizes, the same letter for the same
# size. Before them there may be axes of `vmap`, the same ones everywhere in a result. Small letters before a colon are
# there only in results of several templates (m), several transforms (g), or images with channels (c).
AXES = {
    "template": "m:hwc:",
    "background": "HWc:",
    "noise_scale": "s:",
    "prior": "m:g:PQ",
    "opacity": "o:hw",
    "probs": "Km:g:PQ",
    "absent": "",
    "log_evidence": "K",
    "corners": "K2",
    "log_joint": "K",
    "best_template": "K",
    "best_transform": "K",
    "present": "K",
    "transforms": "g",
    "history": "i",
    "inverse_temperature": "n",
    "prior_smoothing": "n",
    "noise_gains": "r",
    "shapes": "z2",
    "bic": "z",
    "log_likelihood": "z",
    "held_out": "z",
    "held_out_error": "z",
    "touching": "z",
    "touching_by_chance": "z",
    "smallest": "2",
    "largest": "2",
}
OF_POSITIONS, OF_POSTERIORS = {"template": "K", "transform": "K"}, {"absent": "K"}
SAME_SIZE = {"s": "c", "o": "m"}  # the noise may be one for all channels, the support one for all templates
OPTIONAL = "mgcso"
WHOLE = (
    "num_iterations",
    "status",
    "num_scheduled",
    "corners",
    "num_agreeing",
    "num_steps",
    "num_hidden",
    "num_images",
)
WHOLE_NUMBERS = (*WHOLE, "best_template", "best_transform", "transform", "transforms", "shapes", "smallest", "largest")
TRUTHS = ("at_noise_floor", "present", "is_complete")


def save(path: str | os.PathLike[str], result: Any) -> None:
    """Write a result to a file, so that after a crash there is the old file or the new one.

    Args:
        path: the file, by custom ``.npz``; one that is there is replaced.
        result: `Params`, `Posterior`, `Positions`, `Fit`, `Schedule`, `Restarts`, `Diagnostics`, `NoiseCheck` or
            `ShapeChoice`, also one with leading axes made by ``vmap``; not while tracing.

    Returns:
        Nothing.

    Raises:
        TypeError: no such result, or something in it that is no array of numbers.
        ValueError: shapes that do not fit each other.
        OSError: the file cannot be written.

    Example:
        >>> import pathlib, tempfile, jax.numpy as jnp, jaxem
        >>> params = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "params.npz")
        ...     jaxem.save(path, params)
        ...     jaxem.load(path).prior.shape
        (4, 5)

    Source: NumPy's NEP 1, the ``.npy`` format.
    """
    kind = type(result)
    if kind not in KINDS.values():
        raise TypeError(f"result must be one of {', '.join(KINDS)}, but is {kind.__name__}.")
    optional = _flatten(kind)
    arrays = {
        name: _as_plain(name, value)
        for name, value in _flatten(kind, result).items()
        if not (value is None and optional[name])
    }
    _check(kind, arrays)
    header = np.array([kind.__name__, str(FORMAT), jaxem.__version__])
    stream = io.BytesIO()
    members: dict[str, Any] = {HEADER: header, **arrays}
    np.savez_compressed(stream, **members)
    write_atomically(Path(os.path.realpath(path)), stream.getvalue())


def load(path: str | os.PathLike[str]) -> Any:
    """Read a result that `save` or ``jaxem fit`` wrote.

    Args:
        path: the file, which may come from anywhere: nothing in it is ever run, and no more memory is taken than it
            really fills.

    Returns:
        What was saved, in the same class, of NumPy arrays of the same dtypes and values to the bit.

    Raises:
        ValueError: damaged, no result, one of a newer version of jaxem, or one whose parts do not fit each other.
        OSError: the file is not there or cannot be opened.

    Example:
        >>> import pathlib, tempfile, numpy as np, jaxem
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "positions.npz")
        ...     jaxem.save(path, jaxem.Positions(np.array([[2, 3]], "int32")))
        ...     jaxem.load(path)
        Positions(corners=array([[2, 3]], dtype=int32), log_joint=None, template=None, transform=None, present=None)

    Source: NumPy's NEP 1, the ``.npy`` format.
    """
    path = Path(path)
    arrays = read_arrays(path)
    try:
        kind = _kind_of(arrays.pop(HEADER, None))
        optional = _flatten(kind)
        missing = [name for name, may_be_none in optional.items() if not may_be_none and name not in arrays]
        surplus = [name for name in arrays if name not in optional]
        if missing or surplus:
            lacks, has = (listed([repr(name[:40]) for name in names], MOST_LISTED) for names in (missing, surplus))
            words = [f"lacks {lacks}"] * bool(missing) + [f"has {has} too many"] * bool(surplus)
            raise ValueError(f"it {' and '.join(words)} for {kind.__name__}")
        _check(kind, arrays)
    except ValueError as error:
        reason = str(error).rstrip(".")
        raise ValueError(f"{path} is no result that this jaxem can read: {reason}; give one that it saved.") from None
    return _build(kind, arrays)


def _parts(kind: type) -> dict[str, tuple[type | None, bool]]:
    """Of each field the class of results in it, if it holds one, and whether it may be None: as its class says."""
    hints = get_type_hints(kind)
    return {
        field: (hint if hint in KINDS.values() else None, NoneType in get_args(hint)) for field, hint in hints.items()
    }


def _inside(prefix: str, field: str) -> str:
    return prefix if field in LEFT_OUT else f"{prefix}{field}."


def _flatten(kind: type, result: Any = None, prefix: str = "") -> dict[str, Any]:
    """The arrays in a result by name; without a result, whether each may be left out."""
    found: dict[str, Any] = {}
    for field, (inner, may_be_none) in _parts(kind).items():
        value = None if result is None else getattr(result, field)
        if inner is None:
            found[prefix + field] = may_be_none if result is None else value
            continue
        if result is not None and type(value) is not inner:
            raise TypeError(f"{prefix}{field} must be a {inner.__name__}, but is {type(value).__name__}.")
        found |= _flatten(inner, value, _inside(prefix, field))
    return found


def _build(kind: Any, arrays: Mapping[str, np.ndarray], prefix: str = "") -> Any:
    return kind(
        *(
            arrays.get(prefix + field) if inner is None else _build(inner, arrays, _inside(prefix, field))
            for field, (inner, _) in _parts(kind).items()
        )
    )


def _as_plain(name: str, value: Any) -> np.ndarray:
    if isinstance(value, jax.core.Tracer):
        raise TypeError(f"{name} is being traced; save what the jitted function returns.")
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be an array of real numbers, but is {value!r:.60}.")
    return array


def _check(kind: type, arrays: Mapping[str, np.ndarray]) -> None:
    """Whether the arrays of a result can be used without surprises."""
    for name, array in arrays.items():
        _check_dtype(kind, name, array)
        if 0 in array.shape and kind is not Schedule:
            raise ValueError(f"{name} is empty: its shape is {array.shape}")
    problems: list[tuple[int, str]] = []
    for there in _axes_that_may_be_there():
        sizes, how_far, problem = _sizes(kind, arrays, there)
        if problem is None:
            break
        problems.append((how_far, problem))
    else:  # as the result is most likely meant, most of its arrays fit each other
        raise ValueError(max(problems, key=lambda one: one[0])[1])
    for name, array in arrays.items():
        if not _has_sense(_role(kind, name), array, sizes):
            raise ValueError(f"{name} holds numbers that it cannot have")


def _axes_that_may_be_there() -> Iterator[str]:
    """Which of the optional axes a result has, the fewest first: axes of `vmap` are read as such."""
    for count in range(len(OPTIONAL) + 1):
        for there in itertools.combinations(OPTIONAL, count):
            if all(SAME_SIZE.get(axis, axis) in there for axis in there):
                yield "".join(there)


def _axes(kind: type, name: str, there: str) -> str:
    """The last axes of an array, of the optional ones those that are there."""
    field = name.rpartition(".")[2]
    special = OF_POSITIONS if kind is Positions else OF_POSTERIORS if kind is Posterior else {}
    axes = re.sub("(.):", lambda found: found[1] if found[1] in there else "", special.get(field, AXES.get(field, "")))
    return "R" * name.startswith("runs.") + "".join(SAME_SIZE.get(axis, axis) for axis in axes)


def _sizes(kind: type, arrays: Mapping[str, np.ndarray], there: str) -> tuple[dict[str, int], int, str | None]:
    """The size of every axis, how many arrays agree on them, and of the next one what is wrong, if there is one."""
    sizes: dict[str, int] = {"2": 2}
    leading: tuple[int, ...] | None = None
    for how_far, (name, array) in enumerate(arrays.items()):
        axes = _axes(kind, name, there)
        split = max(0, array.ndim - len(axes))
        lead, last = array.shape[:split], array.shape[split:]
        leading = lead if leading is None else leading
        expected = tuple(sizes.setdefault(axis, size) for axis, size in zip(axes, last, strict=False))
        if len(last) != len(axes) or last != expected or lead != leading:
            return sizes, how_far, f"the shape {array.shape} of {name} does not fit the other shapes"
    if "h" in sizes:
        for image, template, positions in ("HhP", "WwQ"):
            if sizes[positions] not in (sizes[image] - sizes[template] + 1, sizes[image]):
                return sizes, len(arrays), "the shape of prior is not (H-h+1, W-w+1)"
    return sizes, len(arrays), None


def _role(kind: type, name: str) -> str:
    """What an array holds: `Positions` number their templates and transforms in fields named after those."""
    field = name.rpartition(".")[2]
    return (
        {"template": "best_template", "transform": "best_transform"}.get(field, field) if kind is Positions else field
    )


def _check_dtype(kind: type, name: str, array: np.ndarray) -> None:
    field = name.rpartition(".")[2]
    is_whole = field in WHOLE_NUMBERS or (kind is Positions and field == "template")
    expected = "iu" if is_whole else "b" if field in TRUTHS else "fiub"  # given by hand, any number may be whole
    if array.dtype.kind not in expected:
        raise ValueError(f"{name} holds {array.dtype}")


def _has_sense(field: str, array: np.ndarray, sizes: Mapping[str, int]) -> bool:
    if field == "status":
        return bool(np.isin(array, list(Status)).all())
    if field in ("shapes", "smallest", "largest"):
        return bool((array >= 1).all())
    if field == "transforms":
        return bool(np.isin(array, range(len(MIRRORED_AND_TURNED))).all())
    if field == "num_iterations":
        return bool(((array >= 0) & (array < sizes["i"])).all())
    if field in ("best_template", "best_transform"):
        count = sizes.get("m" if field == "best_template" else "g", 0 if "h" in sizes else 2**31)
        return bool(((array >= 0) & (array < count)).all())
    if field == "corners":
        nowhere, far = array == -1, np.array([sizes.get("P", 2**31), sizes.get("Q", 2**31)])
        return bool(nowhere.all() or ((array >= 0) & (array < far)).all())
    return True


def _kind_of(header: np.ndarray | None) -> Any:
    if header is None:
        raise ValueError(f"it has no array named {HEADER} that says what it holds")
    if header.dtype.kind != "U" or header.shape != (3,):
        raise ValueError(f"its array named {HEADER} is not what jaxem writes there")
    name, form, version = (str(word)[:40] for word in header)
    if not form.isascii() or not form.isdecimal():
        raise ValueError(f"its format is {form!r}")
    if int(form) > FORMAT:
        raise ValueError(f"jaxem {version!r} wrote it in format {form}, and {jaxem.__version__} reads up to {FORMAT}")
    if name not in KINDS:
        raise ValueError(f"it holds {name!r}, and what is known is {', '.join(KINDS)}")
    return KINDS[name]
