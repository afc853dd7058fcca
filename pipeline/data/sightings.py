"""Which sources and targets a corpus has seen together, by their hashes.

Of each pair three 64-bit hashes are kept, 24 bytes; questions about them sort arrays,
which takes about 70 more for that time. Two different texts have the same hash with a
probability of about 3 in a million among ten million texts.
"""

from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from pocketseq.pipeline.data.corpora import Pair


class Repeats(NamedTuple):
    """How often a corpus repeats itself, and how often it contradicts itself.

    ``duplicates``: pairs that an earlier pair equals; ``contradictions``: sources with
    several different targets; ``answerable``: the share of pairs, 0 to 1, that are
    right when each source is answered by the target that it has most often.
    """

    duplicates: int
    contradictions: int
    answerable: float


class Overlap(NamedTuple):
    """What a corpus shares with the training corpus.

    ``pairs``: its pairs whose source is in training; ``sources``: how many different
    sources it has; ``contradicted``: those of them for which training has targets, but
    none of this corpus's.
    """

    pairs: int
    sources: int
    contradicted: int


class Sightings:
    """The hashes of the pairs of a corpus, of all or of a sample of the sources.

    A sample holds all pairs of the sources that are in it, so that its shares are those
    of the corpus; counts are scaled up. References: Flajolet 1990, "On adaptive
    sampling".

    Args:
        most: How many pairs to keep hashes of at most; None: of all.
    """

    def __init__(self, most: int | None = None) -> None:
        self.pairs = 0
        self._most = most
        self._sampled_out = 0  # a mask: hashes with one of these bits are not kept
        # Hashes of sources, of sources without their case, and of targets.
        self._columns = (array("q"), array("q"), array("q"))

    @property
    def is_sample(self) -> bool:
        """Whether there were more pairs than are kept."""
        return bool(self._sampled_out)

    def over(self, pairs: Iterable[Pair]) -> Iterator[Pair]:
        """Yields the pairs unchanged, and adds each."""
        for pair in pairs:
            self.add(pair)
            yield pair

    def add(self, pair: Pair) -> None:
        """Adds a pair. Runs of spaces in a target count as one."""
        self.pairs += 1
        # Python's hashes of text are 64-bit SipHash, equal within one process.
        folded = hash(pair.source.casefold())
        if folded & self._sampled_out:
            return
        target = hash(" ".join(pair.target.split()))
        values = hash(pair.source), folded, target
        for column, value in zip(self._columns, values, strict=True):
            column.append(value)
        if self._most and len(self._columns[0]) > self._most:
            self._keep_half()

    def _keep_half(self) -> None:
        self._sampled_out = 2 * self._sampled_out + 1
        kept = (_array(self._columns[1]) & self._sampled_out) == 0
        self._columns = tuple(  # type: ignore[assignment]
            array("q", _array(column)[kept].tobytes()) for column in self._columns
        )

    def repeats(self, *, fold_case: bool = False) -> Repeats:
        """Returns how the corpus repeats and contradicts itself.

        Args:
            fold_case: Whether sources are equal that differ in their case alone.
        """
        _, is_first, is_new = self._sorted(fold_case)
        if not len(is_new):
            return Repeats(0, 0, 1.0)
        starts = np.flatnonzero(is_new)
        counts = np.diff(starts, append=len(is_new))  # of each different pair
        firsts = np.flatnonzero(is_first[starts])
        kinds = np.diff(firsts, append=len(starts))  # different targets of each source
        most_frequent = np.maximum.reduceat(counts, firsts)
        scale = self._sampled_out + 1
        return Repeats(
            scale * int(len(is_new) - len(starts)),
            scale * int((kinds > 1).sum()),
            float(most_frequent.sum() / len(is_new)),
        )

    def first_contradictory(self, most: int) -> set[int]:
        """Returns the hashes of the first sources with several targets."""
        order, is_first, is_new = self._sorted(fold_case=False)
        sources = _array(self._columns[0])
        return _first(sources, sources[order[is_new & ~is_first]], most)

    def _sorted(self, fold_case: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Sorts pairs by source, then by target.

        Returns:
            The indexes of the pairs in this order; whether each is the first of its
            source; and whether it is the first of its source and target.
        """
        sources, folded, targets = map(_array, self._columns)
        sources = folded if fold_case else sources
        order = np.lexsort((targets, sources))
        sources, targets = sources[order], targets[order]
        is_first = np.ones(len(order), bool)
        is_first[1:] = sources[1:] != sources[:-1]
        is_new = is_first.copy()
        is_new[1:] |= targets[1:] != targets[:-1]
        return order, is_first, is_new

    def first_known(self, training: "Sightings", most: int) -> set[int]:
        """Returns the hashes of the first sources that training has, too."""
        return _first(_array(self._columns[0]), _array(training._columns[0]), most)

    def overlap_with(self, training: "Sightings") -> Overlap:
        """Returns what this corpus, such as a dev set, shares with the training corpus.

        Args:
            training: The sightings of the training corpus.
        """
        sampled_out = self._sampled_out | training._sampled_out
        sources, targets = self._comparable(sampled_out)
        known, known_targets = training._comparable(sampled_out)
        is_known = np.isin(sources, known)
        agrees = np.isin(_joined(sources, targets), _joined(known, known_targets))
        different, group = np.unique(sources, return_inverse=True)
        contradicted = np.zeros(len(different), bool)
        contradicted[group[is_known]] = True
        contradicted[group[agrees]] = False
        scale = sampled_out + 1
        return Overlap(
            scale * int(is_known.sum()),
            scale * len(different),
            scale * int(contradicted.sum()),
        )

    def _comparable(self, sampled_out: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the sources and targets that are in a sample."""
        sources, folded, targets = map(_array, self._columns)
        kept = (folded & sampled_out) == 0
        return sources[kept], targets[kept]


def _array(column: "array[int]") -> np.ndarray:
    """Returns the hashes without copying them."""
    return np.frombuffer(column, np.int64)


def _first(hashes: np.ndarray, wanted: np.ndarray, most: int) -> set[int]:
    """Returns the first different hashes that are among the wanted ones."""
    found = hashes[np.isin(hashes, wanted)]
    different, indexes = np.unique(found, return_index=True)
    return set(different[np.argsort(indexes)][:most].tolist())


def _joined(sources: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Returns hashes of pairs from those of their sides."""
    # An odd number near 2**64 divided by the golden ratio; overflow wraps around.
    factor = np.array(-7046029254386353131, np.int64)
    return sources * factor + targets
