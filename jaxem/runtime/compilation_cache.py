"""Compiled programs kept on disk between processes, each of which would else compile for seconds."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
from jax.experimental.compilation_cache.compilation_cache import reset_cache


def cache_compiled_programs(folder: str | os.PathLike[str] | None = None) -> Path | None:
    """Let JAX keep what it compiles on disk, so that the next process need not compile it again.

    The command line calls it; in Python it is yours to call, once, before the first fit. It changes JAX's configuration
    of this process, for every program that JAX compiles in it.

    Args:
        folder: where; by default what ``JAX_COMPILATION_CACHE_DIR`` says, else a folder of ``$XDG_CACHE_HOME/jaxem`` or
            ``~/.cache/jaxem`` for this version of JAX and this processor, for which alone programs are made.

    Returns:
        The folder, or None where it cannot be made or written; then nothing is kept, and nothing else changes.

    Raises:
        Nothing: what cannot be kept is compiled again.

    Example:
        >>> import jaxem
        >>> folder = jaxem.cache_compiled_programs()  # doctest: +SKIP

    Source: JAX's documentation, *Persistent compilation cache*.
    """
    chosen = folder or os.environ.get("JAX_COMPILATION_CACHE_DIR")
    try:
        path = Path(chosen) if chosen else _default_folder()
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):
        return None
    if not os.access(path, os.W_OK):
        return None
    jax.config.update("jax_compilation_cache_dir", str(path))
    if not os.environ.get("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"):
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    return path


def _default_folder() -> Path:
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "jaxem" / f"jax-{jax.__version__}-{_processor()}"


@contextmanager
def without_compiled_programs() -> Iterator[None]:
    """Compile as if for the first time, to find out how long that takes."""
    before = jax.config.values["jax_enable_compilation_cache"]
    jax.config.update("jax_enable_compilation_cache", False)
    reset_cache()  # or JAX would go by what it decided at the first compilation
    try:
        yield
    finally:
        jax.config.update("jax_enable_compilation_cache", before)
        reset_cache()


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        features = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        features = platform.processor()
    return hashlib.sha256(f"{platform.machine()} {features}".encode()).hexdigest()[:12]
