"""How the C library's allocator treats memory that TensorFlow frees."""

import ctypes
import sys

# From glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3


def keep_freed_memory():
    """Asks the allocator to keep freed memory instead of returning it to the system.

    A training step frees and takes the same large buffers each time. By default each
    goes back to the system and comes anew, page by page, which took more than half of
    the time of a step. Costs some tens of megabytes; does nothing without glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return
    mallopt(_TRIM_THRESHOLD, 2**31 - 1)
    mallopt(_TOP_PAD, 64 * 2**20)
    mallopt(_MMAP_THRESHOLD, 32 * 2**20)
