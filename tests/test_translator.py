import dataclasses
import logging
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from conftest import backwards

from pocketseq.pipeline.configuration import Config, SideConfig
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.text.normalization import Normalization
from pocketseq.pipeline.text.special import END, START, UNKNOWN
from pocketseq.pipeline.text.tokenizers import CharacterTokenizer, WordPieceTokenizer
from pocketseq.pipeline.text.writing import write
from pocketseq.pipeline.translation import prepare
from pocketseq.pipeline.translator import ModelTranslator

TEXTS = ["", "ab", "fedcb", "a", "cafe", "badface", "bb", "xayz", "ddd", "ef ab", " "]


@pytest.fixture(scope="module")
def translator(trained_run):
    return trained_run.load()


@pytest.fixture(scope="module")
def greedy(translator):
    """The translations of ``TEXTS``, made together."""
    return [best for (best,) in translator.translate(TEXTS)]


@pytest.fixture(scope="module")
def beam(translator):
    """The three best of each of ``TEXTS``, made together."""
    return translator.translate(TEXTS, beam_size=3, n_best=3)


def teacher_forced_score(translator, source, target):
    """The mean log-probability that the model gives a target text."""
    (source_ids,) = translator.source_tokenizer.tokenize([source]).to_list()
    (target_ids,) = translator.target_tokenizer.tokenize([target]).to_list()
    outputs = [*target_ids, END]
    logits, _ = translator.model(
        tf.constant([source_ids]),
        tf.constant([len(source_ids)]),
        tf.constant([[START, *target_ids]]),
    )
    logits = logits.numpy()[0].astype(np.float64)
    log_p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
    return sum(row[i] for row, i in zip(log_p, outputs, strict=True)) / len(outputs)


def is_ended(translation):
    """Whether the text is all that was found: no unknown, nothing cut at the end."""
    ids = translation.token_ids
    return ids[-1:] == (END,) and UNKNOWN not in ids


def test_learned_words_are_translated(greedy):
    words = {"ab", "fedcb", "cafe", "ddd"}
    found = {one.source: one.text for one in greedy if one.source in words}
    assert found == {word: backwards(word) for word in words}


def test_the_score_equals_the_teacher_forced_score(translator, greedy):
    checked = [one for one in greedy if is_ended(one)]
    assert len(checked) >= 6
    for one in checked:
        expected = teacher_forced_score(translator, one.source, one.text)
        assert one.score == pytest.approx(expected, abs=1e-4)


def test_every_score_of_a_beam_equals_the_teacher_forced_score(translator, beam):
    checked = [one for best in beam for one in best if is_ended(one)]
    assert len(checked) >= 15
    for one in checked:
        expected = teacher_forced_score(translator, one.source, one.text)
        assert one.score == pytest.approx(expected, abs=1e-4)


def test_the_tokens_of_a_translation_have_the_probabilities_of_the_model(
    translator, beam
):
    translations = [one for best in beam for one in best if is_ended(one)]
    found = translator.tokens(translations)
    for one, tokens in zip(translations, found, strict=True):
        assert [token.text for token in tokens] == [*one.text.split(), ""]
        probabilities = [token.probability for token in tokens]
        assert all(0 < p <= 1 for p in probabilities)
        expected = one.score * len(tokens)  # the length penalty is 1
        assert np.log(probabilities).sum() == pytest.approx(expected, abs=1e-3)
    # One by one, by the model's own logits.
    one, tokens = translations[0], found[0]
    for count in range(1, len(tokens)):
        start = " ".join(one.text.split()[:count])
        whole = teacher_forced_score(translator, one.source, start) * (count + 1)
        (ids,) = translator.target_tokenizer.tokenize([start]).to_list()
        end = next_probability(translator, one.source, ids, END)
        product = np.log([token.probability for token in tokens[:count]]).sum()
        assert product + np.log(end) == pytest.approx(whole, abs=1e-3)


def next_probability(translator, source, ids, token):
    """How probable a token is after some others."""
    (source_ids,) = translator.source_tokenizer.tokenize([source]).to_list()
    logits, _ = translator.model(
        tf.constant([source_ids]),
        tf.constant([len(source_ids)]),
        tf.constant([[START, *ids]]),
    )
    return tf.nn.softmax(logits[0, -1]).numpy()[token]


def test_texts_without_tokens_have_none_and_others_keep_their_place(translator, greedy):
    found = translator.tokens(greedy)
    assert [bool(tokens) for tokens in found] == [bool(t.token_ids) for t in greedy]
    assert found[TEXTS.index("")] == []
    assert translator.tokens([]) == []
    with pytest.raises(ValueError, match="expected a translation with tokens"):
        translator.tokens([dataclasses.replace(greedy[1], token_ids=None)])


