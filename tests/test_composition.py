"""Composition by Python, against unicodedata; by TFLite builtins, against Python."""

import random
import sys
import unicodedata

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from hypothesis import given, settings
from hypothesis import strategies as st

from pocketseq.export.graph.composition import compose, mean_rows
from pocketseq.export.tflite.conversion import convert
from pocketseq.export.tflite.flatbuffer import forbidden_operators
from pocketseq.pipeline.text.composition import Composition, composition_of
from pocketseq.pipeline.text.normalization import Normalization

CHARACTERS = [chr(n) for n in range(1, sys.maxunicode + 1) if not 0xD800 <= n <= 0xDFFF]


def block(*ranges):
    return "".join(chr(n) for start, end in ranges for n in range(start, end))


#: Text that alphabets are made of, by decomposition.
SCRIPTS = {
    "Korean": block((0xAC00, 0xD7A4)),
    "Vietnamese": "aăâbcdđeêghiklmnoôơpqrstuưvxyàảãáạằẳẵắặầẩẫấậèẻẽéẹềểễếệìỉĩíịòỏõóọồổỗố"
    "ộờởỡớợùủũúụừửữứựỳỷỹýỵ ",
    "Greek": block((0x370, 0x400), (0x1F00, 0x2000)),
    "Devanagari": block((0x900, 0x980)),
    "Bengali": block((0x980, 0xA00)),
    "Sinhala": block((0xD80, 0xE00)),
    "Kannada and Tamil": block((0xC80, 0xD00), (0xB80, 0xC00)),
    "Hebrew": block((0x591, 0x5F5), (0xFB1D, 0xFB50)),
    "Kana": block((0x3041, 0x3100)),
    "phones": "ɑ̃ããẽĩõœ̃ɔ̃n̩r̩m̥ḁçt͡ʃʰˈˌː ə̥̃",
    # All marks there are, and all that takes part in a composition.
    "all": [
        c
        for c in CHARACTERS
        if unicodedata.combining(c) or unicodedata.decomposition(c)[:1] not in ("", "<")
    ]
    + ["각", "힣", "까"],
}


def decomposed(text):
    return Normalization(decompose=True).apply(text)


def composition_over(alphabet):
    found = composition_of(alphabet)
    assert isinstance(found, Composition)
    return found


PARTS = {name: sorted({decomposed(c) for c in text}) for name, text in SCRIPTS.items()}
ALPHABETS = {name: sorted(set("".join(parts))) for name, parts in PARTS.items()}
COMPOSITIONS = {
    name: composition_over(alphabet) for name, alphabet in ALPHABETS.items()
}


def texts_over(name):
    """Texts of whole decomposed characters, of their parts, and of marks in any order.

    Few of them at a time, so that many meet what they compose with.
    """
    alphabet = ALPHABETS[name]
    marks = [c for c in alphabet if unicodedata.combining(c)] or alphabet
    one = st.sampled_from(PARTS[name]) | st.sampled_from(alphabet)
    texts = st.lists(one | st.sampled_from(marks), max_size=12).map("".join)
    few = st.lists(st.sampled_from(alphabet), min_size=1, max_size=5)
    return texts | few.flatmap(lambda some: st.text(some, max_size=12))


@pytest.mark.parametrize("name", SCRIPTS)
@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.data())
def test_text_over_an_alphabet_composes_as_unicodedata_says(name, data):
    text = data.draw(texts_over(name))
    composed, places = COMPOSITIONS[name].compose(text)
    assert composed == unicodedata.normalize("NFC", text)
    assert set(places) == set(range(len(composed)))
    for character, place in zip(text, places, strict=True):
        assert character in unicodedata.normalize("NFD", composed[place])


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_decomposed_character_composes_as_unicodedata_says(name):
    wrong = [
        part
        for part in PARTS[name]
        if COMPOSITIONS[name].compose(part)[0] != unicodedata.normalize("NFC", part)
    ]
    assert wrong == []


def test_what_is_composed_as_it_is_needs_no_composition():
    assert composition_of("") is None
    assert composition_of("abc\ufffd") is None
    assert composition_of("ab\u05d0\u05b0") is None  # a mark that composes with nothing
    assert composition_over("\u1100\u1161").hangul
    assert not composition_over("e\u0301").hangul


def test_composites_are_those_that_the_alphabet_can_come_to():
    found = composition_over("ae\u0323\u0302").composites
    assert sorted(found.values()) == sorted("âạậêẹệ")


@pytest.mark.parametrize(
    "text, expected",
    [
        # Nothing composes across what is not known, or moves across it.
        ("e\u0300\u0301", "e\u0300\u0301"),
        ("e\u0301\u0317\u0323", "é\u0317\u0323"),
        # What is copied composes as if it was written.
        ("ê\u0301", "ế"),
        ("q\u0301\u0323", "q\u0323\u0301"),
        # It is not taken apart: canonically equivalent, but not NFC.
        ("é\u0323", "é\u0323"),
        ("각\u11a8", "각\u11a8"),
        ("가\u11a8", "가\u11a8"),
    ],
)
def test_characters_from_elsewhere_stay_as_they_are(text, expected):
    composition = composition_over("e\u0302\u0301\u0323")
    found, _ = composition.compose(text)
    assert found == expected
    assert canonical(found) == canonical(text)


