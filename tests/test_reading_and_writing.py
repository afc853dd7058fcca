"""Text in and out by TFLite builtins, against the tf.data tokenizers."""

import functools
import random

import numpy as np
import pytest
import tensorflow as tf

from pocketseq.export.graph.reading import read
from pocketseq.export.graph.writing import write
from pocketseq.export.tflite.conversion import convert
from pocketseq.export.tflite.flatbuffer import forbidden_operators
from pocketseq.pipeline.text.normalization import Normalization
from pocketseq.pipeline.text.special import END, UNKNOWN
from pocketseq.pipeline.text.tokenizers import (
    TOKENIZERS,
    CharacterTokenizer,
    WordPieceTokenizer,
    WordTokenizer,
)
from pocketseq.pipeline.text.writing import write as written

LENGTH = 24
TEXTS = [
    "Straße ﬃ naïve", "각하 Ab é", "ἂ ᾂ x-y", "aa ab aba abab b", "tʃ ɑ̃ aː",
    "a## ##b #",
]  # fmt: skip
HOSTILE = [
    "", " ", "   ", "a", "a b", "  a  b  ", "\t a\u3000b\u00a0", "\u2028", "aba abax",
    "a\u0301e\u0301", "e\u0301\u0301\u0301", "\U0001f468\u200d\U0001f469", "שלום",
    "\u202eab", "\x01\x7f\x80", "ab\0ab", "<pad> <end>", "##a", "ﬃ" * 20, "각" * 30,
    "a" * 40, "a " * 40, "\ufffd", "\U0010ffff", "ΐΰ", "İ", "ab" * 11 + " abab",
    "##" * 20, "###a a### #a", "a\uffffb \uffffa",
]  # fmt: skip
# One table does both, whatever is in it.
NORMALIZATIONS = [Normalization(), Normalization(fold_case=True, decompose=True)]


def random_texts(count, alphabet):
    generator = random.Random(5)
    for _ in range(count):
        size = generator.randrange(LENGTH + 6)
        known = generator.choices(alphabet, k=size)
        anything = [chr(generator.randrange(1, 0xD800)) for _ in range(size)]
        chosen = zip(known, anything, strict=True)
        yield "".join(a if generator.random() < 0.7 else b for a, b in chosen)


def code_points(text, length=LENGTH):
    row = np.zeros(length, np.int32)
    values = [ord(character) for character in text[:length]]
    row[: len(values)] = values
    return row


def read_in_tflite(tokenizer):
    """Returns a function from code points to the outputs of reading, run by LiteRT.

    The spread is that of all tokens, or its like where tokens are code points.
    """
    from ai_edge_litert.interpreter import Interpreter

    size = tokenizer.max_code_points

    @tf.function(input_signature=[tf.TensorSpec([size], tf.int32, name="text")])
    def function(text):
        source = read(text, tokenizer)
        spread = source.spread(tokenizer.most_tokens)
        spread = tf.eye(size) if spread is None else spread
        return {**source._asdict(), "same": tf.constant(source.same), "spread": spread}

    converted = convert({"read": function})
    assert forbidden_operators(converted) == []
    return Interpreter(model_content=converted).get_signature_runner("read")


def tokens_of(found):
    """Returns the ids and the spread of the real tokens."""
    length = int(found["length"][0])
    assert not found["ids"][0, length:].any()
    return found["ids"][0, :length].tolist(), found["spread"][:length]


@functools.cache
def learned(kind, normalization):
    """Returns a tokenizer of :data:`TEXTS` and its graph, which is made once."""
    # A wordpiece is seen more than once.
    tokenizer = kind.learn(TEXTS * 2, normalization, max_code_points=LENGTH)
    return tokenizer, read_in_tflite(tokenizer)


def assert_reads_alike(tokenizer, texts, graph=None):
    """Compares the graph with tf.data on texts, which callers cut before."""
    graph = graph or read_in_tflite(tokenizer)
    size = tokenizer.max_code_points
    texts = [text.split("\0")[0][:size] for text in texts]
    for text, wanted in zip(texts, tokenizer.tokenize(texts).to_list(), strict=True):
        ids, spread = tokens_of(graph(text=code_points(text, size)))
        assert ids == wanted, ascii(text)
        for row, span in zip(spread, tokenizer.spans(text), strict=True):
            expected = np.zeros(size)
            expected[span] = 1 / len(span)
            np.testing.assert_allclose(row, expected, atol=1e-6)


@pytest.mark.parametrize("normalization", NORMALIZATIONS, ids=str)
@pytest.mark.parametrize("kind", TOKENIZERS.values())
def test_the_graph_reads_as_tf_data_does_on_real_and_hostile_text(kind, normalization):
    tokenizer, graph = learned(kind, normalization)
    random_ones = random_texts(150, "".join(TEXTS))
    assert_reads_alike(tokenizer, [*TEXTS, *HOSTILE, *random_ones], graph)


