import subprocess
import sys
from typing import Any

import pytest
import sacrebleu

from pocketseq.pipeline.evaluation import (
    METRICS,
    errors,
    evaluate,
    main_metric,
    metrics_of_kind,
    write_errors,
)
from pocketseq.pipeline.text.normalization import Normalization


def test_word_error_rate_is_the_share_of_outputs_not_exactly_right():
    references = [["A B"], ["C"], ["D"], ["E F"]]
    result = evaluate(references, ["A B", "C C", "D", "E"], kind="word")
    assert result["wer"] == pytest.approx(100 * 2 / 4)
    assert result["examples"] == 4


def test_phone_error_rate_is_edits_per_100_reference_symbols():
    # One substitution, one insertion, two deletions: 4 edits in 3 + 1 + 2 symbols.
    references = [["AH B C"], ["C"], ["E F"]]
    result = evaluate(references, ["AH X C", "C D", ""], kind="word")
    assert result["per"] == pytest.approx(100 * 4 / 6)
    assert result["wer"] == pytest.approx(100)


def test_symbols_count_whole():
    result = evaluate([["AH0 B"]], ["AH1 B"], kind="word")
    assert result["per"] == pytest.approx(100 / 2)


def test_any_alternative_is_right():
    references = [["A B", "A C", "D"]]
    for hypothesis in references[0]:
        result = evaluate(references, [hypothesis], kind="word")
        assert (result["wer"], result["per"]) == (0, 0)


def test_edits_are_counted_against_the_closest_reference():
    # Distances 3 and 1; the closest has four symbols.
    result = evaluate([["X Y", "A B C D"]], ["A B C"], kind="word")
    assert result["per"] == pytest.approx(100 * 1 / 4)


def test_spacing_of_references_with_symbols_does_not_matter():
    result = evaluate([["A  B "]], ["A B"], kind="word")
    assert (result["wer"], result["per"]) == (0, 0)


def test_an_empty_output_is_wrong_and_costs_all_symbols():
    result = evaluate([["A B"]], [""], kind="word")
    assert (result["wer"], result["per"]) == (100, 100)
    result = evaluate([["ab c"]], [""], kind="character")
    assert (result["exact"], result["cer"], result["bleu"]) == (0, 100, 0)
    assert result["chrf"] == 0


HYPOTHESES = [
    "the cat sat on the mat", "a dog is in the house here", "",
    "it is not raining, is it?",
]  # fmt: skip
REFERENCES = [
    ["the cat sat on a mat", "on the mat sat the cat"],
    ["a dog was in the house here"],
    ["nothing at all to say"],
    ["it isn't raining, is it?", "it is not raining now", "is it raining?"],
]


def test_bleu_and_chrf_are_those_of_sacrebleu():
    result = evaluate(REFERENCES, HYPOTHESES, kind="character")
    # The same reference twice changes nothing: it fills up what has fewer.
    streams = [[row[min(i, len(row) - 1)] for row in REFERENCES] for i in range(3)]
    bleu = sacrebleu.corpus_bleu(HYPOTHESES, streams).score
    chrf = sacrebleu.corpus_chrf(HYPOTHESES, streams).score
    assert 10 < bleu < 90
    assert result["bleu"] == pytest.approx(bleu)
    assert result["chrf"] == pytest.approx(chrf)


def test_one_reference_each_is_the_plain_corpus_score():
    references = [row[:1] for row in REFERENCES]
    result = evaluate(references, HYPOTHESES, kind="wordpiece")
    streams = [[text for (text,) in references]]
    bleu = sacrebleu.corpus_bleu(HYPOTHESES, streams).score
    assert result["bleu"] == pytest.approx(bleu)


def test_the_signature_names_both_metrics_and_the_version():
    signature = evaluate(REFERENCES, HYPOTHESES, kind="character")["signature"]
    assert signature.count(f"version:{sacrebleu.__version__}") == 2
    assert "tok:13a" in signature
    assert "nc:6" in signature


@pytest.mark.parametrize("most", [1, 2, 4])
def test_the_signature_is_what_sacrebleu_says_after_measuring(most):
    # One reference each, up to two (some have one only), and two each.
    references = [row[:most] for row in REFERENCES if most < 4 or len(row) > 1]
    references = [row[:2] for row in references]
    # sacrebleu takes None for a reference that is missing, but its types do not say so.
    streams: list[list[Any]] = [
        [row[i] if i < len(row) else None for row in references]
        for i in range(max(map(len, references)))
    ]
    expected = []
    for metric in (sacrebleu.BLEU(), sacrebleu.CHRF()):
        metric.corpus_score(HYPOTHESES[: len(references)], streams)
        expected.append(str(metric.get_signature()))
    result = evaluate(references, HYPOTHESES[: len(references)], kind="character")
    assert result["signature"] == " ".join(expected)


def test_character_error_rate_counts_code_points_of_the_closest_reference():
    # 1 edit in "abcd" rather than 4 in "xyz"; 2 edits (one of them a space) in "e f".
    references = [["xyz", "abcd"], ["e f"]]
    result = evaluate(references, ["abc", "g"], kind="character")
    assert result["cer"] == pytest.approx(100 * (1 + 3) / (4 + 3))


def test_exact_is_the_share_of_outputs_that_equal_a_reference():
    references = [["x", "abcd"], ["e f"], ["g"]]
    result = evaluate(references, ["abcd", "e  f", "g"], kind="character")
    assert result["exact"] == pytest.approx(100 * 2 / 3)


