"""Tests of pocketseq.pipeline.text.known, against the tokenizers themselves."""

import unicodedata

import pytest

from pocketseq.pipeline.text.known import KnownText, symbols_of
from pocketseq.pipeline.text.normalization import Normalization
from pocketseq.pipeline.text.special import UNKNOWN, UNKNOWN_PIECE
from pocketseq.pipeline.text.tokenizers import TOKENIZERS

LEARNED = ["Straße ab", "é각 ab ba abab", "abba baab각 x##y"] * 2
TEXTS = [
    "ab", "STRASSE", "é", "e\u0301", "각가", "zab", "ab zz ab", "", " ", "x##y ab",
    "##", "ba\u3000ab", "<pad>", "abbaba", "q각é", UNKNOWN_PIECE,
]  # fmt: skip


@pytest.fixture(scope="module", params=sorted(TOKENIZERS))
def kind(request):
    return request.param


@pytest.fixture(
    scope="module", params=[(False, False), (True, False), (True, True)], ids=str
)
def tokenizer(request, kind):
    normalization = Normalization(*request.param)
    return TOKENIZERS[kind].learn(LEARNED, normalization, max_code_points=64)


@pytest.fixture(scope="module")
def known(tokenizer):
    return KnownText(tokenizer.kind, tokenizer.normalization, tokenizer.pieces)


def ids_of(tokenizer, text):
    return tokenizer.tokenize([unicodedata.normalize("NFC", text)]).to_list()[0]


def test_a_text_is_unknown_where_its_tokens_are(tokenizer, known):
    for text in map(lambda t: unicodedata.normalize("NFC", t), TEXTS):
        is_unknown = bool(tokenizer.unknown_ids & set(ids_of(tokenizer, text)))
        assert bool(known.unknown_in(text)) == is_unknown, text


def test_tokens_are_counted_as_the_tokenizer_makes_them(tokenizer, known):
    for text in map(lambda t: unicodedata.normalize("NFC", t), TEXTS):
        assert known.count_tokens(text) == len(ids_of(tokenizer, text)) + 1, text


def test_unknown_symbols_are_named_as_they_stand_in_the_text():
    words = KnownText("word", Normalization(fold_case=True), ("", "", "", "", "ab"))
    assert words.unknown_in("AB Cd ab Ef") == ["Cd", "Ef"]
    characters = KnownText("character", pieces=("", "", "", UNKNOWN_PIECE, "a", "b"))
    assert characters.unknown_in("abz ay") == ["z", " ", "y"]
    assert characters.unknown_in(UNKNOWN_PIECE) == [UNKNOWN_PIECE]


def test_letters_are_known_by_their_parts_where_they_are_decomposed():
    parts = ("", "", "", UNKNOWN_PIECE, *unicodedata.normalize("NFD", "각말"))
    known = KnownText("character", Normalization(decompose=True), parts)
    assert known.unknown_in("감") == ["감"]  # its last consonant is not among them
    assert known.unknown_in("갈가") == []


def test_without_a_vocabulary_nothing_is_said():
    assert KnownText("character").unknown_in("abc") == []
    assert KnownText("wordpiece").count_tokens("abc") is None
    assert KnownText("word").count_tokens(" a  b ") == 3
    assert UNKNOWN == 3


def test_symbols_are_characters_or_what_stands_between_spaces():
    assert symbols_of("a b", "character") == ["a", " ", "b"]
    assert (
        symbols_of(" a  bc ", "word") == symbols_of("a bc", "wordpiece") == ["a", "bc"]
    )
