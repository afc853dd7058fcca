"""The LSTM as a layer: one step, a whole sequence, and a loop for devices."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from pocketseq.layers.buffers import collect, unknown_zero
from pocketseq.layers.policy import (
    FLOAT32_WEIGHT,
    checked_mask,
    checked_product_dtype,
    in_compute_dtype,
    in_float32,
    product_dtype_of,
)
from pocketseq.layers.products import product
from pocketseq.layers.recurrence import (
    LSTMState,
    run_lstm,
    step_forward,
    swap_axes,
)

# Large enough for a sigmoid to be exactly 0 or 1.
_SATURATED = 1e4


@keras.saving.register_keras_serializable(package="pocketseq")
class LSTM(keras.layers.Layer):
    """A long short-term memory over right-padded sequences.

    ``i, f, g, o = split(x W + h U + b)``;
    ``c' = sigmoid(f) c + sigmoid(i) tanh(g)``; ``h' = sigmoid(o) tanh(c')``.

    ``i``, ``f``, ``g``, ``o``: input gate, forget gate, candidate, output gate.

    Padding changes nothing: there the input gate is shut, the forget gate is open, and
    the output is 0. Lengths arrive as a mask in the call.

    Args:
        units: Width of the hidden and of the cell state.
        reverse: Whether to read from the end. Outputs keep the order of the inputs.
        product_dtype: The dtype that a call rounds the factors of products to:
            ``"float32"``, ``"bfloat16"`` or ``"float16"``; None: the compute dtype of
            the policy. All else is float32, and so are :meth:`step` and
            :func:`read_loop`.

    Call arguments:
        inputs: float ``(batch, length, width)``.
        mask: bool ``(batch, length)``, True = real token, or None: all are real, unless
            the inputs carry a Keras mask, which then counts and goes on to the outputs.
        initial_state: :class:`LSTMState`, or None: zeros.

    Returns:
        Outputs ``(batch, length, units)``, and the :class:`LSTMState` after the last
        real token, in the compute dtype of the layer's policy.

    Raises:
        ValueError: The product dtype is not known.
        TypeError: A mask that is not boolean.

    References:
        Hochreiter and Schmidhuber 1997; Gers, Schmidhuber and Cummins 2000 (forget
        gate); Jozefowicz, Zaremba and Sutskever 2015 (its bias starts at 1).
    """

    def __init__(
        self,
        units: int,
        *,
        reverse: bool = False,
        product_dtype: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.units = units
        self.reverse = reverse
        self.product_dtype = checked_product_dtype(product_dtype)

    def build(self, input_shape):
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

    def project(self, inputs, product_dtype="float32"):
        """Returns ``inputs W + b``, which needs no state: ``(..., 4 * units)``.

        Inputs narrower than the kernel are the leading features of each row; the caller
        adds the part of the others.

        Args:
            inputs: float ``(..., width)``.
            product_dtype: The dtype of the factors of the product.
        """
        return self._multiply(inputs, product_dtype, self.bias)

    def multiply(self, inputs, product_dtype="float32"):
        """Returns ``inputs W``, what :meth:`project` returns but without the bias."""
        return self._multiply(inputs, product_dtype)

    def _multiply(self, inputs, product_dtype, bias=None):
        width = inputs.shape[-1]
        rows = tf.reshape(inputs, [-1, width])
        found = product(rows, self.kernel[:width], product_dtype)
        if bias is not None:
            found += bias
        return tf.reshape(found, tf.concat([tf.shape(inputs)[:-1], [-1]], axis=0))

    def update(self, projected, state):
        """Returns the next state, from the projected inputs of one time step."""
        gates = projected + tf.matmul(state.hidden, self.recurrent_kernel)
        return step_forward(gates, state.cell)[0]

    def step(self, inputs, state):
        """Returns the next state, from inputs ``(batch, width)``."""
        return self.update(self.project(inputs), state)

    def __call__(self, inputs, mask=None, initial_state=None):
        # Keras treats an argument of this name as its own: it fails where None is given
        # by position, and a mask given by name would go on to the outputs.
        given = (inputs,) if mask is None else (inputs, mask)
        return super().__call__(*given, initial_state=initial_state)

    def call(self, inputs, mask=None, initial_state=None):
        mask = checked_mask(mask, "mask")
        if initial_state is not None:  # a loaded model has it as a list
            initial_state = LSTMState(*in_float32(initial_state))
        projected = self.project(swap_axes(inputs), product_dtype_of(self))
        outputs, state = self.run(projected, mask, initial_state)
        return in_compute_dtype(self, (swap_axes(outputs), state))

    def compute_mask(self, inputs, previous_mask=None):
        return previous_mask, None, None  # of the outputs, not of the state

    def run(self, projected, mask=None, initial_state=None):
        """Computes what a call computes, time-major, from projected inputs.

        Args:
            projected: float ``(length, batch, 4 * units)``.
            mask, initial_state: As in a call.

        Returns:
            As a call does, but outputs ``(length, batch, units)``.
        """
        state = initial_state or self.zero_state(tf.shape(projected)[1])
        by_time = None
        if mask is not None:
            by_time = tf.transpose(mask)
            projected = self._shut_gates(projected, by_time)
        outputs, state = run_lstm(
            projected, state, self.recurrent_kernel,
            reverse=self.reverse, product_dtype=product_dtype_of(self),
        )  # fmt: skip
        if by_time is None:
            return outputs, state
        outputs *= tf.cast(by_time, outputs.dtype)[:, :, None]
        if self.reverse:  # its last token is the first of the text, never padding
            return outputs, state
        return outputs, LSTMState(_last_output(outputs, by_time), state.cell)

    def _shut_gates(self, projected, by_time):
        """Replaces padding in projected inputs ``(length, batch, 4 * units)``.

        Saturated input and forget gates there keep the cell exactly as it was. That is
        one selection for the whole sequence; selecting the old state at every step took
        more time than the products did.
        """
        return tf.where(by_time[:, :, None], projected, _shut(self.units, tf.float32))

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "reverse": self.reverse,
            "product_dtype": self.product_dtype,
        }


def read_loop(
    layers: Sequence[LSTM],
    project: Callable[[int, tf.Tensor], tf.Tensor],
    mask: tf.Tensor,
) -> list[tuple[tf.Tensor, LSTMState]]:
    """Runs LSTMs over texts side by side, by one graph loop with static buffers.

    For inference, in a form that converts to TFLite builtins. The number of rounds
    follows the longest text, not the padding, and all layers share the work of a round.

    Args:
        layers: :class:`LSTM` layers of equal width, each in its own direction.
        project: ``(layer index, time) -> float (batch, 4 * units)``: the projected
            inputs at a time.
        mask: bool ``(batch, length)``, True = real token.

    Returns:
        Outputs ``(batch, length, units)`` and :class:`LSTMState` for each layer, as
        :meth:`LSTM.run` gives them.
    """
    units, size = layers[0].units, len(layers)
    batch_size, length = tf.shape(mask)[0], mask.shape[1] or tf.shape(mask)[1]
    longest = tf.reduce_max(tf.reduce_sum(tf.cast(mask, tf.int32), axis=1))
    # A single text ends with the loop: there is nothing to mask.
    alone = mask.shape[0] == 1
    by_time = tf.transpose(mask)[:, :, None]

    def projected(index, time):
        if layers[index].reverse:
            time = longest - 1 - time
        values = project(index, time)
        if alone:
            return values
        return tf.where(tf.gather(by_time, time), values, _shut(units, values.dtype))

    def step(time, state):
        recurrent = [
            tf.matmul(hidden, layer.recurrent_kernel)
            for hidden, layer in zip(_split(state.hidden, size), layers, strict=True)
        ]
        inputs = [projected(index, time) for index in range(size)]
        state, _ = step_forward(_join(recurrent) + _join(inputs), state.cell)
        return state, _split(state.hidden, size)

    zero = unknown_zero(longest)
    zeros = tf.fill([size * batch_size, units], zero)
    _, state, buffers = collect(
        step,
        LSTMState(zeros, zeros),
        [[batch_size, units]] * size,
        length=length,
        zero=zero,
        unfinished=lambda time, _: time < longest,
        rounds=longest,
        last_first=[layer.reverse for layer in layers],
    )
    states = [tf.split(part, size) for part in state]
    results = []
    for layer, outputs, hidden, cell in zip(layers, buffers, *states, strict=True):
        if not alone:
            outputs = outputs * tf.cast(by_time, outputs.dtype)
            if not layer.reverse:
                hidden = _last_output(outputs, by_time[..., 0])
        results.append((swap_axes(outputs), LSTMState(hidden, cell)))
    return results


def _shut(units: int, dtype: tf.DType) -> tf.Tensor:
    """Returns gates ``(4 * units,)`` that keep a cell as it was."""
    return tf.repeat(tf.constant([-_SATURATED, _SATURATED, 0.0, 0.0], dtype), units)


def _last_output(outputs: tf.Tensor, by_time: tf.Tensor) -> tf.Tensor:
    """Returns the outputs ``(batch, units)`` at the last real token.

    Args:
        outputs: float ``(length, batch, units)``.
        by_time: bool ``(length, batch)``, True = real token.
    """
    last = tf.maximum(tf.reduce_sum(tf.cast(by_time, tf.int32), axis=0) - 1, 0)
    rows = tf.range(tf.shape(outputs)[1])
    return tf.gather_nd(outputs, tf.stack([last, rows], axis=1))


def _join(parts: list[tf.Tensor]) -> tf.Tensor:
    return parts[0] if len(parts) == 1 else tf.concat(parts, axis=0)


def _split(joined: tf.Tensor, size: int) -> list[tf.Tensor]:
    return [joined] if size == 1 else tf.split(joined, size)
