"""Static buffers: queues of fixed size for what the rounds of a graph loop leave.

For inference. All of it converts to TFLite builtins, and nothing needs a gradient.
"""

from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

# Rows that a loop collects before it adds them to a long buffer.
_BLOCK = 16


def collect(
    step: Callable[[tf.Tensor, Any], tuple[Any, Sequence[tf.Tensor]]],
    state: Any,
    row_shapes: Sequence[Sequence[int | tf.Tensor]],
    *,
    length: int | tf.Tensor,
    zero: tf.Tensor,
    unfinished: Callable[[tf.Tensor, Any], tf.Tensor],
    rounds: tf.Tensor | None = None,
    last_first: Sequence[bool] | None = None,
) -> tuple[tf.Tensor, Any, list[tf.Tensor]]:
    """Runs a graph loop and collects the rows that its rounds leave.

    Adding a row moves its whole buffer. So rows of a long loop are collected in short
    blocks first, by a loop inside the loop.

    Args:
        step: ``(time, state) -> (state, rows)``: one round; it leaves a float32 row for
            each buffer.
        state: Nested tensors, before the first round.
        row_shapes: The shape of a row of each buffer.
        length: The number of rows in a buffer, at least the number of rounds.
        zero: float32 scalar, what empty rows hold; see :func:`unknown_zero`.
        unfinished: ``(time, state) -> bool``: whether there is another round.
        rounds: int32 scalar, the number of rounds, or None: only ``unfinished`` knows.
        last_first: For each buffer, whether its first row is that of the last round;
            None: of none. Such a buffer needs ``rounds``.

    Returns:
        The number of rounds, the state after them, and the buffers
        ``(length, *row shape)``, with empty rows behind those of the rounds.
    """
    last_first = last_first or [False] * len(row_shapes)

    def empty(size):
        return [tf.fill([size, *shape], zero) for shape in row_shapes]

    def add(buffers, rows):
        return [
            _prepend(buffer, new) if in_front else append(buffer, new)
            for buffer, new, in_front in zip(buffers, rows, last_first, strict=True)
        ]

    def one_round(time, buffers, state):
        state, rows = step(time, state)
        return time + 1, add(buffers, [row[None] for row in rows]), state

    def one_block(start, filled, buffers, state):
        # Where the number of rounds is known, the first block is the shorter one: what
        # is left over by whole blocks. Otherwise the last one is.
        size = _BLOCK if rounds is None else (rounds - start - 1) % _BLOCK + 1

        def inside(time, _, state):
            in_block = time < start + size
            if rounds is not None:
                return in_block
            return tf.logical_and(unfinished(time, state), in_block)

        time, block, state = tf.while_loop(
            inside, one_round, [start, empty(_BLOCK), state]
        )
        if rounds is None:
            block = [from_end(rows, time - start) for rows in block]
        return time, filled + size, add(buffers, block), state

    if _is_long(length):
        size = -(-length // _BLOCK) * _BLOCK
        time, filled, buffers, state = tf.while_loop(
            lambda time, filled, buffers, state: unfinished(time, state),
            one_block,
            [tf.constant(0), tf.constant(0), empty(size), state],
        )
    else:
        time, buffers, state = tf.while_loop(
            lambda time, buffers, state: unfinished(time, state),
            one_round,
            [tf.constant(0), empty(length), state],
        )
        filled = time
    buffers = [
        buffer if in_front else from_end(buffer, filled)
        for buffer, in_front in zip(buffers, last_first, strict=True)
    ]
    return time, state, [buffer[:length] for buffer in buffers]


def _is_long(length: int | tf.Tensor) -> bool:
    """Whether a buffer is so long that rows are better collected in blocks first."""
    return not isinstance(length, int) or length > 4 * _BLOCK


def append(queue: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Adds rows at the end of a queue and drops as many at its front.

    Moving a buffer goes at the speed of memory; writing one row of it by selection is
    several times slower in TFLite.
    """
    return tf.concat([queue[rows.shape[0] :], rows], axis=0)


def _prepend(queue: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
    """Adds rows at the front of a queue and drops as many at its end."""
    return tf.concat([rows, queue[: -rows.shape[0]]], axis=0)


def from_end(buffer: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
    """Moves the last ``count`` rows of a buffer to its front, the others behind them.

    Args:
        buffer: ``(length, ...)``, filled by appending to its end.
        count: int32 scalar, the number of rows appended.
    """
    length = buffer.shape[0] or tf.shape(buffer)[0]
    place = tf.range(length) - count
    return tf.gather(buffer, tf.where(place < 0, place + length, place))


def unknown_zero(number: tf.Tensor) -> tf.Tensor:
    """Returns 0.0, from a number that is never negative.

    A buffer filled with it is made when the model runs; one of plain zeros would be a
    constant in an exported file.
    """
    return tf.cast(number < 0, tf.float32)
