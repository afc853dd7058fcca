"""Tests of pocketseq.layers.lstm."""

from functools import partial

import keras
import numpy as np
import pytest
import tensorflow as tf

from pocketseq.layers import LSTM, LSTMState, recurrence
from pocketseq.layers.lstm import read_loop

LENGTHS = np.array([5, 2, 1, 0])
MASK = np.arange(5) < LENGTHS[:, None]
BOTH_DIRECTIONS = pytest.mark.parametrize(
    "reverse", [False, True], ids=["forward", "reverse"]
)


def random_array(*shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def built(reverse=False, units=3, width=4):
    """A layer whose weights, bias included, are random."""
    layer = LSTM(units, reverse=reverse)
    layer.build((None, None, width))
    layer.set_weights(
        [random_array(*weight.shape, seed=i) for i, weight in enumerate(layer.weights)]
    )
    return layer


def call(layer, inputs, mask):
    return layer(inputs, mask)


def loop(layer, inputs, mask):
    """The layer in the form for devices."""
    by_time = tf.transpose(inputs, [1, 0, 2])

    def project(_, time):
        return layer.project(tf.gather(by_time, time))

    (result,) = read_loop([layer], project, tf.convert_to_tensor(mask))
    return result


BOTH_FORMS = pytest.mark.parametrize("run", [call, loop])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numpy_step(layer, inputs, hidden, cell):
    """One step, recomputed from the layer's own weights."""
    kernel, recurrent_kernel, bias = layer.get_weights()
    gates = inputs @ kernel + hidden @ recurrent_kernel + bias
    input_gate, forget_gate, candidate, output_gate = np.split(gates, 4, axis=-1)
    cell = sigmoid(forget_gate) * cell + sigmoid(input_gate) * np.tanh(candidate)
    return sigmoid(output_gate) * np.tanh(cell), cell


def numpy_lstm(layer, inputs, lengths):
    """Outputs and final state, text by text, over real tokens only."""
    outputs = np.zeros((*inputs.shape[:2], layer.units))
    final = np.zeros((2, len(inputs), layer.units))
    for text, length in enumerate(lengths):
        times = range(length)
        for time in reversed(times) if layer.reverse else times:
            final[:, text] = numpy_step(layer, inputs[text, time], *final[:, text])
            outputs[text, time] = final[0, text]
    return outputs, *final


def assert_results(results, expected, atol=1e-5):
    outputs, state = results
    for result, value in zip((outputs, *state), expected, strict=True):
        np.testing.assert_allclose(result, value, atol=atol)


@pytest.mark.parametrize("wrap", [lambda f: f, tf.function], ids=["eager", "graph"])
def test_a_step_is_the_equation_in_numpy(wrap):
    layer = built()
    inputs, hidden, cell = random_array(2, 4), random_array(2, 3), random_array(2, 3)
    state = wrap(layer.step)(tf.constant(inputs), LSTMState(hidden, cell))
    for result, expected in zip(
        state, numpy_step(layer, inputs, hidden, cell), strict=True
    ):
        np.testing.assert_allclose(result, expected, atol=1e-5)


@pytest.mark.parametrize("wrap", [lambda f: f, tf.function], ids=["eager", "graph"])
@BOTH_FORMS
@BOTH_DIRECTIONS
def test_a_call_and_a_loop_run_the_step_over_the_real_tokens(reverse, run, wrap):
    layer, inputs = built(reverse), random_array(4, 5, 4)
    results = wrap(partial(run, layer))(tf.constant(inputs), tf.constant(MASK))
    assert_results(results, numpy_lstm(layer, inputs, LENGTHS))


@BOTH_DIRECTIONS
def test_without_a_mask_all_tokens_are_real(reverse):
    layer, inputs = built(reverse), random_array(2, 5, 4)
    assert_results(layer(inputs), numpy_lstm(layer, inputs, [5, 5]))


def test_an_initial_state_is_where_the_first_step_starts():
    layer, inputs = built(), random_array(2, 2, 4)
    start = LSTMState(*random_array(2, 2, 3))
    first = numpy_step(layer, inputs[:, 0], *start)
    second = numpy_step(layer, inputs[:, 1], *first)
    outputs = np.stack([first[0], second[0]], axis=1)
    assert_results(layer(inputs, None, start), (outputs, *second))


@BOTH_DIRECTIONS
def test_keras_lstm_computes_the_same_from_the_same_weights(reverse):
    layer, inputs = built(reverse), random_array(3, 5, 4)
    reference = keras.layers.LSTM(
        3, return_sequences=True, return_state=True, go_backwards=reverse
    )
    reference.build(inputs.shape)
    reference.set_weights(layer.get_weights())
    outputs, *state = reference(inputs)
    if reverse:
        outputs = outputs[:, ::-1]
    assert_results(layer(inputs), (outputs, *state))


def test_a_fresh_layer_opens_the_forget_gate_only():
    layer = LSTM(2)
    layer.build((None, None, 3))
    np.testing.assert_array_equal(layer.bias, [0, 0, 1, 1, 0, 0, 0, 0])


@BOTH_DIRECTIONS
def test_a_looped_scan_equals_an_unrolled_one_gradients_included(reverse, monkeypatch):
    layer, inputs = built(reverse), tf.constant(random_array(4, 5, 4))

    @tf.function
    def run():
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs, state = layer(inputs, tf.constant(MASK))
            loss = tf.reduce_sum(outputs**2) + tf.reduce_sum(state.hidden * state.cell)
        return outputs, *state, *tape.gradient(loss, [inputs, *layer.weights])

    unrolled = run.get_concrete_function()
    monkeypatch.setattr(recurrence, "UNROLL_LIMIT", 0)
    looped = tf.function(run.python_function).get_concrete_function()

    def loops(function):
        return [op for op in function.graph.get_operations() if "While" in op.type]

    assert loops(looped)
    assert not loops(unrolled)
    for result, expected in zip(looped(), unrolled(), strict=True):
        np.testing.assert_allclose(result, expected, atol=1e-5)


@BOTH_DIRECTIONS
@pytest.mark.parametrize("unroll_limit", [32, 0], ids=["unrolled", "looped"])
def test_gradients_are_those_of_keras_lstm(reverse, unroll_limit, monkeypatch):
    monkeypatch.setattr(recurrence, "UNROLL_LIMIT", unroll_limit)
    layer, inputs = built(reverse), tf.constant(random_array(3, 5, 4))
    start = LSTMState(*tf.constant(random_array(2, 3, 3, seed=2)))
    reference = keras.layers.LSTM(
        3, return_sequences=True, return_state=True, go_backwards=reverse
    )
    reference.build(inputs.shape)
    reference.set_weights(layer.get_weights())

    def gradients(weights, run):
        with tf.GradientTape() as tape:
            tape.watch([inputs, start])
            outputs, hidden, cell = run()
            factors = tf.constant(random_array(3, 5, 3, seed=3))
            loss = tf.reduce_sum(outputs * factors) + tf.reduce_sum(hidden * cell**2)
        return tape.gradient(loss, [inputs, *start, *weights])

    def ours():
        outputs, state = layer(inputs, None, start)
        return outputs, *state

    def theirs():
        outputs, *state = reference(inputs, initial_state=list(start))
        return outputs[:, ::-1] if reverse else outputs, *state

    found = tf.function(lambda: gradients(layer.weights, ours))()
    expected = gradients(reference.weights, theirs)
    for one, value in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, value, atol=1e-5)


