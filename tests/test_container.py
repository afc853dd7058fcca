"""Damaged files: one line, or the right answer; no crash, and no other answer."""

import io
import json
import random
import zipfile
from hashlib import sha256
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils
from manifests import made_up_manifest

from pocketseq.export import contract, runtime
from pocketseq.export.contract import (
    ALIGNMENT,
    CHECKSUM,
    OUTPUTS,
    SCORE,
    SOURCE_VOCABULARY,
    TARGET_VOCABULARY,
    TEXT,
    TRANSLATE,
)
from pocketseq.export.runtime import Translator, read_manifest
from pocketseq.export.tflite.container import read_container
from pocketseq.export.tflite.conversion import convert
from pocketseq.export.tflite.flatbuffer import attach_files, finished, packed
from pocketseq.export.tflite.metadata import attach_metadata
from pocketseq.pipeline.errors import UserError

FILES = {SOURCE_VOCABULARY: "a\nb\n" * 20, TARGET_VOCABULARY: "AH\n" * 9}
MANIFEST = made_up_manifest(name="shift")
VALUES = json.loads(MANIFEST.to_json())


@tf.function(input_signature=[tf.TensorSpec([1, 3], tf.int32, name=TEXT)])
def shift(text):
    """A stand-in for a model: each letter becomes the next one."""
    real = tf.cast(text > 0, tf.int32)
    alignment = tf.eye(3)[None] * tf.cast(real, tf.float32)[..., None]
    return {TEXT: text + real, SCORE: tf.constant([-0.5]), ALIGNMENT: alignment}


@pytest.fixture(scope="module")
def model():
    return finished(convert({TRANSLATE: shift}), OUTPUTS)


@pytest.fixture(scope="module")
def whole(model):
    """The bytes of a file, as an export writes it."""
    return attach_metadata(model, MANIFEST, FILES)


@pytest.fixture(scope="module")
def start(whole):
    """Where the files behind the model start."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        return min(entry.header_offset for entry in archive.infolist())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.tflite"


def refusal(path, data):
    """What opening a file with these bytes says; empty where it translates rightly."""
    path.write_bytes(data)
    try:
        translated = Translator(path)("abc")
    except UserError as error:
        (line,) = str(error).splitlines()
        assert line.startswith(f"{path}: ")
        return line
    assert translated == "bcd"
    return ""


def damages(whole, start, count):
    """Yields (kind, damaged bytes); every other place is behind the model."""
    generator = random.Random(0)
    size = len(whole)
    for number in range(count):
        place = generator.randrange(start if number % 2 else 0, size)
        length = generator.choice([1, 2, 4, 16, 64, 512])
        end = min(place + length, size)
        before, after = whole[:place], whole[end:]
        flipped = bytes([whole[place] ^ 1 << generator.randrange(8)])
        yield "cut off", before
        yield "flipped", before + flipped + whole[place + 1 :]
        yield "zeroed", before + bytes(end - place) + after
        yield "garbled", before + generator.randbytes(end - place) + after
        yield "missing", before + after
        yield "more", before + generator.randbytes(length) + whole[place:]


def test_a_whole_file_opens(whole, path):
    assert refusal(path, whole) == ""
    assert read_manifest(path).name == "shift"


def test_damage_anywhere_is_one_line_or_does_no_harm(whole, start, path):
    refused, harmless = 0, 0
    for kind, data in damages(whole, start, 600):
        if data == whole:
            continue
        refused_it = bool(refusal(path, data))
        # Whatever is cut off, and whatever befalls the model, is noticed.
        if kind == "cut off" or data[:start] != whole[:start]:
            assert refused_it, kind
        refused += refused_it
        harmless += not refused_it
    # Some fields of a ZIP, such as dates, are for nobody.
    assert refused > 10 * harmless > 0


def test_no_damage_changes_the_manifest_or_a_vocabulary_unseen(whole, path):
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        entries = archive.infolist()
        files = {entry.filename: archive.read(entry) for entry in entries}
    for entry in entries:
        first = entry.header_offset + 30 + len(entry.filename)
        for place in range(first, first + entry.compress_size):
            flipped = bytes([whole[place] ^ 0x10])
            path.write_bytes(whole[:place] + flipped + whole[place + 1 :])
            try:
                # Bits that fill the last byte of a compressed file say nothing.
                assert read_container(path).files == files
            except UserError as error:
                assert "no manifest in it that can be read" in str(error)


def test_no_damaged_byte_comes_to_the_runtime(whole, start, path, monkeypatch):
    monkeypatch.setattr(runtime, "_interpreter", None)  # cannot be called
    for place in range(8, start, 97):
        flipped = bytes([whole[place] ^ 1])
        damaged = whole[:place] + flipped + whole[place + 1 :]
        assert "damaged, its checksum is not" in refusal(path, damaged)


def test_a_signature_that_points_nowhere_is_refused(whole, start, path):
    """It ends a process that hands it to the runtime."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(whole))
    model.signatureDefs[0].subgraphIndex = 99
    assert "checksum" in refusal(path, packed(model) + whole[start:])


