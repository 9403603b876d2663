"""The command line as a person uses it, rightly and wrongly."""

import hashlib
import io
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
from PIL import Image

from jaxem import Status
from jaxem.cli import app, demonstration, fitting
from jaxem.cli.demo import demo_frames
from jaxem.io.results import read_about

SLOW = {"jax", "jaxlib", "optax", "numpy", "scipy", "matplotlib", "skimage", "PIL", "h5py", "zarr", "tifffile", "av"}
RESULT = {"template", "background", "noise_scale", "prior", "corners", "elbo", "history", "runs.elbo", "runs.status"}


@pytest.fixture(autouse=True)
def nothing_kept(monkeypatch):
    """Programs compiled in this process are not kept: for the tests after these its configuration stays as it was."""
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/dev/null/nowhere")


@pytest.fixture(scope="module")
def demo():
    return demo_frames(seed=1)


def known_average(demo):
    height, width = demo.truth.template.shape
    windows = [frame[i : i + height, j : j + width] for frame, (i, j) in zip(demo.frames, demo.corners, strict=True)]
    return np.mean(windows, axis=0)


def load(out):
    with np.load(out / "result.npz", allow_pickle=False) as result:
        return dict(result)


@pytest.mark.slow
def test_fit_finds_the_face_in_a_folder_of_frames(demo, tmp_path, capfd):
    for number, frame in enumerate(demo.frames):
        imageio.imwrite(tmp_path / f"{number}.png", frame)
    out = tmp_path / "found"
    assert (
        app.run(["fit", str(tmp_path), "--template-shape", "30", "24", "--out", str(out), "--seed", "3", "--no-test"])
        == 0
    )
    result = load(out)
    assert set(result) > RESULT
    assert np.abs(result["template"] - known_average(demo)).max() < 0.02 * 255
    assert (result["corners"] == demo.corners).all(axis=1).mean() > 0.97
    assert np.sqrt(np.mean((result["background"] - demo.truth.background) ** 2)) < 0.05 * 255
    np.testing.assert_allclose(result["prior"].sum(), 1, rtol=1e-5)
    assert result["history"].shape == (51,)
    assert result["runs.elbo"].shape == result["runs.status"].shape == (2,)
    assert result["elbo"] == result["runs.elbo"].max()
    assert sorted(result["runs.status"]) == [Status.CONVERGED, Status.ABANDONED]
    about = read_about(out / "result.npz")
    assert about["frame_names"].tolist() == [f"{number}.png" for number in range(len(demo.frames))]
    assert about["frame_numbers"].tolist() == [*range(len(demo.frames))]
    assert json.loads(str(about["options"]))["--template-shape"] == [30, 24]
    assert str(about["source"]) == str(tmp_path)
    assert imageio.imread(out / "figure.png").shape[2] == 4
    assert sorted(file.name for file in out.iterdir()) == ["figure.png", "positions.csv", "result.npz"]
    captured = capfd.readouterr()
    assert captured.err == ""
    assert "annealing" in captured.out
    assert "converged" in captured.out
    assert "warning" not in captured.out


@pytest.mark.slow
def test_demo(tmp_path, capfd):
    out = tmp_path / "demo"
    assert app.run(["demo", "--out", str(out)]) == 0
    assert set(load(out)) > RESULT
    text = capfd.readouterr().out
    assert "100.0 % exactly right" in text
    assert "0.00 % of the range (rms) from the mean at the true places" in text
    shown = Path(__file__).parent.parent / "docs" / "demo.png"  # README's picture is what this command writes
    with Image.open(shown) as picture, Image.open(out / "figure.png") as now:
        assert picture.size == now.size
        said = [re.sub(r"[0-9.]+", "#", one.info["Description"]) for one in (picture, now)]
        assert said[0] == said[1]
        assert said[0].count(";") >= 7