def test_what_is_reported_follows_from_the_kind():
    word = evaluate([["A"]], ["A"], kind="word")
    assert set(word) == {"examples", "wer", "per"}
    for kind in ("character", "wordpiece"):
        text = evaluate([["A"]], ["A"], kind=kind)
        expected = {"examples", "bleu", "chrf", "signature", "cer", "exact"}
        assert set(text) == expected


def test_errors_says_which_outputs_equal_no_reference():
    assert errors([["A"], ["B", "C"]], ["X", "C"]) == [True, False]


def test_wrong_outputs_are_written_with_their_references(tmp_path):
    path = tmp_path / "errors.tsv"
    write_errors(path, ["a", "b", "c"], [["A"], ["B"], ["C", "\u00c7"]], ["A", "", "D"])
    expected = "b\t\tB\nc\tD\tC\t\u00c7\n"
    assert path.read_text(encoding="utf-8") == expected


# The metric that decides.


@pytest.mark.parametrize(
    ("kind", "references", "expected"),
    [
        ("word", [["A B"]], "wer"),
        ("character", [["206"]], "cer"),
        ("character", [["a b c d e f g h"]], "cer"),
        ("wordpiece", [["one two three four"], ["a b c d e"], ["f"]], "bleu"),
        ("wordpiece", [["colour"], ["a grey tyre"], ["a b c d e"]], "chrf"),
    ],
)
def test_the_main_metric_fits_the_kind_and_the_length_of_texts(
    kind, references, expected
):
    assert main_metric(kind, references) == expected


def test_the_first_metric_of_a_kind_is_what_is_measured_among_others():
    for kind in ("word", "character", "wordpiece"):
        found = set(evaluate([["A"]], ["A"], kind=kind))
        assert set(metrics_of_kind(kind)) == found & set(METRICS)


@pytest.mark.parametrize("name", METRICS)
def test_results_rank_by_the_metric_in_its_direction(name):
    metric = METRICS[name]
    right, wrong = (
        {n: m.measure([["A B C D"]], [text]) for n, m in METRICS.items()}
        for text in ("A B C D", "E F G H")
    )
    assert metric.rank(right) > metric.rank(wrong)
    assert metric.is_perfect(right[name]) and not metric.is_perfect(wrong[name])


def test_equal_character_error_rates_rank_by_exact_matches():
    def result(cer, exact):
        return METRICS["cer"].rank({"cer": cer, "exact": exact})

    assert result(5.0, 60.0) > result(5.0, 50.0) > result(6.0, 99.0)


def test_nothing_is_better_than_no_error_and_all_exact():
    assert METRICS["cer"].is_perfect(0.0) and METRICS["exact"].is_perfect(100.0)
    assert not METRICS["cer"].is_perfect(100.0)
    assert not METRICS["bleu"].is_perfect(0.0)


def test_a_metric_names_others_that_are_measured_with_it():
    for kind in ("word", "character", "wordpiece"):
        names = metrics_of_kind(kind)
        for metric in (METRICS[name] for name in names):
            assert metric.beside in names
            assert metric.tie_breaker in ("", *names)


def test_metrics_are_known_without_tensorflow():
    script = (
        "import sys, pocketseq.pipeline.evaluation; "
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", script]).returncode == 0


# Normal forms.


@pytest.mark.parametrize("kind", ["word", "character", "wordpiece"])
def test_a_model_that_folds_case_is_right_about_references_with_capitals(kind):
    normalization = Normalization(fold_case=True)
    options: dict[str, Any] = {"kind": kind, "normalization": normalization}
    result = evaluate([["Stra\u00dfe A"]], ["strasse a"], **options)
    assert result.get("exact", 100) == 100
    assert result.get("wer", 0) == result.get("cer", 0) == 0
    assert errors([["Stra\u00dfe A"]], ["strasse a"], **options) == [False]
    assert errors([["Stra\u00dfe A"]], ["strasse b"], **options) == [True]


@pytest.mark.parametrize("decompose", [False, True])
def test_composed_and_decomposed_texts_are_the_same_text(decompose):
    normalization = Normalization(False, decompose)
    options: dict[str, Any] = {"kind": "character", "normalization": normalization}
    for reference, hypothesis in (
        ("\ud55c", "\u1112\u1161\u11ab"),
        ("e\u0301", "\u00e9"),
    ):
        result = evaluate([[reference]], [hypothesis], **options)
        assert (result["exact"], result["cer"]) == (100, 0)
    # One of two letters is wrong, not one of five parts.
    result = evaluate([["\ud55c\uad6d"]], ["\ud55c\uad70"], **options)
    assert result["cer"] == 50


def test_case_counts_where_the_target_keeps_it():
    assert evaluate([["A"]], ["a"], kind="word")["wer"] == 100


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_of_summed_statistics_is_what_evaluate_prints(name):
    kind = "word" if name in metrics_of_kind("word") else "character"
    expected = evaluate(REFERENCES, HYPOTHESES, kind=kind)[name]
    statistics = METRICS[name].statistics(REFERENCES, HYPOTHESES)
    assert len(statistics) == len(REFERENCES)
    assert METRICS[name].of_sums(statistics.sum(axis=0)) == pytest.approx(expected)
