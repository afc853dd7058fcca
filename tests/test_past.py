"""Runs and files that earlier versions made load, answer and go on for ever.

What they are and what made them: ``tests/past/make.py``.
"""

import json
import shutil
from pathlib import Path

import keras
import pytest

import pocketseq
from pocketseq.pipeline.runs import Run, read_arrays

PAST = sorted(Path(__file__).with_name("past").glob("format_*"))

# Of another processor, which sums up in another order, and of four printed decimals.
ROUNDING = 1e-3

# As they are inside saved models and runs.
SAVED_NAMES = [
    "AttentiveLSTMDecoder", "CosineAttention", "DotProductAttention", "EncoderDecoder",
    "LSTM", "LSTMEncoder", "NoAttention",
]  # fmt: skip


@pytest.fixture(params=PAST, ids=lambda path: path.name)
def past(request, tmp_path):
    """A copy, whose run knows where its data are."""
    folder = tmp_path / "past"
    shutil.copytree(request.param, folder)
    config = folder / "run" / "config.toml"
    config.write_text(config.read_text().replace("@HERE@", str(folder)))
    return folder


@pytest.mark.parametrize("form", ["run", "float32", "int8"])
def test_a_model_answers_as_it_did(past, form):
    saved = json.loads((past / "answers.json").read_text())
    path = past / "run" if form == "run" else past / "bundle" / f"model-{form}.tflite"
    found = pocketseq.load(path).translate(saved["texts"], beam_size=2, n_best=2)
    expected = iter(saved["answers"][form])
    for best in found:
        answers = [next(expected) for _ in range(2)]
        # Of an empty text there is one answer only.
        assert [one.text for one in best] == [text for _, text in answers][: len(best)]
        for one, (score, _) in zip(best, answers, strict=False):
            assert one.score == pytest.approx(float(score), abs=ROUNDING)


@pytest.mark.parametrize("form", ["float32", "int8"])
def test_a_file_gives_its_golden_lines(past, form):
    translator = pocketseq.load(past / "bundle" / f"model-{form}.tflite")
    lines = (past / "bundle" / "golden.jsonl").read_text().splitlines()
    assert len(lines) >= 50
    for line in map(json.loads, lines):
        ((best,),) = translator.translate([line["text"]])
        assert best.text == line["translation"]


def test_a_run_goes_on_to_the_same_end(past):
    (checkpoint,) = Run(past / "run").checkpoint_paths()
    before = Run(past / "run").metrics_path.read_text().splitlines()
    summary = pocketseq.train(run=past / "run", resume=True)
    assert (summary.reason, summary.update) == ("all updates done", 400)
    after = summary.run.metrics_path.read_text().splitlines()
    assert after[0] == before[0] and len(after) == len(before) == 2
    found, expected = json.loads(after[1]), json.loads(before[1])
    assert found["loss"] == pytest.approx(expected["loss"], rel=0.05)
    assert found["dev_wer"] == expected["dev_wer"] == 0
    names = set(read_arrays(summary.run.checkpoint_paths()[0]))
    assert names == set(read_arrays(checkpoint))


def test_a_new_model_has_the_weight_names_of_old_ones(past):
    run = Run(past / "run")
    assert {weight.path for weight in run.load().model.weights} == set(
        read_arrays(run.best_path)
    )


@pytest.mark.parametrize("name", SAVED_NAMES)
def test_a_saved_name_is_still_known(name):
    assert keras.saving.get_registered_object(f"pocketseq>{name}").__name__ == name
