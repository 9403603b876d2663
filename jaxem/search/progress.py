"""How far a search is, as it tells those who watch it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax

from jaxem.search.stages import StageKind
from jaxem.solvers.em import EMState
from jaxem.solvers.result import Status

STAGE_NAMES = {
    StageKind.ANNEAL: "annealing",
    StageKind.TRIAL: "trial start",
    StageKind.REINITIALIZE: "reinitializing",
    StageKind.SPLIT: "splitting",
    StageKind.RESEED: "reseeding",
    StageKind.RECENTRE: "recentring",
    StageKind.CENTRE: "centring",
    StageKind.REACH: "shifting",
    StageKind.CONVERGE: "converging",
}
PRIOR_STAGE, HARD_STAGE, PLAIN_STAGE, ALL_STAGE = "prior annealing", "hard EM", "EM", "all frames"
ENDING_STAGES = (STAGE_NAMES[StageKind.CONVERGE], HARD_STAGE, PLAIN_STAGE)  # which end a run, and say how


class Progress(NamedTuple):
    """How far a run is; what a callback is told after each chunk.

    ===========  ==================================================================================================
    field        meaning, unit
    ===========  ==================================================================================================
    start        number of the starting point that the run belongs to, from 0
    stage        "annealing", "trial start", "reinitializing", "splitting", "reseeding", "recentring", "centring",
                 "shifting" or "converging"; in hard EM "prior annealing" and "hard EM" in place of the last; after a
                 sample first "all frames"; without a search "EM"
    num_steps    E-steps of this stage so far
    num_left     E-steps that all stages together can still take, at most
    elbo         the objective, nats; while annealing with the log mass of the tempered posterior, which is too high
    gain         how much it rose in a step, the mean over the chunk, nats; NaN after the first
    ended        whether the stage is over
    status       `Status.RUNNING`, or how the run ended; annealing ends nothing
    is_better    whether the stage, now over, is the best so far; None while it is under way, of annealing, which goes
                 side by side, and of a run by itself
    num_images   images of the stage: those of the sample, or all; None: not known
    ===========  ==================================================================================================
    """

    start: int
    stage: str
    num_steps: int
    num_left: int
    elbo: float
    gain: float
    ended: bool
    status: Status
    is_better: bool | None
    num_images: int | None = None


class Reporter:
    """Turns states of runs into `Progress`, one call of the callback at a time.

    Args:
        callback: whom to tell, or None.
    """

    def __init__(self, callback: Callable[[Progress], None] | None):
        self.callback = callback
        self._left: dict[str, int] = {}
        self._last: dict[str, tuple[int, float]] = {}
        self._telling = threading.Lock()

    def expect(self, most_steps: Mapping[str, int]) -> None:
        """Count the E-steps of work to come, at most, by its name."""
        self._left |= most_steps

    def resume(self, name: str, state: EMState) -> None:
        """Go on from where a run is, which is told to nobody."""
        self._last[name] = _steps_and_elbo(state)

    def drop(self, name: str) -> None:
        """Nothing is to be done there."""
        self._left[name] = 0

    def tell(
        self,
        name: str,
        start: int,
        stage: str,
        state: EMState,
        *,
        ended: bool,
        is_better: bool | None = None,
        num_images: int | None = None,
    ) -> None:
        """Tell how far a run is."""
        before, elbo_before = self._last.get(name, (0, float("nan")))
        num_steps, elbo = self._last[name] = _steps_and_elbo(state)
        made = num_steps - before
        self._left[name] = 0 if ended else max(0, self._left.get(name, 0) - made)
        if self.callback is None or not (ended or made):
            return
        status = Status(int(state.status))
        if ended and status == Status.RUNNING and stage in ENDING_STAGES:
            status = Status.MAX_ITERATIONS
        gain = (elbo - elbo_before) / max(made, 1)
        with self._telling:
            left = sum(list(self._left.values()))
            self.callback(Progress(start, stage, num_steps, left, elbo, gain, ended, status, is_better, num_images))


def _steps_and_elbo(state: EMState) -> tuple[int, float]:
    steps, elbo = jax.device_get((state.num_steps, state.elbo.high))
    return int(steps), float(elbo)
