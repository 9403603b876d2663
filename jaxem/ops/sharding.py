"""Arrays with one entry an image, shared out over the devices of a mesh, and sums over those.

Everything but the passes over images is the same on each device: the parameters, the statistics and the loop around
them. So a pass is all that `jax.shard_map` is needed for, and what it sums up is all that devices tell each other.
Derivations: ``docs/scaling.md``, *Devices*.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.tree_util import Partial

from jaxem.ops.double_word import DoubleWord, add, double_word
from jaxem.runtime.arguments import as_count
from jaxem.runtime.errors import ArgumentTypeError, ArgumentValueError

FRAMES_AXIS, STARTS_AXIS = "frames", "starts"


@dataclass(frozen=True)
class Shards:
    """How images are shared out; a pytree of nothing, so that it is static wherever it is passed along.

    ============  =============================================================================================
    field         meaning
    ============  =============================================================================================
    mesh          the devices
    axes          those of the mesh along which the images are shared out
    num_padding   entries at the end that are there to make the shards equal, and count for nothing
    ============  =============================================================================================
    """

    mesh: Mesh
    axes: tuple[str, ...]
    num_padding: int = 0

    @property
    def count(self) -> int:
        """How many shards."""
        return math.prod(self.mesh.shape[axis] for axis in self.axes)

    @property
    def spec(self) -> PartitionSpec:
        """Of arrays with one entry an image."""
        return PartitionSpec(self.axes)

    def place(self, array: Any) -> jax.Array:
        """One entry an image, (K, ...) -> (K + num_padding, ...), padded with zeros, each shard on its devices.

        A process reads only what its own devices get.
        """
        sharding = NamedSharding(self.mesh, self.spec)
        if isinstance(array, jax.core.Tracer):
            return lax.with_sharding_constraint(_padded(array, self.num_padding, jnp), sharding)
        if isinstance(array, jax.Array) and not self.num_padding:
            return jax.device_put(array, sharding)
        num_entries = len(array)

        def shard(index: Any) -> np.ndarray:
            first, stop, _ = index[0].indices(num_entries + self.num_padding)
            own = np.asarray(array[min(first, num_entries) : min(stop, num_entries)])
            return _padded(own, stop - first - len(own), np)

        shape = (num_entries + self.num_padding, *array.shape[1:])
        return jax.make_array_from_callback(shape, sharding, shard)

    def replicate(self, tree: Any) -> Any:
        """The same on every device, of every process."""
        sharding = NamedSharding(self.mesh, PartitionSpec())

        def everywhere(leaf: Any) -> Any:
            if isinstance(leaf, jax.core.Tracer):
                return lax.with_sharding_constraint(leaf, sharding)
            if sharding.is_fully_addressable:
                return jax.device_put(leaf, sharding)
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                return jax.random.wrap_key_data(everywhere(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
            host = np.asarray(leaf)
            return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

        return jax.tree.map(everywhere, tree)


jax.tree_util.register_dataclass(Shards, data_fields=[], meta_fields=["mesh", "axes", "num_padding"])


def device_mesh(*, num_starts: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh that most fits want: frames shared out over all devices, of all processes, or over groups of them.

    Args:
        num_starts: groups of devices, each of which works on starts of its own, in `fit_restarts` without a search.
        devices: by default all there are.

    Returns:
        `jax.sharding.Mesh` with axes "starts" and "frames".

    Raises:
        ValueError, TypeError: a number of groups that the devices cannot be divided into.

    Example:
        >>> import jax, jaxem
        >>> dict(jaxem.device_mesh(devices=jax.devices()[:1]).shape)
        {'starts': 1, 'frames': 1}

    Source: ``docs/scaling.md``, *Devices*.
    """
    count = as_count("num_starts", num_starts, at_least=1)
    if devices is not None and not isinstance(devices, Sequence | np.ndarray):
        raise ArgumentTypeError("devices", f"must be devices such as those of jax.devices(), but is {devices!r}.")
    found = np.array(jax.devices() if devices is None else list(devices), dtype=object)
    if not found.size or found.size % count:
        raise ArgumentValueError("num_starts", f"must divide the number of devices, {found.size}, but is {count}.")
    return Mesh(found.reshape(count, -1), (STARTS_AXIS, FRAMES_AXIS))


def as_shards(images: Any, mesh: Any) -> Shards | None:
    """How images are shared out, or are to be over a mesh; None where all are on one device.

    Raises:
        ValueError, TypeError: something else than a mesh, or one without an axis for frames.
    """
    found = _sharding_of(images)
    if mesh is None:
        if found is None or len(found.device_set) == 1 or not found.spec or found.spec[0] is None:
            return None
        first = found.spec[0]
        return Shards(cast(Mesh, found.mesh), first if isinstance(first, tuple) else (first,))
    if not isinstance(mesh, Mesh):
        raise ArgumentTypeError("mesh", f"must be a jax.sharding.Mesh or None, but is {mesh!r}.")
    if FRAMES_AXIS not in mesh.axis_names:
        raise ArgumentValueError(
            "mesh", f"must have an axis {FRAMES_AXIS!r}, as jaxem.device_mesh() has, but has {list(mesh.axis_names)}."
        )
    num_images = len(images) if np.ndim(images) else 0
    return Shards(mesh, (FRAMES_AXIS,), -num_images % mesh.shape[FRAMES_AXIS])


