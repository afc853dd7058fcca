"""What each recipe does to the weights, read in the FlatBuffer."""

import logging

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils
from random_models import random_translator

from pocketseq.export.contract import (
    OUTPUTS,
    SCORE,
    TRANSLATE,
)
from pocketseq.export.graph.translate import translate_function
from pocketseq.export.recipes import RECIPES
from pocketseq.export.tflite import quantization
from pocketseq.export.tflite.conversion import convert
from pocketseq.export.tflite.flatbuffer import (
    finished,
    forbidden_operators,
    minimum_runtime,
)
from pocketseq.export.tflite.quantization import quantize_weights
from pocketseq.layers.embedding import Rows

TYPES = schema.TensorType
FULLY_CONNECTED = schema.BuiltinOperator.FULLY_CONNECTED


class Matrix:
    """The weights of one matrix product as they are stored."""

    def __init__(self, model, tensor):
        self.type = tensor.type
        self.shape = tuple(tensor.shape)
        quantization = tensor.quantization
        scales = None if quantization is None else quantization.scale
        self.scales = np.zeros(0) if scales is None else np.array(scales)
        zeros = [] if quantization is None else quantization.zeroPoint
        self.zero_points = np.array([] if zeros is None else zeros)
        self.numbers = stored(model, tensor).reshape(self.shape)

    @property
    def values(self):
        """What a runtime computes with, float32."""
        if not len(self.scales):
            return self.numbers.astype(np.float32)
        column = np.broadcast_to(self.scales, self.shape[:1])[:, None]
        return (self.numbers * column).astype(np.float32)


def stored(model, tensor):
    """Returns the numbers in a constant; int4 has two in a byte, the low one first."""
    data = np.array(model.buffers[tensor.buffer].data, np.uint8)
    if tensor.type == TYPES.INT4:
        both = np.stack([data & 15, data >> 4], axis=1).reshape(-1).astype(np.int8)
        return np.where(both > 7, both - 16, both)[: np.prod(tensor.shape)]
    kinds = {TYPES.FLOAT32: "<f4", TYPES.FLOAT16: "<f2", TYPES.INT8: "i1"}
    return data.view(kinds[tensor.type])


def matrices(model_bytes):
    """Returns the weights of all matrix products, in the order of the graph."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(model_bytes))
    found = []
    for graph in model.subgraphs:
        # float16 weights stand before a DEQUANTIZE.
        made_from = {
            op.outputs[0]: graph.tensors[op.inputs[0]]
            for op in graph.operators or []
            if code_of(model, op) == schema.BuiltinOperator.DEQUANTIZE
        }
        for op in graph.operators or []:
            if code_of(model, op) == FULLY_CONNECTED:
                index = op.inputs[1]
                found.append(Matrix(model, made_from.get(index, graph.tensors[index])))
    return found


def code_of(model, operator):
    code = model.operatorCodes[operator.opcodeIndex]
    return max(code.builtinCode, code.deprecatedBuiltinCode)


def versions(model_bytes):
    """Returns the versions of the matrix product that a model asks for."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(model_bytes))
    return [
        code.version
        for code in model.operatorCodes
        if max(code.builtinCode, code.deprecatedBuiltinCode) == FULLY_CONNECTED
    ]


@pytest.fixture(scope="module")
def translator():
    """More target tokens than components: the table holds the output's rows, too."""
    return random_translator("character", "wordpiece", lengths=(8, 8), end=1)


@pytest.fixture(scope="module")
def tables(translator):
    return translator.model.token_tables(source=8, target=8)


@pytest.fixture(scope="module")
def float32(translator, tables):
    return convert({TRANSLATE: translate_function(translator, token_inputs=tables)})


@pytest.fixture(scope="module")
def quantized(float32):
    """``{(recipe, compatible): the finished model}``."""
    kinds = [("float16", False), ("int8", False), ("int4", False), ("int8", True),
             ("int4", True)]  # fmt: skip
    return {
        (name, compatible): finished(
            quantize_weights(float32, RECIPES[name], compatible=compatible), OUTPUTS
        )
        for name, compatible in kinds
    }


