"""The LSTM over whole sequences, for training: a scan with a gradient of its own.

Automatic differentiation goes back through a recurrence step by step, and adds up the
weights' gradient at each. Here a step backward computes only the gradient of its gates,
``d_gates``; the gradient of the weights is then one product over all steps::

    d_kernel = sum over t of  h[t-1]' d_gates[t]  =  H' D

which is the same number for a fraction of the work. The formulas are those of Graves
2012, "Supervised sequence labelling with recurrent neural networks", section 4.6,
without peepholes.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeAlias

import tensorflow as tf

from pocketseq.layers.products import product

#: A column of a scan: a value for each time, stacked ``(length, ...)`` or listed.
Column: TypeAlias = tf.Tensor | list[tf.Tensor]

# A sequence up to this long is unrolled: up to a fifth faster than a graph loop; beyond
# it tracing takes longer than the speed brings back.
UNROLL_LIMIT = 32


class LSTMState(NamedTuple):
    """State of an LSTM: ``hidden`` and ``cell``, float ``(batch, units)``."""

    hidden: tf.Tensor
    cell: tf.Tensor


class Activations(NamedTuple):
    """Values of a step forward that the step backward needs, ``(batch, units)`` each.

    The first four are the gates, after their sigmoid or tanh.
    """

    input: tf.Tensor
    forget: tf.Tensor
    candidate: tf.Tensor
    output: tf.Tensor
    cell_before: tf.Tensor
    tanh_cell: tf.Tensor


def step_forward(gates: tf.Tensor, cell: tf.Tensor) -> tuple[LSTMState, Activations]:
    """Returns the state after a step, and its :class:`Activations`.

    Args:
        gates: float ``(batch, 4 * units)``, before sigmoid and tanh: input, forget,
            candidate, output.
        cell: float ``(batch, units)``, the cell before.
    """
    input_gate, forget_gate, candidate, output_gate = tf.split(gates, 4, axis=-1)
    input_gate, forget_gate = tf.sigmoid(input_gate), tf.sigmoid(forget_gate)
    candidate, output_gate = tf.tanh(candidate), tf.sigmoid(output_gate)
    after = forget_gate * cell + input_gate * candidate
    tanh_cell = tf.tanh(after)
    saved = Activations(
        input_gate, forget_gate, candidate, output_gate, cell, tanh_cell
    )
    return LSTMState(output_gate * tanh_cell, after), saved


def step_backward(
    saved: Activations, d_hidden: tf.Tensor, d_cell: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the gradients of a step's gates and of the cell before it.

    Args:
        saved: :class:`Activations` of the step.
        d_hidden, d_cell: The gradients of the state after it.
    """
    # Each is one pass over memory, where the formula written out would be three.
    sigmoid_gradient, tanh_gradient = tf.raw_ops.SigmoidGrad, tf.raw_ops.TanhGrad
    d_cell += tanh_gradient(y=saved.tanh_cell, dy=d_hidden * saved.output)
    d_gates = [
        sigmoid_gradient(y=saved.input, dy=d_cell * saved.candidate),
        sigmoid_gradient(y=saved.forget, dy=d_cell * saved.cell_before),
        tanh_gradient(y=saved.candidate, dy=d_cell * saved.input),
        sigmoid_gradient(y=saved.output, dy=d_hidden * saved.tanh_cell),
    ]
    return tf.concat(d_gates, axis=-1), d_cell * saved.forget


def run_lstm(
    projected: tf.Tensor,
    state: LSTMState,
    kernel: tf.Tensor,
    *,
    reverse: bool = False,
    product_dtype: str = "float32",
) -> tuple[tf.Tensor, LSTMState]:
    """Runs an LSTM over a sequence.

    Args:
        projected: float ``(length, batch, 4 * units)``, the part of the inputs in the
            gates.
        state: :class:`LSTMState` before the first step.
        kernel: float ``(units, 4 * units)``, the recurrent kernel.
        reverse: Whether to start at the end. Outputs keep the order of the inputs.
        product_dtype: The dtype of the factors of products; see :func:`product`.

    Returns:
        The hidden states ``(length, batch, units)``, and the :class:`LSTMState` after
        the last step.
    """
    dtype = product_dtype

    @tf.custom_gradient
    def sequence(projected, hidden, cell, kernel):
        kernel = tf.cast(kernel, dtype)

        def forward(state, now):
            gates = now + product(state.hidden, kernel, dtype)
            state, saved = step_forward(gates, state.cell)
            return state, (state.hidden, *saved)

        before = LSTMState(hidden, cell)
        (outputs, *saved), last = scan(forward, before, [projected], reverse=reverse)
        outputs = _stacked(outputs)

        def gradient(d_outputs, d_hidden, d_cell):
            def backward(d_state, d_output, *saved):
                d_gates, d_cell = step_backward(
                    Activations(*saved), d_state.hidden + d_output, d_state.cell
                )
                d_hidden = product(d_gates, kernel, dtype, transpose_right=True)
                return LSTMState(d_hidden, d_cell), (d_gates,)

            (d_gates,), d_first = scan(
                backward,
                LSTMState(d_hidden, d_cell),
                [d_outputs, *saved],
                reverse=not reverse,
            )
            d_gates = _stacked(d_gates)
            d_kernel = _over_all(_shifted(outputs, hidden, reverse), d_gates, dtype)
            return d_gates, *d_first, d_kernel

        return (outputs, *last), gradient

    # A variable could not be given its gradient here; the tensor of its value can.
    outputs, *last = sequence(projected, *state, tf.convert_to_tensor(kernel))
    return outputs, LSTMState(*last)


