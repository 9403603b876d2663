"""Steps before the first iteration, on an objective with fewer local maxima.

Source: ``docs/search.md``, *Search*.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import numpy as np

from jaxem.ops.printing import short_repr
from jaxem.ops.validation import as_real_array
from jaxem.runtime.arguments import as_count, as_fraction
from jaxem.runtime.errors import ArgumentTypeError, ArgumentValueError

UNIFORM_PRIOR_SMOOTHING = 1e4  # pseudo-counts an image that hold the prior uniform
FIRST_PRIOR_SMOOTHING, LAST_PRIOR_SMOOTHING = 10.0, 0.01  # pseudo-counts an image, of prior annealing


class Schedule(NamedTuple):
    """Steps before the first iteration, on an objective that is easier to maximise; see ``docs/search.md``, *Search*.

    The rest of them is left out when the posteriors are certain and have come to rest.

    ===================  ======  ===========================================================================
    field                shape   meaning
    ===================  ======  ===========================================================================
    inverse_temperature  (n,)    how much of the log likelihood ratio each E-step believes, above 0, up to 1
    prior_smoothing      (n,)    pseudo-counts per image in each M-step
    ===================  ======  ===========================================================================
    """

    inverse_temperature: jax.Array
    prior_smoothing: jax.Array

    def __repr__(self) -> str:
        return short_repr(self)

    @property
    def num_steps(self) -> int:
        """How many there are."""
        return len(self.prior_smoothing)


def annealing(num_steps: int = 20, *, start: float = 0.1, prior_steps: int = 60) -> Schedule:
    """Deterministic annealing: posteriors wide at first, and a prior that is held uniform first and learned then.

    The inverse temperature rises from `start` to 1 by equal factors, with the prior held uniform. Then, at 1, the
    pseudo-counts fall from ten times to a hundredth of the number of images (*prior annealing*).

    Args:
        num_steps: EM steps while the inverse temperature rises.
        start: the first inverse temperature, above 0, up to 1.
        prior_steps: EM steps of prior annealing.

    Returns:
        `Schedule` of NumPy arrays, for `fit`.

    Raises:
        ValueError, TypeError: numbers outside their ranges.

    Example:
        >>> import jaxem
        >>> jaxem.annealing(3, start=0.25, prior_steps=0).inverse_temperature
        array([0.25, 0.5 , 1.  ])

    Source: ``docs/search.md``, *Search*; N. Ueda and R. Nakano, Deterministic annealing EM algorithm, 1998.
    """
    num_steps = as_count("num_steps", num_steps, at_least=0)
    prior_steps = as_count("prior_steps", prior_steps, at_least=0)
    start = as_fraction("start", start)
    inverse_temperatures: Any = np.concatenate([np.geomspace(start, 1, num_steps), np.ones(prior_steps)])
    falling = np.geomspace(FIRST_PRIOR_SMOOTHING, LAST_PRIOR_SMOOTHING, prior_steps)
    smoothing: Any = np.concatenate([np.full(num_steps, UNIFORM_PRIOR_SMOOTHING), falling])
    return Schedule(inverse_temperatures, smoothing)


def as_schedule(schedule: Any, dtype: Any) -> Schedule:
    """A schedule's two rows of real numbers, one entry a step."""
    if not isinstance(schedule, Schedule):
        raise ArgumentTypeError("schedule", f"must be a jaxem.Schedule or None, but is {schedule!r}.")
    rows = []
    for field, value in zip(schedule._fields, schedule, strict=True):
        name = f"schedule.{field}"
        row = as_real_array(name, value)
        if row.ndim != 1 or row.shape != np.shape(schedule[0]):
            raise ArgumentValueError(
                name, f"must have shape (n,), as many as the other has, but has shape {row.shape}."
            )
        if not isinstance(row, jax.core.Tracer):
            values = np.asarray(row)
            is_fraction = field == "inverse_temperature"
            right = (values > 0) & (values <= 1) if is_fraction else (values >= 0) & np.isfinite(values)
            if not right.all():
                expected = "above 0 and at most 1" if is_fraction else "finite and not below 0"
                raise ArgumentValueError(name, f"must be {expected}, but holds {values[~right][0]}.")
        rows.append(row.astype(dtype))
    return Schedule(*rows)
