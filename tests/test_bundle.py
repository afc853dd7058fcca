"""The whole export of a trained model, and the reasons for which it must fail."""

import hashlib
import io
import json
import shutil
import subprocess
import sys
import unicodedata
import zipfile
from pathlib import Path
from unittest.mock import ANY

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from ai_edge_litert.tools import flatbuffer_utils
from conftest import BEAM, LENGTHS
from manifests import OLD_BUNDLE
from test_flatbuffer import model_with_a_flex_operator

from pocketseq.export import bundle
from pocketseq.export.apps import FOLDER as APPS
from pocketseq.export.apps import PLATFORMS
from pocketseq.export.bundle import Options, export_bundle
from pocketseq.export.contract import (
    ALIGNMENT,
    CHECKSUM,
    GOLDEN,
    GOLDEN_BEAM,
    LICENSES,
    MANIFEST,
    MODEL_CARD,
    OUTPUTS,
    README,
    SAVED_MODEL,
    SCORE,
    TARGET_VOCABULARY,
    TEXT,
    TRANSLATE,
    TRANSLATE_BEAM,
    tflite_name,
)
from pocketseq.export.exporter import Outcome
from pocketseq.export.folders import refuse_to_destroy
from pocketseq.export.recipes import RECIPES
from pocketseq.export.runtime import Translator, text_of
from pocketseq.export.tflite import files
from pocketseq.export.tflite.flatbuffer import forbidden_operators, operators
from pocketseq.layers import TokenTable
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.model import EncoderDecoder
from pocketseq.pipeline.runs import Run
from pocketseq.pipeline.text.special import END

# Name: source length, hypotheses.
SIGNATURES = {
    "translate": (16, 1),
    "translate_beam": (16, BEAM),
    "translate_8": (8, 1),
    "translate_beam_8": (8, BEAM),
}


@pytest.fixture(scope="module")
def report(full_report):
    return full_report


@pytest.fixture(scope="module")
def small_run(trained_run, corpus_folder, tmp_path_factory):
    """The same run with 8 lines to measure on: enough to fail."""
    folder = tmp_path_factory.mktemp("small") / "run"
    shutil.copytree(trained_run.folder, folder)
    lines = (corpus_folder / "dev.tsv").read_text(encoding="utf-8").splitlines()
    (folder / "dev.tsv").write_text("\n".join(lines[:8]), encoding="utf-8")
    config = (folder / "config.toml").read_text(encoding="utf-8")
    changed = config.replace(str(corpus_folder / "dev.tsv"), str(folder / "dev.tsv"))
    assert changed != config
    (folder / "config.toml").write_text(changed, encoding="utf-8")
    return Run(folder)


@pytest.fixture(scope="module")
def keras(trained_run):
    return trained_run.load()


@pytest.fixture(scope="module")
def dev_texts(corpus_folder):
    lines = (corpus_folder / "dev.tsv").read_text(encoding="utf-8").splitlines()
    return [line.split("\t")[0] for line in lines]


@pytest.fixture(scope="module")
def manifest(report):
    return json.loads((report.folder / MANIFEST).read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=RECIPES)
def recipe(request):
    return request.param


@pytest.fixture(scope="module")
def path(report, recipe):
    return report.folder / tflite_name(recipe)


@pytest.fixture(scope="module")
def model(path):
    """The FlatBuffer of a file, as an object."""
    return flatbuffer_utils.read_model_from_bytearray(bytearray(path.read_bytes()))


def failed_export(run, folder, **options):
    """Exports what must not pass, and checks that nothing is left behind."""
    asked = Options(**{"recipes": ("float32",), **options})
    report = export_bundle(run, asked, output=folder / "out")
    assert not report.passed
    assert list(folder.iterdir()) == []
    return report.failures


def test_a_good_export_passes_and_writes_every_file(report):
    assert {path.name for path in report.folder.iterdir()} == {
        *(tflite_name(recipe) for recipe in RECIPES),
        SAVED_MODEL,
        MANIFEST,
        GOLDEN,
        GOLDEN_BEAM,
        README,
        LICENSES,
        MODEL_CARD,
        APPS,
    }
    assert {path.name for path in (report.folder / APPS).iterdir()} == {*PLATFORMS}
    assert (report.folder / SAVED_MODEL / "saved_model.pb").is_file()


