"""Conversion: from a TensorFlow function to the bytes of a ``.tflite`` file."""

import tempfile

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import (
    convert_variables_to_constants_v2,
)


def convert(functions):
    """Converts functions to one float32 model with builtin operations only.

    Variables inside a loop convert without complaint and fail when they run, so the
    weights are made constants first.

    Args:
        functions: ``{signature name: tf.function with an input signature}``.

    Returns:
        The bytes of the model.
    """
    module = tf.Module()
    signatures = {}
    for name, function in functions.items():
        frozen = convert_variables_to_constants_v2(
            function.get_concrete_function(), lower_control_flow=False
        )
        signatures[name] = _named(frozen, function)
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=list(signatures)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        return converter.convert()


def _named(frozen, function):
    """Gives a frozen function the input and output names of the original back."""
    outputs = function.get_concrete_function().structured_outputs

    def call(text):
        return tf.nest.pack_sequence_as(outputs, frozen(text))

    return tf.function(call, input_signature=function.input_signature, autograph=False)
