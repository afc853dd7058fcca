"""Tests of pocketseq.pipeline.analysis, on answers that are written here by hand."""

import json

import numpy as np
import pytest

from pocketseq.pipeline.analysis.analysis import Analysis, analyse
from pocketseq.pipeline.analysis.answers import Answers
from pocketseq.pipeline.analysis.attended import symbol_starts, written_from
from pocketseq.pipeline.analysis.results import comparison_json, evaluation_json
from pocketseq.pipeline.analysis.training_pairs import SourceSymbols
from pocketseq.pipeline.data.corpora import Corpus
from pocketseq.pipeline.evaluation import evaluate
from pocketseq.pipeline.text.known import KnownText
from pocketseq.pipeline.text.normalization import Normalization
from pocketseq.pipeline.text.special import SPECIAL_PIECES
from pocketseq.pipeline.translation import Knowledge, Translation

#: Source, references, output of A, output of B.
EXAMPLES = [
    ("ab", ["A B"], "A B", "A B"),
    ("abc", ["A B C"], "A X C", "A B C"),
    ("cab", ["C A B"], "C A", "C A B"),
    ("bq", ["B Q", "B K"], "B  K", "B"),
    ("ccc", ["C C C"], "C C", "C C C C"),
    ("zab", ["Z A B"], "A B", "X A B"),
]
WRONG_A = [False, True, True, False, True, True]
WRONG_B = [False, False, False, True, True, True]


def side(kind, pieces, **normalization):
    vocabulary = (*SPECIAL_PIECES, *pieces)
    return KnownText(kind, Normalization(**normalization), vocabulary)


def knowledge(source="abcq", target="ABCQKX", training=None, penalty=1.0, **options):
    return Knowledge(
        side("character", source, **options), side("word", target), penalty, training
    )


def answers(column, known=None, *, examples=EXAMPLES, kind=None, alignment=None):
    """The answers of a model: one column of the examples."""
    translations = [
        Translation(
            example[0], example[column], -0.1 * place,
            alignment(example[0], example[column]) if alignment else None,
        )
        for place, example in enumerate(examples)
    ]  # fmt: skip
    return Answers(
        f"model {column}",
        known or knowledge(),
        [example[0] for example in examples],
        [example[1] for example in examples],
        translations,
        kind=kind,
    )


@pytest.fixture(scope="module")
def both():
    return analyse("file.tsv", [answers(2), answers(3)])


@pytest.fixture
def training(tmp_path):
    path = tmp_path / "train.tsv"
    path.write_text("aab\tA A B\nab\tA C\nccc\tC C\nccc\tC C C\nz\tZ\n")
    return Corpus(str(path))


# Answers.


def test_outputs_are_right_where_they_equal_a_reference_in_any_spacing():
    assert answers(2).wrong.tolist() == WRONG_A
    assert answers(3).wrong.tolist() == WRONG_B


def test_the_metrics_are_those_of_evaluate():
    texts = [example[2] for example in EXAMPLES]
    expected = evaluate([example[1] for example in EXAMPLES], texts, kind="word")
    assert answers(2).result == expected
    every_row = np.arange(len(EXAMPLES))
    assert answers(2).measure("per", every_row) == pytest.approx(expected["per"])
    assert answers(2).measure("per", np.array([1, 2])) == pytest.approx(100 * 2 / 6)


def test_edits_are_those_to_the_closest_reference():
    found = [[(e.reference, e.output) for e in edits] for edits in answers(3).edits]
    assert found[3] in ([("Q", "")], [("K", "")])
    assert found[:3] == [[], [], []]
    assert found[4:] == [[("", "C")], [("Z", "X")]]


def test_edits_are_between_normal_forms():
    known = Knowledge(
        side("character", "ab"), side("character", "ab", fold_case=True), 1.0, None
    )
    one = answers(2, known, examples=[("a", ["AB"], "aB"), ("b", ["Ba"], "c")])
    assert one.edits[0] == []
    assert one.symbols[1] == (["b", "a"], ["c"])


def test_the_probability_of_an_output_is_its_score_times_its_tokens():
    # Tokens, end included: 3 in the second output, "A X C".
    one = answers(2, knowledge(penalty=0.5))
    assert one.knowledge.log_probability(one.translations[1]) == pytest.approx(
        -0.1 * 4**0.5
    )
    bins = one.confidence.reliability
    assert sum(each.examples for each in bins) == len(EXAMPLES)


