"""Requests to stop, repeated until one is heard."""

from __future__ import annotations

import signal
import sys
import time
from types import FrameType

from jaxem.runtime.supervision import is_watched

SECONDS_UNTIL_ASKED_AGAIN = 2.0
SECONDS_OF_ONE_REQUEST = 0.3  # in which it may come twice: from the terminal, and from who watches over this process
SECONDS_BETWEEN_IMPORTS, SECONDS_OF_IMPORTS = 0.05, 10.0  # until a request is made again, and at most


class Interruption:
    """Lets both ways of asking to stop end in a `KeyboardInterrupt`, and remembers that there was one.

    The exception appears wherever the main thread happens to be. In a callback of the garbage collector, of which JAX
    has one, Python drops it; nothing of that is printed, and it is raised again until somebody says it was `heard`.
    Compiled modules that are being imported end the process or raise something else in its place, so it waits for them.
    """

    def __init__(self) -> None:
        self.was_asked_for = False
        self.asked_first, self.asked_last = 0.0, -SECONDS_OF_ONE_REQUEST
        signal.signal(signal.SIGTERM, self)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # shells let jobs in the background ignore it
            signal.signal(signal.SIGINT, self)
        if hasattr(signal, "SIGALRM"):
            signal.signal(signal.SIGALRM, self)
        sys.unraisablehook = _say_unless_interrupted

    def __call__(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if is_watched() and number != getattr(signal, "SIGALRM", 0) and now - self.asked_last < SECONDS_OF_ONE_REQUEST:
            return
        self.asked_last = now
        self.asked_first = self.asked_first if self.was_asked_for else now
        self.was_asked_for = True
        if _is_importing(frame) and now - self.asked_first < SECONDS_OF_IMPORTS and hasattr(signal, "setitimer"):
            _ask_again_after(SECONDS_BETWEEN_IMPORTS)
            return
        _ask_again_after(SECONDS_UNTIL_ASKED_AGAIN)
        raise KeyboardInterrupt


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _say_unless_interrupted(dropped: sys.UnraisableHookArgs) -> None:
    """What Python does of an exception that it drops, but for requests to stop."""
    if not issubclass(dropped.exc_type, KeyboardInterrupt):
        sys.__unraisablehook__(dropped)


def heard() -> None:
    """A request to stop has arrived: let what is done about it go undisturbed."""
    _ask_again_after(0.0)


def _ask_again_after(seconds: float) -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)
