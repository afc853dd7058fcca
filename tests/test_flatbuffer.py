"""What is in an exported file, and what may be."""

import io
import json
import zipfile
from functools import cache

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils

from pocketseq.export.contract import (
    ALIGNMENT,
    MANIFEST,
    OUTPUTS,
    SCORE,
    TEXT,
    TRANSLATE,
    TRANSLATE_BEAM,
)
from pocketseq.export.tflite.conversion import convert
from pocketseq.export.tflite.flatbuffer import (
    ALLOWED_OPERATORS,
    attach_files,
    finished,
    forbidden_operators,
    minimum_runtime,
    operators,
    packed,
    vocabulary_text,
)

WEIGHTS = np.random.default_rng(0).normal(size=(3, 40)).astype(np.float32)


@cache
def small_model():
    @tf.function(input_signature=[tf.TensorSpec([1, 3], tf.int32, name=TEXT)])
    def function(text):
        return {
            TEXT: text + 1,
            SCORE: tf.constant([0.5]),
            ALIGNMENT: tf.cast(text, tf.float32)[..., None] * 2.0,
        }

    return convert({TRANSLATE: function})


@cache
def model_with_weights():
    """Two signatures with the same weights, in a product that a loop repeats."""

    def function(rounds):
        @tf.function(input_signature=[tf.TensorSpec([1, 3], tf.int32, name=TEXT)])
        def call(text):
            rows, _ = tf.while_loop(
                lambda _, count: count < rounds,
                lambda rows, count: (
                    tf.matmul(rows, tf.constant(WEIGHTS)) @ tf.constant(WEIGHTS.T),
                    count + 1,
                ),
                [tf.cast(text, tf.float32), tf.constant(0)],
            )
            total = tf.reduce_sum(rows, axis=1)
            return {TEXT: text, SCORE: total, ALIGNMENT: rows[..., None]}

        return call

    return convert({TRANSLATE: function(1), TRANSLATE_BEAM: function(2)})


def unpacked(model):
    return flatbuffer_utils.read_model_from_bytearray(bytearray(model))


def product_code(model):
    """Returns the operator code of the matrix product in an unpacked model."""
    number = schema.BuiltinOperator.FULLY_CONNECTED
    (code,) = (code for code in model.operatorCodes if code.builtinCode == number)
    return code


def product_weights(model):
    """Returns the weight tensors of the matrix products in an unpacked model."""
    code = model.operatorCodes.index(product_code(model))
    return [
        graph.tensors[op.inputs[1]]
        for graph in model.subgraphs
        for op in graph.operators or []
        if op.opcodeIndex == code
    ]


def with_weights(kind, scales):
    """Returns the model with weights of a type, and so many scales for each matrix."""
    model = unpacked(model_with_weights())
    for tensor in product_weights(model):
        tensor.type = kind
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale = np.full(scales, 0.5, np.float32)
    return packed(model)


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


@pytest.mark.parametrize("order", [OUTPUTS, (SCORE, ALIGNMENT, TEXT)])
def test_outputs_come_in_the_promised_order_by_position_and_by_name(order):
    model = finished(small_model(), order)
    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    shapes = {TEXT: [1, 3], SCORE: [1], ALIGNMENT: [1, 3, 1]}
    found = [list(output["shape"]) for output in interpreter.get_output_details()]
    assert found == [shapes[name] for name in order]
    (signature,) = unpacked(model).signatureDefs
    assert tuple(output.name.decode() for output in signature.outputs) == order
    found = run(model)
    np.testing.assert_array_equal(found[TEXT], [[2, 3, 4]])
    np.testing.assert_array_equal(found[ALIGNMENT], [[[2], [4], [6]]])
    np.testing.assert_array_equal(found[SCORE], [0.5])


def run(model, name=TRANSLATE):
    runner = Interpreter(model_content=model).get_signature_runner(name)
    return runner(text=np.array([[1, 2, 3]], np.int32))


@pytest.mark.parametrize("name", [TRANSLATE, TRANSLATE_BEAM])
def test_a_finished_model_answers_as_before(name):
    expected, found = (
        run(model, name)
        for model in (model_with_weights(), finished(model_with_weights(), OUTPUTS))
    )
    for output in OUTPUTS:
        np.testing.assert_array_equal(found[output], expected[output])
    rows: np.ndarray = np.array([[1, 2, 3]], np.float32)
    for _ in range(1 + (name == TRANSLATE_BEAM)):
        rows = rows @ WEIGHTS @ WEIGHTS.T
    np.testing.assert_allclose(found[ALIGNMENT][..., 0], rows, rtol=1e-4)


def test_finishing_twice_changes_nothing():
    once = finished(model_with_weights(), OUTPUTS)
    assert finished(once, OUTPUTS) == once


def vectors(model):
    """Returns (where it starts, its bytes) of the data of each buffer that has some."""
    root = schema.Model.GetRootAs(model)
    found = []
    for index in range(root.BuffersLength()):
        table = root.Buffers(index)._tab
        field = table.Offset(4)  # Buffer.data is its first field
        if field:
            data = root.Buffers(index).DataAsNumpy().tobytes()
            found.append((table.Vector(field), data))
    return found


