"""Tests of pocketseq.pipeline.analysis.confidence."""

import json
import math

import numpy as np
import pytest

from pocketseq.pipeline.analysis.confidence import measure_confidence


def rejections(scores, wrong):
    return measure_confidence(scores, None, wrong).rejections


def test_rejected_are_the_lowest_scores():
    # Of 20 outputs: 1, 2 and 4 are rejected. Wrong are those ranked 1st, 3rd, 10th.
    scores = [-float(20 - rank) for rank in range(20)]
    wrong = [rank in (0, 2, 9) for rank in range(20)]
    five, ten, twenty = rejections(scores, wrong)
    assert (five.rejected, ten.rejected, twenty.rejected) == (1, 2, 4)
    assert (five.below, ten.below, twenty.below) == (-19.0, -18.0, -16.0)
    assert five.caught == pytest.approx(100 / 3)
    assert ten.caught == pytest.approx(100 / 3)
    assert twenty.caught == pytest.approx(200 / 3)
    assert five.wrong == pytest.approx(100 * 2 / 19)
    assert twenty.wrong == pytest.approx(100 * 1 / 16)


def test_an_app_that_applies_the_threshold_rejects_the_same_outputs():
    generator = np.random.default_rng(3)
    scores = np.round(generator.normal(size=333), 1)  # many are equal
    wrong = generator.random(333) < 0.3
    for one in rejections(scores.tolist(), wrong.tolist()):
        kept = [w for s, w in zip(scores, wrong, strict=True) if not s < one.below]
        assert one.rejected == 333 - len(kept) <= round(333 * one.percent / 100)
        assert one.wrong == pytest.approx(100 * sum(kept) / len(kept))
        caught = 100 * (sum(wrong) - sum(kept)) / sum(wrong)
        assert one.caught == pytest.approx(caught)


def test_equal_scores_reject_nothing():
    assert [one.rejected for one in rejections([0.0] * 40, [True] * 40)] == [0, 0, 0]


def test_where_nothing_is_wrong_there_is_nothing_to_catch():
    assert all(one.caught is None for one in rejections([-1.0, -2.0], [False, False]))
    assert all(one.wrong == 0 for one in rejections([-1.0, -2.0], [False, False]))


def test_the_calibration_error_is_the_mean_difference_over_bins():
    # Two bins: 0.25 with 2 of 4 right, 0.85 with 1 of 1 right; the ends of one bin.
    probabilities = [0.22, 0.28, 0.24, 0.26, 0.85]
    wrong = [False, True, True, False, False]
    found = measure_confidence([0.0] * 5, [math.log(p) for p in probabilities], wrong)
    first, second = found.reliability
    assert (first.first, first.last, first.examples) == (0.2, 0.3, 4)
    assert (first.probability, first.right) == (pytest.approx(25), pytest.approx(50))
    assert (second.examples, second.right) == (1, pytest.approx(100))
    assert found.calibration_error == pytest.approx((4 * 25 + 1 * 15) / 5)


def test_a_probability_of_one_belongs_to_the_last_bin():
    found = measure_confidence([0.0, 0.0], [0.0, 1e-9], [False, True])
    (only,) = found.reliability
    assert (only.first, only.last, only.examples) == (0.9, 1.0, 2)
    assert found.calibration_error == pytest.approx(50)


def test_outputs_drawn_from_their_probabilities_are_calibrated():
    generator = np.random.default_rng(8)
    probabilities = generator.uniform(0.05, 1, 20_000)
    wrong = generator.random(20_000) > probabilities
    logs = np.log(probabilities).tolist()
    found = measure_confidence(logs, logs, wrong.tolist())
    assert found.calibration_error is not None and found.calibration_error < 2
    # Of those below 0.24, a fifth, 85 % are wrong: the shares follow from integrals.
    assert found.rejections[2].caught == pytest.approx(100 * 0.2 * 0.855 / 0.475, abs=2)


def test_without_probabilities_there_is_no_calibration():
    found = measure_confidence([-1.0], None, [True])
    assert found.calibration_error is None and found.reliability == ()


def test_the_values_are_json():
    found = measure_confidence([-1.0, -2.0], [-1.0, -2.0], [False, True]).to_json()
    assert json.loads(json.dumps(found)) == found
    assert set(found) == {"rejections", "calibration_error", "reliability"}
    assert [one["percent"] for one in found["rejections"]] == [5, 10, 20]
