"""The model by enumeration in float64 NumPy: every image, every hypothesis, every pixel, straight from its definition.

What everything else is held against, by `self_test` on a user's machine and by the tests. Nothing here is shared with
the rest of the library: no transform, no cumulative sum, no expanded square, no centring.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

Shape = tuple[int, ...]
IDENTITY = ("identity",)


class Hypothesis(NamedTuple):
    """A template under a transform at a corner.

    =========  =================  =====================================================================
    field      shape              meaning
    =========  =================  =====================================================================
    place      in the prior       where its probability stands
    template   ()                 number of the template
    source     (h, w)             which pixel of the template, row by row, each pixel in the window shows
    pixels     (h, w), (h, w)     rows and columns of the image in the window
    support    (h, w)             whether the template hides the background there
    =========  =================  =====================================================================
    """

    place: tuple[int, ...]
    template: int
    source: np.ndarray
    pixels: tuple[np.ndarray, np.ndarray]
    support: np.ndarray


def corners_of(image_shape: Shape, template_shape: Shape) -> list[tuple[int, ...]]:
    """All corners of windows inside, row by row."""
    return list(itertools.product(*(range(count) for count in positions_shape(image_shape, template_shape))))


def positions_shape(image_shape: Shape, template_shape: Shape) -> Shape:
    """(H - h + 1, W - w + 1)."""
    return tuple(n - m + 1 for n, m in zip(image_shape, template_shape, strict=True))


def window(corner: Sequence[int], template_shape: Shape) -> tuple[slice, ...]:
    """What a template inside the image covers there."""
    return tuple(slice(i, i + n) for i, n in zip(corner, template_shape, strict=True))


def coverage(maps: np.ndarray, image_shape: Shape, template_shape: Shape) -> np.ndarray:
    """Sum of each map over the corners whose window holds a pixel, (K, P, Q) -> (K, H, W)."""
    covered = np.zeros((len(maps), *image_shape))
    for row, column in corners_of(image_shape, template_shape):
        rows, columns = window((row, column), template_shape)
        covered[:, rows, columns] += maps[:, row, column, None, None]
    return covered


def hypotheses(params: Any, transforms: Sequence[str] = IDENTITY) -> Iterator[Hypothesis]:
    """All of them."""
    image_shape, templates = params.background.shape[:2], _templates(params)
    opacity = getattr(params, "opacity", None)
    for number, template in enumerate(templates):
        shape = template.shape[:2]
        shows = (
            np.ones(shape, bool) if opacity is None else np.broadcast_to(opacity, (len(templates), *shape))[number] > 0
        )
        for which, name in enumerate(transforms):
            source = np.arange(shape[0] * shape[1]).reshape(shape)
            source = np.fliplr(source) if name.startswith("flip") else source
            source = np.rot90(source, int("".join(filter(str.isdigit, name)) or 0) // 90)
            for row, column in itertools.product(*map(range, params.prior.shape[-2:])):
                place: tuple[int, ...] = (row, column)
                place = (which, *place) if len(transforms) > 1 else place
                place = (number, *place) if _has_stack(params) else place
                rows, columns = np.indices(source.shape)
                pixels = (row + rows) % image_shape[0], (column + columns) % image_shape[1]
                yield Hypothesis(place, number, source, pixels, shows.ravel()[source])


def _has_stack(params: Any) -> bool:
    return bool(params.template.ndim > params.background.ndim)


def _templates(params: Any) -> np.ndarray:
    """(M, h, w) or (M, h, w, C)."""
    return params.template if _has_stack(params) else params.template[None]


def scene_at(params: Any, corner: Sequence[int]) -> np.ndarray:
    """The image without noise, with the one template there is, a full rectangle, inside it."""
    image: np.ndarray = params.background.copy()
    image[window(corner, params.template.shape)] = params.template
    return image


def scene(params: Any, hypothesis: Hypothesis) -> np.ndarray:
    """The image without noise."""
    image: np.ndarray = params.background.copy()
    template = _templates(params)[hypothesis.template]
    shown = template.reshape(-1, *template.shape[2:])[hypothesis.source]
    support = hypothesis.support.reshape(*hypothesis.support.shape, *[1] * (shown.ndim - 2))
    image[hypothesis.pixels] = np.where(support, shown, image[hypothesis.pixels])
    return image


def log_density(images: np.ndarray, clean: np.ndarray, params: Any, weights: Any = None) -> np.ndarray:
    """ln p of each image (K,) if it showed this scene; pixels of weight zero say nothing."""
    weights = np.broadcast_to(1.0 if weights is None else weights, images.shape[:3])
    weights = weights.reshape(*weights.shape, *[1] * (images.ndim - 3))
    variance = params.noise_scale**2 / np.where(weights > 0, weights, 1)
    terms = -((np.where(weights > 0, images, 0) - clean) ** 2) / (2 * variance) - np.log(2 * np.pi * variance) / 2
    return np.where(weights > 0, terms, 0).reshape(len(images), -1).sum(axis=1)


def log_joint(images: np.ndarray, params: Any, weights: Any = None, transforms: Sequence[str] = IDENTITY) -> np.ndarray:
    """ln p(X_k, d), (K, *prior.shape)."""
    out = np.empty((len(images), *params.prior.shape))
    with np.errstate(divide="ignore"):
        log_prior = np.log(params.prior)
    for hypothesis in hypotheses(params, transforms):
        density = log_density(images, scene(params, hypothesis), params, weights)
        everywhere: Any = (slice(None), *hypothesis.place)
        out[everywhere] = density + log_prior[hypothesis.place]
    return out


def log_absent(images: np.ndarray, params: Any, weights: Any = None) -> np.ndarray:
    """ln p(X_k, no template), (K,); minus infinity where there always is one."""
    absent = getattr(params, "absent", None)
    if absent is None:
        return np.full(len(images), -np.inf)
    with np.errstate(divide="ignore"):
        return log_density(images, params.background, params, weights) + np.log(absent)


def log_likelihood(
    images: np.ndarray, params: Any, weights: Any = None, transforms: Sequence[str] = IDENTITY
) -> np.ndarray:
    """ln p(X_k), (K,)."""
    joint = log_joint(images, params, weights, transforms).reshape(len(images), -1)
    joint = np.concatenate([joint, log_absent(images, params, weights)[:, None]], axis=1)
    top = joint.max(axis=1)
    return top + np.log(np.exp(joint - top[:, None]).sum(axis=1))


def posterior(images: np.ndarray, params: Any, weights: Any = None, transforms: Sequence[str] = IDENTITY) -> np.ndarray:
    """q_k(d), (K, *prior.shape); what is missing to one is the probability that there is no template."""
    evidence = log_likelihood(images, params, weights, transforms)
    return np.exp(log_joint(images, params, weights, transforms) - evidence.reshape(-1, *[1] * params.prior.ndim))


def best_corners(images: np.ndarray, params: Any) -> np.ndarray:
    """Hard EM's corners, (K, 2)."""
    joint = log_joint(images, params)
    return np.array([np.unravel_index(one.argmax(), one.shape) for one in joint])


