"""Which arrays a saved result may hold: their axes, their types, and the numbers that make sense in them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping

import numpy as np

from jaxem.model.appearances import MIRRORED_AND_TURNED
from jaxem.model.params import Positions, Posterior
from jaxem.model.predict import Located
from jaxem.search.stage_record import StageRecord
from jaxem.search.stages import StageKind
from jaxem.solvers.result import Status
from jaxem.solvers.schedule import Schedule

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
    "confidence": "K",
    "presence": "K",
    "gains": "K",
    "parts": "K",
    "by_pixel": "HWc:",
    "unseen": "HW",
    "by_image": "K",
    "offsets": "K",
    "edges": "K",
    "shapes": "z2",
    "bic": "z",
    "log_likelihood": "z",
    "held_out": "z",
    "held_out_error": "z",
    "touching": "z",
    "touching_by_chance": "z",
    "smallest": "2",
    "largest": "2",
    "sample": "k",
}
OF_POSITIONS, OF_POSTERIORS = {"template": "K", "transform": "K"}, {"absent": "K"}
OF_STAGES = dict.fromkeys(StageRecord._fields, "S")
SAME_SIZE = {"s": "c", "o": "m"}  # the noise may be one for all channels, the support one for all templates
OPTIONAL = "mgcso"
COUNTS = (
    "num_iterations", "num_scheduled", "num_agreeing", "num_steps", "num_sample_steps", "num_hidden", "num_positions",
    "num_images",
)  # fmt: skip
WHOLE_NUMBERS = (
    *COUNTS,
    "status",
    "kind",
    "number",
    "corners",
    "parts",
    "best_template",
    "best_transform",
    "transform",
    "transforms",
    "shapes",
    "smallest",
    "largest",
    "sample",
)
TRUTHS = ("at_noise_floor", "present", "is_complete", "is_best", "unseen")


def check_arrays(kind: type, arrays: Mapping[str, np.ndarray]) -> None:
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
    is_of_stages = kind is StageRecord or "stages" in name.split(".")
    special = OF_STAGES if is_of_stages else OF_POSITIONS if _are_positions(kind, name) else {}
    special = OF_POSTERIORS if kind is Posterior else special
    axes = re.sub("(.):", lambda found: found[1] if found[1] in there else "", special.get(field, AXES.get(field, "")))
    return "R" * name.startswith("runs.") + "".join(SAME_SIZE.get(axis, axis) for axis in axes)


def _sizes(kind: type, arrays: Mapping[str, np.ndarray], there: str) -> tuple[dict[str, int], int, str | None]:
    """The size of every axis, how many arrays agree on them, and of the next one what is wrong, if there is one."""
    sizes: dict[str, int] = {"2": 2}
    leading: tuple[int, ...] | None = None
    for how_far, (name, array) in enumerate(arrays.items()):
        axes = _axes(kind, name, there)
        if name.startswith("runs.") and "sample" in arrays:
            axes = axes.replace("K", "k")
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


def _are_positions(kind: type, name: str) -> bool:
    """Whether an array says what is in each image."""
    return kind in (Positions, Located) or "located" in name.split(".")


def _role(kind: type, name: str) -> str:
    """What an array holds: positions number their templates and transforms in fields named after those."""
    field = name.rpartition(".")[2]
    return (
        {"template": "best_template", "transform": "best_transform"}.get(field, field)
        if _are_positions(kind, name)
        else field
    )


def _check_dtype(kind: type, name: str, array: np.ndarray) -> None:
    field = name.rpartition(".")[2]
    is_whole = field in WHOLE_NUMBERS or (_are_positions(kind, name) and field == "template")
    expected = "iu" if is_whole else "b" if field in TRUTHS else "fiub"  # given by hand, any number may be whole
    if array.dtype.kind not in expected:
        raise ValueError(f"{name} holds {array.dtype}")


def _has_sense(field: str, array: np.ndarray, sizes: Mapping[str, int]) -> bool:
    if field == "status":
        return bool(np.isin(array, list(Status)).all())
    if field == "sample":
        return bool((array >= 0).all() and (array < sizes["K"]).all() and (np.diff(array) > 0).all())
    if field == "kind":
        return bool(np.isin(array, list(StageKind)).all())
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
