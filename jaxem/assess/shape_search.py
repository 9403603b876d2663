"""Which of many sizes to try, when there is time for few of them. Imports nothing slow."""

from __future__ import annotations

from collections.abc import Callable, Collection

Shape = tuple[int, int]
GOLDEN_SHARE = 0.382  # of an interval, where golden section search looks first


def search_shapes(score: Callable[[Shape], float], shapes: Collection[Shape], most: int) -> tuple[Shape, bool]:
    """Look for the shape of the highest score, trying few: all where they are few, else side by side.

    Heights of a middle width by golden section, then widths of the best height, then the neighbours of the best, until
    none is better. Along each side the score is taken to have one maximum: a template that is too small lacks a part of
    its object, and each row that is too many costs something.

    Args:
        score: of a shape; called at most once for each.
        shapes: to choose from.
        most: how many to try at most.

    Returns:
        The best that was tried, and whether the search ended by itself.

    Example:
        >>> from jaxem.assess.shape_search import search_shapes
        >>> all_of_them = [(h, w) for h in range(20, 41) for w in range(20, 41)]
        >>> search_shapes(lambda shape: -abs(shape[0] - 33) - abs(shape[1] - 24), all_of_them, most=25)
        ((33, 24), True)
    """
    known: dict[Shape, float] = {}
    allowed = set(shapes)

    def tried(shape: Shape) -> float:
        if shape not in known:
            if len(known) == most:
                raise _OutOfTriesError
            known[shape] = score(shape)
        return known[shape]

    def best() -> Shape:
        return max(known, key=known.__getitem__)

    try:
        if len(allowed) <= most:
            for shape in sorted(allowed):
                tried(shape)
            return best(), True
        widths = sorted({width for _, width in allowed})
        middle = widths[len(widths) // 2]
        _along([shape for shape in sorted(allowed) if shape[1] == middle], tried)
        _along([shape for shape in sorted(allowed) if shape[0] == best()[0]], tried)
        while True:
            before = best()
            for shape in _neighbours(before, allowed):
                tried(shape)
            if best() == before:
                return before, True
    except _OutOfTriesError:
        return best(), False


class _OutOfTriesError(Exception):
    pass


def _along(line: list[Shape], score: Callable[[Shape], float]) -> None:
    """Golden section search of a line of shapes."""
    first, last = 0, len(line) - 1
    while last - first > 2:
        step = max(1, round(GOLDEN_SHARE * (last - first)))
        low, high = first + step, max(last - step, first + step + 1)
        if score(line[low]) >= score(line[high]):
            last = high - 1
        else:
            first = low + 1
    for shape in line[first : last + 1]:
        score(shape)


def _neighbours(shape: Shape, allowed: Collection[Shape]) -> list[Shape]:
    """The next smaller and the next larger ones along each side."""
    found = []
    for side in (0, 1):
        line = sorted(other for other in allowed if other[1 - side] == shape[1 - side])
        place = line.index(shape)
        found += line[max(place - 1, 0) : place] + line[place + 1 : place + 2]
    return found
