"""One EM iteration of jaxem beside its peers and the bare transforms, on one core, answers compared first.

    taskset -c 0 python bench/iteration.py [--json FILE]

Prints milliseconds (the minimum of several interleaved rounds) and ratios to FFTW's two full real transforms.
"""

from __future__ import annotations

import contextlib

import common
import jax
import jax.numpy as jnp
import numpy as np
import peers

import jaxem
from jaxem.model import objective, steps
from jaxem.model.expectation import expectation
from jaxem.model.frames import Frames
from jaxem.model.params import to_internal_units, to_pixel_values
from jaxem.model.workspace import make_workspace
from jaxem.solvers.options import cheapest_batch_size

SHAPES = [((200, 100, 200), (60, 40)), ((512, 64, 64), (16, 16)), ((1000, 50, 100), (30, 20))]


def jaxem_fit(images, *start, hard=False):
    """One iteration as `fit` makes it, on a workspace made once."""
    images, params = jnp.asarray(images), jaxem.Params(*map(jnp.asarray, start))
    batch_size = cheapest_batch_size(len(images), images[0].size)
    workspace = jax.jit(make_workspace, static_argnums=1)(Frames(images), batch_size)
    first = jax.jit(lambda workspace, theta: expectation(workspace, theta, hard=hard))
    internal = to_internal_units(params, workspace.images)
    statistics, _, _ = first(workspace, internal)

    @jax.jit
    def once(workspace, statistics, before):
        images, totals, _ = workspace
        found = steps.update(images, totals, statistics, jnp.float32(0), before)
        statistics, ratio, _ = expectation(workspace, found, hard=hard)
        density = objective.log_density(images, totals, found, ratio)
        return to_pixel_values(found, images, params), statistics, density

    def iterate():
        found, _, density = jax.block_until_ready(once(workspace, statistics, internal))
        return found.template, found.background, found.noise_scale**2, density.high

    return iterate


def jax_literal(images, *start):
    """The public pure functions, whole stack at once: `fftconvolve` and `jnp.cumsum`."""
    images, params = jnp.asarray(images), jaxem.Params(*map(jnp.asarray, start))
    posterior = jaxem.e_step(images, params)

    def iterate():
        found = jaxem.m_step(images, posterior, params.template.shape)
        evidence = jaxem.e_step(images, found).log_evidence.sum()
        return jax.block_until_ready((found.template, found.background, found.noise_scale**2, evidence))

    return iterate


def transforms(images):
    """The bare forward and inverse real transforms of the whole stack, by whatever is installed."""
    height, width = images.shape[1:]
    both = jax.jit(lambda x: jnp.fft.irfft2(jnp.fft.rfft2(x), s=(height, width)))
    stack = jnp.asarray(images)
    runs = {"two FFTs, XLA": lambda: jax.block_until_ready(both(stack))}
    try:
        import pyfftw

        real = pyfftw.empty_aligned(images.shape, "float32")
        complex_ = pyfftw.empty_aligned((*images.shape[:2], width // 2 + 1), "complex64")
        forward = pyfftw.FFTW(real, complex_, axes=(1, 2))
        backward = pyfftw.FFTW(complex_, real, axes=(1, 2), direction="FFTW_BACKWARD")
        real[:] = images
        runs["two FFTs, FFTW"] = lambda: (forward.execute(), backward.execute())
    except ModuleNotFoundError:
        pass
    try:
        import scipy.fft

        runs["two FFTs, ducc (SciPy)"] = lambda: scipy.fft.irfft2(scipy.fft.rfft2(images), s=(height, width))
    except ModuleNotFoundError:
        pass
    return runs


def compare(name, answer, reference):
    """How far an answer is from the reference, in its worst part relative to that part's size."""
    gaps = [np.abs(np.asarray(a) - b).max() / np.abs(b).max() for a, b in zip(answer, reference, strict=True)]
    if max(gaps) > 1e-2:
        raise SystemExit(f"{name} gives another answer: relative gaps {gaps}")
    return max(gaps)


def main():
    """Run every shape and print a table."""
    arguments = common.parser(__doc__).parse_args()
    shapes = []
    for stack_shape, template_shape in SHAPES:
        images, start = common.problem(stack_shape, template_shape)
        start = start[:4]
        methods = {"SciPy float64": peers.scipy_float64(images, *start)}
        with contextlib.suppress(ModuleNotFoundError):
            methods["PyTorch float32"] = peers.torch_float32(images, *start)
        methods["jaxem e_step + m_step"] = jax_literal(images, *start)
        methods["jaxem fit, soft"] = jaxem_fit(images, *start)
        reference = methods["SciPy float64"]()
        gaps = {name: compare(name, run(), reference) for name, run in methods.items()}
        methods["jaxem fit, hard"] = jaxem_fit(images, *start, hard=True)
        times = common.minimum({**methods, **transforms(images)}, arguments.rounds)
        unit = times.get("two FFTs, FFTW", times["two FFTs, XLA"])
        print(f"\n{stack_shape[0]} images of {stack_shape[1:]}, template {template_shape}")
        for name, milliseconds in times.items():
            gap = f"   gap {gaps[name]:.0e}" if name in gaps else ""
            print(f"  {name:24} {milliseconds:9.1f} ms {milliseconds / unit:8.2f}{gap}", flush=True)
        shapes.append({"stack": stack_shape, "template": template_shape, "ms": times, "gaps": gaps})
    common.write(arguments.json, {"shapes": shapes})


if __name__ == "__main__":
    main()
