"""Tests of pocketseq.pipeline.training.optimization."""

import math

import numpy as np
import pytest
import tensorflow as tf

from pocketseq.pipeline.configuration import TrainingConfig
from pocketseq.pipeline.training.optimization import learning_rate, smoothed_loss


def test_the_loss_is_smoothed_cross_entropy_summed_over_real_tokens():
    generator = np.random.default_rng(3)
    logits = generator.normal(size=(3, 4, 5)).astype(np.float32)
    target_ids = generator.integers(0, 5, (3, 4)).astype(np.int32)
    lengths = np.array([4, 1, 0], np.int32)
    expected = 0.0
    for row, length in enumerate(lengths):
        for place in range(length):
            scores = logits[row, place].astype(np.float64)
            log_p = scores - np.log(np.exp(scores).sum())
            wanted = np.full(5, 0.1 / 5)
            wanted[target_ids[row, place]] += 0.9
            expected -= (wanted * log_p).sum()
    found = smoothed_loss(logits, target_ids, lengths, 0.1)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_the_loss_without_smoothing_is_minus_the_log_probability():
    logits = np.log([[[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]]).astype(np.float32)
    found = smoothed_loss(logits, np.array([[1, 2]]), np.array([2]), 0.0)
    assert float(found) == pytest.approx(-math.log(0.25 * 0.8), rel=1e-5)


def test_the_learning_rate_rises_linearly_then_falls_along_a_cosine():
    settings = TrainingConfig(
        learning_rate=0.01,
        warmup_updates=10,
        updates=110,
        final_learning_rate_share=0.1,
    )
    rate = learning_rate(settings)
    # A quarter of the way down a cosine: (1 + cos 45 degrees) / 2 of the range.
    quarter = 0.001 + 0.009 * (1 + math.sqrt(0.5)) / 2
    expected = {
        0: 0,
        5: 0.005,
        10: 0.01,
        35: quarter,
        60: 0.0055,
        110: 0.001,
        200: 0.001,
    }
    for update, value in expected.items():
        assert float(rate(update)) == pytest.approx(value, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(("updates", "expected"), [(1, 0.01), (2, 0.0)])
def test_a_training_shorter_than_the_warm_up_still_has_a_learning_rate(
    updates, expected
):
    rate = learning_rate(TrainingConfig(learning_rate=0.01, updates=updates))
    assert float(rate(0)) == pytest.approx(expected)
    assert float(rate(updates - 1)) == pytest.approx(0.01)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_gradient_of_the_loss_is_that_of_automatic_differentiation(smoothing):
    generator = np.random.default_rng(4)
    logits = tf.constant(generator.normal(size=(3, 4, 7)), tf.float32)
    target_ids = generator.integers(0, 7, (3, 4)).astype(np.int32)
    lengths = np.array([4, 1, 0], np.int32)
    targets = tf.one_hot(target_ids, 7) * (1 - smoothing) + smoothing / 7
    mask = tf.sequence_mask(lengths, 4, tf.float32)

    def gradient(loss):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            found = 3 * loss()
        return tape.gradient(found, logits)

    found = gradient(lambda: smoothed_loss(logits, target_ids, lengths, smoothing))
    expected = gradient(
        lambda: tf.reduce_sum(
            tf.nn.softmax_cross_entropy_with_logits(targets, logits) * mask
        )
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)
