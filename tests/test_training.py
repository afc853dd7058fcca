import io
import itertools
import json
import logging
import math
import shutil
import signal
import threading
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pocketseq.pipeline.configuration import Config, override
from pocketseq.pipeline.data.corpora import training_corpora
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.evaluation import evaluate
from pocketseq.pipeline.reports.journal import Journal
from pocketseq.pipeline.runs import Run, read_arrays
from pocketseq.pipeline.training import loop as training
from pocketseq.pipeline.training.checkpoints import restore
from pocketseq.pipeline.training.cluster import Alone
from pocketseq.pipeline.training.loop import train
from pocketseq.pipeline.training.preparation import (
    check_conditions,
    check_unchanged,
    start_run,
)
from pocketseq.pipeline.training.updater import Updater, new_updater
from pocketseq.pipeline.translator import ModelTranslator

# A model so small that what matters is how its training goes, not what it learns.
TINY = [
    "target.tokenizer=word", "source.max_code_points=4", "target.max_code_points=12",
    "model.embedding_size=4", "model.units=4", "model.bidirectional=false",
    "model.dropout=0.2", "training.updates=12", "training.evaluate_every=4",
    "training.batch_tokens=48", "training.buckets=1", "training.warmup_updates=3",
]  # fmt: skip


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
    """A run that has not been trained yet, started in the folder of its data."""
    run = Run(tmp_path_factory.mktemp("started") / "run")
    files = ["data.train=train.tsv", "data.dev=dev.tsv"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(few_words)
        start_run(run, override(Config(), [*TINY, *files]))
    return run


@pytest.fixture(autouse=True, scope="module")
def without_pictures():
    """Pictures of the attention have their own tests, and take their time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Journal, "pictures", 0)
        yield


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
    """Presses Ctrl-C after an update."""

    def on_progress(progress):
        if progress.update == update:
            signal.raise_signal(signal.SIGINT)

    return on_progress


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


def test_a_run_killed_after_a_checkpoint_and_while_it_evaluates_does_that_again(
    finished, copy, monkeypatch
):
    run = copy(finished)
    newest, older = run.checkpoint_paths()
    newest.unlink()
    assert older.name == "update-000000008.npz"
    # What was written after the checkpoint is there, and is done again, as is an
    # evaluation that was reported but not saved.
    (run.folder / "checkpoints" / "update-000000012.partial").write_bytes(b"half")
    run.metrics_path.write_text(run.metrics_path.read_text() + '{"update": 1')

    def killed(*_, **__):
        raise RuntimeError("killed")

    with monkeypatch.context() as patch:
        patch.setattr("pocketseq.pipeline.training.evaluator.evaluate", killed)
        with pytest.raises(RuntimeError, match="killed"):
            train(run)
    assert [line["update"] for line in metrics_of(run)] == [4, 8]
    summary = train(run)
    assert (summary.reason, summary.update) == ("all updates done", 12)
    assert_same_outcome(run, finished)


@pytest.fixture(scope="module")
def broken_off(started, tmp_path_factory):
    """A run that was broken off again and again, and what was so after each time."""
    folder = tmp_path_factory.mktemp("broken-off") / "run"
    shutil.copytree(started.folder, folder)
    run, asked, after = Run(folder), threading.Event(), SimpleNamespace()
    after.run = run
    true_search = ModelTranslator.search

    def killed(*_, **__):
        raise RuntimeError("killed")

    def interrupting(self, *arguments):
        asked.set()
        return true_search(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pocketseq.pipeline.training.loop.training_batches", killed)
        with pytest.raises(RuntimeError, match="killed"):
            train(run)
    after.start = run.checkpoint_paths()[0].name
    # With batches of 2 texts there are some left when the signal comes.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pocketseq.pipeline.translator._ROWS", 2)
        patch.setattr("pocketseq.pipeline.translator.batch_parts", lambda: 1)
        patch.setattr(ModelTranslator, "search", interrupting)
        patch.setattr(training, "interruption", lambda: nullcontext(asked))
        after.evaluating = train(run)
    after.has_best = run.best_path.exists()
    after.updating = train(run, on_progress=stop_at(10))
    after.saved = run.checkpoint_paths()[0].name
    after.end = train(run)
    return after


def test_a_run_killed_before_its_first_update_begins_anew(broken_off):
    assert broken_off.start == "update-000000000.npz"
    assert metrics_of(broken_off.run)[0]["update"] == 4


def test_an_interruption_while_evaluating_ends_that_and_loses_nothing(broken_off):
    summary = broken_off.evaluating
    assert (summary.reason, summary.update) == ("interrupted", 4)
    assert not broken_off.has_best


def test_an_interrupted_run_saves_itself(broken_off):
    summary = broken_off.updating
    assert (summary.reason, summary.update) == ("interrupted", 10)
    assert broken_off.saved == "update-000000010.npz"
    assert "--resume" in summary.line()


def test_whenever_it_is_broken_off_a_run_goes_on_to_the_same_weights(
    broken_off, finished
):
    assert broken_off.end.reason == "all updates done"
    assert_same_outcome(broken_off.run, finished)


def test_a_deadline_stops_and_keeps_what_is_done(started, copy):
    run = copy(started)
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


def cut_off(whole):
    return whole[:-1000]


def with_a_flipped_bit(whole):
    middle = len(whole) // 2
    return whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]


@pytest.mark.parametrize("damaged", [cut_off, with_a_flipped_bit, lambda whole: b""])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    finished, copy, damaged, caplog
):
    run = copy(finished)
    newest, before = run.checkpoint_paths()
    newest.write_bytes(damaged(newest.read_bytes()))
    updater = new_updater(run.config(), run.load_tokenizers())
    with caplog.at_level("INFO"):
        state = restore(run, run.config(), updater, Alone())
    assert f"{newest}: damaged" in caplog.text
    assert "resumed at update 8" in caplog.text
    arrays = read_arrays(before)
    restored = {name: v.numpy() for name, v in updater.variables().items()}
    restored |= state.to_arrays()
    assert set(restored) == set(arrays)
    for name, value in restored.items():
        np.testing.assert_array_equal(value, arrays[name], err_msg=name)


def test_checkpoints_that_are_all_damaged_are_an_error_that_names_them(finished, copy):
    run = copy(finished)
    paths = run.checkpoint_paths()
    for path in paths:
        path.write_bytes(cut_off(path.read_bytes()))
    with pytest.raises(UserError, match="damaged, and there is no checkpoint") as error:
        train(run)
    assert all(path.name in str(error.value) for path in paths)


def test_damaged_best_weights_are_written_anew(finished, copy, caplog):
    run = copy(finished)
    run.best_path.write_bytes(cut_off(run.best_path.read_bytes()))
    train(run)
    assert "best.npz: damaged" in caplog.text
    run.load()


# What has changed between two trainings of a run.


def test_a_run_without_its_checkpoints_is_not_overwritten_by_its_beginning(
    finished, copy
):
    run = copy(finished)
    shutil.rmtree(run.folder / "checkpoints")
    kept = {path: path.read_bytes() for path in (run.best_path, run.metrics_path)}
    expected = "no checkpoint to go on from, but best.npz and metrics.jsonl"
    with pytest.raises(UserError, match=expected):
        train(run)
    assert {path: path.read_bytes() for path in kept} == kept


def test_two_trainings_in_one_folder_are_a_mistake(started, copy):
    run = copy(started)
    with run.locked():
        with pytest.raises(UserError, match="another process is training here"):
            train(run)
    with run.locked():
        pass


def test_a_resumed_run_sums_in_the_parts_it_began_with(started, copy, monkeypatch):
    run = copy(started, "training.parts=3")
    monkeypatch.setattr("pocketseq.pipeline.training.updater.batch_parts", lambda: 2)
    assert new_updater(run.config(), run.load_tokenizers()).parts == 3


@pytest.fixture(scope="module")
def gone_on(finished, few_words, tmp_path_factory):
    """What a run says that goes on after all has changed, and its batches.

    It began by another TensorFlow; its corpus has a line more, and three pairs that
    are too long for it.
    """
    folder = tmp_path_factory.mktemp("gone-on")
    shutil.copytree(few_words, folder / "data")
    shutil.copytree(finished.folder, folder / "run")
    run, path = Run(folder / "run"), folder / "data" / "train.tsv"
    files = [f"data.{part}={folder / 'data' / part}.tsv" for part in ("train", "dev")]
    run.config_path.write_text(override(run.config(), files).to_toml())
    newest, _ = run.checkpoint_paths()
    newest.unlink()
    path.write_text(path.read_text() + "zz\tA B\n" + "abcd\tA B C D\n" * 3)
    shapes = run.shapes()
    shapes["conditions"]["tensorflow"] = "1.0.0"
    run.shapes_path.write_text(json.dumps(shapes))

    batches, said = [], io.StringIO()
    true_update = Updater.update

    def seen(self, batch, update_number):
        batches.append(batch)
        return true_update(self, batch, update_number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Updater, "update", seen)
        handlers = [logging.StreamHandler(said)]
        patch.setattr(logging.getLogger("pocketseq"), "handlers", handlers)
        assert train(run).update == 12
    return said.getvalue(), batches


def test_other_conditions_are_named_when_a_run_goes_on(started, gone_on, caplog):
    check_conditions(started, workers=1)
    assert "other conditions" not in caplog.text
    said, _ = gone_on
    assert "began under other conditions (tensorflow '1.0.0', now '2." in said


@pytest.fixture
def own_corpus(started, finished, copy, few_words, tmp_path):
    """A run that has made 8 of its 12 updates, and the corpus that it reads."""
    shutil.copytree(few_words, tmp_path / "data")
    files = [f"data.{part}={tmp_path / 'data' / part}.tsv" for part in ("train", "dev")]
    run = copy(finished, *files)
    newest, _ = run.checkpoint_paths()
    newest.unlink()
    return run, tmp_path / "data" / "train.tsv"


def test_a_corpus_that_has_become_empty_is_a_mistake(own_corpus):
    run, path = own_corpus
    path.write_text("")
    with pytest.raises(UserError, match="train.tsv: no pairs found"):
        train(run)


def test_a_corpus_that_has_changed_is_said_and_gone_on_with(gone_on):
    said, batches = gone_on
    assert "the train corpus has changed since the run began" in said
    assert len(batches) == 4


def test_an_unchanged_corpus_is_no_matter_for_a_word(own_corpus, caplog):
    run, _ = own_corpus
    check_unchanged(run)
    assert "changed" not in caplog.text


def test_pairs_that_no_batch_holds_are_left_out_and_never_cut(gone_on):
    said, batches = gone_on
    assert "left out 3 pairs that fit no batch of this run" in said
    for batch in batches:
        assert set(batch.source_length.numpy()) <= {0, 2}
        assert set(batch.target_length.numpy()) <= {0, 3}


def test_a_corpus_of_which_no_pair_fits_is_a_mistake(own_corpus):
    run, path = own_corpus
    path.write_text("abcd\tA B C D\n" * 40)
    with pytest.raises(UserError, match="no pair fits the batches of this run"):
        train(run)


def test_a_corpus_that_disappears_while_training_is_a_mistake(own_corpus):
    run, path = own_corpus

    def lose_it(_):
        path.unlink(missing_ok=True)

    config = override(run.config(), ["training.updates=5000"])
    run.config_path.write_text(config.to_toml())
    with pytest.raises(UserError, match="train.tsv: no such file"):
        train(run, on_progress=lose_it)


def test_a_run_is_trained_from_any_folder(started, finished, few_words):
    """It was started with names of files in a folder, and trained in another."""
    assert Path.cwd() != few_words
    assert started.config().data.train == str(few_words / "train.tsv")
    assert finished.checkpoint_paths()[0].name == "update-000000012.npz"


def test_an_interruption_while_pairs_are_shuffled_ends_the_training(
    started, copy, monkeypatch
):
    run, asked = copy(started), threading.Event()

    class Endless:
        """So many pairs that the first batch does not come before the signal."""

        def __iter__(self):
            for number, pair in enumerate(itertools.cycle(corpus)):
                if number == 5000:
                    asked.set()
                yield pair

    corpus, dev = training_corpora(run.config())
    monkeypatch.setattr(training, "training_corpora", lambda *_: (Endless(), dev))
    monkeypatch.setattr(training, "interruption", lambda: nullcontext(asked))
    summary = train(run)
    assert (summary.reason, summary.update) == ("interrupted", 0)


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
