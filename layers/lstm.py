"""The LSTM as a layer: one step, a whole sequence, and a loop for devices."""

import keras
import tensorflow as tf

from pocketseq.layers.policy import (
    FLOAT32_WEIGHT,
    checked_mask,
    in_compute_dtype,
    in_float32,
    products_of,
)
from pocketseq.layers.products import product
from pocketseq.layers.recurrence import (
    LSTMState,
    run_lstm,
    step_forward,
    swap_axes,
)

# Rows that a loop collects before it adds them to a long buffer.
BLOCK = 16

# Large enough for a sigmoid to be exactly 0 or 1.
_SATURATED = 1e4


@keras.saving.register_keras_serializable(package="pocketseq")
class LSTM(keras.layers.Layer):
    """A long short-term memory over right-padded sequences.

    ``i, f, g, o = split(x W + h U + b)``;
    ``c' = sigmoid(f) c + sigmoid(i) tanh(g)``; ``h' = sigmoid(o) tanh(c')``.

    Padding changes nothing: there the write gate is shut, the keep gate is open, and
    the output is 0. Lengths arrive as a mask in the call.

    Args:
        units: Width of the hidden and of the cell state.
        reverse: Whether to read from the end. Outputs keep the order of the inputs.

    Call arguments:
        inputs: float ``(batch, length, width)``.
        mask: bool ``(batch, length)``, True = real token, or None: all are real, unless
            the inputs carry a mask of Keras' own, which then counts.
        initial_state: :class:`LSTMState`, or None: zeros.

    Returns:
        Outputs ``(batch, length, units)``, and the :class:`LSTMState` after the last
        real token, in the compute dtype of the layer's policy.

    Raises:
        TypeError: A mask that is not boolean.

    References:
        Hochreiter and Schmidhuber 1997; Gers, Schmidhuber and Cummins 2000 (forget
        gate); Jozefowicz, Zaremba and Sutskever 2015 (its bias starts at 1).
    """

    def __init__(self, units, *, reverse=False, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.reverse = reverse

    def build(self, input_shape, *_):
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], 4 * self.units),
            initializer="glorot_uniform",
            **FLOAT32_WEIGHT,
        )
        self.recurrent_kernel = self.add_weight(
            name="recurrent_kernel",
            shape=(self.units, 4 * self.units),
            initializer="orthogonal",
            **FLOAT32_WEIGHT,
        )
        self.bias = self.add_weight(
            name="bias",
            shape=(4 * self.units,),
            initializer=self._initial_bias,
            **FLOAT32_WEIGHT,
        )

    def _initial_bias(self, shape, dtype=None, **_):
        ones = tf.ones([self.units], dtype)
        zeros = tf.zeros([self.units], dtype)
        return tf.concat([zeros, ones, zeros, zeros], axis=0)

    def zero_state(self, batch_size):
        """Returns the state before the first token."""
        zeros = tf.zeros([batch_size, self.units])
        return LSTMState(zeros, zeros)

    def project(self, inputs):
        """Returns ``inputs W + b``, which needs no state: ``(..., 4 * units)``.

        Inputs narrower than the kernel are the leading features of each row; what the
        others add is the caller's part.
        """
        width = inputs.shape[-1]
        rows = tf.reshape(inputs, [-1, width])
        projected = product(rows, self.kernel[:width]) + self.bias
        return tf.reshape(projected, tf.concat([tf.shape(inputs)[:-1], [-1]], axis=0))

    def update(self, projected, state):
        """Returns the next state, from the projected inputs of one time step."""
        gates = projected + tf.matmul(state.hidden, self.recurrent_kernel)
        return step_forward(gates, state.cell)[0]

    def step(self, inputs, state):
        """Returns the next state, from inputs ``(batch, width)``."""
        return self.update(self.project(inputs), state)

    def __call__(self, inputs, mask=None, initial_state=None):
        # To Keras an argument of this name is its own affair: it fails where None is
        # given by position, and warns where a mask is given by name.
        given = (inputs,) if mask is None else (inputs, mask)
        return super().__call__(*given, initial_state=initial_state)

    def call(self, inputs, mask=None, initial_state=None):
        mask = checked_mask(mask, "mask")
        if initial_state is not None:  # a loaded model has it as a list
            initial_state = LSTMState(*in_float32(initial_state))
        with products_of(self):
            projected = self.project(swap_axes(inputs))
            outputs, state = self.run(projected, mask, initial_state)
        return in_compute_dtype(self, (swap_axes(outputs), state))

    def run(self, projected, mask=None, initial_state=None):
        """Computes what a call computes, by time, from inputs projected already.

        Args:
            projected: float ``(length, batch, 4 * units)``.
            mask, initial_state: As in a call.

        Returns:
            As a call does, but outputs ``(length, batch, units)``.
        """
        state = initial_state or self.zero_state(tf.shape(projected)[1])
        if mask is None:
            return run_lstm(
                projected, state, self.recurrent_kernel, reverse=self.reverse
            )
        by_time = tf.transpose(mask)
        outputs, state = run_lstm(
            self._shut_gates(projected, by_time), state, self.recurrent_kernel,
            reverse=self.reverse,
        )  # fmt: skip
        outputs *= tf.cast(by_time, outputs.dtype)[:, :, None]
        if self.reverse:  # its last token is the first of the text, never padding
            return outputs, state
        return outputs, LSTMState(_last_output(outputs, by_time), state.cell)

    def _shut_gates(self, projected, by_time):
        """Works padding into the projected inputs ``(length, batch, 4 * units)``.

        A saturated write and keep gate there keep the cell exactly as it was. That is
        one selection for the whole sequence, where selecting the old state at every
        step took more time than the products did.
        """
        return tf.where(by_time[:, :, None], projected, _shut(self.units, tf.float32))

    def get_config(self):
        return {**super().get_config(), "units": self.units, "reverse": self.reverse}