def test_every_option_of_fit_reaches_the_fit(demo, tmp_path, capfd):
    stack = tmp_path / "stack.npy"
    np.save(stack, demo.frames[:40, ::2, ::2])
    fit = ["fit", str(stack), "--template-shape", "15", "12", "--out", str(tmp_path / "out")]
    options = ["--restarts", "2", "--plain", "--hard", "--prior-smoothing", "4", "--max-iterations", "3"]
    options += ["--tolerance", "0", "--no-test"]
    assert app.run(fit + options) == 3  # nothing converges in three iterations
    error = capfd.readouterr().err
    assert "jaxem: warning: The best run did not converge. The iterations ran out" in error
    assert error.endswith("jaxem: no run converged; the best of them was written all the same\n")
    result = load(tmp_path / "out")
    assert result["history"].shape == (4,)
    assert result["runs.elbo"].shape == (2,)
    np.testing.assert_allclose(result["prior"].min(), 4 / result["prior"].size / (40 + 4), rtol=1e-4)
    assert set(result["runs.status"]) == {Status.MAX_ITERATIONS}
    first = result["runs.elbo"]
    again = [*fit, *options, "--seed", "9"]
    assert app.run(again) == 2
    assert "--out would replace" in capfd.readouterr().err
    assert app.run([*again, "--overwrite"]) == 3
    assert (load(tmp_path / "out")["runs.elbo"] != first).all()


def test_what_should_be_doubted_is_said(tmp_path, capfd):
    frame = np.random.default_rng(0).integers(0, 256, (1, 20, 24))
    stack, out = tmp_path / "same [bold].npy", tmp_path / "out[/b]"
    np.save(stack, np.repeat(frame, 8, axis=0))
    assert app.run(["fit", str(stack), "--template-shape", "18", "22", "--out", str(out), "--no-test"]) == 0
    assert (out / "result.npz").exists()
    text = capfd.readouterr().err
    assert "The noise is below what the pixels' numbers resolve" in text
    assert "background pixels in every frame" in text


