"""With what number each command ends."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """What a script can ask of a command that has ended."""

    DONE = 0
    COMPUTES_WRONGLY = 1  # `jaxem doctor`: this installation
    USERS_ERROR = 2
    NOTHING_CONVERGED = 3  # all that was found is written
    NOTHING_FOUND = 4  # by the detection test; all the same
    PROCESS_LOST = 5  # of several that work together another has ended, or cannot be reached
    INTERRUPTED = 130  # as shells say it
