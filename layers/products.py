"""Matrix products whose factors are rounded to a dtype of the caller's choice."""

import tensorflow as tf


def product(
    left: tf.Tensor,
    right: tf.Tensor,
    dtype: str = "float32",
    *,
    transpose_left: bool = False,
    transpose_right: bool = False,
) -> tf.Tensor:
    """Returns a matrix product, float32, of factors in ``dtype``.

    Everything around it stays float32: weights, states, norms, softmax and sums. That
    keeps the accuracy of mixed precision where it matters, and its speed where that is
    made.

    Args:
        left, right: float ``(rows, inner)`` and ``(inner, columns)``.
        dtype: The dtype of the factors: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
        transpose_left, transpose_right: Whether a factor is given transposed.

    References: Micikevicius et al. 2018, "Mixed precision training".
    """
    found = tf.matmul(
        tf.cast(left, dtype),
        tf.cast(right, dtype),
        transpose_a=transpose_left,
        transpose_b=transpose_right,
    )
    return tf.cast(found, tf.float32)
