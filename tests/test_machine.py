"""Tests of pocketseq.pipeline.machine."""

import os
import subprocess
import sys
import time

import pytest
import tensorflow as tf

from pocketseq.pipeline import machine

# What a training sets up, in a process of its own: settings come before operations.
SCRIPT = """
import tensorflow as tf
from pocketseq.pipeline.machine import batch_parts, cores, prepare_for_training
assert batch_parts() == 1, "operations still share out their own work"
prepare_for_training()
assert batch_parts() == cores(), batch_parts()
assert float(tf.reduce_sum(tf.ones([3]))) == 3
"""


def test_a_batch_has_a_part_for_each_core_after_preparation():
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="no such system call here"
)
def test_cores_are_those_that_the_process_may_use():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert machine.cores() == 1
    finally:
        os.sched_setaffinity(0, before)
    assert machine.cores() == len(before)


CPU_INFO = """processor : 0
model name : a processor
flags : fpu sse4_1 avx2 fma{more}

processor : 1
flags : fpu sse4_1 avx2 fma{more}
"""


@pytest.fixture
def processor(monkeypatch, tmp_path):
    """Returns a function that lets the kernel say what the processor has."""

    def has(more="", **environment):
        (tmp_path / "cpuinfo").write_text(CPU_INFO.format(more=more))
        monkeypatch.setattr(machine, "_CPU_INFO", tmp_path / "cpuinfo")
        for name in (*machine._INSTRUCTION_LIMITS, "TF_ENABLE_ONEDNN_OPTS"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return has


@pytest.mark.parametrize(
    ("more", "environment", "expected"),
    [
        ("", {}, "float32"),
        (" avx512f avx512vl", {}, "float32"),
        (" avx512f avx512_bf16", {}, "bfloat16"),
        (" avx512f amx_bf16", {}, "bfloat16"),
        (" avx512_bf16", {"TF_ENABLE_ONEDNN_OPTS": "0"}, "float32"),
        (" avx512_bf16", {"TF_ENABLE_ONEDNN_OPTS": "1"}, "bfloat16"),
        (" avx512_bf16", {"ONEDNN_MAX_CPU_ISA": "AVX2"}, "float32"),
        (" avx512_bf16", {"DNNL_MAX_CPU_ISA": "avx512_core"}, "float32"),
        (" avx512_bf16", {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}, "bfloat16"),
    ],
)
def test_the_precision_is_decided_by_what_the_processor_is(
    processor, monkeypatch, more, environment, expected
):
    processor(more, **environment)
    monkeypatch.setattr(machine, "bfloat16_sums_are_float32", lambda: True)
    assert machine.native_precision() == expected


def test_no_clock_is_looked_at_to_choose_the_precision(processor, monkeypatch):
    processor(" avx512_bf16")
    monkeypatch.setattr(machine, "bfloat16_sums_are_float32", lambda: True)
    for name in ("perf_counter", "monotonic", "time", "process_time"):
        monkeypatch.delattr(time, name)
    assert machine.native_precision() == "bfloat16"


def test_products_that_sum_up_in_bfloat16_are_not_used(processor, monkeypatch):
    processor(" avx512_bf16")
    true_product = tf.matmul

    def stalled(left, right, **options):
        # Where a sum is kept in 8 bits, 256 + 1 is 256.
        return tf.minimum(true_product(left, right, **options), 256)

    monkeypatch.setattr("tensorflow.matmul", stalled)
    assert machine.native_precision() == "float32"


def test_a_system_without_a_list_of_instructions_has_none(monkeypatch, tmp_path):
    monkeypatch.setattr(machine, "_CPU_INFO", tmp_path / "nothing")
    assert machine.processor_instructions() == set()
    assert machine.native_precision() == "float32"


def test_the_conditions_name_what_decides_the_last_bits(processor):
    processor(ONEDNN_MAX_CPU_ISA="AVX2", TF_ENABLE_ONEDNN_OPTS="0")
    found = machine.numeric_conditions(workers=3)
    assert found["instructions"] == "avx2 fma sse4_1"
    assert (found["instruction_limit"], found["onednn"]) == ("AVX2", False)
    assert (found["tensorflow"], found["workers"]) == (tf.__version__, 3)
    assert int(found["threads_per_operation"]) >= 1


def test_keeping_freed_memory_works_on_every_system(monkeypatch):
    machine.keep_freed_memory()
    monkeypatch.setattr(sys, "platform", "darwin")
    machine.keep_freed_memory()
