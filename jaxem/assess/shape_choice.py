"""How large a template to look for: sizes ranked by what they explain and what they cost, and held against frames.

Source: ``docs/statistics.md``, *Size of the template*.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxem.assess.shape_fits import SizedFit, SizedFits
from jaxem.assess.shape_search import Shape, search_shapes
from jaxem.assess.summaries import choice_lines
from jaxem.ops.printing import short_repr, summarized
from jaxem.ops.validation import as_images, as_key
from jaxem.runtime.arguments import as_count, as_template_shape
from jaxem.runtime.errors import ArgumentTypeError, ArgumentValueError
from jaxem.runtime.remarks import Remark, note, warning
from jaxem.runtime.text import listed

FEWEST_IMAGES = 4  # of which half can be held out
MOST_SIZES = 64  # heights or widths; so many golden section search and neighbours can tell apart
# Standard errors by which held-out frames must prefer something to count.
SURE_OF_TEMPLATE, SURE_OF_SIZE = 3.0, 2.0
SURE_BIC = 10.0  # a difference that is called very strong evidence
# The template touches an edge more often than by chance: by so many standard deviations, and by so much.
SURE_OF_TOUCHING, LEAST_TOUCHING_EXCESS = 4.0, 0.1
MOST_LISTED = 4


class ShapeChoice(NamedTuple):
    """How templates of several sizes explain a stack of frames, the best first.

    ===================  ========  ==============================================================================
    field                shape     meaning, unit
    ===================  ========  ==============================================================================
    shapes               (N, 2)    height and width of each template that was fitted, the lowest BIC first
    bic                  (N,)      h w C ln K - 2 ln L; the size that has the lowest is chosen
    log_likelihood       (N,)      ln L of all frames, with one prior probability for all corners of all sizes, nats
    held_out             (N,)      log likelihood of each half of the frames by a fit of the other half, nats; NaN of
                                   sizes that the BIC puts far behind
    held_out_error       (N,)      standard error of its difference from that of the size chosen, nats
    touching             (N,)      share of the frames in which the template is at an edge of the frame
    touching_by_chance   (N,)      the same if all corners were equally likely
    gain                 ()        the same of the size chosen less that without any template, nats
    gain_error           ()        its standard error, nats
    smallest             (2,)      height and width below which none was asked for
    largest              (2,)      and above which none was asked for
    num_images           ()        K
    is_complete          ()        whether the search for the size ended before the fits did
    ===================  ========  ==============================================================================
    """

    shapes: np.ndarray
    bic: np.ndarray
    log_likelihood: np.ndarray
    held_out: np.ndarray
    held_out_error: np.ndarray
    touching: np.ndarray
    touching_by_chance: np.ndarray
    gain: np.ndarray
    gain_error: np.ndarray
    smallest: np.ndarray
    largest: np.ndarray
    num_images: np.ndarray
    is_complete: np.ndarray

    def __repr__(self) -> str:
        return short_repr(self)

    def summary(self) -> str:
        """What a person wants to know of it, in a few lines, with all `remarks()`."""
        return summarized(self, self.gain, choice_lines)

    @property
    def shape(self) -> Shape:
        """Height and width of the size chosen."""
        height, width = self.shapes[0].tolist()
        return height, width

    @property
    def has_template(self) -> bool:
        """Whether held-out frames are explained better with the template than without any."""
        return bool(self.gain > SURE_OF_TEMPLATE * self.gain_error)

    @property
    def not_excluded(self) -> list[Shape]:
        """The sizes that are as good as the one chosen, itself first: for all that held-out frames and the BIC tell."""
        behind = self.held_out[0] - self.held_out
        close = (behind <= 0) | (self.bic - self.bic[0] < SURE_BIC)
        places = np.flatnonzero((behind <= SURE_OF_SIZE * self.held_out_error) & close)
        return [(height, width) for height, width in self.shapes[places].tolist()]

    def remarks(self) -> list[Remark]:
        """What to know before one believes it: notes, and warnings where no size can be told."""
        return list(_remarks(self))


def choose_shape(
    key: jax.Array,
    images: Any,
    shapes: Iterable[Shape],
    *,
    num_fits: int = 20,
    num_held_out: int = 4,
    num_restarts: int | None = None,
    absent: bool = False,
    weights: Any = None,
    callback: Callable[[SizedFit, bool], None] | None = None,
) -> ShapeChoice:
    """Find out how large the template is.

    Templates of several sizes are fitted and ranked by the Bayesian information criterion, of which only the template's
    pixels count as parameters:

        BIC = h w C ln K - 2 ln L

    The best few are fitted to each half of the frames once more and judged by the other half. All fits run on one
    compiled program. Not to be traced.

    Args:
        key: random key.
        images: (K, H, W) or, with channels, (K, H, W, C), pixel values, K at least 4; integers are promoted.
        shapes: heights and widths to choose from, such as ``itertools.product(range(20, 41), range(20, 41))``. Of more
            than `num_fits` those are fitted to which golden section search leads.
        num_fits: how many sizes are fitted at most.
        num_held_out: how many of them are judged by held-out frames.
        num_restarts: as for `fit_restarts`.
        absent: whether an image may show no template; which share of them, the largest size tells.
        weights: of the pixels, as for `fit_restarts`.
        callback: called with each `SizedFit` and whether it was of half of the frames, as soon as it is there.

    Returns:
        `ShapeChoice`; its `remarks()` say how far to believe it.

    Raises:
        ValueError, TypeError: shapes, dtypes or options that do not fit.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> template = jnp.array([[2.0, -2, 2], [-2, 2, -2], [2, 2, -2]])
        >>> truth = jaxem.Params(template, jnp.zeros((8, 9)), jnp.array(0.5), jnp.full((6, 7), 1 / 42))
        >>> images, _ = jaxem.simulate(jax.random.key(0), truth, 100)
        >>> jaxem.choose_shape(jax.random.key(1), images, [(2, 2), (3, 3), (3, 4)], num_held_out=2).shape
        (3, 3)

    Source: ``docs/statistics.md``, *Size of the template*.
    """
    pixels = as_images(images, with_channels=True)
    key, num_images = as_key(key), len(pixels)
    candidates = as_shapes(shapes, pixels.shape[1:3])
    num_fits = as_count("num_fits", num_fits, at_least=1)
    num_held_out = as_count("num_held_out", num_held_out, at_least=1)
    if num_images < FEWEST_IMAGES:
        raise ArgumentValueError("images", f"must be {FEWEST_IMAGES} at least: half of them are held out.")
    smallest, largest = _corners_of(candidates)
    fit_key, half_key = jax.random.split(key)
    fits = SizedFits(
        fit_key, pixels, smallest, largest, weights=weights, absent=bool(absent), num_restarts=num_restarts
    )
    num_channels = 1 if pixels.ndim == 3 else pixels.shape[3]
    tried: dict[Shape, SizedFit] = {}

    def bic_of(shape: Shape) -> float:
        return shape[0] * shape[1] * num_channels * np.log(num_images) - 2 * float(tried[shape].log_likelihood.sum())

    def score(shape: Shape) -> float:
        tried[shape] = fits.fit(shape)
        if callback is not None:
            callback(tried[shape], False)
        bic = bic_of(shape)
        return -bic if np.isfinite(bic) else -np.inf

    _, is_complete = search_shapes(score, candidates, num_fits)
    ranking = sorted(tried, key=lambda shape: np.nan_to_num(bic_of(shape), nan=np.inf))

    one_half = np.zeros(num_images, bool)
    one_half[np.asarray(jax.random.permutation(half_key, num_images))[: num_images // 2]] = True
    held_out, without = np.full((len(ranking), num_images), np.nan), np.empty(num_images)
    for fitted in (one_half, ~one_half):
        without[~fitted] = fits.log_likelihood_without_template(fitted)[~fitted]
        for place, shape in enumerate(ranking[:num_held_out]):
            half = fits.fit(shape, fitted)
            held_out[place, ~fitted] = half.log_likelihood[~fitted]
            if callback is not None:
                callback(half, True)
    gain, gain_error = _sum_and_error(held_out[0] - without)
    return ShapeChoice(
        np.array(ranking, np.int32),
        np.array([bic_of(shape) for shape in ranking]),
        np.array([tried[shape].log_likelihood.sum() for shape in ranking]),
        held_out.sum(axis=1),
        _sum_and_error(held_out - held_out[:1])[1],
        np.array([tried[shape].touching for shape in ranking]),
        np.array([fits.touching_by_chance(shape) for shape in ranking]),
        gain,
        gain_error,
        np.array(smallest, np.int32),
        np.array(largest, np.int32),
        np.array(num_images, np.int32),
        np.array(is_complete),
    )


def as_shapes(shapes: Any, image_shape: tuple[int, ...]) -> list[Shape]:
    """Sizes to choose from, each once."""
    try:
        candidates = [(operator.index(height), operator.index(width)) for height, width in shapes]
    except (TypeError, ValueError):
        raise ArgumentTypeError("shapes", f"must be pairs of whole numbers (h, w), but are {shapes!r:.60}.") from None
    if not candidates:
        raise ArgumentValueError("shapes", "must hold at least one (h, w), but hold none.")
    found = list(dict.fromkeys(as_template_shape(shape, image_shape) for shape in candidates))
    for side, name in enumerate(("heights", "widths")):
        count = len({shape[side] for shape in found})
        if count > MOST_SIZES:
            raise ArgumentValueError("shapes", f"hold {count} {name}, and at most {MOST_SIZES} can be told apart.")
    return found


def _corners_of(shapes: list[Shape]) -> tuple[Shape, Shape]:
    heights, widths = zip(*shapes, strict=True)
    return (min(heights), min(widths)), (max(heights), max(widths))


def _sum_and_error(per_image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums over the last axis, and their standard errors."""
    count = per_image.shape[-1]
    return per_image.sum(axis=-1), np.sqrt(count) * per_image.std(axis=-1, ddof=1)


