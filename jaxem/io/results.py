"""Results in files: `save` and `load`, to the bit and without pickle.

A file is an ``.npz`` archive of plain arrays, readable by NumPy alone. Each is named by the fields that lead to it,
joined by dots, without ``best``, ``params`` and ``found``; so `Restarts` has ``template``, ``elbo``, ``runs.template``,
``diagnostics.gap``. One array more, ``jaxem``, says what the file holds, the version of this format, and that of the
package; those that begin with ``about.`` say where it came from.
"""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

import jax
import numpy as np

import jaxem
from jaxem.assess.assessment import Assessment, Report
from jaxem.assess.detection import DetectionTest
from jaxem.assess.residuals import ResidualStatistics
from jaxem.assess.shape_choice import ShapeChoice
from jaxem.io.npz import read_arrays
from jaxem.io.result_arrays import check_arrays
from jaxem.model.params import Params, Positions, Posterior
from jaxem.model.predict import Located
from jaxem.runtime.files import write_atomically
from jaxem.runtime.text import listed
from jaxem.search.restarts import Restarts
from jaxem.search.stage_record import StageRecord
from jaxem.solvers.diagnostics import Diagnostics
from jaxem.solvers.result import Fit
from jaxem.solvers.schedule import Schedule

FORMAT = 1
HEADER = "jaxem"
ABOUT = "about."  # what stands before the names of what is kept beside a result
MOST_LISTED = 5
# fmt: off
KINDS = {
    kind.__name__: kind
    for kind in (
        Params, Posterior, Positions, Located, Schedule, Fit, Restarts, Diagnostics, DetectionTest, ResidualStatistics,
        Assessment, Report, ShapeChoice, StageRecord,
    )
}
# fmt: on
LEFT_OUT = ("best", "params", "found")


def save(path: str | os.PathLike[str], result: Any, *, about: Mapping[str, Any] | None = None) -> None:
    """Write a result to a file, so that after a crash there is the old file or the new one.

    Args:
        path: the file, by custom ``.npz``; one that is there is replaced.
        result: of one of the `KINDS`, such as `Params`, `Fit`, `Restarts` or `Report`; also with leading axes made by
            ``vmap``; not while tracing.
        about: what else to keep beside it, such as what its images were: numbers, text, and arrays or lists of them, by
            name; `read_about` gives it back.

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
    values = _flatten(kind, result)
    optional = _may_be_left_out(kind, values)
    arrays = {name: _as_plain(name, value) for name, value in values.items() if not (value is None and optional[name])}
    check_arrays(kind, arrays)
    header = np.array([kind.__name__, str(FORMAT), jaxem.__version__])
    stream = io.BytesIO()
    members: dict[str, Any] = {HEADER: header, **arrays, **_as_members(about or {})}
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
        ...     jaxem.load(path).corners
        array([[2, 3]], dtype=int32)

    Source: NumPy's NEP 1, the ``.npy`` format.
    """
    path = Path(path)
    arrays = {name: array for name, array in read_arrays(path).items() if not name.startswith(ABOUT)}
    try:
        kind = _kind_of(arrays.pop(HEADER, None))
        optional = _may_be_left_out(kind, arrays)
        missing = [name for name, may_be_none in optional.items() if not may_be_none and name not in arrays]
        surplus = [name for name in arrays if name not in optional]
        if missing or surplus:
            lacks, has = (listed([repr(name[:40]) for name in names], MOST_LISTED) for names in (missing, surplus))
            words = [f"lacks {lacks}"] * bool(missing) + [f"has {has} too many"] * bool(surplus)
            raise ValueError(f"it {' and '.join(words)} for {kind.__name__}")
        check_arrays(kind, arrays)
    except ValueError as error:
        reason = str(error).rstrip(".")
        raise ValueError(f"{path} is no result that this jaxem can read: {reason}; give one that it saved.") from None
    return _build(kind, arrays)


