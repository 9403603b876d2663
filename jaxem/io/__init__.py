"""Bytes to arrays and back: frames in any format, frames written, results saved and loaded.

Imports from `assess` and what lies below. A new format is a line in the table of `readers.formats` and a reader beside
it (`readers.mrc` is a short one); where a file holds one frame, it is a line in `readers.folder`. Nothing is ever
unpickled.
"""

from jaxem.io.frames import FramesError, open_frames, read_frames

__all__ = ["FramesError", "open_frames", "read_frames"]