@pytest.mark.parametrize("garbage", [99.0, -1e3, 1e6, np.nan])
@BOTH_FORMS
@BOTH_DIRECTIONS
def test_garbage_in_padding_changes_nothing(reverse, run, garbage):
    layer, clean = built(reverse), random_array(4, 5, 4)
    dirty = np.where(MASK[:, :, None], clean, np.float32(garbage))
    outputs, state = run(layer, tf.constant(clean), MASK)
    assert_results(run(layer, tf.constant(dirty), MASK), (outputs, *state), atol=1e-6)


@BOTH_DIRECTIONS
@pytest.mark.parametrize("length", [5, 2, 0])
def test_a_loop_over_one_text_equals_the_equation(reverse, length):
    layer, inputs = built(reverse), random_array(1, 5, 4)
    mask = np.arange(5)[None] < length
    results = loop(layer, tf.constant(inputs), mask)
    assert_results(results, numpy_lstm(layer, inputs, [length]))


@pytest.mark.parametrize("wrap", [lambda f: f, tf.function], ids=["eager", "graph"])
@pytest.mark.parametrize("lengths", [[70, 33, 1, 0], [64], [65], [16], [0]], ids=str)
@BOTH_DIRECTIONS
def test_a_loop_over_a_long_text_collects_blocks_to_the_same(reverse, lengths, wrap):
    layer, inputs = built(reverse), random_array(len(lengths), 70, 4)
    mask = np.arange(70) < np.array(lengths)[:, None]
    results = wrap(partial(loop, layer))(tf.constant(inputs), tf.constant(mask))
    assert_results(results, numpy_lstm(layer, inputs, lengths))