def test_a_score_that_is_not_a_number_is_the_lowest():
    one = answers(2)
    nan = Translation("ab", "A", float("nan"), None)
    one.translations = [nan, *one.translations[1:]]
    assert one.scores.argmin() == 0
    json.dumps(evaluation_json(one), allow_nan=False)


def test_models_without_a_vocabulary_have_no_calibration_where_it_needs_one():
    known = Knowledge(KnownText("word"), KnownText("wordpiece"), 1.0, None)
    assert answers(2, known, kind="word").confidence.calibration_error is None


# Who is right.


def test_examples_are_counted_by_who_is_right(both):
    assert both.rows(False, True) == [3]
    assert both.rows(True, False) == [1, 2]
    assert both.rows(True, True) == [4, 5]
    assert both.rows(False, False) == [0]


def test_the_second_model_is_better_by_points(both):
    # Wrong are 4 and 3 of 6.
    assert both.metric == "wer"
    assert both.difference.points == pytest.approx(100 / 6)
    assert both.difference.p_value > 0.3
    low, high = both.difference.interval
    assert low < 0 < 100 / 6 < high


def test_confusions_of_both_models_are_side_by_side(both):
    changes = {(one.reference, one.output): one.counts for one in both.changes}
    assert changes["B", "X"] == (1, 0)
    assert changes["C", ""] == (1, 0)
    assert changes["Z", "X"] == (0, 1)
    for place, model in enumerate(both.models):
        total = sum(counts[place] for counts in changes.values())
        assert total == sum(map(len, model.edits))
    sizes = [abs(one.fewer) for one in both.changes]
    assert sizes == sorted(sizes, reverse=True)


# By length and frequency.


def test_sources_are_grouped_by_length(both):
    assert both.lengths == [2, 3, 3, 2, 3, 3]
    assert [(g.first, g.last, len(g.rows)) for g in both.by_length] == [
        (2, 2, 2), (3, 3, 4),
    ]  # fmt: skip


def test_frequencies_are_counted_in_the_training_pairs(training):
    known = knowledge(training=training)
    found = analyse("file.tsv", [answers(2, known)])
    # a: 3, b: 2, c: 6, z: 1, q never.
    assert found.frequencies == [2, 2, 2, 0, 6, 1]
    assert found.training.where == "train.tsv" and found.training.is_training


def test_frequencies_are_those_of_the_first_model_that_has_training_pairs(training):
    models = [answers(2), answers(3, knowledge(training=training))]
    assert analyse("file.tsv", models).training.where == "train.tsv"


def test_without_training_pairs_symbols_are_counted_in_the_file(tmp_path):
    gone = Corpus(str(tmp_path / "gone.tsv"))
    for known in (knowledge(), knowledge(training=gone)):
        found = analyse("file.tsv", [answers(2, known)])
        # a: 4, b: 5, c: 5, q: 1, z: 1.
        assert found.frequencies == [4, 4, 4, 1, 5, 1]
        assert not found.training.is_training
        assert found.overlap == [] and found.contradictions == []


def test_capitals_are_one_symbol_where_a_model_folds_case():
    symbols = SourceSymbols.of([side("character", "ab", fold_case=True)])
    assert symbols.split("Ab c") == ["a", "b", "c"]
    words = SourceSymbols.of([side("word", ["a"]), side("word", ["a"])])
    assert words.split("Ab  c") == ["Ab", "c"]


def test_letters_that_a_model_decomposes_stay_whole():
    symbols = SourceSymbols.of([side("character", "ab", decompose=True)])
    assert symbols.split("각é") == ["각", "é"]


# What cannot be known.


def test_unknown_symbols_are_named_with_their_examples(both):
    (unknown,) = both.unknown(both.models[0])
    assert (unknown.text, unknown.rows.tolist()) == ("z", [5])


def test_references_that_cannot_be_written_are_named():
    # Q is unseen, but the other reference of the example can be written.
    known = knowledge(target="ABCK")
    found = analyse("file.tsv", [answers(2, known)])
    (unseen,) = found.unseen(found.models[0])
    assert (unseen.text, unseen.rows.tolist()) == ("Z", [5])


def test_different_references_are_alternatives():
    examples = [("a", ["A B", "A  B", "a b"], "A"), ("b", ["B", "B"], "B")]
    found = analyse("file.tsv", [answers(2, examples=examples)])
    assert found.alternatives == [(0, ["A B", "a b"])]


