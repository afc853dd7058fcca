"""Matrix products, which training may ask for in half precision."""

import contextlib
import threading

import tensorflow as tf

_asked = threading.local()


@contextlib.contextmanager
def products_in(dtype):
    """Inside the context, :func:`product` multiplies numbers of ``dtype``.

    Everything else stays float32: weights, states, norms, softmax and sums. That keeps
    the accuracy of mixed precision where it matters, and its speed where that is made.

    Args:
        dtype: ``"float32"`` or ``"bfloat16"``.

    References: Micikevicius et al. 2018, "Mixed precision training".
    """
    before = product_dtype()
    _asked.dtype = tf.as_dtype(dtype)
    try:
        yield
    finally:
        _asked.dtype = before


def product_dtype():
    """Returns the dtype that products are asked for in now, float32 if none is."""
    return getattr(_asked, "dtype", tf.float32)


def product(left, right, *, transpose_left=False, transpose_right=False):
    """Returns a matrix product, float32, from factors in :func:`product_dtype`.

    Args:
        left, right: float ``(rows, inner)`` and ``(inner, columns)``.
        transpose_left, transpose_right: Whether a factor is given transposed.
    """
    dtype = product_dtype()
    found = tf.matmul(
        tf.cast(left, dtype),
        tf.cast(right, dtype),
        transpose_a=transpose_left,
        transpose_b=transpose_right,
    )
    return tf.cast(found, tf.float32)
