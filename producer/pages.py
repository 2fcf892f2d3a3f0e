"""Two system calls on a memory map that must not hold the GIL: populate its pages, and write some of them to disk.

Python's own `mmap.madvise` and `mmap.flush` keep the GIL in several supported versions, and so would stop the training loop for as
long as the disk takes; a call through ctypes lets go of it.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from functools import lru_cache
from typing import Any

MADV_POPULATE_WRITE = 23
"""Linux 5.14 and newer: fault the pages in, writable, before they are needed."""
POPULATE_STEP = 256 << 10
"""The system keeps the process's memory map locked meanwhile, and a training loop that needs memory waits for it: so in small steps."""


@lru_cache(maxsize=1)
def _libc() -> Any:  # noqa: ANN401 - ctypes has no better type
    libc = ctypes.CDLL(None, use_errno=True)
    for name in ("madvise", "msync"):
        function = getattr(libc, name)
        function.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        function.restype = ctypes.c_int
    return libc


def populate(pages: mmap.mmap) -> None:
    """Fault all pages in, so that no write of the training loop does. Where the system cannot, nothing happens: it is only slower."""
    if sys.platform != "linux":
        return
    anchor = ctypes.c_char.from_buffer(pages)
    for start in range(0, len(pages), POPULATE_STEP):
        _libc().madvise(ctypes.addressof(anchor) + start, min(POPULATE_STEP, len(pages) - start), MADV_POPULATE_WRITE)


def sync(pages: mmap.mmap, start: int, stop: int) -> None:
    """Write the pages of bytes `start` .. `stop` to disk and wait for it. Raises `OSError`.

    Only those: writing a page makes the next store to it fault, and the pages ahead of the writer were populated to avoid just that.
    """
    start -= start % mmap.PAGESIZE
    if sys.platform not in ("linux", "darwin"):
        pages.flush(start, stop - start)
        return
    anchor = ctypes.c_char.from_buffer(pages)
    synchronous = 4 if sys.platform == "linux" else 0x10
    if _libc().msync(ctypes.addressof(anchor) + start, stop - start, synchronous):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
