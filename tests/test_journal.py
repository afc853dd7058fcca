"""Tests of pocketseq.pipeline.reports.journal."""

import json
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from pocketseq.pipeline.configuration import Config
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.reports.journal import Journal
from pocketseq.pipeline.runs import Run
from pocketseq.pipeline.training.progress import Progress

EVALUATION: dict[str, Any] = {
    "update": 20,
    "epoch": 1,
    "loss": 0.123456,
    "dev": {"examples": 9, "wer": 12.3456, "per": 3.0},
    "tokens_per_second": 1234.5,
    "learning_rate": 1e-3,
    "attention_scale": 12.34567,
    "better": True,
    "seconds_left": 150.0,
    "pictured": [(["a", "b"], ["X"], np.array([[0.25, 0.75]]))],
}


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def events(run):
    accumulator = EventAccumulator(str(run.folder))
    accumulator.Reload()
    return accumulator


def test_an_evaluation_is_a_line_of_metrics_and_a_line_of_the_log(run, caplog):
    with caplog.at_level("INFO"):
        Journal(run, Config(), 0).evaluation(**EVALUATION)
    assert json.loads(run.metrics_path.read_text()) == {
        "update": 20, "epoch": 1, "loss": 0.12346, "dev_wer": 12.346, "dev_per": 3.0,
        "tokens_per_second": 1234, "learning_rate": 1e-3, "attention_scale": 12.3457,
    }  # fmt: skip
    for part in ("update 20", "dev wer 12.35", "1234 tokens/s", "2 min left", "best"):
        assert part in caplog.text


def test_a_score_without_a_scale_has_no_line_of_it(run):
    Journal(run, Config(), 0).evaluation(**{**EVALUATION, "attention_scale": None})
    assert "attention_scale" not in json.loads(run.metrics_path.read_text())


def test_tensorboard_has_curves_a_picture_and_the_configuration(run):
    journal = Journal(run, Config(name="mine"), 0)
    journal.curve(Progress(50, 100, 0.5, 10.0, {}, "wer"))
    journal.evaluation(**{**EVALUATION, "update": 60})
    found = events(run)
    assert [(e.step, e.value) for e in found.Scalars("loss")] == [
        (50, pytest.approx(0.5)),
        (60, pytest.approx(0.123456)),
    ]
    (wer,) = found.Scalars("dev/wer")
    assert wer.value == pytest.approx(12.3456)
    (picture,) = found.Images("attention/1")
    assert picture.encoded_image_string.startswith(b"\x89PNG")
    (text,) = found.Tensors("configuration")
    assert b'name = "mine"' in text.tensor_proto.string_val[0]


def test_events_that_cannot_be_written_are_a_warning(run, caplog):
    journal = Journal(run, Config(), 0)
    for path in run.folder.glob("events*"):
        path.unlink()
        path.mkdir()
    journal.evaluation(**EVALUATION)
    assert "TensorBoard events not written" in caplog.text
    assert run.metrics_path.is_file()


def test_metrics_that_cannot_be_written_are_an_error(run):
    journal = Journal(run, Config(), 0)
    run.metrics_path.mkdir()
    with pytest.raises(UserError, match="metrics.jsonl: cannot be written"):
        journal.evaluation(**EVALUATION)