def test_the_runtime_gets_what_was_checked_and_no_path(whole, path, monkeypatch):
    path.write_bytes(whole)
    seen: dict[str, Any] = {}

    class Watched(Interpreter):
        def __init__(self, *arguments, **options):
            seen.update(options, arguments=arguments)
            super().__init__(*arguments, **options)

    monkeypatch.setattr("ai_edge_litert.interpreter.Interpreter", Watched)
    Translator(path)
    assert seen["arguments"] == () and seen["model_content"] == whole


def with_manifest(model, text):
    return attach_files(model, {contract.MANIFEST: text})


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "null", "7", "{", "{}", "[" * 200_000, '{"target": 1}',
        json.dumps({**VALUES, "target": {}}), json.dumps({**VALUES, "recipe": []}),
        "\ud800".encode("utf-8", "surrogatepass"), "\x00",
    ],
    ids=range(12),
)  # fmt: skip
def test_a_manifest_that_none_of_ours_is_is_refused(model, path, text):
    assert "no manifest in it" in refusal(path, with_manifest(model, text))


@pytest.mark.parametrize("value", [None, 1, "", "0" * 64, ["a"]])
def test_a_checksum_that_none_is_does_not_count_as_an_older_file(model, path, value):
    text = json.dumps({**VALUES, CHECKSUM: value})
    assert "its checksum is not" in refusal(path, with_manifest(model, text))


def test_a_file_of_before_there_were_checksums_opens_with_a_warning(
    model, path, caplog, monkeypatch
):
    monkeypatch.setattr(runtime.logger, "propagate", True)
    older = with_manifest(model, MANIFEST.to_json())
    assert refusal(path, older) == ""
    (record,) = caplog.records
    assert "an older export without a checksum" in record.getMessage()
    assert record.levelname == "WARNING"


def test_no_damage_makes_an_older_file_of_one_with_a_checksum(whole, start, path):
    text = MANIFEST.to_json().encode()
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        manifest = archive.read(contract.MANIFEST)
    assert b'"flatbuffer_sha256"' in manifest and text != manifest
    # The name of the key, as it would be if a bit of it had flipped.
    changed = manifest.replace(b"flatbuffer_sha256", b"flatbuffer_sha257")
    stored = io.BytesIO(whole[:start])
    with zipfile.ZipFile(stored, "a") as archive:
        archive.writestr(contract.MANIFEST, manifest)
    data = stored.getvalue()
    assert refusal(path, data) == ""
    assert "Bad CRC-32" in refusal(path, data.replace(manifest, changed))


def test_a_model_that_is_not_the_manifests_is_refused_by_its_signatures(path):
    @tf.function(input_signature=[tf.TensorSpec([1, 3], tf.int32, name="other")])
    def other(other):
        return {"text": other + 1}

    model = convert({TRANSLATE: other})
    data = with_manifest(
        model,
        json.dumps({**VALUES, CHECKSUM: sha256(model).hexdigest()}),
    )
    assert "the runtime cannot run it" in refusal(path, data)


def test_all_files_are_read(whole, path):
    path.write_bytes(whole)
    container = read_container(path)
    assert container.data == whole and container.is_checked
    assert {n: f.decode() for n, f in container.files.items()} == {
        contract.MANIFEST: container.manifest.to_json(), **FILES
    }  # fmt: skip


def test_the_checksum_is_there_and_the_model_unchanged(model, whole, start):
    row = np.array([[97, 98, 0]], np.int32)
    for content in (whole, whole[:start]):
        found = Interpreter(model_content=content).get_signature_runner(TRANSLATE)
        assert found(text=row)[TEXT].tolist() == [[98, 99, 0]]
