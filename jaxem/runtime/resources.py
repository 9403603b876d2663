"""How much memory and how many cores there are."""

from __future__ import annotations

import os


def available_memory() -> int:
    """Bytes of main memory that can still be filled without swapping, as the operating system counts them.

    Returns:
        What Linux calls available; elsewhere the free pages, or half of all, or 4 GiB where nothing is told.

    Example:
        >>> from jaxem.runtime.resources import available_memory
        >>> available_memory() > 0
        True
    """
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


def available_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
