"""The gate: what it lets through and what it stops."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from random_models import TEXTS as ODD_TEXTS
from random_models import random_translator

from pocketseq.export.checks.verification import (
    NEAR_TIE,
    beam_margins,
    compare,
    quality_loss,
    smallest_beam_margins,
    step_margins,
    translate_timed,
)
from pocketseq.pipeline.evaluation import evaluate
from pocketseq.pipeline.text.normalization import Normalization
from pocketseq.pipeline.text.special import END, PAD, START


@pytest.fixture(scope="module")
def translator(trained_run):
    return trained_run.load()


@pytest.fixture(scope="module")
def level(trained_run):
    """A model to which A0 and F5 are the same: it cannot choose between them."""
    translator = trained_run.load()
    level_out(translator, "A0", "F5")
    return translator


def level_out(translator, *pieces):
    """Makes a piece the same as another one to a model."""
    decoder = translator.model.decoder
    one, other = map(translator.target_tokenizer.pieces.index, pieces)
    for variable in (decoder.embedding.embeddings, decoder.output_bias):
        values = variable.numpy()
        values[other] = values[one]
        variable.assign(values)


TEXTS = ["abc", "fed", "be"]


@pytest.fixture(scope="module")
def translations(translator):
    return translator.translate(TEXTS)


@pytest.fixture(scope="module")
def beams(translator):
    """The three best of each text."""
    return translator.translate(TEXTS, beam_size=3, n_best=3)


def changed(translations, rank=0, **changes):
    """The translations, one hypothesis about the first text changed."""
    first, *others = translations
    first = [*first]
    first[rank] = replace(first[rank], **changes)
    return [first, *others]


def differences(translator, translations, rank=0, **changes):
    return compare(
        translator, translations, changed(translations, rank, **changes)
    ).differences


def test_equal_translations_pass(translator, translations, beams):
    for found in (translations, beams):
        result = compare(translator, found, found)
        assert (result.examples, result.near_ties, result.differences) == (3, 0, [])


def test_a_difference_names_the_text_and_what_differs(translator, translations):
    (line,) = differences(translator, translations, text="A0")
    assert line == "'abc': Keras says 'C2 B1 A0', the file 'A0'"


def test_another_score_is_a_difference(translator, translations):
    score = translations[0][0].score - 0.01
    assert "score" in differences(translator, translations, score=score)[0]


def test_another_alignment_is_a_difference(translator, translations):
    alignment = np.roll(translations[0][0].alignment, 1, axis=1)
    found = differences(translator, translations, alignment=alignment)
    assert "alignments differ" in found[0]


def test_what_float32_rounding_explains_is_no_difference(translator, translations):
    (best,) = translations[0]
    rounded = {"score": best.score + 1e-5, "alignment": best.alignment + 1e-4}
    assert differences(translator, translations, **rounded) == []


def test_a_file_without_alignments_is_compared_by_text_and_score(
    translator, translations
):
    without = [[replace(best, alignment=None)] for (best,) in translations]
    assert compare(translator, translations, without).differences == []
    worse = changed(without, score=without[0][0].score - 1)
    assert "score" in compare(translator, translations, worse).differences[0]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_a_difference_even_where_the_text_agrees(
    translator, translations, value
):
    found = differences(translator, translations, score=value)
    assert "not a finite number" in found[0]
    alignment = np.full_like(translations[0][0].alignment, value)
    found = differences(translator, translations, alignment=alignment)
    assert "not a finite number" in found[0]


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_every_hypothesis_of_a_beam_is_compared(translator, beams, rank):
    one = beams[0][rank]
    for name, value, expected in (
        ("text", "A0", f"hypothesis {rank + 1}: Keras says {one.text!r}"),
        ("score", one.score - 0.01, f"hypothesis {rank + 1}: Keras' score is"),
        ("score", np.nan, f"hypothesis {rank + 1}: the file's score or alignment is"),
        ("alignment", one.alignment * np.nan, "is not a finite number"),
        ("alignment", one.alignment[:, ::-1], "the alignments differ by up to"),
    ):
        (line,) = differences(translator, beams, rank, **{name: value})
        assert expected in line


def test_a_beam_in_another_order_is_a_difference(translator, beams):
    first, second, third = beams[0]
    swapped = [[first, third, second], *beams[1:]]
    (line,) = compare(translator, beams, swapped).differences
    assert line.startswith("'abc': hypothesis 2: ")


def test_hypotheses_that_do_not_exist_are_equal_whatever_they_hold(translator, beams):
    def with_last(score):
        nothing = replace(beams[0][2], text="", score=score, alignment=None)
        return [[*beams[0][:2], nothing], *beams[1:]]

    result = compare(translator, with_last(-1e9), with_last(-5e8))
    assert (result.near_ties, result.differences) == (0, [])
    # One that exists in the file only is a difference.
    (line,) = compare(translator, with_last(-1e9), beams).differences
    assert "hypothesis 3" in line


def test_fewer_hypotheses_than_keras_finds_are_a_difference(translator, beams):
    fewer = [beams[0][:2], *beams[1:]]
    (line,) = compare(translator, beams, fewer).differences
    assert line == "'abc': Keras finds 3 hypotheses, the file 2"
    (line,) = compare(translator, fewer, beams).differences
    assert line == "'abc': Keras finds 2 hypotheses, the file 3"


def test_a_first_difference_at_a_tie_is_counted_and_let_through(level):
    expected = level.translate(TEXTS)
    # Of two that are level, the one with the smaller id wins.
    assert expected[0][0].text == "C2 B1 A0"
    result = compare(level, expected, changed(expected, text="C2 B1 F5"))
    assert (result.near_ties, result.differences) == (1, [])


def test_a_tie_between_parts_of_a_composed_letter_is_found():
    translator = random_translator(
        "character", "character", lengths=(24, 32), end=1, seed=9,
        targets=["é ê á â"], target_normalization=Normalization(decompose=True),
    )  # fmt: skip
    level_out(translator, "\u0301", "\u0302")
    translations = translator.translate(ODD_TEXTS)
    expected = [[best] for (best,) in translations if best.text == "aá"]
    assert len(expected) >= 2
    result = compare(translator, expected, changed(expected, text="aâ"))
    assert (result.near_ties, result.differences) == (1, [])
    result = compare(translator, expected, changed(expected, text="eâ"))
    assert (result.near_ties, len(result.differences)) == (0, 1)


@pytest.mark.parametrize("text", ["D3 B1 A0", "C2 F5", "C2", ""])
def test_a_first_difference_before_a_tie_is_a_difference(level, text):
    expected = level.translate(TEXTS)
    result = compare(level, expected, changed(expected, text=text))
    assert result.near_ties == 0
    assert f"the file {text!r}" in result.differences[0]


def test_what_is_a_tie_to_one_model_is_a_difference_to_another(
    translator, translations
):
    result = compare(translator, translations, changed(translations, text="C2 B1 F5"))
    assert (result.near_ties, len(result.differences)) == (0, 1)


def test_another_score_or_alignment_is_a_difference_where_there_is_a_tie(level):
    expected = level.translate(TEXTS)
    (best,) = expected[0]
    for changes in ({"score": best.score - 1}, {"alignment": best.alignment[:, ::-1]}):
        result = compare(level, expected, changed(expected, **changes))
        assert (result.near_ties, len(result.differences)) == (0, 1)


def test_a_beam_that_differs_at_a_tie_is_counted_and_let_through(level):
    expected = level.translate(TEXTS, beam_size=3, n_best=3)
    swapped = [[expected[0][1], expected[0][0], expected[0][2]], *expected[1:]]
    result = compare(level, expected, swapped)
    assert (result.near_ties, result.differences) == (1, [])


def test_margins_of_a_beam_are_the_gaps_between_its_candidates(translator):
    """Against a beam search in Python, over teacher-forced probabilities."""
    source, beam_size = "cab", 2
    margins = beam_margins(translator, source, beam_size)
    hypotheses: list[tuple[tuple[int, ...], float]] = [((), 0.0)]
    expected = []
    while not all(ids[-1:] == (END,) for ids, _ in hypotheses):
        candidates = []
        for ids, total in hypotheses:
            if ids[-1:] == (END,):
                candidates.append((ids, total))
                continue
            for token, log in enumerate(next_logs(translator, source, ids)):
                if token not in (PAD, START):
                    candidates.append(((*ids, token), total + log))
        candidates.sort(key=lambda one: one[1] / len(one[0]), reverse=True)
        scores = [total / len(ids) for ids, total in candidates[: beam_size + 1]]
        expected.append(min(-np.diff(scores)))
        hypotheses = candidates[:beam_size]
    np.testing.assert_allclose(margins, expected, atol=1e-4)
    assert len(margins) >= 4 and min(margins) > NEAR_TIE


def next_logs(translator, source, ids):
    """Log-probabilities of the token after some, by a call of the model."""
    (source_ids,) = translator.source_tokenizer.tokenize([source]).to_list()
    logits, _ = translator.model(
        np.array([source_ids]), np.array([len(source_ids)]), np.array([[START, *ids]])
    )
    last = logits.numpy()[0, -1].astype(np.float64)
    return last - np.log(np.exp(last).sum())


def test_smallest_margins_of_texts_together_are_those_of_each_alone(translator):
    texts = ["cab", "abcdefabcdefab", "fed", "a"]
    *found, empty = smallest_beam_margins(translator, [*texts, ""], 3)
    alone = [min(beam_margins(translator, text, 3)) for text in texts]
    # Other shapes round otherwise.
    np.testing.assert_allclose(found, alone, atol=1e-5)
    assert empty > 1e6  # nothing to decide


def test_margins_show_a_tie_and_no_other_step(level):
    assert min(beam_margins(level, "abc", 3)) < NEAR_TIE
    ids = [*level.target_tokenizer.tokenize(["C2 B1 A0"]).to_list()[0], END]
    (margins,) = step_margins(level, ["abc"], [ids])
    np.testing.assert_array_equal(margins < NEAR_TIE, [False, False, True, False])


def test_margins_are_the_lead_of_the_best_candidate_at_each_step(translator):
    (best,) = translator.translate(["fade"])[0]
    ids = [*translator.target_tokenizer.tokenize([best.text]).to_list()[0], END]
    (margins,) = step_margins(translator, ["fade"], [ids])
    assert len(margins) == len(ids) and (margins > 0).all()
    # Another token at step 1 makes a step that has not chosen the best candidate; the
    # lead of the best one over the second stays what it is at step 0.
    other = [ids[0], *reversed(ids[1:])]
    (again,) = step_margins(translator, ["fade"], [other])
    np.testing.assert_allclose(again[0], margins[0], rtol=1e-5)


REFERENCES = [[f"A{i}"] for i in range(200)]
RIGHT = [f"A{i}" for i in range(200)]


def lost(wrong):
    """Quality loss where so many of 200 texts went wrong."""
    texts = ["X"] * wrong + RIGHT[wrong:]
    return quality_loss(REFERENCES, RIGHT, texts, metric="wer")


def test_a_loss_is_counted_in_points_of_the_metric():
    assert lost(20).points == pytest.approx(10)
    assert lost(0).points == 0


def test_a_large_loss_is_real_and_none_is_not():
    assert lost(20).is_real
    assert not lost(0).is_real


def test_a_loss_that_gains_nearly_outweigh_is_no_real_one():
    before = ["X"] * 20 + RIGHT[20:]  # texts 0 to 19 wrong
    after = RIGHT[:20] + ["X"] * 21 + RIGHT[41:]  # texts 20 to 40 wrong
    loss = quality_loss(REFERENCES, before, after, metric="wer")
    assert loss.points == pytest.approx(0.5) and not loss.is_real


def test_a_lower_bleu_is_a_loss():
    texts = [f"the cat number {i} sat on the mat" for i in range(40)]
    references = [[text] for text in texts]
    worse = [text.replace("sat on", "sit under") for text in texts]
    loss = quality_loss(references, texts, worse, metric="bleu")
    assert loss.points > 10 and loss.is_real
    same = quality_loss(references, texts, texts, metric="bleu")
    assert same.points == 0 and not same.is_real


@pytest.mark.parametrize("metric", ["wer", "per", "cer", "exact", "bleu", "chrf"])
def test_a_loss_is_the_difference_of_what_evaluate_measures(metric):
    references = [[f"{i} ab cd ef gh {i}", "other"] for i in range(60)]
    before = [first for first, _ in references]
    after = ["ab" + text if i % 2 else text for i, text in enumerate(before)]
    kind = "word" if metric in ("wer", "per") else "character"
    good, bad = (evaluate(references, t, kind=kind)[metric] for t in (before, after))
    loss = quality_loss(references, before, after, metric=metric)
    assert loss.points == pytest.approx(abs(good - bad)) and loss.is_real
    gain = quality_loss(references, after, before, metric=metric)
    assert gain.points == pytest.approx(-abs(good - bad)) and not gain.is_real


def test_a_loss_is_measured_in_the_normal_form_of_the_target():
    loss_of = partial(
        quality_loss, [["A b"]] * 9, ["a b"] * 9,
        metric="wer", normalization=Normalization(fold_case=True),
    )  # fmt: skip
    loss = loss_of(["a b"] * 9)
    assert (loss.points, loss.is_real) == (0, False)
    loss = loss_of(["a c"] * 9)
    assert (loss.points, loss.is_real) == (100, True)


def test_texts_are_timed_one_by_one(translator):
    texts = ["abc", "fed"] * 3
    found, milliseconds = translate_timed(translator, texts)
    assert [one.text for one in found] == ["C2 B1 A0", "D3 E4 F5"] * 3
    assert milliseconds > 0


# What is wrong is no tie, however close the candidates were.


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_no_number_in_a_beam_is_a_difference_even_at_a_tie(level, rank):
    expected = level.translate(TEXTS, beam_size=3, n_best=3)
    nothing = expected[0][rank].alignment * np.nan
    result = compare(level, expected, changed(expected, rank, alignment=nothing))
    assert (result.near_ties, len(result.differences)) == (0, 1)


def test_no_number_in_another_text_is_a_difference_even_at_a_tie(level):
    expected = level.translate(TEXTS)
    nothing = expected[0][0].alignment * np.nan
    actual = changed(expected, text="C2 B1 F5", alignment=nothing)
    result = compare(level, expected, actual)
    assert (result.near_ties, len(result.differences)) == (0, 1)


def test_another_score_of_the_same_beam_is_a_difference_even_at_a_tie(level):
    expected = level.translate(TEXTS, beam_size=3, n_best=3)
    score = expected[0][0].score - 1
    result = compare(level, expected, changed(expected, 0, score=score))
    assert (result.near_ties, len(result.differences)) == (0, 1)
