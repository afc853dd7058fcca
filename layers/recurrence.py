"""The LSTM over whole sequences, for training: a scan with a gradient of its own.

Automatic differentiation goes back through a recurrence step by step, and adds up the
weights' gradient at each. Here a step backward makes only the gradient of its gates,
``d_gates``; what the weights get is then one product over all steps::

    d_kernel = sum over t of  h[t-1]' d_gates[t]  =  H' D

which is the same number by a fraction of the work. The formulas are those of Graves
2012, "Supervised sequence labelling with recurrent neural networks", section 4.6,
without peepholes.
"""

from typing import NamedTuple

import tensorflow as tf

from pocketseq.layers.products import product, product_dtype, products_in

# A sequence up to this long is unrolled: up to a fifth faster than a graph loop; beyond
# it tracing takes longer than the speed brings back.
UNROLL_LIMIT = 32


class LSTMState(NamedTuple):
    """What an LSTM remembers: ``hidden`` and ``cell``, float ``(batch, units)``."""

    hidden: tf.Tensor
    cell: tf.Tensor


class Activations(NamedTuple):
    """What a step forward leaves for the step backward, each ``(batch, units)``."""

    write: tf.Tensor
    keep: tf.Tensor
    candidate: tf.Tensor
    show: tf.Tensor
    cell_before: tf.Tensor
    tanh_cell: tf.Tensor


def step_forward(gates, cell):
    """Returns the state after a step, and its :class:`Activations`.

    Args:
        gates: float ``(batch, 4 * units)``: write, keep, candidate, show.
        cell: float ``(batch, units)``, the cell before.
    """
    write, keep, candidate, show = tf.split(gates, 4, axis=-1)
    write, keep, show = tf.sigmoid(write), tf.sigmoid(keep), tf.sigmoid(show)
    candidate = tf.tanh(candidate)
    after = keep * cell + write * candidate
    tanh_cell = tf.tanh(after)
    saved = Activations(write, keep, candidate, show, cell, tanh_cell)
    return LSTMState(show * tanh_cell, after), saved


def step_backward(saved, d_hidden, d_cell):
    """Returns the gradients of a step's gates and of the cell before it.

    Args:
        saved: :class:`Activations` of the step.
        d_hidden, d_cell: The gradients of the state after it.
    """
    # Each is one pass over memory, where the formula written out would be three.
    sigmoid_gradient, tanh_gradient = tf.raw_ops.SigmoidGrad, tf.raw_ops.TanhGrad
    d_cell += tanh_gradient(y=saved.tanh_cell, dy=d_hidden * saved.show)
    d_gates = [
        sigmoid_gradient(y=saved.write, dy=d_cell * saved.candidate),
        sigmoid_gradient(y=saved.keep, dy=d_cell * saved.cell_before),
        tanh_gradient(y=saved.candidate, dy=d_cell * saved.write),
        sigmoid_gradient(y=saved.show, dy=d_hidden * saved.tanh_cell),
    ]
    return tf.concat(d_gates, axis=-1), d_cell * saved.keep


def run_lstm(projected, state, kernel, *, reverse=False):
    """Runs an LSTM over a sequence.

    Args:
        projected: float ``(length, batch, 4 * units)``, the inputs' part of the gates.
        state: :class:`LSTMState` before the first step.
        kernel: float ``(units, 4 * units)``, the recurrent kernel.
        reverse: Whether to start at the end. Outputs keep the order of the inputs.

    Returns:
        The hidden states ``(length, batch, units)``, and the :class:`LSTMState` after
        the last step.
    """
    dtype = product_dtype()

    @tf.custom_gradient
    def sequence(projected, hidden, cell, kernel):
        kernel = tf.cast(kernel, dtype)

        def forward(state, now):
            state, saved = step_forward(now + product(state.hidden, kernel), state.cell)
            return state, (state.hidden, *saved)

        before = LSTMState(hidden, cell)
        (outputs, *saved), last = scan(forward, before, [projected], reverse=reverse)
        outputs = _stacked(outputs)

        def gradient(d_outputs, d_hidden, d_cell):
            def backward(d_state, d_output, *saved):
                d_gates, d_cell = step_backward(
                    Activations(*saved), d_state.hidden + d_output, d_state.cell
                )
                d_hidden = product(d_gates, kernel, transpose_right=True)
                return LSTMState(d_hidden, d_cell), (d_gates,)

            with products_in(dtype):
                (d_gates,), d_first = scan(
                    backward,
                    LSTMState(d_hidden, d_cell),
                    [d_outputs, *saved],
                    reverse=not reverse,
                )
                d_gates = _stacked(d_gates)
                d_kernel = _over_all(_shifted(outputs, hidden, reverse), d_gates)
            return d_gates, *d_first, d_kernel

        return (outputs, *last), gradient

    # A variable could not be given its gradient here; the tensor of its value can.
    outputs, *last = sequence(projected, *state, tf.convert_to_tensor(kernel))
    return outputs, LSTMState(*last)