def test_what_training_has_with_other_targets_is_a_contradiction(training):
    found = analyse("file.tsv", [answers(2, knowledge(training=training))])
    assert found.overlap == [0, 4]
    assert found.contradictions == [(0, ["A C"])]


# Attention.


def diagonal(source, text):
    """Output symbol i looks at source symbol i, or else at the last one."""
    weights = np.zeros((len(text), len(source)), np.float32)
    starts = symbol_starts(text, len(text.split()), "word")
    assert starts is not None
    for place, start in enumerate(starts):
        weights[start, min(place, len(source) - 1)] = 1
    return weights


def test_wrong_output_is_traced_to_the_source_symbol_that_attention_looks_at():
    model = answers(2, alignment=diagonal)
    found = written_from(model, SourceSymbols("character", False))
    # "abc" to "A X C": b wrote X, which is wrong; "ab": b wrote B; "bq": b wrote B.
    assert found["b"] == (3, 1)
    # The "A B" of "zab" comes from z and a; what is missing is counted nowhere.
    assert found["z"] == (1, 0)
    assert sum(count for count, _ in found.values()) == sum(
        len(example[2].split()) for example in EXAMPLES
    )


def test_flat_attention_points_at_nothing():
    def flat(source, text):
        return np.full((len(text), len(source)), 1 / len(source), np.float32)

    found = written_from(answers(2, alignment=flat), SourceSymbols("character", False))
    assert found == {}


def test_symbols_with_most_errors_beyond_the_usual_come_first():
    found = Analysis(
        "file.tsv",
        [answers(2, alignment=diagonal)],
        analyse("file.tsv", [answers(2)]).training,
    )
    assert found.symbols[0].text == "b"
    assert {one.text for one in found.symbols} == set("abcqz")


def test_without_attention_symbols_are_ranked_by_their_examples(both):
    # Of 6 examples 4 are wrong; with c 3 of 3 are, one more than usual; no other
    # symbol has so many.
    assert both.symbols[0].text == "c"
    assert both.symbols[0].rows.tolist() == [1, 2, 4]


@pytest.mark.parametrize(
    ("text", "count", "kind", "expected"),
    [
        ("A  BC D", 3, "word", [0, 3, 6]),
        ("abc", 3, "character", [0, 1, 2]),
        ("e\u0301a", 2, "character", None),  # composed, it has other places
        ("", 0, "word", []),
    ],
)
def test_places_of_symbols_in_a_text(text, count, kind, expected):
    assert symbol_starts(text, count, kind) == expected


# JSON.


def test_a_comparison_is_json_with_what_is_promised(both):
    found = json.loads(json.dumps(comparison_json(both), allow_nan=False))
    assert found["examples"] == 6
    assert (found["only_a_right"], found["only_b_right"]) == (1, 2)
    assert (found["both_right"], found["both_wrong"]) == (1, 2)
    assert found["a"]["wer"] == pytest.approx(100 * 4 / 6)
    assert found["b"]["wer"] == pytest.approx(100 * 3 / 6)
    assert found["a"]["model"] == "model 2"
    assert 0 < found["p_value"] <= 1
    assert found["difference"] == pytest.approx(100 / 6, abs=1e-3)
    assert [one["source"] for one in found["differences"]] == ["abc", "cab", "bq"]
    assert [one["right"] for one in found["differences"]] == ["b", "b", "a"]


@pytest.mark.parametrize("key", ["by_length", "by_frequency"])
def test_the_groups_of_a_comparison_make_up_the_whole(both, key):
    groups = comparison_json(both)[key]
    assert sum(group["examples"] for group in groups) == 6
    for name, wrong in (("a", 4), ("b", 3)):
        total = sum(group["examples"] * group[name]["wrong"] / 100 for group in groups)
        assert total == pytest.approx(wrong, abs=1e-3)


def test_an_evaluation_is_json_with_intervals_and_confidence():
    found = json.loads(json.dumps(evaluation_json(answers(2)), allow_nan=False))
    assert {"examples", "wer", "per", "intervals", "confidence"} == set(found)
    low, high = found["intervals"]["wer"]
    assert 0 <= low < found["wer"] < high <= 100


def test_both_models_are_measured_as_the_first_ones_target():
    known = Knowledge(side("character", "ab"), side("character", "AB "), 1.0, None)
    other = answers(3, known, kind="word")
    assert set(other.result) == {"examples", "wer", "per"}
    assert other.wrong.tolist() == WRONG_B
