"""Tests of pocketseq.pipeline.training.cluster, with real processes on this machine."""

import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.runs import Run, read_arrays
from pocketseq.pipeline.training.cluster import Alone, join_cluster, share

CLI = Path(__file__).parents[1] / "cli.py"

# No process here may take longer than this to end by itself, in seconds.
LIMIT = 120

TINY = [
    "--set", "target.tokenizer=word", "--set", "source.max_code_points=4",
    "--set", "target.max_code_points=12", "--set", "model.embedding_size=4",
    "--set", "model.units=4", "--set", "training.batch_tokens=48",
    "--set", "training.buckets=1", "--set", "training.warmup_updates=3",
    "--set", "training.precision=float32",
]  # fmt: skip

# One update on a worker's share of a batch; its weights and moments go to a file.
ONE_UPDATE = """
import sys
from pathlib import Path

import numpy as np
import tensorflow as tf

from pocketseq.pipeline.training.cluster import join_cluster

cluster = join_cluster()
from pocketseq.pipeline.data.batches import Batch
from pocketseq.pipeline.configuration import Config, override
from pocketseq.pipeline.runs import write_arrays
from pocketseq.pipeline.text.tokenizers import CharacterTokenizer, WordTokenizer
from pocketseq.pipeline.training.updater import new_updater

config = override(Config(), [
    "target.tokenizer=word", "model.embedding_size=4", "model.units=4",
    "model.dropout=0", "training.clip_norm=0.01", "training.learning_rate=1e-3",
    "training.updates=1", "training.precision=float32",
])
tokenizers = CharacterTokenizer.learn(["abcdef"]), WordTokenizer.learn(["A B C D E F"])
folder = Path(sys.argv[1])
updater = new_updater(config, tokenizers, cluster=cluster)
random = np.random.default_rng(5)
rows = range(8)[cluster.index :: cluster.size]
batch = Batch(
    tf.constant(random.integers(4, 10, (8, 3))[rows], tf.int32),
    tf.constant(random.integers(1, 4, 8)[rows], tf.int32),
    tf.constant(random.integers(4, 10, (8, 5))[rows], tf.int32),
    tf.constant(random.integers(1, 6, 8)[rows], tf.int32),
)
tokens = updater.update(batch, 0)
arrays = {name: v.numpy() for name, v in updater.variables().items()}
write_arrays(folder / f"{cluster.index}.npz", {**arrays, "tokens": tokens.numpy()})
"""


def tf_config(size):
    """Returns a TF_CONFIG for each of some workers on this machine."""
    sockets = [socket.socket() for _ in range(size)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    workers = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return [
        json.dumps(
            {
                "cluster": {"worker": workers},
                "task": {"type": "worker", "index": index},
            }
        )
        for index in range(size)
    ]


def start(commands, cwd=None):
    """Starts a worker for each command."""
    return [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env={**os.environ, "TF_CONFIG": described},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=cwd,
        )
        for command, described in zip(commands, tf_config(len(commands)), strict=True)
    ]


