"""A set of pieces as a double-array trie: matched by gathers, in any runtime."""

from typing import NamedTuple

import numpy as np


class DoubleArray(NamedTuple):
    """A trie in three int32 arrays.

    From node ``n``, character number ``c`` leads to node ``base[n] + c`` if
    ``check[base[n] + c] == n``, and nowhere otherwise. ``target[n]`` is the id of the
    piece that ends at ``n``, or -1. Node 0 is the root. The arrays are long enough for
    every sum of a node's base and a character number.

    References: Aoe 1989, "An efficient digital search algorithm by using a double-array
    structure".
    """

    base: np.ndarray
    check: np.ndarray
    target: np.ndarray


def build_double_array(pieces, characters):
    """Builds the trie of some pieces.

    Args:
        pieces: ``{sequence of character numbers: piece id}``; numbers are above 0.
        characters: The number of character numbers; all are below it.

    Returns:
        :class:`DoubleArray`.
    """
    children, ids = _plain_trie(pieces)
    base = np.zeros(characters + 1, np.int32)
    check = np.full(characters + 1, -1, np.int32)
    target = np.full(characters + 1, -1, np.int32)
    place = {0: 0}  # from node of the plain trie to place in the arrays
    check[0] = 0
    first_free = 1
    for node, edges in enumerate(children):
        here = place[node]
        target[here] = ids.get(node, -1)
        if not edges:
            continue
        while first_free < len(check) and check[first_free] != -1:
            first_free += 1
        start = max(1, first_free - min(edges))
        while True:
            needed = start + characters + 1
            if needed > len(check):
                base, check, target = (
                    np.concatenate([a, np.full(needed, fill, np.int32)])
                    for a, fill in ((base, 0), (check, -1), (target, -1))
                )
            if all(check[start + c] == -1 for c in edges):
                break
            start += 1
        base[here] = start
        for character, child in edges.items():
            check[start + character] = here
            place[child] = start + character
    length = int(np.max(base)) + characters
    return DoubleArray(base[:length], check[:length], target[:length])


def _plain_trie(pieces):
    """Returns the children of each node, parents first, and ``{node: piece id}``."""
    children: list[dict[int, int]] = [{}]
    ids = {}
    for piece, piece_id in pieces.items():
        node = 0
        for character in piece:
            if character not in children[node]:
                children[node][character] = len(children)
                children.append({})
            node = children[node][character]
        ids[node] = piece_id
    return children, ids
