"""The whole export of a trained model, and the reasons for which it must fail."""

import io
import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from pocketseq.export import bundle
from pocketseq.export.bundle import Options, export_bundle
from pocketseq.export.runtime import Translator, text_of
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.model import EncoderDecoder


@pytest.fixture(scope="module")
def report(trained_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle") / "out"
    recipes = ("float32", "int8")
    options = Options(recipes=recipes, max_loss=5)
    return export_bundle(trained_run, options, output=folder)


@pytest.fixture(scope="module")
def keras(trained_run):
    return trained_run.load()


@pytest.fixture(scope="module")
def dev_texts(corpus_folder):
    lines = (corpus_folder / "dev.tsv").read_text(encoding="utf-8").splitlines()
    return [line.split("\t")[0] for line in lines]


@pytest.fixture(scope="module", params=["float32", "int8"])
def path(report, request):
    return report.folder / f"model-{request.param}.tflite"


def failed_export(run, folder, recipes=("float32",)):
    """Exports what must not pass, and checks that nothing is left behind."""
    options = Options(recipes=recipes)
    report = export_bundle(run, options, output=folder / "out")
    assert not report.passed
    assert list(folder.iterdir()) == []
    return report.failures


def test_a_good_export_passes_and_writes_every_file(report):
    assert report.passed, report.failures
    assert {path.name for path in report.folder.iterdir()} == {
        "model-float32.tflite",
        "model-int8.tflite",
        "manifest.json",
        "golden.jsonl",
        "README.md",
        "LICENSES.md",
    }


def test_float32_equals_keras_token_for_token_on_every_dev_text(
    report, keras, dev_texts
):
    file = Translator(report.folder / "model-float32.tflite")
    expected = [best for (best,) in keras.translate(dev_texts)]
    for wanted, (found,) in zip(expected, file.translate(dev_texts), strict=True):
        assert found.text == wanted.text
        assert found.score == pytest.approx(wanted.score, abs=1e-4)
        np.testing.assert_allclose(found.alignment, wanted.alignment, atol=1e-3)


def test_int8_is_much_smaller_and_loses_little(report):
    rows = {file.name: file for file in report.files}
    # A quarter of the weights; the graph, which is half of so small a file, stays.
    assert rows["int8"].bytes < 0.6 * rows["float32"].bytes
    assert abs(rows["int8"].dev["wer"] - rows["Keras"].dev["wer"]) <= 5


def test_the_default_signature_is_as_the_contract_says(path):
    model = Interpreter(str(path))
    assert list(model.get_signature_list()) == ["translate"]
    run = model.get_signature_runner("translate")
    (source,) = run.get_input_details().values()
    assert source["dtype"] == np.int32 and list(source["shape"]) == [1, 16]
    by_position = Interpreter(str(path))
    outputs = [(d["dtype"], list(d["shape"])) for d in by_position.get_output_details()]
    assert outputs == [
        (np.int32, [1, 24]),
        (np.float32, [1]),
        (np.float32, [1, 24, 16]),
    ]


def test_any_int32_pattern_gets_a_defined_answer(path):
    translator = Translator(path)
    generator = np.random.default_rng(0)
    rows = [np.full((1, 16), value) for value in (0, -1, 2**31 - 1, 0xD800, ord("a"))]
    rows += [generator.integers(-(2**31), 2**31 - 1, (1, 16)) for _ in range(60)]
    rows += [generator.integers(0, 0x110000, (1, 16)) for _ in range(60)]
    for row in rows:
        found = translator.run(row.astype(np.int32))
        text, alignment = found["text"][0], found["alignment"][0]
        real = np.cumsum(text == 0) == 0
        assert (text >= 0).all() and (text <= 0x10FFFF).all()
        assert not ((text >= 0xD800) & (text <= 0xDFFF)).any()
        assert not text[~real].any()
        assert np.isfinite(found["score"]).all() and (found["score"] <= 0).all()
        np.testing.assert_allclose(alignment[real].sum(axis=1), 1, atol=1e-3)
        assert not alignment[~real].any()


def test_empty_text_gives_empty_text_and_score_0(path):
    (found,) = Translator(path).translate([""])[0]
    assert (found.text, found.score) == ("", 0)


def test_a_lone_file_describes_itself(path, keras, tmp_path):
    alone = Path(shutil.copy(path, tmp_path / "alone.tflite"))
    with zipfile.ZipFile(io.BytesIO(alone.read_bytes())) as files:
        manifest = json.loads(files.read("manifest.json"))
        lines = files.read("target_vocabulary.txt").decode().splitlines()
    assert manifest["format"] == 1
    assert manifest["target"]["tokenizer"] == "word"
    assert tuple(lines) == keras.target_tokenizer.pieces
    assert Translator(alone)("abc") == keras.translate(["abc"])[0][0].text


def test_the_manifest_says_what_is_in_the_folder(report):
    manifest = json.loads((report.folder / "manifest.json").read_text())
    import hashlib

    assert set(manifest["models"]) == {"float32", "int8"}
    for model in manifest["models"].values():
        data = (report.folder / model["file"]).read_bytes()
        assert model["bytes"] == len(data)
        assert model["sha256"] == hashlib.sha256(data).hexdigest()
        assert {"minimum_runtime", "operators", "quality", "loss"} <= set(model)
    assert manifest["signatures"]["translate"]["inputs"][0]["shape"] == [1, 16]


def test_golden_lines_hold_in_every_file(report):
    text = (report.folder / "golden.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    assert len(lines) >= 100
    assert any(not line["text"].isalpha() for line in lines)
    for name, tolerance in (("float32", 1e-3), ("int8", 0.05)):
        translator = Translator(report.folder / f"model-{name}.tflite")
        for line in lines:
            row = np.zeros((1, 16), np.int32)
            codes = [ord(c) for c in line["text"].split("\0")[0][:16]]
            row[0, : len(codes)] = codes
            found = translator.run(row)
            assert text_of(found["text"][0]) == line["translation"]
            assert abs(found["score"][0] - line["score"]) <= tolerance


def test_an_existing_folder_is_kept_without_force(trained_run, report):
    with pytest.raises(UserError, match="--force"):
        export_bundle(trained_run, Options(), output=report.folder)


def test_force_replaces_no_folder_that_is_not_an_export(trained_run, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="no export is in it"):
        export_bundle(trained_run, Options(), output=tmp_path, force=True)
    assert (tmp_path / "thesis.txt").read_text() == "mine"


def test_a_wrong_weight_stops_the_export(trained_run, tmp_path, monkeypatch):
    original = bundle.translate_function

    def with_a_wrong_weight(translator, **options):
        # Only what is converted is wrong; the Keras model's answers are known already.
        bias = translator.model.decoder.output_bias
        bias.assign(np.roll(bias.numpy() + np.arange(len(bias.numpy())), 1))
        return original(translator, **options)

    monkeypatch.setattr(bundle, "translate_function", with_a_wrong_weight)
    assert "differ from Keras" in failed_export(trained_run, tmp_path)[0]


def test_a_weight_that_is_no_number_stops_the_export(
    trained_run, tmp_path, monkeypatch
):
    original = bundle.translate_function

    def with_nan(translator, **options):
        bias = translator.model.decoder.output_bias
        bias.assign(np.full(bias.shape, np.nan))
        return original(translator, **options)

    monkeypatch.setattr(bundle, "translate_function", with_nan)
    assert "differ from Keras" in failed_export(trained_run, tmp_path)[0]


def test_a_forbidden_operator_stops_the_export(trained_run, tmp_path, monkeypatch):
    from tests.test_flatbuffer import model_with_a_flex_operator

    flex = model_with_a_flex_operator()
    monkeypatch.setattr(bundle, "convert", lambda functions: flex)
    assert "not allowed: CUSTOM:Flex" in failed_export(trained_run, tmp_path)[0]


def test_a_quantized_file_that_loses_too_much_stops_the_export(
    trained_run, tmp_path, monkeypatch
):
    original = EncoderDecoder.use_tables

    def with_a_shuffled_kernel(model, *, int8):
        original(model, int8=int8)
        if int8:
            kernel = model.decoder.readout.kernel
            kernel.assign(np.random.default_rng(0).permutation(kernel.numpy()))

    monkeypatch.setattr(EncoderDecoder, "use_tables", with_a_shuffled_kernel)
    failures = failed_export(trained_run, tmp_path, recipes=("int8",))
    assert "int8: loses" in failures[0]
