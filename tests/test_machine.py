"""Tests of pocketseq.pipeline.machine."""

import os
import subprocess
import sys
import time

import pytest

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


@pytest.mark.parametrize(
    ("float32", "bfloat16", "expected"),
    [(2.0, 1.0, "bfloat16"), (1.2, 1.0, "float32"), (1.0, 9.0, "float32")],
)
def test_the_precision_is_bfloat16_only_where_that_is_much_faster(
    float32, bfloat16, expected, monkeypatch
):
    now = 0.0

    def matmul(left, _):
        nonlocal now
        now += float32 if left.dtype == "float32" else bfloat16
        return left

    monkeypatch.setattr("tensorflow.matmul", matmul)
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    assert machine.fastest_precision() == expected


def test_keeping_freed_memory_works_on_every_system(monkeypatch):
    machine.keep_freed_memory()
    monkeypatch.setattr(sys, "platform", "darwin")
    machine.keep_freed_memory()
