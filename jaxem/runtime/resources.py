"""How much memory and how many cores there are."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# Of frames that do not fit into memory, how many bytes of pixels are read and worked on at a time, enough that starting
# costs nothing beside them; and how many such chunks are read ahead, with the one being read.
CHUNK_BYTES, CHUNKS_AHEAD = 2**24, 2
MMAP_THRESHOLD = -3  # as glibc's malloc.h calls it
GROUPS = Path("/sys/fs/cgroup")
# By the version of control groups: the files that tell the limit, what is in use, and what of it can be given back.
LIMIT_FILES = {1: ("memory.limit_in_bytes", "memory.usage_in_bytes"), 2: ("memory.max", "memory.current")}
SLOWED = "memory.high"  # from where on a process is slowed down
RECLAIMABLE = {1: "total_inactive_file", 2: "inactive_file"}


def available_memory() -> int:
    """Bytes of main memory that can still be filled without swapping, as the operating system counts them.

    Returns:
        What Linux calls available, or what is left of the limits that a container, a batch system or a service manager
        has set, if that is less; elsewhere the free pages, or half of all, or 4 GiB where nothing is told.

    Example:
        >>> from jaxem.runtime.resources import available_memory
        >>> available_memory() > 0
        True
    """
    return min(_of_system(), *_of_groups())


def taken_memory(status: Path = Path("/proc/self/status")) -> int:
    """Bytes of main memory that this process has taken for itself already, files aside; 0 where nobody tells."""
    try:
        lines = status.read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return 0


def _of_system() -> int:
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    for name, share in (("SC_AVPHYS_PAGES", 1), ("SC_PHYS_PAGES", 2)):
        try:
            return os.sysconf(name) * os.sysconf("SC_PAGE_SIZE") // share
        except (OSError, ValueError, AttributeError):  # each system knows other names, and Windows none
            continue
    return 4 * 2**30


def _of_groups(membership: Path = Path("/proc/self/cgroup"), root: Path = GROUPS) -> Iterator[int]:
    """What each control group that this process is in, directly or not, leaves it."""
    try:
        lines = membership.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0":
            top, version = root, 2
        elif "memory" in controllers.split(","):
            top, version = root / "memory", 1
        else:
            continue
        # In a container the path may be that of the host, of which only the end or nothing is there.
        folder = top / path.lstrip("/")
        for group in (folder, *(parent for parent in folder.parents if parent == top or top in parent.parents)):
            left = _left_in_group(group, version)
            if left is not None:
                yield left


def _left_in_group(group: Path, version: int) -> int | None:
    """Bytes; None where there is no limit, or nothing is told."""
    try:
        limit, used = ((group / name).read_text(encoding="ascii").strip() for name in LIMIT_FILES[version])
        limits = [limit, (group / SLOWED).read_text(encoding="ascii").strip() if (group / SLOWED).exists() else "max"]
        if limits == ["max", "max"]:
            return None
        most = min(int(text) for text in limits if text != "max")
        statistics = dict(
            line.split(" ", 1) for line in (group / "memory.stat").read_text(encoding="ascii").splitlines()
        )
        return max(0, most - int(used) + int(statistics.get(RECLAIMABLE[version], 0)))
    except (OSError, ValueError):
        return None


def return_chunks() -> None:
    """Have chunks of frames go back to the system when they are no longer needed, in this process, where it has glibc.

    By itself it learns from the first of them to keep such blocks for later, in as many heaps as there are threads: of
    a stack of 360 MB in passes on two cores, 1.1 GB in place of 0.7.
    """
    if "MALLOC_MMAP_THRESHOLD_" in os.environ:  # somebody knows better
        return
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(MMAP_THRESHOLD, CHUNK_BYTES * 3 // 4)


def available_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
