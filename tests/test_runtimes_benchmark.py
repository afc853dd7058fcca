"""Tests of benchmarks/runtimes.py: golden lines, what runtimes make of them."""

import json

import pytest

from answering.golden import compared, read_golden
from answering.python import python_runtimes
from runtimes import table

GREEDY = [
    {"text": "a\u2028b", "translation": "A", "score": -0.5},
    {"text": "", "translation": "", "score": 0.0},
]
BEAM = [{"text": "c", "translations": ["C", "D"], "scores": [-0.1, -0.7]}]


@pytest.fixture
def golden(tmp_path):
    for name, lines in (("golden", GREEDY), ("golden_beam", BEAM)):
        text = "".join(f"{json.dumps(one, ensure_ascii=False)}\n" for one in lines)
        (tmp_path / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return read_golden(tmp_path)


def test_golden_lines_of_both_searches_are_read(golden):
    assert golden.texts == {"translate": ["a\u2028b", ""], "translate_beam": ["c"]}
    assert golden.answers["translate"] == [[("A", -0.5)], [("", 0.0)]]
    assert golden.answers["translate_beam"] == [[("C", -0.1), ("D", -0.7)]]


def test_equal_lines_are_counted_and_scores_compared_where_texts_are_equal(golden):
    found = {
        "translate": [[("A", -0.52)], [("x", -9.0)]],
        "translate_beam": [[("C", -0.1), ("D", -0.65)]],
    }
    report = compared(golden, found)
    assert (report["lines"], report["equal"]) == (3, 2)
    assert report["score_difference"] == pytest.approx(0.05)


def test_a_missing_hypothesis_is_a_difference(golden):
    found = {
        "translate": golden.answers["translate"],
        "translate_beam": [[("C", -0.1)]],
    }
    assert compared(golden, found)["equal"] == 2


def test_answers_that_are_missing_are_no_result(golden):
    with pytest.raises(ValueError):
        compared(golden, {"translate": [], "translate_beam": []})


def test_only_the_oldest_runtime_gets_compatible_files(tmp_path):
    old = [one.name for one in python_runtimes(tmp_path) if one.is_old]
    assert old and all(name.startswith("tflite-runtime 2.14") for name in old)


def test_the_table_tells_what_failed_and_what_was_not_measured():
    good = {
        "lines": 3, "equal": 3, "score_difference": 0.01, "load_milliseconds": 5.2,
        "megabytes": None,
    }  # fmt: skip
    reports = {
        "one": {
            "float32": good, "float16": good | {"equal": 2},
            "int8": good | {"load_milliseconds": 7.9}, "int4": {"error": "status 1"},
        },
    }  # fmt: skip
    row = table(reports).splitlines()[-1]
    assert row == (
        "| one | all, ±0.01 | 2 of 3, ±0.01 | all, ±0.01 | fails | 5 to 8 | – |"
    )
