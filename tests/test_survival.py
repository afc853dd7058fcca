"""Kills, signals, full disks, a loss that is not finite: training outlives them."""

import json
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM

import numpy as np
import pytest
import tensorflow as tf
from test_cli import run_command

from pocketseq.pipeline.configuration import Config, override
from pocketseq.pipeline.errors import TrainingStopped
from pocketseq.pipeline.runs import Run, read_arrays
from pocketseq.pipeline.training.interruption import interruption
from pocketseq.pipeline.training.loop import train
from pocketseq.pipeline.training.optimization import label_smoothing_loss
from pocketseq.pipeline.training.preparation import start_run

CLI = Path(__file__).parents[1] / "cli.py"

# More make the test longer, not different.
KILLS = 1

SETTINGS = [
    "target.tokenizer=word", "source.max_code_points=4", "target.max_code_points=12",
    "model.embedding_size=4", "model.units=4", "model.dropout=0.2",
    "training.batch_tokens=48", "training.buckets=1", "training.warmup_updates=3",
    "training.updates=300", "training.evaluate_every=50",
    "training.patience=1000",
]  # fmt: skip


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    words = [a + b for a in "abcdef" for b in "abcdefgh"]
    for name, part in (("train", words[:40]), ("dev", words[40:])):
        lines = (f"{word}\t{word[1].upper()} {word[0].upper()}\n" for word in part)
        (folder / f"{name}.tsv").write_text("".join(lines))
    return folder


def first_command(corpus, folder):
    settings = [part for setting in SETTINGS for part in ("--set", setting)]
    return [
        sys.executable, CLI, "train", "--train", corpus / "train.tsv",
        "--dev", corpus / "dev.tsv", "--run", folder, *settings,
    ]  # fmt: skip


def resume_command(folder):
    return [sys.executable, CLI, "train", "--run", folder, "--resume"]


def start(command, **options):
    pipe, texts = subprocess.PIPE, [str(part) for part in command]
    return subprocess.Popen(texts, stdout=pipe, stderr=pipe, text=True, **options)


def wait_for(condition, process):
    """Waits until a condition holds or the process has ended."""
    deadline = time.monotonic() + 120
    while not condition() and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ended(process, status=0):
    """Waits for a process; returns its lines of standard error."""
    output, errors = process.communicate(timeout=300)
    assert process.returncode == status, errors[-3000:]
    assert "Traceback" not in errors
    return output, errors.splitlines()


def outcome(run):
    """All arrays and metrics that a run ends with."""
    arrays = read_arrays(run.checkpoint_paths()[0]), read_arrays(run.best_path)
    lines = map(json.loads, run.metrics_path.read_text().splitlines())
    metrics = [
        {k: v for k, v in line.items() if k != "tokens_per_second"} for line in lines
    ]
    return arrays, metrics


def assert_same_outcome(run, other):
    (arrays, metrics), (expected, wanted) = outcome(run), outcome(other)
    assert metrics == wanted
    for found, values in zip(arrays, expected, strict=True):
        assert set(found) == set(values)
        for name, value in values.items():
            np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.fixture(scope="module")
def undisturbed(corpus, tmp_path_factory):
    run = Run(tmp_path_factory.mktemp("undisturbed") / "run")
    ended(start(first_command(corpus, run.folder)))
    return run


def test_whatever_breaks_it_off_a_run_ends_with_the_same_weights(
    corpus, undisturbed, tmp_path
):
    run, moments = Run(tmp_path / "run"), random.Random(3)

    def disturbed(command, number, **options):
        """Sends a signal some time after the next checkpoint."""
        before = run.checkpoint_paths()[:1]
        process = start(command, **options)
        wait_for(lambda: run.checkpoint_paths()[:1] != before, process)
        time.sleep(moments.uniform(0, 0.2))
        process.send_signal(number)
        return process

    # The first checkpoint is there before the first update.
    assert_says_how_to_go_on(disturbed(first_command(corpus, run.folder), SIGTERM), run)
    resume = resume_command(run.folder)
    assert_says_how_to_go_on(disturbed(resume, SIGINT), run)
    assert_a_full_disk_is_one_line_and_harms_nothing(run)
    for _ in range(KILLS):
        disturbed(resume, SIGKILL).communicate()
    ended(start(resume))
    assert_same_outcome(run, undisturbed)


def assert_says_how_to_go_on(process, run):
    output, _ = ended(process, status=130)
    assert f"go on with: train --run {run.folder} --resume" in output
    saved = run.checkpoint_paths()[0].name
    assert f"interrupted at update {int(saved[7:16])}," in output


def assert_a_full_disk_is_one_line_and_harms_nothing(run):
    kept = {path: path.read_bytes() for path in run.checkpoint_paths()}

    def no_room():
        # No file may be as large as a checkpoint.
        size = min(map(len, kept.values())) // 2
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    resume = start(resume_command(run.folder), preexec_fn=no_room)
    _, errors = ended(resume, status=2)
    assert "cannot be written: File too large" in errors[-1]
    assert str(run.folder) in errors[-1]
    assert {path: path.read_bytes() for path in run.checkpoint_paths()} == kept
    assert not list(run.folder.rglob("*.partial"))


def test_a_folder_that_cannot_be_made_is_one_line(corpus, tmp_path):
    (tmp_path / "file").write_text("in the way")
    _, _, *words = first_command(corpus, tmp_path / "file" / "run")
    result = run_command(*words)
    *_, line = result.stderr.splitlines()
    assert result.exit_code == 2 and line.startswith("error:")
    assert str(tmp_path / "file") in line


def test_a_loss_that_is_not_finite_stops_and_keeps_the_weights_before(corpus, tmp_path):
    config = override(Config(), [
        *SETTINGS, f"data.train={corpus / 'train.tsv'}",
        f"data.dev={corpus / 'dev.tsv'}", "training.precision=float32",
    ])  # fmt: skip
    healthy, broken = Run(tmp_path / "healthy"), Run(tmp_path / "broken")
    for run in (healthy, broken):
        start_run(run, config)

    def stop_after(number):
        def on_progress(progress):
            if progress.update >= number:
                signal.raise_signal(SIGINT)

        return on_progress

    assert train(healthy, on_progress=stop_after(30)).update == 30
    true_loss = label_smoothing_loss(config.training)
    seen = tf.Variable(-1)  # counts the batches, of which update 31 sees the 31st

    def breaking_loss(logits, batch):
        loss = true_loss(logits, batch)
        return loss * tf.where(seen.assign_add(1) >= 30, np.nan, 1.0)

    with pytest.raises(TrainingStopped, match="not finite at update 31; "):
        train(broken, loss=breaking_loss)
    kept, wanted = (read_arrays(r.checkpoint_paths()[0]) for r in (broken, healthy))
    for name, value in wanted.items():
        np.testing.assert_array_equal(kept[name], value, err_msg=name)


def test_a_second_interruption_does_not_wait():
    with interruption() as interrupted:
        signal.raise_signal(SIGINT)
        assert interrupted.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(SIGINT)


def test_an_interruption_that_is_ignored_stays_so():
    before = signal.signal(SIGINT, signal.SIG_IGN)  # as of a job in a script
    try:
        with interruption() as interrupted:
            signal.raise_signal(SIGINT)
            assert not interrupted.is_set()
            signal.raise_signal(SIGTERM)
            assert interrupted.is_set()
        assert signal.getsignal(SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(SIGINT, before)
