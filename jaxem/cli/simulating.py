"""The work of ``jaxem simulate``: frames drawn from a result, or from the demonstration's truth."""

from __future__ import annotations

from pathlib import Path

import jax
import numpy as np

from jaxem.cli.demo import IMAGE_SHAPE, demo_frames
from jaxem.cli.frame_files import check_frame_names, check_frames_output
from jaxem.cli.memory import drawing_memory
from jaxem.cli.outputs import expect_new
from jaxem.cli.requests import FRAMES_PER_SECOND
from jaxem.cli.saved_results import load_model
from jaxem.cli.tables import write_table
from jaxem.cli.text import describe_frames, say
from jaxem.io.writers import frame_names, is_single_file, pixels_for, write_frames
from jaxem.model import sampling
from jaxem.model.appearances import IDENTITY
from jaxem.model.params import Positions
from jaxem.runtime.arguments import as_count, as_seed
from jaxem.runtime.compilation_cache import cache_compiled_programs
from jaxem.runtime.errors import ArgumentValueError
from jaxem.runtime.files import output_folder
from jaxem.runtime.resources import available_memory
from jaxem.runtime.text import bytes_in_words

MOST_IMAGES = 10**8


def simulate(model: Path | None, num_images: int, seed: int, out: Path, *, overwrite: bool = False) -> int:
    """Write frames, and a table of the positions that they were drawn with."""
    as_count("num_images", num_images, at_least=1, at_most=MOST_IMAGES)
    as_seed(seed)
    cache_compiled_programs()
    given = None if model is None else load_model(model)
    needed = drawing_memory(num_images, IMAGE_SHAPE if given is None else np.shape(given.params.background))
    if needed > available_memory():
        problem = f"{num_images} needs {bytes_in_words(needed)} of memory, more than is free."
        raise ArgumentValueError("num_images", problem)
    channels = None if given is None else given.num_channels
    names = frame_names(range(num_images))
    check_frames_output(out, channels=channels, overwrite=overwrite)
    check_frame_names(out, names, overwrite)
    single = is_single_file(out)
    table = out.with_name(f"{out.stem}-corners.csv") if single else out / "corners.csv"
    expect_new([table], overwrite)
    if given is None:
        images, _, corners = demo_frames(seed, num_images)
        positions = Positions(corners)  # type: ignore[arg-type]
    else:
        drawn = sampling.simulate_positions(jax.random.key(seed), given.params, num_images, transforms=given.transforms)
        images, positions = np.asarray(drawn[0]), drawn[1]
    transforms = IDENTITY if given is None else given.transforms
    limits = float(images.min()), float(images.max())
    pixels = pixels_for(out, images.shape, images.dtype, limits, lambda: limits)
    with output_folder(table.parent) as folder:
        place = folder / out.name if single else folder
        write_frames(place, images, pixels, images.shape, names, FRAMES_PER_SECOND)
        write_table(folder / table.name, range(num_images), positions, transforms)
    say(f"wrote {describe_frames(images)} to {out}, {pixels.describe()}, and {table}")
    return 0
