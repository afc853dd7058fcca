"""TFLite metadata: the description of a model for tools that know the convention.

The convention is a FlatBuffer of its own, published as ``metadata_schema.fbs`` (version
1.5.0), in a buffer of the model. Its tables are named tuples here: the fields have the
schema's names and the order of its slots.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from pocketseq.export.contract import (
    ALIGNMENT,
    MANIFEST,
    MODEL_CARD,
    SCORE,
    SOURCE_VOCABULARY,
    TARGET_VOCABULARY,
    TEXT,
    Manifest,
    Signature,
)
from pocketseq.export.tflite.container import checksum
from pocketseq.export.tflite.flatbuffer import attach_files, packed

_ENTRY = b"TFLITE_METADATA"
_IDENTIFIER = b"M001"

# Of the schema's enumerations: AssociatedFileType, ContentProperties.
_UNKNOWN, _DESCRIPTIONS, _VOCABULARY = 0, 1, 5
_FEATURE_PROPERTIES = 1

# The schema version of the newest part that we use: a file type for vocabularies.
_MIN_PARSER_VERSION = "1.0.1"

_FILES = {
    MANIFEST: ("What the model is and how to call it, as JSON.", _DESCRIPTIONS),
    MODEL_CARD: (
        "Data, licence, quality and limits of the model, for people.",
        _DESCRIPTIONS,
    ),
    SOURCE_VOCABULARY: (
        "The pieces of the source, one a line in the order of ids, escaped as in JSON.",
        _VOCABULARY,
    ),
    TARGET_VOCABULARY: (
        "The pieces of the target, one a line in the order of ids, escaped as in JSON.",
        _VOCABULARY,
    ),
}

_INPUTS = {
    TEXT: "The code points of a text in Unicode NFC, zero-padded at the right; a "
    "longer text is cut.",
}

_OUTPUTS = {
    TEXT: "The code points of each translation, zero-padded at the right.",
    SCORE: "The sum of the token log-probabilities, end token included, divided by "
    "(number of tokens)^length_penalty; 0 for an empty text.",
    ALIGNMENT: "Row i of a translation: which input code points its code point i "
    "came from. Rows sum to 1, rows of padding to 0.",
}


class _AssociatedFile(NamedTuple):
    name: str
    description: str
    type: int


class _Content(NamedTuple):
    content_properties_type: int = _FEATURE_PROPERTIES
    content_properties: tuple = ()  # FeatureProperties has no fields.


class _TensorMetadata(NamedTuple):
    name: str
    description: str
    dimension_names: None = None
    content: _Content = _Content()


class _SubGraphMetadata(NamedTuple):
    name: str | None = None
    description: str | None = None
    input_tensor_metadata: list[_TensorMetadata] | None = None
    output_tensor_metadata: list[_TensorMetadata] | None = None


class _ModelMetadata(NamedTuple):
    name: str
    description: str
    version: str
    subgraph_metadata: list[_SubGraphMetadata]
    author: str
    license: str
    associated_files: list[_AssociatedFile]
    min_parser_version: str


def attach_metadata(
    model_bytes: bytes,
    manifest: Manifest,
    files: Mapping[str, str | Callable[[str], str]],
    *,
    version: str = "1",
) -> bytes:
    """Puts metadata into a model, and the files that it describes behind the model.

    Metadata and files that the model has already are replaced. The first file is
    ``manifest.json``, with the SHA-256 of all bytes before the files added.

    Args:
        model_bytes: A ``.tflite`` model, its outputs in the order of the manifest.
        manifest: The description of the model.
        files: The other files, ``{name: text}``, names as an export gives them; a
            function returns the text for that SHA-256.
        version: The version of the model, in whatever scheme its maker uses.

    Raises:
        ValueError: The signatures of the model are not those of the manifest.
    """
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(model_bytes))
    subgraphs = _subgraphs(model, manifest.signatures)
    names = [MANIFEST, *files]
    metadata = metadata_bytes(manifest, names, subgraphs, version=version)
    _metadata_buffer(model).data = np.frombuffer(metadata, np.uint8)
    flatbuffer = packed(model)
    sha256 = checksum(flatbuffer)
    manifest = replace(manifest, flatbuffer_sha256=sha256)
    texts = {
        name: text if isinstance(text, str) else text(sha256)
        for name, text in files.items()
    }
    return attach_files(flatbuffer, {MANIFEST: manifest.to_json(), **texts})


def metadata_bytes(
    manifest: Manifest,
    files: Iterable[str],
    subgraphs: Sequence[str | None],
    *,
    version: str = "1",
) -> bytes:
    """Returns the metadata as a FlatBuffer, ``ModelMetadata`` of the schema.

    Args:
        manifest: The description of the model.
        files: The names of the associated files.
        subgraphs: The name of the signature that each subgraph of the model belongs to,
            up to the last that belongs to one; None for those between them.
        version: The version of the model, in whatever scheme its maker uses.
    """
    metadata = _ModelMetadata(
        name=manifest.name,
        description=f"{manifest.task}: text to text, as Unicode code points.",
        version=version,
        subgraph_metadata=[_subgraph(manifest, name) for name in subgraphs],
        author="",
        license=manifest.license,
        associated_files=[_file(name) for name in files],
        min_parser_version=_MIN_PARSER_VERSION,
    )
    builder = flatbuffers.Builder()
    builder.Finish(_write(builder, metadata), _IDENTIFIER)
    return bytes(builder.Output())


def _subgraphs(model: Any, expected: Mapping[str, Signature]) -> list[str | None]:
    """Returns the signature of each subgraph, up to the last subgraph that has one.

    A tensor's metadata is found by position only, so the positions are checked.
    """
    found, subgraphs = {}, {}
    for signature in model.signatureDefs:
        name = signature.signatureKey.decode()
        subgraph = model.subgraphs[signature.subgraphIndex]
        subgraphs[signature.subgraphIndex] = name
        found[name] = {
            "inputs": _names(signature.inputs, subgraph.inputs),
            "outputs": _names(signature.outputs, subgraph.outputs),
        }
    wanted = {
        name: {
            "inputs": [tensor.name for tensor in signature.inputs],
            "outputs": [tensor.name for tensor in signature.outputs],
        }
        for name, signature in expected.items()
    }
    if found != wanted:
        raise ValueError(
            f"the model's signatures are {found}, expected {wanted} as in the manifest"
        )
    return [subgraphs.get(index) for index in range(max(subgraphs) + 1)]


def _names(tensors: Sequence[Any], indices: Sequence[int]) -> list[str]:
    """Returns a signature's tensor names in the order of the subgraph's tensors."""
    names = {tensor.tensorIndex: tensor.name.decode() for tensor in tensors}
    return [names[index] for index in indices]


def _metadata_buffer(model: Any) -> Any:
    """Returns the model's buffer for metadata, which is made where there is none."""
    model.metadata = model.metadata or []
    entry = next((e for e in model.metadata if e.name == _ENTRY), None)
    if entry is None:
        entry = schema.MetadataT(_ENTRY)
        model.metadata.append(entry)
    # Buffer 0 is the empty one, which tensors without data share.
    if entry.buffer == 0:
        entry.buffer = len(model.buffers)
        model.buffers.append(schema.BufferT())
    return model.buffers[entry.buffer]