_ZERO = tf.UnconnectedGradients.ZERO


class LookBack:
    """The attention of one step inside a scan, and its gradients.

    Args:
        attend: ``(queries (batch, length, units), parts) -> contexts``.
        parts: Tensors: the encoder outputs in the form that is attended to, and the
            weights of the attention.
    """

    def __init__(
        self,
        attend: Callable[[tf.Tensor, Sequence[tf.Tensor]], tf.Tensor],
        parts: list[tf.Tensor],
    ) -> None:
        self.attend = attend
        self.parts = parts

    def __call__(self, hidden, parts):
        """Returns the context of one step, ``(batch, units)``."""
        return self.attend(hidden[:, None], parts)[:, 0]

    def d_query(self, hidden, parts, d_context):
        """Returns the gradient of one step's hidden state, ``(batch, units)``."""
        with tf.GradientTape() as tape:
            tape.watch(hidden)
            context = self(hidden, parts)
        return tape.gradient(context, hidden, d_context, unconnected_gradients=_ZERO)

    def d_parts(self, hidden, parts, d_contexts):
        """Returns the gradients of the parts, from those of the contexts of all steps.

        All steps attend to the same parts, so this is one pass for all of them.
        """
        hidden, d_contexts = swap_axes(hidden), swap_axes(d_contexts)
        # Two parts that are one tensor have a gradient each.
        parts = [tf.identity(part) for part in parts]
        with tf.GradientTape() as tape:
            tape.watch(parts)
            contexts = self.attend(hidden, parts)
        return tape.gradient(contexts, parts, d_contexts, unconnected_gradients=_ZERO)


def run_feeding_lstms(
    projected: tf.Tensor,
    states: Sequence[LSTMState],
    context: tf.Tensor,
    kernels: Sequence[tf.Tensor],
    biases: Sequence[tf.Tensor],
    masks: Sequence[tf.Tensor],
    look_back: LookBack,
    *,
    product_dtype: str = "float32",
) -> tf.Tensor:
    """Runs stacked LSTMs; the first one is fed the context of the previous step.

    Args:
        projected: float ``(length, batch, 4 * units)``, the part of the inputs in the
            gates of the first LSTM.
        states: :class:`LSTMState` of each LSTM before the first step.
        context: float ``(batch, units)``, the context fed to the first step.
        kernels: For each LSTM ``(2 * units, 4 * units)``: the rows for its own hidden
            state, then those for the context or for the LSTM below.
        biases: For each LSTM above the first ``(4 * units,)``.
        masks: Likewise ``(batch, units)``: dropout masks, factors of the outputs of the
            LSTM below.
        look_back: :class:`LookBack`.
        product_dtype: The dtype of the factors of products; see :func:`product`.

    Returns:
        The hidden states of the last LSTM, ``(length, batch, units)``.
    """
    dtype, size = product_dtype, len(states)
    given = [projected, context, states, kernels, biases, look_back.parts]

    @tf.custom_gradient
    def sequence(*flat):
        projected, context, states, kernels, biases, parts = tf.nest.pack_sequence_as(
            given, flat
        )
        kernels = [tf.cast(kernel, dtype) for kernel in kernels]

        def forward(carried, now):
            states, below = carried
            after, rows = [], []
            saved: list[tf.Tensor] = []
            for index, (state, kernel) in enumerate(zip(states, kernels, strict=True)):
                rows.append(tf.concat([state.hidden, below], axis=-1))
                gates = product(rows[-1], kernel, dtype)
                gates += biases[index - 1] if index else now
                state, activations = step_forward(gates, state.cell)
                after.append(state)
                saved += activations
                below = state.hidden * masks[index] if index + 1 < size else None
            hidden = after[-1].hidden
            return (after, look_back(hidden, parts)), (hidden, *rows, *saved)

        (outputs, *kept), _ = scan(forward, (list(states), context), [projected])
        rows, saved = kept[:size], kept[size:]
        outputs = _stacked(outputs)

        def gradient(d_outputs):
            def backward(carried, hidden, d_output, *saved):
                d_states, d_context = carried
                d_above = d_output + look_back.d_query(hidden, parts, d_context)
                before, d_gates = list(d_states), [d_output] * size  # to be replaced
                for index in reversed(range(size)):
                    activations = Activations(*saved[6 * index : 6 * index + 6])
                    d_state = d_states[index]
                    d_gates[index], d_cell = step_backward(
                        activations, d_state.hidden + d_above, d_state.cell
                    )
                    d_row = product(
                        d_gates[index], kernels[index], dtype, transpose_right=True
                    )
                    d_hidden, d_below = tf.split(d_row, 2, axis=-1)
                    before[index] = LSTMState(d_hidden, d_cell)
                    d_above = d_below * masks[index - 1] if index else None
                return (before, d_below), (d_context, *d_gates)

            zeros = tf.zeros_like(context)
            after = ([LSTMState(zeros, zeros)] * size, zeros)
            (d_contexts, *d_gates), (d_states, d_context) = scan(
                backward, after, [outputs, d_outputs, *saved], reverse=True
            )
            d_gates = [_stacked(one) for one in d_gates]
            d_kernels = [
                _over_all(_stacked(row), one, dtype)
                for row, one in zip(rows, d_gates, strict=True)
            ]
            d_parts = look_back.d_parts(outputs, parts, _stacked(d_contexts))
            d_biases = [tf.reduce_sum(one, axis=[0, 1]) for one in d_gates[1:]]
            return tf.nest.flatten(
                [d_gates[0], d_context, d_states, d_kernels, d_biases, d_parts]
            )

        return outputs, gradient

    return sequence(*tf.nest.flatten(given))