def read_about(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """What `save` or ``jaxem fit`` kept beside a result.

    Args:
        path: the file.

    Returns:
        Arrays of numbers or text by name. Of ``jaxem fit``: ``source``, where the frames were; ``frame_numbers`` (K,)
        in it, and ``frame_names`` (K,) where files held one each; ``excluded`` (K,), which were left out; and
        ``options``, what was asked for, as JSON.

    Raises:
        ValueError: damaged, or no such file.
        OSError: the file is not there or cannot be opened.

    Example:
        >>> import pathlib, tempfile, numpy as np, jaxem
        >>> from jaxem.io.results import read_about
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "positions.npz")
        ...     jaxem.save(path, jaxem.Positions(np.array([[2, 3]], "int32")), about={"source": "frames/"})
        ...     str(read_about(path)["source"])
        'frames/'
    """
    arrays = read_arrays(Path(path))
    return {name.removeprefix(ABOUT): array for name, array in arrays.items() if name.startswith(ABOUT)}


def is_result(path: Path) -> bool:
    """Whether a file is one that `save` wrote, by the names of its arrays alone."""
    try:
        with zipfile.ZipFile(path) as archive:
            return f"{HEADER}.npy" in archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return False


def _as_members(about: Mapping[str, Any]) -> dict[str, np.ndarray]:
    members = {}
    for name, value in about.items():
        array = np.asarray(value)
        if array.dtype.kind not in "biufU":
            raise TypeError(f"about[{name!r}] must be numbers or text, but is {value!r:.60}.")
        members[ABOUT + name] = array
    return members


def _parts(kind: type) -> dict[str, tuple[type | None, bool]]:
    """Of each field the class of results in it, if it holds one, and whether it may be None: as its class says."""
    hints = get_type_hints(kind)
    choices = {field: get_args(hint) or (hint,) for field, hint in hints.items()}
    return {
        field: (next((one for one in among if one in KINDS.values()), None), NoneType in among)
        for field, among in choices.items()
    }


def _inside(prefix: str, field: str) -> str:
    return prefix if field in LEFT_OUT else f"{prefix}{field}."


def _flatten(kind: type, result: Any, prefix: str = "") -> dict[str, Any]:
    """The arrays in a result by name."""
    found: dict[str, Any] = {}
    for field, (inner, may_be_none) in _parts(kind).items():
        value = getattr(result, field)
        if inner is None:
            found[prefix + field] = value
        elif type(value) is inner:
            found |= _flatten(inner, value, _inside(prefix, field))
        elif not (value is None and may_be_none):
            raise TypeError(f"{prefix}{field} must be a {inner.__name__}, but is {type(value).__name__}.")
    return found


def _may_be_left_out(kind: type, arrays: Mapping[str, Any], prefix: str = "") -> dict[str, bool]:
    """Which arrays belong to a result, and whether each may be left out; of what is left out as a whole none do."""
    found: dict[str, bool] = {}
    for field, (inner, may_be_none) in _parts(kind).items():
        if inner is None:
            found[prefix + field] = may_be_none
        elif not (may_be_none and _is_left_out(arrays, _inside(prefix, field))):
            found |= _may_be_left_out(inner, arrays, _inside(prefix, field))
    return found


def _is_left_out(arrays: Mapping[str, Any], prefix: str) -> bool:
    return not any(name.startswith(prefix) for name in arrays)


def _build(kind: Any, arrays: Mapping[str, np.ndarray], prefix: str = "") -> Any:
    def part(field: str, inner: type | None, may_be_none: bool) -> Any:
        if inner is None:
            return arrays.get(prefix + field)
        below = _inside(prefix, field)
        return None if may_be_none and _is_left_out(arrays, below) else _build(inner, arrays, below)

    return kind(*(part(field, *about) for field, about in _parts(kind).items()))


def _as_plain(name: str, value: Any) -> np.ndarray:
    if isinstance(value, jax.core.Tracer):
        raise TypeError(f"{name} is being traced; save what the jitted function returns.")
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be an array of real numbers, but is {value!r:.60}.")
    return array


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