def _file(name: str) -> _AssociatedFile:
    return _AssociatedFile(name, *_FILES.get(name, ("", _UNKNOWN)))


def _subgraph(manifest: Manifest, name: str | None) -> _SubGraphMetadata:
    if name is None:
        return _SubGraphMetadata()
    signature = manifest.signatures[name]
    translations = signature.outputs[0].shape[0]
    found = f"its {translations} best translations, best first"
    return _SubGraphMetadata(
        name,
        f"Reads a text of up to {signature.inputs[0].shape[-1]} code points and "
        f"returns {found if translations > 1 else 'its translation'}.",
        [_TensorMetadata(one.name, _INPUTS[one.name]) for one in signature.inputs],
        [_TensorMetadata(one.name, _OUTPUTS[one.name]) for one in signature.outputs],
    )


def _write(builder: flatbuffers.Builder, value: Any) -> int:
    """Writes a text, a list of tables or a table, and returns its offset.

    Everything that a table points to is written before the table; numbers are in it.
    """
    if isinstance(value, str):
        return builder.CreateString(value)
    if isinstance(value, list):
        offsets = [_write(builder, table) for table in value]
        builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            builder.PrependUOffsetTRelative(offset)
        return builder.EndVector()
    fields = [
        field if field is None or isinstance(field, int) else _write(builder, field)
        for field in value
    ]
    builder.StartObject(len(fields))
    for slot, (field, written) in enumerate(zip(value, fields, strict=True)):
        if isinstance(field, int):
            builder.PrependUint8Slot(slot, written, 0)
        elif field is not None:
            builder.PrependUOffsetTRelativeSlot(slot, written, 0)
    return builder.EndObject()
