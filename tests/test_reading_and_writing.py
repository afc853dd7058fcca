"""Text in and out by TFLite builtins, against the tf.data tokenizers."""

import random

import numpy as np
import pytest
import tensorflow as tf

from pocketseq.export.reading import SourceTokens, read
from pocketseq.export.tflite import convert
from pocketseq.export.writing import write
from pocketseq.pipeline.normalization import Normalization
from pocketseq.pipeline.special import END, UNKNOWN
from pocketseq.pipeline.tokenizers import CharacterTokenizer, WordTokenizer

LENGTH = 24
TEXTS = ["Straße ﬃ naïve", "각하 Ab é", "ἂ ᾂ x-y", "aa ab aba abab b", "tʃ ɑ̃ aː"]
HOSTILE = [
    "", " ", "   ", "a", "a b", "  a  b  ", "\t a\u3000b\u00a0", "\u2028", "aba abax",
    "a\u0301e\u0301", "e\u0301\u0301\u0301", "\U0001f468\u200d\U0001f469", "שלום",
    "\u202eab", "\x01\x7f\x80", "ab\0ab", "<pad> <end>", "##a", "ﬃ" * 20, "각" * 30,
    "a" * 40, "a " * 40, "\ufffd", "\U0010ffff", "ΐΰ", "İ", "ab" * 11 + " abab",
]  # fmt: skip
NORMALIZATIONS = [Normalization(f, d) for f in (False, True) for d in (False, True)]


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
    """Returns a function from code points to (ids, spread), run by LiteRT."""
    from ai_edge_litert.interpreter import Interpreter

    @tf.function(input_signature=[tf.TensorSpec([LENGTH], tf.int32, name="text")])
    def function(text):
        source = read(text, tokenizer)
        spread = tf.eye(LENGTH) if source.spread is None else source.spread
        return {"ids": source.ids, "length": source.length, "spread": spread}

    model = Interpreter(model_content=convert({"read": function}))
    run = model.get_signature_runner("read")

    def call(row):
        found = run(text=row)
        length = int(found["length"][0])
        assert not found["ids"][0, length:].any()
        return found["ids"][0, :length].tolist(), found["spread"][:length]

    return call


@pytest.mark.parametrize("normalization", NORMALIZATIONS, ids=str)
@pytest.mark.parametrize("kind", [CharacterTokenizer, WordTokenizer])
def test_the_graph_reads_as_tf_data_does_on_real_and_hostile_text(kind, normalization):
    tokenizer = kind.learn(TEXTS, normalization, max_code_points=LENGTH)
    graph = read_in_tflite(tokenizer)
    texts = TEXTS + HOSTILE + list(random_texts(150, "".join(TEXTS)))
    # A text is cut before it is tokenized, as every caller does.
    texts = [text.split("\0")[0][:LENGTH] for text in texts]
    for text, wanted in zip(texts, tokenizer.tokenize(texts).to_list(), strict=True):
        ids, spread = graph(code_points(text))
        assert ids == wanted, text
        for row, span in zip(spread, tokenizer.spans(text), strict=True):
            expected = np.zeros(LENGTH)
            expected[span] = 1 / len(span)
            np.testing.assert_allclose(row, expected, atol=1e-6)


@pytest.mark.parametrize("kind", [CharacterTokenizer, WordTokenizer])
def test_any_int32_reads_as_an_unknown_character(kind):
    graph = read_in_tflite(kind.learn(TEXTS, max_code_points=LENGTH))
    for value in (-1, -(2**31), 2**31 - 1, 0x110000, 0xD800, 0xDFFF, 0x10FFFF):
        row = np.full(LENGTH, value, np.int32)
        ids, _ = graph(row)
        assert set(ids) == {UNKNOWN}


def write_ids(tokenizer, ids, attention, source="abc"):
    text = tf.constant(code_points(source, 4))
    tokens = SourceTokens(text[None], tf.constant([len(source)]), None)
    size = len(ids) + 2
    padded = np.zeros(size, np.int32)
    padded[: len(ids)] = ids
    weights = np.zeros((size, 4), np.float32)
    weights[: len(ids)] = attention
    written, alignment = write(
        tf.constant(padded), len(ids), tf.constant(weights), tokens, text, tokenizer
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
        tokens = SourceTokens(text[None], tf.constant([2]), None)
        written, _ = write(
            tf.constant([UNKNOWN, END]), 2, tf.eye(2, 4), tokens, text, tokenizer
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
