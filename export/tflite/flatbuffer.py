"""The FlatBuffer of a ``.tflite`` file: its operators, its order, its packing."""

import io
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from pocketseq.export.contract import version_numbers

#: The operations that an exported model may use: builtins that every stock runtime has
#: and that keep no state between calls.
ALLOWED_OPERATORS = frozenset(
    """
    ADD ARG_MAX BATCH_MATMUL BROADCAST_TO CAST CONCATENATION CUMSUM DEQUANTIZE DIV
    EQUAL EXP EXPAND_DIMS FILL FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER GATHER_ND
    GREATER GREATER_EQUAL IF L2_NORMALIZATION LESS LESS_EQUAL LOG LOG_SOFTMAX
    LOGICAL_AND LOGICAL_NOT LOGICAL_OR LOGISTIC MAXIMUM MEAN MINIMUM MUL NEG NOT_EQUAL
    ONE_HOT PACK POW RANGE REDUCE_ANY REDUCE_MAX RESHAPE REVERSE_V2 RSQRT SCATTER_ND
    SELECT SELECT_V2
    SHAPE SLICE SOFTMAX SPLIT SPLIT_V SQUARE SQUEEZE STRIDED_SLICE SUB SUM TANH TILE
    TOPK_V2 TRANSPOSE UNPACK WHILE ZEROS_LIKE
    """.split()
)

_OPERATOR_NAMES = {
    number: name
    for name, number in vars(schema.BuiltinOperator).items()
    if not name.startswith("_")
}

# Since this version of FULLY_CONNECTED, weights may have one scale per row.
_PER_ROW_FULLY_CONNECTED = 12


def operators(model_bytes: bytes) -> list[str]:
    """Returns the sorted operation names of a model, ``CUSTOM:name`` for others."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(model_bytes))
    return sorted({_name(model.operatorCodes[code]) for code in _used_codes(model)})


def forbidden_operators(model_bytes: bytes) -> list[str]:
    """Returns the names of operations in a model that are not on the allowed list."""
    return [name for name in operators(model_bytes) if name not in ALLOWED_OPERATORS]


def minimum_runtime(model_bytes: bytes) -> str:
    """Returns the oldest TFLite runtime that has all operations, such as ``2.17.0``."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(model_bytes))
    stated = "1.5.0"
    for entry in model.metadata or []:
        if entry.name == b"min_runtime_version":
            data = bytes(model.buffers[entry.buffer].data)
            stated = data.rstrip(b"\0").decode() or stated
    versions = [stated]
    for code in model.operatorCodes:
        newer = code.version >= _PER_ROW_FULLY_CONNECTED
        if _name(code) == "FULLY_CONNECTED" and newer:
            versions.append("2.17.0")
    if any(
        t.type == schema.TensorType.INT4 for g in model.subgraphs for t in g.tensors
    ):
        versions.append("2.14.0")  # the oldest that was seen to compute it rightly
    return max(versions, key=version_numbers)


