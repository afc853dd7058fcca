"""Tests of pocketseq.layers.ngrams."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf

from pocketseq.layers.ngrams import MODULUS, NGramEmbedding
from pocketseq.pipeline.configuration import ModelConfig
from pocketseq.pipeline.model import build_model

IDS = np.array([[3, 1, 4, 1, 5], [2, 6, 0, 0, 0]], np.int32)


def built(vocabulary_size=7, longest=3, rows=1000, bits=32):
    layer = NGramEmbedding(vocabulary_size, 4, longest=longest, rows=rows, bits=bits)
    layer.build()
    random = np.random.default_rng(0)
    for table in layer.tables:
        table.assign(random.normal(size=table.shape))
    return layer


def around(text, place, before, behind):
    """The tokens around a place, 0 beyond the ends."""
    padded = [0] * before + list(text) + [0] * behind
    return tuple(padded[place : place + before + 1 + behind])


@pytest.mark.parametrize("rows", [1000, 13], ids=["a row each", "shared rows"])
def test_a_token_gets_the_rows_of_what_stands_around_it(rows):
    layer = built(longest=4, rows=rows)
    sides = {2: (1, 0), 3: (1, 1), 4: (2, 1)}
    numbers = [number.numpy() for number in layer.numbers(IDS)]
    found = layer(IDS).numpy()
    of_ngram: list[dict[tuple[int, ...], int]] = [{}, {}, {}]
    for text, place in itertools.product(range(2), range(5)):
        total = np.zeros(4)
        for index, (before, behind) in enumerate(sides.values()):
            row = numbers[index][text, place]
            # Equal n-grams have equal rows, wherever they stand.
            ngram = around(IDS[text], place, before, behind)
            assert of_ngram[index].setdefault(ngram, row) == row
            total += layer.tables[index].numpy()[row]
        np.testing.assert_allclose(found[text, place], total, atol=1e-6)


def test_each_ngram_has_a_row_of_its_own_where_there_are_enough():
    layer = built(longest=3, rows=7**3)
    assert [table.shape[0] for table in layer.tables] == [7**2, 7**3]
    every = np.array(list(itertools.product(range(7), repeat=3)), np.int32)
    pairs, triples = (number.numpy()[:, 1] for number in layer.numbers(every))
    assert sorted(triples) == list(range(7**3))
    assert {(a, b): n for (a, b, _), n in zip(every.tolist(), pairs, strict=True)} == {
        (a, b): 7 * a + b for a in range(7) for b in range(7)
    }


def test_shared_rows_are_those_of_the_formula():
    layer = built(vocabulary_size=50_000, longest=3, rows=4096)
    random = np.random.default_rng(1)
    ids = random.integers(0, 50_000, (1, 200)).astype(np.int32)
    expected = []
    for place in range(200):
        number = 0  # a Python integer: it cannot overflow
        for token in around(ids[0].tolist(), place, 1, 1):
            number = (number * 31469 + token % MODULUS) % MODULUS
        expected.append(number % 4096)
    assert layer.numbers(ids)[1].numpy()[0].tolist() == expected


def test_ngrams_spread_over_the_rows():
    letters = np.array(list(itertools.product(range(3, 30), repeat=3)), np.int32)
    layer = built(vocabulary_size=31, longest=3, rows=4096)
    numbers = layer.numbers(letters)[1].numpy()[:, 1]
    counts = np.bincount(numbers, minlength=4096)
    # Thrown at random, 19,683 n-grams leave 33 of 4,096 rows empty.
    assert (counts == 0).sum() < 80
    assert counts.max() < 25


def test_time_may_be_the_first_axis():
    layer = built()
    for one, other in zip(layer.numbers(IDS), layer.numbers(IDS.T, 0), strict=True):
        np.testing.assert_array_equal(one, other.numpy().T)


def test_an_untrained_layer_changes_nothing():
    layer = NGramEmbedding(7, 4, longest=3, rows=50)
    assert not layer(IDS).numpy().any()


def test_int8_rows_are_off_by_half_a_scale_step_at_most():
    layer = built()
    numbers = layer.numbers(IDS)
    exact = layer.look_up(numbers).numpy()
    np.testing.assert_allclose(layer.constant()(numbers), exact, atol=1e-6)
    rough = layer.constant(8)(numbers).numpy()
    largest = [np.abs(table.numpy()).max(axis=1) for table in layer.tables]
    steps = sum(
        each[number.numpy()] / 127
        for each, number in zip(largest, numbers, strict=True)
    )
    assert 0 < np.abs(rough - exact).max()
    assert (np.abs(rough - exact) <= steps[..., None] / 2 * 1.001).all()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"longest": 1, "rows": 9}, "longest must be at least 2, received 1"),
        ({"longest": 2, "rows": 0}, "rows must be from 1 to 46337, received 0"),
        ({"longest": 2, "rows": 46338}, "rows must be from 1 to 46337, received 46338"),
        ({"longest": 2, "rows": 9, "bits": 5}, "bits must be 32, 8 or 4, received 5"),
    ],
)
def test_what_cannot_be_is_an_error(options, problem):
    with pytest.raises(ValueError, match=problem):
        NGramEmbedding(7, 4, **options)


def test_a_saved_layer_gives_equal_outputs(tmp_path):
    inputs = keras.Input((None,), dtype="int32")
    layer = built()
    model = keras.Model(inputs, layer(inputs))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(IDS), model(IDS))


def test_a_model_learns_every_row_that_it_reads():
    config = ModelConfig(
        embedding_size=4, units=6, dropout=0.0, longest_ngram=3, ngram_rows=60
    )
    model = build_model(config, 7, 9)
    ngrams = model.encoder.ngrams
    assert ngrams is not None
    with tf.GradientTape() as tape:
        logits, _ = model(IDS, np.array([5, 2]), np.array([[1, 4], [1, 5]]))
        loss = tf.reduce_sum(logits[..., 3])
    gradients = tape.gradient(loss, ngrams.tables)
    read = np.arange(5) < np.array([[5], [2]])
    for gradient, numbers in zip(gradients, ngrams.numbers(IDS), strict=True):
        touched = np.abs(tf.convert_to_tensor(gradient)).sum(axis=1) > 0
        assert set(np.flatnonzero(touched)) == set(numbers.numpy()[read])


@pytest.mark.parametrize("bits", [4, 8])
def test_rows_of_few_bits_are_multiples_of_a_step(bits):
    layer, plain = built(bits=bits), built()
    numbers = [number.numpy() for number in layer.numbers(IDS)]
    expected = np.zeros((2, 5, 4))
    for table, number in zip(plain.tables, numbers, strict=True):
        rows = table.numpy().astype(np.float64)[number]
        step = np.abs(rows).max(axis=-1, keepdims=True) / (2 ** (bits - 1) - 1)
        expected += np.rint(rows / step) * step
    np.testing.assert_allclose(layer(IDS), expected, atol=1e-6)
    assert np.abs(layer(IDS) - plain(IDS)).max() > 1e-3


@pytest.mark.parametrize("stored", [32, 8, 4])
def test_an_export_of_rows_of_4_bits_loses_nothing(stored):
    layer = built(bits=4, longest=5, rows=300)
    exported = layer.constant(stored)
    numbers = layer.numbers(IDS)
    np.testing.assert_allclose(exported(numbers), layer(IDS), rtol=1e-6, atol=1e-6)


def test_rounding_passes_the_gradient_on():
    layer, plain = built(bits=4), built()
    weights = np.random.default_rng(2).normal(size=(2, 5, 4))
    gradients = []
    for each in (layer, plain):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(each(IDS) * weights)
        found = tape.gradient(loss, each.tables)
        gradients.append([tf.convert_to_tensor(one) for one in found])
    for one, other in zip(*gradients, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_rows_of_zeros_stay_zeros_and_can_be_learned(compiled):
    layer = NGramEmbedding(7, 4, longest=3, rows=50, bits=4)
    layer.build()

    @tf.function(jit_compile=compiled)
    def gradients():
        with tf.GradientTape() as tape:
            found = layer(IDS)
            loss = tf.reduce_sum(found)
        return found, [
            tf.convert_to_tensor(g) for g in tape.gradient(loss, layer.tables)
        ]

    found, slopes = gradients()
    assert not found.numpy().any()
    for slope in slopes:
        assert slope.numpy().sum() == 2 * 5 * 4  # 1 for each component that was read
