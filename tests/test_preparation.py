"""Tests of preparing a run, and of starting from a trained one."""

import hashlib
import json
import logging
import random
import shutil

import numpy as np
import pytest

from pocketseq.pipeline.configuration import fine_tuned, override
from pocketseq.pipeline.data.corpora import Corpus, training_corpora
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.runs import Run, read_arrays
from pocketseq.pipeline.text.tokenizers import CharacterTokenizer
from pocketseq.pipeline.training.loop import train
from pocketseq.pipeline.training.preparation import start_run


@pytest.fixture(scope="module")
def tuned(trained_run, corpus_folder, tmp_path_factory):
    """A run that goes on from the trained one, stopped before its first update."""
    run = Run(tmp_path_factory.mktemp("tuned") / "run")
    base = trained_run.config()
    config = override(base, ["training.updates=20", "name=tuned"])
    config = fine_tuned(config, base, trained_run.folder)
    start_run(run, config, trained_run)
    train(run, minutes=1e-9)
    return run


def test_fine_tuning_starts_where_the_other_run_was_best(tuned, trained_run):
    best = min(
        json.loads(line)["dev_wer"]
        for line in trained_run.metrics_path.read_text().splitlines()
    )
    (line,) = map(json.loads, tuned.metrics_path.read_text().splitlines())
    assert line["update"] == 0
    assert line["dev_wer"] == pytest.approx(best)
    expected = trained_run.load_weights()
    for name, value in tuned.load_weights().items():
        np.testing.assert_array_equal(value, expected[name])


def test_fine_tuning_keeps_the_model_and_its_tokenizers(tuned, trained_run):
    config, base = tuned.config(), trained_run.config()
    assert (config.source, config.target) == (base.source, base.target)
    assert config.model == base.model
    assert config.base == str(trained_run.folder)
    assert config.name == "tuned"
    for side in ("source", "target"):
        expected = trained_run.tokenizer_path(side).read_bytes()
        assert tuned.tokenizer_path(side).read_bytes() == expected


def test_fine_tuning_goes_on_before_its_first_checkpoint(tuned, tmp_path):
    run = Run(tmp_path / "run")
    shutil.copytree(tuned.folder, run.folder)
    shutil.rmtree(run.folder / "checkpoints")
    run.best_path.unlink()
    run.metrics_path.unlink()
    train(run, minutes=1e-9)
    for path in (run.best_path, run.checkpoint_paths()[0]):
        arrays = read_arrays(path)
        same = read_arrays(tuned.folder / path.relative_to(run.folder))
        for name, value in same.items():
            np.testing.assert_array_equal(arrays[name], value)


def test_licences_of_both_corpora_hold_for_a_fine_tuned_model(trained_run):
    base = override(trained_run.config(), ["data.license=BSD"])
    config = override(base, ["data.license=mine"])
    assert fine_tuned(config, base, "runs/base").data.license == "BSD; mine"
    assert fine_tuned(base, base, "runs/base").data.license == "BSD"


@pytest.mark.parametrize("is_link", [False, True])
def test_an_empty_folder_is_filled_and_not_replaced(trained_run, tmp_path, is_link):
    # A mount point looks like one, and cannot be replaced.
    folder = tmp_path / "empty"
    folder.mkdir()
    before = folder.stat().st_ino
    run = Run(folder)
    if is_link:
        (tmp_path / "link").symlink_to(folder)
        run = Run(tmp_path / "link")
    start_run(run, trained_run.config())
    assert folder.stat().st_ino == before
    assert {path.name for path in folder.iterdir()} == {
        "config.toml", "source.json", "target.json", "shapes.json",
    }  # fmt: skip


def test_a_folder_that_cannot_be_filled_stays_away(trained_run, tmp_path, monkeypatch):
    def full(path, data):
        raise UserError(f"{path}: cannot be written: No space left on device")

    monkeypatch.setattr(
        "pocketseq.pipeline.training.preparation.write_atomically", full
    )
    with pytest.raises(UserError, match="No space left"):
        start_run(Run(tmp_path / "run"), trained_run.config())
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_weights_cannot_be_started_from(trained_run, tmp_path):
    base = Run(tmp_path / "base")
    shutil.copytree(trained_run.folder, base.folder)
    base.best_path.unlink()
    with pytest.raises(UserError, match="no best.npz yet"):
        start_run(Run(tmp_path / "run"), trained_run.config(), base)
    assert not (tmp_path / "run").exists()


def test_the_training_corpus_is_read_twice(trained_run, tmp_path, monkeypatch):
    passes = []
    true_items = Corpus._items

    def counted(self):
        passes.append(self.source)
        return true_items(self)

    monkeypatch.setattr(Corpus, "_items", counted)
    config = trained_run.config()
    start_run(Run(tmp_path / "run"), config)
    assert sorted(passes) == sorted([config.data.train] * 2 + [config.data.dev])


