"""Numbers and foreign text in words."""

from __future__ import annotations

from collections.abc import Sequence


def plural(count: int, noun: str) -> str:
    """3 frames, 1 frame."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def listed(names: Sequence[str], most: int) -> str:
    """At most so many of the names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def bytes_in_words(size: int) -> str:
    """A number of bytes for people."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= scale:
            return f"{size / scale:.3g} {unit}" if size < 1000 * scale else f"{size / scale:.3e} {unit}"
    return f"{size} bytes"


def clock(seconds: float) -> str:
    """A time in minutes and seconds, with hours where there are some."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}" if minutes >= 60 else f"{minutes}:{rest:02}"


def printable(line: str) -> str:
    """A line that a terminal shows and does not obey, whatever names of files are in it."""
    return "".join(letter if letter.isprintable() else "?" for letter in line)


def one_line(text: str, limit: int) -> str:
    """Text from a file or a decoder, fit to be shown in a terminal."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= limit else line[: limit - 3] + "..."
