"""Confusions: which symbol stands where another was expected.

An output is aligned with its closest reference by the fewest edits.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rapidfuzz.distance import Levenshtein

# How many examples each confusion names.
_EXAMPLES = 3


class Edit(NamedTuple):
    """One difference between an output and its reference.

    ``reference``: the symbol that was expected, "" where one was added. ``output``: the
    symbol that stands there, "" where one was left out. ``reference_place``,
    ``output_place``: where in the two, as lists of symbols.
    """

    reference: str
    output: str
    reference_place: int
    output_place: int


@dataclass(frozen=True)
class Confusion:
    """All edits with the same two symbols.

    ``reference``, ``output``: as in :class:`Edit`. ``count``: how many there are.
    ``examples``: numbers of some that have it, the clearest first.
    """

    reference: str
    output: str
    count: int
    examples: tuple[int, ...]


def closest(references: Iterable[Sequence[str]], output: Sequence[str]) -> list[str]:
    """Returns the reference with the fewest edits; of several, the shortest.

    Args:
        references: Lists of symbols, one at least.
        output: Symbols.
    """
    ranked = [(Levenshtein.distance(one, output), len(one), one) for one in references]
    return list(min(ranked, key=lambda one: one[:2])[2])


def edits(reference: Sequence[str], output: Sequence[str]) -> list[Edit]:
    """Returns the fewest edits from a reference to an output, in order."""
    found = []
    for edit in Levenshtein.editops(reference, output):
        expected = "" if edit.tag == "insert" else reference[edit.src_pos]
        stands = "" if edit.tag == "delete" else output[edit.dest_pos]
        found.append(Edit(expected, stands, edit.src_pos, edit.dest_pos))
    return found


def confusions(edits_of: Sequence[Sequence[Edit]]) -> list[Confusion]:
    """Counts edits with the same symbols, the most frequent first.

    Args:
        edits_of: The edits of each example. Of the examples with a confusion, those
            with the fewest edits show it best.
    """
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    for number, of_example in enumerate(edits_of):
        for edit in of_example:
            found[edit.reference, edit.output].append(number)
    counted = []
    for (reference, output), numbers in found.items():
        clearest = sorted(dict.fromkeys(numbers), key=lambda i: len(edits_of[i]))
        examples = tuple(clearest[:_EXAMPLES])
        counted.append(Confusion(reference, output, len(numbers), examples))
    return sorted(counted, key=lambda one: (-one.count, one.reference, one.output))
