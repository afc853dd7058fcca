import json
import math
import shutil
import subprocess
import sys

import numpy as np
import pytest

from pocketseq.pipeline.configuration import Config, TrainingConfig, override
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.evaluation import evaluate
from pocketseq.pipeline.runs import Run, read_arrays
from pocketseq.pipeline.training import (
    learning_rate,
    smoothed_loss,
    start_run,
    train,
    training_corpora,
)

# A model so small that what matters is how its training goes, not what it learns.
TINY = [
    "target.tokenizer=word", "source.max_code_points=4", "target.max_code_points=12",
    "model.embedding_size=4", "model.units=4", "model.bidirectional=false",
    "model.dropout=0.2", "training.updates=12", "training.evaluate_every=4",
    "training.batch_tokens=48", "training.buckets=1", "training.warmup_updates=3",
]  # fmt: skip


def tiny_config(folder, *settings):
    files = [f"data.train={folder / 'train.tsv'}", f"data.dev={folder / 'dev.tsv'}"]
    return override(Config(), [*TINY, *files, *settings])


@pytest.fixture(scope="module")
def few_words(tmp_path_factory):
    """A corpus of 40 words: a few batches make an epoch."""
    folder = tmp_path_factory.mktemp("few")
    words = [a + b for a in "abcdef" for b in "abcdefgh"]
    for name, part in (("train", words[:40]), ("dev", words[40:])):
        lines = (f"{word}\t{word[1].upper()} {word[0].upper()}\n" for word in part)
        (folder / f"{name}.tsv").write_text("".join(lines))
    return folder


@pytest.fixture(scope="module")
def started(few_words, tmp_path_factory):
    """A run that has not been trained yet."""
    run = Run(tmp_path_factory.mktemp("started") / "run")
    start_run(run, tiny_config(few_words))
    return run


@pytest.fixture
def copy(tmp_path):
    """Returns a function that copies a run, with other settings if need be."""

    def copy(run, *settings):
        folder = tmp_path / "copy"
        shutil.copytree(run.folder, folder)
        other = Run(folder)
        other.config_path.write_text(override(run.config(), settings).to_toml())
        return other

    return copy