def scan(
    step: Callable[..., tuple[Any, Sequence[tf.Tensor]]],
    state: Any,
    inputs: Sequence[Column],
    *,
    reverse: bool = False,
) -> tuple[list[Column], Any]:
    """Runs ``step`` over the time axis. Its gradient is left to the caller.

    Args:
        step: ``(state, *inputs at one time) -> (state, outputs at that time)``.
        state: Nested tensors.
        inputs: A list of columns: tensors ``(length, ...)``, or lists of tensors.
        reverse: Whether to start at the end. Outputs keep the order of the inputs.

    Returns:
        A list of output columns, and the state after the last step. The columns of a
        short sequence are lists of tensors, which the next scan takes as they are.
    """
    first = inputs[0]
    length = len(first) if isinstance(first, list) else first.shape[0]
    if length is not None and length <= UNROLL_LIMIT:
        return _unrolled_scan(step, state, inputs, length, reverse)
    return _looped_scan(step, state, [_stacked(column) for column in inputs], reverse)


def _unrolled_scan(
    step: Callable, state: Any, inputs: Sequence[Column], length: int, reverse: bool
) -> tuple[list[Column], Any]:
    columns = [x if isinstance(x, list) else tf.unstack(x) for x in inputs]
    outputs: list[Sequence[tf.Tensor]] = [()] * length
    for time in reversed(range(length)) if reverse else range(length):
        state, outputs[time] = step(state, *(column[time] for column in columns))
    return [list(column) for column in zip(*outputs, strict=True)], state


def _looped_scan(
    step: Callable, state: Any, inputs: Sequence[tf.Tensor], reverse: bool
) -> tuple[list[Column], Any]:
    length = tf.shape(inputs[0])[0]
    start, stride = (length - 1, -1) if reverse else (0, 1)
    # The first step is taken before the loop, to learn what a step returns.
    state, outputs = step(state, *(column[start] for column in inputs))
    arrays = [
        tf.TensorArray(output.dtype, length, element_shape=output.shape)
        for output in outputs
    ]
    arrays = [a.write(start, one) for a, one in zip(arrays, outputs, strict=True)]

    def body(time, state, arrays):
        state, outputs = step(state, *(column[time] for column in inputs))
        arrays = [a.write(time, one) for a, one in zip(arrays, outputs, strict=True)]
        return time + stride, state, arrays

    _, state, arrays = tf.while_loop(
        lambda time, *_: tf.logical_and(time >= 0, time < length),
        body,
        [start + stride, state, arrays],
    )
    return [array.stack() for array in arrays], state


def _stacked(column: Column) -> tf.Tensor:
    return tf.stack(column) if isinstance(column, list) else column


def _shifted(outputs: tf.Tensor, first: tf.Tensor, reverse: bool) -> tf.Tensor:
    """Returns the output before each step; ``first`` is the one before the first."""
    if reverse:
        return tf.concat([outputs[1:], first[None]], axis=0)
    return tf.concat([first[None], outputs[:-1]], axis=0)


def _over_all(rows: tf.Tensor, d_gates: tf.Tensor, dtype: str) -> tf.Tensor:
    """Returns the sum of ``rows' d_gates`` over all steps, as one product."""
    left, right = (tf.reshape(x, [-1, x.shape[-1]]) for x in (rows, d_gates))
    return product(left, right, dtype, transpose_left=True)


def swap_axes(tensor: tf.Tensor) -> tf.Tensor:
    """Swaps the first two axes: (batch, time, ...) and (time, batch, ...)."""
    return tf.transpose(tensor, [1, 0, 2])
