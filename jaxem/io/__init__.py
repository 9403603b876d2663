"""Bytes to arrays and back: frames in any format, frames written, results saved and loaded.

Imports from `assess` and what lies below. A format is one file in `readers`, found by its content in `readers.formats`,
and can be added or mended by reading `readers.source` alone. Nothing is ever unpickled.
"""

from jaxem.io.frames import FramesError, read_frames

__all__ = ["FramesError", "read_frames"]
