"""What a person says of the model beyond one template in every frame, checked against the frames."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from jaxem.cli.frame_files import FileError
from jaxem.cli.masks import like_frames
from jaxem.cli.observed import DEFAULT_GREY, Observed
from jaxem.cli.requests import NUMBERS, FitRequest, FrameChoice
from jaxem.io.arrays import read_array
from jaxem.io.readers.source import FramesError
from jaxem.io.results import is_result
from jaxem.model.appearances import IDENTITY, MIRRORED_AND_TURNED
from jaxem.model.checks import expect_turns
from jaxem.ops.windows import positions_shape
from jaxem.runtime.arguments import as_count
from jaxem.runtime.errors import ArgumentValueError
from jaxem.search.structure import SUM_TOLERANCE

MOST_TEMPLATES = 1000


def model_options(request: FitRequest, choice: FrameChoice, observed: Observed) -> dict[str, Any]:
    """What the search has to be told beside sizes and numbers, by its arguments; what is off is left out.

    Raises:
        ArgumentError: it makes no sense for these frames, or a file cannot be used.
    """
    as_count("num_templates", request.num_templates, at_least=1, at_most=MOST_TEMPLATES)
    transforms = allowed_transforms(turns=request.turns, mirrors=request.mirrors)
    expect_turns(transforms, request.template_shape)
    options = {
        "num_templates": request.num_templates if request.num_templates > 1 else None,
        "absent": request.absent or None,
        "transforms": None if transforms == IDENTITY else transforms,
        "boundary": "wrap" if request.wrap else None,
        "support": _support(request),
        "weights": observed.weights,
        "fixed": _all_fixed(request, choice, observed) or None,
        "init": None if request.init is None else _init(request, choice, observed),
    }
    return {name: value for name, value in options.items() if value is not None}


def files_of(request: FitRequest) -> list[tuple[str, str]]:
    """Arguments that name files, and the files."""
    found = [("fixed", value) for name, value in request.fixed if name not in NUMBERS or _as_number(value) is None]
    found += [("support", request.support)] if request.support not in (None, "disc") else []
    return found + ([("init", request.init)] if request.init is not None else [])


def allowed_transforms(*, turns: bool, mirrors: bool) -> tuple[str, ...]:
    """Names of the transforms that a template may be under: none or all quarter turns, each mirrored or not."""
    return tuple(
        name
        for name, (is_mirrored, quarter_turns) in MIRRORED_AND_TURNED.items()
        if (turns or not quarter_turns) and (mirrors or not is_mirrored)
    )


def _support(request: FitRequest) -> str | np.ndarray | None:
    if request.support in (None, "disc"):
        return request.support
    array = _read(request.support, "support", grey="mean", colour=False)
    array = _shaped(array, request.template_shape, "support", request.support)
    support = (np.nan_to_num(array, nan=0) != 0).astype(np.float32)
    if not support.any():
        raise ArgumentValueError("support", f"must leave something of the template, but {request.support} is all zero.")
    return support


def _all_fixed(request: FitRequest, choice: FrameChoice, observed: Observed) -> dict[str, np.ndarray]:
    """Fields of `Params` that are known, each in its shape."""
    fixed = {name: _fixed(name, value, request, choice, observed) for name, value in request.fixed}
    given = dict(request.fixed)
    if "absent" in fixed and not request.absent:
        raise ArgumentValueError("fixed", "of absent needs --absent.")
    if "prior" in fixed and request.absent and "absent" not in fixed:
        raise ArgumentValueError("fixed", "of prior needs absent=NUMBER beside it with --absent: the two sum to one.")
    if "prior" in fixed:
        total, rest = float(fixed["prior"].sum()), 1 - float(fixed.get("absent", 0))
        if fixed["prior"].min() < 0 or abs(total - rest) > SUM_TOLERANCE:
            beside = " together with absent" if "absent" in fixed else ""
            problem = f"must be of probabilities that sum to one{beside} where it is the prior, but those of"
            raise ArgumentValueError("fixed", f"{problem} {given['prior']} sum to {total:.6g}.")
        fixed["prior"] *= rest / total
    return fixed


def _fixed(name: str, value: str, request: FitRequest, choice: FrameChoice, observed: Observed) -> np.ndarray:
    words, number = f"{name}={value}", _as_number(value) if name in NUMBERS else None
    if number is None:
        in_colour = choice.colour and name in ("background", "template")
        place = f"{value}::{name}" if is_result(Path(value)) else value
        array = _read(place, "fixed", grey=choice.grey or DEFAULT_GREY, colour=in_colour)
    else:
        array = np.array(number)
    if name == "background" and array.ndim >= 2:
        rows, columns = like_frames(array.shape[:2], observed.part, "fixed", words)
        array = array[rows, columns]
    expected = _shape_of(name, request, observed.images.shape[1:])
    if name == "noise_scale" and array.shape == observed.images.shape[3:]:
        expected = array.shape
    array = _shaped(array, expected, "fixed", words)
    array = array.astype(np.result_type(array, np.float32))
    if not np.isfinite(array).all():
        raise ArgumentValueError("fixed", f"must be of finite numbers, but {words} is not.")
    if name == "noise_scale" and not (array > 0).all():
        raise ArgumentValueError("fixed", f"must be above zero where it is the noise, but is {words}.")
    if name == "absent" and not 0 <= array < 1:
        raise ArgumentValueError("fixed", f"must be at least 0 and below 1 where it is a share, but is {words}.")
    return array


def _init(request: FitRequest, choice: FrameChoice, observed: Observed) -> np.ndarray:
    """A picture of the template, in its shape."""
    path = str(request.init)
    place = f"{path}::template" if is_result(Path(path)) else path
    array = _read(place, "init", grey=choice.grey or DEFAULT_GREY, colour=choice.colour)
    array = _shaped(array, _shape_of("template", request, observed.images.shape[1:]), "init", path)
    if not np.isfinite(array).all():
        raise ArgumentValueError("init", f"must be of finite numbers, but {path} is not.")
    return array.astype(np.result_type(array, np.float32))


def _shape_of(name: str, request: FitRequest, image_shape: tuple[int, ...]) -> tuple[int, ...]:
    stacked = (request.num_templates,) if request.num_templates > 1 else ()
    channels, transforms = image_shape[2:], allowed_transforms(turns=request.turns, mirrors=request.mirrors)
    if name == "background":
        return image_shape
    if name == "template":
        return (*stacked, *request.template_shape, *channels)
    if name in NUMBERS:
        return ()
    corners = image_shape[:2] if request.wrap else positions_shape(image_shape[:2], request.template_shape)
    return (*stacked, *((len(transforms),) if len(transforms) > 1 else ()), *corners)


def _shaped(array: np.ndarray, expected: tuple[int, ...], argument: str, name: object) -> np.ndarray:
    """An array in the shape that is expected, from which axes of size one may differ."""
    if [size for size in array.shape if size > 1] != [size for size in expected if size > 1]:
        shape = " x ".join(map(str, expected)) or "one number"
        given = " x ".join(map(str, array.shape)) or "one number"
        raise ArgumentValueError(
            argument, f"must be {shape} for these frames and this template, but {name} is {given}."
        )
    return array.reshape(expected)


def _read(path: str, argument: str, *, grey: str, colour: bool) -> np.ndarray:
    try:
        return read_array(path, grey=grey, colour=colour)
    except FramesError as error:
        raise FileError(error.problem, argument) from error


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
