"""What the parameters that a search looks for are made of, and what of them is known.

Source: ``docs/search.md``, *The general model*.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.model.appearances import IDENTITY
from jaxem.model.checks import expect_turns
from jaxem.model.frames import Frames
from jaxem.model.params import Params, blank_params, disc_support
from jaxem.ops.validation import as_real_array
from jaxem.ops.windows import Shape
from jaxem.runtime.arguments import as_count, as_template_shape
from jaxem.runtime.errors import ArgumentTypeError, ArgumentValueError

BOUNDARIES = ("inside", "wrap")
SUM_TOLERANCE = 1e-3  # of a prior that is given


@dataclass(frozen=True)
class Structure:
    """What `Params` to look for; a pytree in which the arrays are traced.

    ==============  ================================================================================
    field           meaning
    ==============  ================================================================================
    template_shape  (h, w) (static)
    num_templates   M; one has no axis of its own (static)
    has_absent      whether an image may be without a template (static)
    num_transforms  G, that a template may be under; one has no axis of its own (static)
    goes_round      whether windows go round the edges (static)
    opacity         the support, (h, w) or (M, h, w); None: a full rectangle
    known           values of the fields that are known, by their names
    init            a template to start from, in the shape of `Params.template`; None: nothing is known of it
    ==============  ================================================================================
    """

    template_shape: Shape
    num_templates: int = 1
    has_absent: bool = False
    num_transforms: int = 1
    goes_round: bool = False
    opacity: jax.Array | None = None
    known: Mapping[str, jax.Array] | None = None
    init: jax.Array | None = None

    @property
    def fixed(self) -> tuple[str, ...]:
        """Names of the fields that are known."""
        return tuple(sorted(self.known or ()))

    @property
    def is_labelled(self) -> bool:
        """Whether something that is known tells the templates apart, so that their order is given."""
        known = {"template", "prior"} & set(self.fixed)
        return bool(known) or (self.opacity is not None and self.opacity.ndim == 3)

    @property
    def has_order(self) -> bool:
        """Whether the templates come in the order of their shares of the images."""
        return self.num_templates > 1 and not self.is_labelled

    def blank(self, images: jax.Array) -> Params:
        """Parameters for images with a uniform prior; of the rest only shapes mean anything, and what is known."""
        blank = blank_params(
            images,
            self.template_shape,
            num_templates=self.num_templates,
            num_transforms=self.num_transforms,
            has_absent=self.has_absent,
            goes_round=self.goes_round,
            opacity=self.opacity,
        )
        return self.with_known(blank)

    def with_known(self, params: Params) -> Params:
        """Parameters with what is known in its place; where absence alone is, the prior is uniform on the rest."""
        known = self.known or {}
        params = params._replace(**known)
        if "absent" in known and "prior" not in known:
            left = (1 - known["absent"]) / params.prior.size
            params = params._replace(prior=jnp.broadcast_to(left, params.prior.shape))
        return params


jax.tree_util.register_dataclass(
    Structure,
    data_fields=["opacity", "known", "init"],
    meta_fields=["template_shape", "num_templates", "has_absent", "num_transforms", "goes_round"],
)


def as_structure(
    frames: Frames,
    template_shape: Any,
    *,
    num_templates: Any = 1,
    absent: bool = False,
    support: Any = None,
    transforms: tuple[str, ...] = IDENTITY,
    boundary: str = "inside",
    fixed: Mapping[str, Any] | None = None,
    init: Any = None,
) -> Structure:
    """The structure, checked against the images and itself.

    Raises:
        ValueError, TypeError: shapes or options that do not fit.
    """
    images, dtype = frames.pixels, frames.pixels.dtype
    template_shape = as_template_shape(template_shape, images.shape[1:3])
    expect_turns(transforms, template_shape)
    num_templates = as_count("num_templates", num_templates, at_least=1)
    if boundary not in BOUNDARIES:
        raise ArgumentValueError("boundary", f'must be "inside" or "wrap", but is {boundary!r}.')
    known = _as_known(fixed, dtype)
    if "absent" in known and not absent:
        raise ArgumentValueError("fixed", "holds `absent`, but without absent=True no image may be without a template.")
    if absent and "prior" in known and "absent" not in known:
        raise ArgumentValueError("fixed", "holds `prior` without `absent`, which sums to one with it; give both.")
    if "opacity" in known:
        raise ArgumentValueError("fixed", "holds `opacity`, which is given by `support`.")
    structure = Structure(
        template_shape,
        num_templates,
        bool(absent),
        len(transforms),
        boundary == "wrap",
        None if support is None else _as_opacity(support, template_shape, num_templates, dtype),
        known or None,
    )
    _expect_possible(known)
    unknown = replace(structure, known=None).blank(images)
    for name, value in known.items():
        shapes = [getattr(unknown, name).shape, *[images.shape[3:]] * (name == "noise_scale")]
        if value.shape not in shapes:
            expected = " or ".join(str(shape) for shape in dict.fromkeys(shapes))
            raise ArgumentValueError(f"fixed[{name!r}]", f"must have shape {expected}, but has shape {value.shape}.")
    return structure if init is None else replace(structure, init=_as_init(init, unknown.template, known))


def _as_init(init: Any, template: jax.Array, known: Mapping[str, jax.Array]) -> jax.Array:
    """A picture of the template, or of each, checked."""
    if "template" in known:
        raise ArgumentValueError("init", "starts from a template, but `fixed` holds the template itself; give one.")
    array = as_real_array("init", init)
    if array.shape != template.shape:
        raise ArgumentValueError("init", f"must have the template's shape {template.shape}, but has {array.shape}.")
    if not isinstance(array, jax.core.Tracer) and not np.isfinite(np.asarray(array)).all():
        raise ArgumentValueError("init", "must be finite.")
    return jnp.asarray(array, template.dtype)


def _as_known(fixed: Any, dtype: Any) -> dict[str, jax.Array]:
    if fixed is None:
        return {}
    if not isinstance(fixed, Mapping):
        problem = 'must be a mapping from names of fields to their values, such as {"background": pixels}, but is'
        raise ArgumentTypeError("fixed", f"{problem} {type(fixed).__name__}.")
    unknown = [name for name in fixed if name not in Params._fields]
    if unknown:
        raise ArgumentValueError("fixed", f"must hold fields of jaxem.Params, but holds {unknown[0]!r}.")
    return {name: jnp.asarray(as_real_array(f"fixed[{name!r}]", value), dtype) for name, value in fixed.items()}


def _expect_possible(known: Mapping[str, jax.Array]) -> None:
    """Raise where known values can be seen to be none that the model allows."""
    if any(isinstance(value, jax.core.Tracer) for value in known.values()):
        return
    values = {name: np.asarray(value, float) for name, value in known.items()}
    for name, value in values.items():
        if not np.isfinite(value).all():
            raise ArgumentValueError(f"fixed[{name!r}]", "must be finite.")
        if name == "noise_scale" and not (value > 0).all():
            raise ArgumentValueError(f"fixed[{name!r}]", "must be above zero.")
        if name == "absent" and not ((value >= 0) & (value < 1)).all():
            raise ArgumentValueError(f"fixed[{name!r}]", "must be at least 0 and below 1.")
        if name == "prior":
            total = value.sum() + values.get("absent", 0.0)
            if (value < 0).any() or abs(total - 1) > SUM_TOLERANCE:
                together = " with `absent`" if "absent" in values else ""
                problem = f"must not be negative and sum to one{together}, but the sum is {float(total):.4g}."
                raise ArgumentValueError(f"fixed[{name!r}]", problem)


def _as_opacity(support: Any, template_shape: Shape, num_templates: int, dtype: Any) -> jax.Array:
    """A support as 0 and 1, in a shape that fits."""
    if isinstance(support, str):
        if support != "disc":
            raise ArgumentValueError("support", f'must be "disc" or an array of 0 and 1, but is {support!r}.')
        return jnp.asarray(disc_support(template_shape), dtype)
    array = as_real_array("support", support)
    shapes = (template_shape, (num_templates, *template_shape))[: 1 + (num_templates > 1)]
    if array.shape not in shapes:
        raise ArgumentValueError("support", f"must have the template's shape {template_shape}, but has {array.shape}.")
    if not isinstance(array, jax.core.Tracer):
        numbers = np.asarray(array)
        if not np.isin(numbers, (0, 1)).all():
            raise ArgumentValueError("support", "must be 0 or 1 everywhere.")
        if not numbers.any(axis=(-2, -1)).all():
            raise ArgumentValueError("support", "must not be zero everywhere.")
    return jnp.asarray(array, dtype)
