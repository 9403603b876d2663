"""What a search shows while it runs: plain lines, lines for machines, or nothing (extra ``app``).

With ``--json`` each line is an object with the keys ``event`` and, but for progress, ``text``, which says the same in
words; numbers that are not finite are null. The events and their other keys:

========= ==============================================================================================================
event     keys
========= ==============================================================================================================
frames    shape, [K, H, W]; dtype; notes, sentences on how the files were read; where they are read in passes, searched
          and in_memory, numbers of frames. Not of ``jaxem demo``
odd       remarks, each with code, grade, text and effect, on frames and pixels; of ``jaxem fit``, before the search
residuals the same on what the model leaves, before a second search
left out  frames, numbers of those that `--exclude-odd` leaves out
noise     remarks on the noise of the fit
resumed   path, the checkpoint gone on from, or null if there was none
progress  seconds since the beginning, and the fields of `jaxem.Progress`: start, from 1; stage; num_steps; num_left;
          elbo and gain, nats; ended; status, by its name; is_better; num_images
result    start, from 1, of the best; status; elbo, nats; noise_scale; contrast; effective_positions; p_value and
          agreement of the detection test; remarks, a list of objects with code, grade (note or warning), text, effect
wrote     paths, a list
verdict   none besides text
truth     of ``jaxem demo``
size      of ``jaxem size``, when a fit has ended: size, [h, w]; is_held_out, whether it was of half of the frames;
          log_likelihood of all frames, nats, or null
sizes     of ``jaxem size``: size, [h, w], or null if none can be told; sizes, a list of objects, the best first; gain
          and gain_error, nats; remarks, a list of objects with code, grade, text and effect
pixels    of ``jaxem info``: low, high, mean, noise, roughness (pixel values), at_low, at_high (shares)
odd       of ``jaxem info``: remarks; exclude_odd and mask_hot, what these would leave out in words, or null
template  of ``jaxem info``: height, width, difference, contrast, needed_contrast, verdict, probability
fit       of ``jaxem info``: memory and free, bytes; seconds, with ``--estimate``
places    of ``jaxem locate``: median_confidence, share_sure, median_log_evidence; shares of templates, turns, absence
========= ==============================================================================================================
"""

from __future__ import annotations

import math
import time
from collections import Counter
from typing import Any

from jaxem.cli.display import JsonLines, Lines
from jaxem.cli.text import say
from jaxem.runtime.text import plural
from jaxem.search.progress import ALL_STAGE, ENDING_STAGES, PRIOR_STAGE, STAGE_NAMES, Progress
from jaxem.search.stages import StageKind

ANNEALING, TRIAL = STAGE_NAMES[StageKind.ANNEAL], STAGE_NAMES[StageKind.TRIAL]
RECENTRING, RESEEDING = STAGE_NAMES[StageKind.RECENTRE], STAGE_NAMES[StageKind.RESEED]
NUMBERED = (RECENTRING, RESEEDING)  # of which there may be several
ORDINALS = ("first", "second", "third")
BEST_SO_FAR, NOT_THE_BEST = "best so far", "not the best"
SECONDS_BETWEEN_SIGNS = 10.0  # of life, which plain lines give while a stage goes on


class PlainDisplay(Lines):
    """A line when a stage ends, and now and then while it goes on."""

    def __init__(self, num_images: int) -> None:
        super().__init__(num_images)
        self.story, self.spoke = Story(num_images), self.began

    def note(self, event: str, *lines: str, **facts: Any) -> None:
        self.story.note(event)
        super().note(event, *lines, **facts)

    def progress(self, progress: Progress) -> None:
        lines = self.story.news(progress)
        if not lines and time.monotonic() - self.spoke >= SECONDS_BETWEEN_SIGNS:
            lines = [self.story.describe(progress)]
        for line in lines:
            self.spoke = time.monotonic()
            say(f"  {line}")


class JsonDisplay(JsonLines):
    """A JSON object a line."""

    def progress(self, progress: Progress) -> None:
        facts = {**progress._asdict(), "status": progress.status.name, "start": progress.start + 1}
        self.write({"event": "progress", "seconds": round(time.monotonic() - self.began, 3), **facts})


class Story:
    """Puts into words what became of each stage, which depends on those before it.

    Args:
        num_images: of which objectives are given the mean.
    """

    def __init__(self, num_images: int) -> None:
        self.num_images = num_images
        self.best_annealed = -math.inf
        self.num_ended: Counter[str] | None = Counter()  # None where some may have ended before this process began
        self.trials_told = False
        self.searched: int | None = None  # frames of what was told last

    def note(self, event: str) -> None:
        """Something that happened besides progress."""
        if event == "resumed":
            self.num_ended = None

    def news(self, progress: Progress) -> list[str]:
        """What is worth a line: that a stage has ended, and how. To be called with all progress, once."""
        return [*self._other_frames(progress), *self._of_stage(progress)]

    def _other_frames(self, progress: Progress) -> list[str]:
        """That a sample is searched now, or another one, or all frames are fitted."""
        count, before = self.images_of(progress), self.searched
        self.searched = count
        if count == (before or self.num_images):
            return []
        self.best_annealed, self.trials_told = -math.inf, False
        self.num_ended = None if self.num_ended is None else Counter()
        if progress.stage in (ALL_STAGE, PRIOR_STAGE, *ENDING_STAGES):  # a search begins with other stages
            whole = f"all {count}" if count == self.num_images else f"{count} of {self.num_images}"
            return [f"fitting {whole} frames"]
        why = "" if before is None or before > count else "what was found hardly stands out of noise; "
        return [f"{why}searching in {count} of {self.num_images} frames"]

    def _of_stage(self, progress: Progress) -> list[str]:
        if progress.stage == TRIAL:
            told, self.trials_told = self.trials_told, True
            return [] if told else ["annealing has lost the template; trial starts from single frames follow"]
        if not progress.ended:
            return []
        line = self.describe(progress)
        if progress.stage == ANNEALING:
            self.best_annealed = max(self.best_annealed, progress.elbo)
        if self.num_ended is not None:
            self.num_ended[progress.stage] += 1
        return [line]

    def describe(self, progress: Progress) -> str:
        """One line on how a stage ended, or where it is."""
        steps, stage = plural(progress.num_steps, "step"), self.stage(progress)
        state = f" ended after {steps}: {self.outcome(progress)}" if progress.ended else f", {steps} so far"
        elbo = progress.elbo / self.images_of(progress)
        return f"start {progress.start + 1:2}: {elbo:12.2f} nats an image, {stage}{state}"

    def images_of(self, progress: Progress) -> int:
        """How many images the objective is of: all, or those of a sample."""
        return progress.num_images or self.num_images

    def stage(self, progress: Progress) -> str:
        """The stage, with its number where there are several of its kind."""
        if progress.stage not in NUMBERED or self.num_ended is None:
            return progress.stage
        return " ".join([*ORDINALS[self.num_ended[progress.stage] :][:1], progress.stage])

    def outcome(self, progress: Progress) -> str:
        """What became of a stage that has ended; "" of one that has not."""
        if not progress.ended:
            return ""
        if progress.stage == ALL_STAGE:
            return "where the fit begins"
        if progress.stage in ENDING_STAGES:
            return progress.status.in_words
        if progress.stage == ANNEALING:  # the starts are annealed side by side, so that none knows of the others
            return BEST_SO_FAR if progress.elbo > self.best_annealed else NOT_THE_BEST
        return BEST_SO_FAR if progress.is_better else "no better, dropped"
