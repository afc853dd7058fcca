"""Tests of pocketseq.layers.dropout."""

import numpy as np
import pytest
import tensorflow as tf

from pocketseq.layers import variational_dropout

ONES = np.ones((4, 5, 50), "float32")
SEED = (3, 7)


def test_the_same_seed_and_place_give_the_same_mask():
    first = variational_dropout(ONES, 0.5, SEED, 1)
    second = tf.function(variational_dropout)(ONES, 0.5, tf.constant(SEED), 1)
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(("seed", "place"), [((4, 7), 1), ((3, 8), 1), (SEED, 2)])
def test_another_seed_update_or_place_gives_another_mask(seed, place):
    first = variational_dropout(ONES, 0.5, SEED, 1)
    assert np.any(first != variational_dropout(ONES, 0.5, seed, place))


def test_the_mask_is_constant_over_time_and_differs_between_texts():
    dropped = variational_dropout(ONES, 0.5, SEED, 1).numpy()
    np.testing.assert_array_equal(dropped, np.repeat(dropped[:, :1], 5, axis=1))
    assert np.any(dropped[0] != dropped[1])


def test_the_expectation_stays_the_same():
    inputs = np.full((100, 1, 1000), 3.0, "float32")
    dropped = variational_dropout(inputs, 0.25, SEED, 1).numpy()
    # 100,000 draws: the standard deviation of both means is below 0.006.
    np.testing.assert_allclose(dropped.mean(), 3.0, atol=0.03)
    np.testing.assert_allclose(np.mean(dropped == 0), 0.25, atol=0.01)
    np.testing.assert_allclose(np.unique(dropped), [0.0, 4.0], rtol=1e-6)


@pytest.mark.parametrize(("rate", "seed"), [(0.5, None), (0.0, SEED)])
def test_without_a_seed_or_a_rate_nothing_is_dropped(rate, seed):
    np.testing.assert_array_equal(variational_dropout(ONES, rate, seed, 1), ONES)
