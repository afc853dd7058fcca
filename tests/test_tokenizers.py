import random
import unicodedata

import numpy as np
import pytest
import tensorflow as tf

from pocketseq.pipeline.normalization import WHITE_SPACE, Normalization
from pocketseq.pipeline.special import SPECIAL_PIECES, UNKNOWN
from pocketseq.pipeline.tokenizers import (
    TOKENIZERS,
    CharacterTokenizer,
    Tokenizer,
    WordTokenizer,
)

COMBINATIONS = [(False, False), (True, False), (False, True), (True, True)]
LONGEST = 24

LEARNED = [
    "hello world", "Stra\u00dfe Stra\u00dfen", "\u00e9t\u00e9 na\u00efve",
    "\ud55c\uad6d\uc5b4 \ub9d0",
    "\u0441\u043b\u043e\u0432\u043e \u0438 \u0434\u0435\u043b\u043e", "\u4f60\u597d",
    "\u05e9\u05dc\u05d5\u05dd \u0639\u0631\u0628\u064a", "A0 B1 EH2", "a\u0323\u0301 b",
    "\U0001f468\u200d\U0001f469 ok", "## b##", "x\x1cy \x1f",
]  # fmt: skip

KNOWN_HOSTILE = [
    "", " ", "     ", "\t\n\u3000\u2003", "hello\u3000world", " hello  world ", "\0",
    "hello\0world", "\0hello", "a\0\0b", "<pad>", "<start> <end>", "\ufffd",
    "a\ufffdb \ufffd", "hello" * 40, " " * 60 + "b", "\ud55c" * 60, "\uac01" * 9,
    "A0 " * 40, "e\u0301\u0301\u0301", "\u0301", "a\u0301\u0323 a\u0323\u0301",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea\ufe0f",
    "\u202e\u05e9\u05dc\u05d5\u05dd\u202c", "\x01\x02\x1b[0m", "x\x1cy", "x\x1dy",
    "b\u180ec", "b\u200bc", "b\u0085c", "\ufeffb", "\u0130\u0131I",
    "\u1e9e\u00df\ufb03", "\u0390\u1fb7\u0345", "\u03a3\u03c3\u03c2",
    "\u2126\u212a\u212b", "##b b##", "\U0010ffff\uffff\ufffe", "\u2028hello\u2029",
    "\u0958\u0344\u1d15e",
]  # fmt: skip


def random_texts(count):
    """Texts of code points from the whole range, mixed with learned characters."""
    generator = random.Random(7)
    learned = sorted(set("".join(LEARNED)))
    spaces = sorted(WHITE_SPACE)

    def character():
        kind = generator.random()
        if kind < 0.35:
            return generator.choice(learned)
        if kind < 0.5:
            return generator.choice(spaces)
        limit = generator.choice([0x80, 0x600, 0x3000, 0x10000, 0x110000])
        code_point = generator.randrange(1, limit)
        return "x" if 0xD800 <= code_point < 0xE000 else chr(code_point)

    lengths = (generator.randrange(40) for _ in range(count))
    return ["".join(character() for _ in range(length)) for length in lengths]


TEXTS = LEARNED + KNOWN_HOSTILE + random_texts(550)


def reference(tokenizer, text):
    """Token ids and what code points each came from, by the rules alone."""
    known = {c for piece in tokenizer.pieces[4:] for c in piece}
    steps = tokenizer.normalization
    characters = []
    for index, character in enumerate(text.split("\0")[0]):
        form = character.casefold() if steps.fold_case else character
        form = unicodedata.normalize("NFD", form) if steps.decompose else form
        if tokenizer.kind == "word" and character in WHITE_SPACE:
            form = " "
        elif not known.intersection(form):
            form = "\ufffd"
        form = [c if c in known or c == " " else "\ufffd" for c in form][:4]
        characters += [(c, index) for c in form]
    characters = characters[: tokenizer.max_code_points]
    if tokenizer.kind == "character":
        tokens = [(c, [index]) for c, index in characters]
    else:
        tokens, word = [], []
        for c, index in [*characters, (" ", None)]:
            if c != " ":
                word.append((c, index))
            elif word:
                tokens.append(
                    ("".join(c for c, _ in word), sorted({i for _, i in word}))
                )
                word = []
    ids = {piece: i for i, piece in enumerate(tokenizer.pieces) if i >= UNKNOWN}
    return [(ids.get(piece, UNKNOWN), span) for piece, span in tokens]


@pytest.fixture(scope="module", params=COMBINATIONS, ids=str)
def normalization(request):
    return Normalization(*request.param)


@pytest.fixture(scope="module", params=sorted(TOKENIZERS))
def tokenizer(request, normalization):
    kind = TOKENIZERS[request.param]
    return kind.learn(LEARNED, normalization, max_code_points=LONGEST)


@pytest.fixture(scope="module")
def letters():
    """A tokenizer of the characters a and b and space, without normalisation."""
    return CharacterTokenizer.learn(["ab", "b a"], max_code_points=8)


@pytest.fixture(scope="module")
def words():
    return WordTokenizer.learn(["aa b", "b aa c"], max_code_points=8)


@pytest.fixture(scope="module")
def korean():
    """A tokenizer that takes syllables apart, here one into three letters."""
    return CharacterTokenizer.learn(
        ["\uac01a"], Normalization(decompose=True), max_code_points=7
    )


def ids_of(tokenizer, texts):
    return tokenizer.tokenize(tf.constant(texts, tf.string)).to_list()


def test_tokens_equal_the_reference_on_real_and_hostile_text(tokenizer):
    expected = [[i for i, _ in reference(tokenizer, text)] for text in TEXTS]
    for text, found, wanted in zip(
        TEXTS, ids_of(tokenizer, TEXTS), expected, strict=True
    ):
        assert found == wanted, ascii(text)