def test_the_report_has_a_row_for_keras_and_for_each_file(report):
    names = [file.name for file in report.files]
    assert names == ["Keras", *RECIPES]
    for file in report.files[1:]:
        path = report.folder / tflite_name(file.name)
        assert file.bytes == path.stat().st_size
        assert file.loss == pytest.approx(file.dev["wer"] - report.files[0].dev["wer"])
    # Greedy and beam, of both lengths, and of the SavedModel.
    assert len(report.notes) == 6
    assert all(" 0 differences, " in note for note in report.notes)


def test_the_card_tells_data_licence_quality_limits_and_the_hash_of_each_file(report):
    card = (report.folder / MODEL_CARD).read_text(encoding="utf-8")
    assert "`train.tsv`, 600 pairs" in card and "Licence" in card
    for file in report.files:
        wer, per = (f"{file.dev[metric]:.2f}" for metric in ("wer", "per"))
        assert f"| {file.name} | dev | {wer} | {per} |" in card
    assert "cut after 16 code points, answers after 24" in card
    for recipe in RECIPES:
        data = (report.folder / tflite_name(recipe)).read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        assert f"`{tflite_name(recipe)}`: SHA-256\n  `{sha256}`" in card


def test_each_file_holds_the_card_of_its_own_weights(path, recipe, report):
    (row,) = [file for file in report.files if file.name == recipe]
    with zipfile.ZipFile(path) as archive:
        card = archive.read(MODEL_CARD).decode()
        start = min(entry.header_offset for entry in archive.infolist())
    sha256 = hashlib.sha256(path.read_bytes()[:start]).hexdigest()
    assert sha256 in card
    assert f"| {recipe} | dev | {row.dev['wer']:.2f} |" in card
    assert not any(f"| {other} | dev" in card for other in {*RECIPES} - {recipe})


def test_files_are_the_smaller_the_fewer_bits_and_lose_little(report):
    rows = {file.name: file for file in report.files}
    sizes = [rows[recipe].bytes for recipe in RECIPES]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 4
    for recipe, points in (("float32", 0), ("float16", 1), ("int8", 3), ("int4", 10)):
        assert abs(rows[recipe].loss) <= points


@pytest.mark.parametrize("length", LENGTHS)
def test_float32_equals_keras_in_every_signature(report, keras, dev_texts, length):
    file = Translator(report.folder / tflite_name("float32"), length=length)
    sized = keras.resized(length)
    texts = [*dev_texts[:40], "abcdefabcdefabcdef", "", "xa\u00e9"]
    for beam in (1, BEAM):
        options = {"beam_size": beam, "n_best": beam}
        expected = sized.translate(texts, **options)
        for wanted, found in zip(
            expected, file.translate(texts, **options), strict=True
        ):
            for one, other in zip(wanted, found, strict=True):
                assert (other.source, other.text) == (one.source, one.text)
                assert other.score == pytest.approx(one.score, abs=1e-4)
                assert one.alignment is not None and other.alignment is not None
                np.testing.assert_allclose(other.alignment, one.alignment, atol=1e-3)


def test_weights_are_stored_once_for_all_signatures(report, keras):
    data = (report.folder / tflite_name("float32")).read_bytes()
    decoder = keras.model.decoder
    for weight in (
        decoder.lstm[0].recurrent_kernel, decoder.readout.kernel,
        keras.model.encoder.forward[0].recurrent_kernel,
    ):  # fmt: skip
        assert data.count(weight.numpy().T.tobytes()) == 1
    # Four signatures, and the graphs of all of them, in less than twice the weights.
    assert len(data) < 2 * 4 * keras.model.count_params()


def test_signatures_are_named_and_shaped_as_the_contract_says(path, manifest, keras):
    interpreter = Interpreter(str(path))
    found = interpreter.get_signature_list()
    assert next(iter(found)) == "translate"
    assert set(found) == set(SIGNATURES) == set(manifest["signatures"])
    for name, (n, hypotheses) in SIGNATURES.items():
        m = keras.resized(n).target_tokenizer.max_code_points
        runner = interpreter.get_signature_runner(name)
        ((text, details),) = runner.get_input_details().items()
        assert (text, details["dtype"]) == ("text", np.int32)
        assert list(details["shape"]) == [1, n]
        shapes = [[hypotheses, m], [hypotheses], [hypotheses, m, n]]
        outputs = runner.get_output_details()
        for output, shape, kind in zip(
            OUTPUTS, shapes, (np.int32, np.float32, np.float32), strict=True
        ):
            assert outputs[output]["dtype"] == kind
            assert list(outputs[output]["shape"]) == shape
        assert manifest["signatures"][name] == {
            "inputs": [{"name": "text", "dtype": "int32", "shape": [1, n]}],
            "outputs": [
                {"name": output, "dtype": kind, "shape": shape}
                for output, kind, shape in zip(
                    OUTPUTS, ("int32", "float32", "float32"), shapes, strict=True
                )
            ],
        }


