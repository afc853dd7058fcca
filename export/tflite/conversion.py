"""Conversion: from a TensorFlow function to the bytes of a ``.tflite`` file."""

import tempfile
from collections.abc import Mapping
from typing import Any

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import (
    convert_variables_to_constants_v2,
)

from pocketseq.pipeline.machine import release_memory


def convert(
    functions: Mapping[str, tf.types.experimental.PolymorphicFunction],
) -> bytes:
    """Converts functions to one float32 model with builtin operations only.

    Variables inside a loop convert without complaint and fail when they run, so the
    weights are made constants first.

    Args:
        functions: ``{signature name: tf.function with an input signature}``. Not kept,
            so that the caller's last reference frees their memory.

    Returns:
        The bytes of the model.
    """
    names = list(functions)
    with tempfile.TemporaryDirectory() as folder:
        _save_frozen(functions, folder)
        # The converter takes as much memory again as the graphs did, and needs none.
        del functions
        release_memory()
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=names
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        model = converter.convert()
    release_memory()
    return model


def _save_frozen(
    functions: Mapping[str, tf.types.experimental.PolymorphicFunction], folder: str
) -> None:
    """Writes a SavedModel of functions whose weights are constants."""
    signatures = {}
    for name, function in functions.items():
        frozen = convert_variables_to_constants_v2(
            function.get_concrete_function(), lower_control_flow=False
        )
        signatures[name] = _named(frozen, function)
    tf.saved_model.save(tf.Module(), folder, signatures=signatures)


def _named(frozen: Any, function: tf.types.experimental.PolymorphicFunction) -> Any:
    """Gives a frozen function the input and output names of the original."""
    outputs = function.get_concrete_function().structured_outputs

    def call(text: tf.Tensor) -> Any:
        return tf.nest.pack_sequence_as(outputs, frozen(text))

    return tf.function(call, input_signature=function.input_signature, autograph=False)