def test_words_of_many_overlapping_pieces_are_split_alike():
    generator = random.Random(6)

    def text(most):
        return "".join(
            generator.choices("ab# ", [9, 9, 3, 2], k=generator.randint(1, most))
        )

    tokenizer = WordPieceTokenizer.learn(
        (text(200) for _ in range(100)), max_code_points=100
    )
    assert len(tokenizer) > 200
    assert_reads_alike(tokenizer, [text(100) for _ in range(300)] + ["a" * 100])


@pytest.mark.parametrize("kind", TOKENIZERS.values())
def test_a_text_may_be_one_code_point(kind):
    tokenizer = kind.learn(TEXTS, max_code_points=1)
    assert_reads_alike(tokenizer, ["", " ", "a", "각", "\ufffd"])


@pytest.mark.parametrize("kind", TOKENIZERS.values())
def test_a_vocabulary_may_be_empty(kind):
    tokenizer = kind.learn([], max_code_points=LENGTH)
    assert_reads_alike(tokenizer, ["", " ", "ab a", "##"])


@pytest.mark.parametrize("kind", TOKENIZERS.values())
def test_any_int32_reads_as_an_unknown_character(kind):
    tokenizer, graph = learned(kind, NORMALIZATIONS[0])
    for value in (-1, -(2**31), 2**31 - 1, 0x110000, 0xD800, 0xDFFF, 0x10FFFF):
        row = np.full(LENGTH, value, np.int32)
        ids, _ = tokens_of(graph(text=row))
        assert set(ids) == tokenizer.unknown_ids


@pytest.mark.parametrize("kind", TOKENIZERS.values())
def test_every_index_is_in_range_whatever_int32s_come(kind):
    tokenizer, graph = learned(kind, NORMALIZATIONS[1])
    generator = np.random.default_rng(8)
    limits = np.iinfo(np.int32)
    known = code_points("".join(TEXTS), 60)
    for share in np.linspace(0, 1, 60):
        row = generator.integers(
            limits.min, limits.max, LENGTH, np.int32, endpoint=True
        )
        row = np.where(
            generator.random(LENGTH) < share, generator.choice(known, LENGTH), row
        )
        found = graph(text=row)
        ids, spread = tokens_of(found)
        assert all(UNKNOWN <= i < len(tokenizer) for i in ids)
        assert 0 <= found["token"].min() <= found["token"].max() < tokenizer.most_tokens
        assert 0 <= found["origin"].min() <= found["origin"].max() < LENGTH
        assert 0 <= found["share"].min() <= found["share"].max() <= 1
        if not found["same"]:
            np.testing.assert_allclose(spread.sum(axis=1), 1, atol=1e-6)


def test_the_spread_of_some_tokens_leaves_out_the_others():
    normalization = Normalization(decompose=True)
    text = tf.constant(code_points("각하 ab é aab"))
    for kind in TOKENIZERS.values():
        tokenizer = kind.learn(TEXTS, normalization, max_code_points=LENGTH)
        source = read(text, tokenizer)
        whole = source.spread(tokenizer.most_tokens)
        assert whole is not None
        for tokens in (1, 3, 5):
            np.testing.assert_array_equal(source.spread(tokens), whole[:tokens])


def test_there_is_nothing_to_spread_where_tokens_are_code_points():
    tokenizer = CharacterTokenizer.learn(TEXTS, max_code_points=LENGTH)
    assert read(tf.constant(code_points("ab")), tokenizer).spread(LENGTH) is None


def write_ids(tokenizer, ids, attention, source="abc", spread=None):
    text = tf.constant(code_points(source, 4))
    size = len(ids) + 2
    padded = np.zeros(size, np.int32)
    padded[: len(ids)] = ids
    weights = np.zeros((size, np.shape(attention)[1]), np.float32)
    weights[: len(ids)] = attention
    written, alignment = write(
        tf.constant(padded), len(ids), tf.constant(weights), spread, text, tokenizer
    )
    characters = "".join(map(chr, written.numpy())).rstrip("\0")
    return characters, alignment.numpy()


def test_words_are_written_with_spaces_that_take_the_row_of_the_token_after_them():
    tokenizer = WordTokenizer.learn(["AA B"], max_code_points=8)
    first, second = tokenizer.tokenize(["AA B"]).to_list()[0]
    attention = np.eye(4)[[0, 2, 3]]
    text, alignment = write_ids(tokenizer, [first, second, END], attention)
    assert text == "AA B"
    expected = np.zeros((8, 4))
    expected[[0, 1], 0] = 1
    expected[[2, 3], 2] = 1
    np.testing.assert_array_equal(alignment, expected)


def test_an_unknown_piece_is_written_as_the_code_point_under_attention():
    tokenizer = WordTokenizer.learn(["AA B"], max_code_points=8)
    attention = np.eye(4)[[1, 0]]
    assert write_ids(tokenizer, [UNKNOWN, END], attention)[0] == "b"


def test_an_unknown_piece_never_copies_what_is_no_character():
    tokenizer = WordTokenizer.learn(["AA B"], max_code_points=8)
    for hostile in (-5, 0x110000, 0xD801):
        text = tf.constant([hostile, 97, 0, 0])
        written, _ = write(
            tf.constant([UNKNOWN, END]), 2, tf.eye(2, 4), None, text, tokenizer
        )
        assert written.numpy()[0] == 0xFFFD