def is_last(matrix, translator):
    """Whether a float32 matrix belongs to the last two products."""
    decoder = translator.model.decoder
    last = (decoder.readout.kernel.numpy().T, decoder.embedding.embeddings.numpy())
    return any(np.array_equal(matrix.values, weights) for weights in last)


def test_every_recipe_has_a_name_that_says_its_bits_and_a_sentence():
    assert list(RECIPES) == ["float32", "float16", "int8", "int4"]
    for name, recipe in RECIPES.items():
        assert name in (f"float{recipe.bits}", f"int{recipe.bits}")
        expected = {"float32": {32}, "int4": {8, 4}}.get(name, {8})
        assert set(recipe.row_bits.values()) == expected
        assert recipe.description.startswith(("Weights", f"{name} weights"))
        assert recipe.description.endswith(".")
    tolerances = [recipe.score_tolerance for recipe in RECIPES.values()]
    assert tolerances == [1e-3, 0.05, 0.05, 0.05]


def test_float32_is_left_as_it_is(float32, translator):
    assert quantize_weights(float32, RECIPES["float32"]) is float32
    found = matrices(finished(float32, OUTPUTS))
    assert {matrix.type for matrix in found} == {TYPES.FLOAT32}
    # The products of the model: their weights, transposed.
    model = translator.model
    decoder = model.decoder
    expected = [
        *(lstm.recurrent_kernel for lstm in model.encoder.forward),
        *(lstm.recurrent_kernel for lstm in model.encoder.backward),
        decoder.lstm[0].kernel, decoder.lstm[0].recurrent_kernel,
        decoder.readout.kernel,
    ]  # fmt: skip
    wanted = [weight.numpy().T for weight in expected]
    wanted.append(decoder.embedding.embeddings.numpy())
    for weights in wanted:
        assert any(
            matrix.shape == weights.shape and np.array_equal(matrix.values, weights)
            for matrix in found
        ), weights.shape


def test_float16_weights_are_rounded_once(float32, quantized):
    pairs = zip(matrices(float32), matrices(quantized["float16", False]), strict=True)
    for before, after in pairs:
        assert after.type == TYPES.FLOAT16
        np.testing.assert_array_equal(
            after.values, before.values.astype(np.float16).astype(np.float32)
        )


@pytest.mark.parametrize("compatible", [False, True])
def test_int8_weights_are_off_by_half_a_step_at_most(float32, quantized, compatible):
    pairs = zip(matrices(float32), matrices(quantized["int8", compatible]), strict=True)
    for before, after in pairs:
        assert after.type == TYPES.INT8
        assert len(after.scales) == (1 if compatible else after.shape[0])
        assert not after.zero_points.any()
        axis = None if compatible else 1
        largest = np.abs(before.values).max(axis=axis)
        np.testing.assert_allclose(after.scales, largest / 127, rtol=1e-5)
        step = np.broadcast_to(after.scales, after.shape[:1])[:, None]
        assert (np.abs(after.values - before.values) <= 0.501 * step).all()


@pytest.mark.parametrize("compatible", [False, True])
def test_int4_weights_are_the_nearest_of_15_levels(
    float32, quantized, translator, compatible
):
    pairs = zip(matrices(float32), matrices(quantized["int4", compatible]), strict=True)
    int4 = [(old, new) for old, new in pairs if not is_last(old, translator)]
    assert len(int4) >= 6
    for before, after in int4:
        assert after.type == TYPES.INT4
        assert len(after.scales) == after.shape[0]
        assert after.numbers.min() >= -7 and after.numbers.max() <= 7
        assert not after.zero_points.any()
        step = after.scales[:, None]
        nearest = np.clip(before.values, -7 * step, 7 * step)
        assert (np.abs(after.values - nearest) <= 0.501 * step).all()


