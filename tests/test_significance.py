"""Tests of pocketseq.pipeline.analysis.significance."""

import itertools
import math

import numpy as np
import pytest

from pocketseq.pipeline.analysis.significance import (
    confidence_interval,
    difference_interval,
    p_value,
    paired_differences,
)
from pocketseq.pipeline.evaluation import METRICS

WER, EXACT = METRICS["wer"], METRICS["exact"]


def statistics(wrong):
    """The statistics of WER and of exact matches: (wrong, 1) for each example."""
    return np.array([[float(one), 1.0] for one in wrong])


def test_the_interval_is_that_of_a_binomial_where_outputs_are_right_or_wrong():
    # 60 of 200 are wrong: a resample's count is binomial, with this deviation.
    low, high = confidence_interval(WER, statistics([1] * 60 + [0] * 140))
    deviation = 100 * math.sqrt(0.3 * 0.7 / 200)
    assert low == pytest.approx(30 - 1.96 * deviation, abs=0.7)
    assert high == pytest.approx(30 + 1.96 * deviation, abs=0.7)


def test_the_interval_of_three_examples_agrees_with_all_resamples():
    part = statistics([1, 0, 0])
    everything = sorted(
        WER.of_sums(part[list(rows)].sum(axis=0))
        for rows in itertools.product(range(3), repeat=3)
    )
    # 8 of 27 resamples have no error at all, 1 of 27 (4 %) has nothing else.
    assert everything[:8] == [0] * 8 and everything[-1] == 100
    assert confidence_interval(WER, part) == (0.0, 100.0)


def test_the_interval_holds_the_metric_of_the_sums():
    generator = np.random.default_rng(4)
    edits = generator.integers(0, 4, 300)
    part = np.stack([edits, np.full(300, 5)], axis=1).astype(float)
    low, high = confidence_interval(METRICS["per"], part)
    assert low < METRICS["per"].of_sums(part.sum(axis=0)) < high
    deviation = 100 * edits.std() / 5 / math.sqrt(300)
    assert high - low == pytest.approx(2 * 1.96 * deviation, rel=0.1)


def test_two_models_are_measured_on_the_same_draws():
    # Ten of 400 differ, all in one direction: both vary much, the difference little.
    before = statistics([1] * 210 + [0] * 190)
    after = statistics([1] * 200 + [0] * 200)
    low, high = difference_interval(paired_differences(WER, before, after))
    assert 0.5 < low < 2.5 < high < 4.5
    separate = confidence_interval(WER, before)
    assert high - low < 0.5 * (separate[1] - separate[0])


@pytest.mark.parametrize("metric", [WER, EXACT])
def test_a_difference_is_positive_where_the_second_model_is_better(metric):
    worse, better = statistics([1, 1, 1, 0]), statistics([0, 0, 0, 0])
    assert (paired_differences(metric, worse, better) >= 0).all()
    assert (paired_differences(metric, better, worse) <= 0).all()


def sign_test(only_a, only_b):
    """The exact two-sided probability of such a split by tosses of a coin."""
    tosses = only_a + only_b
    tail = sum(math.comb(tosses, k) for k in range(min(only_a, only_b) + 1))
    return min(1.0, 2 * tail / 2**tosses)


@pytest.mark.parametrize(("only_a", "only_b"), [(20, 5), (12, 8), (30, 28), (3, 14)])
def test_the_probability_is_near_that_of_the_exact_sign_test(only_a, only_b):
    wrong_a = [0] * only_a + [1] * only_b + [0] * 300
    wrong_b = [1] * only_a + [0] * only_b + [0] * 300
    found = p_value(paired_differences(WER, statistics(wrong_a), statistics(wrong_b)))
    # The exact test counts the split itself as a whole; a resample may be between two.
    assert found == pytest.approx(sign_test(only_a, only_b), abs=0.12)
    assert (found < 0.05) == (sign_test(only_a, only_b) < 0.05)


def test_equal_models_differ_by_chance():
    same = statistics([1, 0, 1, 0, 0])
    differences = paired_differences(WER, same, same)
    assert p_value(differences) == 1.0
    assert difference_interval(differences) == (0.0, 0.0)


def test_the_probability_is_never_zero_and_has_no_side():
    right, wrong = statistics([0] * 50), statistics([1] * 50)
    for before, after in ((right, wrong), (wrong, right)):
        assert p_value(paired_differences(WER, before, after)) == pytest.approx(
            2 / 2001
        )
