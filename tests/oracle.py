"""The model by enumeration in float64 NumPy: every image, every corner, every pixel, straight from its definition.

Nothing here is shared with the library: no transform, no cumulative sum, no expanded square, no centring.
"""

import itertools

import numpy as np


def corners_of(image_shape, template_shape):
    return list(itertools.product(*(range(n - m + 1) for n, m in zip(image_shape, template_shape, strict=True))))


def positions_shape(image_shape, template_shape):
    return tuple(n - m + 1 for n, m in zip(image_shape, template_shape, strict=True))


def window(corner, template_shape):
    return tuple(slice(i, i + n) for i, n in zip(corner, template_shape, strict=True))


def scene(params, corner):
    """The image without noise."""
    image = params.background.copy()
    image[window(corner, params.template.shape)] = params.template
    return image


def log_joint(images, params):
    """ln p(X_k, d), (K, P, Q)."""
    out = np.empty((len(images), *params.prior.shape))
    with np.errstate(divide="ignore"):
        log_prior = np.log(params.prior)
    for d in corners_of(images.shape[1:], params.template.shape):
        squares = ((images - scene(params, d)) ** 2).sum(axis=(1, 2))
        density = -squares / (2 * params.noise_scale**2)
        density -= images[0].size / 2 * np.log(2 * np.pi * params.noise_scale**2)
        out[(slice(None), *d)] = density + log_prior[d]
    return out


def log_likelihood(images, params):
    joint = log_joint(images, params)
    top = joint.max(axis=(1, 2))
    return top + np.log(np.exp(joint - top[:, None, None]).sum(axis=(1, 2)))


def posterior(images, params):
    return np.exp(log_joint(images, params) - log_likelihood(images, params)[:, None, None])


def best_corners(images, params):
    joint = log_joint(images, params)
    return np.array([np.unravel_index(one.argmax(), one.shape) for one in joint])


def one_hot(corners, shape):
    probs = np.zeros((len(corners), *shape))
    probs[np.arange(len(corners)), corners[:, 0], corners[:, 1]] = 1
    return probs


def elbo(images, params, probs):
    joint = log_joint(images, params)
    held = probs > 0
    return (probs[held] * (joint[held] - np.log(probs[held]))).sum()


def m_step(images, probs, template_shape, prior_smoothing=0.0):
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
