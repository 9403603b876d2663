"""What ``jaxem fit`` claims of a result, and the sentence that it ends with."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from jaxem.assess.assessment import Assessment, Report, assess_fit
from jaxem.assess.detection import FEWEST_IMAGES, DetectionTest, detection_test
from jaxem.assess.remarks import LARGEST_P_VALUE, of_counted
from jaxem.cli.excluding import noise_by_pixels
from jaxem.cli.odd_data import Looked
from jaxem.cli.requests import FitRequest
from jaxem.cli.text import warn
from jaxem.runtime.remarks import Grade, Remark, note
from jaxem.search.restarts import DEFAULT_SEARCH, Restarts

# Of so few pixels the test takes less time than compiling it does, and is made beside the search.
FEW_PIXELS = 2**22
# What the search alone is told: a picture of the template may come from the frames that the test is made with.
OF_THE_SEARCH = ("init",)
TEST_KEY = 1  # what the key of the search is folded with for the test
SMALL_P_VALUE = 0.2  # above which it would be wrong to say that more frames may show something


@dataclass(frozen=True)
class FittedFrames:
    """What is fitted, and how.

    Args:
        looked: the frames in memory, and what of them is left out.
        request: what was asked for.
        model: what the library is told besides, by its own names.
        source: where the frames are.
    """

    looked: Looked
    request: FitRequest
    model: Mapping[str, Any]
    source: str

    @property
    def images(self) -> np.ndarray:
        """(n, H, W) or (n, H, W, C), pixel values of the frames in memory."""
        return self.looked.observed.images

    @property
    def numbers(self) -> Sequence[int]:
        """Of all frames in their file, (K,)."""
        numbers = self.looked.names.numbers
        return range(len(self.images)) if numbers is None else numbers

    @property
    def names(self) -> Sequence[str] | None:
        """Of their files, (K,), where each has its own."""
        return self.looked.observed.part.names

    @property
    def excluded(self) -> np.ndarray:
        """(K,), true for frames that are left out."""
        return self.looked.excluded

    def frame(self, number: int) -> np.ndarray:
        """One of all frames, NaN where it was not observed."""
        return self.looked.observed.frame(number)

    def assess(self, found: Restarts) -> Report:
        """A result with what may be claimed of it without a test."""
        model = self.model
        assessment: Assessment = jax.device_get(
            assess_fit(
                self.images,
                found,
                weights=model.get("weights"),
                frame_weights=model.get("frame_weights"),
                fixed=tuple(model.get("fixed", ())),
            )
        )
        return Report(found, assessment)

    def of_all(self, test: DetectionTest) -> DetectionTest:
        """A test of the frames in memory as one of all frames."""
        return test


class TestRun:
    """A detection test that is made in a thread of its own, from now on.

    Args:
        run: makes it.
    """

    def __init__(self, run: Callable[[], DetectionTest]) -> None:
        self.found: DetectionTest | None = None
        self.error: BaseException | None = None
        self.run = run
        self.thread = threading.Thread(target=self._work, daemon=True)
        self.thread.start()

    def _work(self) -> None:
        try:
            self.found = self.run()
        except BaseException as error:  # raised where the result is wanted
            self.error = error

    def result(self) -> DetectionTest:
        """Wait for it."""
        while self.thread.is_alive():
            self.thread.join(0.2)  # so that a request to stop is heard
        if self.error is not None:
            raise self.error
        assert self.found is not None
        return self.found


def search_options(request: FitRequest) -> dict[str, Any]:
    """What was asked for of a search, by its arguments."""
    return {
        "num_restarts": request.num_restarts,
        "hard": request.hard,
        "prior_smoothing": request.prior_smoothing,
        "max_iterations": request.max_iterations,
        "tolerance": request.tolerance,
        "search": None if request.plain else DEFAULT_SEARCH,
    }


def as_searched(request: FitRequest) -> int | str | None:
    """On how many frames to search, as the library calls it."""
    return None if request.sample == "all" else request.sample


def start_test(frames: FittedFrames, found: Restarts | None = None) -> TestRun | None:
    """The detection test that belongs to a request, begun; None where it was not asked for, or there are too few.

    Where a sample was enough to find what was found, one is enough for each part of the frames.
    """
    request = frames.request
    if not request.test or len(frames.images) < FEWEST_IMAGES:
        return None

    sample = None if found is None or found.sample is None else len(found.sample)

    def run() -> DetectionTest:
        found = detection_test(
            jax.random.fold_in(jax.random.key(request.seed), TEST_KEY),
            frames.images,
            request.template_shape,
            **search_options(request),
            sample=sample,
            **{name: value for name, value in frames.model.items() if name not in OF_THE_SEARCH},
        )
        host: DetectionTest = jax.device_get(jax.block_until_ready(found))
        return host

    return TestRun(run)


def all_remarks(report: Report, frames: FittedFrames) -> list[Remark]:
    """What is said of a result."""
    remarks = [*report.remarks(), *noise_by_pixels(frames.looked, report.found, frames.request)]
    count = len(report.best.corners)
    if frames.request.test and count < FEWEST_IMAGES:
        words = f"{count} frames are too few to test whether there is a template at all; it takes {FEWEST_IMAGES}."
        remarks.append(note("too-few-to-test", words, count))
    return remarks


def say_remarks(remarks: list[Remark]) -> list[str]:
    """Warn of what not to believe; give back lines on what is good to know."""
    for remark in remarks:
        if remark.grade == Grade.WARNING:
            warn(str(remark))
    return [f"note: {remark}" for remark in remarks if remark.grade == Grade.NOTE]


def test_failed(assessment: Assessment) -> bool:
    """Whether there was a test, and it found nothing."""
    return float(assessment.test.p_value) > LARGEST_P_VALUE


def verdict(report: Report, remarks: list[Remark]) -> str:
    """The result in one sentence for everybody."""
    assessment = report.assessment
    located, p_value = assessment.located, float(assessment.test.p_value)
    if test_failed(assessment):
        found, better = ("Not shown", "hardly better") if p_value < SMALL_P_VALUE else ("Not found", "no better")
        return (
            f"{found}: what was fitted explains frames that it has not seen {better} than noise does "
            f"(noise alone would look like this in {_in_a_hundred(p_value)} of 100 cases)."
        )
    counted = np.isfinite(assessment.residuals.by_image)
    confidence = of_counted(located, counted, np.asarray(located.confidence))
    count, whole = len(confidence), int(counted.sum())
    frames = f"all {whole} frames" if count == whole else f"{count} of {whole} frames"
    sure = f"; about {_in_a_hundred(float(confidence.mean()))} of 100 places are right" if count else ""
    alone = f"noise alone would look like this in {_in_a_hundred(p_value)} of 100 cases"
    alone = "whether noise alone would look like this was not tested" if np.isnan(p_value) else alone
    doubts = sum(remark.grade == Grade.WARNING for remark in remarks)
    if doubts:
        return f"Do not believe this yet, there {'is a warning' if doubts == 1 else 'are warnings'}; {alone}."
    return f"Found in {frames}{sure}, if the noise is as the model says; {alone}."


def _in_a_hundred(share: float) -> str:
    hundred = 100 * share
    if 99 < hundred < 99.95:
        return f"{hundred:.1f}"
    return f"{hundred:.0f}" if hundred >= 1 else f"{hundred:.1g}"
