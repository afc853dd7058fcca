"""Tests of pocketseq.pipeline.data.survey: what one pass over a corpus counts."""

import random
import unicodedata
from collections import Counter

import numpy as np
import pytest

from pocketseq.pipeline.data.corpora import Corpus
from pocketseq.pipeline.data.survey import Survey, Surveys, TextCounts, quantile


def counted(texts):
    counts = TextCounts()
    for text in texts:
        counts.add(text)
    return counts


@pytest.fixture
def survey(tmp_path):
    def make(*files):
        corpora = []
        for lines in files:
            path = tmp_path / f"{len(list(tmp_path.iterdir()))}.tsv"
            path.write_text("".join(f"{s}\t{t}\n" for s, t in lines), encoding="utf-8")
            corpora.append(Corpus(str(path)))
        return Survey(corpora)

    return make


def test_texts_are_counted_as_they_are_read():
    texts = ["각 b", "aa", " c", "x\u0007", "\ufffd", "t\tab"]
    found = counted(texts)
    assert found.characters == Counter("".join(texts))
    assert found.words == Counter(" ".join(texts).split())
    assert found.lengths == Counter([3, 2, 2, 2, 1, 4])
    assert found.decomposed_lengths == Counter([5, 2, 2, 2, 1, 4])
    assert found.words_per_text == Counter([2, 1, 1, 1, 1, 2])
    assert (found.padded, found.damaged) == (1, 2)
    assert found.usual_words == 1
    assert found.word_length == pytest.approx(11 / 8)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.995, 1.0])
def test_a_quantile_is_that_of_all_the_numbers(share):
    rng = random.Random(3)
    numbers = [rng.randrange(30) for _ in range(201)]
    expected = np.quantile(numbers, share, method="inverted_cdf")
    assert quantile(Counter(numbers), share) == expected


def phones(rng):
    return " ".join(rng.choices(["AH", "B", "K", "d͡ʒ", "aː"], k=rng.randrange(1, 7)))


def test_phones_are_symbols_and_names_and_sentences_are_not():
    rng = random.Random(5)
    assert counted(phones(rng) for _ in range(60)).are_symbols
    names = ("".join(rng.choices("abcdefgh", k=7)) for _ in range(300))
    assert not counted(names).are_symbols
    # Words as in natural text: the nth is about n times rarer than the first.
    words = [f"w{n}" for n in range(3000)]
    weights = [1 / (n + 1) for n in range(3000)]
    sentences = (" ".join(rng.choices(words, weights, k=9)) for _ in range(300))
    assert not counted(sentences).are_symbols


def test_several_files_are_one_corpus(survey):
    found = survey([("a", "X")], [("b", "Y"), ("a", "Z")])
    assert found.pairs == 3
    assert found.sightings.repeats().contradictions == 1
    assert found.source.characters == Counter("aab")


def test_examples_are_read_again_from_the_files(survey):
    train = survey(
        [("q", "Q"), ("b", "X Y"), ("b", "X  Y"), ("a", "X")],
        [("a", "Z"), ("a", "U"), ("b", "W"), ("c", "1"), ("c", "2")],
    )
    expected = [("b", ["X Y", "W"]), ("a", ["X", "Z"])]
    assert train.contradictory(2) == expected
    assert survey([("q", "Q")]).contradictory(2) == []
    assert survey([("x", "_"), ("c", "_"), ("a", "_")]).known_to(train, 1) == ["c"]


def test_an_overlap_is_of_two_that_are_there(survey):
    surveys = Surveys(survey([("a", "X")]), None, survey([("a", "Y"), ("b", "Z")]))
    assert surveys.overlap("dev") is None and surveys.overlap("test", "dev") is None
    assert surveys.overlap("test") == (1, 2, 1)
    assert list(surveys.others()) == ["test"]


def test_lengths_are_those_of_canonical_decomposition():
    text = "가각é\u0344"
    expected = len(unicodedata.normalize("NFD", text))
    assert counted([text]).decomposed_lengths == Counter([expected])
