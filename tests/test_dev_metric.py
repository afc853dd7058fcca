"""Which weights a training run keeps, by the dev metric of its task."""

import json
import shutil

import numpy as np
import pytest

from pocketseq.pipeline.configuration import Config, override
from pocketseq.pipeline.errors import TrainingStopped
from pocketseq.pipeline.reports.journal import Journal
from pocketseq.pipeline.runs import Run, read_arrays, write_arrays
from pocketseq.pipeline.training import evaluator
from pocketseq.pipeline.training.loop import train
from pocketseq.pipeline.training.optimization import label_smoothing_loss
from pocketseq.pipeline.training.preparation import start_run
from pocketseq.pipeline.training.updater import Updater
from pocketseq.pipeline.translation import Translation
from pocketseq.pipeline.translator import ModelTranslator

SETTINGS = [
    "source.max_code_points=4", "target.max_code_points=4", "model.embedding_size=4",
    "model.units=4", "model.bidirectional=false", "training.updates=4",
    "training.evaluate_every=1", "training.batch_tokens=48", "training.buckets=1",
]  # fmt: skip


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    """A run from two letters to two digits, not trained yet."""
    folder = tmp_path_factory.mktemp("digits")
    lines = [
        f"{a}{b}\t{i}{j}\n" for i, a in enumerate("abcdef") for j, b in enumerate("gh")
    ]
    (folder / "train.tsv").write_text("".join(lines))
    (folder / "dev.tsv").write_text("".join(lines[:4]))
    files = [f"data.{part}={folder / part}.tsv" for part in ("train", "dev")]
    run = Run(folder / "run")
    start_run(run, override(Config(), [*SETTINGS, *files]))
    return run


@pytest.fixture
def run(started, tmp_path):
    shutil.copytree(started.folder, tmp_path / "run")
    return Run(tmp_path / "run")


@pytest.fixture
def measured(monkeypatch):
    """Returns a function that says what the next evaluations measure.

    Updates and translations do nothing then: what they cost would be for nothing.
    """

    monkeypatch.setattr(Updater, "update", lambda self, *_: 1.0)
    monkeypatch.setattr(
        ModelTranslator,
        "translate",
        lambda self, texts, **_: [[Translation(text, "", 0.0, None)] for text in texts],
    )
    monkeypatch.setattr(Journal, "pictures", 0)

    def script(*results):
        following = iter(results)
        names = ("cer", "exact", "bleu", "chrf")

        def evaluate(references, hypotheses, **_):
            values = dict(zip(names, next(following), strict=True))
            return {"examples": len(references), **values}

        monkeypatch.setattr(evaluator, "evaluate", evaluate)

    return script


def with_settings(run, *settings):
    run.config_path.write_text(override(run.config(), settings).to_toml())
    return run


def lines(run):
    return list(map(json.loads, run.metrics_path.read_text().splitlines()))


def test_a_new_run_keeps_the_metric_that_fits_its_target(started):
    assert started.config().training.metric == "cer"


def test_the_weights_with_the_fewest_character_errors_are_kept(run, measured):
    measured((40, 20, 0, 50), (10, 60, 0, 80), (30, 90, 0, 60), (20, 50, 0, 90))
    summary = train(run)
    assert (summary.metric, summary.best, summary.best_update) == ("cer", 10, 2)
    assert [line["dev_cer"] for line in lines(run)] == [40, 10, 30, 20]


def test_of_equal_character_error_rates_the_more_exact_one_is_kept(run, measured):
    measured((10, 20, 0, 0), (10, 30, 0, 0), (10, 25, 0, 0), (10, 30, 0, 0))
    assert train(run).best_update == 2


@pytest.mark.parametrize(("metric", "update"), [("bleu", 3), ("chrf", 4), ("exact", 2)])
def test_a_recipe_may_let_another_metric_choose(run, measured, metric, update):
    measured((1, 10, 1, 1), (2, 90, 2, 2), (3, 50, 9, 3), (4, 50, 4, 8))
    summary = train(with_settings(run, f"training.metric={metric}"))
    assert (summary.metric, summary.best_update) == (metric, update)
    assert f"best dev {metric}" in summary.line()


def test_early_stopping_follows_the_metric(run, measured):
    measured((10, 1, 0, 0), (20, 2, 5, 5), (30, 3, 6, 6), (1, 4, 7, 7))
    summary = train(with_settings(run, "training.patience=2"))
    assert summary.reason == "no better dev cer in 2 evaluations"
    assert summary.update == 3


def test_a_metric_that_never_moves_is_warned_of(run, measured, caplog):
    measured(*[(40 - i, 20 + i, 0, 50 + i) for i in range(4)])
    train(with_settings(run, "training.metric=bleu"))
    warnings = [r.message for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == 2  # as soon as it is known, and at the end
    assert "dev bleu has been 0.00 at each of 3 evaluations" in warnings[0]
    assert "dev bleu has been 0.00 at each of 4 evaluations" in warnings[1]
    assert "--set training.metric=" in warnings[0]


@pytest.mark.parametrize(
    "results", [[(40 - i, 0, 0, 0) for i in range(4)], [(0, 100, 0, 0)] * 4]
)
def test_a_metric_that_moves_or_is_perfect_is_not(run, measured, caplog, results):
    measured(*results)
    train(run)
    assert "has been" not in caplog.text


def test_a_resumed_run_remembers_what_was_best(run, measured):
    measured((10, 30, 0, 0), (20, 0, 0, 0))
    train(with_settings(run, "training.updates=2"))
    measured((10, 30, 0, 0), (10, 40, 0, 0))
    assert train(with_settings(run, "training.updates=4")).best_update == 4


def test_a_run_from_when_bleu_chose_goes_on_with_the_metric_of_its_task(
    run, measured, caplog
):
    measured((40, 20, 3, 50), (10, 90, 0, 80))
    train(with_settings(run, "training.updates=2", "training.metric=bleu"))
    path = run.checkpoint_paths()[0]
    arrays = read_arrays(path)
    counters = json.loads(str(arrays["counters"]))
    for name in ("metric", "best_rank", "evaluations", "metric_has_moved"):
        del counters[name]
    write_arrays(path, {**arrays, "counters": json.dumps(counters)})
    measured((30, 20, 0, 50), (20, 20, 0, 50))
    run = with_settings(run, "training.updates=4", "training.metric=")
    summary = train(run)
    assert (summary.metric, summary.best, summary.best_update) == ("cer", 20, 4)
    assert "chosen by dev bleu; from here on cer chooses" in caplog.text


def test_a_finished_run_that_another_metric_judges_is_evaluated_by_it(run, measured):
    measured((40, 20, 3, 50), (10, 90, 0, 80))
    train(with_settings(run, "training.updates=2"))
    measured((15, 70, 5, 60))
    summary = train(with_settings(run, "training.metric=exact"))
    assert (summary.metric, summary.best, summary.best_update) == ("exact", 70, 2)
    assert "best dev exact 70.00" in summary.line()


def test_before_the_first_evaluation_the_advice_is_to_begin_anew(run):
    true_loss = label_smoothing_loss(run.config().training)
    with pytest.raises(TrainingStopped) as stopped:
        train(
            with_settings(run, "training.learning_rate=3e-3"),
            loss=lambda logits, batch: true_loss(logits, batch) * np.nan,
        )
    message = str(stopped.value)
    assert "not finite at update 1; before its first evaluation" in message
    assert "the same command with --set training.learning_rate=0.001" in message
    assert "--from" not in message