def run_feeding_lstms(projected, states, context, kernels, biases, masks, look_back):
    """Runs stacked LSTMs of which the first is fed the context of the step before.

    Args:
        projected: float ``(length, batch, 4 * units)``, the inputs' part of the first
            LSTM's gates.
        states: :class:`LSTMState` of each LSTM before the first step.
        context: float ``(batch, units)``, the context fed to the first step.
        kernels: For each LSTM ``(2 * units, 4 * units)``: the rows for its own hidden
            state, then those for the context or for the LSTM below.
        biases: For each LSTM above the first ``(4 * units,)``.
        masks: Likewise ``(batch, units)``, factors of what comes from the LSTM below.
        look_back: :class:`LookBack`.

    Returns:
        The hidden states of the last LSTM, ``(length, batch, units)``.
    """
    dtype, size = product_dtype(), len(states)
    given = [projected, context, states, kernels, biases, look_back.parts]

    @tf.custom_gradient
    def sequence(*flat):
        projected, context, states, kernels, biases, parts = tf.nest.pack_sequence_as(
            given, flat
        )
        kernels = [tf.cast(kernel, dtype) for kernel in kernels]

        def forward(carried, now):
            states, below = carried
            after, rows, saved = [], [], []
            for index, (state, kernel) in enumerate(zip(states, kernels, strict=True)):
                rows.append(tf.concat([state.hidden, below], axis=-1))
                gates = product(rows[-1], kernel)
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
                        d_gates[index], kernels[index], transpose_right=True
                    )
                    d_hidden, d_below = tf.split(d_row, 2, axis=-1)
                    before[index] = LSTMState(d_hidden, d_cell)
                    d_above = d_below * masks[index - 1] if index else None
                return (before, d_below), (d_context, *d_gates)

            zeros = tf.zeros_like(context)
            after = ([LSTMState(zeros, zeros)] * size, zeros)
            with products_in(dtype):
                (d_contexts, *d_gates), (d_states, d_context) = scan(
                    backward, after, [outputs, d_outputs, *saved], reverse=True
                )
                d_gates = [_stacked(one) for one in d_gates]
                d_kernels = [
                    _over_all(_stacked(row), one)
                    for row, one in zip(rows, d_gates, strict=True)
                ]
                d_parts = look_back.d_parts(outputs, parts, _stacked(d_contexts))
            d_biases = [tf.reduce_sum(one, axis=[0, 1]) for one in d_gates[1:]]
            return tf.nest.flatten(
                [d_gates[0], d_context, d_states, d_kernels, d_biases, d_parts]
            )

        return outputs, gradient

    return sequence(*tf.nest.flatten(given))


class LookBack:
    """How a step comes to its context, and how its gradient goes the same way back.

    Args:
        attend: ``(queries (batch, length, units), parts) -> contexts``.
        parts: A list of tensors: what is looked at, and the weights it takes.
    """

    def __init__(self, attend, parts):
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
        """Returns the gradients of the parts, from those of all steps' contexts.

        All steps look at the same parts, so this is done for them together.
        """
        hidden, d_contexts = swap_axes(hidden), swap_axes(d_contexts)
        # Two parts that are one tensor have a gradient each.
        parts = [tf.identity(part) for part in parts]
        with tf.GradientTape() as tape:
            tape.watch(parts)
            contexts = self.attend(hidden, parts)
        return tape.gradient(contexts, parts, d_contexts, unconnected_gradients=_ZERO)


_ZERO = tf.UnconnectedGradients.ZERO


def scan(step, state, inputs, *, reverse=False):
    """Runs ``step`` over the time axis. The gradient is the caller's part.

    Args:
        step: ``(state, *inputs at one time) -> (state, outputs at that time)``.
        state: Nested tensors.
        inputs: A list of columns: tensors ``(length, ...)``, or lists of tensors.
        reverse: Whether to start at the end. Outputs keep the order of the inputs.

    Returns:
        A list of output columns, and the state after the last step. The columns of a
        short sequence are lists of tensors, because the next scan takes them so.
    """
    first = inputs[0]
    length = len(first) if isinstance(first, list) else first.shape[0]
    if length is not None and length <= UNROLL_LIMIT:
        return _unrolled_scan(step, state, inputs, length, reverse)
    return _looped_scan(step, state, [_stacked(column) for column in inputs], reverse)


def _unrolled_scan(step, state, inputs, length, reverse):
    columns = [x if isinstance(x, list) else tf.unstack(x) for x in inputs]
    outputs = [None] * length
    for time in reversed(range(length)) if reverse else range(length):
        state, outputs[time] = step(state, *(column[time] for column in columns))
    return [list(column) for column in zip(*outputs, strict=True)], state


def _looped_scan(step, state, inputs, reverse):
    length = tf.shape(inputs[0])[0]
    start, stride = (length - 1, -1) if reverse else (0, 1)
    # The first step is taken before the loop, which so learns what a step returns.
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


def _stacked(column):
    return tf.stack(column) if isinstance(column, list) else column


def _shifted(outputs, first, reverse):
    """Returns the output before each step, ``first`` being that before the first."""
    if reverse:
        return tf.concat([outputs[1:], first[None]], axis=0)
    return tf.concat([first[None], outputs[:-1]], axis=0)


def _over_all(rows, d_gates):
    """Returns the sum of ``rows' d_gates`` over all steps, as one product."""
    flat = [tf.reshape(x, [-1, x.shape[-1]]) for x in (rows, d_gates)]
    return product(*flat, transpose_left=True)


def swap_axes(tensor):
    """Swaps the first two axes: (batch, time, ...) and (time, batch, ...)."""
    return tf.transpose(tensor, [1, 0, 2])
