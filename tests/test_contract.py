"""The contract with apps: what is in their files must keep its names."""

import json
import subprocess
import sys
from typing import Any

import pytest
from manifests import OLD_BUNDLE, made_up_manifest

from pocketseq.export import contract
from pocketseq.export.contract import (
    Exceptions,
    Manifest,
    ModelFile,
    beam_name,
    is_bundle_manifest,
    searches_with_beam,
    signature_keys,
    version_numbers,
)
from pocketseq.pipeline.text.normalization import Normalization

# A manifest of format 1 as it was before this module, in all its parts.
WRITTEN = """\
{
  "format": 1,
  "name": "pronunciation",
  "task": "grapheme to phoneme",
  "source": {
    "tokenizer": "character",
    "normalization": {
      "fold_case": true,
      "decompose": false
    },
    "max_code_points": 4
  },
  "target": {
    "tokenizer": "word",
    "normalization": {
      "fold_case": false,
      "decompose": false
    },
    "max_code_points": 8
  },
  "beam_size": 3,
  "signatures": {
    "translate": {
      "inputs": [
        {
          "name": "text",
          "dtype": "int32",
          "shape": [
            1,
            4
          ]
        }
      ],
      "outputs": [
        {
          "name": "text",
          "dtype": "int32",
          "shape": [
            1,
            8
          ]
        },
        {
          "name": "score",
          "dtype": "float32",
          "shape": [
            1
          ]
        },
        {
          "name": "alignment",
          "dtype": "float32",
          "shape": [
            1,
            8,
            4
          ]
        }
      ]
    }
  },
  "models": {
    "int8": {
      "file": "model-int8.tflite",
      "bytes": 723505,
      "sha256": "a82b",
      "minimum_runtime": "2.17.0",
      "operators": [
        "ADD",
        "WHILE"
      ],
      "quality": {
        "examples": 1519,
        "wer": 58.6570111915734
      },
      "loss": 0.0658,
      "milliseconds": 0.467
    }
  },
  "recipe": {
    "data": {
      "license": "© a university"
    },
    "search": {
      "beam_size": 1,
      "length_penalty": 1.0
    }
  },
  "flatbuffer_sha256": "4fde"
}
"""


def changed(**values):
    """Returns the text with other values at the top; None removes a key."""
    manifest = json.loads(WRITTEN) | values
    return json.dumps({k: v for k, v in manifest.items() if v is not None})


def test_a_manifest_of_format_1_is_read_and_written_to_the_same_text():
    manifest = Manifest.from_json(WRITTEN)
    assert manifest.to_json() == WRITTEN
    assert manifest.source.normalization == Normalization(fold_case=True)
    assert (manifest.target.tokenizer, manifest.target.max_code_points) == ("word", 8)
    assert manifest.models["int8"].operators == ["ADD", "WHILE"]
    assert (manifest.preferred_beam_size, manifest.length_penalty) == (1, 1.0)
    assert manifest.license == "© a university"


def test_signatures_have_the_names_and_tensors_of_the_contract():
    manifest = Manifest.from_json(WRITTEN)
    built = made_up_manifest([(4, 8)]).signatures
    assert built == manifest.signatures
    beam = made_up_manifest([(4, 8)], beam_size=3).signatures["translate_beam"]
    assert [tensor.shape for tensor in beam.outputs] == [[3, 8], [3], [3, 8, 4]]
    assert contract.OUTPUTS == ("text", "score", "alignment")
    assert [tensor.name for tensor in beam.outputs] == list(contract.OUTPUTS)
    assert [tensor.name for tensor in beam.inputs] == list(contract.INPUTS) == ["text"]


def test_the_first_length_goes_without_its_number():
    assert signature_keys([16, 8], 3) == [
        ("translate", 16, None),
        ("translate_beam", 16, 3),
        ("translate_8", 8, None),
        ("translate_beam_8", 8, 3),
    ]
    assert signature_keys([8]) == [("translate", 8, None)]


