"""Where a search begins: read off the images, drawn, cut from single images, or given.

Source: ``docs/search.md``, *Restarts* and *Search*.
"""

from __future__ import annotations

import jax

from jaxem.model.params import Params, with_mean_outside
from jaxem.model.workspace import Workspace
from jaxem.ops.trees import set_entry
from jaxem.search.comparison import FEW_IMAGES
from jaxem.search.crops import find_crops, mean_crop_params
from jaxem.search.initialization import draw_params, read_off
from jaxem.search.splitting import split_params
from jaxem.search.stages import Starts
from jaxem.search.strategy import Search
from jaxem.search.structure import Structure


def starting_points(
    key: jax.Array, num_restarts: int, workspace: Workspace, structure: Structure, search: Search | None
) -> Starts:
    """So many, stacked along a leading axis; of a search the first is read off the images."""
    images = workspace.images
    blank = structure.blank(images.frames.pixels)

    def draw(key: jax.Array) -> Params:
        return structure.with_known(with_mean_outside(draw_params(key, workspace.moments, blank), images))

    drawn = jax.vmap(draw)(jax.random.split(key, num_restarts))
    if search is None and structure.init is None:
        return Starts(drawn, structure)
    read = with_mean_outside(read_off(images.frames, blank), images)
    if structure.init is not None:
        read = read._replace(template=structure.init)
    elif structure.num_templates > 1:  # which one place cannot tell apart
        read = read._replace(template=drawn.template[0])
    starts = set_entry(drawn, 0, structure.with_known(read))
    if search is None:
        return Starts(starts, structure)
    crops = find_crops(images, blank, search.crops_each_for(images.frames.num_images))
    if num_restarts > 1 and structure.num_templates == structure.num_transforms == 1:
        second = structure.with_known(
            with_mean_outside(mean_crop_params(images, workspace.totals, crops, blank), images)
        )
        starts = set_entry(starts, 1, second)
    if not search.splits or structure.num_templates > 1 or images.frames.num_images <= FEW_IMAGES:
        return Starts(starts, structure, crops)
    split, is_split = split_params(images, workspace.totals, crops, blank)
    known = jax.vmap(lambda params: structure.with_known(with_mean_outside(params, images)))
    return Starts(starts, structure, crops, known(split), is_split)