def test_the_default_signature_is_what_a_runtime_without_names_runs(path):
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    (source,) = interpreter.get_input_details()
    assert list(source["shape"]) == [1, 16]
    row = np.zeros((1, 16), np.int32)
    row[0, :3] = [ord(character) for character in "fed"]
    interpreter.set_tensor(source["index"], row)
    interpreter.invoke()
    outputs = [
        interpreter.get_tensor(details["index"])
        for details in interpreter.get_output_details()
    ]
    named = Translator(path).run(row)
    assert text_of(outputs[0][0]) == "D3 E4 F5"
    for output, name in zip(outputs, OUTPUTS, strict=True):
        np.testing.assert_array_equal(output, named[name])


def test_outputs_have_one_order_by_position_in_every_signature(model):
    assert model.signatureDefs[0].signatureKey == b"translate"
    assert model.signatureDefs[0].subgraphIndex == 0
    for signature in model.signatureDefs:
        graph = model.subgraphs[signature.subgraphIndex]
        names = {tensor.tensorIndex: tensor.name for tensor in signature.outputs}
        assert tuple(names[index].decode() for index in graph.outputs) == OUTPUTS
        assert [tensor.name.decode() for tensor in signature.inputs] == ["text"]


def test_outside_there_are_int32_and_float32_only_and_inside_no_variables(model):
    kinds = schema.TensorType
    for signature in model.signatureDefs:
        graph = model.subgraphs[signature.subgraphIndex]
        for index in (*graph.inputs, *graph.outputs):
            assert graph.tensors[index].type in (kinds.INT32, kinds.FLOAT32)
            assert min(graph.tensors[index].shape) > 0
            assert graph.tensors[index].shapeSignature is None
    for graph in model.subgraphs:
        assert not any(tensor.isVariable for tensor in graph.tensors)


def test_no_file_has_an_operator_that_a_stock_runtime_lacks(path, recipe, manifest):
    data = path.read_bytes()
    assert not any(name.startswith("CUSTOM") for name in operators(data))
    assert operators(data) == manifest["models"][recipe]["operators"]
    if recipe != "float16":
        assert forbidden_operators(data) == []


def test_int4_weights_are_never_the_one_that_some_runtimes_compute_wrongly(report):
    data = (report.folder / tflite_name("int4")).read_bytes()
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(data))
    buffers = {
        tensor.buffer
        for graph in model.subgraphs
        for tensor in graph.tensors
        if tensor.type == schema.TensorType.INT4
    }
    assert len(buffers) >= 3
    for index in buffers:
        pairs = np.array(model.buffers[index].data, np.uint8)
        assert not (pairs & 15 == 8).any() and not (pairs >> 4 == 8).any()


def test_any_int32_pattern_gets_a_defined_answer(path):
    translator = Translator(path)
    generator = np.random.default_rng(0)
    limits = np.iinfo(np.int32)
    for length in LENGTHS:
        shape = (1, length)
        values = (0, -1, limits.min, limits.max, 0xD800, ord("a"))
        rows = [np.full(shape, value) for value in values]
        rows += [generator.integers(limits.min, limits.max, shape) for _ in range(15)]
        rows += [generator.integers(0, 0x110000, shape) for _ in range(15)]
        rows += [generator.integers(90, 110, shape) for _ in range(15)]
        for row in rows:
            for beam in (False, True):
                assert_defined(translator.run(row.astype(np.int32), beam=beam))


