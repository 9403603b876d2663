"""Compiled programs of the command line: where they are kept, and what may go wrong with that."""

import os
import subprocess
import sys

import pytest

SCRIPT = """
import jax
from jaxem.runtime.compilation_cache import cache_compiled_programs
cache_compiled_programs()
print(jax.config.jax_compilation_cache_dir)
jax.jit(lambda x: jax.numpy.linalg.eigh(x @ x.T)[0])(jax.numpy.ones((30, 30))).block_until_ready()
"""


def cache_dir(**environment):
    inherited = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    command = [sys.executable, "-c", SCRIPT]
    ended = subprocess.run(command, env={**inherited, **environment}, capture_output=True, text=True, check=True)
    assert ended.stderr == ""
    return ended.stdout.strip()


def test_programs_are_kept_and_found_again(tmp_path):
    folder = cache_dir(XDG_CACHE_HOME=str(tmp_path))
    assert folder.startswith(str(tmp_path / "jaxem"))
    kept = {path: path.stat().st_size for path in tmp_path.rglob("*-cache")}
    assert kept
    assert cache_dir(XDG_CACHE_HOME=str(tmp_path)) == folder
    assert {path: path.stat().st_size for path in tmp_path.rglob("*-cache")} == kept


def test_the_users_choice_stands(tmp_path):
    chosen = str(tmp_path / "chosen")
    assert cache_dir(XDG_CACHE_HOME=str(tmp_path / "other"), JAX_COMPILATION_CACHE_DIR=chosen) == chosen
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("obstacle", ["a file", "/dev/null/nowhere"])
def test_without_a_folder_nothing_is_kept(tmp_path, obstacle):
    (tmp_path / "a file").touch()
    assert cache_dir(XDG_CACHE_HOME=str(tmp_path / obstacle)) == "None"
