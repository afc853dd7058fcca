"""The FlatBuffer of a ``.tflite`` file: what is in it, and putting it in order."""

import io
import json
import zipfile

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

#: The operations that an exported model may use: builtins that every stock runtime has
#: and that keep no state between calls.
ALLOWED_OPERATORS = frozenset(
    """
    ADD ARG_MAX BATCH_MATMUL BROADCAST_TO CAST CONCATENATION CUMSUM DIV EQUAL EXP
    EXPAND_DIMS FILL FLOOR_DIV FLOOR_MOD FULLY_CONNECTED GATHER GATHER_ND GREATER
    GREATER_EQUAL L2_NORMALIZATION LESS LESS_EQUAL LOG LOG_SOFTMAX LOGICAL_AND
    LOGICAL_NOT LOGICAL_OR LOGISTIC MAXIMUM MEAN MINIMUM MUL NEG NOT_EQUAL ONE_HOT PACK
    POW RANGE REDUCE_ANY REDUCE_MAX RESHAPE REVERSE_V2 RSQRT SCATTER_ND SELECT SELECT_V2
    SHAPE SLICE SOFTMAX SPLIT SPLIT_V SQUARE SQUEEZE STRIDED_SLICE SUB SUM TANH TILE
    TOPK_V2 TRANSPOSE UNPACK WHILE ZEROS_LIKE
    """.split()
)

_OPERATOR_NAMES = {
    number: name
    for name, number in vars(schema.BuiltinOperator).items()
    if not name.startswith("_")
}

# Since this version of FULLY_CONNECTED, weights may have one scale a row.
_PER_ROW_FULLY_CONNECTED = 12


def operators(model_bytes):
    """Returns the sorted operation names of a model, ``CUSTOM:name`` for others."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(model_bytes))
    return sorted({_name(model.operatorCodes[code]) for code in _used_codes(model)})


def forbidden_operators(model_bytes):
    """Returns the names of operations in a model that are not on the allowed list."""
    return [name for name in operators(model_bytes) if name not in ALLOWED_OPERATORS]


def minimum_runtime(model_bytes):
    """Returns the oldest TFLite runtime that has all operations: ``2.17.0``."""
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
    return max(versions, key=lambda version: [int(n) for n in version.split(".")])


def order_outputs(model_bytes, names):
    """Puts the outputs of every signature into an order.

    The converter sorts them by name; a runtime without names counts on their order.

    Args:
        model_bytes: A ``.tflite`` model.
        names: The output names, in the order wanted.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(model_bytes))
    for signature in model.signatureDefs:
        signature.outputs.sort(key=lambda output: names.index(output.name.decode()))
        subgraph = model.subgraphs[signature.subgraphIndex]
        subgraph.outputs = [output.tensorIndex for output in signature.outputs]
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def attach_files(model_bytes, files):
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


def vocabulary_text(pieces):
    """Returns a vocabulary with one piece a line, in the order of ids.

    Line breaks and backslashes in a piece are written as in JSON.
    """
    return "".join(json.dumps(p, ensure_ascii=False)[1:-1] + "\n" for p in pieces)


def _used_codes(model):
    return {op.opcodeIndex for graph in model.subgraphs for op in graph.operators or []}


def _name(code):
    number = max(code.builtinCode, code.deprecatedBuiltinCode)
    if number == schema.BuiltinOperator.CUSTOM:
        return f"CUSTOM:{code.customCode.decode()}"
    return _OPERATOR_NAMES[number]
