"""The work of ``jaxem doctor``: what this machine is, how fast it is, and whether it computes rightly."""

from __future__ import annotations

import os
import platform
import sys
import time
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version

import jax
import jax.numpy as jnp
import numpy as np

import jaxem
from jaxem.assess.self_test import Check, selfcheck
from jaxem.cli.exit_codes import ExitCode
from jaxem.cli.text import say
from jaxem.runtime.compilation_cache import cache_compiled_programs
from jaxem.runtime.resources import available_cores
from jaxem.runtime.text import plural

FFT_SIZE, FFT_IMAGES, FFT_REPEATS = 128, 200, 3


def examine() -> int:
    """Say what this machine is and what it gets right."""
    cache_compiled_programs()
    for line in describe_machine():
        say(line)
    found = selfcheck()
    for line in describe_checks(found):
        say(line)
    wrong = [check.name for check in found if not check.passed]
    if not wrong:
        return 0
    print(f"jaxem: this combination of versions and device computes wrongly: {'; '.join(wrong)}", file=sys.stderr)
    return ExitCode.COMPUTES_WRONGLY


def describe_machine() -> list[str]:
    """Versions, devices, settings and speed, a line each."""
    in_double = jax.dtypes.canonicalize_dtype(np.float64) == np.float64
    kinds = Counter(f"{device.device_kind} ({device.platform})" for device in jax.devices())
    flags = os.environ.get("XLA_FLAGS")
    return [
        f"jaxem      {jaxem.__version__}",
        f"jax        {jax.__version__}, jaxlib {version('jaxlib')}, numpy {np.__version__}",
        f"python     {platform.python_version()} on {platform.platform()}",
        f"devices    {', '.join(f'{count} x {kind}' for kind, count in kinds.items())}",
        f"processor  {plural(available_cores(), 'core')} available",
        f"precision  {'single and double' if in_double else 'single; JAX_ENABLE_X64=1 for double'}",
        *([f"XLA_FLAGS  {flags}"] if flags else []),
        f"speed      {_describe_speed()}",
    ]


def describe_checks(checks: Sequence[Check]) -> list[str]:
    """One line for each check."""
    width = max((len(check.name) for check in checks), default=0)
    return [
        f"{'ok' if check.passed else 'WRONG':5}  {check.name:{width}}  off by {check.error:.1e}, "
        f"{check.allowed:.1e} allowed"
        for check in checks
    ]


def _describe_speed() -> str:
    """Images a second, there and back; a real transform of N pixels counts as 5/2 N log2(N) operations."""
    images = jnp.ones((FFT_IMAGES, FFT_SIZE, FFT_SIZE), jnp.float32)
    there_and_back = jax.jit(lambda stack: jnp.fft.irfft2(jnp.fft.rfft2(stack), s=(FFT_SIZE, FFT_SIZE)))
    there_and_back(images).block_until_ready()
    seconds = []
    for _ in range(FFT_REPEATS):
        start = time.perf_counter()
        there_and_back(images).block_until_ready()
        seconds.append(time.perf_counter() - start)
    rate, num_pixels = FFT_IMAGES / min(seconds), FFT_SIZE**2
    operations = 2 * 2.5 * num_pixels * np.log2(num_pixels)
    return (
        f"{rate:.0f} images a second of {FFT_SIZE} x {FFT_SIZE} float32 to the Fourier transform and back, "
        f"{rate * operations / 1e9:.1f} GFlop/s"
    )
