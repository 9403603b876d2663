"""Where the template is in images, by a model that was fitted to others or to these.

Source: ``docs/statistics.md``, *Places*.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxem.assess.assessment import Report
from jaxem.assess.evaluation import evaluate
from jaxem.model.appearances import IDENTITY, as_transforms
from jaxem.model.params import Params
from jaxem.model.predict import Located, predict
from jaxem.runtime.errors import ArgumentTypeError, ArgumentValueError
from jaxem.search.restarts import Restarts
from jaxem.solvers.result import Fit

PRIORS = ("flat", "learned")
UNIFORM_SHARE = 0.05  # of a learned prior, where nobody says of how many images


def locate(
    images: Any,
    model: Params | Fit | Restarts | Report,
    *,
    prior: str = "flat",
    fitted: bool = False,
    weights: Any = None,
    frame_weights: Any = None,
    transforms: Any = None,
    fixed: Any = (),
) -> Located:
    """Where the template is in each image, and how surely.

    Images that the model was fitted to are in its template, its background and its prior, noise and all. With
    ``fitted=True`` the share of each is taken out before it is looked at; else its confidence would be too high.

    Args:
        images: (K, H, W) or (K, H, W, C), pixel values; with `fitted` all those that the model was fitted to.
        model: a result, or its `Params`.
        prior: "flat", so that a place which no image had before can be found; or "learned", for images of which the
            template is known to be at the same places as often, smoothed so that no place is impossible.
        fitted: whether these are the images that the model was fitted to.
        weights: of the pixels, as for `fit`.
        frame_weights: of the images in the fit, as for `fit`; only with `fitted`.
        transforms: that a template may be under, as for `fit`; by default those of the result.
        fixed: names of what was known in the fit; only with `fitted`.

    Returns:
        `Located`.

    Raises:
        ValueError, TypeError: shapes or options that do not fit.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> images, corners = jaxem.simulate(jax.random.key(0), truth, 100)
        >>> found = jaxem.locate(images[50:], jaxem.fit(images[:50], truth))
        >>> bool((found.corners == corners[50:]).all())
        True

    Source: ``docs/statistics.md``, *Places*.
    """
    params, transforms = model_to_apply(model, prior, transforms, frame_weights, fitted=fitted)
    if fitted:
        found = evaluate(
            images,
            params,
            flat=prior == "flat",
            weights=weights,
            frame_weights=frame_weights,
            transforms=transforms,
            fixed=tuple(fixed),
        ).located
        arrays: Any = (None if part is None else np.asarray(part) for part in found)
        return Located(*arrays)
    return predict(images, params, weights=weights, transforms=transforms)


def model_to_apply(
    model: Any, prior: str, transforms: Any, frame_weights: Any, *, fitted: bool
) -> tuple[Params, tuple[str, ...]]:
    """The parameters to look at images with, their prior as asked for where the images are new, and the transforms.

    Raises:
        ValueError, TypeError: what was given is no model, or no prior, or of no use.
    """
    expect_prior(prior)
    best: Any = model.best if isinstance(model, Restarts | Report) else model
    if not isinstance(best, Fit | Params):
        given = type(model).__name__ + ("; images come before the model" if hasattr(model, "shape") else "")
        raise ArgumentTypeError("model", f"must be a jaxem.Fit, Restarts, Report or Params, but is {given}.")
    params = best.params if isinstance(best, Fit) else best
    if transforms is None:
        transforms = best.transforms if isinstance(best, Fit) else IDENTITY
    if fitted:
        return params, as_transforms(transforms)
    if frame_weights is not None:
        raise ArgumentValueError("frame_weights", "are of the fit; they are of no use without fitted=True.")
    share = 1.0
    if prior == "learned":
        share = 1 / (1 + len(best.corners)) if isinstance(best, Fit) else UNIFORM_SHARE
    return with_mixed_prior(params, share), as_transforms(transforms)


def expect_prior(prior: str) -> None:
    """Raise where it is none of those that `locate` knows."""
    if prior not in PRIORS:
        raise ArgumentValueError("prior", f'must be "flat" or "learned", but is {prior!r}.')


def with_mixed_prior(params: Params, share: float) -> Params:
    """Parameters of which so much of the prior is spread evenly over the places of each template."""
    prior = jnp.asarray(params.prior)
    stacked = np.ndim(params.template) - np.ndim(params.background)
    by_template = prior.reshape(*prior.shape[:stacked], -1)
    even = jnp.broadcast_to(jnp.mean(by_template, axis=-1, keepdims=True), by_template.shape).reshape(prior.shape)
    return params._replace(prior=(1 - share) * prior + share * even)
