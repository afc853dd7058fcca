"""Tests of the comparison of attentions, against arithmetic by hand."""

import json
import math
from functools import partial

import numpy as np
import pytest

import attention
import attention_report
from attention_speed import in_turns
from pocketseq.pipeline.configuration import load_recipe, override
from pocketseq.pipeline.translation import Translation


def test_entropy_is_the_mean_over_output_characters():
    half, sure = [0.5, 0.5, 0, 0], [1, 0, 0, 0]
    translations = [
        Translation("abcd", "xy", 0.0, np.array([half, sure], np.float32)),
        Translation("abcd", "z", 0.0, np.full((1, 4), 0.25, np.float32)),
        Translation("abcd", "", 0.0, np.zeros((0, 4), np.float32)),
    ]
    assert attention.entropy(translations) == pytest.approx((1 + 0 + 2) / 3, abs=1e-6)


def test_means_leave_out_what_is_missing():
    found = attention.means([[1.0, None, None], [3.0, 5.0, None]])
    assert found == [2.0, 5.0, None]


def test_a_spread_is_the_standard_deviation_of_a_sample():
    found = attention.spread([1.0, 2.0, 6.0])
    assert found["mean"] == 3.0
    assert found["spread"] == pytest.approx(math.sqrt(7))
    assert attention.spread([4.0])["spread"] is None


@pytest.mark.parametrize("task", attention.TASKS)
def test_every_score_is_a_setting_of_every_recipe(task):
    one = attention.TASKS[task]
    for score, settings in attention.SCORES.items():
        config = override(load_recipe(one.recipe), [*one.settings, *settings])
        assert not config.model.input_feeding
        assert config.model.attention.score == score.replace("bare", "cosine")


def test_strings_are_spelled_backwards_and_longer_when_tested(tmp_path):
    paths = attention.reversals(tmp_path, tmp_path)
    pairs = [
        [line.split("\t") for line in path.read_text().splitlines()] for path in paths
    ]
    for part in pairs:
        assert all(source[::-1] == target for source, target in part)
    longest = [max(len(source) for source, _ in part) for part in pairs]
    assert longest == [20, 20, 40]


def test_ratios_are_of_the_first():
    calls: list[str] = []
    found = in_turns({name: partial(calls.append, name) for name in ("a", "b")})
    assert found["a"] == 1
    assert calls[:4] == ["a", "b", "a", "b"]


def test_the_table_begins_with_the_best(tmp_path):
    def score(mean):
        quality = {"mean": mean, "spread": 0.5, "values": [mean]}
        return {
            "dev": quality, "test": quality, "float32": quality,
            "bands": {"1": mean, "6": None}, "places": 1.5, "scale": [[10, 12.25]],
        }  # fmt: skip

    report = {
        "tasks": {
            "french": {
                "recipe": "r", "seeds": 3, "metric": "wer", "unit": "letters",
                "scores": {"dot": score(9.0), "cosine": score(8.0)},
                "update_time": {"dot": 0.9, "cosine": 1.0}, "device_time": {},
            }
        }
    }  # fmt: skip
    attention_report.write_results(report, {"french": False}, tmp_path)
    assert json.loads((tmp_path / "attention.json").read_text()) == report
    lines = (tmp_path / "attention.md").read_text().splitlines()
    assert lines[4] == (
        "| `cosine` | 8.00 ± 0.50 | 8.00 | 8.0 |  | 1.5 | 12.2 | × 1.00 |  |"
    )
    assert lines[5].startswith("| `dot` | 9.00")
    assert (tmp_path / "attention-french.svg").read_text().startswith("<?xml")