def test_a_long_output_ends_with_the_last_whole_token_that_fits():
    tokenizer = WordTokenizer.learn(["AAA BB"], max_code_points=8)
    three, two = tokenizer.tokenize(["AAA BB"]).to_list()[0]
    attention = np.eye(4)[[0, 0, 0, 0]]
    text, alignment = write_ids(tokenizer, [three, three, two, END], attention)
    assert text == "AAA AAA"
    np.testing.assert_array_equal(alignment.sum(axis=1), [1, 1, 1, 1, 1, 1, 1, 0])


def test_characters_are_written_without_separator():
    tokenizer = CharacterTokenizer.learn(["xy z"], max_code_points=6)
    ids = tokenizer.tokenize(["zx y"]).to_list()[0]
    assert write_ids(tokenizer, [*ids, END], np.eye(4)[[0] * 5])[0] == "zx y"


def test_pieces_that_continue_a_word_are_written_without_separator():
    tokenizer = WordPieceTokenizer.learn(["ab a"], max_code_points=8)
    ids = [tokenizer.pieces.index(piece) for piece in ("##a", "##b", "b", "##a")]
    attention = np.eye(4)[[0, 1, 2, 3, 0]]
    text, alignment = write_ids(tokenizer, [*ids, END], attention)
    assert text == "ab ba"
    expected = np.zeros((8, 4))
    expected[range(5), [0, 1, 2, 2, 3]] = 1
    np.testing.assert_array_equal(alignment, expected)


def test_an_unknown_piece_is_copied_where_it_continues_a_word_too():
    tokenizer = WordPieceTokenizer.learn(["ab a"], max_code_points=8)
    first, then = UNKNOWN, tokenizer.pieces.index("##\ufffd")
    attention = np.eye(4)[[0, 1, 2, 0]]
    text, _ = write_ids(tokenizer, [first, then, first, END], attention, source="xyz")
    assert text == "xy z"


def test_attention_over_fewer_tokens_than_code_points_is_padded():
    tokenizer = CharacterTokenizer.learn(["xy z"], max_code_points=6)
    ids = tokenizer.tokenize(["zx"]).to_list()[0]
    text, alignment = write_ids(tokenizer, [*ids, END], np.eye(2)[[1, 0, 0]])
    assert text == "zx"
    expected = np.zeros((6, 4))
    expected[[0, 1], [1, 0]] = 1
    np.testing.assert_array_equal(alignment, expected)


@pytest.mark.parametrize("kind", TOKENIZERS.values())
def test_the_graph_writes_as_plain_python_does(kind):
    source_tokenizer = WordPieceTokenizer.learn(TEXTS * 2, max_code_points=LENGTH)
    tokenizer = kind.learn(TEXTS * 2, max_code_points=LENGTH)
    generator = np.random.default_rng(9)
    for text in ["a각 xabc", "Straße 👍 ab##", *random_texts(40, "".join(TEXTS))]:
        text = text[:LENGTH]
        row = tf.constant(code_points(text))
        source = read(row, source_tokenizer)
        tokens = int(source.length[0])
        if not tokens:
            continue
        length = generator.integers(1, 12)
        ids = generator.integers(UNKNOWN, len(tokenizer), 14).astype(np.int32)
        ids[generator.random(14) < 0.3] = max(tokenizer.unknown_ids)
        ids[length - 1 :] = [END, *[0] * (14 - length)]
        attention = np.zeros((14, LENGTH), np.float32)
        attention[:length, :tokens] = generator.dirichlet(np.ones(tokens), length)
        found, alignment = write(
            tf.constant(ids),
            length,
            tf.constant(attention),
            source.spread(LENGTH),
            row,
            tokenizer,
        )
        real = [i for i in ids[:length].tolist() if i != END]
        expected = written(
            real, attention[: len(real)], text, source_tokenizer.spans(text),
            tokenizer, None,
        )  # fmt: skip
        assert "".join(map(chr, found.numpy())).rstrip("\0") == expected.text
        size = len(expected.text)
        assert not alignment[size:].numpy().any()
        np.testing.assert_allclose(
            alignment[:size, : len(text)], expected.alignment, atol=1e-6
        )


@pytest.mark.parametrize("kind", [CharacterTokenizer, WordTokenizer])
def test_forty_thousand_characters_are_read_alike(kind):
    alphabet = [chr(0x3400 + i) for i in range(6_500)]  # CJK, and of the plane beyond
    alphabet += [chr(0x20000 + i) for i in range(33_500)]
    tokenizer = kind.learn(alphabet, max_code_points=LENGTH)
    assert len(tokenizer) > 2**15
    text = " ".join(alphabet[::3_600]) + "x"
    (ids,) = tokenizer.tokenize(tf.constant([text])).to_list()
    found = read(tf.constant(code_points(text)), tokenizer)
    assert list(found.ids[0, : int(found.length[0])]) == ids
    assert ids[0] == tokenizer.pieces.index(alphabet[0])
    assert max(ids) > 2**15