def wrong(tmp_path):
    good, out = tmp_path / "good.npy", tmp_path / "out"
    np.save(good, np.random.default_rng(0).random((3, 10, 12)))
    np.save(tmp_path / "complex.npy", np.ones((3, 10, 12), complex))
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    np.save(tmp_path / "one.npy", np.ones((1, 10, 12)))
    np.save(tmp_path / "flat.npy", np.ones((30, 12)))
    np.save(tmp_path / "mask.npy", np.ones((10, 12)))
    shape = ["--template-shape", "4", "5"]
    return {
        "no frames": ([tmp_path / "nothing", *shape, "--out", out], "FRAMES: .*nothing does not exist"),
        "empty folder": ([tmp_path / "empty", *shape, "--out", out], "FRAMES: .*empty holds no pictures"),
        "complex": ([tmp_path / "complex.npy", *shape, "--out", out], "FRAMES: .*real numbers.*complex128"),
        "large template": (
            [good, "--template-shape", "11", "5", "--out", out],
            r"--template-shape \(11, 5\) is larger than the images \(10, 12\); choose h <= 10",
        ),
        "no template": ([good, "--template-shape", "0", "5", "--out", out], r"--template-shape .*\(0, 5\)"),
        "half a shape": ([good, "--out", out, "--template-shape", "4"], "--template-shape must be two .* but is '4'"),
        "one number": ([good, "--template-shape", "4", "--out", out], "--template-shape must be two .* but is '4'"),
        "no number": ([good, "--template-shape", "--out", out], "--template-shape must be two .* but is '--out'"),
        "half of it in words": ([good, "--template-shape", "4xa", "--out", out], "must be two .* but is '4xa'"),
        "no shape at all": ([good, "--out", out, "--template-shape"], "--template-shape.*2 arguments"),
        "three numbers": ([good, "--out", out, "--template-shape=4x5x6"], "must be two .* but is '4x5x6'"),
        "too large in one word": ([good, "--out", out, "--template-shape", "40x50"], r"--template-shape .*\(40, 50\)"),
        "text for a shape": (
            [good, "--template-shape", "a", "b", "--out", out],
            "--template-shape must be two whole numbers, height and width, as in 60 40, but is 'a b'",
        ),
        "no restarts": ([good, *shape, "--out", out, "--restarts", "0"], "--restarts must be at least 1, but is 0"),
        "smoothing": ([good, *shape, "--out", out, "--prior-smoothing", "-1"], "--prior-smoothing .*at least 0.*-1"),
        "nan tolerance": ([good, *shape, "--out", out, "--tolerance", "nan"], "--tolerance .*nan"),
        "iterations": ([good, *shape, "--out", out, "--max-iterations", "0"], "--max-iterations .*at least 1.*0"),
        "seed": ([good, *shape, "--out", out, "--seed", "-1"], "--seed .*at least 0.*-1"),
        "large seed": ([good, *shape, "--out", out, "--seed", str(2**70)], "--seed .*at most 4294967295"),
        "text for restarts": ([good, *shape, "--out", out, "--restarts", "x"], "--restarts.*'x' is not a whole number"),
        "far too many": ([good, *shape, "--out", out, "--restarts", "9" * 20], "--restarts must be at most 100000"),
        "endless": ([good, *shape, "--out", out, "--max-iterations", "9" * 11], "--max-iterations must be at most"),
        "infinite smoothing": ([good, *shape, "--out", out, "--prior-smoothing", "1e40"], "--prior-smoothing .*finite"),
        "infinite tolerance": ([good, *shape, "--out", out, "--tolerance", "inf"], "--tolerance .*finite"),
        "a long name": ([tmp_path / ("x" * 300), *shape, "--out", out], "FRAMES: .*File name too long"),
        "a long output": ([good, *shape, "--out", tmp_path / ("x" * 300)], "--out: .*File name too long"),
        "no output": ([good, *shape], "--out"),
        "output in the way": ([good, *shape, "--out", tmp_path / "file"], "--out: cannot write to .*file"),
        "output below a file": ([good, *shape, "--out", tmp_path / "file" / "x"], "--out: cannot write to .*file/x"),
        "unknown option": ([good, *shape, "--out", out, "--speed"], "--speed"),
        "quiet and json": (
            [good, *shape, "--out", out, "--quiet", "--json"],
            "--quiet and --json exclude each other; choose one.",
        ),
        "resume alone": ([good, *shape, "--out", out, "--resume"], "--resume needs --checkpoint DIR"),
        "one frame": ([tmp_path / "one.npy", *shape, "--out", out], "FRAMES: .*one.npy is one frame alone"),
        "several with a folder": (
            [good, tmp_path / "empty", *shape, "--out", out],
            "FRAMES: .*empty is a folder; give",
        ),
        "several with a stack": (
            [good, tmp_path / "one.npy", *shape, "--out", out],
            "FRAMES: .*good.npy is no picture; give one npy",
        ),
        "several, one lost": (
            [good, tmp_path / "nothing", *shape, "--out", out],
            "FRAMES: .*nothing does not exist; of",
        ),
        "no name": ([good, *shape, "--out", ""], "--out is empty; say what is meant"),
        "no frames named": (["", *shape, "--out", out], "FRAMES is empty; say what is meant"),
        "a channel and grey": (
            [good, *shape, "--out", out, "--channel", "0", "--grey", "red"],
            "--channel and --grey ex",
        ),
        "a channel too many": (
            [good, *shape, "--out", out, "--channel", "1"],
            "--channel is 1, but .*one channel alone",
        ),
        "signals": (
            [tmp_path / "flat.npy", *shape, "--out", out],
            r"FRAMES: .*30 signals of length 12, save x\[:, None, :\]",
        ),
        "no mask, before frames are read": (
            [tmp_path / "nothing", *shape, "--out", out, "--mask", tmp_path / "maskk.npy"],
            "--mask: .*maskk.npy does not exist; did you mean .*mask.npy",
        ),
        "no picture, before frames are read": (
            [tmp_path / "nothing", *shape, "--out", out, "--init", tmp_path / "face.png"],
            "--init: .*face.png does not exist; give",
        ),
        "no background, before frames are read": (
            [
                tmp_path / "nothing",
                *shape,
                "--out",
                out,
                "--fix",
                "noise_scale=3",
                "--fix",
                f"background={tmp_path}/x.npy",
            ],
            "--fix: .*x.npy does not exist",
        ),
        "nothing read first": ([tmp_path / "nothing", *shape, "--out", tmp_path / "file"], "--out: cannot write"),
        "checkpoints in the way": (
            [good, *shape, "--out", out, "--checkpoint", tmp_path / "file"],
            "--checkpoint: cannot write to .*file",
        ),
    }


