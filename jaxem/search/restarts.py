"""Many runs from several starting points, and the best of them.

EM converges to the local maximum it starts near. Source: ``docs/search.md``, *Restarts*.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jaxem.model.appearances import IDENTITY, as_transforms
from jaxem.model.frames import Frames, as_frames
from jaxem.model.workspace import Workspace, make_workspace
from jaxem.ops.derivatives import forward_only
from jaxem.ops.printing import html_repr, short_repr, summarized
from jaxem.ops.trees import entry
from jaxem.ops.validation import as_key
from jaxem.ops.windows import Shape
from jaxem.runtime.arguments import as_count
from jaxem.runtime.compilation import jit
from jaxem.runtime.errors import ArgumentTypeError
from jaxem.runtime.remarks import Grade, Remark
from jaxem.search.side_by_side import as_group_size, run_side_by_side
from jaxem.search.stage_record import StageRecord
from jaxem.search.stages import Starts
from jaxem.search.starting import starting_points
from jaxem.search.strategy import Search, run_search
from jaxem.search.structure import Structure, as_structure
from jaxem.solvers.diagnostics import Diagnostics, diagnose, remarks
from jaxem.solvers.options import EMOptions, em_options
from jaxem.solvers.result import Fit, fit_lines, kept_of_shards
from jaxem.solvers.summaries import agreement_line, warning_lines

DEFAULT_SEARCH = Search()
NUM_RESTARTS_OF_SEARCH, NUM_PLAIN_RESTARTS = 2, 10


class Restarts(NamedTuple):
    """What several runs found, and how far to trust it.

    ===========  =====================================================================================
    field        meaning
    ===========  =====================================================================================
    best         the `Fit` of the highest finite objective (the first run if none is finite)
    runs         a `Fit` whose every array has a leading axis, one entry a run
    diagnostics  `Diagnostics` of the best among the runs
    stages       `StageRecord` of the search, in hard EM of the soft search before; None: there was none
    ===========  =====================================================================================
    """

    best: Fit
    runs: Fit
    diagnostics: Diagnostics
    stages: StageRecord | None = None

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
    return [*fit_lines(found.best, contrast), agreement_line(len(found.runs.elbo), found.diagnostics)]


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
    group_size = as_group_size(group_size, num_restarts, search is not None, mesh)
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
    if frames.shards is not None:
        key, structure = frames.shards.replicate((key, structure))
    return _fit_restarts(
        key, frames, structure, options, num_restarts=num_restarts, group_size=group_size, search=search
    )


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


@partial(jit, static_argnames=("num_restarts", "group_size", "search"))
def _fit_restarts(
    key: jax.Array,
    frames: Frames,
    structure: Structure,
    options: EMOptions,
    num_restarts: int,
    group_size: int,
    search: Search | None,
) -> Restarts:
    workspace = make_workspace(frames, options.batch_size)
    starts = starting_points(key, num_restarts, workspace, structure, search)
    found = find_best(workspace, starts, group_size, search, options)
    return forward_only("fit_restarts", kept_of_shards(found, frames))


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
    if structure.num_templates > 1 and not structure.is_labelled:
        runs = jax.vmap(order_templates)(runs)
    best = entry(runs, best_run(runs))
    diagnostics = diagnose(workspace, best, runs, num_steps, options.prior_smoothing, options.transforms)
    return Restarts(best, runs, diagnostics, stages)


def order_templates(found: Fit) -> Fit:
    """The same with several templates in the order of their shares of the images, the largest first."""
    params, numbers = found.params, found.best_template
    assert numbers is not None
    shares = jnp.sum(params.prior.reshape(len(params.prior), -1), axis=1)
    order = jnp.argsort(-shares)
    params = params._replace(template=params.template[order], prior=params.prior[order])
    return found._replace(params=params, best_template=jnp.argsort(order).astype(jnp.int32)[numbers])


def best_run(runs: Fit) -> jax.Array:
    """Which of several runs has the highest finite objective; the first if none is finite."""
    elbo: Any = runs.elbo
    numpy: Any = np if isinstance(elbo, np.ndarray) else jnp  # on the host nothing is compiled for it
    return numpy.argmax(numpy.where(numpy.isfinite(elbo), elbo, -numpy.inf))
