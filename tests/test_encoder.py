"""Tests of pocketseq.layers.encoder."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pocketseq.layers import LSTMEncoder

SOURCE_IDS = np.array([[4, 5, 6, 7], [7, 4, 0, 0], [5, 0, 0, 0], [0, 0, 0, 0]])
LENGTHS = np.array([4, 2, 1, 0])
MASK = np.arange(4) < LENGTHS[:, None]
SEEDS = (np.array([1, 2]), np.array([1, 2]), np.array([1, 3]), None)
BOTH_KINDS = pytest.mark.parametrize(
    "bidirectional", [False, True], ids=["unidirectional", "bidirectional"]
)


def built(bidirectional, vocabulary_size=9, **options):
    keras.utils.set_random_seed(1)
    encoder = LSTMEncoder(
        vocabulary_size, 5, 6, layers=2, bidirectional=bidirectional, **options
    )
    encoder.build((None, None))
    return encoder


def with_ngrams(bidirectional=True):
    """An encoder whose n-grams have random embeddings."""
    encoder = built(bidirectional, longest_ngram=3, ngram_rows=90, ngram_size=4)
    random = np.random.default_rng(1)
    for table in encoder.ngrams.tables:
        table.assign(random.normal(size=table.shape))
    return encoder


def keras_outputs(encoder, source_ids):
    """Outputs and states by Keras' own layers, with the encoder's weights."""
    outputs = encoder.embedding.embeddings.numpy()[source_ids]
    if encoder.ngrams is not None:
        width = encoder.ngram_size
        outputs[..., :width] += encoder.ngrams(source_ids).numpy()
    states = []
    for index, forward in enumerate(encoder.forward):
        layer = keras.layers.LSTM(
            forward.units, return_sequences=True, return_state=True
        )
        weights = forward.get_weights()
        if encoder.bidirectional:
            layer = keras.layers.Bidirectional(layer)
            weights = weights + encoder.backward[index].get_weights()
        layer.build(outputs.shape)
        layer.set_weights(weights)
        outputs, *state = layer(outputs)
        hidden, cell = state[0::2], state[1::2]
        states.append((np.concatenate(hidden, -1), np.concatenate(cell, -1)))
    return outputs, states


def assert_equal_nests(results, expected, atol):
    for result, value in zip(
        tf.nest.flatten(results), tf.nest.flatten(expected), strict=True
    ):
        np.testing.assert_allclose(result, value, atol=atol)


@pytest.mark.parametrize("wrap", [lambda f: f, tf.function], ids=["eager", "graph"])
@BOTH_KINDS
def test_each_text_is_encoded_as_keras_layers_encode_it_alone(bidirectional, wrap):
    encoder = built(bidirectional)
    outputs, states = wrap(encoder)(tf.constant(SOURCE_IDS), tf.constant(MASK))
    assert np.all(outputs.numpy()[~MASK] == 0.0)
    for text, length in enumerate(LENGTHS[:3]):
        expected = keras_outputs(encoder, SOURCE_IDS[text : text + 1, :length])
        row = slice(text, text + 1)
        result = outputs[row, :length], [[part[row] for part in s] for s in states]
        assert_equal_nests(result, expected, atol=1e-5)


@pytest.mark.parametrize("wrap", [lambda f: f, tf.function], ids=["eager", "graph"])
@BOTH_KINDS
def test_a_loop_equals_a_call(bidirectional, wrap):
    encoder = built(bidirectional)
    called = encoder(SOURCE_IDS, MASK)
    looped = wrap(encoder.loop)(tf.constant(SOURCE_IDS), tf.constant(MASK))
    assert_equal_nests(looped, called, atol=1e-6)


def test_a_large_vocabulary_is_encoded_the_same():
    encoder = built(bidirectional=True, vocabulary_size=600)
    source_ids = np.array([[599, 4, 300]])
    outputs = encoder(source_ids, np.full((1, 3), True))
    assert_equal_nests(outputs, keras_outputs(encoder, source_ids), atol=1e-5)


@BOTH_KINDS
def test_ngrams_are_added_to_the_embeddings_of_tokens(bidirectional):
    encoder = with_ngrams(bidirectional)
    without = built(bidirectional)
    outputs, states = encoder(tf.constant(SOURCE_IDS), tf.constant(MASK))
    assert np.abs(outputs - without(SOURCE_IDS, MASK)[0]).max() > 0.01
    for text, length in enumerate(LENGTHS[:3]):
        expected = keras_outputs(encoder, SOURCE_IDS[text : text + 1, :length])
        row = slice(text, text + 1)
        result = outputs[row, :length], [[part[row] for part in s] for s in states]
        assert_equal_nests(result, expected, atol=1e-5)
    looped = encoder.loop(tf.constant(SOURCE_IDS), tf.constant(MASK))
    assert_equal_nests(looped, (outputs, states), atol=1e-6)


@pytest.mark.parametrize("encoder", [built, with_ngrams])
def test_ids_in_padding_change_nothing(encoder):
    encoder = encoder(bidirectional=True)
    garbage = np.where(MASK, SOURCE_IDS, 8)
    assert_equal_nests(encoder(garbage, MASK), encoder(SOURCE_IDS, MASK), atol=1e-6)


def test_a_dropout_seed_decides_what_is_dropped():
    keras.utils.set_random_seed(1)
    encoder = LSTMEncoder(9, 5, 6, dropout=0.5)
    first, again, other, none = (
        encoder(SOURCE_IDS, MASK, seed)[0].numpy() for seed in SEEDS
    )
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)
    assert np.any(first != none)


def test_odd_units_for_two_directions_are_an_error():
    with pytest.raises(ValueError, match="units must be even .* received 7"):
        LSTMEncoder(9, 5, 7)
    assert LSTMEncoder(9, 5, 7, bidirectional=False).units == 7


def test_a_saved_encoder_gives_equal_outputs(tmp_path):
    encoder = LSTMEncoder(
        9, 5, 7, layers=2, bidirectional=False, dropout=0.5, name="other"
    )
    inputs = [
        keras.Input((None,), dtype="int32"),
        keras.Input((None,), dtype="bool"),
        keras.Input(batch_shape=(2,), dtype="int32"),
    ]
    model = keras.Model(inputs, encoder(*inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    arrays = [SOURCE_IDS, MASK, np.array([3, 4])]
    assert_equal_nests(loaded(arrays), model(arrays), atol=0)
    assert loaded.get_layer("other").get_config() == encoder.get_config()
