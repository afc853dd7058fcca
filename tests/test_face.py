"""The package as Python users meet it."""

import importlib
import inspect
import json
import subprocess
import sys

import pytest
from conftest import backwards

import pocketseq
from pocketseq.export.runtime import read_manifest
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.runs import Run

SMALL = [
    "target.tokenizer=word", "model.embedding_size=4", "model.units=4",
    "training.updates=4", "training.evaluate_every=2", "training.batch_tokens=200",
]  # fmt: skip


@pytest.fixture(scope="module")
def exported(full_bundle):
    return full_bundle


def test_the_version_is_that_of_the_installed_package():
    assert pocketseq.__version__.count(".") == 2


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = pocketseq.nothing


@pytest.mark.parametrize("form", ["run", "saved_model", "model-float32.tflite"])
def test_a_model_in_any_form_answers(trained_run, exported, form):
    path = trained_run.folder if form == "run" else exported / form
    ((best,),) = pocketseq.load(path).translate(["bead"])
    assert best.text == backwards("bead")


def test_the_package_export_is_the_function_too():
    # Not by an import statement: type checkers see the function of that name.
    runtime = importlib.import_module("pocketseq.export.runtime")
    assert runtime.Translator
    parameters = inspect.signature(pocketseq.export).parameters
    assert list(parameters)[:2] == ["run", "recipes"]


def test_a_tflite_file_is_opened_and_answers_without_tensorflow(exported):
    code = (
        "import sys, json, pocketseq\n"
        "translator = pocketseq.load(sys.argv[1])\n"
        "((best,),) = translator.translate(['bead'])\n"
        "print(json.dumps([best.text, sorted(sys.modules)]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, exported / "model-float32.tflite"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    text, modules = json.loads(done.stdout)
    assert text == backwards("bead")
    assert not {"tensorflow", "keras"} & set(modules)


def test_a_tflite_file_is_measured_and_shown_without_tensorflow(
    trained_run, exported, corpus_folder, tmp_path
):
    code = (
        "import sys, json, pocketseq\n"
        "model, file, page = sys.argv[1:]\n"
        "result = pocketseq.evaluate(model, file, report=page)\n"
        "pocketseq.compare(model, model, file)\n"
        "print(json.dumps([result, sorted(sys.modules)]))\n"
    )
    model, page = exported / "model-float32.tflite", tmp_path / "page.html"
    done = subprocess.run(
        [sys.executable, "-c", code, model, corpus_folder / "dev.tsv", page],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found, modules = json.loads(done.stdout)
    assert not {"tensorflow", "keras"} & set(modules)
    expected = pocketseq.evaluate(trained_run.folder, corpus_folder / "dev.tsv")
    confidences = [one.pop("confidence") for one in (found, expected)]
    assert found == expected
    # Scores of the file and of Keras agree to three decimals.
    first, second = (one["calibration_error"] for one in confidences)
    assert first == pytest.approx(second, abs=0.5)
    assert "stands in this file" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize("form", ["saved_model", "model-float32.tflite"])
def test_an_exported_model_tells_what_it_knows(trained_run, exported, form):
    expected = trained_run.load().knowledge
    found = pocketseq.load(exported / form).knowledge
    assert found.length_penalty == expected.length_penalty
    assert found.training is None  # of a file, an export keeps the name only
    for side, other in (
        (found.source, expected.source), (found.target, expected.target),
    ):  # fmt: skip
        assert (side.kind, side.normalization) == (other.kind, other.normalization)
        assert side.pieces == (other.pieces if form != "saved_model" else None)


def test_an_exported_model_of_the_dictionary_knows_its_training_pairs(exported):
    manifest = read_manifest(exported / "model-float32.tflite")
    manifest.recipe["data"]["train"] = "cmudict:train"
    training = manifest.knowledge().training
    assert training is not None and training.source == "cmudict:train"


def test_a_run_is_compared_with_its_export(trained_run, exported, corpus_folder):
    found = pocketseq.compare(
        trained_run.folder, exported / "model-float32.tflite", corpus_folder / "dev.tsv"
    )
    assert found["only_a_right"] == found["only_b_right"] == 0
    assert found["counted_in"] == "train.tsv"
    assert found["a"]["wer"] == found["b"]["wer"]


def test_a_run_is_trained_gone_on_with_and_fine_tuned(corpus_folder, tmp_path):
    files = {part: corpus_folder / f"{part}.tsv" for part in ("train", "dev")}
    summary = pocketseq.train(run=tmp_path / "run", settings=SMALL, **files)
    assert (summary.reason, summary.update) == ("all updates done", 4)
    assert summary.run.folder == tmp_path / "run"
    again = pocketseq.train(run=tmp_path / "run", resume=True)
    assert again.update == 4
    tuned = pocketseq.train(
        base=tmp_path / "run", run=tmp_path / "tuned", minutes=1e-9, **files
    )
    assert tuned.run.config().model == summary.run.config().model
    assert tuned.run.config().base == str(tmp_path / "run")


@pytest.mark.parametrize(
    "change",
    [
        {"recipe": "pronunciation"}, {"train": "a.tsv"}, {"dev_target": "a"},
        {"settings": ["training.updates=1"]}, {"base": "b"}, {"skip_bad_lines": True},
    ],
)  # fmt: skip
def test_a_run_that_goes_on_keeps_its_recipe_and_data(trained_run, change):
    with pytest.raises(UserError, match="keeps its own recipe and data"):
        pocketseq.train(run=trained_run.folder, resume=True, **change)


def test_a_model_is_measured_as_its_training_did(trained_run, corpus_folder, tmp_path):
    errors = tmp_path / "errors.tsv"
    result = pocketseq.evaluate(
        trained_run.folder, corpus_folder / "dev.tsv", errors=errors
    )
    lines = trained_run.metrics_path.read_text().splitlines()
    best = min(json.loads(line)["dev_wer"] for line in lines)
    assert result["wer"] == pytest.approx(best, abs=1e-3)
    wrong = round(result["wer"] * result["examples"] / 100)
    assert len(errors.read_text().splitlines()) in (wrong, wrong + 1)  # a heading


def test_where_there_is_no_model_is_a_mistake(tmp_path):
    with pytest.raises(UserError, match="no such model"):
        pocketseq.load(tmp_path / "none")
    with pytest.raises(UserError, match=r"no config.toml in it"):
        pocketseq.export(tmp_path)
    with pytest.raises(UserError, match="expected --run DIR"):
        pocketseq.train(resume=True)
    assert not Run(tmp_path).config_path.exists()
