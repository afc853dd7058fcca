"""Metadata, read back with the reader that the publisher of the convention ships."""

import importlib.util
import io
import json
import zipfile
from functools import cache
from hashlib import sha256
from importlib.metadata import distribution
from unittest.mock import ANY

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from manifests import made_up_manifest

from pocketseq.export.contract import (
    ALIGNMENT,
    CHECKSUM,
    MANIFEST,
    OUTPUTS,
    SCORE,
    SOURCE_VOCABULARY,
    TARGET_VOCABULARY,
    TEXT,
    TRANSLATE,
    TRANSLATE_BEAM,
)
from pocketseq.export.tflite.conversion import convert
from pocketseq.export.tflite.flatbuffer import finished, minimum_runtime
from pocketseq.export.tflite.metadata import attach_metadata, metadata_bytes

N, M = 3, 4
FILES = {
    SOURCE_VOCABULARY: "a\nß\n",
    TARGET_VOCABULARY: "AH\nEH\n",
}


@cache
def published():
    """The tables of the published schema, as MediaPipe has them generated.

    Only the one file is loaded: the package wants cameras and sound cards.
    """
    file = distribution("mediapipe").locate_file(
        "mediapipe/tasks/metadata/metadata_schema_py_generated.py"
    )
    spec = importlib.util.spec_from_file_location("metadata_schema", str(file))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def translate(translations):
    """A stand-in for a model: its loop makes subgraphs that are no signature's."""

    @tf.function(input_signature=[tf.TensorSpec([1, N], tf.int32, name=TEXT)])
    def function(text):
        more, _ = tf.while_loop(
            lambda _, i: i < tf.reduce_max(text),
            lambda row, i: (row + 1, i + 1),
            [text, tf.constant(0)],
        )
        padded = tf.pad(more, [[0, 0], [0, M - N]])
        alignment = tf.cast(padded[..., None] * more[:, None], tf.float32)
        return {
            TEXT: tf.tile(padded, [translations, 1]),
            SCORE: tf.fill([translations], 0.5),
            ALIGNMENT: tf.tile(alignment, [translations, 1, 1]),
        }

    return function


@cache
def model():
    functions = {TRANSLATE_BEAM: translate(2), TRANSLATE: translate(1)}
    return finished(convert(functions), OUTPUTS)


def manifest(**changes):
    recipe = {
        "search": {"beam_size": 1},
        "data": {"license": "BSD 2-Clause, © a university"},
    }
    options = {
        "name": "pronunciation", "task": "grapheme to phoneme", "recipe": recipe,
    }  # fmt: skip
    return made_up_manifest([(N, M)], beam_size=2, **{**options, **changes})


def buffers(model_bytes, name):
    """The contents of all of a model's metadata entries that have a name."""
    packed = schema.Model.GetRootAsModel(model_bytes, 0)
    entries = [packed.Metadata(i) for i in range(packed.MetadataLength())]
    return [
        packed.Buffers(entry.Buffer()).DataAsNumpy().tobytes()
        for entry in entries
        if entry.Name() == name
    ]


def read(model_bytes):
    (buffer,) = buffers(model_bytes, b"TFLITE_METADATA")
    return parse(buffer)


def parse(buffer):
    table = published().ModelMetadata
    assert table.ModelMetadataBufferHasIdentifier(buffer, 0)
    return published().ModelMetadataT.InitFromObj(table.GetRootAs(buffer))


def test_the_model_says_what_it_is():
    found = read(attach_metadata(model(), manifest(), FILES, version="7"))
    assert found.name == b"pronunciation"
    assert found.description.startswith(b"grapheme to phoneme: ")
    assert found.version == b"7"
    assert found.author == b""
    assert found.license.decode() == "BSD 2-Clause, © a university"
    # Of all that is used, the file type VOCABULARY is the newest: "Added in: 1.0.1".
    assert found.minParserVersion == b"1.0.1"


def test_subgraphs_are_described_by_their_signatures_in_the_order_of_the_model():
    with_metadata = attach_metadata(model(), manifest(), FILES)
    packed = schema.Model.GetRootAsModel(with_metadata, 0)
    subgraphs = read(with_metadata).subgraphMetadata
    assert len(subgraphs) == packed.SignatureDefsLength() < packed.SubgraphsLength()
    for index in range(packed.SignatureDefsLength()):
        signature = packed.SignatureDefs(index)
        found = subgraphs[signature.SubgraphIndex()]
        assert found.name == signature.SignatureKey()
        assert len(found.inputTensorMetadata) == signature.InputsLength()
        assert len(found.outputTensorMetadata) == signature.OutputsLength()
    first, second = subgraphs
    assert b"up to 3 code points and returns its translation." in first.description
    assert b"its 2 best translations, best first." in second.description


