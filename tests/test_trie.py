"""The double-array trie, against a dictionary."""

import random

import numpy as np
import pytest

from pocketseq.export.graph.trie import build_double_array, smallest_integers


def walk(trie, piece):
    node = 0
    for character in piece:
        child = int(trie.base[node]) + character
        if trie.check[child] != character:
            return -1
        node = child
    return trie.target[node] if node else -1


def random_pieces(count, characters, longest):
    """Returns ``{piece: id}`` of random pieces, many of them parts of others."""
    generator = random.Random(3)
    numbers = range(1, characters)
    pieces: dict[tuple[int, ...], int] = {}
    while len(pieces) < count:
        piece = tuple(generator.choices(numbers, k=generator.randint(1, longest)))
        pieces.setdefault(piece, len(pieces) + 4)
    return pieces


def test_a_trie_finds_its_pieces_and_nothing_else():
    generator = random.Random(4)
    pieces = random_pieces(400, 12, 6)
    trie = build_double_array(pieces, 12)
    for _ in range(5000):
        text = tuple(generator.choices(range(1, 12), k=generator.randint(1, 7)))
        assert walk(trie, text) == pieces.get(text, -1)
    for piece, piece_id in pieces.items():
        assert walk(trie, piece) == piece_id


def test_every_gather_from_a_trie_is_in_range():
    trie = build_double_array({(1, 5): 4, (5,): 5}, 6)
    assert len(trie.base) == len(trie.check) == len(trie.target)
    assert int(trie.base.min()) == 0
    assert int(trie.base.max()) + 5 < len(trie.check)


def test_nothing_leads_out_of_a_dead_end_and_number_0_leads_nowhere():
    trie = build_double_array(random_pieces(400, 12, 6), 12)
    base = int(trie.base[trie.dead_end])
    assert all(trie.check[base + number] != number for number in range(12))
    assert trie.target[trie.dead_end] == -1
    assert all(trie.check[base] != 0 for base in trie.base)


def test_a_trie_of_nothing_accepts_nothing():
    trie = build_double_array({}, 4)
    assert all(walk(trie, (character,)) == -1 for character in range(1, 4))


def test_a_trie_has_hardly_any_empty_places():
    pieces = random_pieces(5000, 90, 8)
    nodes = {piece[:end] for piece in pieces for end in range(len(piece) + 1)}
    trie = build_double_array(pieces, 90)
    assert len(trie.base) < 1.03 * len(nodes) + 90


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([], np.int8), ([-128, 127], np.int8), ([128], np.int16), ([-129], np.int16),
        ([-32768, 32767], np.int16), ([32768], np.int32), ([-32769], np.int32),
        ([False, True], np.int8),
    ],
)  # fmt: skip
def test_integers_are_kept_as_small_as_they_can_be(values, kind):
    small = smallest_integers(values)
    assert small.dtype == kind
    assert small.tolist() == values
