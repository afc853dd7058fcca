"""Reading the dictionary of an export: what a model can be made to answer."""

import pytest
from random_models import random_translator

from pocketseq.export.dictionary import in_dictionary, read_dictionary
from pocketseq.pipeline.data.corpora import Corpus, Pair
from pocketseq.pipeline.errors import UserError
from pocketseq.pipeline.text.normalization import Normalization


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
    def read(text, *, lengths=(8,), most_answers=2, strict=True):
        path = tmp_path / "names.tsv"
        path.write_text(text, encoding="utf-8")
        return read_dictionary(
            Corpus(str(path)),
            {length: translator.resized(length) for length in lengths},
            most_answers=most_answers,
            strict=strict,
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


def test_a_target_that_the_model_cannot_write_is_a_mistake_with_file_and_line(read):
    with pytest.raises(UserError) as caught:
        read("ab\txy\nba\tzab q7 xy\n")
    message = str(caught.value)
    assert "names.tsv:2: the target symbol 'q7' is not one that the model" in message
    assert "\n" not in message


def test_in_a_training_corpus_such_targets_are_left_out_and_counted(read):
    dictionary = read("ab\txy\nba\tzab q7 xy\n", strict=False)
    assert shown(dictionary) == {"ab": ("xy",)}
    (note,) = dictionary.notes()
    assert "1 of 2 pairs cannot be exceptions" in note
    assert "1 with target symbols that it does not know" in note


def test_in_a_dictionary_that_installs_they_are_no_mistake_either(translator):
    corpus, translators = Corpus("cmudict:dev"), {8: translator.resized(8)}
    dictionary = read_dictionary(corpus, translators, most_answers=1, strict=True)
    assert shown(dictionary) == {}  # no phone is one of this model's
    assert sum(dictionary.left_out.values()) == len(list(corpus))


def test_what_does_not_fit_is_left_out_and_counted(read):
    text = (
        "aaaaaaaaa\txy\n"  # 9 code points
        "aaaaaaaa\txy\n"
        "ßßßßß\txy\n"  # 10 when folded
        "ab\tabba abba abba abba\n"  # 19 code points
        "ab\tabba abba abba q7q\n"  # unknown, but too long in the first place
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
