"""How much memory there is, and what this process no longer uses, handed back to the system."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys


def physical_memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def release_memory() -> None:
    """Hand back what was freed: the C library keeps hundreds of MiB of compiling, and of arrays below 32 MiB each."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError):  # glibc's alone
            ctypes.CDLL(None).malloc_trim(0)
