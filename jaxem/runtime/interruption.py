"""Requests to stop, repeated until one is heard."""

from __future__ import annotations

import signal
from typing import Any

SECONDS_UNTIL_ASKED_AGAIN = 2.0


class Interruption:
    """Lets both ways of asking to stop end in a `KeyboardInterrupt`, and remembers that there was one.

    The exception appears wherever the main thread happens to be. In a callback of the garbage collector, of which JAX
    has one, Python drops it; compiled modules that are being imported raise something else in its place. So it is
    raised again until somebody says that it was `heard`.
    """

    def __init__(self) -> None:
        self.was_asked_for = False
        signal.signal(signal.SIGTERM, self)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # shells let jobs in the background ignore it
            signal.signal(signal.SIGINT, self)
        if hasattr(signal, "SIGALRM"):
            signal.signal(signal.SIGALRM, self)

    def __call__(self, number: int, frame: Any) -> None:
        self.was_asked_for = True
        _ask_again_after(SECONDS_UNTIL_ASKED_AGAIN)
        raise KeyboardInterrupt


def heard() -> None:
    """A request to stop has arrived: let what is done about it go undisturbed."""
    _ask_again_after(0.0)


def _ask_again_after(seconds: float) -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)