@pytest.mark.parametrize("compatible", [False, True])
def test_int4_leaves_the_last_two_products_as_int8_has_them(
    float32, quantized, translator, compatible
):
    last = 0
    for before, int8, int4 in zip(
        matrices(float32),
        matrices(quantized["int8", compatible]),
        matrices(quantized["int4", compatible]),
        strict=True,
    ):
        if is_last(before, translator):
            assert int4.type == TYPES.INT8
            np.testing.assert_array_equal(int4.values, int8.values)
            last += 1
    assert last == 2


def test_rows_of_a_tied_embedding_are_stored_once(quantized, tables):
    rows = tables.target.rows.values
    assert rows.dtype == np.int8 and rows.size > 100
    for recipe in ("int8", "int4"):
        assert quantized[recipe, False].count(rows.tobytes()) == 1


@pytest.mark.parametrize("width", [6, 7])
def test_rows_of_4_bits_come_out_of_a_file_as_they_went_in(width):
    values = np.random.default_rng(0).normal(size=(9, width)).astype(np.float32)
    rows = Rows(tf.constant(values), bits=4)
    assert rows.values.nbytes == 9 * ((width + 1) // 2)
    assert rows.scales is not None

    @tf.function(input_signature=[tf.TensorSpec([1, 4], tf.int32, name="text")])
    def take(text):
        return {"rows": rows.take(text[0])}

    model = convert({"take": take})
    assert forbidden_operators(model) == []
    run = Interpreter(model_content=model).get_signature_runner("take")
    found = run(text=np.array([[8, 0, 3, 8]], np.int32))["rows"]
    assert found.shape == (4, width)
    # The nearest of 15 levels, within what the scale spans.
    scale = rows.scales[[8, 0, 3, 8]]
    nearest = np.clip(np.round(values[[8, 0, 3, 8]] / scale), -7, 7) * scale
    np.testing.assert_allclose(found, nearest, rtol=1e-6)


def test_files_shrink_with_the_bits(float32, quantized):
    sizes = [len(finished(float32, OUTPUTS))]
    sizes += [len(quantized[name, False]) for name in ("float16", "int8", "int4")]
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 4


def test_a_scale_a_row_asks_for_a_runtime_that_reads_it(quantized):
    for recipe in ("int8", "int4"):
        model = quantized[recipe, False]
        assert min(versions(model)) >= 12
        assert minimum_runtime(model) == "2.17.0"


@pytest.mark.parametrize("recipe", ["int8", "int4"])
def test_compatible_files_run_on_runtimes_back_to_2_14(quantized, recipe):
    model = quantized[recipe, True]
    assert max(versions(model)) < 12
    needed = [int(number) for number in minimum_runtime(model).split(".")]
    assert needed <= [2, 14, 0]


def test_every_file_runs_and_scores_about_alike(float32, quantized):
    row = np.array([[ord(character) for character in "cab dab "]], np.int32)

    def score(model):
        runner = Interpreter(model_content=model).get_signature_runner(TRANSLATE)
        found = runner(text=row)
        assert all(np.isfinite(found[name]).all() for name in OUTPUTS)
        return found[SCORE][0]

    expected = score(finished(float32, OUTPUTS))
    assert score(quantized["float16", False]) == pytest.approx(expected, abs=0.01)
    for compatible in (False, True):
        assert score(quantized["int8", compatible]) == pytest.approx(expected, abs=0.3)
        assert np.isfinite(score(quantized["int4", compatible]))


def test_the_quantizer_says_nothing_and_leaves_logging_as_it_was(
    float32, capfd, caplog
):
    level = logging.root.level
    quantize_weights(float32, RECIPES["int4"])
    assert capfd.readouterr() == ("", "")
    assert caplog.records == []
    assert logging.root.level == level
    logging.getLogger("tests").warning("heard")
    assert [record.message for record in caplog.records] == ["heard"]


@pytest.mark.parametrize("level", [logging.NOTSET, logging.INFO, logging.CRITICAL])
def test_a_caller_who_had_logging_off_has_it_off_afterwards(level):
    logging.disable(level)
    try:
        with quantization._silence():
            assert logging.root.manager.disable >= max(level, logging.WARNING)
        assert logging.root.manager.disable == level
    finally:
        logging.disable(logging.NOTSET)
