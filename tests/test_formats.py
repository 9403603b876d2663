"""What a file says of its frames is believed, and what does not fit is said."""

import re

import numpy as np
import pytest
from format_cases import cases

from jaxem.io import FramesError
from jaxem.io.frames import open_frames, read_part


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


def in_chunks(case):
    """The frames of a case read a few at a time, twice over, the second time from the end."""
    with open_frames(case.path, **case.options) as opened:
        count = opened.shape[0]
        size = max(1, count // 3)
        starts = range(0, count, size)
        forwards = [opened.read(start, min(start + size, count)) for start in starts]
        backwards = [opened.read(start, min(start + size, count)) for start in reversed(starts)]
        assert all(chunk.dtype == opened.dtype and chunk.flags.owndata for chunk in forwards)
        assert np.concatenate(forwards).shape == opened.shape
        np.testing.assert_array_equal(np.concatenate(forwards), np.concatenate(backwards[::-1]))
        return np.concatenate(forwards)


def test_each_kind_is_read_in_chunks_as_at_once(everything):
    num_read, only_then = 0, []
    for case in everything:
        if isinstance(case.expected, str):
            with pytest.raises(FramesError, match=case.expected):
                in_chunks(case)
            continue
        whole = read_part(case.path, **case.options).images
        try:
            chunks = in_chunks(case)
        except FramesError as error:  # what only the frames tell, which a header cannot
            only_then.append(str(error))
            continue
        assert chunks.dtype == whole.dtype, case
        np.testing.assert_array_equal(chunks, whole, err_msg=f"{case.kind}, {case.name}")
        num_read += 1
    assert num_read > 60
    told = re.compile("in colour among grey|fewer frames than it claims")
    assert [words for words in only_then if not told.search(words)] == []
