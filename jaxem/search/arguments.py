"""What a search is given, checked.

Source: ``docs/search.md``, *Restarts*.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jax.sharding import Mesh

from jaxem.model.appearances import IDENTITY, as_transforms
from jaxem.model.frames import Frames, as_frames
from jaxem.runtime.arguments import as_count
from jaxem.runtime.errors import ArgumentTypeError
from jaxem.search.strategy import Search
from jaxem.search.structure import Structure, as_structure
from jaxem.solvers.options import EMOptions, em_options

NUM_RESTARTS_OF_SEARCH, NUM_PLAIN_RESTARTS = 2, 10


def as_task(
    images: Any,
    template_shape: Any,
    *,
    num_templates: int = 1,
    absent: bool = False,
    support: Any = None,
    boundary: str = "inside",
    weights: Any = None,
    frame_weights: Any = None,
    transforms: Any = IDENTITY,
    fixed: Mapping[str, Any] | None = None,
    init: Any = None,
    mesh: Mesh | None = None,
    **options: Any,
) -> tuple[Frames, Structure, EMOptions]:
    """What `fit_restarts` is given, checked: the images, what to look for in them, and how."""
    frames, names = as_frames(images, weights, frame_weights, mesh), as_transforms(transforms)
    structure = as_structure(
        frames,
        template_shape,
        num_templates=num_templates,
        absent=absent,
        support=support,
        transforms=names,
        boundary=boundary,
        fixed=fixed,
        init=init,
    )
    options |= {"transforms": names, "fixed": structure.fixed, "num_shards": frames.num_shards}
    return frames, structure, em_options(frames.pixels, **options)


def as_num_restarts(num_restarts: Any, search: Any) -> int:
    """How many starting points, of which a search needs few."""
    if not (search is None or isinstance(search, Search)):
        raise ArgumentTypeError("search", f"must be a jaxem.Search or None, but is {search!r}.")
    if num_restarts is None:
        num_restarts = NUM_PLAIN_RESTARTS if search is None else NUM_RESTARTS_OF_SEARCH
    return as_count("num_restarts", num_restarts, at_least=1)
