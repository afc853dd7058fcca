"""Reading the dictionary of an export: what a model can be made to answer."""

import numpy as np
import pytest
import tensorflow as tf
from random_models import random_translator

from pocketseq.export.dictionary import (
    exceptions_of,
    in_dictionary,
    read_dictionary,
)
from pocketseq.export.exceptions import Symbol
from pocketseq.export.graph.translate import translate_function
from pocketseq.export.runtime import text_of
from pocketseq.pipeline.data.corpora import Corpus, Pair
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.text.normalization import Normalization
from pocketseq.pipeline.text.special import UNKNOWN


@pytest.fixture(scope="module")
def translator():
    """Folded characters to words: of up to 8 and 16 code points."""
    return random_translator(
        "character",
        "word",
        lengths=(8, 16),
        normalization=Normalization(fold_case=True),
    )


@pytest.fixture
def read(translator, tmp_path):
    def read(text, *, lengths=(8,), most_answers=2):
        path = tmp_path / "names.tsv"
        path.write_text(text, encoding="utf-8")
        return read_dictionary(
            Corpus(str(path)),
            {length: translator.resized(length) for length in lengths},
            most_answers=most_answers,
        )

    return read


def shown(dictionary):
    return {word.source: word.answers for word in dictionary.words}


def test_pairs_with_the_same_source_are_alternatives_the_first_one_first(read):
    dictionary = read("ab\tzab xy\nba\taab\nab\txy\nab\tzab xy\nab\tabba\n")
    assert shown(dictionary) == {"ab": ("zab xy", "xy"), "ba": ("aab",)}
    assert (dictionary.pairs, dictionary.notes()) == (5, ())
    everything = read("ab\txy\nab\taab\nab\tabba\n", most_answers=3)
    assert shown(everything) == {"ab": ("xy", "aab", "abba")}


def test_what_is_the_same_to_the_model_is_one_text(read, translator):
    dictionary = read("Ab\txy\naB\taab\nSTRASSE\txy  zab\nstraße\tx\n")
    assert shown(dictionary) == {"Ab": ("xy", "aab"), "STRASSE": ("xy zab", "x")}
    tokenizer = translator.source_tokenizer
    assert in_dictionary(dictionary, tokenizer, ["AB", "Straße", "b", "ab "]) == 2


def test_tokens_are_those_of_the_tokenizers(read, translator):
    (word,) = read("abc\tzab xy\n").words
    pieces = translator.source_tokenizer.pieces
    assert [pieces[i] for i in word.entry.source_ids] == ["a", "b", "c"]
    pieces = translator.target_tokenizer.pieces
    assert [[pieces[i] for i in ids] for ids in word.entry.targets] == [["zab", "xy"]]


def test_symbols_that_the_model_does_not_know_get_ids_of_their_own(read, translator):
    dictionary = read("ab\txy\nba\tzab q7 xy q8\nb\tq7\n")
    assert shown(dictionary) == {
        "ab": ("xy",), "ba": ("zab q7 xy q8",), "b": ("q7",)
    }  # fmt: skip
    tokenizer = translator.target_tokenizer
    assert list(dictionary.symbols) == [Symbol("q7", UNKNOWN), Symbol("q8", UNKNOWN)]
    (targets,) = dictionary.words[1].entry.targets
    assert targets[1::2] == (len(tokenizer), len(tokenizer) + 1)
    (note,) = dictionary.notes()
    places = [f"{dictionary.name}:2"] * 2
    assert note.endswith("have: 2: q7 ({}), q8 ({})".format(*places))


def test_answers_that_the_model_cannot_tell_apart_are_left_out(read):
    dictionary = read("ab\tzab q7\nab\tzab q8\nab\tzab q7\nab\txy\n")
    assert shown(dictionary) == {"ab": ("zab q7", "xy")}
    _, note = dictionary.notes()
    assert "1 of 4 pairs cannot be exceptions: 1 that differ from others in" in note


@pytest.mark.parametrize("kind", ["character", "wordpiece"])
def test_new_characters_are_written_where_they_stand(kind, tmp_path):
    translator = random_translator("character", kind, lengths=(8, 24))
    answers = "ab €b b€€ €", "x ab ж"
    (tmp_path / "names.tsv").write_text("".join(f"ab\t{one}\n" for one in answers))
    dictionary = read_dictionary(
        Corpus(str(tmp_path / "names.tsv")), {8: translator}, most_answers=2
    )
    assert dictionary.words[0].answers == answers
    table = exceptions_of(dictionary, {0}, {8: translator})
    assert {symbol.piece.removeprefix("##") for symbol in table.symbols} == {"€", "ж"}
    function = translate_function(translator, beam_size=3, exceptions=table)
    row = np.array([[*map(ord, "ab"), *[0] * 6]], np.int32)
    found = function(tf.constant(row))
    assert tuple(text_of(codes) for codes in found["text"].numpy()[:2]) == answers
    assert not found["score"][:2].numpy().any() and found["score"][2] < 0
    written = found["text"].numpy()[:2] != 0
    sums = found["alignment"].numpy()[:2].sum(axis=2)
    np.testing.assert_allclose(sums[written], 1, atol=1e-5)


def test_what_does_not_fit_is_left_out_and_counted(read):
    text = (
        "aaaaaaaaa\txy\n"  # 9 code points
        "aaaaaaaa\txy\n"
        "ßßßßß\txy\n"  # 10 when folded
        "ab\tabba abba abba abba\n"  # 19 code points
        "ab\tabba abba abba q7q\n"  # with a new symbol, and too long
        "ba\tabba abba abba x\n"
        "q\u4e00\txy\n"  # an unknown character
        "\0\txy\n"  # nothing before the end
    )
    dictionary = read(text)
    assert shown(dictionary) == {
        "aaaaaaaa": ("xy",), "ba": ("abba abba abba x",)
    }  # fmt: skip
    (note,) = dictionary.notes()
    assert note.startswith(f"{dictionary.name}: 6 of 8 pairs cannot be exceptions: ")
    assert "4 longer than the model reads or writes" in note
    assert "1 with source characters that it does not know" in note
    assert "1 without text" in note


def test_a_longer_signature_reads_longer_texts(read):
    longer = "a" * 17
    assert read(f"{longer}\txy\nab\txy\n").left_out
    dictionary = read(f"{longer}\txy\nab\txy\n", lengths=(8, 32))
    assert set(shown(dictionary)) == {longer, "ab"}
    # What the shortest signature that reads it would cut is an exception in none.
    target = " ".join(["abba"] * 4)
    assert read(f"ab\t{target}\nba\tx\n", lengths=(8, 32)).left_out
    assert not read(f"{longer}\t{target}\n", lengths=(8, 32)).left_out


def test_broken_lines_are_a_mistake(read):
    with pytest.raises(UserError, match=r"names.tsv:2: expected two columns"):
        read("ab\txy\nba\n")
    with pytest.raises(UserError, match="no pairs found"):
        read("")


def test_a_pair_is_found_in_the_files_of_its_corpus(tmp_path):
    for number in (1, 2):
        (tmp_path / f"{number}.tsv").write_text(f"a\tx\nb\ty{number}\n")
    corpus = Corpus(str(tmp_path / "*.tsv"))
    assert corpus.place_of(Pair("b", "y2")) == f"{tmp_path / '2.tsv'}:2"
    assert corpus.place_of(Pair("a", "x")) == f"{tmp_path / '1.tsv'}:1"
    assert Corpus("cmudict:train").place_of(Pair("a", "AH")) == "cmudict:train"
