"""The gate: what it lets through and what it stops."""

from dataclasses import replace

import numpy as np
import pytest

from pocketseq.export.verification import compare, quality_loss, step_margins
from pocketseq.pipeline.special import END


@pytest.fixture(scope="module")
def translator(trained_run):
    return trained_run.load()


@pytest.fixture(scope="module")
def translations(translator):
    return translator.translate(["abc", "fed", "be"])


def differences(translator, translations, **changes):
    (first,), *others = translations
    changed = [[replace(first, **changes)], *others]
    return compare(translator, translations, changed).differences


def test_equal_translations_pass(translator, translations):
    result = compare(translator, translations, translations)
    assert (result.examples, result.near_ties, result.differences) == (3, 0, [])


def test_another_text_is_a_difference(translator, translations):
    assert "Keras says" in differences(translator, translations, text="A0")[0]


def test_another_score_is_a_difference(translator, translations):
    score = translations[0][0].score - 0.01
    assert "score" in differences(translator, translations, score=score)[0]


def test_another_alignment_is_a_difference(translator, translations):
    alignment = np.roll(translations[0][0].alignment, 1, axis=1)
    found = differences(translator, translations, alignment=alignment)
    assert "alignments differ" in found[0]


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_a_difference_even_where_the_text_agrees(
    translator, translations, value
):
    found = differences(translator, translations, score=value)
    assert "not a finite number" in found[0]
    alignment = np.full_like(translations[0][0].alignment, value)
    found = differences(translator, translations, alignment=alignment)
    assert "not a finite number" in found[0]


def test_a_first_difference_at_a_near_tie_is_counted_and_let_through(
    translator, translations, monkeypatch
):
    monkeypatch.setattr("pocketseq.export.verification.NEAR_TIE", 1e9)
    (first,), *others = translations
    changed = [[replace(first, text="A0")], *others]
    result = compare(translator, translations, changed)
    assert (result.near_ties, result.differences) == (1, [])


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
    return quality_loss(REFERENCES, RIGHT, texts, kind="word", metric="wer")


def test_a_loss_is_counted_in_points_of_the_metric():
    assert lost(20).points == pytest.approx(10)
    assert lost(0).points == 0


def test_a_large_loss_is_real_and_none_is_not():
    assert lost(20).is_real
    assert not lost(0).is_real


def test_a_loss_that_gains_nearly_outweigh_is_no_real_one():
    before = ["X"] * 20 + RIGHT[20:]  # texts 0 to 19 wrong
    after = RIGHT[:20] + ["X"] * 21 + RIGHT[41:]  # texts 20 to 40 wrong
    loss = quality_loss(REFERENCES, before, after, kind="word", metric="wer")
    assert loss.points == pytest.approx(0.5) and not loss.is_real


def test_a_lower_bleu_is_a_loss():
    texts = [f"the cat number {i} sat on the mat" for i in range(40)]
    references = [[text] for text in texts]
    worse = [text.replace("sat on", "sit under") for text in texts]
    loss = quality_loss(references, texts, worse, kind="character", metric="bleu")
    assert loss.points > 10 and loss.is_real
    same = quality_loss(references, texts, texts, kind="character", metric="bleu")
    assert same.points == 0 and not same.is_real
