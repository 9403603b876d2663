"""Bytes to arrays and back: frames in any format, frames written, results saved and loaded.

Imports from `assess` and what lies below. A format is one file in `readers`, written against the protocol in
`readers.source`, and a few lines in `readers.formats`, which recognises it by its content. Nothing is ever unpickled.
"""

from jaxem.io.frames import FramesError, read_frames

__all__ = ["FramesError", "read_frames"]