def read_loop(layers, project, mask):
    """Runs LSTMs over texts side by side, by one graph loop with static buffers.

    For inference, and the form that converts to TFLite builtins: the number of rounds
    follows the longest real text, not the padding, and all layers share what is done
    once a round. Not for gradients.

    Args:
        layers: :class:`LSTM` layers of equal width, each in its own direction.
        project: ``(layer number, time) -> float (batch, 4 * units)``: the projected
            inputs at a time.
        mask: bool ``(batch, length)``, True = real token.

    Returns:
        Outputs ``(batch, length, units)`` and :class:`LSTMState` for each layer, as
        :meth:`LSTM.run` gives them.
    """
    units, size = layers[0].units, len(layers)
    batch_size, length = tf.shape(mask)[0], mask.shape[1] or tf.shape(mask)[1]
    longest = tf.reduce_max(tf.reduce_sum(tf.cast(mask, tf.int32), axis=1))
    # One text ends with the loop: nothing to mask.
    alone = mask.shape[0] == 1
    by_time = tf.transpose(mask)[:, :, None]

    def projected(number, round_number):
        time = round_number
        if layers[number].reverse:
            time = longest - 1 - round_number
        values = project(number, time)
        if alone:
            return values
        return tf.where(tf.gather(by_time, time), values, _shut(units, values.dtype))

    def body(round_number, outputs, state):
        hidden = tf.split(state.hidden, size) if size > 1 else [state.hidden]
        recurrent = [
            tf.matmul(one, layer.recurrent_kernel)
            for one, layer in zip(hidden, layers, strict=True)
        ]
        inputs = [projected(number, round_number) for number in range(size)]
        gates = _join(recurrent) + _join(inputs)
        state, _ = step_forward(gates, state.cell)
        hidden = tf.split(state.hidden, size) if size > 1 else [state.hidden]
        return round_number + 1, added(outputs, [one[None] for one in hidden]), state

    def added(buffers, rows):
        """Adds rows at the end, or at the front where the text is read in reverse."""
        return [
            tf.concat([new, old[: -new.shape[0]]], axis=0)
            if layer.reverse
            else append(old, new)
            for new, old, layer in zip(rows, buffers, layers, strict=True)
        ]

    def block_body(round_number, outputs, state):
        # The first block takes what is left over by whole ones.
        left_over = (longest - round_number - 1) % BLOCK + 1
        end = round_number + left_over
        round_number, block, state = tf.while_loop(
            lambda round_number, *_: round_number < end,
            body,
            [round_number, [empty(BLOCK)] * size, state],
        )
        return round_number, added(outputs, block), state

    nothing = unknown_zero(longest)

    def empty(rows):
        return tf.fill([rows, batch_size, units], nothing)

    zeros = tf.fill([size * batch_size, units], nothing)
    rows, round_body = length, body
    if in_blocks(length):
        rows, round_body = -(-length // BLOCK) * BLOCK, block_body
    _, outputs, state = tf.while_loop(
        lambda round_number, *_: round_number < longest,
        round_body,
        [tf.constant(0), [empty(rows)] * size, LSTMState(zeros, zeros)],
    )
    states = [tf.split(part, size) for part in state]
    results = []
    for layer, buffer, hidden, cell in zip(layers, outputs, *states, strict=True):
        if not layer.reverse:
            buffer = from_end(buffer, longest)
        one = buffer[:length]
        if not alone:
            one = one * tf.cast(by_time, one.dtype)
            hidden = hidden if layer.reverse else _last_output(one, by_time[..., 0])
        results.append((swap_axes(one), LSTMState(hidden, cell)))
    return results


def in_blocks(length):
    """Whether a buffer is so long that rows are better collected in blocks first.

    Adding a row moves the whole buffer, at each step of a loop.
    """
    return not isinstance(length, int) or length > 4 * BLOCK


def append(queue, rows):
    """Adds rows at the end of a queue and drops as many at its front.

    Moving a buffer goes at the speed of memory; writing one row of it by selection is
    several times slower in TFLite.
    """
    return tf.concat([queue[rows.shape[0] :], rows], axis=0)


def from_end(buffer, count):
    """Moves the last ``count`` rows of a buffer to its front, the others behind them.

    Args:
        buffer: ``(length, ...)``, filled by appending to its end.
        count: int32 scalar, how many times.
    """
    length = buffer.shape[0] or tf.shape(buffer)[0]
    place = tf.range(length) - count
    return tf.gather(buffer, tf.where(place < 0, place + length, place))


def unknown_zero(number):
    """Returns 0.0, from a number that is never negative.

    A buffer filled with it is made when the model runs; one of plain zeros would be a
    constant in an exported file.
    """
    return tf.cast(number < 0, tf.float32)


def _shut(units, dtype):
    """The gates that keep a cell as it was, ``(4 * units,)``."""
    return tf.repeat(tf.constant([-_SATURATED, _SATURATED, 0.0, 0.0], dtype), units)


def _last_output(outputs, by_time):
    """The outputs ``(batch, units)`` at the last real token, from time-major ones."""
    last = tf.maximum(tf.reduce_sum(tf.cast(by_time, tf.int32), axis=0) - 1, 0)
    rows = tf.range(tf.shape(outputs)[1])
    return tf.gather_nd(outputs, tf.stack([last, rows], axis=1))


def _join(parts):
    return parts[0] if len(parts) == 1 else tf.concat(parts, axis=0)
