"""Every block of code in README and docs runs, or is at least a command line that exists; what is neither says so.

Blocks of ``python`` run in their order, those of a page in one namespace, in an empty folder (that of README runs in
`test_readme`). In shell blocks, each line that calls jaxem is held against the real commands and options;
`test_the_commands_of_readme_run` runs those whose files can be planted. Blocks of anything else are marked as ``text``.
"""

import re
import shlex
from pathlib import Path

import jax
import numpy as np
import pytest
import typer

import jaxem
from jaxem.cli import app
from jaxem.cli.parameters import with_pairs

ROOT = Path(jaxem.__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^(?P<fence>```+)(?P<language>[^\n`]*)\n(?P<code>.*?)^(?P=fence)[ ]*$", re.DOTALL | re.MULTILINE)
SHELL, OTHER = ("sh", "bash", "console", ""), ("text", "bibtex", "json", "csv")
HEIGHT, WIDTH = 9, 10


def blocks(page, *languages):
    found = BLOCK.finditer(page.read_text())
    return [match["code"] for match in found if match["language"].strip() in languages]


def shell_commands(code):
    """The words after ``jaxem`` of each line that calls it."""
    for line in code.replace("\\\n", " ").splitlines():
        for part in re.split(r"&&|\|\||;|\|", line.lstrip("$ ")):
            words = shlex.split(part, comments=True)
            if words and words[0].rpartition("/")[2] == "jaxem":
                yield words[1:]


COMMANDS = [(page.name, words) for page in PAGES for code in blocks(page, *SHELL) for words in shell_commands(code)]


def planted(image, shape, count):
    rng = np.random.default_rng(3)
    corners = rng.integers(0, np.subtract(image, shape) + 1, (count, 2))
    images, template = 0.1 * rng.normal(size=(count, *image)), rng.normal(size=shape)
    for frame, (row, column) in zip(images, corners, strict=True):
        frame[row : row + shape[0], column : column + shape[1]] += template
    return images.astype("f4")


def surroundings(page):
    """What a page takes as given: packages imported, frames, and a start for them."""
    if page.name not in ("search.md", "stream.md", "scaling.md"):
        return {}
    images = planted((36, 30), (30, 24), 24)
    import pathlib

    start = jaxem.random_params(jax.random.key(0), images, (30, 24))
    return {"jax": jax, "jaxem": jaxem, "pathlib": pathlib, "images": images, "start": start}


@pytest.mark.parametrize("page", [page for page in PAGES[1:] if blocks(page, "python")], ids=lambda page: page.name)
def test_python_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = surroundings(page)
    for code in blocks(page, "python"):
        line = page.read_text()[: page.read_text().index(code)].count("\n")
        exec(compile("\n" * line + code, str(page), "exec"), names)
    if page.name == "search.md":
        assert np.isfinite(jax.grad(names["highest"])(0.0))
        assert list((tmp_path / "progress").iterdir())


def test_every_block_says_what_it_is():
    for page in PAGES:
        languages = {match["language"].strip() for match in BLOCK.finditer(page.read_text())}
        assert languages <= {"python", *SHELL, *OTHER}, page.name
        assert page.read_text().count("\n```") % 2 == 0 or page.read_text().startswith("```"), page.name


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=lambda part: part if isinstance(part, str) else part[0])
def test_commands_and_options_exist(page, words):
    group, name, rest = typer.main.get_command(app.app), words[0], with_pairs(words[1:])
    if name.startswith("-"):
        assert name in {option for param in group.params for option in param.opts}
        return
    assert name in group.commands, f"{page}: jaxem {name}"
    known = options_of(group.commands[name])
    given = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
    assert given <= known, f"{page}: jaxem {name} {given - known}"


def options_of(command):
    named = [option for param in command.params for option in (*param.opts, *param.secondary_opts)]
    return {*(option for option in named if option.startswith("-")), "--help", "-h"}


def test_there_are_commands_to_look_at():
    assert {words[0] for _, words in COMMANDS} >= {"demo", "fit"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_in_the_text_exist(page):
    """In code between backticks: of a command that is named, or of any."""
    group = typer.main.get_command(app.app)
    everywhere = set().union(*map(options_of, group.commands.values())) | {"--install-completion", "--show-completion"}
    prose = BLOCK.sub("", page.read_text()) if page.name != "coming-from.md" else ""  # other programs' options
    for span in re.findall(r"`([^`\n]+)`", prose):
        words = re.findall(r"(?<![\w-])--[a-z][a-z-]*", span)
        if not words or re.match(r"(\S+/)?(pip|pytest|python3?)\b|-n auto", span):
            continue
        command = re.match(r"(?:jaxem )?([a-z]+)\b", span)
        named = group.commands.get(command[1]) if command else None
        allowed = options_of(named) if named else everywhere
        assert set(words) <= allowed, f"{page.name}: {span}"


def test_the_commands_of_readme_run(tmp_path, monkeypatch, capfd):
    """Those of README that name FRAMES, on a few small ones; the demonstration and the tests are tested elsewhere."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/dev/null/nowhere")
    monkeypatch.chdir(tmp_path)
    wanted = [words for page, words in COMMANDS if page == "README.md" and words[:2] == ["fit", "FRAMES"]]
    assert wanted
    for number, words in enumerate(wanted):
        at = words.index("--template-shape") + 1
        shape = tuple(map(int, words[at : at + 2]))
        np.save("FRAMES.npy", planted(np.add(shape, (3, 4)), shape, 12))
        given = [{"FRAMES": "FRAMES.npy", "found": f"found{number}"}.get(word, word) for word in words]
        code = app.run([*given, "--no-test"])
        assert code == 0, capfd.readouterr().err
        assert (tmp_path / f"found{number}" / "result.npz").exists()


def test_a_wrong_option_would_be_noticed():
    with pytest.raises(AssertionError, match="--templates-shape"):
        test_commands_and_options_exist("page", ["fit", "FRAMES", "--templates-shape", "6", "4"])
    with pytest.raises(AssertionError, match="fitt"):
        test_commands_and_options_exist("page", ["fitt"])
