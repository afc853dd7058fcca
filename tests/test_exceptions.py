"""The table of exceptions: what it holds, by a reader of its own in plain Python."""

import itertools

import numpy as np
import pytest

from pocketseq.export import exceptions
from pocketseq.export.exceptions import MODULUS, Entry, build_table
from pocketseq.pipeline.text.special import END, PAD, START

LIMIT = 2**31


def read(table, source_ids):
    """The answers that a table holds for some source ids, or None.

    Everything is a Python integer, so that one above 2**31 would show.
    """
    hashes = []
    for row in range(table.coefficients.shape[1]):
        total = 0
        for part, factors in enumerate(table.coefficients[:, row].tolist()):
            for token, factor in zip(source_ids, factors, strict=False):
                product = token_parts(token, table)[part] * factor
                assert product < LIMIT
                total += product % MODULUS
        assert total < LIMIT
        hashes.append(total % MODULUS)
    number = hashes[0] * MODULUS + hashes[1]
    assert number < LIMIT
    fingerprint = [digit % table.base for digit in hashes[2:]]
    stream = table.stream.tolist()
    place = int(table.offsets[number % len(table.offsets)])
    size, place = stream[place], place + 1
    digits = table.digits
    keys = [stream[place + i * digits :][:digits] for i in range(size)]
    place += size * digits
    assert size <= table.most_entries
    pieces = 0
    for key in keys:
        answers: list[list[int]] = [[]]
        while answers[-1][-1:] != [END]:
            for token in table.expansions[stream[place]].tolist():
                if token == START:
                    answers.append([])
                elif token != PAD:
                    answers[-1].append(token)
            place, pieces = place + 1, pieces + 1
        assert pieces <= table.most_pieces
        if key == fingerprint:
            answers[-1].pop()
            return tuple(map(tuple, answers))
    return None


def token_parts(token, table):
    if len(table.coefficients) == 1:
        return [token]
    return [token % MODULUS, token // MODULUS]


def random_ids(random, tokens, length):
    size = random.integers(1, length + 1)
    return tuple(map(int, random.integers(4, tokens, size)))


def random_entries(count, *, sources=30, targets=40, seed=0):
    random = np.random.default_rng(seed)
    found: dict[tuple[int, ...], tuple[tuple[int, ...], ...]] = {}
    while len(found) < count:
        answers = [random_ids(random, targets, 7) for _ in range(random.integers(1, 4))]
        found[random_ids(random, sources, 8)] = tuple(dict.fromkeys(answers))
    return [Entry(*item) for item in found.items()]


def table_of(entries, others=(), *, vocabulary_size=30, source_tokens=8):
    return build_table(
        entries, others, source_tokens=source_tokens, vocabulary_size=vocabulary_size
    )


def test_every_entry_is_found_and_no_other_known_text():
    entries = random_entries(3000)
    table = table_of(entries[:1500], (entry.source_ids for entry in entries[1500:]))
    for entry in entries[:1500]:
        assert read(table, entry.source_ids) == entry.targets
    for entry in entries[1500:]:
        assert read(table, entry.source_ids) is None
    assert read(table, ()) is None
    assert (table.size, table.most_targets) == (1500, 3)


def test_of_all_short_texts_those_of_the_table_are_found():
    every = [
        ids for n in range(1, 5) for ids in itertools.product(range(4, 10), repeat=n)
    ]
    random = np.random.default_rng(1)
    chosen = set(random.choice(len(every), 200, replace=False).tolist())
    entries = [Entry(every[i], ((5, 6, 7), (4,))) for i in sorted(chosen)]
    others = [ids for i, ids in enumerate(every) if i not in chosen]
    table = table_of(entries, others)
    found = {i for i, ids in enumerate(every) if read(table, ids) is not None}
    assert found == chosen


@pytest.mark.parametrize("base", [2, 5, 16])
def test_fingerprints_that_are_much_too_short_still_tell_known_texts_apart(
    base, monkeypatch
):
    monkeypatch.setattr(exceptions, "_WORDS", exceptions._Unit(digits=1, base=base))
    entries = random_entries(200, targets=2000, seed=2)
    table = table_of(entries[:100], (entry.source_ids for entry in entries[100:]))
    assert (table.digits, table.base) == (1, base)
    for entry in entries[:100]:
        assert read(table, entry.source_ids) == entry.targets
    for entry in entries[100:]:
        assert read(table, entry.source_ids) is None


def test_an_order_of_tokens_and_their_number_are_part_of_a_text():
    table = table_of([Entry((4, 5), ((6,),))])
    assert read(table, (4, 5)) == ((6,),)
    for other in [(5, 4), (4,), (5,), (4, 5, 4), (4, 5, 5), (4, 4)]:
        assert read(table, other) is None


def test_source_ids_above_the_modulus_are_told_apart():
    ids = [(10,), (10 + MODULUS,), (10 + 2 * MODULUS,), (11,), (10, 7), (7 + MODULUS,)]
    entries = [Entry(source, ((5 + i,),)) for i, source in enumerate(ids[:3])]
    table = table_of(entries, ids[3:], vocabulary_size=3 * MODULUS)
    assert [read(table, source) for source in ids[:3]] == [((5,),), ((6,),), ((7,),)]
    assert [read(table, source) for source in ids[3:]] == [None] * 3


def test_no_number_reaches_2_to_the_31st_whatever_the_tokens():
    longest = tuple([MODULUS - 1] * 4096)
    entries = [Entry(longest, ((5,),)), Entry(longest[:-1], ((6,),))]
    for vocabulary_size in (MODULUS, 2**30):
        table = table_of(entries, vocabulary_size=vocabulary_size, source_tokens=4096)
        assert read(table, longest) == ((5,),)
        assert read(table, longest[:-1]) == ((6,),)
    assert read(table, tuple([2**30 - 1] * 4096)) is None


def test_more_target_tokens_than_a_byte_can_number():
    entries = random_entries(400, targets=2000)
    table = table_of(entries)
    assert table.stream.dtype == np.int16
    for entry in entries:
        assert read(table, entry.source_ids) == entry.targets


@pytest.mark.parametrize("length", range(1, 12))
def test_targets_of_one_token_over_and_over(length):
    entries = [Entry((4 + i,), ((5,) * length, (5,) * 3)) for i in range(20)]
    table = table_of(entries)
    for entry in entries:
        assert read(table, entry.source_ids) == entry.targets


def test_frequent_neighbours_take_one_byte():
    entries = random_entries(2000)
    common = [entry._replace(targets=((7, 8, 9, 10, 11),)) for entry in entries]
    table = table_of(common)
    # Three bytes of a fingerprint, one of the answer, and those of the buckets.
    assert table.stream.nbytes < 4.5 * len(entries)


def test_the_same_entries_make_the_same_table():
    first, second = (table_of(random_entries(100)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def test_windows_stay_inside_the_stream():
    table = table_of(random_entries(500))
    window = 1 + table.digits * table.most_entries
    counts = table.stream[table.offsets].astype(int)
    answers = table.offsets + 1 + table.digits * counts + table.most_pieces
    assert table.offsets.max() + window <= len(table.stream)
    assert answers.max() <= len(table.stream)
