"""Many runs from several starting points, and the best of them.

EM converges to the local maximum it starts near. Source: ``docs/search.md``, *Restarts*.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from jaxem.model.appearances import IDENTITY
from jaxem.model.frames import Frames
from jaxem.model.workspace import Workspace, make_workspace
from jaxem.ops.derivatives import forward_only
from jaxem.ops.printing import html_repr, short_repr, summarized
from jaxem.ops.sharding import as_shards
from jaxem.ops.trees import entry
from jaxem.ops.validation import as_key
from jaxem.ops.windows import Shape
from jaxem.runtime.compilation import jit
from jaxem.runtime.remarks import Grade, Remark
from jaxem.search.arguments import as_num_restarts, as_task
from jaxem.search.choosing import best_run, order_templates
from jaxem.search.side_by_side import as_group_size, run_side_by_side
from jaxem.search.stage_record import StageRecord
from jaxem.search.stages import Starts
from jaxem.search.starting import starting_points
from jaxem.search.strategy import Search, run_search
from jaxem.search.structure import Structure
from jaxem.search.subsampling import AUTO, draw_sample, fit_all, sample_size
from jaxem.solvers.diagnostics import Diagnostics, diagnose, remarks
from jaxem.solvers.options import EMOptions
from jaxem.solvers.result import Fit, fit_lines, kept_of_shards
from jaxem.solvers.summaries import agreement_line, warning_lines

DEFAULT_SEARCH = Search()


class Restarts(NamedTuple):
    """What several runs found, and how far to trust it.

    ===========  =====================================================================================
    field        meaning
    ===========  =====================================================================================
    best         the `Fit` of the highest finite objective (the first run if none is finite); of a search on a
                 sample what became of that run on all images
    runs         a `Fit` whose every array has a leading axis, one entry a run; of the images of the sample
    diagnostics  `Diagnostics` of the best among the runs
    stages       `StageRecord` of the search, in hard EM of the soft search before; None: there was none
    sample       (n,) int32, numbers of the images that were searched, ascending; None: all were
    ===========  =====================================================================================
    """

    best: Fit
    runs: Fit
    diagnostics: Diagnostics
    stages: StageRecord | None = None
    sample: jax.Array | None = None

    def __repr__(self) -> str:
        return short_repr(self)

    def of_first(self, num_images: int) -> Restarts:
        """As `Fit.of_first`."""
        return self._replace(best=self.best.of_first(num_images), runs=self.runs.of_first(num_images))

    def summary(self) -> str:
        """What a person wants to know of it, in a few lines; `warnings()` included."""
        return summarized(self, self.best.elbo, _own_lines)

    def _repr_html_(self) -> str | None:
        return html_repr(self, lambda: self.best.elbo)

    def remarks(self) -> list[Remark]:
        """What there is to know of the best run, and reasons not to trust it; of a finished result.

        `jaxem.assess_fit` has more to say, by looking at the images again.
        """
        return remarks(self.best, self.diagnostics, len(self.runs.elbo))

    def warnings(self) -> list[str]:
        """The reasons not to trust it alone, a sentence each."""
        return [str(remark) for remark in self.remarks() if remark.grade == Grade.WARNING]


def restarts_lines(found: Restarts, contrast: float) -> list[str]:
    """What the best run found, and whether others agree."""
    searched = [] if found.sample is None else [f"searched in {len(found.sample)} of {len(found.best.corners)} frames"]
    return [*fit_lines(found.best, contrast), *searched, agreement_line(len(found.runs.elbo), found.diagnostics)]


def _own_lines(found: Restarts) -> list[str]:
    return [*restarts_lines(found, float(found.diagnostics.contrast)), *warning_lines(found.warnings())]


def fit_restarts(
    key: jax.Array,
    images: Any,
    template_shape: Shape,
    *,
    num_restarts: int | None = None,
    hard: bool = False,
    prior_smoothing: Any = 0.0,
    max_iterations: int = 50,
    tolerance: Any = 1e-3,
    batch_size: int | None = None,
    group_size: int | None = None,
    search: Search | None = DEFAULT_SEARCH,
    sample: int | str | None = AUTO,
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
) -> Restarts:
    """Look for the parameters of the highest objective, from several starting points.

    By default the starting points, the first of them read off the images, are annealed and compared, and the best is
    run to convergence: see `Search`. With ``search=None`` every start is run by itself, and run i is
    ``fit(images, random_params(jax.random.split(key, num_restarts)[i], images, template_shape))``.

    Args:
        key: random key.
        images: (K, H, W) or, with channels, (K, H, W, C), pixel values; integers are promoted.
        template_shape: (h, w) (static).
        num_restarts: how many starting points; by default 2, or 10 without a search (static).
        hard: as for `fit`; the annealing is soft all the same.
        prior_smoothing: as for `fit`.
        max_iterations: as for `fit`; those of annealing come on top.
        tolerance: as for `fit`.
        batch_size: as for `fit`.
        group_size: runs made side by side by ``vmap``, until the slowest of them ends, where there is no search; by
            default one on a CPU, from whose cache more would fall out, and all of them on other devices (static).
        search: how to look for the highest local maximum and not the nearest, or None (static).
        sample: on how many images to look, drawn at random; what is found there is then fitted to all. By default on
            as many as a search needs, where there are many more; None: on all (static).
        num_templates: M, of which each image shows one; they come in the order of their shares of the images (static).
        absent: whether an image may show none (static).
        support: where in its rectangle the template is: "disc" for the ellipse that touches the sides, or 0 and 1, (h,
            w) or (M, h, w); by default everywhere.
        boundary: "inside" where windows lie inside the images, "wrap" where they go round the edges (static).
        weights: of the pixels, as for `fit`.
        frame_weights: of the images, as for `fit`.
        transforms: that a template may be under, as for `fit` (static).
        fixed: fields of `Params` that are known, with their values, such as ``{"background": pixels}``. Noise that is
            not known is looked for as one number, also of channels; go on with `fit` for one a channel.
        init: a picture of the template to start from, in the shape that `Params.template` will have, pixel values. The
            first start has it and is not annealed, which would forget it; others are made as ever, and the best wins.
        mesh: as for `fit`; without a search, starts are shared out along its axis "starts", if it has one, and must be
            a multiple of that (static).

    Returns:
        `Restarts`; its `warnings()` are reasons to doubt it.

    Raises:
        ValueError, TypeError: shapes, dtypes or options that do not fit; pixels as for `fit`.

    Example:
        >>> import jax, jax.numpy as jnp, jaxem
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> images, _ = jaxem.simulate(jax.random.key(0), truth, 100)
        >>> found = jaxem.fit_restarts(jax.random.key(1), images, (2, 3))
        >>> bool(jnp.abs(found.best.params.template - 1).max() < 0.05)
        True

    Source: ``docs/search.md``, *Restarts* and *Search*.
    """
    key, num_restarts = as_key(key), as_num_restarts(num_restarts, search)
    group_size = as_group_size(group_size, num_restarts, search is not None, as_shards(images, mesh))
    frames, structure, options = as_task(
        images,
        template_shape,
        hard=hard,
        prior_smoothing=prior_smoothing,
        max_iterations=max_iterations,
        tolerance=tolerance,
        batch_size=batch_size,
        group_size=group_size,
        num_templates=num_templates,
        absent=absent,
        support=support,
        boundary=boundary,
        weights=weights,
        frame_weights=frame_weights,
        transforms=transforms,
        fixed=fixed,
        init=init,
        mesh=mesh,
    )
    size = sample_size(sample, frames, structure)
    if frames.shards is not None:
        key, structure = frames.shards.replicate((key, structure))
    return _fit_restarts(
        key, frames, structure, options, num_restarts=num_restarts, group_size=group_size, search=search, size=size
    )


@partial(jit, static_argnames=("num_restarts", "group_size", "search", "size"))
def _fit_restarts(
    key: jax.Array,
    frames: Frames,
    structure: Structure,
    options: EMOptions,
    num_restarts: int,
    group_size: int,
    search: Search | None,
    size: int | None,
) -> Restarts:
    found = search_frames(key, frames, structure, options, num_restarts, group_size, search, size)
    return forward_only("fit_restarts", found)


def search_frames(
    key: jax.Array,
    frames: Frames,
    structure: Structure,
    options: EMOptions,
    num_restarts: int,
    group_size: int,
    search: Search | None,
    size: int | None,
) -> Restarts:
    """`fit_restarts` with its arguments checked, on a sample of so many images or on all, to be traced."""
    some, numbers = (frames, None) if size is None or search is None else draw_sample(key, frames, size)
    workspace = make_workspace(some, options.batch_size)
    starts = starting_points(key, num_restarts, workspace, structure, search)
    found = find_best(workspace, starts, group_size, search, options)
    if numbers is not None and search is not None:
        workspace = make_workspace(frames, options.batch_size)
        best, num_steps = fit_all(workspace, found.best.params, structure, search, options)
        found = keep_fit_to_all(workspace, found, numbers, best, num_steps, structure, options)
    return kept_of_shards(found, frames)


def find_best(
    workspace: Workspace, starts: Starts, group_size: int, search: Search | None, options: EMOptions
) -> Restarts:
    """`fit_restarts` from given starts on a workspace, to be traced."""
    if search is not None:
        runs, num_steps, stages = run_search(workspace, starts, search, options)
    else:
        runs = run_side_by_side(workspace, starts.params, group_size, options)
        num_steps, stages = steps_of_plain_runs(runs), None
    return keep_best(workspace, runs, num_steps, starts.structure, options, stages)


def steps_of_plain_runs(runs: Fit) -> jax.Array:
    """E-steps of all runs together."""
    return jnp.sum(runs.num_iterations + 1, dtype=jnp.int32)


def keep_best(
    workspace: Workspace,
    runs: Fit,
    num_steps: jax.Array,
    structure: Structure,
    options: EMOptions,
    stages: StageRecord | None = None,
) -> Restarts:
    """Put the best of several runs, stacked along a leading axis, and its diagnostics beside them."""
    if structure.has_order:
        runs = jax.vmap(order_templates)(runs)
    best = entry(runs, best_run(runs))
    diagnostics = diagnose(workspace, best, runs, num_steps, options.prior_smoothing, options.transforms)
    return Restarts(best, runs, diagnostics, stages)


def keep_fit_to_all(
    workspace: Workspace,
    found: Restarts,
    numbers: jax.Array,
    best: Fit,
    num_steps: jax.Array,
    structure: Structure,
    options: EMOptions,
) -> Restarts:
    """What was found in a sample, with its best as fitted to all images: how the runs compare, the sample tells."""
    alone = jax.tree.map(lambda leaf: leaf[None], best)
    of_all = keep_best(workspace, alone, num_steps, structure, options)
    compared = found.diagnostics
    diagnostics = of_all.diagnostics._replace(
        gap=compared.gap, num_agreeing=compared.num_agreeing, num_sample_steps=compared.num_steps
    )
    return found._replace(best=of_all.best, diagnostics=diagnostics, sample=numbers)