@pytest.fixture(scope="module")
def finished(started, tmp_path_factory):
    """The same run after all updates without a break."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    shutil.copytree(started.folder, folder)
    summary = train(Run(folder))
    assert summary.reason == "all updates done"
    return Run(folder)


def metrics_of(run):
    lines = map(json.loads, run.metrics_path.read_text().splitlines())
    return [
        {k: v for k, v in line.items() if k != "tokens_per_second"} for line in lines
    ]


def assert_same_outcome(run, other):
    """Weights, averages, optimizer, counters, best weights and metrics, to the bit."""
    for path, expected in (
        (run.checkpoint_paths()[0], other.checkpoint_paths()[0]),
        (run.best_path, other.best_path),
    ):
        assert path.name == expected.name
        arrays, wanted = read_arrays(path), read_arrays(expected)
        assert set(arrays) == set(wanted)
        for name, value in wanted.items():
            np.testing.assert_array_equal(arrays[name], value, err_msg=name)
    assert metrics_of(run) == metrics_of(other)


def stop_at(update):
    def on_progress(progress):
        if progress.update == update:
            raise KeyboardInterrupt

    return on_progress


def test_the_loss_is_smoothed_cross_entropy_summed_over_real_tokens():
    generator = np.random.default_rng(3)
    logits = generator.normal(size=(3, 4, 5)).astype(np.float32)
    target_ids = generator.integers(0, 5, (3, 4)).astype(np.int32)
    lengths = np.array([4, 1, 0], np.int32)
    expected = 0.0
    for row, length in enumerate(lengths):
        for place in range(length):
            scores = logits[row, place].astype(np.float64)
            log_p = scores - np.log(np.exp(scores).sum())
            wanted = np.full(5, 0.1 / 5)
            wanted[target_ids[row, place]] += 0.9
            expected -= (wanted * log_p).sum()
    found = smoothed_loss(logits, target_ids, lengths, 0.1)
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_the_loss_without_smoothing_is_minus_the_log_probability():
    logits = np.log([[[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]]).astype(np.float32)
    found = smoothed_loss(logits, np.array([[1, 2]]), np.array([2]), 0.0)
    assert float(found) == pytest.approx(-math.log(0.25 * 0.8), rel=1e-5)


def test_the_learning_rate_rises_linearly_then_falls_along_a_cosine():
    settings = TrainingConfig(
        learning_rate=0.01,
        warmup_updates=10,
        updates=110,
        final_learning_rate_share=0.1,
    )
    rate = learning_rate(settings)
    # A quarter of the way down a cosine: (1 + cos 45 degrees) / 2 of the range.
    quarter = 0.001 + 0.009 * (1 + math.sqrt(0.5)) / 2
    expected = {
        0: 0,
        5: 0.005,
        10: 0.01,
        35: quarter,
        60: 0.0055,
        110: 0.001,
        200: 0.001,
    }
    for update, value in expected.items():
        assert float(rate(update)) == pytest.approx(value, rel=1e-5, abs=1e-9)


@pytest.mark.parametrize(("updates", "expected"), [(1, 0.01), (2, 0.0)])
def test_a_training_shorter_than_the_warm_up_still_has_a_learning_rate(
    updates, expected
):
    rate = learning_rate(TrainingConfig(learning_rate=0.01, updates=updates))
    assert float(rate(0)) == pytest.approx(expected)
    assert float(rate(updates - 1)) == pytest.approx(0.01)


def test_it_learns_to_reverse_strings(trained_run, corpus_folder):
    assert min(line["dev_wer"] for line in metrics_of(trained_run)) < 20
    lines = (corpus_folder / "dev.tsv").read_text().splitlines()
    words, targets = zip(*(line.split("\t") for line in lines), strict=True)
    found = trained_run.load().translate(words)
    wrong = sum(b.text != target for (b,), target in zip(found, targets, strict=True))
    assert 100 * wrong / len(words) < 20


def test_a_line_of_metrics_says_where_training_stands(finished, few_words):
    lines = list(map(json.loads, finished.metrics_path.read_text().splitlines()))
    assert [line["update"] for line in lines] == [4, 8, 12]
    batches = math.ceil(40 / (48 // 5))  # rows of 2 source and 3 target tokens
    assert [line["epoch"] for line in lines] == [
        update // batches for update in (4, 8, 12)
    ]
    for line in lines:
        assert {"loss", "dev_wer", "tokens_per_second"} <= set(line)
        assert 0 < line["loss"] < 10
        assert 0 <= line["dev_wer"] <= 100
        assert line["tokens_per_second"] > 0


def test_the_best_weights_have_the_dev_metric_that_was_reported(trained_run):
    config = trained_run.config()
    _, dev = training_corpora(config)
    references = dev.references()
    texts = [best.text for (best,) in trained_run.load().translate(list(references))]
    result = evaluate(list(references.values()), texts, kind="word")
    best = min(line["dev_wer"] for line in metrics_of(trained_run))
    assert result["wer"] == pytest.approx(best, abs=1e-3)


def test_a_run_killed_after_a_checkpoint_goes_on_to_the_same_weights(finished, copy):
    run = copy(finished)
    newest, older = run.checkpoint_paths()
    newest.unlink()
    assert older.name == "update-000000008.npz"
    # What was written after the checkpoint is there, and is done again.
    (run.folder / "checkpoints" / "update-000000012.partial").write_bytes(b"half")
    run.metrics_path.write_text(run.metrics_path.read_text() + '{"update": 1')
    assert train(run).update == 12
    assert_same_outcome(run, finished)


def test_an_interrupted_run_saves_itself_and_goes_on_to_the_same_weights(
    started, finished, copy
):
    run = copy(started)
    summary = train(run, on_progress=stop_at(10))
    assert (summary.reason, summary.update) == ("interrupted", 10)
    assert run.checkpoint_paths()[0].name == "update-000000010.npz"
    assert "--resume" in summary.line(run)
    assert train(run).reason == "all updates done"
    assert_same_outcome(run, finished)


def test_a_run_interrupted_while_it_evaluates_does_that_again(
    started, finished, copy, monkeypatch
):
    run = copy(started)
    evaluations = []

    def interrupted_at_last(*arguments, **options):
        evaluations.append(1)
        if len(evaluations) == 3:
            raise KeyboardInterrupt
        return evaluate(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr("pocketseq.pipeline.training.evaluate", interrupted_at_last)
        assert train(run).reason == "interrupted"
    assert train(run).reason == "all updates done"
    assert_same_outcome(run, finished)


def test_a_deadline_stops_and_keeps_what_is_done(started, copy):
    run = copy(started)
    # As if killed between its first line of metrics and its first checkpoint.
    run.append_metrics(update=4, epoch=0, loss=1.0, dev_wer=50.0)
    summary = train(run, minutes=1e-9)
    assert (summary.reason, summary.update) == ("time is up", 0)
    assert run.checkpoint_paths()[0].name == "update-000000000.npz"
    assert run.best_path.is_file()
    assert [line["update"] for line in metrics_of(run)] == [0]


def test_training_ends_early_when_the_dev_metric_no_longer_improves(started, copy):
    # With such a learning rate nothing changes: the first evaluation stays the best.
    run = copy(
        started, "training.learning_rate=1e-12", "training.evaluate_every=1",
        "training.patience=2", "training.updates=9",
    )  # fmt: skip
    summary = train(run)
    assert summary.reason == "no better dev wer in 2 evaluations"
    assert (summary.update, summary.best_update) == (3, 1)
    assert len(metrics_of(run)) == 3


def test_a_damaged_checkpoint_is_an_error_that_names_it(finished, copy):
    run = copy(finished)
    path = run.checkpoint_paths()[0]
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(UserError, match=f"{path.name}: damaged"):
        train(run)


def test_a_training_without_data_is_an_error(tmp_path):
    with pytest.raises(UserError, match="data.train is empty"):
        start_run(Run(tmp_path / "run"), Config())
    assert not (tmp_path / "run").exists()


def test_broken_lines_stop_before_a_run_is_made(tmp_path):
    (tmp_path / "bad.tsv").write_text("a\tA\nbroken\n")
    config = override(Config(), [f"data.train={tmp_path / 'bad.tsv'}"])
    with pytest.raises(UserError, match="bad.tsv:2"):
        start_run(Run(tmp_path / "run"), config)
    assert not (tmp_path / "run").exists()


def test_without_a_dev_file_a_share_of_the_training_lines_is_held_out(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text("".join(f"w{n}\tX\n" for n in range(1000)))
    config = override(Config(), [f"data.train={path}", "data.dev_share=0.2"])
    train_part, dev_part = map(list, training_corpora(config))
    assert len(train_part) + len(dev_part) == 1000
    assert 130 < len(dev_part) < 270


# The same update of the same batch on one device, then on two.
REPLICAS = """
import sys
from pathlib import Path

