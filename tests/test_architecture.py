"""The house: which folder may import which, what a module may be called, and what the package shows."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import jaxem

PACKAGE = Path(jaxem.__file__).parent
FOLDERS = [
    "cli",
    "io",
    "plots",
    "stream",
    "assess",
    "search",
    "solvers",
    "model",
    "ops",
    "runtime",
]  # from the top down
SIDE_BY_SIDE = ("io", "plots")
NEEDED = {"jax", "numpy", "optax"}  # what `import jaxem` may need beside Python
MODULES = sorted(PACKAGE.rglob("*.py"))


def imports(path):
    """All modules a file names, with those it imports late."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def folder_of(path):
    return path.relative_to(PACKAGE).parts[0]


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_run_one_way(folder):
    below = FOLDERS[FOLDERS.index(folder) :]
    allowed = [other for other in below if other == folder or not {other, folder} <= set(SIDE_BY_SIDE)]
    for path in (PACKAGE / folder).rglob("*.py"):
        used = {name.split(".")[1] for name in imports(path) if name.startswith("jaxem.")}
        strangers = {name for name in used if name not in allowed and (PACKAGE / name).is_dir()}
        assert not strangers, f"{path.relative_to(PACKAGE)} imports from {strangers}"


def test_no_imports_go_in_a_circle():
    graph = {}
    for path in MODULES:
        name = ".".join(("jaxem", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        graph[name] = {other for other in imports(path) if other.startswith("jaxem.")}
    graph = {name: {other for other in used if other in graph and other != name} for name, used in graph.items()}
    done = set()

    def visit(name, above):
        assert name not in above, " -> ".join((*above, name))
        if name not in done:
            for other in graph[name]:
                visit(other, (*above, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_every_folder_says_what_it_is():
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert folders == set(FOLDERS)
    for folder in FOLDERS:
        words = ast.get_docstring(ast.parse((PACKAGE / folder / "__init__.py").read_text()))
        assert "mport" in words, folder
        assert len(words) > 150, folder


def test_few_modules_stand_outside_the_folders():
    assert len([path for path in PACKAGE.iterdir() if path.suffix in (".py", ".pyi")]) <= 6


def test_files_can_be_held_in_the_head():
    lengths = {str(path.relative_to(PACKAGE)): len(path.read_text().splitlines()) for path in MODULES}
    assert {name: length for name, length in lengths.items() if length > 330} == {}


def test_no_module_bears_the_name_of_a_public_function():
    functions = {name for name in jaxem.__all__ if not hasattr(getattr(jaxem, name), "__path__")} - {"gradient"}
    assert not functions & {path.stem for path in MODULES}


def test_the_package_shows_its_public_names_and_nothing_else():
    assert dir(jaxem) == sorted(jaxem.__all__)
    assert not [name for name in dir(jaxem) if name.startswith("_")]
    with pytest.raises(AttributeError, match="no attribute 'fitt'"):
        _ = jaxem.fitt


def test_type_checkers_are_told_the_same():
    stub = ast.parse((PACKAGE / "__init__.pyi").read_text())
    told = {alias.asname: node.module for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert set(told) == set(jaxem.__all__)
    for name in jaxem.__all__:
        value = getattr(jaxem, name)
        if not hasattr(value, "__path__") and name != "gradient":
            assert told[name] == value.__module__, name


def run_alone(code):
    return subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)


def test_importing_is_quiet_needs_little_and_changes_nothing():
    extras = sorted({"typer", "rich", "matplotlib", "h5py", "zarr", "tifffile", "av", "PIL", "skimage", "scipy"})
    code = f"""
import sys
import jaxem
assert "jax" not in sys.modules and "numpy" not in sys.modules
import jax
before = dict(jax.config.values)
for name in jaxem.__all__:
    if name != "plots":
        getattr(jaxem, name)
assert dict(jax.config.values) == before
loaded = {extras!r} and [name for name in {extras!r} if name in sys.modules]
assert loaded in ([], ["scipy"]), loaded
"""
    ended = run_alone(code)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_the_core_needs_nothing_but_jax_numpy_and_optax():
    for folder in ("assess", "search", "solvers", "model", "ops", "runtime"):
        for path in (PACKAGE / folder).rglob("*.py"):
            foreign = {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names) - NEEDED - {"jaxem"}
            assert not foreign, f"{path} needs {foreign}"
