"""The model by enumeration in float64 NumPy: every image, every corner, every pixel, straight from its definition.

What everything else is held against, by `self_test` on a user's machine and by the tests. Nothing here is shared with
the rest of the library: no transform, no cumulative sum, no expanded square, no centring.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

Shape = tuple[int, ...]


def corners_of(image_shape: Shape, template_shape: Shape) -> list[tuple[int, ...]]:
    """All corners, row by row."""
    return list(itertools.product(*(range(count) for count in positions_shape(image_shape, template_shape))))


def positions_shape(image_shape: Shape, template_shape: Shape) -> Shape:
    """(H - h + 1, W - w + 1)."""
    return tuple(n - m + 1 for n, m in zip(image_shape, template_shape, strict=True))


def window(corner: Sequence[int], template_shape: Shape) -> tuple[slice, ...]:
    """What the template covers there."""
    return tuple(slice(i, i + n) for i, n in zip(corner, template_shape, strict=True))


def scene(params: Any, corner: Sequence[int]) -> np.ndarray:
    """The image without noise."""
    image: np.ndarray = params.background.copy()
    image[window(corner, params.template.shape)] = params.template
    return image


def coverage(maps: np.ndarray, image_shape: Shape, template_shape: Shape) -> np.ndarray:
    """Sum of each map over the corners whose window holds a pixel, (K, P, Q) -> (K, H, W)."""
    covered = np.zeros((len(maps), *image_shape))
    for row, column in corners_of(image_shape, template_shape):
        rows, columns = window((row, column), template_shape)
        covered[:, rows, columns] += maps[:, row, column, None, None]
    return covered


def log_joint(images: np.ndarray, params: Any) -> np.ndarray:
    """ln p(X_k, d), (K, P, Q)."""
    out = np.empty((len(images), *params.prior.shape))
    with np.errstate(divide="ignore"):
        log_prior = np.log(params.prior)
    for row, column in corners_of(images.shape[1:], params.template.shape):
        squares = ((images - scene(params, (row, column))) ** 2).sum(axis=(1, 2))
        density = -squares / (2 * params.noise_scale**2)
        density -= images[0].size / 2 * np.log(2 * np.pi * params.noise_scale**2)
        out[:, row, column] = density + log_prior[row, column]
    return out


def log_likelihood(images: np.ndarray, params: Any) -> np.ndarray:
    """ln p(X_k), (K,)."""
    joint = log_joint(images, params)
    top = joint.max(axis=(1, 2))
    return top + np.log(np.exp(joint - top[:, None, None]).sum(axis=(1, 2)))


def posterior(images: np.ndarray, params: Any) -> np.ndarray:
    """q_k(d), (K, P, Q)."""
    return np.exp(log_joint(images, params) - log_likelihood(images, params)[:, None, None])


def best_corners(images: np.ndarray, params: Any) -> np.ndarray:
    """Hard EM's corners, (K, 2)."""
    joint = log_joint(images, params)
    return np.array([np.unravel_index(one.argmax(), one.shape) for one in joint])


def one_hot(corners: np.ndarray, shape: Shape) -> np.ndarray:
    """Corners (K, 2) as probabilities (K, P, Q)."""
    probs = np.zeros((len(corners), *shape))
    probs[np.arange(len(corners)), corners[:, 0], corners[:, 1]] = 1
    return probs


def elbo(images: np.ndarray, params: Any, probs: np.ndarray) -> float:
    """sum q (ln p(X, d) - ln q)."""
    joint = log_joint(images, params)
    held = probs > 0
    return float((probs[held] * (joint[held] - np.log(probs[held]))).sum())


def m_step(
    images: np.ndarray, probs: np.ndarray, template_shape: Shape, prior_smoothing: float = 0.0
) -> tuple[np.ndarray, np.ndarray, float, np.ndarray, np.ndarray]:
    """(template, background, variance, prior, visible): weighted means over every image, corner and pixel."""
    num_images, image_shape = len(images), images.shape[1:]
    prior = (probs.sum(axis=0) + prior_smoothing / probs[0].size) / (num_images + prior_smoothing)
    corners = corners_of(image_shape, template_shape)
    template = np.zeros(template_shape)
    visible_sum, visible = np.zeros(image_shape), np.zeros(image_shape)
    for k, d in itertools.product(range(num_images), corners):
        here, hidden = probs[(k, *d)], window(d, template_shape)
        template += here * images[k][hidden] / num_images
        seen = np.ones(image_shape)
        seen[hidden] = 0
        visible_sum += here * seen * images[k]
        visible += here * seen
    visible[visible < 1e-9 * num_images] = 0
    background = np.where(visible > 0, visible_sum / np.where(visible > 0, visible, 1), images.mean(axis=0))
    squares = 0.0
    for k, d in itertools.product(range(num_images), corners):
        residual = images[k] - background
        residual[window(d, template_shape)] = images[k][window(d, template_shape)] - template
        squares += probs[(k, *d)] * (residual**2).sum()
    return template, background, squares / images.size, prior, visible