def _remarks(choice: ShapeChoice) -> Iterator[Remark]:
    chosen = in_words(choice.shape)
    if not choice.has_template:
        yield warning(
            "no-template-of-any-size",
            f"Held-out frames are explained no better with the best template than without any "
            f"({float(choice.gain):+.3g} nats, standard error "
            f"{float(choice.gain_error):.2g}): no size can be told, not even {chosen}. "
            "There is no template of these sizes, or half of the frames are too few to learn it.",
            float(choice.gain),
        )
        return
    yield from _about_the_ends(choice)
    excess = float(choice.touching[0] - choice.touching_by_chance[0])
    by_chance = float(choice.touching_by_chance[0])
    spread = (by_chance * (1 - by_chance) / float(choice.num_images)) ** 0.5
    if excess > max(LEAST_TOUCHING_EXCESS, SURE_OF_TOUCHING * spread):
        yield warning(
            "size-meets-frame-edge",
            f"The template of {chosen} is at an edge of the frame in {100 * float(choice.touching[0]):.3g} % of the "
            f"frames, by chance it would be in {100 * by_chance:.3g} %: a box as large cannot follow its object over "
            "the edge. Take frames with more around the object, or a smaller template.",
            float(choice.touching[0]),
        )
    preferred = int(np.nanargmax(choice.held_out))
    ahead = float(choice.held_out[preferred] - choice.held_out[0])
    if ahead > SURE_OF_SIZE * float(choice.held_out_error[preferred]):
        yield warning(
            "size-not-confirmed",
            f"Held-out frames prefer {in_words(choice.shapes[preferred])} to {chosen}, which the BIC prefers, by "
            f"{ahead:.3g} nats (standard error {float(choice.held_out_error[preferred]):.2g}).",
            ahead,
        )
    others = [in_words(shape) for shape in choice.not_excluded[1:]]
    if others:
        yield note(
            "size-uncertain",
            f"{listed(others, MOST_LISTED)} may be as good as {chosen}: held-out frames do not tell them apart.",
            len(others),
        )
    if not choice.is_complete:
        yield warning(
            "size-search-unfinished",
            f"{len(choice.bic)} fits were too few to try all neighbours of {chosen}; ask for a narrower "
            "range or for more fits.",
            len(choice.bic),
        )


def _about_the_ends(choice: ShapeChoice) -> Iterator[Remark]:
    """Whether the size is at an end of what was asked for."""
    for side, name in enumerate(("height", "width")):
        size, low, high = (int(ends[side]) for ends in (choice.shapes[0], choice.smallest, choice.largest))
        if low == high:
            continue
        for end, which, beyond in ((low, "smallest", "smaller"), (high, "largest", "larger")):
            if size == end:
                yield warning(
                    "size-at-end-of-range",
                    f"The best {name}, {size}, is the {which} that was asked for; ask for {beyond} ones as well.",
                    size,
                )


def in_words(shape: Iterable[int]) -> str:
    """Height x width."""
    return " x ".join(str(int(size)) for size in shape)
