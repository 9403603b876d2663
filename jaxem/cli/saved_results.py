"""Results that an earlier fit has saved, opened for commands that apply them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxem.assess.assessment import Report
from jaxem.cli.frame_files import FileError
from jaxem.io.results import load
from jaxem.model.appearances import as_transforms
from jaxem.model.checks import as_params
from jaxem.model.params import Params
from jaxem.search.restarts import Restarts
from jaxem.solvers.result import Fit


def load_result(path: Path, *kinds: type, argument: str) -> Any:
    """A saved result of one of these kinds.

    Raises:
        FileError: there is none.
    """
    try:
        found = load(path)
    except ValueError as error:
        raise FileError(str(error), argument) from error
    except OSError as error:
        raise FileError(f"{path} cannot be opened ({error.strerror or error}).", argument) from error
    if not isinstance(found, kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise FileError(f"{path} holds {type(found).__name__}, and what is needed is {names}.", argument)
    return found


class Model(NamedTuple):
    """A model that was found.

    ==========  ================================================
    field       meaning
    ==========  ================================================
    params      its `Params`
    transforms  that its templates may be under, names
    found       the `Fit` that it is of, or the `Params` themselves
    ==========  ================================================
    """

    params: Params
    transforms: tuple[str, ...]
    found: Fit | Params

    @property
    def num_channels(self) -> int | None:
        """Of its images; None: they are grey."""
        shape = np.shape(self.params.background)
        return shape[2] if len(shape) == 3 else None

    @property
    def template_shape(self) -> tuple[int, int]:
        """(h, w)."""
        height, width = np.shape(self.params.template)[int(self.num_templates is not None) :][:2]
        return height, width

    @property
    def num_templates(self) -> int | None:
        """How many templates; None: one, without an axis of its own."""
        params = self.params
        return len(params.template) if np.ndim(params.template) > np.ndim(params.background) else None


def load_model(path: Path) -> Model:
    """The model in the saved result that --model names.

    Raises:
        FileError: there is none, or many.
    """
    found = load_result(path, Report, Restarts, Fit, Params, argument="model")
    return model_of(found.best if isinstance(found, Restarts | Report) else found, path, "model")


def model_of(found: Fit | Params, path: Path, argument: str) -> Model:
    """The model in a result that was loaded.

    Raises:
        FileError: it is one of many, stacked by ``vmap``, or does not say how its templates are turned.
    """
    many = f"{path} holds many results along a leading axis; save one of them."
    if isinstance(found, Fit) and np.ndim(found.elbo):
        raise FileError(many, argument)
    params, numbers = (found.params, found.transforms) if isinstance(found, Fit) else (found, None)
    stacked = np.ndim(params.template) - np.ndim(params.background)
    if numbers is None and np.ndim(params.background) == 2 and np.ndim(params.prior) > 2 + stacked:
        problem = f"{path} does not say how its templates may be turned; give a result of jaxem fit or jaxem.fit."
        raise FileError(problem, argument)
    transforms = as_transforms(numbers)
    try:
        as_params(params, None, transforms=transforms)
    except ValueError as error:
        raise FileError(many if np.ndim(params.background) > 2 else f"{path}: {error}", argument) from None
    return Model(params, transforms, found)