def test_spans_equal_the_reference_on_real_and_hostile_text(tokenizer):
    for text in TEXTS:
        expected = [span for _, span in reference(tokenizer, text)]
        assert list(map(list, tokenizer.spans(text))) == expected, ascii(text)


def test_there_is_a_span_for_each_token(tokenizer):
    lengths = [len(row) for row in ids_of(tokenizer, TEXTS)]
    assert [len(tokenizer.spans(text)) for text in TEXTS] == lengths
    assert max(lengths) <= tokenizer.most_tokens


def test_a_tokenizer_from_json_is_the_same(tokenizer):
    restored = Tokenizer.from_json(tokenizer.to_json())
    assert type(restored) is type(tokenizer)
    assert restored.pieces == tokenizer.pieces
    assert restored.table == tokenizer.table
    assert restored.normalization == tokenizer.normalization
    assert restored.max_code_points == LONGEST
    assert ids_of(restored, TEXTS) == ids_of(tokenizer, TEXTS)


def test_decoding_restores_known_text(tokenizer):
    """The normal form of it, and for words with single spaces."""
    for text in LEARNED:
        (ids,) = ids_of(tokenizer, [text])
        decoded = tokenizer.separator.join(tokenizer.pieces[i] for i in ids)
        expected = tokenizer.normalization.apply(text)[:LONGEST]
        assert UNKNOWN not in ids
        assert decoded == expected


def test_the_special_pieces_come_first_and_no_text_spells_them(tokenizer):
    assert (
        tokenizer.pieces[:4]
        == SPECIAL_PIECES
        == ("<pad>", "<start>", "<end>", "\ufffd")
    )
    for row in ids_of(tokenizer, TEXTS):
        assert all(i >= UNKNOWN for i in row)


def test_the_order_of_texts_does_not_matter(letters):
    again = CharacterTokenizer.learn(["b a", "ab"], max_code_points=8)
    assert again.to_json() == letters.to_json()
    assert letters.pieces == (*SPECIAL_PIECES, " ", "a", "b")


def test_characters_are_tokens_spaces_included(letters):
    assert ids_of(letters, ["ab a", "axb", ""]) == [[5, 6, 4, 5], [5, 3, 6], []]


def test_words_are_tokens_and_an_unknown_word_is_one_token(words):
    assert words.pieces == (*SPECIAL_PIECES, "aa", "b", "c")
    assert ids_of(words, [" b\u2003aa ", "a xyz b", " "]) == [[5, 4], [3, 3, 5], []]


def test_pieces_seen_too_rarely_are_unknown():
    texts = ["aab", "ac"]
    learned = CharacterTokenizer.learn(texts, minimum_count=2)
    assert learned.pieces == (*SPECIAL_PIECES, "a")
    assert ids_of(learned, ["abc"]) == [[4, 3, 3]]
    learned = WordTokenizer.learn(["x y", "x"], minimum_count=2)
    assert learned.pieces == (*SPECIAL_PIECES, "x")


@pytest.mark.parametrize("kind", TOKENIZERS.values())
def test_what_is_learned_ends_before_the_first_zero(kind):
    learned = kind.learn(["ba", "a\0zz"])
    again = kind.learn(["ba", "a"])
    assert learned.pieces == again.pieces
    assert ids_of(learned, ["ba", "b\0a"]) == ids_of(again, ["ba", "b"])


def test_a_long_text_is_cut(letters, words):
    assert ids_of(letters, ["ab" * 9]) == [[5, 6] * 4]
    # Eight code points: three words and two thirds of the next.
    assert ids_of(words, ["b b b aax"]) == [[5, 5, 5, 4]]


def test_a_text_that_grows_beyond_the_length_is_cut_after_normalisation(korean):
    letters = [korean.pieces.index(c) for c in "\u1100\u1161\u11a8"]
    assert ids_of(korean, ["\uac01" * 3]) == [(letters * 3)[:7]]
    assert korean.spans("\uac01" * 3) == [[0], [0], [0], [1], [1], [1], [2]]


def test_a_text_fits_if_nothing_of_it_is_cut(korean):
    fits = {"a" * 7: True, "a" * 8: False, "\uac01" * 2: True, "\uac01" * 3: False}
    fits |= {"\uac01\uac01a": True, "\uac01\uac01aa": False, "": True}
    assert {text: korean.fits(text) for text in fits} == fits


def test_ids_are_int32_and_tokenizing_works_in_a_graph(words, letters):
    for tokenizer in (words, letters):
        dataset = tf.data.Dataset.from_tensors(["b aa", "c"]).map(tokenizer.tokenize)
        (ids,) = dataset
        assert ids.dtype == tf.int32
        assert ids.to_list() == ids_of(tokenizer, ["b aa", "c"])


def test_tokenizing_one_by_one_equals_tokenizing_together(words):
    texts = ["b aa", "", "c c c", "x"]
    together = ids_of(words, texts)
    assert [ids_of(words, [text])[0] for text in texts] == together


def test_most_tokens_can_be_reached(letters, words):
    assert len(ids_of(letters, ["a" * 8])[0]) == letters.most_tokens == 8
    assert len(ids_of(words, ["b b b b "])[0]) == words.most_tokens == 4
    assert WordTokenizer(words.pieces, words.table, None, 9).most_tokens == 5


def test_no_texts_give_no_tokens(letters, words):
    for tokenizer in (letters, words):
        assert ids_of(tokenizer, []) == []
        assert np.asarray(tokenizer.spans("")).size == 0
