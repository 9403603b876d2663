"""How much memory there is."""

from __future__ import annotations

import os


def available_memory() -> int:
    """Bytes of main memory that can still be filled without swapping, as the operating system counts them.

    Returns:
        What Linux calls available; elsewhere the free pages, or half of all, or 4 GiB where nothing is told.

    Example:
        >>> from jaxem.memory import available_memory
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
