"""Tests of pocketseq.pipeline.model: what a search of the whole model returns."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from pocketseq.layers import AttentiveLSTMDecoder, LSTMEncoder
from pocketseq.pipeline.model import EncoderDecoder
from pocketseq.pipeline.text.special import END, PAD, START

MAX_LENGTH = 5
RANDOM = np.random.default_rng(3)
SOURCE_LENGTH = np.array([6, 1, 3, 6, 2, 5, 4, 0], "int32")
SOURCE_IDS = np.where(
    np.arange(6) < SOURCE_LENGTH[:, None], RANDOM.integers(3, 9, size=(8, 6)), PAD
).astype("int32")


def test_a_decoder_for_another_encoder_is_an_error():
    model = EncoderDecoder(LSTMEncoder(9, 4, 6), AttentiveLSTMDecoder(8, 5, 4))
    text = r"the decoder expects .* = \(4, 1\), received an encoder of \(6, 1\)"
    with pytest.raises(ValueError, match=text):
        model.build()


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "input_feeding"])
def model(request):
    """A model with sharp random weights, so that its outputs differ and end."""
    keras.utils.set_random_seed(1)
    model = EncoderDecoder(
        LSTMEncoder(9, 4, 6),
        AttentiveLSTMDecoder(
            8, 5, 6, layers=2, encoder_layers=1, input_feeding=request.param
        ),
    )
    model.build()
    random = np.random.default_rng(1)
    for weight in model.trainable_weights:
        if weight.shape.rank:
            weight.assign(1.5 * random.normal(size=weight.shape))
    return model


@pytest.fixture(scope="module")
def found(model):
    """What a search of all texts returns, by beam size, mean scores."""
    return {beam_size: search(model, beam_size=beam_size) for beam_size in (1, 3)}


def search(model, source_ids=SOURCE_IDS, source_length=SOURCE_LENGTH, **options):
    return model.search(
        tf.constant(source_ids),
        tf.constant(source_length),
        max_length=MAX_LENGTH,
        **options,
    )


def teacher_forced(model, token_ids, beam_size=1):
    """Log-probabilities and attention weights of some tokens for each text.

    ``token_ids`` ``(batch * beam_size, length)``; logs ``(..., length, vocabulary)``.
    """
    logits, weights = model(
        np.repeat(SOURCE_IDS, beam_size, axis=0),
        np.repeat(SOURCE_LENGTH, beam_size, axis=0),
        np.insert(token_ids[:, :-1], 0, START, axis=1),
    )
    logits = logits.numpy().astype("float64")
    steps = logits - np.log(np.sum(np.exp(logits), axis=-1, keepdims=True))
    return steps, weights.numpy()


def test_outputs_differ_and_some_end(found):
    """What the other tests need in order to mean something."""
    outputs = {tuple(ids) for ids in found[1].token_ids.numpy()[:, 0].tolist()}
    assert len(outputs) >= 4
    assert len(set(found[1].length.numpy()[:, 0].tolist())) >= 3


@pytest.mark.parametrize("length_penalty", [0.0, 1.0])
@pytest.mark.parametrize("beam_size", [1, 3])
def test_the_score_of_an_output_is_the_score_that_search_reported(
    model, beam_size, length_penalty
):
    hypotheses = search(model, beam_size=beam_size, length_penalty=length_penalty)
    flat = [part.numpy().reshape(-1, *part.shape[2:]) for part in hypotheses]
    steps, weights = teacher_forced(model, flat[0], beam_size)
    for row in range(7 * beam_size):  # all but the empty text
        tokens, length, score, attention = (part[row] for part in flat)
        times = np.arange(length)
        expected = steps[row, times, tokens[:length]].sum() / length**length_penalty
        np.testing.assert_allclose(score, expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(attention[:length], weights[row, :length], atol=1e-4)


def test_greedy_search_writes_the_likeliest_tokens_of_teacher_forcing(model, found):
    tokens = np.zeros((8, 0), int)
    for _ in range(MAX_LENGTH):
        tokens = np.pad(tokens, ((0, 0), (0, 1)))
        steps, _ = teacher_forced(model, tokens)
        likeliest = END + np.argmax(steps[:, -1, END:], axis=-1)
        ended = np.any(tokens == END, axis=1) | (SOURCE_LENGTH == 0)
        tokens[:, -1] = np.where(ended, PAD, likeliest)
    np.testing.assert_array_equal(found[1].token_ids[:, 0], tokens)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_a_batch_of_8_equals_batches_of_1(model, found, beam_size):
    for text in (0, 1, 2, 7):
        row = slice(text, text + 1)
        alone = search(model, SOURCE_IDS[row], SOURCE_LENGTH[row], beam_size=beam_size)
        for part, whole in zip(alone, found[beam_size], strict=True):
            np.testing.assert_allclose(part[0], whole[text], atol=1e-4)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_padding_of_the_source_changes_nothing(model, found, beam_size):
    garbage = np.full((8, 3), 5, "int32")
    padded = search(model, np.hstack([SOURCE_IDS, garbage]), beam_size=beam_size)
    short = found[beam_size]
    np.testing.assert_array_equal(padded.token_ids, short.token_ids)
    np.testing.assert_array_equal(padded.length, short.length)
    np.testing.assert_allclose(padded.score, short.score, atol=1e-4)
    weights = padded.attention_weights
    np.testing.assert_allclose(weights[..., :6], short.attention_weights, atol=1e-4)
    assert np.all(weights.numpy()[..., 6:] == 0.0)


@pytest.mark.parametrize("beam_size", [1, 3])
def test_an_empty_source_gives_the_empty_sequence_with_score_0(found, beam_size):
    hypotheses = found[beam_size]
    assert hypotheses.length[7, 0] == 0
    assert hypotheses.score[7, 0] == 0.0
    assert np.all(hypotheses.token_ids.numpy()[7, 0] == PAD)


def test_a_graph_gives_what_eager_search_gives(model, found):
    @tf.function
    def graph(source_ids, source_length):
        return model.search(
            source_ids, source_length, beam_size=3, max_length=MAX_LENGTH
        )

    results = graph(tf.constant(SOURCE_IDS), tf.constant(SOURCE_LENGTH))
    for part, expected in zip(results, found[3], strict=True):
        np.testing.assert_allclose(part, expected, atol=1e-4)
