"""Tests of the pure parts of the benchmarks, against arithmetic by hand."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hostile_calls
import inference_speed
import quantization
import sigmorphon2020
import text_parity
import transliteration
from common import (
    PRODUCT_SIZE,
    comparison_problem,
    print_report,
    product_gflops,
    ratio,
    seconds_of_each,
    text_input,
)
from pocketseq.pipeline.configuration import (
    AttentionConfig,
    Config,
    CosineConfig,
    ModelConfig,
    override,
)
from pocketseq.pipeline.text.special import END, PAD, START
from training.bystanders import Bystanders, busy_ticks
from training.comparison import Contender, Network, Round, compared, with_noise
from training.contenders import (
    Examples,
    Precision,
    TorchSetting,
    Who,
    best_eager_setting,
)
from training.report import data_report, network_report, processor_facts
from training.work import (
    Measurement,
    PaddedBatch,
    Work,
    compile_seconds,
    first_of_each_shape,
    padded_work,
    real_work,
    timed_updates,
    total,
)
from training.workers import Worker, WorkerFailed
from trials import Trial, macro_average

ROOT = Path(__file__).parents[1]
SCRIPTS = (
    "training_speed", "inference_speed", "text_parity", "hostile_calls",
    "sigmorphon2020", "transliteration", "quantization", "spelling", "normalization",
    "multi30k", "gruut", "make_models", "attention",
)  # fmt: skip

# Prints which of the slow packages are there after each --help.
HELP_IN_TURN = """
import contextlib, io, json, os, runpy, sys

answers = {}
for script in sys.argv[1:]:
    sys.path.insert(0, os.path.dirname(script))
    sys.argv = [script, "--help"]
    answer = io.StringIO()
    with contextlib.redirect_stdout(answer):
        try:
            runpy.run_path(script, run_name="__main__")
        except SystemExit as end:
            status = end.code
    loaded = sorted({"tensorflow", "keras", "torch"} & set(sys.modules))
    answers[script] = [status, answer.getvalue(), loaded]
