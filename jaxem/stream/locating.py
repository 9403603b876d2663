"""`jaxem.stream.locate`: where the template is in frames that are read. Source: ``docs/stream.md``, *Places*."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from jaxem.assess.assessment import Report
from jaxem.assess.locating import model_to_apply
from jaxem.model.checks import as_fixed, as_params
from jaxem.model.frames import Frames
from jaxem.model.params import Params, Posterior
from jaxem.model.predict import Located, located_by
from jaxem.model.whole_stack import e_step_of
from jaxem.ops.batching import over_batches, unbatch
from jaxem.runtime.compilation import jit
from jaxem.runtime.processes import from_first
from jaxem.search.restarts import Restarts
from jaxem.solvers.result import Fit
from jaxem.stream.assessing import EvaluationOptions, evaluate, even_batch_size
from jaxem.stream.chunks import in_dtype
from jaxem.stream.passes import Passes, add, as_devices, nothing_for_each
from jaxem.stream.sources import FrameStream, as_stream


def locate(
    source: Any,
    model: Params | Fit | Restarts | Report,
    *,
    prior: str = "flat",
    fitted: bool = False,
    weights: Any = None,
    frame_weights: Any = None,
    transforms: Any = None,
    fixed: Any = (),
    batch_size: int | None = None,
    devices: Any = None,
) -> Located:
    """`jaxem.locate` of frames that are read from a source, a few at a time; not to be traced.

    The frames are read once; three times if they are those that the model was fitted to.

    Args:
        source: the frames, as for `jaxem.stream.fit`; with `fitted` all those that the model was fitted to.
        model: a result, or its `Params`.
        prior: "flat" or "learned", as for `jaxem.locate`, like all that follow.
        fitted: whether these are the frames that the model was fitted to.
        weights: of the pixels, (H, W), or a source (K, H, W).
        frame_weights: of the frames in the fit, (K,); only with `fitted`.
        transforms: that a template may be under; by default those of the result.
        fixed: names of what was known in the fit; only with `fitted`.
        batch_size: frames worked on at a time.
        devices: as for `jaxem.stream.fit`.

    Returns:
        `Located`, in arrays of NumPy: that of `jaxem.locate` on the same frames, to rounding.

    Raises:
        ValueError, TypeError: shapes, dtypes or options that do not fit; NaN or infinite pixels at a weight above zero;
            a source that gives other shapes or dtypes than it said.
        Exception: whatever the source raises, with a note that names the frames.

    Example:
        >>> import jax, jax.numpy as jnp, numpy as np, jaxem
        >>> truth = jaxem.Params(jnp.ones((2, 3)), jnp.zeros((5, 7)), jnp.array(0.1), jnp.full((4, 5), 1 / 20))
        >>> images, corners = jaxem.simulate(jax.random.key(0), truth, 100)
        >>> frames = np.asarray(images)  # or np.load("images.npy", mmap_mode="r")
        >>> bool((jaxem.stream.locate(frames, truth).corners == corners).all())
        True

    Source: ``docs/stream.md``, *Places*.
    """
    params, names = model_to_apply(model, prior, transforms, frame_weights, fitted=fitted)
    stream = as_stream(source, weights, frame_weights)
    size = even_batch_size(batch_size, stream)
    if fitted:
        options = EvaluationOptions(names, as_fixed(fixed), size, flat=prior == "flat")
        located: Located = jax.device_get(evaluate(stream, params, options, devices).located)
        return located
    params = from_first(as_params(params, stream.source.shape[1:], stream.dtype, names))
    return _predict(stream, params, PredictOptions(names, size), devices)


class PredictOptions(NamedTuple):
    """What a compiled program is made for.

    ==========  ===============================
    field       meaning
    ==========  ===============================
    transforms  that a template may be under
    batch_size  frames worked on at a time
    ==========  ===============================
    """

    transforms: tuple[str, ...]
    batch_size: int


def _predict(stream: FrameStream, params: Params, options: PredictOptions, devices: Any) -> Located:
    """`model.predict.predict` in one pass."""
    passes = Passes(stream, options.batch_size, as_devices(devices))
    work, shared = partial(_locate_in_chunk, options=options), (stream.nothing(), params)
    found: Located = nothing_for_each(passes, work, shared)
    passes.run(work, shared, add, found, look=True)
    return found


@partial(jit, static_argnames="options")
def _locate_in_chunk(
    shared: tuple[Frames, Params], own: Any, counts: jax.Array, options: PredictOptions
) -> tuple[jax.Array, Located]:
    nothing, params = shared
    frames, (names, size) = in_dtype(nothing, own), options

    def one_batch(own: Any, weights: jax.Array, _: None) -> tuple[jax.Array, Located]:
        posterior = cast(Posterior, e_step_of(frames.batch(own), params, hard=False, transforms=names))
        return jnp.sum(weights), located_by(posterior, params, names)

    num_seen, found = over_batches(one_batch, frames.own, size)
    return num_seen, jax.tree.map(lambda pieces: unbatch(pieces, len(counts)), found)
