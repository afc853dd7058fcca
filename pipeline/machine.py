"""How a training run uses its machine: memory, cores, half precision."""

import contextlib
import ctypes
import gc
import logging
import os
import platform
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

# From glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3

_CPU_INFO = Path("/proc/cpuinfo")

# Instructions that decide how products are summed, by the kernel's names for them.
_VECTOR_INSTRUCTIONS = (
    "sse4_1", "avx", "avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16",
)  # fmt: skip

# Processors that have one of them multiply bfloat16 about twice as fast as float32.
_BFLOAT16_INSTRUCTIONS = {"avx512_bf16", "amx_bf16"}

# What limits oneDNN to older instructions, and the limits that leave bfloat16 native.
_INSTRUCTION_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
_LIMITS_WITH_BFLOAT16 = {
    "DEFAULT", "ALL", "AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX512_CORE_AMX",
    "AVX512_CORE_AMX_FP16", "AVX10_1_512", "AVX10_1_512_AMX", "AVX10_1_512_AMX_FP16",
}  # fmt: skip


@contextlib.contextmanager
def native_messages_hidden() -> Iterator[None]:
    """Hides what C++ code writes to standard error about the processor it found.

    No setting of TensorFlow's or LiteRT's reaches these lines. Errors are exceptions
    and come through.
    """
    sys.stderr.flush()
    handlers = [
        handler
        for handler in logging.getLogger("pocketseq").handlers
        if isinstance(handler, logging.StreamHandler)
        and handler.stream is sys.__stderr__
    ]
    with os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8") as visible:
        for handler in handlers:  # what we say ourselves is to be seen
            handler.setStream(visible)
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(visible.fileno(), 2)
            for handler in handlers:
                handler.setStream(sys.__stderr__)


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


def release_memory():
    """Gives back to the system what :func:`keep_freed_memory` has kept, once.

    For between two large pieces of work that need memory one after the other.
    """
    gc.collect()
    if sys.platform.startswith("linux"):
        with contextlib.suppress(AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def cores():
    """Returns how many processor cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def start_tensorflow(*, for_training: bool = False) -> None:
    """Imports TensorFlow, set up for large pieces of work.

    Args:
        for_training: See :func:`prepare_for_training`.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    keep_freed_memory()
    with native_messages_hidden():
        import tensorflow as tf

        if for_training:
            prepare_for_training()
        if not os.environ.get("TF_CONFIG"):  # a cluster must be joined before that
            tf.config.list_logical_devices()
    tf.get_logger().setLevel("ERROR")


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


def native_precision():
    """Returns ``"bfloat16"`` where the processor multiplies it, else ``"float32"``.

    Decided by what the processor is, never by a stopwatch: a shared machine made one
    that emulates bfloat16 look faster in a quarter of all tries, and two runs that
    decide differently are two different runs. One product is checked besides, for
    emulated ones also sum up in bfloat16, which is 0.7 % off.
    """
    if processor_instructions().isdisjoint(_BFLOAT16_INSTRUCTIONS):
        return "float32"
    if os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0":
        return "float32"
    limits = {os.environ.get(name, "ALL").upper() for name in _INSTRUCTION_LIMITS}
    if not limits <= _LIMITS_WITH_BFLOAT16:
        return "float32"
    return "bfloat16" if bfloat16_sums_are_float32() else "float32"


def processor_instructions():
    """Returns which vector instructions the kernel says the processor has, by name."""
    try:
        text = _CPU_INFO.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return set()
    names = set()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "flags":
            names.update(value.split())
    return names.intersection(_VECTOR_INSTRUCTIONS)


def bfloat16_sums_are_float32():
    """Whether a product of bfloat16 matrices is summed up in float32.

    The sum of 4,096 ones is exact in float32; in bfloat16, which has 8 bits, it stops
    growing at 256.
    """
    import tensorflow as tf

    ones = tf.ones([64, 4096], tf.bfloat16)
    product = tf.matmul(ones, ones, transpose_b=True)
    return bool(tf.reduce_all(tf.cast(product, tf.float32) == 4096.0))


def numeric_conditions(workers=1):
    """Returns what decides the last bits of a run's numbers, besides its recipe.

    Machines for which these are equal compute equal weights.

    Args:
        workers: How many processes sum up their gradients.
    """
    import tensorflow as tf

    return {
        "system": f"{platform.system()} {platform.machine()}",
        "instructions": " ".join(sorted(processor_instructions())),
        "instruction_limit": " ".join(
            value for name in _INSTRUCTION_LIMITS if (value := os.environ.get(name))
        ),
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS") != "0",
        "tensorflow": metadata.version("tensorflow"),
        "keras": metadata.version("keras"),
        "gpus": len(tf.config.list_logical_devices("GPU")),
        "threads_per_operation": tf.config.threading.get_intra_op_parallelism_threads()
        or cores(),
        "workers": workers,
    }
