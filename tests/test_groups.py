"""Tests of pocketseq.pipeline.analysis.groups."""

import numpy as np
import pytest

from pocketseq.pipeline.analysis.groups import by_frequency, by_length, share_interval


def spans(groups):
    return [(group.first, group.last, len(group.rows)) for group in groups]


def test_lengths_are_joined_until_a_group_is_large_enough():
    # 20 examples: a group needs two. One of length 1, three of 2, one of 3, 15 of 4.
    lengths = [1, 2, 2, 2, 3] + [4] * 15
    assert spans(by_length(lengths)) == [(1, 2, 4), (3, 4, 16)]


def test_what_is_left_joins_the_last_group():
    lengths = [1] * 10 + [2] * 9 + [7]
    assert spans(by_length(lengths)) == [(1, 1, 10), (2, None, 10)]


@pytest.mark.parametrize("lengths", [[3], [5, 5, 5], [1, 9]])
def test_every_example_is_in_one_group_of_its_length(lengths):
    groups = by_length(lengths)
    assert sorted(np.concatenate([group.rows for group in groups])) == list(
        range(len(lengths))
    )
    for group in groups:
        for row in group.rows:
            assert group.first <= lengths[row] <= (group.last or lengths[row])


def test_frequencies_grow_by_about_three_and_never_seen_is_a_group():
    frequencies = [0, 1, 2, 3, 9, 10, 29, 30, 99, 100, 12_345]
    assert spans(by_frequency(frequencies)) == [
        (0, 0, 1), (1, 2, 2), (3, 9, 2), (10, 29, 2), (30, 99, 2), (100, 299, 1),
        (10_000, 29_999, 1),
    ]  # fmt: skip


def test_no_examples_make_no_groups():
    assert by_frequency([]) == []


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [
        # Newcombe 1998, "Two-sided confidence intervals for the single proportion",
        # table I, method 3.
        (81, 263, (25.53, 36.62)),
        (15, 148, (6.24, 16.05)),
        (0, 20, (0.0, 16.11)),
        (1, 29, (0.61, 17.18)),
    ],
)
def test_the_interval_of_a_share_is_wilsons(part, whole, expected):
    assert share_interval(part, whole) == pytest.approx(expected, abs=0.01)


def test_nothing_is_known_of_a_share_of_nothing():
    assert share_interval(0, 0) == (0.0, 100.0)
