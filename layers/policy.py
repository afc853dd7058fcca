"""Dtypes and masks in the call of a Keras layer, the same for all layers here.

Under every dtype policy weights, states, norms, softmax and sums are float32. The
compute dtype of the policy is that of the outputs of a call, and of the factors of
products unless the layer is given another ``product_dtype``. (Embeddings are Keras' own
layers: under a mixed policy they are rounded to its compute dtype in any case.)
"""

from typing import Any

import keras
import tensorflow as tf

#: Options of ``add_weight`` for a weight that is float32 wherever it is read.
FLOAT32_WEIGHT: dict[str, Any] = {"dtype": "float32", "autocast": False}


# The dtypes that the factors of products may have.
_PRODUCT_DTYPES = ("float32", "bfloat16", "float16")


def checked_product_dtype(dtype: str | None) -> str | None:
    """Returns the ``product_dtype`` that the constructor of a layer was given.

    Raises:
        ValueError: It is not the name of a floating-point dtype, and not None.
    """
    if dtype is not None and dtype not in _PRODUCT_DTYPES:
        raise ValueError(
            f"product_dtype must be one of {', '.join(_PRODUCT_DTYPES)}, or None, "
            f"received {dtype!r}"
        )
    return dtype


def product_dtype_of(layer: keras.layers.Layer) -> str:
    """Returns the dtype of the factors of products in the call of a layer.

    It is the ``product_dtype`` of the layer, and without one the compute dtype of its
    policy.
    """
    return layer.product_dtype or layer.compute_dtype


def in_float32(nest: Any) -> Any:
    """Returns nested float tensors as float32."""
    return tf.nest.map_structure(lambda tensor: tf.cast(tensor, tf.float32), nest)


def in_compute_dtype(layer: keras.layers.Layer, nest: Any) -> Any:
    """Returns nested float tensors in the dtype that a call of a layer returns."""
    dtype = layer.compute_dtype
    return tf.nest.map_structure(lambda tensor: tf.cast(tensor, dtype), nest)


def checked_mask(mask: Any, name: str = "source_mask") -> tf.Tensor | None:
    """Returns a mask as a tensor; None, which means all positions are real, stays None.

    Args:
        mask: bool, True = real token, or None.
        name: The name of the argument, for the error.

    Raises:
        TypeError: The mask is not boolean. Numbers could mean anything: lengths, ids,
            1 for padding.
    """
    if mask is None:
        return None
    mask = tf.convert_to_tensor(mask)
    if mask.dtype != tf.bool:
        raise TypeError(
            f"{name} must be boolean, True = real token, received {mask.dtype.name}"
        )
    return mask


def mask_numbers(mask: Any, name: str = "source_mask") -> tf.Tensor:
    """Returns a mask as float32, 1 = real token, 0 = padding.

    Devices are faster with numbers than with conditions, so a mask is converted once.

    Args:
        mask: bool, or float: what this function has returned before.
        name: The name of the argument, for the error.

    Raises:
        TypeError: The mask is of another dtype.
    """
    mask = tf.convert_to_tensor(mask)
    if not mask.dtype.is_floating:
        mask = checked_mask(mask, name)
    return tf.cast(mask, tf.float32)