def finish(workers):
    """Waits for workers; returns (exit status, standard error) of each."""
    try:
        ended = [worker.communicate(timeout=LIMIT) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    return [
        (worker.returncode, errors)
        for worker, (_, errors) in zip(workers, ended, strict=True)
    ]


def assert_all_ended(workers, status=0):
    for found, errors in finish(workers):
        assert found == status, errors[-3000:]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Four files of pairs, and a dev file."""
    folder = tmp_path_factory.mktemp("shards")
    words = [a + b for a in "abcdef" for b in "abcdefgh"]
    lines = [f"{word}\t{word[1].upper()} {word[0].upper()}\n" for word in words]
    for number in range(4):
        (folder / f"part-{number}.tsv").write_text("".join(lines[number:40:4]))
    (folder / "dev.tsv").write_text("".join(lines[40:]))
    return folder


def training(shards, folder, *more, pattern="part-*.tsv"):
    return [
        CLI, "train", "--train", shards / pattern, "--dev", shards / "dev.tsv",
        "--run", folder, *TINY, *more,
    ]  # fmt: skip


def test_workers_finish_and_only_the_chief_writes(shards, tmp_path):
    size, pattern = 2, "part-0.tsv"  # fewer files than workers share out the pairs
    more = ["--set", "training.updates=12", "--set", "training.evaluate_every=6"]
    folders = [tmp_path / str(index) for index in range(size)]
    assert_all_ended(
        start([training(shards, f, *more, pattern=pattern) for f in folders])
    )
    assert [path for path in folders if path.exists()] == folders[:1]
    lines = (folders[0] / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["update"] for line in lines] == [6, 12]
    positions = read_arrays(Run(folders[0]).checkpoint_paths()[0])["positions"]
    assert positions.shape == (size, 2)


@pytest.fixture(scope="module")
def alone_after_one_update(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    script = folder / "update.py"
    script.write_text(ONE_UPDATE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [str(script), str(folder)])
        runpy.run_path(str(script))
    return script, read_arrays(folder / "0.npz")


def test_an_update_by_workers_is_that_of_one(alone_after_one_update, tmp_path):
    script, expected = alone_after_one_update
    size = 3  # of whose shares of the batch one is smaller
    assert_all_ended(start([[script, tmp_path]] * size))
    first, *others = (read_arrays(tmp_path / f"{i}.npz") for i in range(size))
    for name, value in expected.items():
        np.testing.assert_allclose(first[name], value, atol=1e-6, err_msg=name)
        for other in others:
            np.testing.assert_array_equal(other[name], first[name], err_msg=name)
    # Adam's first moments are a tenth of the gradients, which clipping has shortened.
    moments = [value for name, value in first.items() if "momentum" in name]
    norm = np.sqrt(sum(float(np.square(value).sum()) for value in moments))
    assert norm == pytest.approx(0.1 * 0.01, rel=1e-3)


def test_a_lost_worker_ends_the_others_and_the_chief_has_saved(shards, tmp_path):
    more = ["--set", "training.updates=100000", "--set", "training.evaluate_every=20"]
    more += ["--set", "training.patience=100000"]
    run = Run(tmp_path / "run")
    chief, other = start([training(shards, run.folder, *more)] * 2)
    deadline = time.monotonic() + LIMIT
    while not run.checkpoint_paths() and chief.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    other.send_signal(signal.SIGKILL)
    (status, errors), (killed, _) = finish([chief, other])
    assert (status, killed) == (1, -signal.SIGKILL), errors[-3000:]
    last = errors.splitlines()[-1]
    assert "another worker was lost at update" in last
    assert f"train --run {run.folder} --resume" in last
    saved = json.loads(str(read_arrays(run.checkpoint_paths()[0])["counters"]))
    assert f"update {saved['update_number']};" in last
    # Both go on together until the next request to stop.
    resumed = [CLI, "train", "--run", run.folder, "--resume", "--minutes", "0.001"]
    assert_all_ended(start([resumed] * 2))


def test_a_mistake_on_the_chief_ends_all_workers(shards, tmp_path):
    (tmp_path / "bad.tsv").write_text("a\tA\nbroken\n")
    command = training(tmp_path, tmp_path / "run", pattern="bad.tsv")
    for status, errors in finish(start([command] * 2)):
        assert status == 2
        assert "bad.tsv:2" in errors
        assert "Traceback" not in errors


def described(workers, index=0, role="worker"):
    """Returns a TF_CONFIG, right or wrong."""
    task = {"type": role, "index": index}
    return json.dumps({"cluster": {"worker": workers}, "task": task})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{", "expected {"),
        ("[]", "expected {"),
        ("null", "expected {"),
        ("[" * 10**5, "expected {"),
        ('{"cluster": null, "task": null}', "expected {"),
        (described([]), "there is no worker 0"),
        (described("a:1"), "expected {"),
        (described(["a:1", None]), "expected {"),
        (described(["a:1", ["b:1"]]), "expected {"),
        (described(["a:1", "b"]), "expected {"),
        (described(["a:1", "b:x"]), "expected {"),
        (described(["a:1", "b:99999"]), "expected {"),
        (described(["a:1", "b:0"]), "expected {"),
        (described(["a:1", "a:1"]), "a:1 is there twice"),
        (described(["a:1", "b:1"], index=None), "expected {"),
        (described(["a:1", "b:1"], index=0.0), "expected {"),
        (described(["a:1", "b:1"], index=True), "expected {"),
        (described(["a:1", "b:1"], index=-1), "expected {"),
        (described(["a:1", "b:1"], index="2"), "there is no worker 2"),
        (described(["a:1", "b:1"], role=["worker"]), "expected {"),
        (described(["a:1", "b:1"], role=None), "expected {"),
        ('{"cluster": {"worker": ["a:1"]}}', "expected {"),
        (
            '{"cluster": {"worker": ["a:1"], "ps": ["b:1"]}, '
            '"task": {"type": "worker", "index": 0}}',
            "the role ps has no part",
        ),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
            "there is no worker 1",
        ),
    ],
)
def test_a_wrong_description_of_a_cluster_is_an_error(text, expected, monkeypatch):
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match="TF_CONFIG") as error:
        join_cluster()
    assert expected in str(error.value)
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("role", ["chief", "worker"])
def test_a_cluster_of_one_trains_alone(role, monkeypatch):
    task = {"type": role, "index": 0}
    described = {"cluster": {role: ["127.0.0.1:1"]}, "task": task}
    monkeypatch.setenv("TF_CONFIG", json.dumps(described))
    assert isinstance(join_cluster(), Alone)
    monkeypatch.delenv("TF_CONFIG")
    assert isinstance(join_cluster(), Alone)


def test_alone_everything_stays_as_it_is():
    cluster = Alone()
    assert cluster.is_chief
    assert cluster.sum([1, 2]) == [1, 2]
    assert cluster.broadcast(b"abc") == b"abc"
    np.testing.assert_array_equal(cluster.gather([3, 4]), [[3, 4]])
    arrays = {"a": np.array([1, 2])}
    assert share(cluster, lambda: arrays) is arrays
