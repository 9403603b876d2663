"""Results that an earlier fit has saved, opened for commands that apply them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from jaxem.io.results import load
from jaxem.model.params import Params
from jaxem.runtime.errors import ArgumentValueError
from jaxem.search.restarts import Restarts
from jaxem.solvers.result import Fit


class ResultError(ArgumentValueError):
    """A saved result cannot be used; says which and why in one sentence.

    Args:
        problem: the sentence.
        argument: which one names the file.
    """

    def __init__(self, problem: str, argument: str) -> None:
        super().__init__(argument, problem)

    def __str__(self) -> str:
        return self.problem


def load_result(path: Path, *kinds: type, argument: str) -> Any:
    """A saved result of one of these kinds.

    Raises:
        ResultError: there is none.
    """
    try:
        found = load(path)
    except ValueError as error:
        raise ResultError(str(error), argument) from error
    except OSError as error:
        raise ResultError(f"{path} cannot be opened ({error.strerror or error}).", argument) from error
    if not isinstance(found, kinds):
        names = " or ".join(kind.__name__ for kind in kinds)
        raise ResultError(f"{path} holds {type(found).__name__}, and what is needed is {names}.", argument)
    return found


def load_params(path: Path) -> Params:
    """The parameters in the saved result that --model names.

    Raises:
        ResultError: there are none, or many.
    """
    found = load_result(path, Restarts, Fit, Params, argument="model")
    found = found.best if isinstance(found, Restarts) else found
    params: Params = found.params if isinstance(found, Fit) else found
    expect_single(params, path, "model")
    return params


def expect_single(params: Params, path: Path, argument: str) -> None:
    """Refuse results that ``vmap`` has stacked.

    Raises:
        ResultError: there are many.
    """
    if np.ndim(params.noise_scale):
        raise ResultError(f"{path} holds many results along a leading axis; save one of them.", argument)
