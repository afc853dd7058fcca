"""What is in an exported file, and what may be."""

import io
import json
import zipfile

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from pocketseq.export.flatbuffer import (
    ALLOWED_OPERATORS,
    attach_files,
    finished,
    forbidden_operators,
    operators,
    vocabulary_text,
)
from pocketseq.export.tflite import convert


def small_model():
    @tf.function(input_signature=[tf.TensorSpec([1, 3], tf.int32, name="text")])
    def function(text):
        return {
            "text": text + 1,
            "score": tf.constant([0.5]),
            "alignment": tf.cast(text, tf.float32)[..., None] * 2.0,
        }

    return convert({"translate": function})


def model_with_a_flex_operator():
    @tf.function(input_signature=[tf.TensorSpec([4, 4], tf.float32)])
    def function(x):
        return tf.linalg.inv(x)

    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()]
    )
    converter.target_spec.supported_ops = [
        tf.lite.OpsSet.TFLITE_BUILTINS,
        tf.lite.OpsSet.SELECT_TF_OPS,
    ]
    return converter.convert()


def test_outputs_come_in_the_promised_order_by_position_and_by_name():
    model = finished(small_model(), ["text", "score", "alignment"])
    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    shapes = [list(output["shape"]) for output in interpreter.get_output_details()]
    assert shapes == [[1, 3], [1], [1, 3, 1]]
    row = np.array([[1, 2, 3]], np.int32)
    found = interpreter.get_signature_runner("translate")(text=row)
    np.testing.assert_array_equal(found["text"], row + 1)
    np.testing.assert_array_equal(found["alignment"][..., 0], 2 * row)


def test_operators_are_the_ones_that_the_interpreter_runs():
    model = small_model()
    interpreter = Interpreter(
        model_content=model, experimental_default_delegate_latest_features=False
    )
    interpreter.allocate_tensors()
    run = {op["op_name"] for op in interpreter._get_ops_details()} - {"DELEGATE"}
    assert run <= set(operators(model))
    assert not forbidden_operators(model)


def test_a_flex_operator_is_forbidden():
    found = forbidden_operators(model_with_a_flex_operator())
    assert found and all(name.startswith("CUSTOM:Flex") for name in found)


def test_no_operator_that_keeps_state_is_allowed():
    stateful = {"VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE"}
    lstm = {"UNIDIRECTIONAL_SEQUENCE_LSTM", "LSTM"}
    assert not ALLOWED_OPERATORS & (stateful | lstm)


def test_attached_files_are_a_zip_at_the_end_and_the_model_still_runs():
    model = small_model()
    with_files = attach_files(model, {"manifest.json": '{"format": 1}'})
    assert with_files.startswith(model)
    with zipfile.ZipFile(io.BytesIO(with_files)) as archive:
        assert json.loads(archive.read("manifest.json")) == {"format": 1}
    run = Interpreter(model_content=with_files).get_signature_runner("translate")
    found = run(text=np.array([[1, 2, 3]], np.int32))
    assert found["text"].tolist() == [[2, 3, 4]]


def test_a_vocabulary_has_one_piece_a_line_whatever_is_in_the_pieces():
    pieces = ["a", "\n", "\\", "é", '"', " "]
    lines = vocabulary_text(pieces).splitlines()
    assert [json.loads(f'"{line}"') for line in lines] == pieces