def test_each_greedy_signature_has_its_beam_signature():
    assert beam_name("translate") == "translate_beam"
    assert beam_name("translate_8") == "translate_beam_8"
    assert searches_with_beam("translate_beam_8")
    assert not searches_with_beam("translate_8")


def test_optional_keys_are_absent_where_there_is_nothing_to_say():
    text = changed(beam_size=None, flatbuffer_sha256=None)
    manifest = Manifest.from_json(text)
    assert manifest.beam_size is manifest.flatbuffer_sha256 is None
    assert "beam_size" not in json.loads(manifest.to_json())
    assert "flatbuffer_sha256" not in json.loads(manifest.to_json())


def test_a_manifest_says_how_many_exceptions_there_are_and_of_which_file():
    values = json.loads(WRITTEN)
    values["exceptions"] = values["models"]["int8"]["exceptions"] = {
        "entries": 3, "bytes": 77,
    }  # fmt: skip
    manifest = Manifest.from_json(json.dumps(values))
    assert manifest.exceptions == manifest.models["int8"].exceptions
    assert manifest.exceptions == Exceptions(entries=3, bytes=77)
    written = json.loads(manifest.to_json())
    assert written == values
    assert "exceptions" not in json.loads(Manifest.from_json(WRITTEN).to_json())


def test_unknown_keys_are_passed_over():
    values = json.loads(WRITTEN)
    for part in (
        values, values["source"], values["source"]["normalization"],
        values["signatures"]["translate"], values["models"]["int8"],
        values["signatures"]["translate"]["inputs"][0],
    ):  # fmt: skip
        part["new"] = {"of": "later"}
    assert Manifest.from_json(json.dumps(values)).to_json() == WRITTEN


def test_what_older_exports_did_not_measure_has_a_default():
    model: dict[str, Any] = {
        "file": "model.tflite", "bytes": 1, "sha256": "a", "minimum_runtime": "2.1",
    }  # fmt: skip
    manifest = Manifest.from_json(changed(models={"int8": model}))
    assert manifest.models == {"int8": ModelFile(**model)}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[]", "an object with recipe"),
        ("7", "an object with recipe"),
        (changed(name=None), "expected name as str"),
        (changed(name=7), "expected name as str"),
        (changed(recipe={"search": {}, "data": {}}), "expected beam_size as int"),
        (changed(recipe={"search": {"beam_size": 1}}), "expected data as dict"),
        (changed(target={}), "expected tokenizer as str"),
        (changed(signatures={"translate": []}), "expected translate as dict"),
        (changed(signatures={"translate": {"inputs": [1]}}), "an object with name"),
        (changed(models={"int8": {"file": "a"}}), "expected bytes as int"),
        (changed(beam_size="3"), "expected beam_size as int"),
        (changed(exceptions=[]), "expected exceptions as dict"),
        (changed(exceptions={"entries": 1}), "expected bytes as int"),
        ("", "Expecting value"),
    ],
)
def test_a_manifest_without_what_readers_rely_on_is_refused(text, problem):
    with pytest.raises(ValueError, match=problem):
        Manifest.from_json(text)


def test_an_export_is_told_from_a_web_app():
    assert is_bundle_manifest(WRITTEN) and is_bundle_manifest(OLD_BUNDLE)
    for text in (
        '{"name": "My App", "start_url": "/"}', "", "[]", "[" * 10**5, '{"format": 1}',
        changed(format=2), changed(signatures=[]),
    ):  # fmt: skip
        assert not is_bundle_manifest(text)


def test_versions_compare_as_numbers():
    assert version_numbers("2.8.0") < version_numbers("2.14.0")


def test_contract_and_recipes_import_no_tensorflow():
    code = (
        "import sys, pocketseq.export.contract, pocketseq.export.recipes\n"
        "print({'tensorflow', 'keras', 'ai_edge_litert'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True
    )
    assert done.stdout.strip() == "set()"