import tensorflow as tf

(cpu,) = tf.config.list_physical_devices("CPU")
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
from pocketseq.pipeline.batches import Bucket, training_batches
from pocketseq.pipeline.runs import Run
from pocketseq.pipeline.training import Trainer, training_corpora

mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert mirrored.num_replicas_in_sync == 2
for folder, strategy in zip(sys.argv[1:], [tf.distribute.get_strategy(), mirrored]):
    run = Run(Path(folder))
    config, tokenizers = run.config(), run.load_tokenizers()
    pairs, _ = training_corpora(config)
    trainer = Trainer(run, config, tokenizers, strategy)
    batches = training_batches(pairs, *tokenizers, [Bucket(2, 3, 9)], config, epoch=0)
    _, batch = next(iter(strategy.experimental_distribute_dataset(batches)))
    rows = [len(b.source_ids) for b in strategy.experimental_local_results(batch)]
    assert sum(rows) == 9 and len(rows) == strategy.num_replicas_in_sync, rows
    assert int(trainer.update(batch)) == 9 * 5
    trainer.save()
"""


def test_two_replicas_make_the_same_update_as_one(started, copy, tmp_path):
    run = copy(
        started, "model.dropout=0", "training.clip_norm=0.01",
        "training.learning_rate=1e-3", "training.updates=1",
    )  # fmt: skip
    other = Run(tmp_path / "other")
    shutil.copytree(run.folder, other.folder)
    script = tmp_path / "replicas.py"
    script.write_text(REPLICAS)
    done = subprocess.run(
        [sys.executable, script, run.folder, other.folder],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (read_arrays(each.checkpoint_paths()[0]) for each in (run, other))
    assert len(one) == len(two)
    for (name, value), found in zip(one.items(), two.values(), strict=True):
        if name != "counters":
            np.testing.assert_allclose(found, value, atol=1e-5, err_msg=name)
    # Adam's first moments are a tenth of the gradients, which clipping has shortened.
    moments = [value for name, value in one.items() if "momentum" in name]
    norm = math.sqrt(sum(float(np.square(value).sum()) for value in moments))
    assert norm == pytest.approx(0.1 * 0.01, rel=1e-3)
