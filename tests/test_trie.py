"""The double-array trie, against a dictionary."""

import random

from pocketseq.export.trie import build_double_array


def walk(trie, piece):
    node = 0
    for character in piece:
        child = trie.base[node] + character
        if trie.check[child] != node:
            return -1
        node = child
    return trie.target[node] if node else -1


def test_a_trie_finds_its_pieces_and_nothing_else():
    generator = random.Random(3)
    characters = 12
    pieces = {}
    while len(pieces) < 400:
        piece = tuple(
            generator.choices(range(1, characters), k=generator.randint(1, 6))
        )
        pieces.setdefault(piece, len(pieces) + 4)
    trie = build_double_array(pieces, characters)
    for _ in range(5000):
        text = tuple(generator.choices(range(1, characters), k=generator.randint(1, 7)))
        assert walk(trie, text) == pieces.get(text, -1)
    for piece, piece_id in pieces.items():
        assert walk(trie, piece) == piece_id


def test_every_gather_from_a_trie_is_in_range():
    trie = build_double_array({(1, 5): 4, (5,): 5}, 6)
    assert len(trie.base) == len(trie.check) == len(trie.target)
    assert int(trie.base.max()) + 5 < len(trie.check)


def test_a_trie_of_nothing_accepts_nothing():
    trie = build_double_array({}, 4)
    assert all(walk(trie, (character,)) == -1 for character in range(1, 4))