def test_data_begins_where_processors_read_it_fastest():
    found = vectors(finished(model_with_weights(), OUTPUTS))
    assert len(found) > 4
    for start, _ in found:
        assert start % 16 == 0


def test_equal_weights_of_several_signatures_are_stored_once():
    # As a quantizer leaves them: a buffer for each operation.
    apart = unpacked(model_with_weights())
    for tensor in product_weights(apart):
        data = apart.buffers[tensor.buffer].data.copy()
        tensor.buffer = len(apart.buffers)
        apart.buffers.append(schema.BufferT(data))
    before = bytes(flatbuffer_utils.convert_object_to_bytearray(apart))
    assert before.count(WEIGHTS.tobytes()) > 1
    model = finished(before, OUTPUTS)
    assert model.count(WEIGHTS.tobytes()) == 1
    starts: dict[bytes, set[int]] = {}
    for start, data in vectors(model):
        starts.setdefault(data, set()).add(start)
    assert all(len(places) == 1 for places in starts.values())
    for name in (TRANSLATE, TRANSLATE_BEAM):
        expected = run(model_with_weights(), name)[SCORE]
        np.testing.assert_array_equal(run(model, name)[SCORE], expected)


def test_names_and_parameters_that_say_nothing_are_dropped():
    model = unpacked(finished(model_with_weights(), OUTPUTS))
    for graph in model.subgraphs:
        outside = {*graph.inputs, *graph.outputs}
        for index, tensor in enumerate(graph.tensors):
            assert bool(tensor.name) == (index in outside)
            assert tensor.quantization is None


@pytest.mark.parametrize(
    ("kind", "scales", "newer"),
    [("INT8", 3, True), ("INT8", 1, False), ("FLOAT32", 0, False)],
)
def test_only_int8_weights_with_a_scale_a_row_ask_for_a_newer_runtime(
    kind, scales, newer
):
    before = with_weights(getattr(schema.TensorType, kind), scales)
    after = finished(before, OUTPUTS)
    version = product_code(unpacked(before)).version
    assert product_code(unpacked(after)).version == (12 if newer else version)
    assert (minimum_runtime(after) == "2.17.0") == newer


def test_int4_asks_for_a_runtime_that_computes_it_rightly():
    stated = minimum_runtime(model_with_weights())
    assert [int(number) for number in stated.split(".")] < [2, 14, 0]
    model = with_weights(schema.TensorType.INT4, 1)
    assert minimum_runtime(finished(model, OUTPUTS)) == "2.14.0"


def test_versions_are_compared_as_numbers():
    model = unpacked(with_weights(schema.TensorType.INT4, 1))
    (entry,) = (e for e in model.metadata if e.name == b"min_runtime_version")
    for stated, expected in (("2.9.0", "2.14.0"), ("2.18.1", "2.18.1")):
        data = np.frombuffer(stated.encode().ljust(16, b"\0"), np.uint8)
        model.buffers[entry.buffer].data = data
        assert minimum_runtime(packed(model)) == expected


def test_the_int4_weight_that_some_runtimes_compute_wrongly_is_replaced():
    model = unpacked(with_weights(schema.TensorType.INT4, 1))
    every_pair = np.arange(256, dtype=np.uint8)
    for tensor in product_weights(model):
        model.buffers[tensor.buffer].data = every_pair
    after = unpacked(finished(packed(model), OUTPUTS))
    for tensor in product_weights(after):
        pairs = np.array(after.buffers[tensor.buffer].data, np.uint8)
        for nibbles, expected in (
            (pairs & 15, every_pair & 15),
            (pairs >> 4, every_pair >> 4),
        ):
            # -8 is 1000 in binary, and -7 is 1001.
            np.testing.assert_array_equal(nibbles, np.where(expected == 8, 9, expected))


def test_other_weights_with_the_same_bytes_are_left_alone():
    model = unpacked(with_weights(schema.TensorType.INT8, 1))
    data = np.full(120, 0x88, np.uint8)
    for tensor in product_weights(model):
        model.buffers[tensor.buffer].data = data
    after = unpacked(finished(packed(model), OUTPUTS))
    for tensor in product_weights(after):
        np.testing.assert_array_equal(after.buffers[tensor.buffer].data, data)


def test_operators_are_the_ones_that_the_interpreter_runs():
    model = small_model()
    interpreter = Interpreter(
        model_content=model, experimental_default_delegate_latest_features=False
    )
    interpreter.allocate_tensors()
    ran = {op["op_name"] for op in interpreter._get_ops_details()} - {"DELEGATE"}
    assert ran <= set(operators(model))
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
    with_files = attach_files(model, {MANIFEST: '{"format": 1}'})
    assert with_files.startswith(model)
    with zipfile.ZipFile(io.BytesIO(with_files)) as archive:
        assert json.loads(archive.read(MANIFEST)) == {"format": 1}
    assert run(with_files)[TEXT].tolist() == [[2, 3, 4]]


def test_a_vocabulary_has_one_piece_a_line_whatever_is_in_the_pieces():
    pieces = ["a", "\n", "\\", "é", '"', " "]
    lines = vocabulary_text(pieces).splitlines()
    assert [json.loads(f'"{line}"') for line in lines] == pieces