def canonical(text):
    return unicodedata.normalize("NFD", text)


def test_a_copied_syllable_takes_a_final_consonant():
    assert composition_over(ALPHABETS["Korean"]).compose("가\u11a8")[0] == "각"


def test_places_tell_what_each_character_is_part_of():
    composition = composition_over("abe\u0301\u0323\u0327")
    text, places = composition.compose("ae\u0301\u0327b\u0301\u0301\u0323")
    assert text == "aȩ\u0301ḅ\u0301\u0301"
    assert places == [0, 1, 2, 1, 3, 4, 5, 3]


# Inside an exported model.

SIZE = 16


def random_texts(name, count, seed):
    """Texts that fill SIZE code points at most, some of whose characters are copied."""
    generator = random.Random(seed)
    alphabet = ALPHABETS[name]
    marks = [c for c in alphabet if unicodedata.combining(c)] or alphabet
    for number in range(count):
        few = generator.choices(alphabet, k=6)
        source = generator.choice([PARTS[name], alphabet, marks, few, few, CHARACTERS])
        others = generator.choice([source, source, marks, CHARACTERS])
        sources = generator.choices([source, others], [4, 1], k=number % (SIZE + 1))
        text = "".join(map(generator.choice, sources))
        yield text[:SIZE]


def rows(texts):
    values = np.zeros([len(texts), SIZE], np.int32)
    for row, text in zip(values, texts, strict=True):
        row[: len(text)] = list(map(ord, text))
    return values


def assert_composed(composition, texts, found, places):
    for text, row, place in zip(texts, found, places, strict=True):
        expected, owners = composition.compose(text)
        assert row.tolist() == rows([expected])[0].tolist(), ascii(text)
        assert place[: len(text)].tolist() == owners, ascii(text)
        # Padding has places of its own.
        own = place[len(text) :].tolist()
        assert own == list(range(len(expected), len(expected) + len(own)))


@pytest.mark.parametrize("name", SCRIPTS)
def test_many_texts_are_composed_as_by_python(name):
    texts = list(random_texts(name, 1000, seed=3))
    found, places = compose(tf.constant(rows(texts)), COMPOSITIONS[name])
    assert_composed(COMPOSITIONS[name], texts, found.numpy(), places.numpy())


@pytest.mark.parametrize(
    "name, text",
    [
        ("Bengali", "\u09c7\u09be"),  # letters only
        ("Sinhala", "\u0dd9\u0dcf\u0dca" * 5),
        ("Vietnamese", "a" + "\u0301\u0323" * 7 + "\u0302"),
        ("Vietnamese", "\u0301" * SIZE),
        ("Korean", "\u1100\u1161" * 8),
    ],
)
def test_a_text_is_composed_to_its_end_whatever_it_ends_with(name, text):
    found, places = compose(tf.constant(rows([text])), COMPOSITIONS[name])
    assert_composed(COMPOSITIONS[name], [text], found.numpy(), places.numpy())
    composed = "".join(map(chr, found.numpy()[0])).rstrip("\0")
    assert composed == unicodedata.normalize("NFC", text)


def composing_in_tflite(composition, count):
    """Returns a function from code points to the outputs of composition, by LiteRT."""

    def function(text):
        composed, places = compose(text, composition)
        weights = tf.one_hot(tf.tile(tf.range(SIZE)[None], [count, 1]), SIZE)
        return {
            "text": composed,
            "places": places,
            "means": mean_rows(weights, places),
        }

    signature = [tf.TensorSpec([count, SIZE], tf.int32, name="text")]
    function = tf.function(function, input_signature=signature, autograph=False)
    model = convert({"compose": function})
    assert forbidden_operators(model) == []
    return Interpreter(model_content=model).get_signature_runner("compose")


@pytest.mark.parametrize(
    "name, count", [("all", 1), ("all", 3), ("Korean", 2), ("Hebrew", 1), ("Kana", 1)]
)
def test_the_graph_composes_as_python_does(name, count):
    composition = COMPOSITIONS[name]
    graph = composing_in_tflite(composition, count)
    texts = list(random_texts(name, 120 * count, seed=4))
    for start in range(0, len(texts), count):
        some = texts[start : start + count]
        found = graph(text=rows(some))
        assert_composed(composition, some, found["text"], found["places"])
        for text, means in zip(some, found["means"], strict=True):
            composed, owners = composition.compose(text)
            for place in range(len(composed)):
                parts = [part for part, owner in enumerate(owners) if owner == place]
                expected = np.isin(np.arange(SIZE), parts) / len(parts)
                np.testing.assert_allclose(means[place], expected, atol=1e-6)


def test_rows_that_fall_on_one_place_are_averaged_and_others_are_zero():
    weights = tf.constant([[[1.0, 0], [0, 1], [1, 0], [0, 0]]])
    means = mean_rows(weights, tf.constant([[0, 0, 1, 2]]))
    expected = [[0.5, 0.5], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
    np.testing.assert_allclose(means[0], expected)
