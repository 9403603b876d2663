"""A process that watches over the one that works: what it passes on, and what it says when native code ends that."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from jaxem.runtime.supervision import CAUSES, _verdict

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
LOST = 5
# Whatever started the tests may have had signals ignored, as nohup and shells in the background do.
BEGIN = """
import os, signal, sys, time
from jaxem.runtime.supervision import is_watched, last_word, split_off
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
"""
SPLIT = "split_off(5)\n"
FATAL = (
    "F1126 22:05:49 3128 client.h:80] Terminating process because the JAX distributed service detected fatal errors. "
    "This most likely indicates that another task died; see the other task logs for more details. absl::Status: "
)
STACK = "*** Check failure stack trace: ***\\n    @     0x7f0e5a840634  absl::LogMessage::SendToLog()\\n"


@contextmanager
def started(code, before="", **kwargs):
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | kwargs
    with subprocess.Popen([sys.executable, "-c", BEGIN + before + SPLIT + code], text=True, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def ended(code, given=""):
    with started(code) as process:
        out, error = process.communicate(given, timeout=60)
        return process.returncode, out, error


def test_what_python_reads_and_writes_is_passed_on_and_native_chatter_is_not():
    code = """
print(input(), is_watched())
print("warning", file=sys.stderr)
os.write(1, b"[Gloo] Rank 0 is connected\\n")
os.write(2, b"W1126 preemption_sync_manager.cc:147] Failed\\n")
sys.exit(3)
"""
    assert ended(code, "given\n") == (3, "given True\n", "warning\n")


def test_a_traceback_is_shown_as_ever():
    code, _, error = ended("1 / 0")
    assert code == 1
    assert error.startswith("Traceback")
    assert error.endswith("ZeroDivisionError: division by zero\n")


@pytest.mark.parametrize(
    ("native", "code", "words"),
    [
        (FATAL + "UNAVAILABLE: Failed to send RPC to coordination service.", LOST, "another process has ended"),
        (FATAL + "DEADLINE_EXCEEDED: RPC: /xla.coordination.CoordinationService/RegisterTask", LOST, "not met in time"),
        (FATAL + "ALREADY_EXISTS: a request from a newer incarnation.", LOST, "the number of this one"),
        (
            "F1126 buffer.cc:7] Check failed: size > 0",
            134,
            "ended by SIGABRT: F1126 buffer.cc:7] Check failed: size > 0",
        ),
    ],
)
def test_an_end_by_native_code_is_said_in_one_line(native, code, words):
    found = ended(f'os.write(2, b"""{native}\\n{STACK}""")\nos.abort()')
    assert found[:2] == (code, "")
    assert found[2].startswith("jaxem: ")
    assert found[2].count("\n") == 1
    assert words in found[2]


def test_a_last_word_stands_whatever_ends_the_process():
    code = f'last_word("jaxem: process 1 has failed", 2)\nos.write(2, b"{FATAL}")\nos.abort()'
    assert ended(code) == (2, "", "jaxem: process 1 has failed\n")
    assert _verdict(-6, b"\0last word: 7 \n" + FATAL.encode(), LOST) == (7, "")


def test_each_cause_can_be_told_from_the_others():
    assert len({meaning for _, meaning in CAUSES}) == len(CAUSES)
    for pattern, _ in CAUSES:
        assert re.search(pattern, b"[Gloo] Rank 0 is connected to 2 peer ranks. heartbeat") is None


def worker_of(process):
    """The number of the process that works, which says so first of all."""
    return int(process.stdout.readline())


def is_there(number):
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


SLEEPS = 'print(os.getpid(), flush=True)\ntime.sleep(60)\nprint("woke")'
ON_LINUX = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks into /proc")


def test_a_killed_worker_is_said_in_one_line():
    with started(SLEEPS) as process:
        os.kill(worker_of(process), signal.SIGKILL)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 128 + 9
    assert error == "jaxem: ended by SIGKILL; the system does so when memory is short\n"


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_signals_reach_the_worker(name):
    with started(f"signal.signal(signal.{name}, lambda number, _: os._exit(40))\n{SLEEPS}") as process:
        worker_of(process)
        process.send_signal(getattr(signal, name))
        assert process.wait(timeout=60) == 40


def test_a_signal_that_is_ignored_stays_so():
    ignores = "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
    with started("print(os.getpid(), flush=True)\ntime.sleep(1)\nsys.exit(7)", ignores) as process:
        worker_of(process)
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=60) == 7


def test_a_request_that_comes_twice_is_one():
    """A terminal sends it to both, and who watches passes it on."""
    code = """
from jaxem.runtime.interruption import Interruption
Interruption()
try:
    print(os.getpid(), flush=True)
    time.sleep(60)
except KeyboardInterrupt:
    try:
        time.sleep(1)
        last_word("asked", 40)
    except KeyboardInterrupt:
        last_word("asked twice", 41)
os._exit(1)
"""
    with started(code) as process:
        os.kill(worker_of(process), signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (40, "asked\n")


@ON_LINUX
def test_a_watcher_that_is_killed_takes_the_worker_with_it():
    with started(SLEEPS) as process:
        worker = worker_of(process)
        process.kill()
        process.wait()
        end = time.monotonic() + 30
        while is_there(worker):
            assert time.monotonic() < end
            time.sleep(0.05)


def test_a_terminal_stays_one():
    import pty

    ours, theirs = pty.openpty()
    with started("print(sys.stdout.isatty(), sys.stderr.isatty())", stdout=theirs) as process:
        assert process.wait(timeout=60) == 0
    assert os.read(ours, 100).split() == [b"True", b"False"]
    os.close(ours)
    os.close(theirs)