def test_tokens_that_the_text_has_no_room_for_are_left_out(translator, greedy):
    one = greedy[TEXTS.index("fedcb")]
    cut = dataclasses.replace(one, pieces=one.pieces[:2], token_ids=one.token_ids[:4])
    (whole,), (found,) = translator.tokens([one]), translator.tokens([cut])
    assert [token.text for token in found] == list(one.pieces[:2])
    for token, other in zip(found, whole, strict=False):
        assert token.probability == pytest.approx(other.probability, abs=1e-5)


def test_a_translator_tells_what_it_knows(translator, corpus_folder):
    found = translator.knowledge
    assert (found.source.kind, found.target.kind) == ("character", "word")
    assert found.source.unknown_in("abx") == ["x"]
    assert found.target.unknown_in(f"{backwards('ab')} X9") == ["X9"]
    assert found.training.source == str(corpus_folder / "train.tsv")
    assert found.length_penalty == translator.config.search.length_penalty


def test_one_text_at_a_time_gives_the_same_as_many(translator, greedy):
    for text, together in zip(TEXTS, greedy, strict=True):
        ((alone,),) = translator.translate([text])
        assert (alone.source, alone.text) == (together.source, together.text)
        assert alone.score == pytest.approx(together.score, abs=1e-5)
        np.testing.assert_allclose(alone.alignment, together.alignment, atol=1e-5)


def test_no_texts_give_no_translations(translator):
    assert translator.translate([]) == []


def test_rows_of_the_alignment_are_shares_of_the_source(greedy, beam):
    for one in [*greedy, *(one for best in beam for one in best)]:
        assert one.alignment.shape == (len(one.text), len(one.source))
        assert one.alignment.dtype == np.float32
        assert (one.alignment >= 0).all()
        sums = np.ones(len(one.text)) if one.source else np.zeros(0)
        np.testing.assert_allclose(one.alignment.sum(axis=1), sums, atol=1e-5)


def test_a_separator_is_aligned_like_the_token_after_it(greedy):
    separators = 0
    for one in greedy:
        for place, character in enumerate(one.text[:-1]):
            if character == " ":
                row = one.alignment[place]
                np.testing.assert_array_equal(row, one.alignment[place + 1])
                separators += 1
    assert separators > 10


def test_all_code_points_of_a_token_are_aligned_alike(greedy):
    for one in greedy:
        for place, character in enumerate(one.text):
            if character in "012345":
                row = one.alignment[place]
                np.testing.assert_array_equal(row, one.alignment[place - 1])


def test_the_alignment_is_the_attention_of_the_model(translator, greedy):
    one = greedy[TEXTS.index("fedcb")]
    (source_ids,) = translator.source_tokenizer.tokenize(["fedcb"]).to_list()
    (target_ids,) = translator.target_tokenizer.tokenize([one.text]).to_list()
    _, attention = translator.model(
        tf.constant([source_ids]), tf.constant([5]), tf.constant([[START, *target_ids]])
    )
    letters = [place for place, c in enumerate(one.text) if c in "ABCDEF"]
    expected = attention.numpy()[0, : len(target_ids)]
    np.testing.assert_allclose(one.alignment[letters], expected, atol=1e-5)


def test_an_empty_text_stays_empty_and_scores_0(greedy, beam):
    for one in (greedy[0], beam[0][0]):
        assert (one.source, one.text, one.score) == ("", "", 0.0)
        assert one.alignment.shape == (0, 0)


def test_text_after_a_zero_is_ignored(translator, greedy):
    (with_zero,), (only_zero,) = translator.translate(["ab\0fed", "\0ab"])
    expected = greedy[TEXTS.index("ab")]
    assert (with_zero.source, with_zero.text) == ("ab", expected.text)
    assert (only_zero.source, only_zero.text, only_zero.score) == ("", "", 0.0)


def test_decomposed_text_is_composed(translator):
    (decomposed,), (composed,) = translator.translate(["ae\u0301", "a\u00e9"])
    assert decomposed.source == composed.source == "a\u00e9"
    assert decomposed.text == composed.text
    assert decomposed.score == pytest.approx(composed.score, abs=1e-6)


def test_an_over_long_text_is_cut_and_that_is_logged(translator, caplog):
    caplog.set_level(logging.WARNING)
    (long,), (whole,), (short,) = translator.translate(["ab" * 10, "ab" * 8, "ab"])
    assert "cut 1 of 3 texts to 16 code points" in caplog.text
    assert long.source == whole.source == "ab" * 8
    assert long.text == whole.text
    assert short.text == backwards("ab")


