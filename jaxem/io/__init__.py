"""Bytes to arrays and back: frames in any format, frames written, results saved and loaded.

Imports from `assess` and what lies below. A format is one file in `readers`, written against the protocol in
`readers.source`, and its lines in `readers.formats`, which recognises it by its content, or in `readers.folder`, where
a file holds one frame. Nothing is ever unpickled.
"""

from jaxem.io.frames import FramesError, read_frames

__all__ = ["FramesError", "read_frames"]
