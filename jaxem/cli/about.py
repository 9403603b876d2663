"""What a result says of itself: of which frames it is, and what was asked for."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np

from jaxem.cli.claims import FittedFrames
from jaxem.cli.parameters import spelling


def about_frames(frames: FittedFrames) -> dict[str, Any]:
    """The frames by number and name, what was left out of them, and what was asked for."""
    about = {
        "source": _shown(frames.source),
        "frame_numbers": np.array(frames.numbers),
        "excluded": frames.excluded,
        "options": json.dumps({spelling(name): value for name, value in asdict(frames.request).items()}),
    }
    return about if frames.names is None else about | {"frame_names": [_shown(name) for name in frames.names]}


def _shown(text: str) -> str:
    """Names of files may hold what is no text."""
    return text.encode("utf-8", "backslashreplace").decode()
