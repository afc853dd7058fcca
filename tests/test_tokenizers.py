import json
import os
import random
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_text as tf_text

from pocketseq.pipeline.text.normalization import WHITE_SPACE, Normalization
from pocketseq.pipeline.text.special import SPECIAL_PIECES, UNKNOWN
from pocketseq.pipeline.text.tokenizers import (
    TOKENIZERS,
    CharacterTokenizer,
    Tokenizer,
    WordPieceTokenizer,
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
    "\u0958\u0344\u1d15e", "##hello ##", "#", "###### #", "hello##", "hellohello",
    "wo\uffffrld \uffffb", "\u4f60\u597d\u4f60\u597d",
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


def longest_pieces(word, ids):
    """The (start, end, id) of the pieces of a word, tried from long to short."""
    found: list[tuple[int, int, int]] = []
    while not found or found[-1][1] < len(word):
        start = found[-1][1] if found else 0
        for end in range(len(word), start, -1):
            # A text that spells the sign is not what it is the sign for.
            piece = "##" * (start > 0) + word[start:end]
            if piece in ids and piece.startswith("##") == (start > 0):
                found.append((start, end, ids[piece]))
                break
    return found


def reference(tokenizer, text):
    """Token ids and what code points each came from, by the rules alone."""
    pieces = tokenizer.pieces[4:]
    if tokenizer.kind == "wordpiece":
        pieces = [piece.removeprefix("##") for piece in pieces]
    known = {c for piece in pieces for c in piece} - {"\ufffd"}
    steps = tokenizer.normalization
    characters = []
    for index, character in enumerate(text.split("\0")[0]):
        form = character.casefold() if steps.fold_case else character
        form = unicodedata.normalize("NFD", form) if steps.decompose else form
        if tokenizer.kind != "character" and character in WHITE_SPACE:
            form = " "
        elif not known.intersection(form):
            form = "\ufffd"
        form = [c if c in known or c == " " else "\ufffd" for c in form][:4]
        characters += [(c, index) for c in form]
    characters = characters[: tokenizer.max_code_points]
    ids = {piece: i for i, piece in enumerate(tokenizer.pieces) if i >= UNKNOWN}
    if tokenizer.kind == "character":
        return [(ids.get(c, UNKNOWN), [index]) for c, index in characters]
    tokens, word = [], []
    for c, index in [*characters, (" ", -1)]:
        if c != " ":
            word.append((c, index))
        elif word:
            text = "".join(c for c, _ in word)
            parts = [(0, len(text), ids.get(text, UNKNOWN))]
            if tokenizer.kind == "wordpiece":
                parts = longest_pieces(text, ids)
            tokens += [(i, sorted({k for _, k in word[a:b]})) for a, b, i in parts]
            word = []
    return tokens


@pytest.fixture(scope="module", params=COMBINATIONS, ids=str)
def normalization(request):
    return Normalization(*request.param)


@pytest.fixture(scope="module", params=sorted(TOKENIZERS))
def tokenizer(request, normalization):
    kind = TOKENIZERS[request.param]
    # A wordpiece is seen more than once.
    return kind.learn(LEARNED * 2, normalization, max_code_points=LONGEST)


@pytest.fixture(scope="module")
def letters():
    """A tokenizer of the characters a and b and space, without normalisation."""
    return CharacterTokenizer.learn(["ab", "b a"], max_code_points=8)


@pytest.fixture(scope="module")
def words():
    return WordTokenizer.learn(["aa b", "b aa c"], max_code_points=8)


VERBS = ["walk walk talk talk", "walking talking reading", "# ## a# b##c ##a ##a"]


@pytest.fixture(scope="module")
def pieces():
    """Wordpieces of verbs and an ending, and of the sign for what continues a word."""
    return WordPieceTokenizer.learn(VERBS, max_code_points=24)


@pytest.fixture(scope="module")
def korean():
    """A tokenizer that takes syllables apart, here one into three letters."""
    return CharacterTokenizer.learn(
        ["\uac01a"], Normalization(decompose=True), max_code_points=7
    )


def ids_of(tokenizer, texts):
    return tokenizer.tokenize(tf.constant(texts, tf.string)).to_list()


def decoded(tokenizer, ids):
    """The text that some ids write."""
    text = ""
    for i in ids:
        text += tokenizer.separator * bool(text and not tokenizer.continues[i])
        text += tokenizer.piece_texts[i]
    return text


def spelled(tokenizer, text):
    """The pieces of a text, as the vocabulary spells them."""
    return [tokenizer.pieces[i] for i in ids_of(tokenizer, [text])[0]]


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
        expected = tokenizer.normalization.apply(text)[:LONGEST]
        assert tokenizer.unknown_ids.isdisjoint(ids)
        assert decoded(tokenizer, ids) == expected


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
    learned_words = WordTokenizer.learn(["x y", "x"], minimum_count=2)
    assert learned_words.pieces == (*SPECIAL_PIECES, "x")


@pytest.mark.parametrize("kind", TOKENIZERS.values())
def test_what_is_learned_ends_before_the_first_zero(kind):
    learned = kind.learn(["ba", "a\0zz"])
    again = kind.learn(["ba", "a"])
    assert learned.pieces == again.pieces
    assert ids_of(learned, ["ba", "b\0a"]) == ids_of(again, ["ba", "b"])


def test_what_a_piece_writes_and_how_it_joins(letters, words, pieces):
    for tokenizer in (letters, words, pieces):
        assert tokenizer.piece_texts[:4] == ("", "", "", "\ufffd")
        assert len(tokenizer.piece_texts) == len(tokenizer.continues) == len(tokenizer)
    assert letters.piece_texts[4:] == letters.pieces[4:]
    assert set(letters.continues) == {True}
    assert set(words.continues) == {False}
    for piece, text, continues in zip(
        pieces.pieces[4:], pieces.piece_texts[4:], pieces.continues[4:], strict=True
    ):
        assert piece == "##" * continues + text


def test_the_ids_of_unknown_characters(letters, words, pieces):
    assert letters.unknown_ids == words.unknown_ids == {UNKNOWN}
    assert pieces.unknown_ids == {UNKNOWN, pieces.pieces.index("##\ufffd")}


def test_a_resized_tokenizer_differs_in_the_length_only(tokenizer):
    text = ("hello b " * 9)[:60]
    short, long = tokenizer.resized(10), tokenizer.resized(60)
    assert type(long) is type(tokenizer)
    assert (short.max_code_points, long.max_code_points) == (10, 60)
    assert tokenizer.max_code_points == LONGEST
    assert ids_of(short, [text]) == ids_of(tokenizer, [text[:10]])
    assert [i for i, _ in reference(long, text)] == ids_of(long, [text])[0]
    assert long.most_tokens > tokenizer.most_tokens > short.most_tokens
    restored, same = json.loads(long.to_json()), json.loads(tokenizer.to_json())
    assert restored | {"max_code_points": LONGEST} == same


def test_a_word_is_split_into_the_longest_pieces_from_the_left(pieces):
    assert spelled(pieces, "walking talkinga walkta") == [
        "walk", "##ing", "talk", "##ing", "##a", "walk", "##t", "##a",
    ]  # fmt: skip
    assert spelled(pieces, "walkx xinging") == [
        "walk", "##\ufffd", "\ufffd", "##ing", "##ing",
    ]  # fmt: skip


def test_text_that_spells_the_sign_for_what_continues_is_no_such_piece(pieces):
    assert "##a" in pieces.pieces
    for text in ("##a", "a ##", "##", "a##", "###", "walk##walk", "b##c ##k"):
        ids = ids_of(pieces, [text])[0]
        assert decoded(pieces, ids) == text
        starts = [i for i in ids if not pieces.continues[i]]
        assert len(starts) == len(text.split())


def test_every_character_is_a_piece_bare_and_as_what_continues(pieces):
    for character in {"\ufffd", *"walk#edingtbcr"}:
        assert character in pieces.pieces
        assert f"##{character}" in pieces.pieces
    bare = [p for p, c in zip(pieces.pieces, pieces.continues, strict=True) if not c]
    assert not [piece for piece in bare if piece.startswith("##")]


def test_a_piece_that_was_seen_once_is_not_learned():
    texts = ["seldom", "often often"]
    learned = WordPieceTokenizer.learn(texts).pieces
    assert "often" in learned
    assert "seldom" not in learned


def test_a_vocabulary_is_as_large_as_wanted_and_holds_the_characters():
    generator = random.Random(1)
    words = ["".join(generator.choices("abcdef", k=4)) for _ in range(300)]
    texts = [" ".join(words)]
    least = len(SPECIAL_PIECES) + 1 + 2 * 6
    for size, expected in ((1, least), (least, least), (40, 40), (80, 80)):
        learned = WordPieceTokenizer.learn(texts, vocabulary_size=size)
        assert len(learned) == expected
        assert learned.unknown_ids.isdisjoint(ids_of(learned, texts)[0])


@pytest.mark.parametrize(
    ("times", "room", "expected"),
    [(9, 0, set()), (9, 1, {"abc"}), (5, 1, {"ing"}), (5, 2, {"abc", "ing"})],
)
def test_of_the_pieces_those_stay_that_are_used_most(times, room, expected):
    """The ending is used six times."""
    texts = ["abc " * times + "xing xing ying ying zing zing"]
    least = len(SPECIAL_PIECES) + 1 + 2 * len("abcxyzing")
    learned = WordPieceTokenizer.learn(texts, vocabulary_size=least + room)
    assert {text for text in learned.piece_texts if len(text) > 1} == expected


def test_characters_seen_too_rarely_are_unknown_and_in_no_piece():
    texts = ["ab ab ab", "ac ac"]
    learned = WordPieceTokenizer.learn(texts, minimum_count=3)
    assert set(learned.piece_texts) == {"", "\ufffd", "a", "b", "ab"}
    assert spelled(learned, "ab ac") == ["ab", "a", "##\ufffd"]


def test_words_longer_than_any_piece_are_learned_in_parts():
    word = "abcdefgh" * 7
    learned = WordPieceTokenizer.learn([f"{word} {word}"], max_code_points=60)
    assert max(map(len, learned.piece_texts)) == 16
    assert spelled(learned, word)[0] == word[:16]
    assert decoded(learned, ids_of(learned, [word])[0]) == word


def test_a_word_of_any_length_is_split(pieces):
    tokenizer = pieces.resized(40_000)
    (ids,) = ids_of(tokenizer, ["walking" * 5000])
    assert decoded(tokenizer, ids) == "walking" * 5000


def test_wordpieces_equal_those_of_the_operation_that_tries_each_length(pieces):
    """That of the reference implementation of BERT, for words without the sign."""
    words = [word for text in TEXTS for word in text.split()]
    words = [word for word in words if set(word) <= set("walk#edingtbcr\ufffd")]
    words = [word for word in words if not word.startswith("##")]
    keys, ids = zip(*((p, i) for i, p in enumerate(pieces.pieces)), strict=True)
    table = tf.lookup.StaticHashTable(
        tf.lookup.KeyValueTensorInitializer(keys, tf.constant(ids, tf.int64)), UNKNOWN
    )
    slow = tf_text.WordpieceTokenizer(
        table, max_bytes_per_word=1000, token_out_type=tf.int32
    )
    generator = random.Random(2)
    for _ in range(300):
        size = generator.randrange(1, 24)
        word = "".join(generator.choices("walkinginging", k=size))
        words.append(word)
    assert ids_of(pieces, words) == slow.tokenize(words).to_list()


def test_learning_wordpieces_gives_the_same_in_every_process(pieces):
    """Whatever the order of Python's sets, and of the texts."""
    again = """
from pocketseq.pipeline.text.tokenizers import (WordPieceTokenizer)
texts = ["# ## a# b##c ##a ##a", "walking talking reading", "walk walk talk talk"]
print(WordPieceTokenizer.learn(texts, max_code_points=24).to_json())
"""
    environment = {**os.environ, "PYTHONHASHSEED": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    found = subprocess.run(
        [sys.executable, "-c", again],
        env=environment,
        capture_output=True,
        check=True,
        text=True,
    )
    assert found.stdout == f"{pieces.to_json()}\n"


@pytest.mark.parametrize("name", ["letters", "words", "pieces"])
def test_tokenizing_survives_a_saved_model(name, request, tmp_path):
    tokenizer = request.getfixturevalue(name)
    module = tf.Module()
    module.table = getattr(tokenizer, "_lookup", None)
    module.tokenize = tf.function(
        lambda texts: tokenizer.tokenize(texts).to_tensor(),
        input_signature=[tf.TensorSpec([None], tf.string)],
    )
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    texts = tf.constant(["walking b", "##a c"])
    expected = tokenizer.tokenize(texts).to_tensor().numpy()
    np.testing.assert_array_equal(loaded.tokenize(texts), expected)


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


def test_ids_are_int32_and_tokenizing_works_in_a_graph(words, letters, pieces):
    for tokenizer in (words, letters, pieces):
        dataset = tf.data.Dataset.from_tensors(["b aa", "c"]).map(tokenizer.tokenize)
        (ids,) = dataset
        assert ids.dtype == tf.int32
        assert ids.to_list() == ids_of(tokenizer, ["b aa", "c"])


def test_tokenizing_one_by_one_equals_tokenizing_together(words):
    texts = ["b aa", "", "c c c", "x"]
    together = ids_of(words, texts)
    assert [ids_of(words, [text])[0] for text in texts] == together


def test_most_tokens_can_be_reached(letters, words, pieces):
    assert len(ids_of(pieces, ["#" * 24])[0]) == pieces.most_tokens == 24
    assert len(ids_of(letters, ["a" * 8])[0]) == letters.most_tokens == 8
    assert len(ids_of(words, ["b b b b "])[0]) == words.most_tokens == 4
    assert words.resized(9).most_tokens == 5


def test_no_texts_give_no_tokens(letters, words, pieces):
    for tokenizer in (letters, words, pieces):
        assert ids_of(tokenizer, []) == []
        assert np.asarray(tokenizer.spans("")).size == 0
