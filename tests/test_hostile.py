"""Damaged and malicious files: each is refused in one line, soon, and in little memory."""

import contextlib
import json
import os
import resource
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from hostile import hostile_files

MOST_MEMORY = 10**9  # bytes, of the whole process
LONGEST = 5.0  # seconds of the processor for one file


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """What became of each file, all of them read by one process."""
    folder = tmp_path_factory.mktemp("hostile")
    files = list(hostile_files(folder))
    (folder / "files.json").write_text(json.dumps(files))
    ended = subprocess.run(
        [sys.executable, "-W", "default", __file__, str(folder)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    return json.loads((folder / "report.json").read_text())


@pytest.mark.slow
def test_hostile_files_are_refused_in_one_line_and_little_memory(report):
    assert len(report["files"]) >= 300
    wrong = [file for file in report["files"] if file["wrong"]]
    assert not wrong, "\n".join(f"{file['path']}: {file['wrong']}" for file in wrong)
    assert {file["outcome"] for file in report["files"] if file["kind"] == "sound"} == {"read"}
    assert report["peak"] < MOST_MEMORY
    assert max(file["seconds"] for file in report["files"]) < LONGEST


def _run_all(folder: Path) -> None:
    """In a process of its own: read every file, and write down what happened."""
    from jaxem.cli import app
    from jaxem.io import FramesError, read_frames

    files = json.loads((folder / "files.json").read_text())
    (folder / "report.json").touch()
    out, errors = folder / "out", folder / "stderr"
    errors.touch()
    sink = os.open(errors, os.O_RDWR)
    os.dup2(sink, 2)  # what libraries write in C is seen as well
    report, before = [], _everything(folder)
    for path, kind, must_fail in files:
        os.ftruncate(sink, 0)
        os.lseek(sink, 0, os.SEEK_SET)
        start, wrong, outcome = time.process_time(), "", "refused"
        if must_fail:
            with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
                code = app.run(["fit", path, "--template-shape", "3", "3", "--out", str(out)])
            sys.stderr.flush()
            said = errors.read_text()
            if code != 2 or said.count("\n") != 1 or not said.startswith("jaxem: "):
                wrong = f"exit code {code}, stderr {said!r}"
        else:
            try:
                read_frames(path)
                outcome = "read"
            except FramesError as error:
                wrong = f"several lines: {error}" if "\n" in str(error) else ""
            except Exception as error:
                wrong = f"{type(error).__name__}: {error}"
            sys.stderr.flush()
            wrong = wrong or errors.read_text()
        seconds = time.process_time() - start
        if new := _everything(folder) - before:
            wrong, before = wrong or f"left behind {new}", before | new
        report.append({"path": path, "kind": kind, "wrong": wrong, "seconds": seconds, "outcome": outcome})
    peak = _peak_memory()
    outcomes = Counter(f"{file['kind']}: {file['outcome']}" for file in report)
    (folder / "report.json").write_text(json.dumps({"files": report, "peak": peak, "outcomes": outcomes}))


def _peak_memory() -> int:
    """Bytes that this process has held at most."""
    try:  # what getrusage says began with the memory of the process that started this one
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _everything(folder: Path) -> set[str]:
    return {os.path.join(place, name) for place, below, names in os.walk(folder) for name in (*below, *names)}


if __name__ == "__main__":
    _run_all(Path(sys.argv[1]))
