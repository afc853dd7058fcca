"""Tests of pocketseq.pipeline.analysis.confusions."""

from collections import Counter
from functools import cache

import numpy as np
import pytest

from pocketseq.pipeline.analysis.confusions import Edit, closest, confusions, edits


def distance(first, second):
    """The edit distance by its definition."""

    @cache
    def rest(i, j):
        if i == len(first) or j == len(second):
            return len(first) - i + len(second) - j
        if first[i] == second[j]:
            return rest(i + 1, j + 1)
        return 1 + min(rest(i + 1, j), rest(i, j + 1), rest(i + 1, j + 1))

    return rest(0, 0)


def test_substitutions_insertions_and_deletions_name_both_sides():
    assert edits("a b c".split(), "a x c".split()) == [Edit("b", "x", 1, 1)]
    assert edits("a b".split(), "a b d".split()) == [Edit("", "d", 2, 2)]
    assert edits("a b c".split(), "b c".split()) == [Edit("a", "", 0, 0)]
    assert edits(["a"], ["a"]) == []
    assert edits(["tʃ"], ["t"]) == [Edit("tʃ", "t", 0, 0)]  # symbols count whole


def random_pairs():
    generator = np.random.default_rng(7)
    for _ in range(200):
        lengths = generator.integers(0, 7, 2)
        yield tuple(generator.choice(list("abcd"), n).tolist() for n in lengths)


def applied(reference, found):
    """The output that edits make of a reference."""
    output, done = [], 0
    for edit in found:
        output += reference[done : edit.reference_place]
        done = edit.reference_place + bool(edit.reference)
        assert edit.output_place == len(output)
        assert not edit.reference or reference[edit.reference_place] == edit.reference
        output += [edit.output] * bool(edit.output)
    return output + reference[done:]


def test_edits_are_as_few_as_can_be_and_lead_to_the_output():
    for reference, output in random_pairs():
        found = edits(reference, output)
        assert len(found) == distance(tuple(reference), tuple(output))
        assert applied(reference, found) == output


def test_the_closest_reference_has_the_fewest_edits_and_is_the_shortest_of_those():
    assert closest([list("wxyz"), list("abcd")], list("abc")) == list("abcd")
    assert closest([list("abcd"), list("ab")], list("abc")) == list("ab")
    assert closest([["a", "b"]], []) == ["a", "b"]


def test_confusions_count_all_edits():
    pairs = list(random_pairs())
    found = confusions([edits(*pair) for pair in pairs])
    assert sum(one.count for one in found) == sum(
        distance(tuple(a), tuple(b)) for a, b in pairs
    )
    counted = Counter((e.reference, e.output) for pair in pairs for e in edits(*pair))
    assert {(one.reference, one.output): one.count for one in found} == counted
    assert [one.count for one in found] == sorted(counted.values(), reverse=True)


def test_the_examples_of_a_confusion_are_the_clearest():
    wrong, other = Edit("a", "b", 0, 0), Edit("c", "d", 1, 1)
    found = confusions([[wrong, other], [wrong, wrong], [], [wrong], [wrong, other]])
    assert (found[0].reference, found[0].output, found[0].count) == ("a", "b", 5)
    assert found[0].examples == (3, 0, 1)


@pytest.mark.parametrize("count", [0, 3])
def test_right_outputs_have_no_confusions(count):
    assert confusions([[]] * count) == []