@BOTH_DIRECTIONS
def test_more_padding_changes_nothing(reverse):
    layer, inputs = built(reverse), random_array(2, 7, 4)
    mask = np.arange(7) < np.array([[3], [2]])
    outputs, state = layer(inputs, mask)
    short_outputs, short_state = layer(inputs[:, :3], mask[:, :3])
    assert_results((outputs[:, :3], state), (short_outputs, *short_state), atol=1e-6)
    assert np.all(outputs.numpy()[:, 3:] == 0.0)


@BOTH_DIRECTIONS
def test_the_final_state_is_the_one_after_the_last_real_token(reverse):
    layer, inputs = built(reverse), random_array(3, 5, 4)
    lengths = np.array([5, 3, 1])
    outputs, state = layer(inputs, np.arange(5) < lengths[:, None])
    last = np.zeros(3, int) if reverse else lengths - 1
    np.testing.assert_array_equal(state.hidden, outputs.numpy()[np.arange(3), last])
    for text, length in enumerate(lengths):
        alone = layer(inputs[text : text + 1, :length])[1]
        np.testing.assert_allclose(state.cell[text], alone.cell[0], atol=1e-6)


@BOTH_FORMS
@BOTH_DIRECTIONS
def test_a_fully_masked_row_has_the_zero_state(reverse, run):
    layer = built(reverse)
    outputs, state = run(
        layer, tf.constant(random_array(2, 5, 4)), np.full((2, 5), False)
    )
    for values in (outputs, *state):
        np.testing.assert_array_equal(values, np.zeros(values.shape))


@BOTH_DIRECTIONS
def test_gradients_are_finite_where_a_row_is_fully_masked(reverse):
    layer = built(reverse)
    inputs = tf.Variable(random_array(4, 5, 4))
    with tf.GradientTape() as tape:
        outputs, state = layer(inputs, MASK)
        loss = sum(tf.reduce_sum(values**2) for values in (outputs, *state))
    gradients = tape.gradient(loss, [inputs, *layer.trainable_weights])
    assert all(np.all(np.isfinite(gradient)) for gradient in gradients)
    assert np.all(gradients[0].numpy()[~MASK] == 0.0)


def test_a_saved_layer_gives_equal_outputs(tmp_path):
    inputs = [keras.Input((None, 4)), keras.Input((None,), dtype="bool")]
    layer = LSTM(3, reverse=True, name="other")
    model = keras.Model(inputs, layer(*inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    arrays = [random_array(4, 5, 4), MASK]
    for result, expected in zip(
        tf.nest.flatten(loaded(arrays)), tf.nest.flatten(model(arrays)), strict=True
    ):
        np.testing.assert_array_equal(result, expected)
    assert loaded.get_layer("other").get_config() == layer.get_config()