def assert_defined(found):
    texts, alignment = found[TEXT], found[ALIGNMENT]
    real = np.cumsum(texts == 0, axis=1) == 0
    assert (texts >= 0).all() and (texts <= 0x10FFFF).all()
    assert not ((texts >= 0xD800) & (texts <= 0xDFFF)).any()
    assert not texts[~real].any()
    assert np.isfinite(found[SCORE]).all() and (found[SCORE] <= 0).all()
    assert (np.diff(found[SCORE]) <= 0).all()
    np.testing.assert_allclose(alignment[real].sum(axis=1), 1, atol=1e-3)
    assert not alignment[~real].any()


def test_empty_text_gives_empty_text_and_score_0(path):
    (found,) = Translator(path).translate([""])[0]
    assert (found.text, found.score) == ("", 0)


def test_a_lone_file_describes_itself(path, keras, manifest, tmp_path):
    alone = Path(shutil.copy(path, tmp_path / "alone.tflite"))
    with zipfile.ZipFile(io.BytesIO(alone.read_bytes())) as files:
        inside = json.loads(files.read(MANIFEST))
        lines = files.read(TARGET_VOCABULARY).decode().splitlines()
    # What the file is; how good it is was measured when it was there.
    assert inside == {**manifest, "models": {}, CHECKSUM: ANY}
    assert tuple(lines) == keras.target_tokenizer.pieces
    assert Translator(alone)("abc") == keras.translate(["abc"])[0][0].text


def test_the_manifest_says_what_is_in_the_folder(report, manifest):
    assert manifest["format"] == 1
    assert manifest["beam_size"] == BEAM
    assert manifest["source"]["max_code_points"] == 16
    assert manifest["target"]["tokenizer"] == "word"
    assert list(manifest["models"]) == list(RECIPES)
    for name, model in manifest["models"].items():
        data = (report.folder / model["file"]).read_bytes()
        assert model["file"] == tflite_name(name)
        assert model["bytes"] == len(data)
        assert model["sha256"] == hashlib.sha256(data).hexdigest()
        assert model["quality"]["examples"] == 150
        assert {"wer", "per"} <= set(model["quality"])
        assert model["milliseconds"] > 0


def test_a_scale_a_row_needs_a_newer_runtime(manifest):
    needed = {
        name: model["minimum_runtime"] for name, model in manifest["models"].items()
    }
    assert needed["int8"] == "2.17.0"
    assert [int(number) for number in needed["float32"].split(".")] <= [2, 14]


def test_golden_lines_hold_in_every_file(report, path, recipe):
    text = (report.folder / GOLDEN).read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    assert len(lines) >= 100
    assert any(not line["text"].isalpha() for line in lines)
    translator = Translator(path)
    for line in lines:
        row = np.zeros((1, 16), np.int32)
        codes = [ord(c) for c in line["text"].split("\0")[0][:16]]
        row[0, : len(codes)] = codes
        found = translator.run(row)
        assert text_of(found[TEXT][0]) == line["translation"]
        tolerance = 1e-3 if recipe == "float32" else 0.05
        assert abs(found[SCORE][0] - line["score"]) <= tolerance


@pytest.mark.parametrize("xnnpack", [True, False])
def test_golden_lines_hold_under_all_kernels(report, path, recipe, xnnpack):
    """The built-in kernels are what iOS uses where an app does not ask otherwise."""
    kernels = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(
        str(path),
        experimental_op_resolver_type=OpResolverType.AUTO if xnnpack else kernels,
    )
    run = interpreter.get_signature_runner(TRANSLATE)
    run_beam = interpreter.get_signature_runner(TRANSLATE_BEAM)
    tolerance = 1e-3 if recipe == "float32" else 0.05
    for line in golden(report, GOLDEN):
        assert list(line) == ["text", "translation", "score", "search"]
        found = run(text=as_an_app_does(line["text"]))
        assert text_of(found[TEXT][0]) == line["translation"]
        assert abs(found[SCORE][0] - line["score"]) <= tolerance
    for line in golden(report, GOLDEN_BEAM):
        found = run_beam(text=as_an_app_does(line["text"]))
        there = len(line["translations"])
        texts = [text_of(codes) for codes in found[TEXT]]
        assert texts[:there] == line["translations"]
        np.testing.assert_allclose(found[SCORE][:there], line["scores"], atol=tolerance)


