"""How a training uses the machine it runs on: memory, cores, half precision."""

import ctypes
import os
import sys
import time

# From glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3

# Half precision is used where its products are at least this many times faster.
_WORTHWHILE = 1.3


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


def cores():
    """Returns how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def prepare_for_training():
    """Sets TensorFlow up for small products. To be called before its first operation.

    Each operation runs on one core, and as many at a time as there are cores: the
    products of a step are too small to be shared out; on two cores they took as long as
    on one. Instead a batch is worked through in parts, side by side; see
    :func:`batch_parts`. Graphs run as they are written: rewriting them took half of the
    time until the first update, and made none of them faster.

    Does nothing where TensorFlow is at work already, as in a notebook: training is only
    slower then.
    """
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(cores())
    except RuntimeError:  # too late
        return
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


def batch_parts():
    """Returns in how many parts to work through a batch, side by side.

    One for each core where operations run on one core each; otherwise, and on a GPU,
    one: there the operations share out their own work.
    """
    import tensorflow as tf

    one_core = tf.config.threading.get_intra_op_parallelism_threads() == 1
    return cores() if one_core and not tf.config.list_logical_devices("GPU") else 1


def fastest_precision():
    """Returns ``"bfloat16"`` where its products are much faster, else ``"float32"``.

    Measured, in a few milliseconds, because no list of processors stays complete.
    """
    import tensorflow as tf

    def seconds(dtype):
        square = tf.cast(tf.random.stateless_normal([512, 512], [1, 2]), dtype)
        times = []
        for _ in range(8):  # the first one finds and compiles the kernel
            started = time.perf_counter()
            tf.matmul(square, square).numpy()
            times.append(time.perf_counter() - started)
        return min(times)

    gain = seconds(tf.float32) / seconds(tf.bfloat16)
    return "bfloat16" if gain >= _WORTHWHILE else "float32"