def finished(model_bytes: bytes, output_names: Sequence[str]) -> bytes:
    """Puts a converted model into the form that apps get.

    The outputs of every signature come in one order (the converter sorts them by name;
    a runtime without names counts on their order). Operators ask for a runtime that
    computes them correctly. Names and parameters that no runtime reads are left out.

    Args:
        model_bytes: A ``.tflite`` model.
        output_names: The output names, in the order wanted.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(model_bytes))
    _order_outputs(model, output_names)
    _ask_for_per_row_products(model)
    _narrow_int4(model)
    _drop_names(model)
    return packed(model)


def _order_outputs(model: Any, names: Sequence[str]) -> None:
    for signature in model.signatureDefs:
        signature.outputs.sort(key=lambda output: names.index(output.name.decode()))
        subgraph = model.subgraphs[signature.subgraphIndex]
        subgraph.outputs = [output.tensorIndex for output in signature.outputs]


def _ask_for_per_row_products(model: Any) -> None:
    """Makes runtimes refuse int8 weights with a scale per row if they use only one.

    The quantizer leaves the operator's version as it was.
    """
    per_row = any(
        tensor.type == schema.TensorType.INT8 and len(_scales(tensor)) > 1
        for graph in model.subgraphs
        for tensor in graph.tensors
    )
    for code in model.operatorCodes:
        if per_row and _name(code) == "FULLY_CONNECTED":
            code.version = max(code.version, _PER_ROW_FULLY_CONNECTED)


def _narrow_int4(model: Any) -> None:
    """Replaces the int4 weight -8 by -7.

    Runtimes before 1.2 compute wrong products with it; a scale that clips to 15 levels
    instead of 16 loses nothing that can be measured.
    """
    for index in {
        tensor.buffer
        for graph in model.subgraphs
        for tensor in graph.tensors
        if tensor.type == schema.TensorType.INT4
    }:
        pairs = np.array(model.buffers[index].data, np.uint8)
        low, high = pairs & 15, pairs >> 4
        low[low == 8] = high[high == 8] = 9
        model.buffers[index].data = low | high << 4


def _drop_names(model: Any) -> None:
    """Drops names of inner tensors, and empty quantization parameters."""
    for graph in model.subgraphs:
        outside = {*graph.inputs, *graph.outputs}
        for index, tensor in enumerate(graph.tensors):
            if index not in outside:
                tensor.name = None
            if not len(_scales(tensor)):
                tensor.quantization = None


def _scales(tensor: Any) -> Sequence[float]:
    scales = tensor.quantization and tensor.quantization.scale
    return [] if scales is None else scales


def packed(model: Any) -> bytes:
    """Returns a model object as the bytes of a ``.tflite`` file."""
    for graph in model.subgraphs:
        for part in (*graph.tensors, *(graph.operators or [])):
            for name in ("shape", "inputs", "outputs"):
                if getattr(part, name, None) is not None:
                    setattr(part, name, np.asarray(getattr(part, name), np.int32))
    builder = _SharingBuilder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


class _SharingBuilder(flatbuffers.Builder):
    """Writes equal vectors once, and weights where processors read them fastest."""

    # The schema asks for it, and the generated Python code does not do it.
    _ALIGNMENT = 16

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._vectors: dict[tuple[int, bytes], int] = {}

    def CreateNumpyVector(self, x: np.ndarray) -> int:  # noqa: N802, D102
        data = x.astype(x.dtype.newbyteorder("<")).tobytes()
        key = (x.dtype.itemsize, data)
        if key not in self._vectors:
            self.StartVector(x.dtype.itemsize, len(x), self._ALIGNMENT)
            self.head -= len(data)
            self.Bytes[self.head : self.head + len(data)] = data
            self._vectors[key] = self.EndVector()
        return self._vectors[key]


def attach_files(model_bytes: bytes, files: Mapping[str, str]) -> bytes:
    """Appends files to a model as a ZIP, where readers of TFLite metadata look.

    Args:
        model_bytes: A ``.tflite`` model.
        files: ``{name: text}``.
    """
    buffer = io.BytesIO(model_bytes)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            # A fixed date: the same model gives the same bytes.
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, text)
    return buffer.getvalue()


def vocabulary_text(pieces: Iterable[str]) -> str:
    """Returns a vocabulary with one piece per line, in the order of ids.

    Line breaks and backslashes in a piece are written as in JSON.
    """
    return "".join(json.dumps(p, ensure_ascii=False)[1:-1] + "\n" for p in pieces)


def _used_codes(model: Any) -> set[int]:
    return {op.opcodeIndex for graph in model.subgraphs for op in graph.operators or []}


def _name(code: Any) -> str:
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    if number == schema.BuiltinOperator.CUSTOM:
        return f"CUSTOM:{code.customCode.decode()}"
    return _OPERATOR_NAMES[number]