def test_golden_lines_are_chosen_under_both_sets_of_kernels(
    small_run, tmp_path, monkeypatch
):
    asked = []

    def golden_lines(translator, files, sources, *, is_longest, beam_size=None):
        assert is_longest
        opened = [(opener(), tolerance) for opener, tolerance in files]
        asked.append((beam_size, [opener.keywords["xnnpack"] for opener, _ in files]))
        assert [tolerance for _, tolerance in opened] == [1e-3, 1e-3]
        return ['{"text": "", "translation": "", "score": 0.0}'] * 100

    monkeypatch.setattr(bundle, "golden_lines", golden_lines)
    options = Options(recipes=("float32",), beam_size=2)
    assert export_bundle(small_run, options, output=tmp_path / "out").passed
    assert asked == [(None, [True, False]), (2, [True, False])]


def test_another_exporter_is_one_function(small_run, tmp_path, monkeypatch):
    def export_name(trained, options, folder):
        assert len(trained.sets["dev"].expected) == 8 and options.saved_model
        (folder / "model-name.tflite").write_text(trained.config.name)
        return Outcome(notes=("a note",))

    monkeypatch.setattr(bundle, "EXPORTERS", (export_name,))
    options = Options(recipes=(), saved_model=True)
    report = export_bundle(small_run, options, output=tmp_path / "out")
    assert report.passed and list(report.notes) == ["a note"]
    assert (tmp_path / "out" / "model-name.tflite").read_text() == "backwards"


def test_after_a_failure_no_other_exporter_is_asked(small_run, tmp_path, monkeypatch):
    def failing(trained, options, folder):
        return Outcome(failures=("a failure",))

    monkeypatch.setattr(bundle, "EXPORTERS", (failing, None))  # which cannot be called
    assert list(failed_export(small_run, tmp_path)) == ["a failure"]


def golden(report, name):
    lines = (report.folder / name).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def as_an_app_does(text):
    codes = [ord(c) for c in unicodedata.normalize("NFC", text.split("\0")[0])][:16]
    return np.array([codes + [0] * (16 - len(codes))], np.int32)


def test_golden_lines_say_with_which_search_they_were_found(report):
    assert {line["search"] for line in golden(report, GOLDEN)} == {"greedy"}
    lines = golden(report, GOLDEN_BEAM)
    assert len(lines) >= 20
    for line in lines:
        assert list(line) == ["text", "translations", "scores"]
        assert (
            len(line["translations"])
            == len(line["scores"])
            == (BEAM if line["text"].strip("\0") else 1)
        )
        assert line["scores"] == sorted(line["scores"], reverse=True)