def test_no_text_is_longer_than_the_target_may_be(translator):
    limit = translator.target_tokenizer.max_code_points
    for best in translator.translate(["abcdef" * 3, "f" * 16], beam_size=3, n_best=3):
        for one in best:
            assert len(one.text) <= limit
            assert all(len(token) == 2 for token in one.text.split(" ") if token)


def test_texts_are_composed_before_they_are_cut():
    assert prepare(["e\u0301" * 3], 3) == ["\u00e9" * 3]
    assert prepare(["a\ud800b"], 5) == ["a\ufffdb"]


def test_the_n_best_are_different_and_sorted_by_score(beam):
    for text, best in zip(TEXTS, beam, strict=True):
        scores = [one.score for one in best]
        assert len(best) == (3 if text else 1)
        assert scores == sorted(scores, reverse=True)
        if text.strip():
            assert len({one.text for one in best}) == 3


def test_hypotheses_that_do_not_exist_are_left_out(translator):
    (empty, word) = translator.translate(["", "ab"], n_best=4)
    assert [(one.text, one.score) for one in empty] == [("", 0)]
    assert len(word) == 4


@pytest.mark.parametrize("beam_size", [1, 2])
def test_more_than_a_beam_holds_cannot_be_asked_for(translator, beam_size):
    with pytest.raises(UserError, match=f"the 3 best of a beam of {beam_size}: expec"):
        translator.translate(["ab"], beam_size=beam_size, n_best=3)


def test_one_string_is_not_a_list_of_texts(translator):
    with pytest.raises(TypeError, match="expected a list of strings, not one string"):
        translator.translate("phone")


def test_a_beam_is_never_worse_than_the_greedy_search_on_learned_words(greedy, beam):
    for one, (best, *_) in zip(greedy, beam, strict=True):
        if 2 <= len(one.source) <= 5 and set(one.source) <= set("abcdef"):
            assert best.score >= one.score - 1e-5


def test_n_best_widens_the_beam_if_need_be(translator, beam):
    for found, expected in zip(
        translator.translate(TEXTS, n_best=3), beam, strict=True
    ):
        assert [one.text for one in found] == [one.text for one in expected]


def test_a_beam_may_give_its_best_only(translator, beam):
    found = translator.translate(TEXTS, beam_size=3)
    assert [[one.text for one in best] for best in found] == [
        [best[0].text] for best in beam
    ]


def test_the_recipe_says_how_wide_the_beam_is(trained_run, beam):
    translator = trained_run.load()
    search = dataclasses.replace(translator.config.search, beam_size=3)
    translator.config = dataclasses.replace(translator.config, search=search)
    ((best,),) = translator.translate(["xayz"])
    assert best.text == beam[TEXTS.index("xayz")][0].text
    assert best.score == pytest.approx(beam[TEXTS.index("xayz")][0].score, abs=1e-5)


def test_an_unknown_token_becomes_the_character_that_attention_points_at(translator):
    width = len("x\u4e00")
    attention = np.array([[0.1, 0.9], [0.8, 0.2], [0.5, 0.5]], np.float32)
    known = translator.target_tokenizer.pieces.index("A0")
    spans = translator.source_tokenizer.spans("x\u4e00")
    one = write(
        [UNKNOWN, known], attention[:2, :width], "x\u4e00", spans,
        translator.target_tokenizer, None,
    )  # fmt: skip
    assert one.text == "\u4e00 A0"
    expected = attention[[0, 1, 1, 1]]
    np.testing.assert_array_equal(one.alignment, expected)


def test_pieces_of_a_word_are_joined_and_unknown_ones_copied():
    tokenizer = WordPieceTokenizer.learn(["ab ba"], max_code_points=8)
    pieces = ["b", "##\ufffd", "##a", "\ufffd", "##b", "a"]
    ids = list(map(tokenizer.pieces.index, pieces))
    attention = np.eye(4, dtype=np.float32)[[0, 3, 2, 1, 0, 0]]
    one = write(ids, attention, "wxyz", [[0], [1], [2], [3]], tokenizer, None)
    assert one.text == "bza xb a"
    np.testing.assert_array_equal(
        one.alignment.argmax(axis=1), [0, 3, 2, 1, 1, 0, 0, 0]
    )


def test_an_alignment_by_tokens_names_each_token_and_keeps_its_row(trained_run):
    translator = trained_run.load()
    ((translation,),) = translator.translate(["bead"])
    sources, targets, weights = translator.token_alignment(translation)
    assert sources == list("bead")
    assert targets == translation.text.split(" ")
    starts = [0]
    for target in targets[:-1]:
        starts.append(starts[-1] + len(target) + 1)
    np.testing.assert_array_equal(weights, translation.alignment[starts])


