"""Fits shared out over processes: ``python process_results.py PORT COUNT NUMBER OUT.npz [x64]``."""

import sys

import jax
import numpy as np
from sharded_results import TEMPLATE, claimed, fitted, kept, planted

import jaxem

MANY = 3  # so many do not tell what they claim, for which programs take long to compile


def main(port, count, number, path, in_double):
    jax.config.update("jax_enable_x64", in_double)
    if count > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.distributed.initialize(f"localhost:{port}", count, number)
    mesh = jaxem.device_mesh()
    results = {"plain": fitted({}, mesh), "missing pixels": fitted({"weights": True}, mesh)}
    images, start = planted()
    results["search"] = jaxem.fit_restarts(jax.random.key(1), images, TEMPLATE, mesh=mesh).best
    kwargs = {"batch_size": 4, "tolerance": 1e-4}
    results["stream"] = jaxem.stream.fit(images, start, **kwargs)
    drawn = np.random.default_rng(3).integers(0, 3, len(images))
    results["stream, weighted"] = jaxem.stream.fit(images, start, frame_weights=drawn, **kwargs)
    found = jaxem.stream.fit_restarts(jax.random.key(1), images, TEMPLATE, sample=30)
    results["stream, search"] = found.best
    arrays = {
        f"{name}/{field}": np.asarray(value) for name, found in results.items() for field, value in kept(found).items()
    }
    if count < MANY:
        claims = claimed(jaxem.stream.assess_fit(images, results["stream"], batch_size=4, frame_weights=drawn))
        arrays |= {f"claims/{name}": np.asarray(value) for name, value in claims.items()}
    if number == 0:
        np.savez(path, **arrays)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], "x64" in sys.argv)