# Its arguments: the folder of the wrapper, the bundle.
ANSWERED = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pocketseq_model import Model
model = Model(sys.argv[2])
texts, beams = json.load(sys.stdin)
print(json.dumps([
    [model(text) for text in texts],
    [[one.text for one in model.best(text)] for text in beams],
    sorted(model._runners),
]))
"""


def test_the_wrapper_in_a_bundle_calls_the_shortest_length_that_holds_a_text(report):
    lines = golden(report, GOLDEN), golden(report, GOLDEN_BEAM)
    texts = [[line["text"] for line in some] for some in lines]
    assert any(len(text) > 8 for text in texts[0])
    folder = report.folder / APPS / "python"
    done = subprocess.run(
        [sys.executable, "-c", ANSWERED, folder, report.folder], check=True,
        input=json.dumps(texts), stdout=subprocess.PIPE, encoding="utf-8",
    )  # fmt: skip
    answers, best, called = json.loads(done.stdout)
    assert answers == [line["translation"] for line in lines[0]]
    assert best == [line["translations"] for line in lines[1]]
    assert {"translate", "translate_8", "translate_beam_8"} <= {*called}


def test_an_existing_folder_is_kept_without_force(trained_run, report):
    with pytest.raises(UserError, match="--force"):
        export_bundle(trained_run, Options(), output=report.folder)


def test_an_export_knows_all_that_it_has_written(report):
    refuse_to_destroy(report.folder, force=True)


def test_force_replaces_no_folder_that_is_not_an_export(trained_run, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="no export is in it"):
        export_bundle(trained_run, Options(), output=tmp_path, force=True)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_force_replaces_an_older_export(small_run, tmp_path):
    old = tmp_path / "out"
    old.mkdir()
    (old / MANIFEST).write_text(OLD_BUNDLE)
    (old / tflite_name("int4")).write_text("old")
    options = Options(recipes=(), saved_model=True)
    report = export_bundle(small_run, options, output=old, force=True)
    assert report.passed
    assert {path.name for path in old.iterdir()} == {
        SAVED_MODEL, MANIFEST, LICENSES, MODEL_CARD,
    }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_older_export_survives_one_that_fails(small_run, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / MANIFEST).write_text(OLD_BUNDLE)
    monkeypatch.setattr(files, "convert", lambda _: model_with_a_flex_operator())
    options = Options(recipes=("float32",))
    report = export_bundle(small_run, options, output=tmp_path / "out", force=True)
    assert not report.passed
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == [MANIFEST]


def wrong_weights(monkeypatch, change, *, only_beam=False):
    """Lets a change of the output bias into what is converted, and nowhere else.

    The Keras model's answers are known already, and the weight is put back.
    """
    original = files.translate_function

    def changed(translator, *, beam_size=None, **options):
        bias = translator.model.decoder.output_bias
        before = bias.numpy()
        if beam_size or not only_beam:
            bias.assign(change(before))
        function = original(translator, beam_size=beam_size, **options)
        function.get_concrete_function()  # traced while the weight is wrong
        bias.assign(before)
        return function

    monkeypatch.setattr(files, "translate_function", changed)


def test_a_wrong_weight_stops_the_export(small_run, tmp_path, monkeypatch):
    wrong_weights(monkeypatch, lambda bias: np.roll(bias + np.arange(len(bias)), 1))
    (failure,) = failed_export(small_run, tmp_path)
    assert "dev texts differ from Keras" in failure
    assert "Keras says" in failure


def test_a_weight_that_is_no_number_stops_the_export(small_run, tmp_path, monkeypatch):
    wrong_weights(monkeypatch, lambda bias: np.full_like(bias, np.nan))
    (failure,) = failed_export(small_run, tmp_path)
    assert "8 of 8 dev texts differ from Keras" in failure


def test_a_beam_that_differs_stops_the_export(small_run, tmp_path, monkeypatch):
    wrong_weights(
        monkeypatch, lambda bias: bias + 0.5 * (np.arange(len(bias)) == END),
        only_beam=True,
    )  # fmt: skip
    (failure,) = failed_export(small_run, tmp_path, beam_size=2)
    assert "dev texts differ from Keras" in failure
    assert "hypothesis 1: Keras' score" in failure


def test_a_forbidden_operator_stops_the_export(small_run, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "convert", lambda _: model_with_a_flex_operator())
    (failure,) = failed_export(small_run, tmp_path)
    assert failure.startswith("float32: operators not allowed: CUSTOM:Flex")


def test_a_quantized_file_that_loses_too_much_stops_the_export(
    small_run, tmp_path, monkeypatch
):
    original = EncoderDecoder.token_tables

    def with_shuffled_rows(model, *, target, **others):
        tables = original(model, target=target, **others)
        if target == 8:
            assert isinstance(tables.target, TokenTable)
            rows = tables.target.rows
            order = np.random.default_rng(0).permutation(len(rows.values))
            rows.values = rows.values[order]
        return tables

    monkeypatch.setattr(EncoderDecoder, "token_tables", with_shuffled_rows)
    (failure,) = failed_export(small_run, tmp_path, recipes=("int8",))
    assert failure.startswith("int8: loses ")
    assert "expected at most 0.5" in failure


def test_a_file_that_needs_a_newer_runtime_is_not_called_compatible(
    small_run, tmp_path, monkeypatch
):
    asked = []
    original = files.quantize_weights

    def quantize_weights(model, recipe, *, compatible):
        asked.append(compatible)
        return original(model, recipe, compatible=compatible)

    monkeypatch.setattr(files, "quantize_weights", quantize_weights)
    monkeypatch.setattr(files, "minimum_runtime", lambda _: "2.17.0")
    (failure,) = failed_export(small_run, tmp_path, compatible=True)
    assert failure.startswith("float32: needs runtime 2.17.0, expected at most 2.14.0")
    assert asked == [True]


def test_a_failed_export_leaves_no_folder_on_the_way(small_run, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "convert", lambda _: model_with_a_flex_operator())
    options = Options(recipes=("float32",))
    report = export_bundle(small_run, options, output=tmp_path / "a" / "b" / "out")
    assert not report.passed
    assert list(tmp_path.iterdir()) == []
