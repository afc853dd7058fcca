"""Tests of pocketseq.layers.products."""

import numpy as np
import pytest
import tensorflow as tf

from pocketseq.layers.products import product

RANDOM = np.random.default_rng(1)
LEFT = RANDOM.normal(size=(5, 7)).astype(np.float32)
RIGHT = RANDOM.normal(size=(7, 3)).astype(np.float32)


def rounded(array):
    """To 8 significant bits, ties to even: what bfloat16 keeps of a float32."""
    bits = array.view(np.uint32).astype(np.uint64)
    bits += 0x7FFF + ((bits >> 16) & 1)
    return (bits.astype(np.uint32) & 0xFFFF0000).view(np.float32)


@pytest.mark.parametrize("transpose_left", [False, True])
@pytest.mark.parametrize("transpose_right", [False, True])
def test_a_product_is_that_of_numpy(transpose_left, transpose_right):
    found = product(
        LEFT.T if transpose_left else LEFT,
        RIGHT.T if transpose_right else RIGHT,
        transpose_left=transpose_left,
        transpose_right=transpose_right,
    )
    np.testing.assert_allclose(found, LEFT @ RIGHT, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("side", ["left", "right"])
def test_in_bfloat16_factors_are_rounded(side):
    # A product with the identity sums nothing up: it is exact on every processor.
    left, right = (LEFT, np.eye(7)) if side == "left" else (np.eye(7), RIGHT)
    found = product(left.astype(np.float32), right.astype(np.float32), "bfloat16")
    assert found.dtype == tf.float32
    np.testing.assert_array_equal(found, rounded(LEFT if side == "left" else RIGHT))


def test_in_bfloat16_a_product_is_that_of_the_rounded_factors():
    found = product(LEFT, RIGHT, "bfloat16").numpy()
    exact = rounded(LEFT) @ rounded(RIGHT)
    # Processors without bfloat16 round each of the 7 sums to 8 bits, others the last.
    bound = 7 * 2**-8 * (np.abs(LEFT) @ np.abs(RIGHT))
    assert (np.abs(found - exact) <= bound).all()
    assert (found != LEFT @ RIGHT).any()
