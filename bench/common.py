"""What every benchmark here needs: a problem, the machine in words, the fairest of noisy timings, a JSON file."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import time

import jax
import jax.numpy as jnp
import numpy as np

import jaxem


def problem(stack_shape, template_shape, noise_scale=0.3, seed=0):
    """Images drawn from random parameters, and a start near those, in NumPy and float32."""
    rng = np.random.default_rng(seed)
    positions = tuple(n - m + 1 for n, m in zip(stack_shape[1:], template_shape, strict=True))
    truth = jaxem.Params(
        jnp.asarray(rng.random(template_shape), jnp.float32),
        jnp.asarray(rng.random(stack_shape[1:]), jnp.float32),
        jnp.float32(noise_scale),
        jnp.full(positions, 1 / np.prod(positions), jnp.float32),
    )
    images, _ = jaxem.simulate(jax.random.key(seed), truth, stack_shape[0])
    start = truth._replace(template=truth.template * 0.9, noise_scale=jnp.float32(noise_scale + 0.2))
    return np.asarray(images), jax.tree.map(np.asarray, start)


def minimum(runs, rounds):
    """Milliseconds of each run, the minimum over interleaved rounds, so that all see the same noise."""
    best = dict.fromkeys(runs, np.inf)
    for name in [*runs, *list(runs) * rounds]:  # the first time is to warm up, and is counted only if it is the best
        before = time.perf_counter()
        runs[name]()
        best[name] = min(best[name], 1e3 * (time.perf_counter() - before))
    return best


def machine():
    """What the figures were measured on."""
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as file:
            model = next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    names = ("jax", "jaxlib", "numpy", "scipy", "torch", "pyfftw")
    installed = {dist.metadata["Name"].lower(): dist.version for dist in importlib.metadata.distributions()}
    return {
        "processor": model,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "devices": [device.device_kind for device in jax.devices()],
        "python": platform.python_version(),
        "versions": {name: installed[name] for name in names if name in installed},
    }


def parser(description):
    """Command line options that all benchmarks have."""
    options = argparse.ArgumentParser(description=description.splitlines()[0])
    options.add_argument("--json", help="write the figures here as well")
    options.add_argument("--rounds", type=int, default=7, help="interleaved rounds of which the minimum counts")
    return options


def write(path, figures):
    """The figures and what they were measured on, if a file was asked for."""
    if path:
        with open(path, "w") as file:
            json.dump({"machine": machine(), **figures}, file, indent=1)
