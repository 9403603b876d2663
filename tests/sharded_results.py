"""Fits on meshes of virtual devices, one process for all of them: ``python sharded_results.py OUT.npz [x64]``."""

import math
import os
import re
import sys

if __name__ == "__main__":
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jaxem

SHAPE, TEMPLATE, NUM_IMAGES = (13, 17), (4, 5), 53
EVERYWHERE = {"plain": (1, 2, 4, 8)}
IN_SINGLE = ("plain", "hard", "missing pixels")  # the other sums are no others there
# By name: options of `fit`, and of what is planted. Each goes through other sums.
CASES = {
    "plain": {},
    "batches of 2": {"batch_size": 2},
    "hard": {"hard": True},
    "frame weights": {"frame_weights": True},
    "missing pixels": {"weights": True},
    "shared weights": {"shared": True},
    "two templates, absent": {"num_templates": 2, "absent": True},
    "channels, annealed": {"num_channels": 2, "schedule": True, "accelerate": True},
    "turns": {"transforms": ("identity", "rot180"), "prior_smoothing": 3.0},
}


def planted(num_templates=1, absent=False, num_channels=None, transforms=("identity",)):
    """Parameters of a problem that a fit starts next to, and images of it."""
    channels = () if num_channels is None else (num_channels,)
    templates = () if num_templates == 1 else (num_templates,)
    keys = jax.random.split(jax.random.key(5), 4)
    places = (SHAPE[0] - TEMPLATE[0] + 1, SHAPE[1] - TEMPLATE[1] + 1)
    turns = () if len(transforms) == 1 else (len(transforms),)
    prior = jnp.full((*templates, *turns, *places), (0.7 if absent else 1.0))
    prior = prior / prior.size
    truth = jaxem.Params(
        2 * jax.random.normal(keys[0], (*templates, *TEMPLATE, *channels)),
        jax.random.normal(keys[1], (*SHAPE, *channels)),
        jnp.array(1.0),
        prior,
        absent=jnp.array(0.3) if absent else None,
    )
    images = np.asarray(jaxem.simulate(keys[2], truth, NUM_IMAGES, transforms=transforms)[0]) + 100
    start = truth._replace(
        template=truth.template + 100 + jax.random.normal(keys[3], truth.template.shape),
        background=truth.background + 100,
        noise_scale=jnp.array(1.7),
    )
    return images, start


def fitted(case, mesh):
    case = dict(case)
    names = ("num_templates", "absent", "num_channels")
    problem = {name: case.pop(name) for name in names if name in case}
    images, start = planted(**problem, transforms=case.get("transforms", ("identity",)))
    drawn = np.random.default_rng(3)
    if case.pop("frame_weights", False):
        case["frame_weights"] = drawn.integers(0, 3, NUM_IMAGES)
        images[case["frame_weights"] == 0] = np.nan
    if case.pop("weights", False):
        case["weights"] = (drawn.random(images.shape) > 0.1).astype(float)
        images[case["weights"] == 0] = np.nan
    if case.pop("shared", False):
        case["weights"] = drawn.random(SHAPE) + 0.5
    if case.pop("schedule", False):
        case["schedule"] = jaxem.annealing(5, start=0.5, prior_steps=4)
    return jaxem.fit(images, start, mesh=mesh, tolerance=1e-4, **case)


def searched(mesh, **options):
    images, _ = planted()
    return jaxem.fit_restarts(jax.random.key(1), images, TEMPLATE, mesh=mesh, **options)


def kept(found):
    """The arrays of a fit, by name; no history, whose entries are objectives like any other."""
    fields = {name: getattr(found, name) for name in ("elbo", "status", "num_iterations", "num_scheduled", "corners")}
    given = ((name, getattr(found, name)) for name in ("best_template", "best_transform", "present"))
    fields |= {name: value for name, value in given if value is not None}
    params = found.params._asdict()
    return fields | {f"params.{name}": value for name, value in params.items() if value is not None}