def test_tensors_have_names_descriptions_and_plain_content():
    for found in read(attach_metadata(model(), manifest(), FILES)).subgraphMetadata:
        inputs, outputs = found.inputTensorMetadata, found.outputTensorMetadata
        assert [tensor.name for tensor in inputs] == [b"text"]
        assert [tensor.name for tensor in outputs] == [b"text", b"score", b"alignment"]
        assert len({tensor.description for tensor in [*inputs, *outputs]}) == 4
        for tensor in [*inputs, *outputs]:
            content = tensor.content
            assert isinstance(content.contentProperties, published().FeaturePropertiesT)
            assert content.range is None
            assert tensor.processUnits is None


def test_a_subgraph_without_signature_keeps_the_others_in_place():
    subgraphs = [TRANSLATE, None, TRANSLATE_BEAM]
    found = parse(metadata_bytes(manifest(), FILES, subgraphs)).subgraphMetadata
    assert [subgraph.name for subgraph in found] == [
        b"translate",
        None,
        b"translate_beam",
    ]
    assert found[1].outputTensorMetadata is None


def test_the_files_behind_the_model_are_the_ones_that_are_described():
    files = FILES | {"notes.txt": "more\n"}
    with_metadata = attach_metadata(model(), manifest(), files)
    with zipfile.ZipFile(io.BytesIO(with_metadata)) as archive:
        inside = {name: archive.read(name).decode() for name in archive.namelist()}
    described_manifest = json.loads(inside.pop(MANIFEST))
    assert described_manifest == {**json.loads(manifest().to_json()), CHECKSUM: ANY}
    assert inside == files
    types = published().AssociatedFileType
    described = read(with_metadata).associatedFiles
    assert {file.name.decode(): file.type for file in described} == {
        MANIFEST: types.DESCRIPTIONS,
        SOURCE_VOCABULARY: types.VOCABULARY,
        TARGET_VOCABULARY: types.VOCABULARY,
        "notes.txt": types.UNKNOWN,
    }
    assert all(file.description for file in described[:3])


def test_the_manifest_holds_the_checksum_of_all_bytes_before_the_files():
    with_metadata = attach_metadata(model(), manifest(), FILES)
    with zipfile.ZipFile(io.BytesIO(with_metadata)) as archive:
        found = json.loads(archive.read(MANIFEST))[CHECKSUM]
        start = min(entry.header_offset for entry in archive.infolist())
    assert sha256(with_metadata[:start]).hexdigest() == found
    # What is hashed is the model as it is stored, its metadata included.
    assert read(with_metadata[:start]).name == b"pronunciation"
    assert with_metadata[start : start + 4] == b"PK\x03\x04"


def test_the_model_runs_as_before():
    with_metadata = attach_metadata(model(), manifest(), FILES)
    row = np.array([[1, 2, 3]], np.int32)
    for name in [TRANSLATE, TRANSLATE_BEAM]:
        expected, found = (
            Interpreter(model_content=content).get_signature_runner(name)(text=row)
            for content in (model(), with_metadata)
        )
        for output in OUTPUTS:
            np.testing.assert_array_equal(found[output], expected[output])
    assert found[TEXT][0].tolist() == [4, 5, 6, 0]


def test_other_metadata_stays():
    with_metadata = attach_metadata(model(), manifest(), FILES)
    name = b"min_runtime_version"
    assert buffers(with_metadata, name) == buffers(model(), name) != []
    assert minimum_runtime(with_metadata) == minimum_runtime(model())


def test_the_same_model_gives_the_same_bytes():
    first = attach_metadata(model(), manifest(), FILES)
    assert attach_metadata(model(), manifest(), FILES) == first


def test_metadata_and_files_are_replaced():
    old = attach_metadata(
        model(), manifest(name="an older and longer name"), {"old.txt": "old"}
    )
    new = attach_metadata(model(), manifest(), FILES)
    assert attach_metadata(old, manifest(), FILES) == new


@pytest.mark.parametrize("change", ["order", "signature"])
def test_a_manifest_of_another_model_is_refused(change):
    other = manifest()
    if change == "order":
        other.signatures[TRANSLATE].outputs.reverse()
    else:
        del other.signatures[TRANSLATE_BEAM]
    with pytest.raises(ValueError, match="the model's signatures are .* expected"):
        attach_metadata(model(), other, FILES)
