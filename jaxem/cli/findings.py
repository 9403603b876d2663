"""What was found of each frame, put together in words and in facts."""

from __future__ import annotations

from typing import Any

import numpy as np

from jaxem.model.params import Params, Positions
from jaxem.solvers.result import Fit


def describe_findings(
    positions: Positions, params: Params, transforms: tuple[str, ...]
) -> tuple[list[str], dict[str, Any]]:
    """Which share of the frames shows which template, turned how, and nothing.

    Args:
        positions: the likeliest of each frame.
        params: the model.
        transforms: that templates may be under, names.

    What every frame has alike is not said.

    Returns:
        Sentences, and the same as facts by name.
    """
    count = len(positions.corners)
    present = np.ones(count, bool) if positions.present is None else np.asarray(positions.present)
    lines: list[str] = []
    facts: dict[str, Any] = {}

    def shares(numbers: Any, how_many: int) -> list[float]:
        return [float(((np.asarray(numbers) == number) & present).mean()) for number in range(how_many)]

    if positions.template is not None:
        facts["template_shares"] = (by_number := shares(positions.template, len(params.template)))
        parts = [f"template {number} in {_percent(share)}" for number, share in enumerate(by_number)]
        lines.append(f"{', '.join(parts)} of the frames")
    if positions.transform is not None:
        by_name = dict(zip(transforms, shares(positions.transform, len(transforms)), strict=True))
        facts["transform_shares"] = by_name
        lines.append(f"{', '.join(f'{name} in {_percent(share)}' for name, share in by_name.items())} of the frames")
    if positions.present is not None:
        facts["absent_share"] = (absent := float(1 - present.mean()))
        lines.append(f"nothing in {_percent(absent)} of the frames ({count - int(present.sum())} of {count})")
    return lines, facts


def number_shown(fit: Fit) -> int:
    """The number of a frame that shows a template, if there is one."""
    return 0 if fit.present is None else int(np.argmax(fit.present))


def in_words(noise_scale: Any) -> str:
    """The noise, of all channels or of each."""
    return ", ".join(f"{number:.4g}" for number in np.ravel(noise_scale))


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
