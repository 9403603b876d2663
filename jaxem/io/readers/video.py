"""Frames of a video file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from jaxem.io.readers.source import About, FramesError, Source, check_claim, check_memory, library, regular_size

CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,gif,mpegts,mpeg,flv,asf,ogg,yuv4mpegpipe"
"""What FFmpeg may take the file for: formats that hold their pictures themselves, no lists of other files."""
DECODERS = (
    "h264,hevc,libdav1d,av1,vp8,vp9,libvpx,libvpx-vp9,mpeg1video,mpeg2video,mpeg4,msmpeg4v3,msmpeg4v2,mjpeg,ffv1,"
)
DECODERS += (
    "huffyuv,ffvhuff,utvideo,rawvideo,gif,png,prores,dnxhd,theora,wmv1,wmv2,wmv3,vc1,h263,flv,dvvideo,qtrle,v210"
)
ATTACHED_PICTURE = 0x400  # of FFmpeg's dispositions
FULL_RANGE = 2  # black is 0, not 16
MOST_PIXELS = 2**26
SMALL_FRAME = 64 * 2**20
"""Bytes of a frame that even the shortest file may have: videos of what hardly moves pack without bound."""
THREADS = "SLICE", 4
"""Parts of a frame side by side: with frames side by side FFmpeg loses errors and marks damage too late."""
FRAMES_IN_FLIGHT = 24  # references and what waits


@contextmanager
def open_video(path: Path, name: str | None, whole_grey: bool) -> Iterator[Source]:
    """The first video stream of a file.

    Args:
        path: the file.
        name: for other forms.
        whole_grey: the decoder makes the frames grey, by luma; otherwise they come as red, green and blue.
    """
    size = regular_size(path)
    av = library("av", path)
    if _is_unfinished(path, size):
        raise FramesError(
            f"{path} was never finished: the index that players of MP4 and MOV need is missing; a repair tool with "
            f"another recording of the same camera may write one."
        )
    number, is_cut = _count_packets(av, path)
    with _opened(av, path) as container:
        stream = _video_stream(path, container)
        codec = stream.codec_context
        height, width = codec.height, codec.width
        if not (height > 0 and width > 0 and codec.pix_fmt):
            raise ValueError("no pictures of a known size")
        check_claim(path, max(0, height * width * 3 - SMALL_FRAME), size)
        check_memory(path, height * width * 3 * FRAMES_IN_FLIGHT)
        if codec.name not in DECODERS.split(","):
            raise ValueError(f"{codec.name} is no kind of video that is read here")
        turns, notes = _first_frame(av, path)  # decodes, so it comes after all that is checked
        codec.thread_type, codec.thread_count = THREADS
        deep = whole_grey and max(component.bits for component in codec.format.components) > 8
        pixel = ("gray16le" if deep else "gray") if whole_grey else "rgb24"
        stored = (height, width)
        shape = (number, *(stored[::-1] if turns % 2 else stored), *(() if whole_grey else (3,)))
        dtype = np.dtype(np.uint16 if deep else np.uint8)
        about = About(num_whole=number if is_cut else None, notes=notes)
        frames = container.decode(stream)
        yield _Video(path, shape, dtype, pixel, frames, lambda: _count_frames(av, path), stored, turns, about)


@dataclass
class _Video:
    """Decoded forwards, as the frames are asked for."""

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pixel: str
    frames: Iterator[Any]
    count: Any
    stored: tuple[int, int]  # height and width before they are turned
    turns: int  # by quarters, counterclockwise
    about: About
    stored_bytes: int | None = None
    position: int = field(default=0)

    def read(self, numbers: range, rows: slice, columns: slice) -> np.ndarray:
        wanted = iter(numbers)
        number = next(wanted, None)
        cut: list[np.ndarray] = []
        while number is not None and (frame := next(self.frames, None)) is not None:
            if self.position == number:
                cut.append(self._pixels(frame)[rows, columns].copy())
                number = next(wanted, None)
            self.position += 1
        return np.stack(cut) if cut else np.empty((0, 0, 0), self.dtype)

    def _pixels(self, frame: Any) -> np.ndarray:
        if frame.is_corrupt:
            raise ValueError(f"frame {self.position}, counted from 0, is damaged")
        if (frame.height, frame.width) != self.stored:
            raise FramesError(
                f"{self.path}: frames must be of one size, but frame 0 is {self.stored[0]} x {self.stored[1]} "
                f"and frame {self.position} is {frame.height} x {frame.width}."
            )
        whole = {"src_color_range": "JPEG"} if frame.color_range == FULL_RANGE else {}  # some versions forget it
        pixels: np.ndarray = frame.to_ndarray(format=self.pixel, dst_color_range="JPEG", **whole)
        return np.rot90(pixels, self.turns)


def _opened(av: Any, path: Path) -> Any:
    return av.open(
        f"file:{path.absolute()}",  # a name with a colon is no address
        options={
            "format_whitelist": CONTAINERS,
            "protocol_whitelist": "file",
            "max_pixels": str(MOST_PIXELS),
            "max_streams": "64",
        },
    )


def _video_stream(path: Path, container: Any) -> Any:
    """The first that is no cover picture."""
    videos = _videos(container)
    if not videos:
        raise FramesError(f"{path} holds no video.")
    return videos[0]


def _videos(container: Any) -> list[Any]:
    return [stream for stream in container.streams.video if not stream.disposition & ATTACHED_PICTURE]


def _count_packets(av: Any, path: Path) -> tuple[int, bool]:
    """At least as many as there are frames, without decoding; and whether the file ends too early."""
    number = 0
    with _opened(av, path) as container:
        stream = _video_stream(path, container)
        try:
            for packet in container.demux(stream):
                if packet.is_corrupt:
                    break
                number += packet.size > 0
            else:
                return number, False
        except av.FFmpegError:
            pass
    if not number:
        raise ValueError("it ends too early")
    return number, True


def _first_frame(av: Any, path: Path) -> tuple[int, tuple[str, ...]]:
    """By how many quarter turns the frames are to be seen, and what is to be said of them."""
    notes = []
    with _opened(av, path) as container:
        stream, several = _video_stream(path, container), len(_videos(container))
        aspect = stream.sample_aspect_ratio
        first = next(container.decode(stream), None)
    if several > 1:
        notes.append(f"the file holds {several} videos, of which the first is taken")
    if aspect and aspect != 1:
        notes.append(f"its pixels are not square ({aspect.numerator}:{aspect.denominator}), and are taken as they are")
    if first is not None and first.interlaced_frame:
        notes.append("its frames are interlaced: odd and even rows are of different times")
    degrees = int(getattr(first, "rotation", 0) or 0)
    if degrees % 90:
        return 0, (*notes, f"the file wants its frames turned by {degrees} degrees, and they are not")
    turns = degrees // 90 % 4
    return turns, (*notes, f"the frames are turned by {degrees} degrees, as the file says") if turns else tuple(notes)


def _is_unfinished(path: Path, size: int) -> bool:
    """Whether an MP4 or MOV file has pictures, but not the index that is written last."""
    with path.open("rb") as stream:
        place = 0
        seen: set[bytes] = set()
        while place + 8 <= size and len(seen) < 64:
            stream.seek(place)
            head = stream.read(16)
            kind = head[4:8]
            if not seen and kind not in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
                return False
            seen.add(kind)
            length = int.from_bytes(head[:4], "big")
            length = int.from_bytes(head[8:16], "big") if length == 1 else length
            if kind == b"moov" or length < 8:
                break
            place += length
    return b"mdat" in seen and b"moov" not in seen and b"moof" not in seen


def _count_frames(av: Any, path: Path) -> int:
    with _opened(av, path) as container:
        stream = _video_stream(path, container)
        stream.codec_context.thread_type, stream.codec_context.thread_count = THREADS
        return sum(1 for _ in container.decode(stream))
