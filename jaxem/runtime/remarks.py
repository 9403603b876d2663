"""What there is to say about frames or a result: a code for programs, a grade, a sentence, and how large the effect is.

Imports nothing slow.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any, NamedTuple


class Grade(StrEnum):
    """How much a remark matters."""

    NOTE = "note"  # something to know
    WARNING = "warning"  # do not believe this yet


class Remark(NamedTuple):
    """One thing to say; its string is its sentence.

    ======  =======  =====================================================================================
    field   type     meaning
    ======  =======  =====================================================================================
    code    str      names the kind of remark, the same in all versions: lower case, words joined by hyphens
    grade   `Grade`  a note or a warning
    text    str      a sentence or two: what is so, what it does to the result, what to do
    effect  float    how large it is, in the unit that the text speaks of; None where it has no size
            or None
    ======  =======  =====================================================================================
    """

    code: str
    grade: Grade
    text: str
    effect: float | None = None

    def __str__(self) -> str:
        return self.text

    def facts(self) -> dict[str, Any]:
        """The same for JSON, which knows neither numbers of NumPy nor those that are not finite."""
        effect = None if self.effect is None or not math.isfinite(self.effect) else float(self.effect)
        return {"code": self.code, "grade": str(self.grade), "text": self.text, "effect": effect}


def note(code: str, text: str, effect: float | None = None) -> Remark:
    """A remark that is something to know."""
    return Remark(code, Grade.NOTE, text, effect)


def warning(code: str, text: str, effect: float | None = None) -> Remark:
    """A remark that is a reason not to believe a result yet."""
    return Remark(code, Grade.WARNING, text, effect)
