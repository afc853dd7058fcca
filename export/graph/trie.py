"""A set of pieces as a double-array trie: matched by gathers, in any runtime."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

# The edges of each node of a plain trie: ``{character number: child node}``.
_Children = list[dict[int, int]]


class DoubleArray(NamedTuple):
    """A trie in three arrays of integers.

    From node ``n``, character number ``c`` leads to node ``base[n] + c`` if
    ``check[base[n] + c] == c``, and nowhere otherwise: no two nodes that lead anywhere
    have the same base. ``target[n]`` is the id of the piece that ends at ``n``, or -1.
    Node 0 is the root. The arrays are long enough for every sum of a node's base and a
    character number.

    References: Aoe 1989, "An efficient digital search algorithm by using a double-array
    structure".
    """

    base: np.ndarray
    check: np.ndarray
    target: np.ndarray

    @property
    def dead_end(self) -> int:
        """A node from which no character leads anywhere, and where no piece ends."""
        return len(self.base) - 1


def build_double_array(
    pieces: Mapping[tuple[int, ...], int], characters: int
) -> DoubleArray:
    """Builds the trie of some pieces.

    Args:
        pieces: ``{sequence of character numbers: piece id}``; numbers are above 0.
        characters: The number of character numbers; all are below it.

    Returns:
        :class:`DoubleArray`, of the smallest integers that hold it.
    """
    children, ids = _plain_trie(pieces)
    bases = _choose_bases(children)
    place = {0: 0}  # from node of the plain trie to place in the arrays
    for edges, start in zip(children, bases, strict=True):
        place |= {child: start + character for character, child in edges.items()}
    base, check, target = np.full([3, max(bases) + characters + 1], -1, np.int32)
    base[:] = 0
    for node, (edges, start) in enumerate(zip(children, bases, strict=True)):
        base[place[node]] = start
        target[place[node]] = ids.get(node, -1)
        check[[start + character for character in edges]] = list(edges)
    return DoubleArray(*map(smallest_integers, (base, check, target)))


def smallest_integers(values: ArrayLike) -> np.ndarray:
    """Returns integers as int8, int16 or int32: the smallest that holds all of them."""
    values = np.asarray(values)
    for kind in (np.int8, np.int16):
        limits = np.iinfo(kind)
        if limits.min <= values.min(initial=0) and values.max(initial=0) <= limits.max:
            return values.astype(kind)
    return values.astype(np.int32)


def _plain_trie(
    pieces: Mapping[tuple[int, ...], int],
) -> tuple[_Children, dict[int, int]]:
    """Returns the children of each node, parents first, and ``{node: piece id}``."""
    children: _Children = [{}]
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


def _choose_bases(children: _Children) -> list[int]:
    """Returns for each node a base at which its children are on free places.

    It is the smallest that no other node has; 0 is for nodes without children. Nodes
    with many children come first, so that those with one fill the gaps.
    """
    bases = [0] * len(children)
    used = taken = 1  # one bit per base, or per place; the root has the first place
    for node in sorted(range(len(children)), key=lambda node: -len(children[node])):
        if not children[node]:
            break
        blocked = used
        for character in children[node]:
            blocked |= taken >> character
        # The lowest bit that is 0.
        base = (~blocked & (blocked + 1)).bit_length() - 1
        for character in children[node]:
            taken |= 1 << (base + character)
        used |= 1 << base
        bases[node] = base
    return bases