WRONG = [
    "no frames", "empty folder", "complex", "large template", "no template", "half a shape", "text for a shape",
    "no restarts", "smoothing", "nan tolerance", "iterations", "seed", "large seed", "no output", "output in the way",
    "output below a file", "unknown option", "text for restarts", "far too many", "endless", "infinite smoothing",
    "infinite tolerance", "a long name", "a long output", "one number", "no number", "half of it in words",
    "no shape at all", "three numbers", "too large in one word",
    "one frame", "several with a folder", "several with a stack", "several, one lost", "no name", "no frames named",
    "a channel and grey", "a channel too many", "signals", "nothing read first",
    "no mask, before frames are read", "no picture, before frames are read", "no background, before frames are read",
    "quiet and json", "resume alone", "checkpoints in the way",
]  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_gets_one_line_and_exit_code_2(tmp_path, capfd, name):
    mistakes = wrong(tmp_path)
    assert mistakes.keys() == set(WRONG)
    arguments, pattern = mistakes[name]
    before = sorted(tmp_path.rglob("*"))
    assert app.run(["fit", *map(str, arguments)]) == 2
    error = capfd.readouterr().err
    assert re.fullmatch(f"jaxem: .*{pattern}.*\n", error), error
    assert sorted(tmp_path.rglob("*")) == before


def test_an_interruption_leaves_nothing_behind(tmp_path, capfd, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(fitting, "fit_restarts_parallel", interrupt)
    monkeypatch.setattr(demonstration, "start_test", lambda _: None)  # its thread would outlive this process's tests
    assert app.run(["demo", "--out", str(tmp_path / "out")]) == 130
    assert capfd.readouterr().err == "jaxem: interrupted; nothing was written\n"
    assert list(tmp_path.iterdir()) == []


def test_a_real_interruption_ends_at_once(tmp_path, monkeypatch):
    """Runs under way in other threads are not waited for, and nothing is left but what was saved of them."""
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    np.save(tmp_path / "long.npy", np.random.default_rng(0).random((3000, 60, 80), "float32"))
    command = [sys.executable, "-m", "jaxem", "fit", str(tmp_path / "long.npy"), "--template-shape", "20", "20"]
    command += ["--out", str(tmp_path / "deep" / "out"), "--tolerance", "0", "--max-iterations", "1000"]
    for request in (signal.SIGINT, signal.SIGTERM):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
            assert "3000 frames" in running.stdout.readline()
            time.sleep(2)
            running.send_signal(request)
            _, error = running.communicate(timeout=120)  # compiling is not interrupted
        assert running.returncode == 130
        assert re.fullmatch("jaxem: interrupted; (nothing was written|what was done is saved in .*)\n", error)
        left = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()} - {"long.npy"}
        assert all(path.startswith("deep/out/checkpoint/checkpoint-") for path in left)
        assert bool(left) == ("saved" in error)
        shutil.rmtree(tmp_path / "deep", ignore_errors=True)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no such timer")
