"""Tests of pocketseq.layers.buffers, against lists of Python."""

import numpy as np
import pytest
import tensorflow as tf

from pocketseq.layers.buffers import append, collect, from_end, unknown_zero

# Around blocks of 16 rows, and around 64, above which there are blocks.
SIZES = [(5, 0), (5, 5), (64, 17), (64, 64), (65, 0), (65, 1), (65, 16), (65, 17),
         (80, 80), (100, 95)]  # fmt: skip


def run(length, rounds, *, known, last_first=None, wrap=tf.function):
    """Collects rows that say their time, and twice their time, ``rounds`` times."""

    def step(time, state):
        row = tf.cast(time + 1, tf.float32) * tf.ones([2, 3])
        return state + time, [row, 2 * row[0]]

    def collected(rounds):
        return collect(
            step,
            tf.constant(0),
            [[2, 3], [3]],
            length=length,
            zero=unknown_zero(rounds),
            unfinished=lambda time, _: time < rounds,
            rounds=rounds if known else None,
            last_first=last_first,
        )

    return wrap(collected)(tf.constant(rounds))


def padded(values, length):
    return np.array(values + [0] * (length - len(values)), "float32")


@pytest.mark.parametrize("wrap", [lambda f: f, tf.function], ids=["eager", "graph"])
@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(("length", "rounds"), SIZES)
def test_rows_come_in_the_order_of_their_rounds(length, rounds, known, wrap):
    time, state, (first, second) = run(length, rounds, known=known, wrap=wrap)
    assert (time, state) == (rounds, sum(range(rounds)))
    expected = padded([time + 1 for time in range(rounds)], length)
    np.testing.assert_array_equal(first, np.tile(expected[:, None, None], (1, 2, 3)))
    np.testing.assert_array_equal(second, 2 * np.tile(expected[:, None], (1, 3)))


@pytest.mark.parametrize(("length", "rounds"), SIZES)
def test_a_buffer_may_have_the_row_of_the_last_round_first(length, rounds):
    _, _, (first, second) = run(length, rounds, known=True, last_first=[True, False])
    expected = [time + 1 for time in range(rounds)]
    np.testing.assert_array_equal(first[:, 0, 0], padded(expected[::-1], length))
    np.testing.assert_array_equal(second[:, 0], 2 * padded(expected, length))


def test_the_state_may_end_a_loop_within_a_block():
    found = collect(
        lambda time, state: (state * 2, [state[None]]),
        tf.constant(1.0),
        [[1]],
        length=100,
        zero=unknown_zero(tf.constant(1)),
        unfinished=lambda _, state: state < 2.0**21,
    )
    time, state, (rows,) = found
    assert (time, state) == (21, 2.0**21)
    np.testing.assert_array_equal(rows[:, 0], padded([2.0**i for i in range(21)], 100))


def test_a_queue_takes_rows_at_its_end_and_gives_them_from_there():
    queue = tf.zeros([4], tf.int32)
    for number in (1, 2, 3):
        queue = append(queue, tf.constant([number]))
    np.testing.assert_array_equal(from_end(queue, tf.constant(3)), [1, 2, 3, 0])
    queue = append(queue, tf.constant([4, 5]))
    np.testing.assert_array_equal(queue, [2, 3, 4, 5])
