"""A search on a random sample of the images, and the fit to all of them that follows: how large, which, and how.

Source: ``docs/search.md``, *Sample*.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxem.model.frames import Frames
from jaxem.model.params import Params, num_hypotheses, with_uniform_prior
from jaxem.model.workspace import Workspace
from jaxem.ops.trees import entry
from jaxem.ops.windows import Shape
from jaxem.runtime.arguments import as_count
from jaxem.runtime.errors import ArgumentValueError
from jaxem.search.stages import Starts
from jaxem.search.strategy import Search, plan_fit_to_all, run_stages
from jaxem.search.structure import Structure
from jaxem.solvers.options import EMOptions
from jaxem.solvers.result import Fit

AUTO = "auto"
# A sample has so many images for each template, or so many for each of its pixels in each channel, if those are more;
# and twice as many where images may be without a template.
FEWEST_IMAGES, IMAGES_PER_PIXEL, FACTOR_OF_ABSENCE = 400, 2, 2
# With less than so many times more images, all of them are searched, since there is little to gain; a sample is doubled
# up to a half of them.
LEAST_RATIO, LEAST_RATIO_AGAIN = 3, 2
SAMPLE_KEY = 2  # what the key is folded with to draw it
# What is found in a sample is trusted if its contrast is so many times what chance finds, 2 ln(number of hypotheses).
# Of searches that had failed it was 0.67 to 0.91 times, of templates off by a pixel, which is mended, 0.98 and more.
LEAST_RELATIVE_CONTRAST = 0.95
# The fit to all images begins so near that slow convergence would look like its end: it stops at this share of the
# tolerance.
TOLERANCE_SHARE = 0.5


def as_sample(sample: Any) -> int | str | None:
    """How large a sample was asked for: "auto", a number of images, or None for none."""
    if sample is None or isinstance(sample, str):
        if sample not in (None, AUTO):
            raise ArgumentValueError("sample", f'must be "auto", a number of images or None, but is {sample!r}.')
        return sample
    return as_count("sample", sample, at_least=1)


def sample_size(sample: Any, frames: Frames, structure: Structure) -> int | None:
    """Of how many images the sample is that was asked for, static; None where all of them are searched."""
    sample, num_images = as_sample(sample), num_counted(frames)
    if sample == AUTO:
        num_channels, several = math.prod(frames.pixels.shape[3:]), structure.num_templates
        return usual_size(num_images, structure.template_shape, num_channels, several, structure.has_absent)
    return sample if isinstance(sample, int) and sample < num_images else None


def usual_size(
    num_images: int, template_shape: Shape, num_channels: int = 1, num_templates: int = 1, has_absent: bool = False
) -> int | None:
    """The size of a sample of which nobody says it, as far as shapes tell; None for all of the images."""
    size = sufficient_size(template_shape, num_channels, num_templates, has_absent)
    return size if num_images >= LEAST_RATIO * size else None


def sufficient_size(
    template_shape: Shape, num_channels: int = 1, num_templates: int = 1, has_absent: bool = False
) -> int:
    """How many images a search takes, of however many."""
    num_pixels = math.prod(template_shape) * num_channels
    size = num_templates * max(FEWEST_IMAGES, IMAGES_PER_PIXEL * num_pixels)
    return size * (FACTOR_OF_ABSENCE if has_absent else 1)


def larger_sample(size: int, frames: Frames) -> int | None:
    """The next size to try; None for all images."""
    return 2 * size if num_counted(frames) >= LEAST_RATIO_AGAIN * 2 * size else None


def num_counted(frames: Frames) -> int:
    """How many images have a frame weight above zero, where the weights are known, outside of ``jit``; else all."""
    frame_weights = frames.frame_weights
    if frame_weights is None or frames.shards is not None or isinstance(frame_weights, jax.core.Tracer):
        return frames.num_given
    return int(np.count_nonzero(np.asarray(frame_weights)))


def draw_numbers(key: jax.Array, num_images: int, frame_weights: Any, size: int) -> jax.Array:
    """Numbers of so many images, (n,) int32, ascending; a larger sample holds the smaller ones of its key.

    Images of frame weight zero are drawn only where there are not enough others, and count for nothing then.
    """
    place = jax.random.uniform(jax.random.fold_in(key, SAMPLE_KEY), (num_images,), jnp.float32)
    if frame_weights is not None:
        place = jnp.where(frame_weights > 0, place, 1)
    return jnp.sort(jnp.argsort(place)[:size]).astype(jnp.int32)


def draw_sample(key: jax.Array, frames: Frames, size: int) -> tuple[Frames, jax.Array]:
    """So many images, and their numbers: see `draw_numbers`."""
    numbers = draw_numbers(key, frames.num_images, frames.frame_weights, size)
    if frames.shards is not None:
        numbers = frames.shards.replicate(numbers)
    return frames.take(numbers), numbers  # of shards so few that each device goes through all of them


def stands_out(contrast: Any, params: Params, num_images: int) -> bool:
    """Whether what was found in a sample of so many images has more contrast than chance gives, and can be trusted."""
    own_noise = params.template.size / num_images
    return float(contrast) >= LEAST_RELATIVE_CONTRAST * 2 * math.log(max(2, num_hypotheses(params))) + own_noise


def start_on_all(found: Params, structure: Structure) -> Starts:
    """Where the fit to all images begins: at what was found, but for the prior, of which a sample knows too little."""
    start = structure.with_known(with_uniform_prior(found))
    return Starts(jax.tree.map(lambda leaf: leaf[None], start), structure)


def options_on_all(options: EMOptions) -> EMOptions:
    """Those of the fit to all images."""
    return replace(options, tolerance=TOLERANCE_SHARE * options.tolerance)


def fit_all(
    workspace: Workspace, found: Params, structure: Structure, search: Search, options: EMOptions
) -> tuple[Fit, jax.Array]:
    """What was found in a sample fitted to all images, and the E-steps that it took, to be traced."""
    starts, options = start_on_all(found, structure), options_on_all(options)
    stages = plan_fit_to_all(search, workspace.images.frames.num_images, starts, options)
    runs, num_steps, _ = run_stages(workspace, starts, stages, options)
    return entry(runs, 0), num_steps