def test_a_request_to_stop_waits_for_imports(tmp_path):
    """Compiled modules end the process when they are interrupted."""
    (tmp_path / "slow.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\nprint('imported')\n")
    code = """
import time
from jaxem.runtime import interruption
interruption.Interruption()
try:
    import slow
    time.sleep(30)
except KeyboardInterrupt:
    interruption.heard()
    print("asked")
interruption.SECONDS_OF_IMPORTS = 0.0
del __import__("sys").modules["slow"]
try:
    import slow
except KeyboardInterrupt:
    print("asked in the middle")
"""
    said = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert said.stdout.splitlines() == ["imported", "asked", "asked in the middle"]
    assert said.stderr == ""


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no such timer")
def test_a_request_to_stop_that_was_dropped_is_made_again():
    """As in a callback of the garbage collector, where exceptions end in nothing."""
    code = """
import os, signal, time
from jaxem.runtime import interruption
interruption.SECONDS_UNTIL_ASKED_AGAIN = 0.2
interruption.Interruption()
try:
    os.kill(os.getpid(), signal.SIGTERM)
except KeyboardInterrupt:
    print("dropped")
try:
    time.sleep(30)
except KeyboardInterrupt:
    interruption.heard()
    print("asked again")
time.sleep(0.5)
print("undisturbed")
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.split("\n")[:3] == ["dropped", "asked again", "undisturbed"]


def modules_after(*arguments):
    """Exit code of a command, what it said, and which modules it had imported in the end."""
    code = "import atexit, sys; atexit.register(lambda: print(*sys.modules)); import jaxem.__main__ as m; m.main()"
    ended = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    *said, modules = ended.stdout.splitlines()
    return ended.returncode, "\n".join(said) + ended.stderr, {name.split(".")[0] for name in modules.split()}


@pytest.mark.parametrize(
    ("arguments", "said", "more"),
    [
        (["--help"], "restore", set()),
        (["fit", "--help"], "--template-shape", set()),
        (["--version"], "jaxem 0.", {"rich"}),
        (["nonsense"], "No such command 'nonsense'. (jaxem --help shows what is expected)", {"rich"}),
        (["fit", "--bad"], "No such option: --bad", {"rich"}),
        (["locate", "x"], "(jaxem locate --help shows what is expected)", {"rich"}),
        (["fit", "x", "--template-shape", "4x5"], "(jaxem fit --help shows what is expected)", {"rich"}),
        (["demo", "--quiet", "--json"], "--quiet and --json exclude each other", {"rich"}),
        (["fit", "x", "--out", "y", "--template-shape", "a", "b"], "must be two whole numbers", {"rich"}),
        (
            ["fit", "x", "--out", "y", "--template-shape", "4", "5", "--process", "0"],
            "--process needs --coordinator HOST:PORT",
            {"rich"},
        ),
        (
            ["plot", "x", "--out", "y.png", "--images", "z", "--crop", "1", "2", "3", "d"],
            "four whole numbers",
            {"rich"},
        ),
    ],
)
def test_what_needs_no_work_waits_for_no_imports(arguments, said, more):
    code, words, modules = modules_after(*arguments)
    assert code == (0 if "--help" in arguments or "--version" in arguments else 2)
    assert said in words
    assert not modules & (SLOW | more)


def test_looking_at_frames_needs_no_jax(tmp_path):
    np.save(tmp_path / "stack.npy", np.random.default_rng(0).random((9, 20, 24)))
    code, said, modules = modules_after("info", tmp_path / "stack.npy", "--template-shape", "20", "24")
    assert code == 0
    assert "9 frames of 20 x 24" in said
    assert not modules & (SLOW | {"rich"}) - {"numpy"}
    code, said, modules = modules_after("info", tmp_path / "stack.npy", "--template-shape", "21", "24")
    assert code == 2
    assert said == (
        "jaxem: --template-shape (21, 24) is larger than the images (20, 24); choose h <= 20 and w <= 24.\n"
    )
    assert not modules & (SLOW | {"rich"}) - {"numpy"}


def test_a_checkpoint_of_an_older_version_is_refused(tmp_path, capfd):
    np.save(tmp_path / "stack.npy", np.random.default_rng(0).random((3, 10, 12)))
    stream = io.BytesIO()
    np.savez(stream, header=np.array(json.dumps({"format": 1, "identity": {"--seed": "0"}, "tasks": {}})))
    digest = hashlib.sha256(stream.getvalue()).hexdigest()[:16]
    saved = tmp_path / "saved" / f"checkpoint-000000001-{digest}.npz"
    saved.parent.mkdir()
    saved.write_bytes(stream.getvalue())
    fit = ["fit", tmp_path / "stack.npy", "--template-shape", "4", "5", "--out", tmp_path / "out"]
    assert app.run([*map(str, fit), "--checkpoint", str(saved.parent), "--resume"]) == 2
    assert capfd.readouterr().err == (
        f"jaxem: --checkpoint: {saved} is of another version of jaxem; go on with that, or begin anew.\n"
    )
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize("request_to_stop", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("error", ["ImportError", "KeyboardInterrupt"])
def test_an_interruption_of_an_import_gets_one_line(request_to_stop, error):
    """Compiled modules raise an ImportError when they are interrupted."""
    code = f"""
import os, jaxem.__main__ as main, jaxem.cli.app as app
def run(arguments):
    try:
        os.kill(os.getpid(), {request_to_stop})
    except KeyboardInterrupt:
        raise {error}
app.run = run
main.main()
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (130, "jaxem: interrupted; nothing was written\n")


def test_the_installed_command():
    def jaxem(*arguments):
        return subprocess.run([sys.executable, "-m", "jaxem", *arguments], capture_output=True, text=True, check=False)

    assert "demo" in jaxem().stdout
    shown = jaxem("fit", "--help")
    assert shown.returncode == 0
    assert "Example: jaxem fit" in shown.stdout
    assert jaxem("find").returncode == 2
    assert jaxem("--version").stdout.startswith("jaxem 0.")
    without_extra = "import sys; sys.modules['typer'] = None; import jaxem.__main__ as m; m.main()"
    bare = subprocess.run([sys.executable, "-c", without_extra], capture_output=True, text=True, check=False)
    assert bare.returncode == 2
    assert bare.stderr == "jaxem: the command line needs typer; install it with: pip install 'jaxem[app]'\n"
