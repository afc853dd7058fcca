"""The way of a token into an LSTM, for training and for devices."""

import numpy as np
import pytest
import tensorflow as tf

from pocketseq.layers.embedding import (
    Rows,
    TokenTable,
    project_tokens,
    token_embedding,
)
from pocketseq.layers.lstm import LSTM
from pocketseq.pipeline.configuration import ModelConfig
from pocketseq.pipeline.model import build_model

UNITS = 3
SIZE = 8


def layers(tokens, *, kernel_width=SIZE):
    """An embedding and an LSTM with random weights, biases included."""
    embedding, lstm = token_embedding(tokens, SIZE), LSTM(UNITS)
    embedding.build((None, None))
    lstm.build((None, None, kernel_width))
    random = np.random.default_rng(tokens)
    for weight in [*embedding.weights, *lstm.weights]:
        weight.assign(random.normal(size=weight.shape))
    return embedding, lstm


def projected(embedding, lstm, ids):
    """``E[ids] W + b``, from the layers' own weights."""
    rows = embedding.embeddings.numpy()[np.asarray(ids)]
    kernel, _, bias = (weight.numpy() for weight in lstm.weights)
    return rows @ kernel[: rows.shape[-1]] + bias


# As many tokens as components: folded. One more: not.
EVERY_SIZE = pytest.mark.parametrize("tokens", [SIZE - 3, SIZE, SIZE + 1, 600])
EVERY_WIDTH = pytest.mark.parametrize("kernel_width", [SIZE, SIZE + UNITS])


@EVERY_SIZE
@EVERY_WIDTH
def test_tokens_are_projected_as_their_embeddings_are(tokens, kernel_width):
    embedding, lstm = layers(tokens, kernel_width=kernel_width)
    ids = np.random.default_rng(1).integers(0, tokens, (2, 5))
    found = project_tokens(embedding, lstm, tf.constant(ids))
    np.testing.assert_allclose(found, projected(embedding, lstm, ids), atol=1e-5)


@EVERY_SIZE
@EVERY_WIDTH
def test_a_table_gives_what_the_layers_give(tokens, kernel_width):
    embedding, lstm = layers(tokens, kernel_width=kernel_width)
    table = TokenTable(embedding, lstm)
    for ids in (np.arange(tokens), np.array([[tokens - 1, 0], [1, 1]])):
        found = table.project(tf.constant(ids))
        assert found.shape == (*ids.shape, 4 * UNITS)
        expected = lstm.project(embedding(ids))
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(found, projected(embedding, lstm, ids), atol=1e-5)


@EVERY_SIZE
def test_a_table_is_folded_where_that_makes_it_no_longer(tokens):
    table = TokenTable(*layers(tokens))
    assert table.projected == (tokens <= SIZE)
    assert table.rows.values.shape == (tokens, 4 * UNITS if tokens <= SIZE else SIZE)


@EVERY_SIZE
def test_int8_rows_are_off_by_half_a_scale_step_at_most(tokens):
    embedding, lstm = layers(tokens)
    table = TokenTable(embedding, lstm, 8)
    assert table.rows.values.dtype == np.int8
    scales = table.rows.scales
    assert scales is not None and scales.shape == (tokens, 1)
    ids = np.arange(tokens)
    if table.projected:
        exact = projected(embedding, lstm, ids)
        bound = np.abs(exact).max(axis=1, keepdims=True) / 127 / 2
    else:
        exact = embedding.embeddings.numpy()
        step = np.abs(exact).max(axis=1, keepdims=True) / 127
        # Half a step in each component, carried through the product.
        kernel = np.abs(lstm.kernel.numpy()).sum(axis=0)
        bound = step / 2 * kernel
        exact = projected(embedding, lstm, ids)
    found = table.project(tf.constant(ids)).numpy()
    assert (np.abs(found - exact) <= bound * 1.001 + 1e-6).all()
    assert np.abs(found - exact).max() > 0
    # All of int8 is used: the largest component of each row is 127 steps.
    np.testing.assert_array_equal(np.abs(table.rows.values).max(axis=1), 127)


def test_the_scale_of_4_bits_clips_where_that_loses_less():
    even = np.linspace(-7, 7, 15)
    outlier = np.array([14.0, *np.tile([1.0, -1.0], 7)])
    rows = Rows(tf.constant([even, outlier], tf.float32), bits=4)
    assert rows.scales is not None
    np.testing.assert_allclose(rows.scales[0], 1)  # nothing is lost
    found = rows.take(tf.constant([0, 1])).numpy()
    np.testing.assert_allclose(found[0], even, atol=1e-6)
    # Brute force over the spans that are allowed.
    errors = []
    for span in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5):
        step = span * 14 / 7
        nearest = np.clip(np.round(outlier / step), -7, 7) * step
        errors.append(np.square(nearest - outlier).sum())
    loss = np.square(found[1] - outlier).sum()
    assert loss == pytest.approx(min(errors), abs=1e-5)
    assert loss < errors[0]


def test_only_rows_of_many_tokens_are_packed_in_4_bits():
    embedding, lstm = layers(SIZE)
    four, eight = (TokenTable(embedding, lstm, bits).rows for bits in (4, 8))
    assert not four.packed
    np.testing.assert_array_equal(four.values, eight.values)
    embedding, lstm = layers(SIZE + 1)
    assert TokenTable(embedding, lstm, 4).rows.packed


def test_a_row_of_zeros_stays_one():
    embedding, lstm = layers(SIZE + 1)
    values = embedding.embeddings.numpy()
    values[2] = 0
    embedding.embeddings.assign(values)
    table = TokenTable(embedding, lstm, 8)
    found = table.project(tf.constant([2])).numpy()
    np.testing.assert_allclose(found[0], lstm.bias.numpy(), atol=1e-6)


def test_the_table_of_a_copy_leaves_the_layers_alone():
    embedding, lstm = layers(SIZE)
    before = [weight.numpy() for weight in [*embedding.weights, *lstm.weights]]
    TokenTable(embedding, lstm, 8)
    after = [weight.numpy() for weight in [*embedding.weights, *lstm.weights]]
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("feeding", [False, True])
def test_a_model_with_tables_finds_the_same(bidirectional, feeding):
    config = ModelConfig(
        embedding_size=SIZE, units=4, bidirectional=bidirectional,
        input_feeding=feeding, dropout=0.0,
    )  # fmt: skip
    model = build_model(config, SIZE - 1, SIZE + 5)  # one side folded, one not
    random = np.random.default_rng(2)
    for weight in model.trainable_weights:
        if weight.shape.rank:
            weight.assign(random.normal(size=weight.shape))
    source = tf.constant(random.integers(3, SIZE - 1, (4, 6)), tf.int32)
    lengths = tf.constant([6, 3, 1, 0])

    def search(token_inputs=None):
        return model.search(
            source, lengths, beam_size=2, max_length=5, token_inputs=token_inputs
        )

    expected = search()
    found = search(model.token_tables())
    np.testing.assert_array_equal(found.token_ids, expected.token_ids)
    np.testing.assert_allclose(found.score, expected.score, atol=1e-5)
    rough = search(model.token_tables(source=8, target=8))
    # Scores of hypotheses that do not exist are the same number.
    assert np.abs(rough.score - expected.score).max() > 0
    np.testing.assert_allclose(rough.score[:, 0], expected.score[:, 0], atol=0.2)
    # The model is as it was: tables are values.
    for one, other in zip(search(), expected, strict=True):
        np.testing.assert_array_equal(one, other)
