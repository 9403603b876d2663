"""What a file says of its frames is believed, and what does not fit is said."""

import re

import numpy as np
import pytest
from format_cases import cases

from jaxem.io import FramesError
from jaxem.io.frames import read_part


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """All cases, written once."""
    return list(cases(tmp_path_factory.mktemp("formats")))


def what_is_wrong(case):
    """Nothing, or what was read or said instead of what is right."""
    try:
        part = read_part(case.path, **case.options)
    except FramesError as error:
        words = str(error)
        if not isinstance(case.expected, str):
            return f"refused: {words}"
        return None if re.search(case.expected, words) and words.isprintable() else f"said: {words}"
    if isinstance(case.expected, str):
        return f"read: {part.images.shape} {part.images.dtype}"
    expected = np.asarray(case.expected)
    if part.images.shape != expected.shape or part.images.dtype != expected.dtype:
        return f"read: {part.images.shape} {part.images.dtype}, not {expected.shape} {expected.dtype}"
    if np.abs(part.images.astype(float) - expected).max() > case.loss:
        return "read: other pixels"
    said = "; ".join(part.notes)
    said = re.sub("colour has become grey[^;]*;[^;]*", "", said)
    if case.note is None:
        return f"noted: {said}" if said else None
    return None if re.search(case.note, said) else f"noted: {said!r}"


def test_each_kind_is_read_right_or_named(everything):
    wrong = [f"{case.kind}, {case.name}: {problem}" for case in everything if (problem := what_is_wrong(case))]
    assert not wrong, "\n".join(wrong)
    assert len(everything) >= 100
    assert len({case.kind for case in everything}) == 12
