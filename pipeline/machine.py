"""Use of the machine: memory, cores, half precision."""

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
from typing import Literal

# Parameters of mallopt, from glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3

_CPU_INFO = Path("/proc/cpuinfo")

# Instruction sets that decide how matmul sums are ordered, by the kernel's names.
_VECTOR_INSTRUCTIONS = (
    "sse4_1", "avx", "avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16",
)  # fmt: skip

# With one of these, a processor multiplies bfloat16 about twice as fast as float32.
_BFLOAT16_INSTRUCTIONS = {"avx512_bf16", "amx_bf16"}

# Environment variables that limit oneDNN to older instruction sets, and the values
# that leave bfloat16 native.
_INSTRUCTION_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")
_LIMITS_WITH_BFLOAT16 = {
    "DEFAULT", "ALL", "AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX512_CORE_AMX",
    "AVX512_CORE_AMX_FP16", "AVX10_1_512", "AVX10_1_512_AMX", "AVX10_1_512_AMX_FP16",
}  # fmt: skip


@contextlib.contextmanager
def native_messages_hidden() -> Iterator[None]:
    """Hides lines that C++ code writes to standard error about the processor it found.

    No setting of TensorFlow or LiteRT turns these lines off. Errors are exceptions and
    are not hidden; neither are this package's own log lines.
    """
    sys.stderr.flush()
    handlers = [
        handler
        for handler in logging.getLogger("pocketseq").handlers
        if isinstance(handler, logging.StreamHandler)
        and handler.stream is sys.__stderr__
    ]
    with os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8") as visible:
        for handler in handlers:  # our own log lines stay visible
            handler.setStream(visible)
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(visible.fileno(), 2)
            for handler in handlers:
                handler.setStream(sys.__stderr__)


def keep_freed_memory() -> None:
    """Asks the allocator to keep freed memory instead of returning it to the system.

    A training step frees and allocates the same large buffers each time. By default,
    each is returned to the system and mapped again page by page, which took more than
    half of the time per step. Costs some tens of megabytes; does nothing without glibc.
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


def release_memory() -> None:
    """Returns memory to the system that :func:`keep_freed_memory` has kept so far.

    To be called between two large pieces of work that both need memory.
    """
    gc.collect()
    if sys.platform.startswith("linux"):
        with contextlib.suppress(AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def cores() -> int:
    """Returns the number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def start_tensorflow(*, for_training: bool = False) -> None:
    """Imports TensorFlow and configures it.

    Args:
        for_training: Whether to call :func:`prepare_for_training`.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    keep_freed_memory()
    with native_messages_hidden():
        import tensorflow as tf

        if for_training:
            prepare_for_training()
        if not os.environ.get("TF_CONFIG"):  # a cluster must be joined first
            tf.config.list_logical_devices()
    tf.get_logger().setLevel("ERROR")


def prepare_for_training() -> None:
    """Configures TensorFlow for small matmuls; to be called before its first operation.

    Each operation runs on one core, and as many operations at a time as there are
    cores. The matmuls of a step are too small to be split: two cores took as long as
    one. Instead, a batch is split into parts that run in parallel; see
    :func:`batch_parts`. Graph rewriting is off: it took half of the time until the
    first update and made no graph faster.

    Does nothing if TensorFlow has run operations already, as in a notebook; training is
    then only slower.
    """
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(cores())
    except RuntimeError:  # too late
        return
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})


def batch_parts() -> int:
    """Returns the number of parts of a batch to compute in parallel.

    As many as there are cores if each operation runs on one core; otherwise, and on a
    GPU, one: there each operation runs in parallel by itself.
    """
    import tensorflow as tf

    one_core = tf.config.threading.get_intra_op_parallelism_threads() == 1
    return cores() if one_core and not tf.config.list_logical_devices("GPU") else 1


def native_precision() -> Literal["float32", "bfloat16"]:
    """Returns ``"bfloat16"`` if the processor multiplies it natively, else float32.

    Decided by the instruction sets of the processor, never by timing: on a shared
    machine, emulated bfloat16 looked faster in a quarter of all measurements, and a run
    must not depend on that. In addition, one product is checked, because emulated
    products are also summed in bfloat16, with an error of 0.7 %.
    """
    if processor_instructions().isdisjoint(_BFLOAT16_INSTRUCTIONS):
        return "float32"
    if os.environ.get("TF_ENABLE_ONEDNN_OPTS") == "0":
        return "float32"
    limits = {os.environ.get(name, "ALL").upper() for name in _INSTRUCTION_LIMITS}
    if not limits <= _LIMITS_WITH_BFLOAT16:
        return "float32"
    return "bfloat16" if bfloat16_sums_are_float32() else "float32"


def processor_instructions() -> set[str]:
    """Returns the names of the processor's vector instruction sets, from the kernel.

    Empty on systems other than Linux.
    """
    try:
        text = _CPU_INFO.read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return set()
    names: set[str] = set()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "flags":
            names.update(value.split())
    return names.intersection(_VECTOR_INSTRUCTIONS)


def bfloat16_sums_are_float32() -> bool:
    """Returns whether a matmul of bfloat16 matrices is summed in float32.

    The sum of 4,096 ones is exact in float32; in bfloat16, which has 8 bits, it stops
    growing at 256.
    """
    import tensorflow as tf

    ones = tf.ones([64, 4096], tf.bfloat16)
    product = tf.matmul(ones, ones, transpose_b=True)
    return bool(tf.reduce_all(tf.cast(product, tf.float32) == 4096.0))


def numeric_conditions(workers: int = 1) -> dict[str, str | int | bool]:
    """Returns the conditions, besides the recipe, that decide rounding in a run.

    Machines with equal conditions compute equal weights, bit for bit.

    Args:
        workers: The number of processes whose gradients are summed.
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
