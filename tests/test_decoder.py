"""Tests of pocketseq.layers.decoder."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from pocketseq.layers import (
    ATTENTIONS,
    AttentiveLSTMDecoder,
    CosineAttention,
    DotProductAttention,
    LSTMEncoder,
    LSTMState,
    recurrence,
)
from pocketseq.pipeline.model import EncoderDecoder

TARGET_IDS = np.array([[1, 4, 5, 3], [1, 6, 7, 4]])
MASK = np.array([[True, True, True], [True, True, False]])
SEEDS = (np.array([1, 2]), np.array([1, 2]), np.array([1, 3]), None)
UNITS = 6
EVERY_KIND = pytest.mark.parametrize(
    ("attention", "input_feeding", "tied_output", "layers"),
    list(
        itertools.product(
            ["cosine", "dot", "none", "additive"], [False, True], [False, True], [1, 2]
        )
    ),
)


def random_tensor(*shape, seed=1):
    return tf.constant(np.random.default_rng(seed).normal(size=shape), tf.float32)


def built(
    encoder_units=UNITS, encoder_layers=None, layers=1, vocabulary_size=8, **options
):
    """A decoder whose weights, biases included, are random."""
    decoder = AttentiveLSTMDecoder(
        vocabulary_size, 5, UNITS, layers=layers, encoder_units=encoder_units,
        encoder_layers=encoder_layers, **options,
    )  # fmt: skip
    decoder.build()
    for seed, weight in enumerate(decoder.trainable_weights):
        if weight.shape.rank:
            weight.assign(0.5 * random_tensor(*weight.shape, seed=seed))
    return decoder


def encoded(decoder, encoder_units=UNITS, encoder_layers=None):
    """Memory and first state, from random encoder outputs and states."""
    memory = decoder.memory(random_tensor(2, 3, encoder_units), MASK)
    states = tuple(
        LSTMState(*tf.unstack(random_tensor(2, 2, encoder_units, seed=layer)))
        for layer in range(encoder_layers or decoder.layers)
    )
    return memory, decoder.initial_state(states)


def step_by_step(decoder, memory, state):
    """Logits and weights of TARGET_IDS, one step at a time."""
    logits, weights = [], []
    for token_ids in TARGET_IDS.T:
        step_logits, step_weights, state = decoder.step(token_ids, state, memory)
        logits.append(step_logits)
        weights.append(step_weights)
    return tf.stack(logits, axis=1), tf.stack(weights, axis=1)


def assert_all_close(results, expected, atol=1e-5):
    for result, value in zip(results, expected, strict=True):
        np.testing.assert_allclose(result, value, atol=atol)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@EVERY_KIND
def test_step_by_step_equals_teacher_forced(
    attention, input_feeding, tied_output, layers
):
    decoder = built(
        attention=attention,
        input_feeding=input_feeding,
        tied_output=tied_output,
        layers=layers,
    )
    memory, state = encoded(decoder)
    logits, weights = decoder(TARGET_IDS, memory, state)
    assert logits.shape == (2, 4, 8)
    assert_all_close((logits, weights), step_by_step(decoder, memory, state))


@pytest.mark.parametrize("input_feeding", [False, True])
def test_step_by_step_equals_teacher_forced_with_a_large_vocabulary(input_feeding):
    decoder = built(vocabulary_size=600, input_feeding=input_feeding)
    memory, state = encoded(decoder)
    results = decoder(TARGET_IDS, memory, state)
    assert_all_close(results, step_by_step(decoder, memory, state))


@EVERY_KIND
@pytest.mark.parametrize("unroll_limit", [32, 0], ids=["unrolled", "looped"])
def test_gradients_are_those_of_differentiating_every_step(
    attention, input_feeding, tied_output, layers, unroll_limit, monkeypatch
):
    monkeypatch.setattr(recurrence, "UNROLL_LIMIT", unroll_limit)
    decoder = built(
        attention=attention,
        input_feeding=input_feeding,
        tied_output=tied_output,
        layers=layers,
    )
    memory, state = encoded(decoder)

    def gradients(run):
        with tf.GradientTape() as tape:
            tape.watch([memory, state])
            logits, weights = run()
            loss = tf.reduce_sum(tf.nn.log_softmax(logits)[:, :, 4])
            loss += tf.reduce_sum(weights * random_tensor(2, 4, 3))
        # TensorFlow cannot make zeros for a variable of Keras, where it needs them.
        weights = [weight.value for weight in decoder.trainable_weights]
        sources = [*memory[:2], *tf.nest.flatten(state), *weights]
        found = tape.gradient(loss, sources, unconnected_gradients="zero")
        return [tf.convert_to_tensor(gradient) for gradient in found]

    expected = gradients(lambda: step_by_step(decoder, memory, state))
    assert sum(bool(tf.reduce_any(gradient != 0)) for gradient in expected) > 8
    assert_all_close(gradients(lambda: decoder(TARGET_IDS, memory, state)), expected)
    in_graph = tf.function(
        lambda: gradients(lambda: decoder(TARGET_IDS, memory, state))
    )
    assert_all_close(in_graph(), expected)


@pytest.mark.parametrize("input_feeding", [False, True])
def test_a_step_is_the_equation_in_numpy(input_feeding):
    decoder = built(attention="dot", input_feeding=input_feeding)
    memory, state = encoded(decoder)
    if input_feeding:
        state = state._replace(context=random_tensor(2, UNITS, seed=9))
    embedding = decoder.embedding.embeddings.numpy()
    kernel, recurrent_kernel, bias = decoder.lstm[0].get_weights()

    inputs = embedding[[4, 6]]
    if input_feeding:
        inputs = np.concatenate([inputs, state.context], axis=-1)
    gates = inputs @ kernel + state.lstm[0].hidden @ recurrent_kernel + bias
    write, keep, candidate, show = np.split(gates, 4, axis=-1)
    cell = sigmoid(keep) * state.lstm[0].cell + sigmoid(write) * np.tanh(candidate)
    hidden = sigmoid(show) * np.tanh(cell)
    powers = np.exp(np.einsum("bu,bsu->bs", hidden, memory.values)) * MASK
    weights = powers / powers.sum(axis=-1, keepdims=True)
    context = np.einsum("bs,bsu->bu", weights, memory.values)
    read_kernel, read_bias = decoder.readout.get_weights()
    both = np.concatenate([context, hidden], axis=-1)
    readout = np.tanh(both @ read_kernel + read_bias)
    logits = readout @ embedding.T + decoder.output_bias.numpy()

    results = decoder.step(np.array([4, 6]), state, memory)
    assert_all_close(results[:2], (logits, weights))
    feed = (context,) if input_feeding else ()
    assert_all_close(tf.nest.flatten(results[2]), (hidden, cell, *feed))


@pytest.mark.parametrize("attention", ["cosine", "none"])
def test_without_a_readout_one_dense_layer_reads_context_and_output(attention):
    decoder = built(attention=attention, tied_output=False, readout=False)
    memory, state = encoded(decoder)
    logits, weights, after = decoder.step(np.array([4, 6]), state, memory)
    inputs = after.lstm[-1].hidden
    if attention == "cosine":
        context = np.einsum("bs,bsu->bu", weights, memory.values)
        inputs = np.concatenate([context, inputs], axis=-1)
    kernel, bias = decoder.output_kernel.numpy(), decoder.output_bias.numpy()
    assert_all_close([logits], [inputs @ kernel.T + bias])
    results = decoder(TARGET_IDS, memory, state)
    assert_all_close(results, step_by_step(decoder, memory, state))


def test_a_token_may_be_read_as_another_one():
    decoder = built(read_as=(1, 2))
    memory, state = encoded(decoder)
    plain = built()
    as_other = np.where(TARGET_IDS == 1, 2, TARGET_IDS)
    expected = plain(as_other, memory, state)
    assert_all_close(decoder(TARGET_IDS, memory, state), expected)
    assert_all_close(step_by_step(decoder, memory, state), expected)
    assert np.abs(plain(TARGET_IDS, memory, state)[0] - expected[0]).max() > 1e-3


def test_an_output_tied_without_a_readout_is_an_error():
    with pytest.raises(ValueError, match="tied_output without a readout"):
        AttentiveLSTMDecoder(8, 5, UNITS, readout=False)


def test_a_call_in_a_graph_equals_an_eager_one():
    decoder = built(input_feeding=True, layers=2)
    memory, state = encoded(decoder)
    results = tf.function(decoder)(tf.constant(TARGET_IDS), memory, state)
    assert_all_close(results, decoder(TARGET_IDS, memory, state))


@pytest.mark.parametrize("input_feeding", [False, True])
def test_a_long_target_in_a_graph_loop_gives_the_same(input_feeding, monkeypatch):
    decoder = built(input_feeding=input_feeding, layers=2)
    memory, state = encoded(decoder)
    unrolled = decoder(TARGET_IDS, memory, state)
    monkeypatch.setattr(recurrence, "UNROLL_LIMIT", 0)
    assert_all_close(decoder(TARGET_IDS, memory, state), unrolled)


@pytest.mark.parametrize("encoder_units", [UNITS, 4])
def test_states_of_another_shape_pass_through_bridges(encoder_units):
    decoder = built(encoder_units, 3, layers=2)
    memory, state = encoded(decoder, encoder_units, 3)
    top = random_tensor(2, 2, encoder_units, seed=2)
    for layer in range(2):
        hidden, cell = decoder.bridges[2 * layer : 2 * layer + 2]
        expected = (
            np.tanh(top[0] @ hidden.kernel + hidden.bias),
            top[1] @ cell.kernel + cell.bias,
        )
        assert_all_close(state.lstm[layer], expected)
    assert memory.values.shape == (2, 3, UNITS)
    results = decoder(TARGET_IDS, memory, state)
    assert_all_close(results, step_by_step(decoder, memory, state))


def test_states_of_the_same_shape_are_taken_as_they_are():
    decoder = built(layers=2)
    _, state = encoded(decoder)
    for layer in range(2):
        expected = tf.unstack(random_tensor(2, 2, UNITS, seed=layer))
        assert_all_close(state.lstm[layer], expected, atol=0)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_hypotheses_may_share_the_memory_of_their_text(attention):
    decoder = built(attention=attention, input_feeding=True)
    memory, state = encoded(decoder)
    rows = tf.nest.map_structure(lambda x: random_tensor(6, UNITS), state)
    repeated = tf.nest.map_structure(lambda x: tf.repeat(x, 3, axis=0), memory)
    token_ids = np.array([4, 5, 6, 7, 4, 3])
    shared = decoder.step(token_ids, rows, memory)
    expected = decoder.step(token_ids, rows, repeated)
    assert_all_close(tf.nest.flatten(shared), tf.nest.flatten(expected))


def test_padded_source_positions_change_nothing():
    decoder = built(input_feeding=True)
    memory, state = encoded(decoder)
    garbage = tf.where(MASK[:, :, None], memory.values, 99.0)
    logits, weights = decoder(TARGET_IDS, decoder.memory(garbage, MASK), state)
    assert_all_close((logits, weights), decoder(TARGET_IDS, memory, state))
    assert np.all(weights.numpy()[1, :, 2] == 0.0)


def test_a_dropout_seed_decides_what_is_dropped():
    decoder = built(dropout=0.5, input_feeding=True, layers=2)
    memory, state = encoded(decoder)
    first, again, other, none = (
        decoder(TARGET_IDS, memory, state, seed)[0].numpy() for seed in SEEDS
    )
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)
    assert np.any(first != none)


@pytest.mark.parametrize("encoder_units", [UNITS, 4])
@pytest.mark.parametrize("tied_output", [False, True])
@pytest.mark.parametrize("input_feeding", [False, True])
@pytest.mark.parametrize("attention", ATTENTIONS)
def test_every_trainable_weight_gets_a_finite_gradient(
    attention, input_feeding, tied_output, encoder_units
):
    decoder = built(
        encoder_units,
        attention=attention,
        input_feeding=input_feeding,
        tied_output=tied_output,
    )
    with tf.GradientTape() as tape:
        logits, _ = decoder(TARGET_IDS, *encoded(decoder, encoder_units))
        loss = tf.reduce_sum(tf.nn.log_softmax(logits)[:, :, 4])
    gradients = tape.gradient(loss, decoder.trainable_weights)
    without = [
        weight.path
        for weight, gradient in zip(decoder.trainable_weights, gradients, strict=True)
        if gradient is None or not np.all(np.isfinite(tf.convert_to_tensor(gradient)))
    ]
    assert without == []


def test_an_unknown_attention_is_an_error():
    with pytest.raises(
        ValueError, match="attention must be one of .*cosine.*'cosinus'"
    ):
        AttentiveLSTMDecoder(8, 5, UNITS, attention="cosinus")


@pytest.mark.parametrize(
    "attention",
    [
        CosineAttention(3.0, learned_scale=False, maximum_scale=3.5, name="other"),
        DotProductAttention(name="other"),
    ],
    ids=["cosine", "dot"],
)
def test_a_saved_model_gives_equal_outputs(attention, tmp_path):
    model = EncoderDecoder(
        LSTMEncoder(9, 5, 7, layers=3, bidirectional=False, dropout=0.3),
        AttentiveLSTMDecoder(
            8,
            4,
            UNITS,
            layers=2,
            attention=attention,
            input_feeding=True,
            tied_output=False,
            dropout=0.5,
            encoder_units=7,
            encoder_layers=3,
            name="writer",
        ),
        name="other_model",
    )
    model.build()
    if isinstance(attention, CosineAttention):
        attention.log_scale.assign(np.log(50.0))  # so that the maximum decides
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")

    source_ids = np.array([[4, 5, 6], [7, 8, 0]])
    for seed in (None, np.array([3, 4])):  # with a seed, a forgotten dropout would show
        arguments = source_ids, np.array([3, 2]), TARGET_IDS, seed
        assert_all_close(loaded(*arguments), model(*arguments), atol=0)
    assert len(loaded.trainable_weights) == len(model.trainable_weights)
    names = [part.name for part in (loaded, loaded.decoder, loaded.decoder.attention)]
    assert names == ["other_model", "writer", "other"]