print(json.dumps(answers))
"""


def test_every_benchmark_explains_itself_without_tensorflow():
    scripts = [str(ROOT / "benchmarks" / f"{name}.py") for name in SCRIPTS]
    result = subprocess.run(
        [sys.executable, "-c", HELP_IN_TURN, *scripts], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    answers = json.loads(result.stdout)
    assert list(answers) == scripts
    for status, answer, loaded in answers.values():
        assert status == 0 and "--help" in answer
        assert loaded == []


# common.py


def test_a_report_is_one_line_of_json_with_four_digits(capsys):
    report = {
        "a": 1234.56,
        "b": [0.000123456, 7],
        "c": (float("nan"),),
        "d": {"e": "text", "f": None, "g": True},
    }
    print_report(report)
    assert json.loads(capsys.readouterr().out) == {
        "a": 1235.0,
        "b": [0.0001235, 7],
        "c": [None],
        "d": {"e": "text", "f": None, "g": True},
    }


def test_a_ratio_is_the_median_of_the_rounds_ratios():
    # 2, 3 and 10: their median is 3, where the ratio of the medians would be 9 / 1.
    assert ratio([2, 9, 10], [1, 3, 1]) == 3
    with pytest.raises(ValueError):
        ratio([1, 2], [1])


class Clock:
    """Stands still unless it is advanced."""

    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr("time.perf_counter", lambda: self.now)

    def advance(self, seconds):
        self.now += seconds


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def test_each_input_has_its_own_seconds(clock):
    assert seconds_of_each(clock.advance, [0.5, 2.0, 0.25]) == [0.5, 2.0, 0.25]


def test_the_best_burst_of_products_counts(clock):
    durations = iter([4.0, 2.0, 8.0, 2.0, 4.0])
    found = product_gflops(lambda: clock.advance(next(durations)))
    assert found == pytest.approx(2 * PRODUCT_SIZE**3 / 2.0 / 1e9)


def test_a_text_is_read_as_code_points_and_zeros():
    row = text_input("aé👍", 5)
    assert row.dtype == np.int32
    assert row.tolist() == [0x61, 0xE9, 0x1F44D, 0, 0]
    assert text_input("abc", 2).tolist() == [0x61, 0x62]


def test_only_the_network_that_all_can_build_is_compared():
    assert comparison_problem(ModelConfig()) == ""
    assert comparison_problem(ModelConfig(input_feeding=True)) == ""
    for change in (
        {"encoder_layers": 2},
        {"decoder_layers": 2},
        {"bidirectional": False},
        {"longest_ngram": 3},
        {"attention": AttentionConfig("dot")},
        {"attention": CosineConfig(learned_scale=False)},
        {"tied_output": False},
        {"start_with_end": True},
    ):
        ((key, value),) = change.items()
        problem = comparison_problem(ModelConfig(**change))
        assert problem.startswith(f"model.{key} = {value!r}")


# training/work.py


@pytest.mark.parametrize(("feeding", "multiplications"), [(False, 484), (True, 612)])
def test_operations_are_those_of_the_formula(feeding, multiplications):
    # E = 2, U = 4, H = 2, V = 5; 3 source and 2 target tokens, 6 pairs of them:
    #   source   3 * 2 * (2 * 8 + 2 * 8)    = 192
    #   target   2 * (2 * 16 + 4 * 16)      = 192, and 2 * 4 * 16 = 128 with feeding
    #   readout  2 * (2 * 4 * 2 + 2 * 5)    = 52
    #   pairs    6 * (4 + 4)                = 48
    model = ModelConfig(embedding_size=2, units=4, input_feeding=feeding)
    assert Work(3, 2, 6).flops(model, 5) == 6 * multiplications


def test_work_counts_real_tokens_or_all():
    source, target = np.array([2, 3], np.int32), np.array([1, 4], np.int32)
    assert real_work(source, target) == Work(5, 5, 2 * 1 + 3 * 4)
    assert padded_work(2, 3, 4) == Work(6, 8, 24)
    assert Work(5, 5, 14).tokens == 10
    assert total([Work(1, 2, 3), Work(10, 20, 30)]) == Work(11, 22, 33)


def test_pairs_are_counted_in_more_than_32_bits():
    long = np.array([70_000], np.int32)
    assert real_work(long, long).pairs == 4_900_000_000


def batch_of(source_length, target_length, shape):
    """A batch of texts of 7s, whose targets end with END."""
    (n, m), rows = shape, len(source_length)
    source_ids = np.full((rows, n), PAD, np.int32)
    target_ids = np.full((rows, m), PAD, np.int32)
    for row, (source, target) in enumerate(
        zip(source_length, target_length, strict=True)
    ):
        source_ids[row, :source] = 7
        target_ids[row, :target] = [*[7] * (target - 1), END]
    lengths = np.array(source_length), np.array(target_length)
    return PaddedBatch(source_ids, lengths[0], target_ids, lengths[1])


def test_a_batch_knows_its_work_and_the_decoder_inputs():
    batch = batch_of([2, 3], [1, 4], shape=(3, 4))
    assert batch.shape == (3, 4)
    assert batch.real_work() == Work(5, 5, 14)
    assert batch.padded_work() == Work(6, 8, 24)
    assert batch.decoder_inputs.tolist() == [[START, END, PAD, PAD], [START, 7, 7, 7]]


def test_the_largest_batch_of_each_shape_is_found():
    small, large = batch_of([1], [1], (2, 2)), batch_of([1, 2], [1, 1], (2, 2))
    other = batch_of([1], [3], (2, 3))
    found = first_of_each_shape([small, other, large, small])
    assert [batch.shape for batch in found] == [(2, 2), (2, 3)]
    assert found[0] is large and found[1] is other


def test_updates_count_from_when_they_have_settled(clock):
    batch = batch_of([2, 3], [1, 4], shape=(3, 4))
    given = []

    def batches():
        while True:
            given.append(True)
            yield batch

    # 0.4 s each: two settle the half second, and three more are past one second.
    found = timed_updates(lambda _: clock.advance(0.4), batches(), seconds=1.0)
    assert found.updates == 3 and len(given) == 5
    assert found.seconds == pytest.approx(1.2)
    assert (found.real, found.padded) == (Work(15, 15, 42), Work(18, 24, 72))
    assert found.tokens_per_second == pytest.approx(30 / 1.2)


@pytest.mark.parametrize(("first", "expected"), [(5.0, 8.0), (0.5, 0.0)])
def test_compiling_is_what_first_updates_take_longer(clock, first, expected):
    seen = set()

    def update(batch):
        clock.advance(1.0 if batch in seen else first)
        seen.add(batch)

    assert compile_seconds(update, iter(["a", "b"])) == expected


# training/contenders.py, training/comparison.py


@pytest.mark.parametrize(
    ("speeds", "expected"),
    [
        ({}, TorchSetting()),
        ({(False, "fused"): 2}, TorchSetting(packed=False)),
        ({(True, "foreach"): 2}, TorchSetting(optimizer="foreach")),
        (
            {(False, "fused"): 2, (False, "foreach"): 3},
            TorchSetting(packed=False, optimizer="foreach"),
        ),
        ({(False, "fused"): 3, (False, "foreach"): 2}, TorchSetting(packed=False)),
    ],
)
def test_pytorch_gets_the_fastest_setting(speeds, expected):
    tried = []

    def speed(setting):
        tried.append(setting)
        return speeds.get((setting.packed, setting.optimizer), 1)

    assert best_eager_setting(speed) == expected
    assert len(tried) == 3 and not any(setting.compiled for setting in tried)


def test_the_largest_difference_counts():
    check = compared([(2.0, 3.0), (4.0, 5.5)], [(2.0, 3.0), (4.0, 5.0)])
    assert (check.loss, check.gradient_norm) == (2.0, 3.0)
    assert check.largest_relative_difference == pytest.approx(0.1)
    assert not compared([(float("nan"), 1)], [(1, 1)]).largest_relative_difference <= 1


def test_no_weight_stays_where_training_starts():
    weights = {"bias": np.zeros(1000, np.float32), "scale": np.array(2.0)}
    noisy = with_noise(weights)
    assert noisy["bias"].all() and noisy["scale"] != 2.0
    assert noisy["bias"].dtype == np.float32 and noisy["scale"].shape == ()
    assert np.std(noisy["bias"]) == pytest.approx(0.05, rel=0.1)


# training/bystanders.py


def test_others_have_what_is_busy_and_not_ours(clock, monkeypatch):
    busy = iter([10.0, 16.0])
    monkeypatch.setattr("training.bystanders.busy_seconds", lambda: next(busy))
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    with Bystanders() as others:
        clock.advance(2.0)
    # 6 of 8 core seconds were busy, 5 of them by us.
    assert others.share(5.0) == pytest.approx(1 / 8)


def test_idle_and_waiting_cores_are_not_busy():
    line = "cpu  1 2 4 1000 2000 8 16 32 64 128\n"
    assert busy_ticks(line + "cpu0 5 5 5 5 5 5 5 5 5 5\n") == 1 + 2 + 4 + 8 + 16 + 32


# training/workers.py


def test_a_worker_answers_from_a_process_of_its_own():
    worker = Worker("adder", "collections:deque", [3, 4])
    try:
        worker.ask("append", 7)
        assert worker.ask("index", 7, limit=60) == 2
        assert worker.processor_seconds < 60
        with pytest.raises(WorkerFailed, match="adder: remove failed"):
            worker.ask("remove", 9)
    finally:
        worker.close()


def test_a_worker_that_takes_too_long_is_ended():
    worker = Worker("sleeper", "threading:Event")
    with pytest.raises(TimeoutError, match="sleeper: wait took over 0.1 s"):
        worker.ask("wait", limit=0.1)


# training/report.py


Contenders = dict[tuple[Who, Precision], Contender]


def contender(precision, speeds, *, setting=None):
    """A contender without a process, at ``speeds`` tokens per second."""
    rounds = [
        Round(Measurement(2.0, 4, Work(int(s), int(s), 6), Work(400, 100, 8)), 0.1, 2.0)
        for s in speeds
    ]
    nobody: Any = None
    return Contender(nobody, precision, setting, compile_seconds=1.5, rounds=rounds)


def test_a_networks_report_has_figures_and_ratios_of_the_same_rounds():
    setting = TorchSetting(packed=False)
    contenders: Contenders = {
        ("ours", "float32"): contender("float32", [100, 300, 200]),
        ("ours", "bfloat16"): contender("bfloat16", [400, 400, 400]),
        ("keras", "float32"): contender("float32", [50, 100, 200]),
        ("pytorch", "float32"): contender("float32", [200] * 3, setting=setting),
    }
    model = ModelConfig(embedding_size=2, units=4)
    examples = Examples([], (9, 5))
    network = Network("some", Config(model=model), examples, contenders)
    report = network_report(network)
    assert report["against_keras"] == {"float32": 2.0, "bfloat16": 4.0}
    assert "against_keras_keeping_memory" not in report
    assert report["against_pytorch"] == {"float32": 1.0, "best": 2.0}
    ours = report["ours"]["float32"]
    assert ours["tokens_per_second"] == 200
    assert ours["rounds"] == [100, 300, 200]
    assert ours["milliseconds_per_update"] == 500
    assert ours["real_share"] == 400 / 500
    # The median round: (200 * 64 + 200 * (96 + 26) + 6 * 8) * 6 operations in 2 s, of
    # 2 GFLOP/s.
    flops = (200 * 64 + 200 * 122 + 48) * 6
    assert ours["utilisation_real"] == pytest.approx(flops / 2 / 2e9)
    assert "setting" not in ours
    assert report["pytorch"]["float32"]["setting"]["packed"] is False


def test_without_pytorch_the_report_says_so():
    one: Contenders = {("ours", "float32"): contender("float32", [1])}
    report = network_report(Network("some", Config(), Examples([], (9, 5)), one))
    assert report["pytorch"] is None and "against_pytorch" not in report


def test_the_data_is_described_per_pair_and_per_batch():
    batches = [batch_of([2, 3], [1, 4], (3, 4)), batch_of([1], [1], (3, 4))]
    config = override(Config(name="some"), ["data.train=x.tsv"])
    assert data_report(config, Examples(batches, (9, 5))) == {
        "recipe": "some",
        "train": "x.tsv",
        "pairs": 3,
        "source_tokens": 2.0,
        "target_tokens": 2.0,
        "real_share_of_batches": 12 / 21,
        "tokens_per_batch": 6.0,
    }


def test_a_processor_is_described_by_its_lines():
    text = "processor\t: 0\nmodel name\t: A: B\nflags\t\t: fma avx2\n\nprocessor\t: 1\n"
    facts = processor_facts(text)
    assert facts == {"processor": "1", "model name": "A: B", "flags": "fma avx2"}
    assert processor_facts("") == {}


# inference_speed.py


def test_inference_is_reported_per_text_and_against_the_same_rounds():
    seconds = {
        "whole": [[0.010, 0.030], [0.012, 0.032], [0.500, 0.500]],
        "reading": [[0.001, 0.001]] * 3,
        "reading and encoder": [[0.003, 0.005]] * 3,
        "reading and writing": [[0.002, 0.002]] * 3,
        "products": [[0.005, 0.005], [0.0055, 0.0055], [0.5, 0.5]],
        "products with weights": [[0.004, 0.006]] * 3,
        "pytorch": [[0.060, 0.060], [0.088, 0.088], [0.500, 0.500]],
    }
    report = inference_speed.speed_report(seconds, [(2, 4), (6, 7)])
    assert (report["texts"], report["source_tokens"], report["output_tokens"]) == (
        2, 4.0, 5.5,
    )  # fmt: skip
    # Medians of the rounds: 12 and 32 ms.
    assert report["mean_milliseconds"] == pytest.approx(22)
    assert report["p50_milliseconds"] == pytest.approx(22)
    assert report["p95_milliseconds"] == pytest.approx(31)
    assert report["milliseconds_per_token"] == pytest.approx(44 / 11)
    parts = report["parts_milliseconds"]
    assert parts == pytest.approx({"text": 2.0, "encoder": 3.0, "decoder": 17.0})
    assert report["floor_milliseconds"] == pytest.approx(5.5)
    assert report["weights_only_floor_milliseconds"] == pytest.approx(5.0)
    # Rounds of 40, 44 and 1000 ms against 10, 11 and 1000; against 120, 176 and 1000.
    assert report["times_the_floor"] == pytest.approx(4)
    assert report["pytorch_milliseconds"] == pytest.approx(88)
    assert report["times_faster_than_pytorch"] == pytest.approx(3)


# text_parity.py


def test_hostile_lines_are_texts_that_fit():
    lines = list(text_parity.hostile_lines(["ab cd é " + "x" * 20]))
    assert len(lines) == text_parity.HOSTILE_LINES
    assert max(map(len, lines)) == text_parity.CODE_POINTS
    assert "" in lines
    assert not any("\ud800" <= c <= "\udfff" for line in lines for c in line)
    assert any("ab" in line for line in lines)


# hostile_calls.py

SPECS = {
    "text": ((1, 3), np.int32),
    "score": ((2,), np.float32),
    "alignment": ((1, 3, 2), np.float32),
}


def answer(**changes):
    """An answer of two characters with nothing wrong, but for what is changed."""
    good = {
        "text": np.array([[0x61, 0x10FFFF, 0]], np.int32),
        "score": np.array([-0.5, -0.5], np.float32),
        "alignment": np.array([[[0.5, 0.5], [1, 0], [0, 0]]], np.float32),
    }
    return good | changes


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"text": np.array([[0x61, -1, 0]], np.int32)}, ["text: out of range"]),
        ({"text": np.array([[0x61, 0x110000, 0]], np.int32)}, ["text: out of range"]),
        ({"text": np.array([[0x61, 0xD800, 0]], np.int32)}, ["text: a surrogate"]),
        ({"text": np.array([[0x61, 0x62, 0]])}, ["text: shape or type"]),
        (
            {"score": np.array([-0.5, 0.1], np.float32)},
            ["score: not a log-probability", "score: not sorted"],
        ),
        (
            {"score": np.array([np.nan, -1], np.float32)},
            ["score: not a log-probability"],
        ),
        ({"score": np.array([-2, -1], np.float32)}, ["score: not sorted"]),
        ({"score": np.array([-1], np.float32)}, ["score: shape or type"]),
        (
            {"alignment": np.full((1, 3, 2), 0.5, np.float32)},
            ["alignment: rows do not sum to 1, or to 0 after the text"],
        ),
    ],
)
def test_what_is_wrong_with_an_answer_is_named(changes, expected):
    assert list(hostile_calls.problems_of(answer(**changes), SPECS)) == expected


def test_a_text_that_goes_on_after_its_end_is_named():
    text = np.array([[0x61, 0, 0x62]], np.int32)
    assert "text: something after its end" in hostile_calls.problems_of(
        answer(text=text), SPECS
    )


def test_hostile_texts_are_rows_of_int32():
    generator = np.random.default_rng(1)
    rows = [hostile_calls.hostile_text(generator, 16) for _ in range(200)]
    assert {(row.shape, row.dtype.name) for row in rows} == {((1, 16), "int32")}
    values = np.concatenate(rows)
    assert values.min() < 0 and values.max() > 0x10FFFF
    assert (values[:, -1] == 0).any() and (values[:, -1] != 0).any()


# Trials: trainings that are kept.


def trial_report(wer, minutes, size):
    measured = {"bytes": size, "dev": {"wer": wer, "per": wer / 4}}
    return {"minutes": minutes, "float32": measured, "int8": measured}


def test_a_macro_average_counts_languages_alike():
    reports = [trial_report(10.0, 3.0, 900), trial_report(20.0, 5.0, 800)]
    assert macro_average(reports, "int8", "dev", "wer") == 15.0
    found = sigmorphon2020.macro(reports, ["dev"])
    assert found["float32"]["dev"] == {"wer": 15.0, "per": 3.75}
    assert found["largest_int8_bytes"] == 900
    assert found["longest_minutes"] == 5.0


def test_a_trial_goes_on_where_it_was_and_is_not_made_twice(tmp_path, monkeypatch):
    commands = []

    class Done:
        returncode = 0

    def run(words, **_):
        commands.append(words[2:4])
        (tmp_path / "run").mkdir(exist_ok=True)
        (tmp_path / "run" / "config.toml").touch()
        return Done()

    monkeypatch.setattr("trials.subprocess.run", run)
    trial = Trial("one", tmp_path / "run", ["train", "a-recipe"])
    trial.train()
    trial.train()
    assert commands == [["train", "a-recipe"]]
    stopped = Trial("two", tmp_path / "stopped", ["train", "a-recipe"])
    stopped.run.mkdir()
    (stopped.run / "config.toml").touch()
    stopped.train()
    assert commands[1:] == [["train", "--resume"]]


def test_the_accuracy_of_the_best_counts_any_right_answer_among_them():
    references = [["a", "b"], ["c"], ["d"], ["e"]]
    best = [["b", "x", "y"], ["x", "c", "y"], ["x", "y", "d"], ["x", "y"]]
    found = transliteration.accuracy_of_best(references, best)
    assert found == {"best_1": 25.0, "best_2": 50.0, "best_3": 75.0}


def test_words_of_several_languages_begin_with_their_tags(tmp_path):
    for language in ("fre", "hun"):
        for part in ("train", "dev", "test"):
            (tmp_path / f"{language}_{part}.tsv").write_text(f"{part}\tT\na\tA\n")
    folder = sigmorphon2020.tagged(tmp_path, ["fre", "hun"], tmp_path / "tagged")
    found = (folder / "all_dev.tsv").read_text()
    assert found == "<fre> dev\tT\n<fre> a\tA\n<hun> dev\tT\n<hun> a\tA\n"
    assert (folder / "hun_test.tsv").read_text() == "<hun> test\tT\n<hun> a\tA\n"


def test_files_are_compared_with_the_float32_one():
    def model(size, milliseconds):
        return {
            "bytes": size, "quality": {"wer": 7.0}, "loss": 0.5,
            "milliseconds": milliseconds,
        }  # fmt: skip

    manifest = {"models": {"float32": model(400, 0.5), "int8": model(100, 0.2)}}
    found = quantization.compared(manifest)
    assert found["int8"]["share_of_float32"] == 0.25
    assert found["int8"]["time_of_float32"] == pytest.approx(0.4)
    assert found["float32"]["share_of_float32"] == 1.0
    assert found["int8"]["quality"] == {"wer": 7.0}