def claimed(claims):
    """The arrays of an assessment, by name."""
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(claims)[0]}


def most_gathered(devices):
    """How many numbers the largest array has that a search brings to all devices at once."""
    images, _ = planted()
    mesh = jaxem.device_mesh(devices=devices)
    placed = jax.device_put(images[:48], NamedSharding(mesh, PartitionSpec("frames")))
    search = jax.jit(lambda images, key: jaxem.fit_restarts(key, images, TEMPLATE, mesh=mesh))
    program = search.lower(placed, jax.random.key(0)).compile().as_text()
    shapes = re.findall(r"= \w+\[([\d,]*)\]\S* all-gather", program)
    assert shapes
    return max(math.prod(map(int, filter(None, shape.split(",")))) for shape in shapes)


def main(path, in_double):
    jax.config.update("jax_enable_x64", in_double)
    devices, results = jax.devices(), {}
    assert len(devices) == 8

    def note(name, count, found):
        results.update({f"{name}/{count}/{field}": np.asarray(value) for field, value in kept(found).items()})

    for name, case in CASES.items() if in_double else ((name, CASES[name]) for name in IN_SINGLE):
        note(name, 0, fitted(case, None))
        for count in EVERYWHERE.get(name, (8,)):
            note(name, count, fitted(case, jaxem.device_mesh(devices=devices[:count])))
    note("search", 0, searched(None).best)
    note("search", 4, searched(jaxem.device_mesh(devices=devices[:4])).best)
    if not in_double:
        np.savez(path, **results)
        return
    note("sample", 0, searched(None, sample=20).best)
    note("sample", 4, searched(jaxem.device_mesh(devices=devices[:4]), sample=20).best)
    results["gathered/4/numbers"] = most_gathered(devices[:4])
    plain = {"search": None, "num_restarts": 4}
    note("starts", 0, searched(None, **plain).runs)
    note("starts", 8, searched(jaxem.device_mesh(num_starts=2), **plain).runs)
    six = plain | {"num_restarts": 6, "group_size": 2}
    note("groups", 0, searched(None, **six).runs)
    note("groups", 8, searched(jaxem.device_mesh(num_starts=2), **six).runs)

    # Images that a mesh of one's own has already, and a fit inside of what is compiled.
    images, start = planted()
    mesh = Mesh(np.array(devices[:6]).reshape(3, 2), ("rows", "columns"))
    placed = jax.device_put(images[:48], NamedSharding(mesh, PartitionSpec(("rows", "columns"))))
    note("placed", 0, jaxem.fit(images[:48], start))
    note("placed", 6, jaxem.fit(placed, start))
    two = NamedSharding(jaxem.device_mesh(num_starts=2), PartitionSpec("frames"))
    for count, some in ((0, images[:48]), (8, jax.device_put(images[:48], two))):
        note("placed starts", count, jaxem.fit_restarts(jax.random.key(1), some, TEMPLATE, **plain).runs)
    four = NamedSharding(jaxem.device_mesh(devices=devices[:4]), PartitionSpec("frames"))
    some, beside = planted(num_templates=2, absent=True)
    fitted_to_some = jaxem.fit(some[:48], beside, max_iterations=2)
    for count, placed_so in ((0, some[:48]), (4, jax.device_put(some[:48], four))):
        found = claimed(jaxem.assess_fit(placed_so, fitted_to_some, batch_size=4))
        results.update({f"claims/{count}/{name}": np.asarray(value) for name, value in found.items()})
    half = jax.device_put(images[:48], NamedSharding(mesh, PartitionSpec("rows")))
    note("placed", 3, jaxem.fit(half, start))
    inside = jax.jit(lambda images, start: jaxem.fit(images, start, mesh=jaxem.device_mesh()))
    note("inside", 0, jaxem.fit(images, start))
    note("inside", 8, inside(images, start))
    np.savez(path, **results)


if __name__ == "__main__":
    main(sys.argv[1], "x64" in sys.argv)
