"""Dtypes and masks in the call of a Keras layer, the same for all layers here.

Under every dtype policy weights, states, norms, softmax and sums are float32. The
policy's compute dtype is that of the factors of products, and of what a call returns.
"""

import contextlib

import tensorflow as tf

from pocketseq.layers.products import products_in

#: Options of ``add_weight`` for a weight that is float32 wherever it is read.
FLOAT32_WEIGHT = {"dtype": "float32", "autocast": False}


def products_of(layer):
    """Returns a context in which products follow the policy of a layer.

    A float32 layer has no wish of its own: there :func:`products_in` decides.
    """
    if layer.compute_dtype == "float32":
        return contextlib.nullcontext()
    return products_in(layer.compute_dtype)


def in_float32(nest):
    """Returns nested float tensors as float32."""
    return tf.nest.map_structure(lambda tensor: tf.cast(tensor, tf.float32), nest)


def in_compute_dtype(layer, nest):
    """Returns nested float tensors in the dtype that a layer's call returns."""
    dtype = layer.compute_dtype
    return tf.nest.map_structure(lambda tensor: tf.cast(tensor, dtype), nest)


def checked_mask(mask, name="source_mask"):
    """Returns a caller's mask as a tensor; None, all positions are real, stays None.

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


def mask_numbers(mask, name="source_mask"):
    """Returns a mask as float32, 1 = real token, 0 = padding.

    A device works faster on numbers than on conditions, so a mask is made numbers once.

    Args:
        mask: bool, or what this function has returned before.
        name: How an error calls it.

    Raises:
        TypeError: The mask is of another dtype.
    """
    mask = tf.convert_to_tensor(mask)
    if not mask.dtype.is_floating:
        mask = checked_mask(mask, name)
    return tf.cast(mask, tf.float32)