def test_what_the_machine_decides_is_decided_once_and_kept(
    trained_run, tmp_path, monkeypatch
):
    name = "pocketseq.pipeline.training.preparation."
    monkeypatch.setattr(name + "native_precision", lambda: "bfloat16")
    monkeypatch.setattr(name + "batch_parts", lambda: 3)
    settings = ["precision=auto", "parts=0", "metric="]
    settings = [f"training.{setting}" for setting in settings]
    run = Run(tmp_path / "run")
    start_run(run, override(trained_run.config(), settings))
    decided = run.config().training
    assert (decided.precision, decided.parts) == ("bfloat16", 3)
    assert decided.metric == "wer"


def test_what_the_texts_decide_is_decided_once_and_kept(trained_run, tmp_path, caplog):
    rng = random.Random(1)
    syllables = [chr(rng.randrange(0xAC00, 0xD7A4)) * 2 for _ in range(500)]
    path = tmp_path / "a.tsv"
    path.write_text("".join(f"{s}\tA\n" for s in syllables), encoding="utf-8")
    settings = [f"data.train={path}", "data.dev=", "source.decompose=auto"]
    run = Run(tmp_path / "run")
    caplog.set_level(logging.INFO)
    start_run(run, override(trained_run.config(), settings))
    assert run.config().source.decompose is True
    assert run.load_tokenizers()[0].normalization.decompose is True
    assert "decompose = true" in run.config_path.read_text(encoding="utf-8")
    assert "source.decompose: true" in caplog.text


def test_a_run_begins_with_two_lines_on_its_corpus(trained_run, tmp_path, caplog):
    train_file, dev_file = tmp_path / "train.tsv", tmp_path / "dev.tsv"
    train_file.write_text("abc\tA\nabc\tB\nabc\tB\n" + "cab\tC\n" * 7)
    dev_file.write_text("bca\tA\ncab\tC\n")
    settings = [f"data.train={train_file}", f"data.dev={dev_file}"]
    caplog.set_level(logging.INFO)
    start_run(Run(tmp_path / "run"), override(trained_run.config(), settings))
    first, second = (
        record
        for record in caplog.records
        if record.message.startswith(("train", "dev"))
    )
    assert first.message == (
        "train: 10 pairs; sources with several targets: 1, so that one answer per "
        "source gets at most 90.0 % of the pairs right"
    )
    assert (first.levelname, second.levelname) == ("INFO", "WARNING")
    assert second.message == (
        "dev: 2 pairs; with a source that training has, too: 1; they measure memory "
        "(check names some)"
    )


def test_held_out_texts_are_those_with_the_smallest_hashes(tmp_path, trained_run):
    path = tmp_path / "a.tsv"
    sources = [f"w{n}" for n in range(500)]
    path.write_text("".join(f"{s}\tX\n{s}\tY\n" for s in sources))
    settings = [f"data.train={path}", "data.dev=", "data.dev_texts=7"]
    config = override(trained_run.config(), [*settings, "data.dev_share=0.2"])
    train_corpus, dev = training_corpora(config)
    by_hash = sorted(sources, key=lambda s: hashlib.sha256(s.encode()).digest()[:4])
    found = dev.references()
    assert set(found) == set(by_hash[:7])
    assert all(targets == ["X", "Y"] for targets in found.values())
    assert not set(found) & {pair.source for pair in train_corpus}


@pytest.mark.parametrize(("files", "shards"), [(5, 2), (3, 3), (2, 4), (1, 3)])
@pytest.mark.parametrize("parallel", [False, True])
def test_shards_share_a_corpus_out(tmp_path, files, shards, parallel):
    pairs = [(f"s{n}", f"t{n}") for n in range(40)]
    for number in range(files):
        part = pairs[number::files]
        for name, line in (("x", "{0}"), ("y", "{1}"), ("xy", "{0}\t{1}")):
            lines = "".join(line.format(*pair) + "\n" for pair in part)
            (tmp_path / f"{number}.{name}").write_text(lines)
    source = str(tmp_path / ("*.x" if parallel else "*.xy"))
    target = str(tmp_path / "*.y") if parallel else None
    found = [
        list(Corpus(source, target, shard=(index, shards))) for index in range(shards)
    ]
    assert all(found)
    assert sorted(pair for shard in found for pair in shard) == sorted(pairs)


def test_what_is_counted_for_a_vocabulary_stays_bounded(monkeypatch):
    monkeypatch.setattr("pocketseq.pipeline.text.counts._MOST_COUNTED", 4)
    texts = ["ab" * 9, "c", "d", "e", "ab", "f", "g"]
    tokenizer = CharacterTokenizer.learn(texts)
    assert {"a", "b"} <= set(tokenizer.pieces)
    assert "c" not in tokenizer.pieces