def one_hot(corners: np.ndarray, shape: Shape) -> np.ndarray:
    """Corners (K, 2) as probabilities (K, P, Q)."""
    probs = np.zeros((len(corners), *shape))
    probs[np.arange(len(corners)), corners[:, 0], corners[:, 1]] = 1
    return probs


def elbo(
    images: np.ndarray,
    params: Any,
    probs: np.ndarray,
    absent: np.ndarray | None = None,
    weights: Any = None,
    frame_weights: Any = 1.0,
    transforms: Sequence[str] = IDENTITY,
) -> float:
    """sum n q (ln p(X, d) - ln q)."""
    joint = log_joint(images, params, weights, transforms).reshape(len(images), -1)
    probs = probs.reshape(len(images), -1)
    if absent is not None:
        joint = np.concatenate([joint, log_absent(images, params, weights)[:, None]], axis=1)
        probs = np.concatenate([probs, absent[:, None]], axis=1)
    terms = np.zeros_like(probs)
    held = probs > 0
    terms[held] = probs[held] * (joint[held] - np.log(probs[held]))
    return float((np.broadcast_to(frame_weights, len(images)) * terms.sum(axis=1)).sum())


class Pictures(NamedTuple):
    """All that a scene needs of parameters."""

    template: np.ndarray
    background: np.ndarray


