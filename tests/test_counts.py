"""Tests of pocketseq.pipeline.text.counts: normal forms of counts, and what pays."""

import random
import unicodedata
from collections import Counter

import pytest

from pocketseq.pipeline.text.counts import (
    DECOMPOSED,
    Coverage,
    coverage,
    coverage_of_itself,
    decomposing_pays,
    in_form,
    percent,
)
from pocketseq.pipeline.text.normalization import Normalization
from pocketseq.pipeline.text.tokenizers import TOKENIZERS

# Latin with accents, kana with marks, syllables, a letter that folds to two, a code
# point that decomposes to a space's like, and spaces of several kinds.
CHARACTERS = "abÉéÅß\u1e9bİがギ각낙가\u2126\u2001\u3000 \u0344"


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize("fold_case", [False, True])
@pytest.mark.parametrize("decompose", [False, True])
def test_the_counts_of_a_normal_form_follow_from_those_of_the_text(
    kind, fold_case, decompose
):
    rng = random.Random(1)
    texts = [
        unicodedata.normalize("NFC", "".join(rng.choices(CHARACTERS, k=12)))
        for _ in range(200)
    ]
    normalization = Normalization(fold_case, decompose)
    split = TOKENIZERS[kind].split
    expected = Counter(
        unit for text in texts for unit in split(normalization.apply(text))
    )
    counts = Counter(unit for text in texts for unit in split(text))
    assert in_form(counts, normalization, split) == expected


def test_coverage_counts_what_training_lacks_or_has_seldom():
    known = {"a": 10, "b": 9, "c": 1}
    assert coverage(known, {"a": 5, "b": 3, "x": 2}) == Coverage(3, 10, 2, 5)
    found = coverage(known, {"a": 5, "b": 3, "x": 2})
    assert (found.unknown_percent, found.seldom_percent) == (20, 50)
    assert coverage(known, {}).unknown_percent == 0


def test_training_covers_itself_as_if_each_character_were_left_out_once():
    # Left out, the single c is unknown, and the b and the ten d have nine others.
    found = coverage_of_itself({"a": 11, "b": 9, "c": 1, "d": 10})
    assert found == Coverage(4, 31, 1, 20)


def syllables(rng, count):
    return "".join(chr(0xAC00 + rng.randrange(11_172)) for _ in range(count))


def test_decomposing_pays_for_syllables():
    rng = random.Random(1)
    train, dev = Counter(syllables(rng, 5000)), Counter(syllables(rng, 500))
    assert decomposing_pays(train, dev)
    assert decomposing_pays(train, {})
    # Seen often enough in training, and new ones in dev.
    often = Counter({c: 20 for c in train})
    assert not decomposing_pays(often, often) and decomposing_pays(often, dev)


def test_decomposing_does_not_pay_for_accents_that_are_known_well():
    train = Counter({"e": 5000, "é": 300, "è": 200, "ê": 40, "ë": 12})
    assert not decomposing_pays(train, Counter({"e": 500, "é": 30, "ë": 2}))


def test_decomposing_does_not_pay_where_it_changes_nothing():
    train = Counter({"a": 1000, **{chr(0x4E00 + n): 1 for n in range(500)}})
    assert not decomposing_pays(train, Counter({"a": 10, "\u4e00": 20}))


def test_a_few_odd_characters_decide_nothing():
    train, odd = Counter({"e": 1000, "u": 1000}), Counter({"ü": 9, "e": 20})
    assert coverage(train, odd).seldom_percent > 30
    assert not decomposing_pays(train, odd)
    assert coverage(in_form(train, DECOMPOSED), in_form(odd, DECOMPOSED)).unknown == 9


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0, "0.0 %"), (100, "100.0 %"), (93.47, "93.5 %"), (99.98, "99.98 %"),
        (0.037, "0.04 %"), (0.0004, "0.000 %"), (99.9996, "100.000 %"), (0.05, "0.1 %"),
    ],
)  # fmt: skip
def test_percentages_have_as_many_digits_as_tell_them_from_0_and_100(share, expected):
    assert percent(share) == expected