def over_shards(
    go_through: Callable[..., tuple[Any, Any]], shards: Shards | None, function: Callable[..., Any], *arrays: Any
) -> tuple[Any, Any]:
    """Of the two things that go_through(function, *arrays) gives, the first added up over shards, the second kept.

    Args:
        go_through: gets the function, and of each array the entries of one shard.
        shards: None for all in one.
        function: what to do with images. What it closes over is the same on all devices, and has a type that says so,
            which some functions of JAX refuse: `ones_like`, and indexing by what is traced. Arguments of a
            `jax.tree_util.Partial` are like any other array.
        arrays: trees with one entry an image, or one a batch of them, that are shared out.
    """
    if shards is None:
        return go_through(function, *arrays)

    def of_one(function: Callable[..., Any], arrays: tuple[Any, ...]) -> tuple[Any, Any]:
        total, rest = go_through(function, *arrays)
        return _sum_over(total, shards), rest

    same = PartitionSpec()
    shared = function if isinstance(function, Partial) else Partial(function)
    return _shard_map(of_one, shards.mesh, (same, shards.spec), (same, shards.spec))(shared, arrays)


def _sum_over(tree: Any, shards: Shards) -> Any:
    """Sums over all shards in twice the working precision, the same to the bit on every device.

    Each device adds up a part of the entries for all others, so that what it sends and holds is twice the tree, however
    many there are.
    """
    leaves, structure = jax.tree.flatten(tree, is_leaf=lambda leaf: isinstance(leaf, DoubleWord))
    sums: list[Any] = list(leaves)
    for dtype in dict.fromkeys(_dtype_of(leaf) for leaf in leaves):
        numbers = [number for number, leaf in enumerate(leaves) if _dtype_of(leaf) == dtype]
        some = [leaves[number] for number in numbers]
        if jnp.issubdtype(dtype, jnp.complexfloating):
            halves = _add_up([half for leaf in some for half in (leaf.real, leaf.imag)], shards)
            added = [lax.complex(*pair) for pair in zip(halves[::2], halves[1::2], strict=True)]
        else:
            added = _add_up(some, shards) if jnp.issubdtype(dtype, jnp.floating) else lax.psum(some, shards.axes)
        for number, leaf in zip(numbers, added, strict=True):
            sums[number] = leaf
    return jax.tree.unflatten(structure, sums)


def _add_up(leaves: list[Any], shards: Shards) -> list[Any]:
    """Leaves of one floating dtype, `DoubleWord` among them, as one vector."""
    count = shards.count
    words = [leaf if isinstance(leaf, DoubleWord) else double_word(leaf) for leaf in leaves]
    highs, lows = (jnp.concatenate([jnp.ravel(part) for part in parts]) for parts in zip(*words, strict=True))
    size = len(highs)

    def exchanged(vector: jax.Array) -> jax.Array:
        rows = jnp.pad(vector, (0, -size % count)).reshape(count, -1)
        return lax.all_to_all(rows, shards.axes, 0, 0, tiled=True)

    own = (exchanged(highs), exchanged(lows))
    first = DoubleWord(own[0][0], own[1][0])
    total, _ = lax.scan(lambda total, row: (add(total, DoubleWord(*row)), None), first, (own[0][1:], own[1][1:]))
    high, low = (lax.all_gather(part, shards.axes, tiled=True)[:size] for part in total)
    ends = np.cumsum([word.high.size for word in words])[:-1]

    def restored(leaf: Any, word: DoubleWord, high: jax.Array, low: jax.Array) -> Any:
        shape = word.high.shape
        if isinstance(leaf, DoubleWord):
            return DoubleWord(high.reshape(shape), low.reshape(shape))
        return high.reshape(shape)

    parts = zip(leaves, words, jnp.split(high, ends), jnp.split(low, ends), strict=True)
    return [restored(*part) for part in parts]


def _dtype_of(leaf: Any) -> np.dtype[Any]:
    return (leaf.high if isinstance(leaf, DoubleWord) else leaf).dtype


def _padded(array: Any, count: int, numpy: Any) -> Any:
    if not count:
        return array
    return numpy.concatenate([array, numpy.zeros((count, *array.shape[1:]), array.dtype)])


def _sharding_of(images: Any) -> NamedSharding | None:
    """That of an array of JAX, which of a traced one is only known where its type says so."""
    if not isinstance(images, jax.Array):
        return None
    sharding = getattr(images, "sharding", None) if not isinstance(images, jax.core.Tracer) else None
    return sharding if isinstance(sharding, NamedSharding) else None


def _shard_map(function: Callable[..., Any], mesh: Mesh, in_specs: Any, out_specs: Any) -> Callable[..., Any]:
    # What all devices hold alike is known from how it was made, not by its type.
    if hasattr(jax, "shard_map"):
        return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)
    from jax.experimental.shard_map import shard_map  # up to 0.6.0

    return shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_rep=False)