def test_an_alignment_by_tokens_of_an_empty_text_is_empty(trained_run):
    translator = trained_run.load()
    ((translation,),) = translator.translate([""])
    sources, targets, weights = translator.token_alignment(translation)
    assert (sources, targets, weights.size) == ([], [], 0)


def decomposing(target, *, most=8, compose=True):
    """A translator without a model, whose target tokens are parts of letters."""
    source = CharacterTokenizer.learn(["wxyz"], max_code_points=8)
    tokenizer = CharacterTokenizer.learn(
        [target], Normalization(decompose=True), max_code_points=most
    )
    config = Config(target=SideConfig(decompose=True, compose=compose))
    no_model: Any = None
    return ModelTranslator(no_model, source, tokenizer, config)


def finish(translator, text, source, *, pointed):
    """Finishes the tokens of a text, each of which looks at one source character."""
    (ids,) = translator.target_tokenizer.tokenize([text]).to_list()
    ids = [*ids, END]
    attention = np.eye(len(source), dtype=np.float32)[[*pointed, 0]]
    return translator.written(source, np.array(ids), len(ids), 0.0, attention)


def test_a_decomposed_target_is_composed_and_its_rows_are_means_of_the_parts():
    one = finish(decomposing("각ế"), "각ế", "wxyz", pointed=[0, 1, 2, 3, 3, 1])
    assert one.text == "각ế"
    third = 1 / 3
    expected = [[third, third, third, 0], [0, third, 0, 2 * third]]
    np.testing.assert_allclose(one.alignment, expected, atol=1e-6)


def test_the_recipe_may_leave_a_decomposed_target_as_it_is():
    translator = decomposing("é", compose=False)
    one = finish(translator, "é", "xy", pointed=[0, 1])
    assert one.text == "e\u0301"
    np.testing.assert_array_equal(one.alignment, np.eye(2))


def test_a_target_that_is_not_decomposed_is_not_composed():
    tokenizer = CharacterTokenizer.learn(["e\u0301 \u0323"], max_code_points=8)
    no_model: Any = None
    translator = ModelTranslator(no_model, tokenizer, tokenizer, Config())
    text = "e\u0301\u0323"
    assert finish(translator, text, "e", pointed=[0, 0, 0]).text == text


def test_a_long_output_is_cut_before_it_is_composed():
    translator = decomposing("각", most=5)
    one = finish(translator, "각각", "x", pointed=[0] * 6)
    # Five letters fit, of which the last ones make a syllable without its end.
    assert one.text == "각가"


def test_what_is_copied_is_composed_with_what_follows():
    translator = decomposing("aé")
    ids = [UNKNOWN, translator.target_tokenizer.pieces.index("\u0301"), END]
    attention = np.eye(2, dtype=np.float32)[[0, 1, 0]]
    found = {
        source: translator.written(source, np.array(ids), 3, 0.0, attention)
        for source in ("ax", "é!", "zx")
    }
    # Only the alphabet is composed.
    assert [one.text for one in found.values()] == ["á", "é\u0301", "z\u0301"]


def test_an_alignment_by_tokens_names_the_parts_of_composed_letters():
    translator = decomposing("a각")
    one = finish(translator, "a각a", "wxyz", pointed=[3, 0, 1, 1, 2])
    assert one.text == "a각a"
    sources, targets, weights = translator.token_alignment(one)
    assert sources == ["w", "x", "y", "z"]
    assert targets == ["a", "\u1100", "\u1161", "\u11a8", "a"]
    third = 1 / 3
    row = [third, 2 * third, 0.0, 0.0]
    expected = [[0, 0, 0, 1.0], row, row, row, [0, 0, 1.0, 0]]
    np.testing.assert_allclose(weights, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        ("two words", "two words"),  # it fits
        ("four words are here", "four words"),
        ("words here", "words here"),
        ("words heres", "words"),
        ("ten letter words", "ten letter"),  # the space need not fit
        ("one  two\u3000three", "one  two"),
        ("unbreakable", "unbreakabl"),
        ("  unbreakable", "  unbreaka"),
        (" a unbreakable", " a"),
        ("ab\x1cunbreakable", "ab\x1cunbreak"),  # no whitespace to Unicode
    ],
)
def test_an_over_long_text_is_cut_at_the_last_whitespace_that_fits(text, cut):
    assert prepare([text], 10) == [cut]
