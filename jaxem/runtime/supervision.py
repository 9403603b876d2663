"""A process that watches over the one that works, which native code can end without a word to Python.

JAX's distributed runtime ends a process whose first peer has died, or cannot be reached, from C++: by a signal and with
a stack trace, which nothing in the same process can catch. So the work is done in a fork. What native code writes in it
goes to the process that watches, which keeps the end of it, and says in one line why the work has ended. What Python
writes goes where it always goes. Imports nothing slow, and must be called before there are threads.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn, TextIO

from jaxem.runtime.text import one_line

KEPT_BYTES = 64 * 2**10  # of what native code has written
LONGEST_LINE = 300  # characters of it that are shown
SECONDS_TO_DRAIN = 2.0  # for who holds the pipe after the end, such as a grandchild
PASSED_ON = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
STACK = re.compile(r"\s*(@|\*\*\*) ")  # lines of a trace
LAST_WORD = b"\0last word: "

# What JAX's distributed runtime writes, and what it means; the first that is found counts.
CAUSES = (
    (
        rb"newer incarnation|different incarnation",
        "another process has come with the number of this one; give each a number of its own",
    ),
    (
        rb"RPC: \S*RegisterTask|Wait_for_all_tasks_to_register",
        "the processes have not met in time: the first one cannot be reached, or one is missing, has the number of "
        "another, or was told of another number of processes",
    ),
    (
        rb"Failed to add port to server",
        "process 0 cannot listen at the port of the coordinator, which another program may have",
    ),
    (
        rb"JAX distributed service|[Cc]oordination ?[Ss]ervice|another task died",
        "another process has ended, or cannot be reached",
    ),
)

_to_watcher: int | None = None  # in the process that works


def split_off(code_if_lost: int) -> None:
    """Go on in a fork; this process watches over it, and ends as it does. Nothing where the system has no forks.

    Args:
        code_if_lost: the exit code of an end that other processes have caused.
    """
    if not hasattr(os, "fork"):
        return
    native, to_watcher = os.pipe()
    alive, life = os.pipe()  # of which the watcher alone holds the second end, as long as it lives
    with _blocked():  # a signal in between would find two processes that both take it for their own
        worker = os.fork()
        if worker:
            os.close(to_watcher)
            os.close(alive)
            for number in PASSED_ON:
                if signal.getsignal(number) != signal.SIG_IGN:  # as nohup and shells in the background have it
                    signal.signal(number, lambda number, _: _pass_on(worker, number))
        else:
            os.close(native)
            os.close(life)
            _become_worker(to_watcher, alive)
            return
    _watch(worker, native, code_if_lost)


def is_watched() -> bool:
    """Whether another process watches over this one."""
    return _to_watcher is not None


def last_word(line: str, code: int) -> bool:
    """Leave it to the watcher to print a line and to end with a code, whatever else ends this process before it can.

    Args:
        line: what is to be shown, or nothing.
        code: the exit code.

    Returns:
        Whether anybody watches.
    """
    if _to_watcher is None:
        return False
    _write(_to_watcher, b"%s%d %s\n" % (LAST_WORD, code, line.encode("utf-8", "backslashreplace")))
    return True


@contextmanager
def _blocked() -> Iterator[None]:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, PASSED_ON)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _pass_on(worker: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(worker, number)


def _become_worker(to_watcher: int, alive: int) -> None:
    global _to_watcher
    _to_watcher = to_watcher
    # Python keeps the screen to itself; native code, which knows descriptors 1 and 2 alone, gets the pipe for it.
    sys.stdout, sys.stderr = _moved(sys.stdout, to_watcher), _moved(sys.stderr, to_watcher)

    def end_with_watcher() -> None:
        os.read(alive, 1)
        os._exit(1)

    threading.Thread(target=end_with_watcher, daemon=True).start()


def _moved(stream: TextIO, pipe: int) -> TextIO:
    """The stream on a descriptor of its own, while its old one leads into the pipe."""
    old = stream.fileno()
    stream.flush()
    at_once = 1 if stream.line_buffering else -1
    moved = os.fdopen(os.dup(old), "w", encoding=stream.encoding, errors=stream.errors, buffering=at_once)
    moved.reconfigure(write_through=getattr(stream, "write_through", False))
    os.dup2(pipe, old)
    return moved


def _watch(worker: int, native: int, code_if_lost: int) -> NoReturn:
    written = bytearray()

    def drain() -> None:
        while chunk := os.read(native, 2**16):
            written.extend(chunk)
            del written[:-KEPT_BYTES]

    reader = threading.Thread(target=drain, daemon=True)
    reader.start()
    _, status = os.waitpid(worker, 0)
    reader.join(SECONDS_TO_DRAIN)
    code, line = _verdict(os.waitstatus_to_exitcode(status), bytes(written), code_if_lost)
    if line:
        with suppress(OSError):
            if os.isatty(1):
                _write(1, b"\x1b[?25h")  # the cursor, which a table that was cut off has hidden
            _write(2, line.encode() + b"\n")
    os._exit(code)


def _verdict(ended: int, written: bytes, code_if_lost: int) -> tuple[int, str]:
    """The exit code, and the line to print."""
    said = re.findall(re.escape(LAST_WORD) + rb"(\d+) (.*)\n", written)
    if said:
        code, line = said[-1]
        return int(code), line.decode()
    if ended >= 0:
        return ended, ""
    text = written.replace(b"\0", b"")
    if -ended in (signal.SIGABRT, signal.SIGSEGV):
        for pattern, meaning in CAUSES:
            if re.search(pattern, text):
                return code_if_lost, f"jaxem: {meaning}"
    lines = [line for line in text.decode(errors="replace").splitlines() if line.strip() and not STACK.match(line)]
    last = f": {one_line(lines[-1], LONGEST_LINE)}" if lines else ""
    hint = "; the system does so when memory is short" if -ended == getattr(signal, "SIGKILL", 0) else ""
    return 128 - ended, f"jaxem: ended by {_name(-ended)}{hint}{last}"


def _name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