class MStep(NamedTuple):
    """Weighted means over every image, hypothesis and pixel; and where the background was seen.

    ==========  ======================================================================
    field       meaning
    ==========  ======================================================================
    template    NaN where it was never seen or hides nothing
    background  the mean of what was observed where it was never seen, NaN if nothing was
    variance    of each channel, (C,)
    prior       as it is
    absent      as it is
    visible     weight with which the background was seen, (H, W)
    ==========  ======================================================================
    """

    template: np.ndarray
    background: np.ndarray
    variance: np.ndarray
    prior: np.ndarray
    absent: float
    visible: np.ndarray


def m_step(
    images: np.ndarray,
    probs: np.ndarray,
    params: Any,
    prior_smoothing: float = 0.0,
    absent: np.ndarray | None = None,
    weights: Any = None,
    frame_weights: Any = 1.0,
    transforms: Sequence[str] = IDENTITY,
) -> MStep:
    """What maximises the expected log joint; of the parameters the shapes and the opacity are used."""
    images = images if images.ndim == 4 else images[..., None]
    num_images, image_shape, channels = len(images), images.shape[1:3], images.shape[3]
    counts = np.broadcast_to(np.asarray(frame_weights, float), num_images)
    weights = np.broadcast_to(1.0 if weights is None else weights, images.shape[:3])
    images = np.where(weights[..., None] > 0, images, 0)
    absent = np.zeros(num_images) if absent is None else absent
    total = counts.sum() + prior_smoothing
    for_absence = 0.0 if params.absent is None else prior_smoothing / 2
    prior = np.tensordot(counts, probs, 1) + (prior_smoothing - for_absence) / probs[0].size

    every = list(hypotheses(params, transforms))
    num_templates, (height, width) = len(_templates(params)), every[0].source.shape
    shown, shown_weight = np.zeros((num_templates, height * width, channels)), np.zeros((num_templates, height * width))
    visible_sum, visible = np.zeros((*image_shape, channels)), np.zeros(image_shape)

    def masses(k: int) -> Iterator[tuple[Hypothesis, float]]:
        for one in every:
            yield one, counts[k] * probs[(k, *one.place)]

    for k in range(num_images):
        visible += counts[k] * absent[k] * weights[k]
        visible_sum += counts[k] * absent[k] * weights[k][..., None] * images[k]
        for one, mass in masses(k):
            here, kept = weights[k][one.pixels], one.source[one.support]
            shown[one.template][kept] += mass * (here[..., None] * images[k][one.pixels])[one.support]
            shown_weight[one.template][kept] += mass * here[one.support]
            seen = weights[k].copy()
            seen[one.pixels] = np.where(one.support, 0, seen[one.pixels])
            visible += mass * seen
            visible_sum += mass * seen[..., None] * images[k]
    visible[visible < 1e-9 * max(total, 1)] = 0
    with np.errstate(invalid="ignore"):
        template = (shown / shown_weight[..., None]).reshape(num_templates, height, width, channels)
        counted = counts[:, None, None] * weights
        observed = (counted[..., None] * images).sum(axis=0) / counted.sum(axis=0)[..., None]
        background = np.where(visible[..., None] > 0, visible_sum / visible[..., None], observed)
    template = template if _has_stack(params) else template[0]
    found = Pictures(template, np.nan_to_num(background))  # nothing counts where nothing was seen
    errors = np.zeros(channels)
    for k in range(num_images):
        squares = weights[k][..., None] * np.where(weights[k][..., None] > 0, images[k] - found.background, 0) ** 2
        errors += counts[k] * absent[k] * squares.sum(axis=(0, 1))
        for one, mass in masses(k):
            if mass > 0:
                residual = images[k] - scene(found, one)
                seen = weights[k][..., None]
                errors += mass * (seen * np.where(seen > 0, residual, 0) ** 2).sum(axis=(0, 1))
    num_pixels = (counts * (weights > 0).sum(axis=(1, 2))).sum()
    if params.background.ndim == 2:
        template, background = template[..., 0], background[..., 0]
    absent_share = float(((counts * absent).sum() + for_absence) / total)
    return MStep(template, background, errors / num_pixels, prior / total, absent_share, visible)
