"""Shared by all tests: a tiny task, and a model that has learned it.

The task is to spell a word backwards: ``bead`` becomes ``D3 A0 E4 B1``.
"""

import fcntl
import logging
import os
import pickle
import random
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

# Before any test imports TensorFlow.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Tests send it to commands, which ignore it if whoever runs the tests does, as a shell
# does for what runs in the background.
signal.signal(signal.SIGINT, signal.default_int_handler)

LETTERS = "abcdef"
PHONES = {letter: f"{letter.upper()}{i}" for i, letter in enumerate(LETTERS)}


def backwards(word):
    """Returns the right output for a word."""
    return " ".join(PHONES[letter] for letter in reversed(word))


#: Modules whose tests compute in floating point: what they expect must hold with every
#: processor's kernels, so they run a second time without oneDNN's. One for a concern:
#: a SavedModel runs the search of TensorFlow that `model` and `search` hold equal. What
#: a module marks itself does, too.
NUMERIC = {
    "attention", "decoder", "embedding", "encoder", "lstm", "model", "ngrams",
    "optimization", "products", "search", "translator", "updater",
}  # fmt: skip

#: What takes longest begins first, the longest before all, so that no worker is left
#: alone with it at the end. Other modules follow by name.
FIRST = (
    "bundle", "survival", "graph", "cluster", "graph_exceptions", "saved_model",
    "training", "exactness", "keras_layers", "hostile_commands", "reading_and_writing",
    "search", "docs", "distillation", "cli", "tokenizers", "batches",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    def module(item):
        return item.path.stem.removeprefix("test_")

    for item in items:
        if module(item) in NUMERIC:
            item.add_marker(pytest.mark.numeric)
    places = {name: place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: places.get(module(item), len(FIRST)))


@pytest.fixture(autouse=True)
def _own_logging():
    """Undoes what the command line does to the logger, so that tests see its lines."""
    logger = logging.getLogger("pocketseq")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before


# What `pip install ai-edge-litert` brings and its interpreter imports.
_INSTALLED = ("ai_edge_litert", "numpy", "numpy.libs")


@pytest.fixture(scope="session")
def bare_environment(tmp_path_factory):
    """A folder for ``sys.path`` that holds the runtime and nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    site_packages = Path(np.__file__).parents[1]
    for name in _INSTALLED:
        installed = site_packages / name
        if installed.exists():
            (folder / name).symlink_to(installed)
    return folder


@pytest.fixture(scope="session")
def made_once(tmp_path_factory, worker_id):
    """Returns a function that makes a folder once for all workers of a run of tests.

    Its arguments are a name and a function of a folder that is not there yet; it
    returns what that function returned in the worker that came first. Nobody may
    change what is in such a folder.
    """
    top = tmp_path_factory.getbasetemp()
    if worker_id != "master":  # each worker has a folder in that of all
        top = top.parent
    top = top / "made-once"
    top.mkdir(exist_ok=True)

    def made_once(name, make):
        folder, result = top / name, top / f"{name}.pickle"
        with open(top / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not result.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of one that has failed
                result.write_bytes(pickle.dumps(make(folder)))
        return pickle.loads(result.read_bytes())

    return made_once


@pytest.fixture(scope="session")
def corpus_folder(made_once):
    """A folder with ``train.tsv`` (600 lines) and ``dev.tsv`` (150 other words)."""
    return made_once("corpus", _write_corpus)


def _write_corpus(folder):
    generator = random.Random(1)
    different: dict[str, None] = {}
    while len(different) < 750:
        length = generator.randint(2, 5)
        different["".join(generator.choices(LETTERS, k=length))] = None
    words = list(different)
    generator.shuffle(words)
    folder.mkdir()
    for name, part in (("train", words[:600]), ("dev", words[600:])):
        lines = (f"{word}\t{backwards(word)}\n" for word in part)
        (folder / f"{name}.tsv").write_text("".join(lines), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def trained_run(made_once, corpus_folder, tmp_path_factory):
    """A :class:`Run` that has learned the task: a worker's own copy."""
    from pocketseq.pipeline.runs import Run

    trained = made_once("trained", lambda folder: _train(corpus_folder, folder))
    folder = tmp_path_factory.mktemp("runs") / "backwards"
    shutil.copytree(trained, folder)
    return Run(folder)


def _train(corpus_folder, folder):
    from pocketseq.pipeline.configuration import (
        Config,
        DataConfig,
        ModelConfig,
        SideConfig,
        TrainingConfig,
    )
    from pocketseq.pipeline.runs import Run
    from pocketseq.pipeline.training.loop import train
    from pocketseq.pipeline.training.preparation import start_run

    config = Config(
        name="backwards",
        data=DataConfig(
            train=str(corpus_folder / "train.tsv"), dev=str(corpus_folder / "dev.tsv")
        ),
        source=SideConfig(tokenizer="character", max_code_points=16),
        target=SideConfig(tokenizer="word", max_code_points=24),
        model=ModelConfig(embedding_size=32, units=48, dropout=0.0),
        training=TrainingConfig(
            updates=120,
            batch_tokens=400,
            buckets=1,
            learning_rate=5e-3,
            warmup_updates=20,
            average_decay=0.95,
            evaluate_every=60,
        ),
    )
    run = Run(folder)
    start_run(run, config)
    train(run)
    return folder


#: The signatures of the export that tests share: its lengths and its beam.
LENGTHS, BEAM = (16, 8), 3


@pytest.fixture(scope="session")
def full_report(made_once, trained_run):
    """The :class:`Report` of an export with all that there is, which is not changed.

    What it is made of is tested by itself.
    """
    from pocketseq.export.bundle import Options, export_bundle
    from pocketseq.export.recipes import RECIPES

    options = Options(
        recipes=tuple(RECIPES), saved_model=True, beam_size=BEAM, lengths=LENGTHS,
        max_loss=10,
    )  # fmt: skip

    def export(folder):
        folder.mkdir()
        report = export_bundle(trained_run, options, output=folder / "out")
        assert report.passed, report.failures
        assert [path.name for path in folder.iterdir()] == ["out"]
        return report

    return made_once("bundle", export)


@pytest.fixture(scope="session")
def full_bundle(full_report):
    """The folder of that export."""
    return full_report.folder


@pytest.fixture(scope="session")
def app_bundle(made_once, trained_run):
    """The folder of an export for apps: three lengths, a beam, two files.

    Its files run on the old libraries that npm has, too. Golden lines are those of the
    default, here the longest; wrappers call the shortest that holds a text.
    """
    from pocketseq.export.bundle import Options, export_bundle

    options = Options(
        recipes=("float32", "int8"), compatible=True, beam_size=BEAM,
        lengths=(32, 8, 16), max_loss=10,
    )  # fmt: skip

    def export(folder):
        report = export_bundle(trained_run, options, output=folder)
        assert report.passed, report.failures
        return folder

    return made_once("app-bundle", export)
