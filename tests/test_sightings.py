"""Tests of pocketseq.pipeline.data.sightings, against counting with dictionaries."""

import random
from collections import Counter, defaultdict

import pytest

from pocketseq.pipeline.data.corpora import Pair
from pocketseq.pipeline.data.sightings import Overlap, Repeats, Sightings


def random_pairs(seed, *, pairs, sources, targets):
    rng = random.Random(seed)
    return [
        Pair(
            rng.choice("aA") + str(rng.randrange(sources)), str(rng.randrange(targets))
        )
        for _ in range(pairs)
    ]


def seen(pairs, most=None):
    sightings = Sightings(most)
    assert list(sightings.over(pairs)) == list(pairs)
    return sightings


def counted(pairs, key=str):
    """Returns ``{source: {target: how often}}``."""
    table: dict[str, Counter] = defaultdict(Counter)
    for source, target in pairs:
        table[key(source)][target] += 1
    return table


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("fold_case", [False, True])
def test_repeats_are_those_that_dictionaries_count(seed, fold_case):
    pairs = random_pairs(seed, pairs=40, sources=12, targets=3)
    table = counted(pairs, str.casefold if fold_case else str)
    found = seen(pairs).repeats(fold_case=fold_case)
    assert found.duplicates == len(pairs) - sum(map(len, table.values()))
    assert found.contradictions == sum(len(targets) > 1 for targets in table.values())
    best = sum(max(targets.values()) for targets in table.values())
    assert found.answerable == pytest.approx(best / len(pairs))


def test_a_corpus_of_nothing_has_no_repeats():
    assert seen([]).repeats() == Repeats(0, 0, 1.0)
    assert seen([]).first_contradictory(3) == set()


def test_spaces_between_symbols_make_no_other_target_but_make_another_source():
    pairs = [Pair("a b", "A B"), Pair("a b", " A  B"), Pair("a  b", "A C")]
    assert seen(pairs).repeats()[:2] == (1, 0)


@pytest.mark.parametrize("seed", range(20))
def test_the_overlap_is_that_of_dictionaries(seed):
    train = random_pairs(seed, pairs=40, sources=30, targets=3)
    dev = random_pairs(seed + 100, pairs=25, sources=30, targets=3)
    known, accepted = counted(train), counted(dev)
    expected = Overlap(
        sum(source in known for source, _ in dev),
        len(accepted),
        sum(
            source in known and not known[source].keys() & targets.keys()
            for source, targets in accepted.items()
        ),
    )
    assert seen(dev).overlap_with(seen(train)) == expected


def test_the_first_ones_are_those_that_come_first():
    pairs = [Pair(s, t) for s, t in ("aX", "bX", "cX", "cY", "bY", "aX", "dX", "dY")]
    assert seen(pairs).first_contradictory(2) == {hash("b"), hash("c")}
    known = seen([Pair("d", ""), Pair("b", "")])
    assert seen(pairs).first_known(known, 1) == {hash("b")}


def test_a_sample_has_all_pairs_of_its_sources_and_says_what_all_have():
    # Of every ten sources two have two targets, one of them twice.
    pairs = [
        Pair(f"s{n}", target)
        for n in range(20_000)
        for target in {0: "XYY", 1: "XY"}.get(n % 10, "X")
    ]
    sample, whole = seen(pairs, most=2000), seen(pairs)
    assert sample.is_sample and not whole.is_sample
    assert 1000 < len(sample._columns[0]) <= 2000
    assert sample.pairs == whole.pairs == len(pairs)
    estimate, exact = sample.repeats(), whole.repeats()
    assert exact[:2] == (2000, 4000)
    # About 1,100 sources in the sample: five standard deviations are below 40 %.
    assert estimate.duplicates == pytest.approx(exact.duplicates, rel=0.4)
    assert estimate.contradictions == pytest.approx(exact.contradictions, rel=0.3)
    assert estimate.answerable == pytest.approx(exact.answerable, abs=0.02)


def test_two_samples_compare_the_same_sources():
    train = [Pair(f"s{n}", "X") for n in range(8000)]
    dev = [Pair(f"s{n}", "X" if n % 2 else "Y") for n in range(4000, 12_000)]
    found = seen(dev, most=1000).overlap_with(seen(train, most=3000))
    assert found.pairs == pytest.approx(4000, rel=0.4)
    assert found.sources == pytest.approx(8000, rel=0.3)
    assert found.contradicted == pytest.approx(2000, rel=0.5)
