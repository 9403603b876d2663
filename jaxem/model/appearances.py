"""What may stand in front of the background: each template, turned and mirrored as allowed.

An *appearance* is one of M templates under one of G transforms. Source: ``docs/model.md``, *Appearances*.
"""

from __future__ import annotations

from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxem.model.params import Params
from jaxem.ops.windows import Geometry
from jaxem.runtime.arguments import as_names
from jaxem.runtime.errors import ArgumentValueError

IDENTITY = ("identity",)
# Whether the template is mirrored left to right first, and how many quarter turns it is then turned by, as `np.rot90`.
MIRRORED_AND_TURNED = {
    "identity": (False, 0),
    "rot90": (False, 1),
    "rot180": (False, 2),
    "rot270": (False, 3),
    "flip": (True, 0),
    "flip90": (True, 1),
    "flip180": (True, 2),
    "flip270": (True, 3),
}


class Appearances(NamedTuple):
    """What may stand in front of the background, Z = M G of them, in internal units.

    =========  =======================  =====================================================
    field      shape                    meaning
    =========  =======================  =====================================================
    templates  (Z, C, h, w)             pixels
    supports   (Z, 1, h, w) or None     one where they hide the background, zero where not;
                                        None: everywhere one
    =========  =======================  =====================================================
    """

    templates: jax.Array
    supports: jax.Array | None

    @property
    def masked(self) -> jax.Array:
        """The templates, zero where they do not hide the background."""
        return self.templates if self.supports is None else self.supports * self.templates

    def entry(self, numbers: jax.Array | None) -> Appearances:
        """That of each image, by numbers (K,); None: the only one there is."""
        if numbers is None:
            return self
        return Appearances(self.templates[numbers], None if self.supports is None else self.supports[numbers])


def geometry_of(params: Params) -> Geometry:
    """Sizes, from parameters in internal units."""
    return Geometry(params.background.shape[-2:], params.template.shape[-2:], params.prior.shape[-2:])


def appearances_of(params: Params, transforms: tuple[str, ...]) -> Appearances:
    """All templates of parameters in internal units, under all transforms: template by template."""
    supports = None if params.opacity is None else _all_under(params.opacity, transforms)
    return Appearances(_all_under(params.template, transforms), supports)


def fold(sums: jax.Array, transforms: tuple[str, ...]) -> jax.Array:
    """Adjoint of what makes templates appearances: sums (Z, ..., h, w) over each template's appearances, (M, ...)."""
    if transforms == IDENTITY:
        return sums
    by_transform = sums.reshape(-1, len(transforms), *sums.shape[1:])
    return reduce(jnp.add, (_back(by_transform[:, number], name) for number, name in enumerate(transforms)))


def _all_under(templates: jax.Array, transforms: tuple[str, ...]) -> jax.Array:
    if transforms == IDENTITY:
        return templates
    each = jnp.stack([_under(templates, name) for name in transforms], axis=1)
    return each.reshape(-1, *each.shape[2:])


def _under(templates: jax.Array, name: str) -> jax.Array:
    is_mirrored, quarter_turns = MIRRORED_AND_TURNED[name]
    mirrored = jnp.flip(templates, -1) if is_mirrored else templates
    return jnp.rot90(mirrored, quarter_turns, axes=(-2, -1))


def _back(templates: jax.Array, name: str) -> jax.Array:
    is_mirrored, quarter_turns = MIRRORED_AND_TURNED[name]
    turned = jnp.rot90(templates, -quarter_turns, axes=(-2, -1))
    return jnp.flip(turned, -1) if is_mirrored else turned


def turned_back(window: jax.Array, number: jax.Array, transforms: tuple[str, ...]) -> jax.Array:
    """A window (..., h, w) as it would be if the template in it were not under this one of the transforms."""
    return lax.switch(number, [partial(_back, name=name) for name in transforms], window)


def numbers_of(transforms: tuple[str, ...]) -> jax.Array | None:
    """Names of transforms as their places in `MIRRORED_AND_TURNED`, (G,) int32; None: the identity alone."""
    if transforms == IDENTITY:
        return None
    known = list(MIRRORED_AND_TURNED)
    return jnp.array([known.index(name) for name in transforms], jnp.int32)


def as_transforms(transforms: Any) -> tuple[str, ...]:
    """Names of transforms, checked; one name stands for itself alone. `numbers_of` them and None are understood."""
    if transforms is None:
        return IDENTITY
    names = as_names(transforms)
    if hasattr(transforms, "dtype") and transforms.dtype.kind in "iu":
        names = tuple(dict(enumerate(MIRRORED_AND_TURNED)).get(number, "") for number in np.ravel(transforms).tolist())
    if not names or len(set(names)) < len(names) or not all(name in MIRRORED_AND_TURNED for name in names):
        known = ", ".join(MIRRORED_AND_TURNED)
        raise ArgumentValueError("transforms", f"must be one or more of {known}, each once, but are {transforms!r}.")
    return names
